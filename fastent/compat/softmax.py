"""Softmax, its logarithm and log Σ e^x along any axes, from the compiled row loops.

Rows longer than `LONG` are shared among threads: the engine's kernel gives their maximum and sum in
blocks, a second pass the softmax.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastent import functions as fe
from fastent._settings import chosen_threads
from fastent.backends.cython.derivatives.loop import softmax
from fastent.compat.reduced import Axis, as_array, as_floats, as_rows, float_dtype, normalised

LONG = 1 << 16


def of_axes(x: Any, axis: Axis, name: str) -> Any:
    array = as_array(x)
    axes = normalised(axis, array.ndim)
    if math.prod(array.shape[i] for i in axes) == 0:
        raise ValueError("zero-size array to reduction operation maximum which has no identity")
    rows, at = as_rows(as_floats(array), axes)
    last = np.moveaxis(rows, at, -1)
    found = np.empty(last.shape, last.dtype)
    if last.shape[-1] < LONG:
        softmax(name, last, found, chosen_threads(None))
    else:
        long_rows(last, found, name)
    if len(axes) == 1:
        found = np.moveaxis(found, -1, at)
    else:
        kept = [n for i, n in enumerate(array.shape) if i not in axes]
        found = found.reshape([*kept, *(array.shape[i] for i in axes)])
        found = np.moveaxis(found, range(-len(axes), 0), axes) if axes else found
    return found.astype(float_dtype(array), copy=False)[()]


def long_rows(x: np.ndarray, out: np.ndarray, name: str) -> None:
    maxima, rests = top_and_rest(x)
    threads = chosen_threads(None)
    for i in np.ndindex(x.shape[:-1]):
        top, rest = float(maxima[i]), float(rests[i])
        if math.isfinite(top):
            scale = rest if name == "log_softmax" else math.exp(-rest)
            softmax(name, x[i], out[i], threads, top, scale)
        else:
            softmax(name, x[i], out[i], threads)


def top_and_rest(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(maximum, log Σ e^(x − maximum)) of rows: the second keeps its digits."""
    first = np.argmax(x, axis=-1)
    top = np.take_along_axis(x, first[..., None], -1)[..., 0]
    return top, np.asarray(fe.sparse_cross_entropy(first, x, kind="logits"))


def logsumexp(rows: np.ndarray, axis: int) -> np.ndarray:
    """Float64, however short the input."""
    last = np.moveaxis(rows, axis, -1)
    if last.shape[-1] >= LONG:
        top, rest = top_and_rest(last)
        return np.where(np.isinf(top), top, top + rest)
    found = np.empty(last.shape[:-1], rows.dtype)
    softmax("logsumexp", last, found, chosen_threads(None))
    return found


def signed_logsumexp(a: np.ndarray, b: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(log |Σ b·e^a|, its sign); classes with b = 0 do not count, whatever their a."""
    b = b.astype(np.float64)  # their logarithms are summed, and |−128| has no int8
    with np.errstate(all="ignore"):
        a = np.where(b == 0, -np.inf, a)
        top = np.max(a, axis=axis, keepdims=True)
        base = np.where(np.isfinite(top), top, 0.0)
        exponent = (a - base) + np.log(np.abs(b))  # near the top the difference is small
        exponent = np.where(b == 0, -np.inf, exponent)
        value = logsumexp(exponent, axis) + np.squeeze(base, axis)
        if not (b < 0).any():
            sign = np.where(np.isnan(value), np.nan, np.where(value == -np.inf, 0.0, 1.0))
            return value, sign
        endless = np.any(exponent == np.inf, axis=axis, keepdims=True)
        weights = of_axes(exponent, axis, "softmax")
        weights = np.where(endless, np.isinf(exponent) & (exponent > 0), weights)
        share = np.sum(np.sign(b) * weights, axis=axis)
        opposed = np.squeeze(endless, axis) & (np.abs(share) != np.sum(weights, axis=axis))
        share = np.where(opposed, np.nan, np.where(value == -np.inf, 0.0, share))
        endless = np.squeeze(endless, axis)
        value = np.where(endless, value, value + np.log(np.abs(share)))
        return np.where(np.isnan(share), np.nan, value), np.sign(share)
