"""Ready-made divergences beside KL and JS, on the same footing as one's own (`divergence`).

All of them take (p, q), their order and the keywords of `kl_divergence` except `eps` and `backend`,
and are compiled by Numba when first called. Rows are normalised in float64: values are good to
about 1e-13, less by the cancellation in p − q where rows are nearly equal.

>>> import fastent as fe
>>> p, q = [0.75, 0.25], [0.5, 0.5]
>>> float(fe.total_variation(p, q))
0.25
>>> float(fe.chi2_divergence(p, q))
0.25
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike

from fastent.custom import Divergence


def _alpha_term(p: float, q: float, alpha: float) -> float:
    """(p^α q^(1−α) − αp − (1−α)q) / (α(α−1)), and its limits p·log(p/q) − p + q and the reverse."""
    if q == 0.0:
        return math.inf if alpha >= 1.0 else p / (1.0 - alpha)
    if p == 0.0:
        return math.inf if alpha <= 0.0 else q / alpha
    d = (p - q) / q
    u = math.log1p(d) if abs(d) < 0.5 else math.log(p) - math.log(q)
    if abs(u) * max(1.0, abs(alpha)) < 1.0:
        # q·Σ u^k/k!·(1 + α + … + α^(k−2)): nothing cancels, at α = 0 and 1 neither
        total, power, weight = 0.0, 0.5 * u * u, 1.0
        for k in range(3, 22):
            total += power * weight
            power *= u / k
            weight = weight * alpha + 1.0
        return q * total
    if alpha == 1.0:
        return p * u - p + q
    if alpha == 0.0:
        return -q * u - q + p
    mixed = math.exp(alpha * math.log(p) + (1.0 - alpha) * math.log(q))
    return (mixed - alpha * p - (1.0 - alpha) * q) / (alpha * (alpha - 1.0))


def _affinity(p: float, q: float, alpha: float) -> float:
    if p == 0.0 or q == 0.0:
        return 0.0
    return math.exp(alpha * math.log(p) + (1.0 - alpha) * math.log(q))


def _renyi(total: float, affinity: float, alpha: float) -> float:
    if alpha == 1.0:
        return total
    excess = alpha * (alpha - 1.0) * total
    # far from 1 the affinity itself is the accurate one: disjoint rows have exactly 0
    inside = math.log1p(excess) if excess > -0.5 else math.log(affinity)
    return inside / (alpha - 1.0)


def _tsallis(total: float, alpha: float) -> float:
    return alpha * total


def _chi2(p: float, q: float) -> float:
    return math.inf if q == 0.0 else (p - q) * ((p - q) / q)


def _hellinger(p: float, q: float) -> float:
    d = (p - q) / (math.sqrt(p) + math.sqrt(q))
    return d * d


def _distance(total: float) -> float:
    return math.sqrt(0.5 * total)


def _difference(p: float, q: float) -> float:
    return 0.5 * abs(p - q)


def _jeffreys(p: float, q: float) -> float:
    if p == 0.0 or q == 0.0:
        return math.inf
    d = (p - q) / q
    return (p - q) * (math.log1p(d) if abs(d) < 0.5 else math.log(p) - math.log(q))


_ALPHA = Divergence(_alpha_term, name="alpha_divergence")
_RENYI = Divergence(_alpha_term, finish=_renyi, side=_affinity, nats=True, name="renyi_divergence")
_TSALLIS = Divergence(_alpha_term, finish=_tsallis, name="tsallis_divergence")
_CHI2 = Divergence(_chi2, name="chi2_divergence")
_HELLINGER = Divergence(_hellinger, finish=_distance, name="hellinger_distance")
_VARIATION = Divergence(_difference, name="total_variation")
_JEFFREYS = Divergence(_jeffreys, nats=True, name="jeffreys_divergence")


def _order(alpha: float, *, positive: bool) -> float:
    try:
        order = float(alpha)
    except (TypeError, ValueError):
        raise TypeError(f"alpha: expected a number, got {alpha!r}") from None
    if not math.isfinite(order) or (positive and order <= 0):
        expected = "a finite number above 0" if positive else "a finite number"
        raise ValueError(f"alpha: expected {expected}, got {alpha!r}")
    return order


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

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.renyi_divergence([0.75, 0.25], [0.5, 0.5], 2, base=2)), 12)
    0.321928094887
    """
    return _RENYI(p, q, alpha=_order(alpha, positive=True), **keywords)


def tsallis_divergence(p: ArrayLike, q: ArrayLike, alpha: float, **keywords: Any) -> Any:
    """Tsallis divergence (Σ p^α q^(1−α) − 1) / (α − 1) of order α > 0; KL at α = 1.

    Parameters
    ----------
    p, q, alpha, **keywords
        As in `renyi_divergence`, without `base`.

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.tsallis_divergence([0.75, 0.25], [0.5, 0.5], 2)), 12)
    0.25
    """
    return _TSALLIS(p, q, alpha=_order(alpha, positive=True), **keywords)


def alpha_divergence(p: ArrayLike, q: ArrayLike, alpha: float, **keywords: Any) -> Any:
    """α-divergence (Σ p^α q^(1−α) − 1) / (α(α − 1)); KL at α = 1, reverse KL at α = 0.

    Parameters
    ----------
    p, q, alpha, **keywords
        As in `renyi_divergence`, without `base`; any finite order.

    Notes
    -----
    Cressie and Read's power divergence is the one with λ = α − 1.

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.alpha_divergence([0.75, 0.25], [0.5, 0.5], 2)), 12)
    0.125
    """
    return _ALPHA(p, q, alpha=_order(alpha, positive=False), **keywords)


def chi2_divergence(p: ArrayLike, q: ArrayLike, **keywords: Any) -> Any:
    """Pearson's χ² divergence Σ (p − q)²/q.

    Parameters
    ----------
    p, q, **keywords
        As in `renyi_divergence`, without `base`.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.chi2_divergence([0.75, 0.25], [0.5, 0.5]))
    0.25
    """
    return _CHI2(p, q, **keywords)


def hellinger_distance(p: ArrayLike, q: ArrayLike, **keywords: Any) -> Any:
    """Hellinger distance √(½ Σ (√p − √q)²), between 0 and 1.

    Parameters
    ----------
    p, q, **keywords
        As in `renyi_divergence`, without `base`.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.hellinger_distance([1.0, 0.0], [0.0, 1.0]))
    1.0
    """
    return _HELLINGER(p, q, **keywords)


def total_variation(p: ArrayLike, q: ArrayLike, **keywords: Any) -> Any:
    """Total variation ½ Σ |p − q|, between 0 and 1.

    Parameters
    ----------
    p, q, **keywords
        As in `renyi_divergence`, without `base`.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.total_variation([0.75, 0.25], [0.5, 0.5]))
    0.25
    """
    return _VARIATION(p, q, **keywords)


def jeffreys_divergence(p: ArrayLike, q: ArrayLike, **keywords: Any) -> Any:
    """Jeffreys divergence Σ (p − q) log(p/q) = KL(p ‖ q) + KL(q ‖ p).

    Parameters
    ----------
    p, q, **keywords
        As in `renyi_divergence`.

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.jeffreys_divergence([0.75, 0.25], [0.25, 0.75], base=3)), 12)
    1.0
    """
    return _JEFFREYS(p, q, **keywords)
