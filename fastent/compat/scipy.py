"""SciPy's entropy functions: `entropy`, `entr`, `rel_entr`, `kl_div`, `jensenshannon`,
`logsumexp`, `softmax` and `log_softmax`, with SciPy's arguments and meaning.

Row values come from fastent's kernels; `entr`, `rel_entr` and `kl_div` are compiled NumPy ufuncs,
`softmax` and its relatives compiled row loops. SciPy itself is used only for what it alone does:
NaN policies, masked arrays and tuples of axes in `entropy`, and `logsumexp` of complex numbers.

Where the numbers differ from SciPy's, these are right: divergences of nearly equal rows keep their
digits and are never negative, as are `rel_entr` and `kl_div` of near arguments, the logarithm of a
softmax near 1, and `softmax` of large logits; +inf in `softmax` and `log_softmax` is certainty,
shared by ties.
"""

from __future__ import annotations

from fastent._extras import missing

try:
    import scipy as _scipy  # noqa: F401
except ModuleNotFoundError as _error:
    raise missing(_error, "scipy", "fastent.compat.scipy") from None

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp as scipy_logsumexp  # now: it may be patched later

from fastent import functions as fe
from fastent._shapes import broadcast_shape
from fastent.backends.cython.elementwise import ufuncs
from fastent.backends.cython.float_mode import in_default_mode
from fastent.compat.elementwise import elementwise
from fastent.compat.reduced import (
    Axis,
    as_array,
    as_floats,
    as_rows,
    back,
    float_dtype,
    normalised,
    opened,
)
from fastent.compat.softmax import logsumexp as logsumexp_of_rows, of_axes, signed_logsumexp

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


def entr(x: ArrayLike, out: Any = None, *, num_threads: int | None = None, **keywords: Any) -> Any:
    """−x log x for each element; 0 at 0 and −inf below, as `scipy.special.entr`.

    Parameters
    ----------
    x : array_like
        Numbers; float32 and 16-bit ones are computed in float32, others in float64.
    out : ndarray, optional
        Where the result goes; may be `x`.
    num_threads : int, optional
        Threads to use; by default as many as fastent's functions use.
    **keywords
        `where`, `casting`, `order`, `dtype`, `subok`, `signature`: as for any NumPy ufunc.

    Returns
    -------
    scalar or ndarray
        Right to 1e-14 (float32: 1e-6), for numbers of any size.

    Raises
    ------
    TypeError
        Complex or longer than 64-bit numbers, or a keyword that ufuncs do not have.

    Examples
    --------
    >>> from fastent.compat.scipy import entr
    >>> entr([0.0, 1.0, -1.0]).tolist()
    [0.0, -0.0, -inf]
    """
    return elementwise(ufuncs.entr, (x,), num_threads, {"out": out, **keywords})


def rel_entr(
    x: ArrayLike, y: ArrayLike, out: Any = None, *, num_threads: int | None = None, **keywords: Any
) -> Any:
    """x log(x/y) for each pair, as `scipy.special.rel_entr`.

    Parameters
    ----------
    x, y : array_like
        Numbers, broadcast against each other.
    out, num_threads, **keywords
        As in `entr`.

    Returns
    -------
    scalar or ndarray
        0 where x = 0 <= y; inf where x or y is negative, or y = 0 < x.

    Raises
    ------
    TypeError, ValueError
        As in `entr`; shapes that do not broadcast.

    Examples
    --------
    >>> from fastent.compat.scipy import rel_entr
    >>> rel_entr([0.0, 1.0, 1.0], [1.0, 1.0, 0.0]).tolist()
    [0.0, 0.0, inf]
    """
    return elementwise(ufuncs.rel_entr, (x, y), num_threads, {"out": out, **keywords})


def kl_div(
    x: ArrayLike, y: ArrayLike, out: Any = None, *, num_threads: int | None = None, **keywords: Any
) -> Any:
    """x log(x/y) − x + y for each pair, as `scipy.special.kl_div`, but never negative.

    Parameters
    ----------
    x, y : array_like
        Numbers, broadcast against each other.
    out, num_threads, **keywords
        As in `entr`.

    Returns
    -------
    scalar or ndarray
        y where x = 0 <= y; inf where x or y is negative or infinite, or y = 0 < x. Equal finite
        arguments give 0, near ones keep their digits.

    Raises
    ------
    TypeError, ValueError
        As in `entr`; shapes that do not broadcast.

    Examples
    --------
    >>> from fastent.compat.scipy import kl_div
    >>> kl_div([0.0, 1.0, 1.0], [0.5, 1.0, 0.0]).tolist()
    [0.5, 0.0, inf]
    """
    return elementwise(ufuncs.kl_div, (x, y), num_threads, {"out": out, **keywords})


@in_default_mode
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

    Parameters
    ----------
    pk : array_like
        The (true) distributions; any positive sum.
    qk : array_like, optional
        The distributions to compare with, broadcast against `pk`.
    base : float, optional
        Base of the logarithm; nats by default.
    axis : int, tuple of int or None
        The class axes.
    nan_policy : {"propagate", "omit", "raise"}
        What a NaN does.
    keepdims : bool
        Whether the class axes stay, with length 1.

    Returns
    -------
    scalar or ndarray
        In the dtype of the operands.

    Raises
    ------
    ValueError
        A base that is not positive, shapes that do not broadcast, a NaN under "raise".

    Examples
    --------
    >>> from fastent.compat.scipy import entropy
    >>> round(float(entropy([9, 9, 9, 9], base=2)), 12)
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
    pk, qk = opened(pk, "pk"), None if qk is None else opened(qk, "qk")
    if _no_deco:
        return row_entropy(pk, qk, base, axis)
    if qk is not None:
        return policed()(pk, qk, base=base, axis=axis, nan_policy=nan_policy, keepdims=keepdims)
    return policed()(pk, base=base, axis=axis, nan_policy=nan_policy, keepdims=keepdims)


def row_entropy(pk: Any, qk: Any = None, base: float | None = None, axis: Axis = 0) -> Any:
    if base is not None and base <= 0:
        raise ValueError("`base` must be a positive number or `None`.")
    given = [as_array(x) for x in (pk, qk) if x is not None]
    dtype = summed_dtype(*given)
    if len(given) == 2:
        try:
            given = broadcast(*given)
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


@in_default_mode
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

    Parameters
    ----------
    p, q : array_like
        The distributions, broadcast against each other.
    base : float, optional
        Base of the logarithm; nats by default.
    axis : int
        The class axis.
    keepdims : bool
        Whether it stays, with length 1.

    Returns
    -------
    scalar or ndarray
        In the dtype of the operands.

    Examples
    --------
    >>> from fastent.compat.scipy import jensenshannon
    >>> round(float(jensenshannon([1.0, 0.0], [0.0, 1.0], 2.0)), 14)
    1.0
    """
    given = [as_array(p), as_array(q)]
    dtype = summed_dtype(*given)
    # an axis counted from the end is the same one of both
    shapes = [
        (axis < 0 or x.ndim, np.take(x.shape, normalised(axis, x.ndim)).tolist()) for x in given
    ]
    if shapes[0] != shapes[1]:  # each is normalised before it is broadcast
        with np.errstate(all="ignore"):
            given = [x / np.sum(x, axis=axis, keepdims=True) for x in given]
    given = broadcast(*given)
    axes = normalised(axis, given[0].ndim)
    if shapes[0] == shapes[1]:
        found = rescaled(fe.js_divergence, summed_js, given, axes)
    else:
        found = summed_js(*given, axis=axes)  # type: ignore[misc]
    if base is not None:
        found = found / np.log(base)
    return back(np.sqrt(found), axes, keepdims, dtype)


def broadcast(*given: np.ndarray) -> list[np.ndarray]:
    """Views of one shape; `np.broadcast_arrays` takes 32 axes only."""
    shape = broadcast_shape(x.shape for x in given)
    return [np.broadcast_to(x, shape) for x in given]


def summed_dtype(*given: np.ndarray) -> np.dtype:
    """That of sums of SciPy's elementwise functions, which have no 16-bit loops."""
    return np.result_type(float_dtype(*given), np.float32)


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


@in_default_mode
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    """log(Σ b·e^a), as `scipy.special.logsumexp`.

    Parameters
    ----------
    a : array_like
        Exponents; complex ones are handed to SciPy.
    axis : int, tuple of int or None
        Axes to sum over; all by default.
    b : array_like, optional
        Factors, broadcast against `a`; they may be 0 or negative.
    keepdims : bool
        Whether the axes stay, with length 1.
    return_sign : bool
        Give the sign of the sum apart; otherwise a negative sum is nan.

    Returns
    -------
    scalar or ndarray, or a pair (value, sign) of them
        In the dtype of the operands.

    Examples
    --------
    >>> from fastent.compat.scipy import logsumexp
    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    >>> value, sign = logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True)
    >>> float(value.round(12)), float(sign)
    (1.541324854613, -1.0)
    """
    array = np.atleast_1d(as_array(a))
    factors = None if b is None else as_array(b)
    if array.dtype.kind not in "fiub" or (factors is not None and factors.dtype.kind not in "fiub"):
        return scipy_logsumexp(a, axis=axis, b=b, keepdims=keepdims, return_sign=return_sign)
    dtype = float_dtype(array) if factors is None else float_dtype(array, factors)
    if factors is not None:
        array, factors = broadcast(array, factors)
    axes = normalised(axis, array.ndim)
    sign: Any = 1.0
    if array.size == 0:
        kept = [n for i, n in enumerate(array.shape) if i not in axes]
        value, sign = np.full(kept, -np.inf), np.zeros(kept)
    elif factors is None:
        value = logsumexp_of_rows(*as_rows(as_floats(array), axes))
        sign = np.where(np.isnan(value), np.nan, np.where(value == -np.inf, 0.0, 1.0))
    else:
        rows, at = as_rows(array.astype(np.float64), axes)
        wide = as_rows(factors.astype(np.float64), axes)[0]
        value, sign = signed_logsumexp(rows, wide, at)
    if return_sign:
        return back(value, axes, keepdims, dtype), back(sign, axes, keepdims, dtype)
    return back(np.where(sign < 0, np.nan, value), axes, keepdims, dtype)


@in_default_mode
def softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """e^x / Σ e^x, as `scipy.special.softmax`.

    Parameters
    ----------
    x : array_like
        Logits.
    axis : int, tuple of int or None
        Axes to sum over; all by default.

    Returns
    -------
    ndarray
        Of the shape of `x`; float32 and float16 keep their dtype.

    Raises
    ------
    ValueError
        Rows of no numbers.

    Examples
    --------
    >>> from fastent.compat.scipy import softmax
    >>> softmax([0.0, 0.0, 800.0]).tolist()
    [0.0, 0.0, 1.0]
    """
    return of_axes(x, axis, "softmax")


@in_default_mode
def log_softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """x − log Σ e^x, as `scipy.special.log_softmax`.

    Parameters
    ----------
    x, axis
        As in `softmax`.

    Returns
    -------
    ndarray
        Of the shape of `x`; the largest of a confident row keeps its digits.

    Raises
    ------
    ValueError
        Rows of no numbers.

    Examples
    --------
    >>> from fastent.compat.scipy import log_softmax
    >>> log_softmax([40.0, 0.0, 0.0]).tolist()
    [-8.496708510583178e-18, -40.0, -40.0]
    """
    return of_axes(x, axis, "log_softmax")
