"""Elementary functions whose naive forms lose digits, over float64 arrays.

Where two numbers are close, their rounded difference or ratio has lost what matters; so the
functions below take or return the exact difference, and are right to a few ulps with it.
"""

import numpy as np

# (atanh(s)/s - 1) / s² in powers of s², minimax on |s| <= 1/3
ATANH = (
    0.33333333333333329281, 0.20000000000007291337, 0.14285714283554378581,
    0.11111111358713931495, 0.090908947180664290846, 0.076927850324793115517,
    0.066570721048274680752, 0.060005364047953562676, 0.044003692430723369411,
    0.080820228059717661105,
)  # fmt: skip
SPLITTER = 134217729.0  # 2^27 + 1 cuts a float64 into two halves of 26 bits
NEGLIGIBLE = 1e-290  # products of anything smaller may be subnormal, with few bits left


def polynomial(x, coefficients):
    """Horner's rule, lowest power first."""
    y = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        y *= x
        y += c
    return y


def two_diff(a, b):
    """a - b as the rounded difference and its rounding error (0 where it is infinite)."""
    s = a - b
    t = s - a
    e = (a - (s - t)) - (b + t)
    return s, np.where(np.isfinite(e), e, 0.0)


def two_sum(a, b):
    """a + b as the rounded sum and its rounding error, for finite numbers."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def split(a):
    """High and low half of a; the sum is exact (Dekker)."""
    t = SPLITTER * a
    high = t - (t - a)
    return high, a - high


def two_product(a, b):
    """a·b as the rounded product and its rounding error: what an fma would give."""
    p = a * b
    ah, al = split(a)
    bh, bl = split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def divide(high, low, divisor):
    """(high + low) / divisor, with the remainder of the division going to the low part."""
    quotient = high / divisor
    product, error = two_product(quotient, divisor)
    low = (((high - product) - error) + low) / divisor
    return quotient, np.where(np.isfinite(low), low, 0.0)


def log_ratio(x, y):
    """log(x/y) for x, y >= 0, also when the ratio overflows or x is subnormal."""
    ratio = x / y
    value = np.log(ratio)
    # a subnormal ratio has few bits left; both logarithms are far apart there
    extreme = ~((ratio > NEGLIGIBLE) & (ratio < 1 / NEGLIGIBLE))
    if extreme.any():
        x, y = (np.broadcast_to(a, ratio.shape)[extreme] for a in (x, y))
        value[extreme] = np.log(x) - np.log(y)
    return value


def gkl(x, y, d, x_log):
    """x·log(x/y) - x + y >= 0, with d = y - x and x_log = x·log(y/x) given.

    With y/x = (1+s)/(1-s), log(y/x) is 2·atanh(s): within an octave (|s| <= 1/3) the first-order
    terms d - 2xs = d·s are collected by hand, so that nothing cancels when x and y are close.
    Farther out, d - x_log loses at most a factor of six.
    """
    s = d / (x + y)
    w = s * s
    near = d * s - 2 * x * s * w * polynomial(w, ATANH)
    return np.where(np.abs(s) <= 1 / 3, near, d - x_log)
