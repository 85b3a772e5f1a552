"""Types as users meet them: a strict program passes, mistakes are found, stubs match the code."""

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
from typing import Any

import numpy as np
import numpy.typing as npt

import fastent as fe
from fastent.numba_api import kl_divergence, sparse_cross_entropy


@fe.divergence
def squares(p: float, q: float) -> float:
    return (p - q) ** 2


def scores(labels: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> float:
    total = float(fe.sparse_cross_entropy(labels, logits, kind="logits", reduction="mean"))
    total += kl_divergence(np.ones(1), np.ones(1)) + sparse_cross_entropy(0, np.zeros(2))
    gradient, hessian = fe.cross_entropy_gradient(labels, logits, hessian="xgboost")
    return total + float(np.sum(gradient * hessian))


def report(p: npt.ArrayLike, q: npt.ArrayLike) -> dict[str, float]:
    metrics = [squares, "kl_divergence", functools.partial(fe.renyi_divergence, alpha=2.0)]
    acc = fe.Accumulator(metrics, task="divergence", kind="probs").update(p, q)
    state: dict[str, Any] = acc.state_dict()
    again = fe.Accumulator.from_state_dict(state, metrics=[squares])
    found = (acc + again).compute()
    value: float = found["squares"].value
    error: float | None = found["squares"].stderr
    return {"squares": value, "error": error or 0.0, "max": found["squares"].quantile(1.0)}
"""
MISTAKES = {
    'fe.entropy([0.5, 0.5], kind="probabilities")': 'Argument "kind" to "entropy"',
    'fe.kl_divergence([1.0], [1.0], eps="small")': 'Argument "eps" to "kl_divergence"',
    "fe.focal_cross_entropy([0], [[0.5, 0.5]], gama=2)": 'Unexpected keyword argument "gama"',
    'fe.Accumulator("accuracy").update([0])': 'Missing positional argument "pred"',
    "kl_divergence(3, 4)": 'Argument 1 to "kl_divergence"',
}


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


@pytest.mark.slow
def test_a_strict_program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mistakes.py").write_text(
        "import fastent as fe\nfrom fastent.numba_api import kl_divergence\n\n"
        + "\n".join(MISTAKES)
    )
    found = run(tmp_path, "-m", "mypy", "--strict", "program.py", "mistakes.py")
    assert "program.py" not in found, found
    for line, expected in enumerate(MISTAKES.values(), 4):
        assert re.search(rf"mistakes.py:{line}: error: {re.escape(expected)}", found), found
    folder = {}
    exec(compile(PROGRAM, "program.py", "exec"), folder)
    assert folder["report"]([[0.5, 0.5]], [[0.25, 0.75]])["squares"] == 0.125


@pytest.mark.slow
def test_stubs_are_as_the_code(tmp_path):
    found = run(
        tmp_path, "-m", "mypy.stubtest", "fastent.numba_api", "fastent.cython_api",
        "--mypy-config-file", "mypy.ini",
    )  # fmt: skip
    assert "Success: no issues found in 2 modules" in found, found
