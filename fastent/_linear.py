"""Losses and divergences of hidden states times a head: logits come a block at a time, and go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from fastent._blas import blas_threads, product
from fastent._errors import as_number, as_reduction, shown
from fastent._fork import bring
from fastent._keywords import (
    Array,
    LinearKeywords,
    LinearPairKeywords,
    Reduced,
    Reduction,
    explained,
)
from fastent._outputs import check_out
from fastent._reductions import log_of_base, reduced
from fastent._settings import chosen_threads
from fastent._weights import row_weights, whole_labels
from fastent.backends.cython import levels
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.sharing import share
from fastent.backends.views import as_numpy

ROWS = 512  # of a block: so many that a product is bound by arithmetic
PRODUCTS = 40 << 20  # bytes of products and hidden states
CONVERTED = 4 << 20  # bytes of a head's 16-bit numbers, widened
EPS = 1e-6  # of a norm that comes without


@overload
def linear_cross_entropy(
    labels: ArrayLike,
    hidden: ArrayLike,
    head: ArrayLike,
    *,
    reduction: Literal["none"] = "none",
    **keywords: Unpack[LinearKeywords],
) -> Array: ...


@overload
def linear_cross_entropy(
    labels: ArrayLike,
    hidden: ArrayLike,
    head: ArrayLike,
    *,
    reduction: Reduced,
    **keywords: Unpack[LinearKeywords],
) -> float: ...


@explained
@in_default_mode
def linear_cross_entropy(
    labels: ArrayLike,
    hidden: ArrayLike,
    head: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    norm: Any = None,
    softcap: float | None = None,
    scale: float = 1.0,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array | float:
    """Cross-entropy of class labels where the logits are hidden states times a head.

    Logits are made a block at a time and never stored: less than 64 MB beside the operands.

    Parameters
    ----------
    labels : array_like of whole numbers, shape (...)
        The class of each row.
    hidden : array_like, shape (..., d)
        Hidden states: float64, float32, or 16-bit numbers, of which products are float32.
    head : array_like, shape (C, d)
        A line of weights for each class.
    bias : array_like, shape (C,), optional
        Added to the products.
    norm : array_like, shape (d,), or a pair of it and a number, optional
        Weights of an RMS norm of the hidden states, with its ε (1e-6).
    softcap : float, optional
        Logits z become softcap·tanh(z/softcap), as in Gemma 2.
    scale : float
        Products with their bias are multiplied by it, as in Cohere's models, before the softcap.
    temperature : float
        Logits are divided by it in the end.
    sample_weight : array_like, optional
        Of the leading shape: weighs rows.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Nats, unless `base` says otherwise.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not fit, labels out of range.

    Notes
    -----
    Values are as right as those of `sparse_cross_entropy` with respect to the products. These
    depend on the BLAS that NumPy has, its threads and the block's shape: the same of these give the
    same bits, others agree to the rounding of products.

    Examples
    --------
    >>> import fastent as fe
    >>> head = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> fe.linear_cross_entropy([0, 2], [[1.0, 0.0], [0.5, 0.5]], head).round(6).tolist()
    [0.861995, 0.794377]
    """
    rows = Hidden(hidden, head, bias, norm, softcap, scale, names="hidden head bias norm")
    checked = _temperature(temperature)
    reduction = as_reduction(reduction)
    given = whole_labels(labels, rows.lead, rows.classes, ignore_index).reshape(-1)
    weights = row_weights(sample_weight, rows.lead)
    unit = log_of_base(base)
    if out is not None:
        check_out(out, rows.lead if reduction == "none" else ())
    threads = chosen_threads(num_threads)
    kernel = _kernel()
    values = np.empty(rows.count)
    with blas_threads(num_threads):
        for start, stop in rows.blocks(1):
            state = np.zeros((stop - start, kernel.STATE_DOUBLES))
            own = np.zeros(stop - start)
            here = given[start:stop]
            for first, z in rows.products(start, stop, 1):
                add = partial(_add_labels, kernel, z, here, first, rows, checked, state, own)
                _share(add, stop - start, threads)
            kernel.losses(here, state, own, values[start:stop])
    ignored = None if ignore_index is None else given < 0
    return _reduced(values, weights, ignored, rows.lead, reduction, unit, out)


@overload
def linear_kl_divergence(
    hp: ArrayLike,
    wp: ArrayLike,
    hq: ArrayLike,
    wq: ArrayLike,
    *,
    reduction: Literal["none"] = "none",
    **keywords: Unpack[LinearPairKeywords],
) -> Array: ...


@overload
def linear_kl_divergence(
    hp: ArrayLike,
    wp: ArrayLike,
    hq: ArrayLike,
    wq: ArrayLike,
    *,
    reduction: Reduced,
    **keywords: Unpack[LinearPairKeywords],
) -> float: ...


@explained
@in_default_mode
def linear_kl_divergence(
    hp: ArrayLike,
    wp: ArrayLike,
    hq: ArrayLike,
    wq: ArrayLike,
    *,
    bias_p: ArrayLike | None = None,
    bias_q: ArrayLike | None = None,
    norm_p: Any = None,
    norm_q: Any = None,
    softcap_p: float | None = None,
    softcap_q: float | None = None,
    scale_p: float = 1.0,
    scale_q: float = 1.0,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array | float:
    """KL(p ‖ q) where the logits of both are hidden states times a head.

    Each side has its own head; the same one twice is a shared head, which is another number. Logits
    are made a block at a time and never stored.

    Parameters
    ----------
    hp, hq : array_like, shape (..., d)
        Hidden states of both sides, whose widths may differ.
    wp, wq : array_like, shape (C, d)
        Their heads.
    bias_p, bias_q : array_like, shape (C,), optional
        Added to the products.
    norm_p, norm_q : array_like, shape (d,), or a pair of it and a number, optional
        Weights of an RMS norm of the hidden states, with its ε (1e-6).
    softcap_p, softcap_q : float, optional
        Logits z become softcap·tanh(z/softcap).
    scale_p, scale_q : float
        Products with their bias are multiplied by it, before the softcap.
    temperature : float
        The logits of both are divided by it in the end.
    sample_weight : array_like, optional
        Of the leading shape: weighs rows.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Nats, unless `base` says otherwise; never negative.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not fit.

    Notes
    -----
    One visit to each block of logits, without a second product: with w = (z_q − z_p) − δ for some
    constant δ, A = E_p[e^w − 1 − w] and B = E_p[w], KL = A − g(A + B), g(t) = t − log1p(t). Nearly
    equal rows lose no digits to it, with respect to the products as they are computed.

    Examples
    --------
    >>> import fastent as fe
    >>> head = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> float(fe.linear_kl_divergence([1.0, 0.0], head, [0.5, 0.5], head).round(6))
    0.06586
    """
    p = Hidden(hp, wp, bias_p, norm_p, softcap_p, scale_p, names="hp wp bias_p norm_p")
    q = Hidden(hq, wq, bias_q, norm_q, softcap_q, scale_q, names="hq wq bias_q norm_q")
    if p.lead != q.lead:
        raise ValueError(f"hq: expected the leading shape of hp, {p.lead}, got {q.lead}")
    if p.classes != q.classes:
        raise ValueError(f"wq: expected {p.classes} classes as wp has, got {q.classes}")
    p.dtype = q.dtype = np.promote_types(p.dtype, q.dtype)
    checked = _temperature(temperature)
    reduction = as_reduction(reduction)
    weights = row_weights(sample_weight, p.lead)
    unit = log_of_base(base)
    if out is not None:
        check_out(out, p.lead if reduction == "none" else ())
    threads = chosen_threads(num_threads)
    kernel = _kernel()
    values = np.empty(p.count)
    with blas_threads(num_threads):
        for start, stop in (p if p.width >= q.width else q).blocks(2):
            state = np.zeros((stop - start, kernel.STATE_DOUBLES))
            pairs = zip(p.products(start, stop, 2, q), q.products(start, stop, 2, p), strict=True)
            for (first, z), (_, y) in pairs:
                add = partial(_add_pairs, kernel, z, y, first, p, q, checked, state)
                _share(add, stop - start, threads)
            kernel.divergences(state, values[start:stop])
    return _reduced(values, weights, None, p.lead, reduction, unit, out)


def _share(add: Callable[[int, int], None], rows: int, threads: int) -> None:
    share(add, 0, rows, -(-rows // (4 * threads)), threads)


def _add_labels(
    kernel: Any, z: Any, labels: Any, first: int, rows: Hidden, temperature: float, state: Any,
    own: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """Take products of rows [start, stop) in."""
    kernel.add_labels(
        z[start:stop], labels[start:stop], first, rows.bias, rows.scale, rows.softcap, temperature,
        state[start:stop], own[start:stop], np.empty(kernel.SCRATCH_BYTES, np.int8),
    )  # fmt: skip


def _add_pairs(
    kernel: Any, z: Any, y: Any, first: int, p: Hidden, q: Hidden, temperature: float, state: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """The same with products of both sides."""
    kernel.add_pairs(
        z[start:stop], y[start:stop], first, p.bias, q.bias, p.scale, q.scale, p.softcap,
        q.softcap, temperature, state[start:stop], np.empty(kernel.SCRATCH_BYTES, np.int8),
    )  # fmt: skip


class Hidden:
    """Hidden states and the head that makes logits of them."""

    def __init__(
        self,
        hidden: Any,
        head: Any,
        bias: Any,
        norm: Any,
        softcap: float | None,
        scale: float,
        names: str,
    ) -> None:
        first, second, third, fourth = names.split()
        self._hidden, self._plain_hidden = _numbers(hidden, first)
        self._head, self._plain_head = _numbers(head, second)
        if self._head.ndim != 2 or not self._head.shape[0]:
            raise ValueError(
                f"{second}: expected shape (C, d) with C of at least 1, got {self._head.shape}"
            )
        self.classes, self.width = self._head.shape
        if self._hidden.ndim < 1 or self._hidden.shape[-1] != self.width:
            raise ValueError(
                f"{first}: expected {self.width} numbers a row, as {second} has shape "
                f"{self._head.shape}, got shape {self._hidden.shape}"
            )
        self.lead = self._hidden.shape[:-1]
        self.count = math.prod(self.lead)
        self._hidden = self._hidden.reshape(self.count, self.width)
        wide = np.float64 in (self._plain_hidden, self._plain_head)
        self.dtype: Any = np.dtype(np.float64 if wide else np.float32)
        self.bias = None if bias is None else _line(bias, third, self.classes)
        self._eps, self._norm = EPS, None
        if norm is not None:
            if isinstance(norm, tuple | list) and len(norm) == 2 and not np.ndim(norm[1]):
                if np.ndim(norm[0]) == 1:
                    norm, self._eps = norm[0], as_number(norm[1], fourth)
            self._norm = _line(norm, fourth, self.width)
        self.softcap = 0.0
        if softcap is not None:
            self.softcap = as_number(softcap, "softcap")
            if not 0 < self.softcap < math.inf:
                raise ValueError(f"softcap: expected a number above 0, got {shown(softcap)}")
        self.scale = as_number(scale, "scale")
        if not math.isfinite(self.scale):
            raise ValueError(f"scale: expected a finite number, got {shown(scale)}")

    def blocks(self, sides: int) -> Iterator[tuple[int, int]]:
        """Ranges of rows that products are made of at once."""
        row_bytes = (self.width + 4096) * self.dtype.itemsize * sides
        step = max(1, min(ROWS, PRODUCTS // row_bytes))
        for start in range(0, self.count, step):
            yield start, min(self.count, start + step)

    def products(
        self, start: int, stop: int, sides: int, other: Hidden | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Products of rows [start, stop) with some classes, which begin at the first number; the
        array is used again. Of two sides the classes are the same."""
        rows = self._rows(start, stop)
        step = self._step(len(rows), sides)
        if other is not None:
            step = min(step, other._step(len(rows), sides))
        room = np.empty(len(rows) * min(step, self.classes), self.dtype)
        for first in range(0, self.classes, step):
            last = min(self.classes, first + step)
            weights = _widened(self._head[first:last], self._plain_head, self.dtype)
            z = room[: len(rows) * (last - first)].reshape(len(rows), last - first)
            yield first, product(rows, weights.T, out=z)

    def _step(self, rows: int, sides: int) -> int:
        left = PRODUCTS - rows * self.width * self.dtype.itemsize * sides
        step = max(1024, left // max(1, rows * self.dtype.itemsize * sides))
        if self._plain_head != self.dtype:
            step = min(step, max(64, CONVERTED // (self.dtype.itemsize * max(1, self.width))))
        return min(step, 8192)

    def _rows(self, start: int, stop: int) -> np.ndarray:
        rows = _widened(self._hidden[start:stop], self._plain_hidden, self.dtype)
        if self._norm is None:
            return rows
        wide = rows.astype(np.float64)
        root = np.sqrt(np.mean(wide * wide, axis=1, keepdims=True) + self._eps)
        return (wide / root * self._norm).astype(self.dtype)


def logits_into(rows: Hidden, out: np.ndarray) -> None:
    """All logits of some rows, for what reads them once and at once."""
    for first, z in rows.products(0, rows.count, 1):
        if rows.scale != 1:
            z *= rows.scale
        if rows.softcap:
            z /= rows.softcap
            np.tanh(z, out=z)
            z *= rows.softcap
        out[:, first : first + z.shape[1]] = z


def _numbers(given: Any, name: str) -> tuple[np.ndarray, Any]:
    """An array, and the dtype that its numbers have, bfloat16 as "bfloat16"."""
    array, brain = as_numpy(given, name)
    if brain or array.dtype.name == "bfloat16":
        return array, "bfloat16"
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    if array.dtype.kind in "iu" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return array, array.dtype


def _widened(array: np.ndarray, plain: Any, dtype: Any) -> np.ndarray:
    """Some rows in the dtype of products, as they lie where they have it."""
    if isinstance(plain, str) and array.dtype.kind in "iu":
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(dtype, copy=False)


def _line(given: Any, name: str, length: int) -> np.ndarray:
    array, plain = _numbers(given, name)
    array = np.ascontiguousarray(_widened(array, plain, np.float64))
    if array.shape != (length,):
        raise ValueError(f"{name}: expected shape ({length},), got {array.shape}")
    return array


def _temperature(given: Any) -> float:
    number = as_number(given, "temperature", "a number above 0")
    if not 0 < number < math.inf:
        raise ValueError(f"temperature: expected a finite number above 0, got {shown(given)}")
    return number


def _kernel() -> Any:
    return bring(f"fastent.backends.cython.kernels.linear_sums_{levels.active}")


def _reduced(
    values: np.ndarray,
    weights: np.ndarray | None,
    ignored: np.ndarray | None,
    lead: tuple[int, ...],
    reduction: str,
    unit: float,
    out: Any,
) -> Any:
    """What the function returns."""
    values = values.reshape(lead)
    if unit != 1:
        values /= unit
    if ignored is not None:
        counted = (~ignored).astype(np.float64).reshape(lead)
        weights = counted if weights is None else weights * counted
    return reduced(values, weights, reduction, out)
