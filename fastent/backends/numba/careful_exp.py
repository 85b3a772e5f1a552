"""Pairs of float64 that together carry 106 bits, for the few rows whose value hangs on them.

A pair (high, low) stands for high + low with |low| at most half an ulp of high.
"""

import math
from fractions import Fraction

from .functions import EXACT_LN2, split
from .vectors import called, exact_fma, kernel

LN2_PARTS = split(EXACT_LN2, 4, 32)
TERMS = 11
INVERSE_FACTORIALS = tuple(split(Fraction(1, math.factorial(k)), 2) for k in range(TERMS + 1))
HALVINGS = 6

fma = called(exact_fma)


@kernel
def two_sum(a, b):
    """a + b as its rounding and the exact error; the error is 0 where the sum is not finite."""
    s = a + b
    t = s - a
    low = (a - (s - t)) + (b - t)
    return s, (low if abs(s) < math.inf else 0.0)


@kernel
def two_product(a, b):
    """a * b as its rounding and the exact error."""
    p = a * b
    return p, fma(a, b, -p)


@kernel
def dd_add(a, b):
    high, low = two_sum(a[0], b[0])
    tail, rest = two_sum(a[1], b[1])
    high, low = two_sum(high, low + tail)
    return two_sum(high, low + rest)


@kernel
def dd_multiply(a, b):
    high, low = two_product(a[0], b[0])
    return two_sum(high, low + (a[0] * b[1] + a[1] * b[0]))


@kernel
def dd_divide(a, b):
    first = a[0] / b[0]
    high, low = two_product(first, b[0])
    rest = ((a[0] - high) - low) + (a[1] - first * b[1])
    second = rest / b[0]
    high, low = two_product(second, b[0])
    third = ((rest - high) - low - second * b[1]) / b[0]
    high, low = two_sum(first, second)
    return two_sum(high, low + third)


@kernel
def dd_exp(high, low, power):
    """exp(high + low) times 2**power for high <= 0 as a pair."""
    if high != high:
        return (high, 0.0)
    if high < -745.0 - 0.7 * power:
        return (0.0, 0.0)
    n = math.floor(high * 1.4426950408889634 + 0.5)
    r = (high, low)
    for part in LN2_PARTS:
        r = dd_add(r, two_product(-n, part))
    scale = 1.0 / (1 << HALVINGS)
    r = (r[0] * scale, r[1] * scale)
    total = INVERSE_FACTORIALS[TERMS]
    for k in range(TERMS - 1, 0, -1):
        total = dd_add(dd_multiply(total, r), INVERSE_FACTORIALS[k])
    total = dd_multiply(total, r)  # exp(r) - 1
    for _ in range(HALVINGS):
        total = dd_add((2.0 * total[0], 2.0 * total[1]), dd_multiply(total, total))
    total = dd_add((1.0, 0.0), total)
    return (math.ldexp(total[0], int(n) + power), math.ldexp(total[1], int(n) + power))
