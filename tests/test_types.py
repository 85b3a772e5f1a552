"""Types as users meet them: a strict program passes, mistakes are found, stubs match the code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastent

pytest.importorskip("mypy")

SETTINGS = "[mypy]\nignore_missing_imports = true\nfollow_imports = silent\n"
PROGRAM = """\
import functools
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import fastent as fe
from fastent.numba_api import kl_divergence, sparse_cross_entropy

Rows = npt.NDArray[np.float64]


@fe.divergence
def squares(p: float, q: float) -> float:
    return (p - q) ** 2


@fe.divergence(finish=math.sqrt, nats=True)
def distance(p: float, q: float) -> float:
    return (p - q) ** 2


def scores(labels: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> float:
    total = fe.sparse_cross_entropy(labels, logits, kind="logits", reduction="mean")
    total += kl_divergence(np.ones(1), np.ones(1)) + sparse_cross_entropy(0, np.zeros(2))
    total += fe.focal_cross_entropy(labels, logits, gamma=2, kind="logits", reduction="sum")
    gradient, hessian = fe.cross_entropy_gradient(labels, logits, hessian="xgboost")
    alone = fe.cross_entropy_gradient(labels, logits, label_smoothing=0.1, num_threads=1)
    both = fe.binary_cross_entropy_gradient([0, 1], [0.0, 0.0], hessian="diag")
    single = fe.binary_cross_entropy_gradient([0, 1], [0.0, 0.0])
    return total + float(np.sum(gradient * hessian + alone)) + float((both[0] - single).sum())


def rows(p: npt.ArrayLike, q: npt.ArrayLike, how: Literal["none", "sum", "mean"]) -> Rows:
    found: list[Rows] = [
        fe.kl_divergence(p, q, kind=("probs", "logprobs"), eps=1e-9),
        fe.js_divergence(p, q, row_sums="rescale", backend="numpy"),
        fe.categorical_cross_entropy(p, q, class_weight=[1, 2], reduction="none"),
        fe.entropy(p, base=2, axis=0),
        fe.binary_cross_entropy(p, q, sample_weight=None),
        fe.binary_focal_cross_entropy(p, q, alpha=0.25),
        fe.renyi_divergence(p, q, 2.0, base=2),
        fe.tsallis_divergence(p, q, alpha=2.0),
        fe.alpha_divergence(p, q, 0.5, row_sums="as_is"),
        fe.chi2_divergence(p, q),
        fe.hellinger_distance(p, q),
        fe.total_variation(p, q, num_threads=2),
        squares(p, q, kind="probs", row_sums="rescale"),
        distance(p, q, base=2),
    ]
    slopes: list[npt.NDArray[Any]] = [
        fe.kl_divergence_gradient(p, q, wrt="p", temperature=(1.0, 2.0), reduction="mean"),
        fe.js_divergence_gradient(p, q, kind=("logits", "logits")),
        fe.entropy_gradient(p, axis=None),
        fe.focal_cross_entropy_gradient(p, q, gamma=1.0),
    ]
    found += slopes
    found.append(fe.pairwise(fe.kl_divergence, p, q, base=2))
    found.append(fe.linear_kl_divergence(p, q, p, q, norm_q=(q, 1e-5), scale_p=2.0))
    number: float = fe.linear_cross_entropy([0], p, q, softcap=30.0, reduction="mean")
    found.append(fe.topk_divergence([0], [-1.0], q, kind="probs", cap=None, base=2).low)
    number += fe.jeffreys_divergence(p, q, reduction="mean")
    number += squares(p, q, reduction="sum")
    either: Rows | float = fe.kl_divergence(p, q, reduction=how)
    found[0] *= number + float(np.sum(either))
    return found[0]


def counts(table: npt.ArrayLike) -> float:
    found = fe.mutual_information(table, base=2) + fe.conditional_entropy(table, axis=(0, 1))
    found += fe.population_stability_index([1, 2], [2, 1], smoothing=0.5)
    found += fe.entropy_of_counts([1, 2], method="chao_shen") + fe.mutual_information([0], ["a"])
    found += fe.renyi_entropy([1.0], 2, base=2) * fe.tsallis_entropy([1.0], 2, reduction="mean")
    found += fe.exponential_family_kl("gaussian", (0.0, 1.0), (1.0, [1.0, 2.0]))
    spread = fe.gaussian_entropy([1.0], kind="std")
    return float(found + spread + fe.gaussian_kl_divergence(0.0, 1.0, 1.0, 1.0, kind="std"))


def settings() -> dict[str, Any]:
    fe.set_backend("cython")
    fe.set_num_threads(fe.get_num_threads())
    return {"fastent": fe.__version__, **fe.show_config()}


def report(p: npt.ArrayLike, q: npt.ArrayLike) -> dict[str, float]:
    metrics = [squares, "kl_divergence", functools.partial(fe.renyi_divergence, alpha=2.0)]
    acc = fe.Accumulator(metrics, task="divergence", kind="probs").update(p, q)
    state: dict[str, Any] = acc.state_dict()
    again = fe.Accumulator.from_state_dict(state, metrics=[squares])
    found: fe.Report = fe.merge([acc, again, acc + again]).compute()
    one: fe.Result = found["squares"]
    if found == again.compute() and one.count:
        return {"rows": float(found.rows), "text": float(len(found.to_json() + found.to_html()))}
    rolling = fe.RollingAccumulator(metrics, window=3, by="rows", task="divergence", kind="probs")
    found = rolling.update(p, q, at=None).compute() if not len(rolling) else found
    fitted: float = fe.fit_temperature([0, 1], [[1.0, 0.0]] * 2, sample_weight=[1, 2]).temperature
    named = fe.fit_temperature([0, 1], [[1.0, 0.0]] * 2, groups=["a", "b"])
    assert fitted > 0 and named["a"].stderr != 0
    value: float = found["squares"].value
    error: float | None = found["squares"].stderr
    return {"squares": value, "error": error or 0.0, "max": found["squares"].quantile(1.0)}
"""
PAIR = "[0.5, 0.5], [0.5, 0.5]"
MISTAKES = [
    'fe.entropy([0.5, 0.5], kind="logit")',
    f'fe.kl_divergence({PAIR}, kind=("probs", "logit"))',
    f'fe.kl_divergence_gradient({PAIR}, wrt="r")',
    f'fe.js_divergence({PAIR}, row_sums="never")',
    f'fe.kl_divergence({PAIR}, eps="small")',
    f'fe.categorical_cross_entropy({PAIR}, reduction="average")',
    'fe.sparse_cross_entropy([0], [[0.5, 0.5]], backend="cuda")',
    'fe.binary_cross_entropy([0], [0.5], row_sums="check")',
    f'fe.total_variation({PAIR}, kind="logit")',
    f"fe.chi2_divergence({PAIR}, base=2)",
    'fe.topk_divergence([0], [-1.0], [0.5, 0.5], backend="numba")',
    f"fe.renyi_divergence({PAIR})",
    "fe.focal_cross_entropy([0], [[0.5, 0.5]], gama=2)",
    'fe.binary_focal_cross_entropy([0], [0.5], kind="prob")',
    'fe.cross_entropy_gradient([0], [[0.5, 0.5]], hessian="diagonal")',
    'fe.cross_entropy_gradient([0], [[0.5, 0.5]]).update({"a": 1})',
    'fe.gaussian_entropy([1.0], kind="deviation")',
    'fe.entropy_of_counts([1, 2], "shrink")',
    'fe.renyi_entropy([1.0], 2, kind="logit")',
    "fe.tsallis_entropy([1.0], 2, base=2)",
    'fe.exponential_family_kl("weibull", 1.0, 2.0)',
    'fe.Accumulator("accuracy").update()',
    'fe.Accumulator("accuracy", task="binari")',
    'fe.Accumulator("accuracy", kind="logit")',
    'fe.Accumulator("accuracy", kind=("probs", "logit"))',
    'fe.Accumulator("accuracy", row_sums="none")',
    'fe.Accumulator("accuracy", backend="gpu")',
    "fe.Accumulator.from_state_dict({}, threads=2)",
    'fe.RollingAccumulator("accuracy", window=2, by="row")',
    'fe.RollingAccumulator("accuracy", window=2, kind="logit")',
    "number2: float = fe.fit_temperature([0], [[1.0, 0.0]])",
    'fe.set_backend("gpu")',
    "kl_divergence(3, 4)",
    f'squares({PAIR}, kind="logit")',
    f'distance({PAIR}, row_sums="never")',
    f'squares({PAIR}, reduction="average")',
    "squares([0.5, 0.5])",
    'text: str = fe.entropy([0.5, 0.5], reduction="mean")',
    "number: float = fe.entropy([[0.5, 0.5]])",
]
BEGINNING = """\
import fastent as fe
from fastent.numba_api import kl_divergence
from program import distance, squares

"""


def run(folder, *words):
    (folder / "mypy.ini").write_text(SETTINGS)
    # the package under test, not an installed one; mypy refuses to have site-packages named
    home = Path(fastent.__file__).parent.parent
    named = {} if home.name == "site-packages" else {"MYPYPATH": home, "PYTHONPATH": home}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, **named},
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with a program that is right, and one with a mistake on each line."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "mistakes.py").write_text(BEGINNING + "\n".join(MISTAKES))
    return folder


def test_the_program_uses_all_that_is_public():
    for name in fastent.__all__:
        assert f"fe.{name}" in PROGRAM, name
    folder = {}
    exec(compile(PROGRAM, "program.py", "exec"), folder)
    assert folder["report"]([[0.5, 0.5]], [[0.25, 0.75]])["squares"] == 0.125


def lines_of_mistakes():
    first = BEGINNING.count("\n") + 1
    return dict(enumerate(MISTAKES, first))


@pytest.mark.slow
def test_a_strict_program(programs):
    found = run(programs, "-m", "mypy", "--strict", "program.py", "mistakes.py")
    assert "program.py" not in found, found
    for line, mistake in lines_of_mistakes().items():
        assert re.search(rf"mistakes.py:{line}: error: ", found), (mistake, found)


@pytest.mark.slow
def test_a_strict_program_by_pyright(programs):
    pytest.importorskip("pyright")
    (programs / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    found = run(programs, "-m", "pyright", "--outputjson", "program.py", "mistakes.py")
    errors = [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"])
        for one in json.loads(found)["generalDiagnostics"]
        if one["severity"] == "error"
    ]
    assert not [one for one in errors if one[0] == "program.py"], errors
    for line, mistake in lines_of_mistakes().items():
        assert any(one[:2] == ("mistakes.py", line) for one in errors), (mistake, errors)


@pytest.mark.slow
def test_stubs_are_as_the_code(tmp_path):
    found = run(
        tmp_path, "-m", "mypy.stubtest", "fastent.numba_api", "fastent.cython_api",
        "--mypy-config-file", "mypy.ini",
    )  # fmt: skip
    assert "Success: no issues found in 2 modules" in found, found
