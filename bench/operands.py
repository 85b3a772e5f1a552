"""Inputs of a workload: random rows, the same for fastent and every rival."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bench.workloads import Workload

ALIGNMENT = 64  # JAX takes aligned arrays without a copy
BLOCK_ELEMENTS = 1_000_000
# The exact mean needs the exact value of every distinct row.
BLOCK_ELEMENTS_OF_A_MEAN = 20_000


@dataclass
class Operands:
    """What a tool is called with; ``true`` is None for the entropy."""

    true: np.ndarray | None
    pred: np.ndarray
    kind: str
    axis: int = -1
    reduction: str = "none"
    out: np.ndarray | None = None
    period: int = 0  # rows repeat after so many

    @property
    def rows(self) -> int:
        return self.pred.shape[1 if self.axis == 0 and self.pred.ndim > 1 else 0]

    def row(self, i: int) -> tuple[object, np.ndarray]:
        """Row i of both operands."""
        take = (slice(None), i) if self.axis == 0 else i
        true = None
        if self.true is not None:
            true = self.true[take if self.true.ndim > 1 else i]
        return true, np.atleast_1d(self.pred[take])

    def part(self, rows: slice) -> Operands:
        """Some of the rows, as views."""
        take = (slice(None), rows) if self.axis == 0 else rows
        true = None
        if self.true is not None:
            true = self.true[take if self.true.ndim > 1 else rows]
        out = None if self.out is None else self.out[rows]
        return replace(self, true=true, pred=self.pred[take], out=out)


def numpy_dtype(name: str) -> np.dtype:
    """The dtype of that name; bfloat16 comes from ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def random_rows(rng: np.random.Generator, rows: int, classes: int, kind: str) -> np.ndarray:
    """Float64 rows of the given kind; classes = 0 for Bernoulli values."""
    logits = 2.0 * rng.standard_normal((rows, classes) if classes else rows)
    if kind == "logits":
        return logits
    if not classes:
        return 1.0 / (1.0 + np.exp(-logits))
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def repeated(block: np.ndarray, rows: int, dtype: np.dtype, axis: int = -1) -> np.ndarray:
    """An array of so many rows that repeats the block, with the class axis last or first.

    Repetition makes gigabytes in no time; the caches see distinct memory all the same.
    """
    block = block.astype(dtype)
    period = len(block)
    if axis == 0:
        full = aligned_empty((block.shape[1], rows), dtype)
        for start in range(0, rows, period):
            stop = min(start + period, rows)
            full[:, start:stop] = block[: stop - start].T
        return full
    full = aligned_empty((rows, *block.shape[1:]), dtype)
    for start in range(0, rows, period):
        stop = min(start + period, rows)
        full[start:stop] = block[: stop - start]
    return full


def build(workload: Workload, seed: int = 0) -> Operands:
    """The inputs of a workload."""
    w = workload
    rng = np.random.default_rng(seed)
    dtype = numpy_dtype(w.dtype)
    elements = BLOCK_ELEMENTS_OF_A_MEAN if w.reduction == "mean" else BLOCK_ELEMENTS
    period = min(w.rows, max(1, elements // max(w.classes, 1)))
    pred = repeated(random_rows(rng, period, w.classes, w.kind), w.rows, dtype, w.axis)
    true = None
    if w.function == "sparse_cross_entropy":
        true = repeated(rng.integers(w.classes, size=period), w.rows, np.dtype(np.int64))
    elif w.function == "binary_cross_entropy":
        true = repeated(rng.integers(2, size=period), w.rows, dtype)
    elif w.function != "entropy":
        # The target of categorical_cross_entropy is always probabilities.
        kind = "probs" if w.function == "categorical_cross_entropy" else w.kind
        true = repeated(random_rows(rng, period, w.classes, kind), w.rows, dtype, w.axis)
    # filled: else the first call pays for its pages, and is the only one where seconds are few
    out = None if w.reduction == "mean" else np.full(w.rows, np.nan)
    return Operands(true, pred, w.kind, w.axis, w.reduction, out, period)
