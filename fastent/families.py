"""KL between members of exponential families, and of Gaussians of many components their entropy.

Every part of KL is a sum of terms that are not negative, r − 1 − log r of ratios of scales and
squares, each taken from differences of the inputs: nearly equal Gaussians keep their digits.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fastent._blas import by_blas, product
from fastent._errors import check_numbers, one_of, shown
from fastent._keywords import Array, explained
from fastent._reductions import delivered, log_of_base
from fastent._shapes import broadcast_shape
from fastent._weights import as_floats
from fastent.backends.cython.elementwise import ufuncs
from fastent.backends.cython.float_mode import in_default_mode

Family = Literal["bernoulli", "binomial", "poisson", "exponential", "gaussian"]
PARAMETERS = {
    "bernoulli": ("p",),
    "binomial": ("n", "p"),
    "poisson": ("mu",),
    "exponential": ("scale",),
    "gaussian": ("loc", "scale"),
}
Spread = Literal["variance", "std", "covariance", "cholesky"]
DIAGONAL = ("variance", "std")
FULL = ("covariance", "cholesky")
LOG_2PI_E = math.log(2 * math.pi * math.e)


@explained
@in_default_mode
def exponential_family_kl(
    name: Family,
    params_p: Any,
    params_q: Any,
    *,
    base: float | None = None,
    out: Array | None = None,
) -> Any:
    """KL(p ‖ q) of two members of an exponential family, with the parameters of `scipy.stats`.

    Parameters
    ----------
    name : {"bernoulli", "binomial", "poisson", "exponential", "gaussian"}
        The family.
    params_p, params_q : array_like, or tuple of array_like
        Bernoulli: p. Binomial: (n, p), the same n in both. Poisson: mu, the mean. Exponential:
        scale, the mean. Gaussian: (loc, scale), the mean and standard deviation. All broadcast.

    Returns
    -------
    ndarray of float64, or a scalar
        Never negative, and right to 1e-13 for nearly equal parameters, too.

    Raises
    ------
    ValueError, TypeError
        An unknown family, another number of parameters, or parameters out of its range.

    Notes
    -----
    The Bregman divergence of the log-partition function, in a form in which nothing cancels.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.exponential_family_kl("poisson", 3.0, 5.0).round(12))
    0.467523128702
    >>> fe.exponential_family_kl("gaussian", ([0.0, 1.0], 1.0), (0.0, 1.0)).tolist()
    [0.0, 0.5]
    """
    name = one_of(name, "name", tuple(PARAMETERS))
    unit = log_of_base(base)
    p, q = (_parameters(name, given, which) for given, which in ((params_p, "p"), (params_q, "q")))
    try:
        broadcast_shape(x.shape for x in (*p, *q))
    except ValueError:
        shapes = [x.shape for x in (*p, *q)]
        raise ValueError(f"params_q: expected shapes that broadcast, got {shapes}") from None
    with np.errstate(all="ignore"):
        if name == "poisson":
            found = ufuncs.kl_div(p[0], q[0])
        elif name == "exponential":
            found = ufuncs.kl_div(q[0], p[0]) / q[0]
        elif name == "gaussian":
            found = _diagonal(p[0] - q[0], p[1], q[1], "std", axis=None)
        else:
            found = _bernoulli(p[-1], q[-1])
        if name == "binomial":
            _check_trials(p[0], q[0])
            found = np.where(p[0] == 0, 0.0, p[0] * found)
    return delivered(np.asarray(found) / unit, out)


def _parameters(name: str, given: Any, which: str) -> list[np.ndarray]:
    """The parameters of one member, checked; NaN is as good as any."""
    names = PARAMETERS[name]
    if len(names) == 1 and not isinstance(given, tuple):
        given = (given,)
    if not isinstance(given, tuple | list) or len(given) != len(names):
        raise ValueError(
            f"params_{which}: expected ({', '.join(names)}) of {name}, got {shown(given)}"
        )
    found = []
    for label, values in zip(names, given, strict=True):
        x = as_floats(values, f"params_{which}")
        right, expected = np.isfinite(x), "a finite number"
        if label == "p":
            right, expected = (x >= 0) & (x <= 1), "a probability"
        elif label == "n":
            right, expected = right & (x >= 0) & (x == np.floor(x)), "a whole number of at least 0"
        elif label == "mu":
            right, expected = right & (x >= 0), "a finite number of at least 0"
        elif label == "scale":
            right, expected = right & (x > 0), "a finite number above 0"
        check_numbers(right, x, f"params_{which}", f"{expected} for {label}")
        found.append(x)
    return found


def _check_trials(p: np.ndarray, q: np.ndarray) -> None:
    p, q = np.broadcast_arrays(p, q)
    wrong = ~((p == q) | np.isnan(p) | np.isnan(q))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"params_q: expected the n of params_p, {float(p[at])!r}, got {float(q[at])!r} at {at}"
        )


def _bernoulli(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """p log(p/q) + (1 − p) log((1 − p)/(1 − q)), the second by the difference p − q itself."""
    rest = 1.0 - q
    v = (q - p) / rest
    near = v * v - (1.0 + v) * _excess(v)  # (1 + v) log(1 + v) − v
    far = np.where(p == 1, 1.0, (1.0 - p) / rest * np.log((1.0 - p) / rest) - v)
    second = np.where(np.abs(v) < 0.3, rest * near, rest * far)
    second = np.where(rest == 0, np.where(p == 1, 0.0, np.inf), second)
    return np.asarray(ufuncs.kl_div(p, q) + np.where(p == q, 0.0, second))


@explained
@in_default_mode
def gaussian_entropy(
    spread: ArrayLike,
    *,
    kind: Spread = "variance",
    base: float | None = None,
    out: Array | None = None,
) -> Any:
    """Differential entropy ½ log det(2πe Σ) of Gaussians.

    Parameters
    ----------
    spread : array_like, shape (..., d) or (..., d, d)
        Variances or standard deviations of independent components, covariance matrices, or their
        lower Cholesky factors.
    kind : {"variance", "std", "covariance", "cholesky"}
        Which of these `spread` is.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Right to 1e-14 times the sum of the sizes of its logarithms; a variance of 0 gives −inf.

    Raises
    ------
    ValueError, TypeError
        Negative variances, matrices that are not symmetric and positive definite, wrong shapes.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.gaussian_entropy([1.0, 4.0]).round(12))
    3.531024246969
    >>> float(fe.gaussian_entropy([[2.0, 1.0], [1.0, 2.0]], kind="covariance", base=2).round(12))
    4.886672420722
    """
    unit = log_of_base(base)
    spread = _spread(spread, kind, "spread")
    if kind == "covariance":
        spread = _cholesky(spread, "spread")
    scales = np.diagonal(spread, axis1=-2, axis2=-1) if kind in FULL else spread
    with np.errstate(divide="ignore"):
        logs = np.log(scales) * (0.5 if kind == "variance" else 1.0)
    found = np.sum(logs, axis=-1) + 0.5 * scales.shape[-1] * LOG_2PI_E
    return delivered(np.asarray(found) / unit, out)


@explained
@in_default_mode
def gaussian_kl_divergence(
    mean_p: ArrayLike,
    spread_p: ArrayLike,
    mean_q: ArrayLike,
    spread_q: ArrayLike,
    *,
    kind: Spread = "variance",
    base: float | None = None,
    out: Array | None = None,
) -> Any:
    """KL(p ‖ q) of two Gaussians.

    Parameters
    ----------
    mean_p, mean_q : array_like, shape (..., d)
        Means; the leading shapes of all four broadcast.
    spread_p, spread_q : array_like, shape (..., d) or (..., d, d)
        Variances or standard deviations of independent components, covariance matrices, or their
        lower Cholesky factors.
    kind : {"variance", "std", "covariance", "cholesky"}
        Which of these both spreads are.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Never negative. Right to 1e-14 for independent components, nearly equal ones too; for
        matrices times their condition number.

    Raises
    ------
    ValueError, TypeError
        As in `gaussian_entropy`.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.gaussian_kl_divergence(0.0, 1.0, 1.0, 1.0))
    0.5
    >>> f"{fe.gaussian_kl_divergence([0.0], [1.0], [0.0], [1.0 + 2**-40]):.12e}"
    '2.067951531380e-25'
    >>> cov = [[2.0, 1.0], [1.0, 2.0]]
    >>> float(fe.gaussian_kl_divergence([0, 0], cov, [1, 0], cov, kind="covariance").round(12))
    0.333333333333
    """
    unit = log_of_base(base)
    p, q = _spread(spread_p, kind, "spread_p"), _spread(spread_q, kind, "spread_q")
    means = [as_floats(x, name) for x, name in ((mean_p, "mean_p"), (mean_q, "mean_q"))]
    means = [np.atleast_1d(np.asarray(x, order="C")) for x in means]
    for name, d in (("mean_p", means[0]), ("mean_q", means[1]), ("spread_q", q)):
        if d.shape[-1] != p.shape[-1]:
            raise ValueError(f"{name}: expected {p.shape[-1]} components, got {d.shape[-1]}")
    own = 1 if kind in DIAGONAL else 2
    leads = [*(x.shape[:-1] for x in means), *(x.shape[:-own] for x in (p, q))]
    try:
        broadcast_shape(leads)
    except ValueError:
        raise ValueError(f"means, spreads: leading shapes {leads} do not broadcast") from None
    with np.errstate(all="ignore"):
        apart = means[0] - means[1]
        found = _diagonal(apart, p, q, kind) if kind in DIAGONAL else _full(apart, p, q, kind)
    return delivered(np.asarray(found) / unit, out)


def _diagonal(
    apart: np.ndarray, p: np.ndarray, q: np.ndarray, kind: str, axis: int | None = -1
) -> np.ndarray:
    """Summed over the components; with no axis they are as many Gaussians."""
    if kind == "variance":
        spreads = ufuncs.kl_div(q, p) / q  # r − 1 − log r, r = p/q
        shift = apart * (apart / q)
    else:
        spreads = _of_ratio(p, q)
        shift = (apart / q) ** 2
    # where q has one value only, p must be there too
    point = q == 0
    if np.any(point):
        spreads = np.where(point, np.where(p == 0, 0.0, np.inf), spreads)
        shift = np.where(point, np.where(apart == 0, 0.0, np.inf), shift)
    both = 0.5 * (spreads + shift)
    return both if axis is None else np.sum(both, axis=axis)


def _of_ratio(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """s² − 1 − 2 log s for s = p/q, as (s − 1)² + 2(s − 1 − log s)."""
    return ((p - q) / q) ** 2 + 2 * (ufuncs.kl_div(q, p) / q)


def _full(apart: np.ndarray, p: np.ndarray, q: np.ndarray, kind: str) -> np.ndarray:
    factor = q if kind == "cholesky" else _cholesky(q, "spread_q")
    shift = _solved(factor, apart[..., None])[..., 0]
    lead = broadcast_shape((p.shape, q.shape))
    if kind == "cholesky":
        spreads = _of_factors(p, factor)
    else:
        # A = L⁻¹(Σp − Σq)L⁻ᵀ: near 0 its eigenvalues λ give Σ λ − log1p λ, and no factor of Σp,
        # whose rounding would hide the difference, is needed
        _cholesky(p, "spread_p")
        half = _solved(factor, np.broadcast_to(p - q, lead))
        a = _solved(factor, np.swapaxes(half, -1, -2))
        size = np.sqrt(np.sum(a * a, axis=(-2, -1)))
        near = size < 0.3
        spreads = np.empty(near.shape)
        if np.any(near):
            values = by_blas(np.linalg.eigvalsh, 0.5 * (a + np.swapaxes(a, -1, -2))[near])
            spreads[near] = np.sum(_excess(values), axis=-1)
        if not np.all(near):
            ps, qs = (np.broadcast_to(x, lead)[~near] for x in (p, factor))
            spreads[~near] = _of_factors(by_blas(np.linalg.cholesky, ps), qs)
    return 0.5 * (spreads + np.sum(shift * shift, axis=-1))


def _excess(v: np.ndarray) -> np.ndarray:
    """v − log1p(v) for |v| < 0.3: with r = v/(2 + v), v·r − 2r(r²/3 + r⁴/5 + …)."""
    r = v / (2 + v)
    square = r * r
    tail = np.zeros_like(v)
    for k in range(25, 1, -2):
        tail = (tail + 1.0 / k) * square
    return r * (v - 2 * tail)


def _of_factors(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """tr(Σq⁻¹Σp) − d − log det, from lower factors: M = Lq⁻¹Lp is lower too."""
    lead = broadcast_shape((p.shape, q.shape))
    off = np.tril(_solved(q, np.broadcast_to(p - q, lead)), -1)  # M − 1, below the diagonal
    diagonals = (np.diagonal(x, axis1=-2, axis2=-1) for x in (p, q))
    return np.sum(_of_ratio(*diagonals), axis=-1) + np.sum(off * off, axis=(-2, -1))


def _solved(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """L⁻¹ B by forward substitution, whose error is small in each component."""
    lead = broadcast_shape((lower.shape[:-2], right.shape[:-2]))
    found = np.empty((*lead, *right.shape[-2:]))
    for i in range(right.shape[-2]):
        known = product(lower[..., i : i + 1, :i], found[..., :i, :])
        found[..., i, :] = (right[..., i, :] - known[..., 0, :]) / lower[..., i, i, None]
    return found


def _spread(given: Any, kind: str, name: str) -> np.ndarray:
    if kind not in DIAGONAL + FULL:
        raise ValueError(
            f"kind: expected 'variance', 'std', 'covariance' or 'cholesky', got {shown(kind)}"
        )
    spread = as_floats(given, name)
    spread = np.asarray(spread, order="C")  # NumPy sums by the order in memory
    if kind in DIAGONAL:
        spread = np.atleast_1d(spread)
        check_numbers(spread >= 0, spread, name, f"a {kind} of at least 0")
        return spread
    if spread.ndim < 2 or spread.shape[-1] != spread.shape[-2]:
        raise ValueError(f"{name}: expected square matrices, got shape {spread.shape}")
    if kind == "cholesky":
        upper = np.triu(spread, 1) == 0
        check_numbers(upper, spread, name, "a lower triangular matrix")
        scales = np.diagonal(spread, axis1=-2, axis2=-1)
        check_numbers(scales > 0, scales, name, "a diagonal above 0")
        return spread
    size = np.max(np.abs(spread), axis=(-2, -1), initial=0.0, keepdims=True)
    even = np.abs(spread - np.swapaxes(spread, -1, -2)) <= 1e-8 * size
    check_numbers(even, spread, name, "a symmetric matrix")
    return 0.5 * (spread + np.swapaxes(spread, -1, -2))


def _cholesky(matrices: np.ndarray, name: str) -> np.ndarray:
    try:
        return by_blas(np.linalg.cholesky, matrices)
    except np.linalg.LinAlgError:
        pass
    for at in np.ndindex(matrices.shape[:-2]):
        try:
            by_blas(np.linalg.cholesky, matrices[at])
        except np.linalg.LinAlgError:
            where = f", matrix {at[0] if len(at) == 1 else at} is not" if at else ""
            raise ValueError(f"{name}: expected positive definite matrices{where}") from None
    raise AssertionError("one of the matrices has no factor")
