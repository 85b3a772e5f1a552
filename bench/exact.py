"""Values in exact arithmetic (mpmath) on the given inputs, and the error of a result."""

from __future__ import annotations

import numpy as np
from mpmath import mp, mpf

from bench.operands import Operands

# Below this the error of a row is absolute: the ends of the range of each dtype.
FLOOR = {"float64": 1e-290}
FLOOR_OF_OTHERS = 1e-30


def _log(x: mpf) -> mpf:
    return mp.log(x) if x else mpf("-inf")


def _distribution(row: np.ndarray, kind: str) -> tuple[list, list]:
    """Probabilities of the normalised row and their logarithms."""
    numbers = [mpf(float(x)) for x in row]
    if kind == "probs":
        total = mp.fsum(numbers)
        probs = [x / total for x in numbers]
        return probs, [_log(p) for p in probs]
    largest = max(numbers)
    weights = [mp.exp(x - largest) for x in numbers]
    total = mp.fsum(weights)
    log_total = mp.log(total)
    return [w / total for w in weights], [x - largest - log_total for x in numbers]


def _expectation(p: list, values: list) -> mpf:
    return mp.fsum(a * v for a, v in zip(p, values, strict=True) if a)


def _kl(p: list, log_p: list, log_q: list) -> mpf:
    divergence = _expectation(p, log_p) - _expectation(p, log_q)
    # Equal rows leave rounding in the last digits, where nothing else reaches.
    return divergence if divergence > mpf(10) ** (10 - mp.dps) else mpf(0)


def _bernoulli(target: float, x: float, kind: str) -> mpf:
    t, x = mpf(float(target)), mpf(float(x))
    if kind == "logits":
        missed = 1 - t if x >= 0 else t
        return mp.log(1 + mp.exp(-abs(x))) + (abs(x) * missed if missed else 0)
    return -mp.fsum(w * _log(v) for w, v in ((t, x), (1 - t, 1 - x)) if w)


def row_value(function: str, kind: str, true: object, pred: np.ndarray) -> mpf:
    """The exact value of one row, understood as normalised."""
    if function == "binary_cross_entropy":
        return _bernoulli(true, pred[0], kind)
    if function == "sparse_cross_entropy" and kind == "probs":
        numbers = [mpf(float(x)) for x in pred]
        own = numbers[int(true)]
        return mp.log(mp.fsum(numbers) / own) if own else mpf("inf")
    q, log_q = _distribution(pred, kind)
    if function == "sparse_cross_entropy":
        return -log_q[int(true)]
    if function == "entropy":
        return -_expectation(q, log_q)
    p, log_p = _distribution(true, "probs" if function == "categorical_cross_entropy" else kind)
    if function == "categorical_cross_entropy":
        return -_expectation(p, log_q)
    if function == "kl_divergence":
        return _kl(p, log_p, log_q)
    log_m = [_log((a + b) / 2) for a, b in zip(p, q, strict=True)]
    return (_kl(p, log_p, log_m) + _kl(q, log_q, log_m)) / 2


def relative_error(value: float, exact: mpf, dtype: str) -> float:
    """|value - exact| / exact; absolute below the floor of the dtype, inf for a wrong infinity."""
    if mp.isinf(exact):
        return 0.0 if value == float(exact) else float("inf")
    if not np.isfinite(value):
        return float("inf")
    floor = FLOOR.get(dtype, FLOOR_OF_OTHERS)
    return float(abs(mpf(float(value)) - exact) / max(abs(exact), floor))


class Truth:
    """The exact values of a workload: those of a sample of rows, and the mean when asked for.

    Rows of more classes than ``WIDEST`` have no exact value here: one would take minutes.
    """

    WIDEST = 1_000_000

    def __init__(self, function: str, x: Operands, elements: int = 260_000, digits: int = 40):
        self._function, self._operands, self._digits = function, x, digits
        self._classes = max(x.pred.size // x.rows, 1)
        count = max(1, min(32, x.rows, elements // self._classes))
        self._sample = np.linspace(0, x.rows - 1, count).astype(int)
        self._known: dict[int, mpf] = {}

    def _row(self, i: int) -> mpf:
        if i not in self._known:
            self._known[i] = row_value(self._function, self._operands.kind, *self._operands.row(i))
        return self._known[i]

    def _mean(self, rows: int) -> mpf:
        values = [self._row(i) for i in range(min(self._operands.period, rows))]
        whole, rest = divmod(rows, len(values))
        return (whole * mp.fsum(values) + mp.fsum(values[:rest])) / rows

    def error(self, result: np.ndarray, rows: int) -> float | None:
        """Worst relative error of a result on the first so many rows: of its mean if it is one."""
        if self._classes > self.WIDEST:
            return None
        dtype = self._operands.pred.dtype.name
        with mp.workdps(self._digits):
            if result.ndim == 0:
                return relative_error(float(result), self._mean(rows), dtype)
            sample = [int(i) for i in self._sample if i < rows]
            return max(relative_error(float(result[i]), self._row(i), dtype) for i in sample)
