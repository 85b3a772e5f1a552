"""Ready-made divergences beside KL and JS, on the same footing as one's own (`divergence`).

All of them take (p, q), their order and the keywords of `kl_divergence` except `eps` and `backend`,
and are compiled by Numba when first called. They are metrics of `Accumulator` too, by themselves or
as ``functools.partial(fe.renyi_divergence, alpha=2)``.

Values are right to 1e-14 (float32: 1e-6) for operands of one kind, nearly equal rows too, and
orders up to 10: the rounding of p and q counts |α| times.

>>> import fastent as fe
>>> p, q = [0.75, 0.25], [0.5, 0.5]
>>> float(fe.total_variation(p, q))
0.25
>>> float(fe.chi2_divergence(p, q))
0.25
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from fastent._custom import Divergence

# Terms get d = q − p beside p and q: see `fastent.backends.numba.user_rows`.


def _alpha_term(p: float, q: float, d: float, alpha: float) -> float:
    """(p^α q^(1−α) − αp − (1−α)q) / (α(α−1)), and its limits p·log(p/q) − p + q and the reverse."""
    if q == 0.0:
        return math.inf if alpha >= 1.0 else p / (1.0 - alpha)
    if p == 0.0:
        return math.inf if alpha <= 0.0 else q / alpha
    e, ratio = -d / q, p / q
    usual = 1e-300 < ratio < 1e300
    if abs(e) < 0.5:
        u = math.log1p(e)
    else:
        u = math.log(ratio) if usual else math.log(p) - math.log(q)
    if abs(u) * max(1.0, abs(alpha)) < 1.0:
        # q·Σ u^k/k!·(1 + α + … + α^(k−2)): nothing cancels, at α = 0 and 1 neither
        total, power, weight = 0.0, 0.5 * u * u, 1.0
        for k in range(3, 22):
            total += power * weight
            power *= u / k
            weight = weight * alpha + 1.0
        return q * total
    # from the limit that is farther off, α = 0 or 1, so that nothing is divided by a small number
    near_one = abs(alpha - 1.0) <= abs(alpha)
    order = alpha - 1.0 if near_one else alpha
    x = order * u
    if abs(x) < 1e-17:
        power = u
    elif abs(x) < 1.0 or not usual:
        power = math.expm1(x) / x * u
    else:
        power = (ratio**order - 1.0) / order  # its logarithm is not rounded
    return (p * power + d) / alpha if near_one else (q * power + d) / (alpha - 1.0)


def _affinity(p: float, q: float, d: float, alpha: float) -> float:
    if p == 0.0 or q == 0.0:
        return 0.0
    ratio = p / q
    if 1e-300 < ratio < 1e300:
        return q * ratio**alpha
    return math.exp(alpha * math.log(p) + (1.0 - alpha) * math.log(q))


def _renyi(total: float, affinity: float, alpha: float) -> float:
    excess = alpha * (alpha - 1.0) * total
    if abs(excess) < 1e-17:
        return alpha * total
    # far from 1 the affinity itself is the accurate one: disjoint rows have exactly 0
    inside = math.log1p(excess) if excess > -0.5 else math.log(affinity)
    return inside / (alpha - 1.0)


def _tsallis(total: float, alpha: float) -> float:
    return alpha * total


def _chi2(p: float, q: float, d: float) -> float:
    return math.inf if q == 0.0 else d * (d / q)


def _hellinger(p: float, q: float, d: float) -> float:
    root = d / (math.sqrt(p) + math.sqrt(q))
    return root * root


def _distance(total: float) -> float:
    return math.sqrt(0.5 * total)


def _difference(p: float, q: float, d: float) -> float:
    return 0.5 * abs(d)


def _jeffreys(p: float, q: float, d: float) -> float:
    if p == 0.0 or q == 0.0:
        return math.inf
    e = d / p
    return d * (math.log1p(e) if abs(e) < 0.5 else math.log(q) - math.log(p))


def _any_order(alpha: float) -> None:
    if not math.isfinite(alpha):
        raise ValueError(f"alpha: expected a finite number, got {alpha!r}")


def _positive_order(alpha: float) -> None:
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha: expected a finite number above 0, got {alpha!r}")


def _ready(name: str, term: Callable[..., float], **more: Any) -> Divergence:
    return Divergence(term, third="difference", name=name, ready=True, **more)


_ALPHA = _ready("alpha_divergence", _alpha_term, check=_any_order)
_RENYI = _ready(
    "renyi_divergence",
    _alpha_term,
    finish=_renyi,
    side=_affinity,
    nats=True,
    check=_positive_order,
)
_TSALLIS = _ready("tsallis_divergence", _alpha_term, finish=_tsallis, check=_positive_order)
_CHI2 = _ready("chi2_divergence", _chi2)
_HELLINGER = _ready("hellinger_distance", _hellinger, finish=_distance)
_VARIATION = _ready("total_variation", _difference)
_JEFFREYS = _ready("jeffreys_divergence", _jeffreys, nats=True)
_NAMED = {
    one.name: one for one in (_ALPHA, _RENYI, _TSALLIS, _CHI2, _HELLINGER, _VARIATION, _JEFFREYS)
}
_CALL = re.compile(r"(\w+)(?:\(alpha=([^()]*)\))?")


def named(name: str) -> Any:
    """The ready-made divergence of a name such as ``renyi_divergence(alpha=2.0)``, or None."""
    found = _CALL.fullmatch(name)
    divergence = _NAMED.get(found[1]) if found else None
    if divergence is None or found is None or found[2] is None:
        return divergence
    try:
        return functools.partial(divergence, alpha=float(found[2]))
    except ValueError:
        return None


def _is(divergence: Divergence) -> Callable[[Any], Any]:
    """Mark a public function as that divergence, so that it can be a metric."""

    def mark(function: Any) -> Any:
        function.divergence = divergence
        return function

    return mark


@_is(_RENYI)
def renyi_divergence(p: ArrayLike, q: ArrayLike, alpha: float, **keywords: Any) -> Any:
    """Rényi divergence log(Σ p^α q^(1−α)) / (α − 1) of order α > 0; KL at α = 1.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.
    alpha : float
        The order.
    **keywords
        kind, row_sums, temperature, sample_weight, reduction, base, axis, out and num_threads, as
        in :mod:`fastent.functions`.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Raises
    ------
    ValueError, TypeError
        An order that does not fit; else as `kl_divergence`.

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.renyi_divergence([0.75, 0.25], [0.5, 0.5], 2, base=2)), 12)
    0.321928094887
    """
    return _RENYI(p, q, alpha=alpha, **keywords)


@_is(_TSALLIS)
def tsallis_divergence(p: ArrayLike, q: ArrayLike, alpha: float, **keywords: Any) -> Any:
    """Tsallis divergence (Σ p^α q^(1−α) − 1) / (α − 1) of order α > 0; KL at α = 1.

    Parameters
    ----------
    p, q, alpha, **keywords
        As in `renyi_divergence`, without `base`.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.tsallis_divergence([0.75, 0.25], [0.5, 0.5], 2)), 12)
    0.25
    """
    return _TSALLIS(p, q, alpha=alpha, **keywords)


@_is(_ALPHA)
def alpha_divergence(p: ArrayLike, q: ArrayLike, alpha: float, **keywords: Any) -> Any:
    """α-divergence (Σ p^α q^(1−α) − 1) / (α(α − 1)); KL at α = 1, reverse KL at α = 0.

    Parameters
    ----------
    p, q, alpha, **keywords
        As in `renyi_divergence`, without `base`; any finite order.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Notes
    -----
    Cressie and Read's power divergence is the one with λ = α − 1.

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.alpha_divergence([0.75, 0.25], [0.5, 0.5], 2)), 12)
    0.125
    """
    return _ALPHA(p, q, alpha=alpha, **keywords)


@_is(_CHI2)
def chi2_divergence(p: ArrayLike, q: ArrayLike, **keywords: Any) -> Any:
    """Pearson's χ² divergence Σ (p − q)²/q.

    Parameters
    ----------
    p, q, **keywords
        As in `renyi_divergence`, without `base`.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.chi2_divergence([0.75, 0.25], [0.5, 0.5]))
    0.25
    """
    return _CHI2(p, q, **keywords)


@_is(_HELLINGER)
def hellinger_distance(p: ArrayLike, q: ArrayLike, **keywords: Any) -> Any:
    """Hellinger distance √(½ Σ (√p − √q)²), between 0 and 1.

    Parameters
    ----------
    p, q, **keywords
        As in `renyi_divergence`, without `base`.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.hellinger_distance([1.0, 0.0], [0.0, 1.0]))
    1.0
    """
    return _HELLINGER(p, q, **keywords)


@_is(_VARIATION)
def total_variation(p: ArrayLike, q: ArrayLike, **keywords: Any) -> Any:
    """Total variation ½ Σ |p − q|, between 0 and 1.

    Parameters
    ----------
    p, q, **keywords
        As in `renyi_divergence`, without `base`.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.total_variation([0.75, 0.25], [0.5, 0.5]))
    0.25
    """
    return _VARIATION(p, q, **keywords)


@_is(_JEFFREYS)
def jeffreys_divergence(p: ArrayLike, q: ArrayLike, **keywords: Any) -> Any:
    """Jeffreys divergence Σ (p − q) log(p/q) = KL(p ‖ q) + KL(q ‖ p).

    Parameters
    ----------
    p, q, **keywords
        As in `renyi_divergence`.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.jeffreys_divergence([0.75, 0.25], [0.25, 0.75], base=3)), 12)
    1.0
    """
    return _JEFFREYS(p, q, **keywords)
