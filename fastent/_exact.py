"""Roots of ratios of exact sums, and the standard error of a mean that is one."""

from __future__ import annotations

import math

PRODUCT_UNIT = 2162  # of squares and products: 2**-2162, so that any of two floats fits
Total = int | float  # an integer in units of 2**-1074, or the inf or nan that decides the sum


def divides(weight: Total) -> bool:
    """Whether rows have shares of a weight: beside an infinite one nothing else has any."""
    return isinstance(weight, int)


def root_of_ratio(p: int, q: int) -> float:
    """√(p / q), correctly rounded, for p ≥ 0 and q > 0."""
    if p <= 0:
        return 0.0
    k = max(0, (q.bit_length() - p.bit_length()) // 2 + 66)
    scaled, rest = divmod(p << 2 * k, q)
    root = math.isqrt(scaled)
    # One more bit says that something was cut off, so that no tie is invented.
    root = 2 * root + (rest > 0 or root * root != scaled)
    try:
        return root / (1 << k + 1)
    except OverflowError:
        return math.inf


def stripped(totals: list[int]) -> tuple[list[int], int]:
    """Totals without their common factor 2**zeros: shorter integers, the same ratios."""
    some = 0
    for total in totals:
        some |= total
    zeros = (some & -some).bit_length() - 1 if some else 0
    return [total >> zeros for total in totals], zeros


def standard_error(S: Total, A: Total, B: Total, W: Total, W2: Total, n: int) -> float | None:
    """√(Σ (x − v̄W)²) / ΣW · √(n/(n−1)) with v̄ = S/ΣW, from exact sums, at any scale of W and x."""
    if n < 2:
        return None
    singles = [x for x in (S, W) if isinstance(x, int)]
    products = [x for x in (A, B, W2) if isinstance(x, int)]
    if len(singles) + len(products) < 5:
        return math.nan
    (s, w), zeros = stripped(singles)
    (a, b, w2), product_zeros = stripped(products)
    squares = a * w * w - 2 * s * b * w + s * s * w2
    # What is left of the units below the line, less what is left above it.
    left = 2 * zeros - product_zeros + PRODUCT_UNIT - 2 * 1074
    return root_of_ratio(squares * n << max(0, -left), w**4 * (n - 1) << max(0, left))
