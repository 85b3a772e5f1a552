"""Rows for the accuracy report: ordinary ones, and those on which tools go wrong.

No row sums are deliberately off, since libraries differ in what they then mean to compute: what
is left of a sum is the rounding of the row to its dtype.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.operands import Operands, numpy_dtype, random_rows

CLASSES = (3, 30, 300)
ROWS = 12
# Relative changes between nearly equal rows; KL goes down to about their square.
NEARNESS = {"float64": (1e-2, 1e-5, 1e-9, 1e-13), "float32": (1e-1, 1e-2, 1e-4, 1e-5)}
NEARNESS_OF_HALF = (1e-1, 3e-2)
OFFSET = {"float64": 1e4, "float32": 1e4, "float16": 1e3, "bfloat16": 1e4}

FUNCTIONS = (
    ("kl_divergence", "probs"),
    ("kl_divergence", "logits"),
    ("js_divergence", "probs"),
    ("js_divergence", "logits"),
    ("entropy", "probs"),
    ("entropy", "logits"),
    ("sparse_cross_entropy", "probs"),
    ("sparse_cross_entropy", "logits"),
    ("categorical_cross_entropy", "probs"),
    ("categorical_cross_entropy", "logits"),
    ("binary_cross_entropy", "probs"),
    ("binary_cross_entropy", "logits"),
)


def _operands(true, pred: np.ndarray, kind: str, dtype: str) -> Operands:
    target = numpy_dtype(dtype)
    if true is not None and true.dtype.kind == "f":
        true = true.astype(target)
    return Operands(true, pred.astype(target), kind, period=len(pred))


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def ordinary(function: str, kind: str, dtype: str) -> Iterator[Operands]:
    """Softmaxes of random normal logits."""
    rng = np.random.default_rng(1)
    if function == "binary_cross_entropy":
        yield _operands(rng.random(100), random_rows(rng, 100, 0, kind), kind, dtype)
        return
    for classes in CLASSES:
        pred = random_rows(rng, ROWS, classes, kind)
        if function == "entropy":
            true = None
        elif function == "sparse_cross_entropy":
            true = rng.integers(classes, size=ROWS)
        else:
            target_kind = "probs" if function == "categorical_cross_entropy" else kind
            true = random_rows(rng, ROWS, classes, target_kind)
        yield _operands(true, pred, kind, dtype)


def _confident_logits(rng, classes: int, dtype: str) -> np.ndarray:
    """The first class ahead by 5 to 60 (float16: its own range allows that too)."""
    logits = rng.standard_normal((ROWS, classes))
    logits[:, 0] = np.linspace(5, 60, ROWS)
    return logits


def _hard_pairs(kind: str, dtype: str) -> Iterator[Operands]:
    rng = np.random.default_rng(2)
    for classes in CLASSES:
        base = 2 * rng.standard_normal((ROWS, classes))
        for nearness in NEARNESS.get(dtype, NEARNESS_OF_HALF):
            near = base + nearness * rng.standard_normal(base.shape)
            if kind == "probs":
                yield _operands(_softmax(base), _softmax(near), kind, dtype)
            else:
                yield _operands(base, near, kind, dtype)
                yield _operands(base + OFFSET[dtype], near + OFFSET[dtype], kind, dtype)
        confident = _confident_logits(rng, classes, dtype)
        if kind == "logits":
            yield _operands(confident, base, kind, dtype)
            yield _operands(base, 10 * base, kind, dtype)
        else:
            # Zeros in both operands, and certainty against a broad row.
            with_zeros = _softmax(base) * (np.arange(classes) != 1)
            with_zeros /= with_zeros.sum(axis=1, keepdims=True)
            other = np.roll(with_zeros, 1, axis=0)
            yield _operands(with_zeros, other, kind, dtype)
            yield _operands(np.eye(classes)[np.arange(ROWS) % classes], _softmax(base), kind, dtype)


def _hard_binary(kind: str, dtype: str) -> Iterator[Operands]:
    targets = np.tile([0.0, 1.0, 0.5], 8)
    if kind == "logits":
        size = np.repeat([1e-3, 12.0, 40.0, 60.0], 6)
        yield _operands(targets, size * np.tile([1, 1, 1, -1, -1, -1], 4), kind, dtype)
        infinite = np.array([-np.inf, np.inf])
        yield _operands(np.array([0.0, 1.0]), infinite, kind, dtype)
        return
    step = float(np.finfo(np.float16 if dtype == "float16" else np.float32).eps)
    near = np.repeat([0.5 * step, 1e-4, 0.25, 1 - step], 6)
    yield _operands(targets, near, kind, dtype)
    yield _operands(np.array([0.0, 1.0]), np.array([0.0, 1.0]), kind, dtype)


def hard(function: str, kind: str, dtype: str) -> Iterator[Operands]:
    """Nearly equal rows, confident rows, large offsets, zeros, many equal classes."""
    if function == "binary_cross_entropy":
        yield from _hard_binary(kind, dtype)
        return
    if function in ("kl_divergence", "js_divergence"):
        yield from _hard_pairs(kind, dtype)
        return
    rng = np.random.default_rng(3)
    batches = []
    for classes in CLASSES:
        confident = _confident_logits(rng, classes, dtype)
        if kind == "logits":
            offset = confident + OFFSET[dtype]
            batches += [confident, offset, np.zeros((1, classes))]
        else:
            batches += [_softmax(confident), np.full((1, classes), 1 / classes)]
    if kind == "logits":
        batches.append(np.zeros((1, 20_000)))
    for pred in batches:
        true = None
        if function == "sparse_cross_entropy":
            true = np.zeros(len(pred), np.int64)
        elif function == "categorical_cross_entropy":
            true = np.zeros(pred.shape)
            true[:, 0] = 1.0
        yield _operands(true, pred, kind, dtype)
