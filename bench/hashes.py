"""``python -m bench.hashes``: a hash of the bits of every result, to show that a change kept them.

A line for each SIMD level, function, kind and dtype: row values and means of the tests' hard rows,
with the options that lead to other kernels; gradients; the values of an accumulator.
``--output FILE`` before a change, ``--against FILE`` after it: lines that differ are printed, and
the exit status is 1. ``--backend numba`` or ``numpy``: those of a backend that has no levels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import cases
import hard_inputs

import fastent as fe
from fastent.metrics import names

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sparse_cross_entropy": [{"eps": 1e-3}, {"label_smoothing": 0.1}],
    "categorical_cross_entropy": [{"eps": 1e-3}, {"label_smoothing": 0.1}],
    "binary_cross_entropy": [{"eps": 1e-3}, {"label_smoothing": 0.1}],
    "kl_divergence": [{"eps": 1e-3}],
    "js_divergence": [],
    "entropy": [],
}


def digest(call: Callable[..., Any], *args: Any, **options: Any) -> bytes:
    """The bits of a result, or the words of its refusal."""
    try:
        return np.ascontiguousarray(call(*args, **options)).tobytes()
    except (ValueError, TypeError) as error:
        return str(error).encode()


def options_of(function: str, kind: Any) -> Iterator[dict[str, Any]]:
    yield {}
    yield {"reduction": "mean"}
    yield from OPTIONS[function]
    if "logits" in kind:
        yield {"temperature": 1.7}
    if function != "binary_cross_entropy" and kind != "logits" and kind != ("logits", "logits"):
        yield from ({"row_sums": rule} for rule in ("rescale", "as_is"))


def functions() -> Iterator[tuple[str, str]]:
    """(function, kind, dtype) and the hash of its results at the level in use."""
    for function, kind, dtype in cases.combinations():
        found = sha256()
        for args in cases.operands(function, kind, hard_inputs.DTYPES[dtype]).values():
            for options in options_of(function, kind):
                found.update(digest(getattr(fe, function), *args, kind=kind, **options))
        yield f"{function} {cases.title(kind)} {dtype}", found.hexdigest()[:16]


def gradients() -> Iterator[tuple[str, str]]:
    for dtype in ("float64", "float32", "float16"):
        found = sha256()
        for rows in hard_inputs.singles("logits", hard_inputs.DTYPES[dtype]).values():
            labels = hard_inputs.labels(rows)
            for options in ({}, {"label_smoothing": 0.1}):
                found.update(digest(fe.cross_entropy_gradient, labels, rows, **options))
        for t, x in hard_inputs.bernoullis("logits", hard_inputs.DTYPES[dtype]).values():
            found.update(digest(fe.binary_cross_entropy_gradient, t, x))
        yield f"gradients {dtype}", found.hexdigest()[:16]


TASKS = {
    "sparse": "sparse_cross_entropy",
    "categorical": "categorical_cross_entropy",
    "binary": "binary_cross_entropy",
    "divergence": "kl_divergence",
}


def operands_of(task: str, function: str, kind: str, dtype: str) -> list[tuple[Any, ...]]:
    two = (kind, kind) if task == "divergence" else kind
    return list(cases.operands(function, two, hard_inputs.DTYPES[dtype]).values())


def values_of(metrics: list[str], task: str, kind: str, *args: Any) -> np.ndarray:
    report = fe.Accumulator(metrics, task=task, kind=kind).update(*args).compute()
    return np.hstack([np.ravel(report[name].value) for name in metrics])  # some are tables


def accumulators() -> Iterator[tuple[str, str]]:
    """All metrics of a task, each of the hard rows by themselves."""
    for task, function in TASKS.items():
        metrics = [name for name in names(task) if "{" not in name]
        for kind in hard_inputs.KINDS:
            for dtype in ("float64", "float32"):
                found = sha256()
                for args in operands_of(task, function, kind, dtype):
                    found.update(digest(values_of, metrics, task, kind, *args))
                yield f"accumulator {task} {kind} {dtype}", found.hexdigest()[:16]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hashes", description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--levels", nargs="*", default=fe._settings.simd_levels())
    parser.add_argument("--backend", default="cython")
    given = parser.parse_args()
    lines = []
    if given.backend != "cython":
        fe.set_backend(given.backend)
        for part in (functions, accumulators):
            lines += [f"{given.backend} {name} {found}" for name, found in part()]
        given.levels = []
    for level in given.levels:
        with fe._settings.use_simd(level):
            for part in (functions, gradients, accumulators):
                lines += [f"{level} {name} {found}" for name, found in part()]
    if given.output:
        given.output.write_text("\n".join(lines) + "\n")
    if given.against:
        known = set(given.against.read_text().splitlines())
        other = [line for line in lines if line not in known]
        print(*other, sep="\n")
        print(f"{len(lines)} lines, {len(other)} differ")
        return bool(other)
    if not given.output:
        print(*lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
