"""Student's t and the binomial sign test, by the incomplete beta function: 1e-12 and better, no
SciPy."""

from __future__ import annotations

import math
from functools import lru_cache

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
LEVEL = 0.95  # of intervals
# Coefficients of Stirling's series, ln Γ(n+1) − (n + ½) ln n + n − ½ ln 2π = Σ s_k / n^(2k+1)
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)


def _stirling_error(n: float) -> float:
    """What Stirling's formula lacks of ln n!"""
    if n < 12:
        # From above by ln n! = ln (n+1)! − ln(n+1): a difference of logarithms of Γ loses digits.
        error = 0.0
        while n < 12:
            error += _stirling_step(n)
            n += 1
        return error + _stirling_error(n)
    square = 1 / (n * n)
    total = 0.0
    for coefficient in reversed(STIRLING):
        total = total * square + coefficient
    return total / n


def _stirling_step(n: float) -> float:
    """How much the error falls from n to n + 1: (n + ½) ln(1 + 1/n) − 1, from its series where it
    cancels."""
    if n < 1:
        return (n + 0.5) * math.log1p(1 / n) - 1 if n > 0 else math.inf
    w = 1 / (2 * n + 1) ** 2
    total, power, k = 0.0, w, 3
    while power / k > 1e-18 * total:
        total += power / k
        power *= w
        k += 2
    return total


def _deviance(x: float, mean: float, excess: float) -> float:
    """x ln(x / mean) + mean − x ≥ 0; ``excess`` is x − mean, known better than by subtraction."""
    v = excess / (x + mean)
    if abs(v) > 0.1:
        return x * math.log(x / mean) - excess
    # x ln((1+v)/(1−v)) less its first term, as a series: nothing cancels
    total, term, k = excess * v, 2 * x * v, 1
    while True:
        term *= v * v
        before, total = total, total + term / (2 * k + 1)
        if total == before:
            return total
        k += 1


def _density(a: float, b: float, x: float, y: float) -> float:
    """x^a y^b / B(a, b) for y = 1 − x, by Loader's saddle-point expansion."""
    n = a + b
    excess = n * y - b if y < x else a - n * x  # of a over its mean
    exponent = (
        _stirling_error(n) - _stirling_error(a) - _stirling_error(b)
        - _deviance(a, n * x, excess) - _deviance(b, n * y, -excess)
    )  # fmt: skip
    # n!/(a! b!)·x^a·y^b, and a·b/(a+b) of it
    return math.sqrt(a * b / (2 * math.pi * n)) * math.exp(exponent)


def incomplete_beta(a: float, b: float, x: float, y: float | None = None) -> float:
    """I_x(a, b), regularised, for a, b > 0; ``y`` is 1 - x where that is known better."""
    y = 1 - x if y is None else y
    if x <= 0 or y <= 0:
        return 0.0 if x <= 0 else 1.0
    if x * (a + b + 2) > a + 1:  # the other tail converges
        return 1 - incomplete_beta_tail(b, a, y, x)
    return incomplete_beta_tail(a, b, x, y)


def incomplete_beta_tail(a: float, b: float, x: float, y: float) -> float:
    """The same by the continued fraction of Didonato and Morris, which nothing cancels in for x
    below the mean, however large a is."""
    excess = (a + b) * y - b if y < x else a - (a + b) * x
    first, per_a = 1 + excess, 1 + 1 / a
    share, n, p, s = per_a / first, 0, 1.0, a + 1
    before, below = (0.0, 1.0), (1.0, first / per_a)  # the last two numerators and denominators
    while True:
        n += 1
        w = n * (b - n) * x
        alpha = p * (p + b / a) * (a / s) ** 2 * w * x
        p = n / a + 1
        beta = n + w / s + p / (per_a + 2 * n / a) * (first + n * (1 + y))
        s += 2
        before = before[1], alpha * before[0] + beta * before[1]
        below = below[1], alpha * below[0] + beta * below[1]
        last, share = share, before[1] / below[1]
        if abs(share - last) <= 1e-16 * abs(share) or n > 10_000_000:
            return _density(a, b, x, y) * share
        before = before[0] / below[1], share
        below = below[0] / below[1], 1.0


def two_sided(t: float, degrees: float) -> float:
    """P(|T| ≥ |t|) of Student's t; nan for no degrees of freedom."""
    if math.isnan(t) or degrees <= 0:
        return math.nan
    if math.isinf(t):
        return 0.0
    square = t * t
    total = degrees + square
    return incomplete_beta(degrees / 2, 0.5, degrees / total, square / total)


@lru_cache(maxsize=1024)  # a report asks for the same one for each of its means
def quantile(degrees: float, level: float = LEVEL) -> float:
    """t for which P(|T| < t) is ``level``; nan for no degrees of freedom."""
    if degrees <= 0:
        return math.nan
    tail, low, high = 1 - level, 0.0, 1.0
    while two_sided(high, degrees) > tail:
        low, high = high, 2 * high
    t = (low + high) / 2
    for _ in range(100):
        miss = two_sided(t, degrees) - tail
        low, high = (t, high) if miss > 0 else (low, t)
        # dP/dt = −2·density
        slope = -2 * math.sqrt(degrees) / (degrees + t * t) * _root_density(degrees, t)
        step = t - miss / slope if slope else math.nan
        step = step if low < step < high else (low + high) / 2
        if abs(step - t) <= 1e-15 * t:
            return step
        t = step
    return t


def _root_density(degrees: float, t: float) -> float:
    """(ν/(ν+t²))^((ν−1)/2)/B(ν/2, ½), of which Student's density is √ν/(ν+t²) of … times
    ν/(ν+t²)."""
    total = degrees + t * t
    y = t * t / total
    return _density(degrees / 2, 0.5, degrees / total, y) / math.sqrt(y)


def interval(value: float, error: float | None, degrees: float) -> list[float] | None:
    """The 95 % interval of a mean; None without an error."""
    if error is None or degrees < 1:
        return None
    half = quantile(degrees) * error
    return [value - half, value + half]


def p_value(value: float, error: float | None, degrees: float) -> float | None:
    """Two-sided, that a mean is 0; None without an error."""
    if error is None or degrees < 1:
        return None
    if error == 0:
        return math.nan if value == 0 else 0.0
    return two_sided(value / error, degrees)


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p-value of McNemar's test: of counts that differ as far as these or
    further."""
    few, total = min(lost, gained), lost + gained
    if 2 * few >= total:
        return 1.0
    # P(X ≤ few) of a binomial of ½
    return min(1.0, 2 * incomplete_beta(total - few, few + 1, 0.5, 0.5))
