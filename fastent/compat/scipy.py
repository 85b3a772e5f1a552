"""SciPy's entropy functions: `entropy`, `entr`, `rel_entr`, `kl_div`, `jensenshannon`,
`logsumexp`, `softmax` and `log_softmax`, with SciPy's arguments and meaning.

Row values come from fastent's kernels; the elementwise functions, and what `softmax` and
`log_softmax` do after the kernel, are vectorised NumPy in float64. SciPy itself is used only
for what it alone does: NaN policies, masked arrays and tuples of axes in `entropy`, and `logsumexp`
of complex numbers, with `b` or with `return_sign`.

Where the numbers differ from SciPy's, these are right: divergences of nearly equal rows keep their
digits and are never negative, as are `kl_div` of near arguments, the logarithm of a softmax near 1,
and `softmax` of large logits; +inf in `softmax` and `log_softmax` is certainty, shared by ties.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp as scipy_logsumexp  # now: it may be patched later

from fastent import functions as fe
from fastent.compat.elementwise import (
    elementwise,
    entr_block,
    kl_div_block,
    log_softmax_block,
    rel_entr_block,
    softmax_block,
)
from fastent.compat.reduced import Axis, as_floats, as_rows, back, float_dtype, normalised

__all__ = [
    "entr",
    "entropy",
    "jensenshannon",
    "kl_div",
    "log_softmax",
    "logsumexp",
    "rel_entr",
    "softmax",
]


def entr(
    x: ArrayLike, out: Any = None, *, dtype: Any = None, num_threads: int | None = None
) -> Any:
    """−x log x for each element; 0 at 0 and −inf below, as `scipy.special.entr`.

    Examples
    --------
    >>> from fastent.compat.scipy import entr
    >>> entr([0.0, 1.0, -1.0]).tolist()
    [0.0, -0.0, -inf]
    """
    return elementwise(entr_block, (x,), out, dtype, num_threads)


def rel_entr(
    x: ArrayLike,
    y: ArrayLike,
    out: Any = None,
    *,
    dtype: Any = None,
    num_threads: int | None = None,
) -> Any:
    """x log(x/y) for each pair, as `scipy.special.rel_entr`.

    Examples
    --------
    >>> from fastent.compat.scipy import rel_entr
    >>> rel_entr([0.0, 1.0, 1.0], [1.0, 1.0, 0.0]).tolist()
    [0.0, 0.0, inf]
    """
    return elementwise(rel_entr_block, (x, y), out, dtype, num_threads)


def kl_div(
    x: ArrayLike,
    y: ArrayLike,
    out: Any = None,
    *,
    dtype: Any = None,
    num_threads: int | None = None,
) -> Any:
    """x log(x/y) − x + y for each pair, as `scipy.special.kl_div`, but never negative.

    Examples
    --------
    >>> from fastent.compat.scipy import kl_div
    >>> kl_div([0.0, 1.0, 1.0], [0.5, 1.0, 0.0]).tolist()
    [0.5, 0.0, inf]
    """
    return elementwise(kl_div_block, (x, y), out, dtype, num_threads)


def entropy(
    pk: ArrayLike,
    qk: ArrayLike | None = None,
    base: float | None = None,
    axis: Axis = 0,
    *,
    nan_policy: str = "propagate",
    keepdims: bool = False,
    _no_deco: bool = False,
) -> Any:
    """Entropy of `pk`, or KL divergence from `qk`, as `scipy.stats.entropy`.

    Rows are normalised. `_no_deco` is how SciPy's own tests leave out its NaN policy.

    Examples
    --------
    >>> from fastent.compat.scipy import entropy
    >>> float(entropy([9, 9, 9, 9], base=2))
    2.0
    >>> float(entropy([1, 0], [0.5, 0.5], base=2))
    1.0
    """
    plain = nan_policy == "propagate" and isinstance(axis, int)
    for given in (pk, qk):
        plain = plain and (given is None or (type(given) is np.ndarray and given.size > 0))
    if plain and qk is not None:
        plain = pk.shape == qk.shape  # type: ignore[union-attr]
    if plain and -pk.ndim <= axis < pk.ndim:  # type: ignore[union-attr, operator]
        found = row_entropy(pk, qk, base, axis)
        return np.expand_dims(found, axis) if keepdims else found  # type: ignore[arg-type]
    if _no_deco:
        return row_entropy(pk, qk, base, axis)
    if qk is not None:
        return policed()(pk, qk, base=base, axis=axis, nan_policy=nan_policy, keepdims=keepdims)
    return policed()(pk, base=base, axis=axis, nan_policy=nan_policy, keepdims=keepdims)


def row_entropy(pk: Any, qk: Any = None, base: float | None = None, axis: Axis = 0) -> Any:
    if base is not None and base <= 0:
        raise ValueError("`base` must be a positive number or `None`.")
    given = [np.asarray(x) for x in (pk, qk) if x is not None]
    dtype = float_dtype(*given)
    if len(given) == 2:
        try:
            given = list(np.broadcast_arrays(*given))
        except ValueError:
            raise ValueError("Array shapes are incompatible for broadcasting.") from None
    axes = normalised(axis, given[0].ndim)
    function = fe.entropy if qk is None else fe.kl_divergence
    formula = summed_entr if qk is None else summed_rel_entr
    found = rescaled(function, formula, given, axes)
    if base is not None:
        with np.errstate(all="ignore"):
            found = found / np.log(base)
    return back(found, axes, False, dtype)


@functools.cache
def policed() -> Any:
    """`row_entropy` under SciPy's NaN policies, masked arrays and `keepdims`."""
    from scipy.stats._axis_nan_policy import _axis_nan_policy_factory

    policy = _axis_nan_policy_factory(
        lambda x: x,
        n_samples=lambda given: 2 if given.get("qk") is not None else 1,
        n_outputs=1,
        result_to_tuple=lambda x, _: (x,),
        paired=True,
        too_small=-1,
    )
    return policy(row_entropy)


def jensenshannon(
    p: ArrayLike,
    q: ArrayLike,
    base: float | None = None,
    *,
    axis: int = 0,
    keepdims: bool = False,
) -> Any:
    """Jensen-Shannon distance, the square root of the divergence, as SciPy's.

    Stands for `scipy.spatial.distance.jensenshannon`; rows are normalised.

    Examples
    --------
    >>> from fastent.compat.scipy import jensenshannon
    >>> float(jensenshannon([1.0, 0.0], [0.0, 1.0], 2.0))
    1.0
    """
    given = [np.asarray(p), np.asarray(q)]
    dtype = float_dtype(*given)
    shapes = [(x.ndim, np.take(x.shape, normalised(axis, x.ndim)).tolist()) for x in given]
    if shapes[0] != shapes[1]:  # each is normalised before it is broadcast
        with np.errstate(all="ignore"):
            given = [x / np.sum(x, axis=axis, keepdims=True) for x in given]
    given = list(np.broadcast_arrays(*given))
    axes = normalised(axis, given[0].ndim)
    if shapes[0] == shapes[1]:
        found = rescaled(fe.js_divergence, summed_js, given, axes)
    else:
        found = summed_js(*given, axis=axes)  # type: ignore[misc]
    if base is not None:
        found = found / np.log(base)
    return back(np.sqrt(found), axes, keepdims, dtype)


def rescaled(function: Any, formula: Any, given: list[np.ndarray], axes: tuple[int, ...]) -> Any:
    """Row values of the normalised rows; by `formula` for rows that have no normalised form.

    fastent refuses negative numbers and sums that are 0 or infinite, SciPy computes with them.
    """
    rows = [as_rows(as_floats(x), axes) for x in given]
    arrays, axis = [x for x, _ in rows], rows[0][1]
    if arrays[0].shape[axis] == 0:
        return np.zeros(arrays[0].shape[:axis] + arrays[0].shape[axis + 1 :])
    try:
        return function(*arrays, axis=axis, row_sums="rescale")
    except ValueError:
        pass
    with np.errstate(all="ignore"):
        sums = [np.sum(x, axis=axis, keepdims=True, dtype=np.float64) for x in arrays]
        good = np.ones(np.squeeze(sums[0], axis).shape, bool)
        for x, s in zip(arrays, sums, strict=True):
            good &= (np.min(x, axis=axis) >= 0) & np.squeeze(np.isfinite(s) & (s > 0), axis)
        weights = good.astype(np.float64)
        found = np.array(function(*arrays, axis=axis, row_sums="rescale", sample_weight=weights))
        moved = [np.moveaxis(x / s, axis, -1)[~good] for x, s in zip(arrays, sums, strict=True)]
        found[~good] = formula(*moved, axis=-1)
    return found


def summed_entr(p: np.ndarray, axis: Any) -> Any:
    return np.sum(entr(p), axis=axis)


def summed_rel_entr(p: np.ndarray, q: np.ndarray, axis: Any) -> Any:
    return np.sum(rel_entr(p, q), axis=axis)


def summed_js(p: np.ndarray, q: np.ndarray, axis: Any) -> Any:
    m = (p + q) / 2
    return np.sum(kl_div(p, m) + kl_div(q, m), axis=axis) / 2


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    """log(Σ e^a), as `scipy.special.logsumexp`.

    SciPy's own function answers for complex numbers, with weights `b` and with `return_sign`.

    Examples
    --------
    >>> from fastent.compat.scipy import logsumexp
    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    array = np.atleast_1d(np.asarray(a))
    if b is not None or return_sign or array.dtype.kind not in "fiub":
        return scipy_logsumexp(a, axis=axis, b=b, keepdims=keepdims, return_sign=return_sign)
    axes = normalised(axis, array.ndim)
    dtype = float_dtype(array)
    if array.size == 0:
        kept = [n for i, n in enumerate(array.shape) if i not in axes]
        return back(np.full(kept, -np.inf), axes, keepdims, dtype)
    rows, at = as_rows(as_floats(array), axes)
    top, rest = top_and_rest(rows, at)
    return back(np.where(np.isinf(top), top, top + rest), axes, keepdims, dtype)


def top_and_rest(rows: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(maximum, log Σ e^(x − maximum)) of rows, both float64: the second keeps its digits."""
    first = np.argmax(rows, axis=axis)
    top = np.take_along_axis(rows, np.expand_dims(first, axis), axis).squeeze(axis)
    rest = fe.sparse_cross_entropy(first, rows, kind="logits", axis=axis)
    return top.astype(np.float64), np.asarray(rest)


def softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """e^x / Σ e^x, as `scipy.special.softmax`.

    Examples
    --------
    >>> from fastent.compat.scipy import softmax
    >>> softmax([0.0, 0.0, 800.0]).tolist()
    [0.0, 0.0, 1.0]
    """
    array, top, rest = by_top(x, axis)
    with np.errstate(all="ignore"):
        scale = np.exp(-rest)
    return elementwise(softmax_block, (array, top, scale), None, float_dtype(array), None)


def log_softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """x − log Σ e^x, as `scipy.special.log_softmax`.

    Examples
    --------
    >>> from fastent.compat.scipy import log_softmax
    >>> log_softmax([40.0, 0.0, 0.0]).tolist()
    [-8.496708510583178e-18, -40.0, -40.0]
    """
    array, top, rest = by_top(x, axis)
    return elementwise(log_softmax_block, (array, top, rest), None, float_dtype(array), None)


def by_top(x: Any, axis: Axis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, its maximum, log Σ e^(x − maximum)), the last two broadcast along the axes."""
    array = np.asarray(x)
    axes = normalised(axis, array.ndim)
    if math.prod(array.shape[i] for i in axes) == 0:
        raise ValueError("zero-size array to reduction operation maximum which has no identity")
    top, rest = top_and_rest(*as_rows(as_floats(array), axes))
    return array, np.expand_dims(top, axes), np.expand_dims(rest, axes)
