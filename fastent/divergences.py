"""Ready-made divergences beside KL and JS, on the same footing as one's own (`divergence`).

All of them take (p, q), their order and the keywords of `kl_divergence` except `eps` and `backend`,
and run on the compiled kernels. They are metrics of `Accumulator` too, by themselves or as
``functools.partial(fe.renyi_divergence, alpha=2)``.

Values are right to 1e-14 (float32: 1e-6) for operands of one kind, nearly equal rows too, and
orders up to 10: the rounding of p and q counts ``|α|`` times.

>>> import fastent as fe
>>> p, q = [0.75, 0.25], [0.5, 0.5]
>>> float(fe.total_variation(p, q))
0.25
>>> float(fe.chi2_divergence(p, q))
0.25
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any, Protocol, Unpack, overload

from numpy.typing import ArrayLike

from fastent._custom import RowDivergence
from fastent._errors import shown
from fastent._keywords import (
    Array,
    Each,
    NatsKeywords,
    PairKeywords,
    Reduced,
    Reduction,
    explained,
)


class ReadyMade(RowDivergence):
    """A divergence that the compiled kernels know: a column of the engine, and its parameter."""

    ready = True

    def __init__(
        self,
        name: str,
        column: str | None = None,
        *,
        parameter: str | None = None,
        check: Callable[[float], None] | None = None,
        nats: bool = False,
    ):
        known = [] if parameter is None else [parameter]
        kind = inspect.Parameter.KEYWORD_ONLY
        super().__init__(name, [inspect.Parameter(p, kind) for p in known], nats)
        self._column = column or name
        self._check = check

    def __reduce__(self) -> Any:
        return ready_made, (self.name,)

    def _made(self, numbers: tuple[float, ...], base: float | None) -> tuple[str, dict[str, Any]]:
        order = numbers[0] if numbers else 0.0
        return self._column, {
            "base": base if self.nats else None,
            "order": order,
            "backend": "cython",
        }

    def _numbers(self, given: dict[str, float]) -> tuple[float, ...]:
        numbers = super()._numbers(given)
        if self._check is not None:
            self._check(*numbers)
        return numbers


def _any_order(alpha: float) -> None:
    if not math.isfinite(alpha):
        raise ValueError(f"alpha: expected a finite number, got {shown(alpha)}")


def _positive_order(alpha: float) -> None:
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha: expected a finite number above 0, got {shown(alpha)}")


_ALPHA = ReadyMade("alpha_divergence", parameter="alpha", check=_any_order)
_RENYI = ReadyMade("renyi_divergence", parameter="alpha", check=_positive_order, nats=True)
_TSALLIS = ReadyMade("tsallis_divergence", parameter="alpha", check=_positive_order)
_CHI2 = ReadyMade("chi2_divergence")
_HELLINGER = ReadyMade("hellinger_distance", "hellinger")
_VARIATION = ReadyMade("total_variation")
_JEFFREYS = ReadyMade("jeffreys_divergence", nats=True)
_NAMED = {
    one.name: one for one in (_ALPHA, _RENYI, _TSALLIS, _CHI2, _HELLINGER, _VARIATION, _JEFFREYS)
}


def ready_made(name: str) -> ReadyMade:
    """The one of that name."""
    return _NAMED[name]


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


def _is(divergence: RowDivergence) -> Callable[[Any], Any]:
    """Mark a public function as that divergence, so that it can be a metric."""

    def mark(function: Any) -> Any:
        function.divergence = divergence
        return function

    return mark


class PlainDivergence(Protocol):
    """What type checkers see of the divergences that have no order and are in no unit."""

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        reduction: Each = "none",
        **keywords: Unpack[PairKeywords],
    ) -> Array: ...

    @overload
    def __call__(
        self, p: ArrayLike, q: ArrayLike, *, reduction: Reduced, **keywords: Unpack[PairKeywords]
    ) -> float: ...

    @overload
    def __call__(
        self, p: ArrayLike, q: ArrayLike, *, reduction: Reduction, **keywords: Unpack[PairKeywords]
    ) -> Array | float: ...


class OrderedDivergence(Protocol):
    """Of those of an order that are in no unit."""

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        alpha: float,
        *,
        reduction: Each = "none",
        **keywords: Unpack[PairKeywords],
    ) -> Array: ...

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        alpha: float,
        *,
        reduction: Reduced,
        **keywords: Unpack[PairKeywords],
    ) -> float: ...

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        alpha: float,
        *,
        reduction: Reduction,
        **keywords: Unpack[PairKeywords],
    ) -> Array | float: ...


def _plain(divergence: RowDivergence) -> Callable[[Any], PlainDivergence]:
    return _is(divergence)


def _ordered(divergence: RowDivergence) -> Callable[[Any], OrderedDivergence]:
    return _is(divergence)


@overload
def renyi_divergence(
    p: ArrayLike,
    q: ArrayLike,
    alpha: float,
    *,
    reduction: Each = "none",
    **keywords: Unpack[NatsKeywords],
) -> Array: ...


@overload
def renyi_divergence(
    p: ArrayLike,
    q: ArrayLike,
    alpha: float,
    *,
    reduction: Reduced,
    **keywords: Unpack[NatsKeywords],
) -> float: ...


@overload
def renyi_divergence(
    p: ArrayLike,
    q: ArrayLike,
    alpha: float,
    *,
    reduction: Reduction,
    **keywords: Unpack[NatsKeywords],
) -> Array | float: ...


@_is(_RENYI)
@explained
def renyi_divergence(
    p: ArrayLike,
    q: ArrayLike,
    alpha: float,
    *,
    reduction: Reduction = "none",
    **keywords: Unpack[NatsKeywords],
) -> Array | float:
    """Rényi divergence log(Σ p^α q^(1−α)) / (α − 1) of order α > 0; KL at α = 1.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.
    alpha : float
        The order.

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
    return _RENYI(p, q, alpha=alpha, reduction=reduction, **keywords)


@_ordered(_TSALLIS)
@explained
def tsallis_divergence(
    p: ArrayLike,
    q: ArrayLike,
    alpha: float,
    *,
    reduction: Reduction = "none",
    **keywords: Unpack[PairKeywords],
) -> Array | float:
    """Tsallis divergence (Σ p^α q^(1−α) − 1) / (α − 1) of order α > 0; KL at α = 1.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.
    alpha : float
        The order.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.tsallis_divergence([0.75, 0.25], [0.5, 0.5], 2)), 12)
    0.25
    """
    return _TSALLIS(p, q, alpha=alpha, reduction=reduction, **keywords)


@_ordered(_ALPHA)
@explained
def alpha_divergence(
    p: ArrayLike,
    q: ArrayLike,
    alpha: float,
    *,
    reduction: Reduction = "none",
    **keywords: Unpack[PairKeywords],
) -> Array | float:
    """α-divergence (Σ p^α q^(1−α) − 1) / (α(α − 1)); KL at α = 1, reverse KL at α = 0.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.
    alpha : float
        The order; any finite number.

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
    return _ALPHA(p, q, alpha=alpha, reduction=reduction, **keywords)


@_plain(_CHI2)
@explained
def chi2_divergence(
    p: ArrayLike, q: ArrayLike, *, reduction: Reduction = "none", **keywords: Unpack[PairKeywords]
) -> Array | float:
    """Pearson's χ² divergence Σ (p − q)²/q.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.chi2_divergence([0.75, 0.25], [0.5, 0.5]))
    0.25
    """
    return _CHI2(p, q, reduction=reduction, **keywords)


@_plain(_HELLINGER)
@explained
def hellinger_distance(
    p: ArrayLike, q: ArrayLike, *, reduction: Reduction = "none", **keywords: Unpack[PairKeywords]
) -> Array | float:
    """Hellinger distance √(½ Σ (√p − √q)²), between 0 and 1.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.hellinger_distance([1.0, 0.0], [0.0, 1.0]))
    1.0
    """
    return _HELLINGER(p, q, reduction=reduction, **keywords)


@_plain(_VARIATION)
@explained
def total_variation(
    p: ArrayLike, q: ArrayLike, *, reduction: Reduction = "none", **keywords: Unpack[PairKeywords]
) -> Array | float:
    """Total variation ``½ Σ |p − q|``, between 0 and 1.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.total_variation([0.75, 0.25], [0.5, 0.5]))
    0.25
    """
    return _VARIATION(p, q, reduction=reduction, **keywords)


@overload
def jeffreys_divergence(
    p: ArrayLike, q: ArrayLike, *, reduction: Each = "none", **keywords: Unpack[NatsKeywords]
) -> Array: ...


@overload
def jeffreys_divergence(
    p: ArrayLike, q: ArrayLike, *, reduction: Reduced, **keywords: Unpack[NatsKeywords]
) -> float: ...


@overload
def jeffreys_divergence(
    p: ArrayLike, q: ArrayLike, *, reduction: Reduction, **keywords: Unpack[NatsKeywords]
) -> Array | float: ...


@_is(_JEFFREYS)
@explained
def jeffreys_divergence(
    p: ArrayLike, q: ArrayLike, *, reduction: Reduction = "none", **keywords: Unpack[NatsKeywords]
) -> Array | float:
    """Jeffreys divergence Σ (p − q) log(p/q) = KL(p ‖ q) + KL(q ‖ p).

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.jeffreys_divergence([0.75, 0.25], [0.25, 0.75], base=3)), 12)
    1.0
    """
    return _JEFFREYS(p, q, reduction=reduction, **keywords)
