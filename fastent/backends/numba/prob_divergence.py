"""KL, JS and cross-entropy of two rows of probabilities, at the cost of the naive formulas.

With G the sum of x log(x/y) - x + y and D that of y - x, KL of the normalised rows is exactly
G / Sp - h(D / Sp), h(x) = x - log1p(x); JS likewise from both halves. Rows that are nearly
proportional but of different sums cancel there, and go to `pairs`.
"""

import math

import numpy as np

from .elementary import SCALE, gkl, log, two_sum
from .intrinsics import is_single, segment_sum
from .logits import first_maximum
from .pairs import CROSS, JS, KL
from .plan import (
    AGAIN,
    CHECK,
    TILE,
    kernel,
)
from .probabilities import BIG, NORMAL, has_nan, has_negative

COLUMNS = (KL, JS, CROSS)
LIFT = 18014398509481984.0  # 2**54
LOG_LIFT = 37.42994775023705


@kernel
def kl_block(p, q, size, a, d, s):
    """x log(x/y) - x + y, y - x and x of a flat block, all times SCALE for float64."""
    single = is_single(p)
    scale = 1.0 if single else SCALE
    negative = 0
    for j in range(size):
        x = np.float64(p[j]) * scale
        y = np.float64(q[j]) * scale
        negative += (x < 0.0) | (y < 0.0)
        d[j] = y - x
        s[j] = x
        a[j] = gkl(x, y, y - x, single)
    return negative


@kernel
def js_block(p, q, size, a, b, d, s):
    """The same of x and of y against their middle."""
    single = is_single(p)
    scale = 1.0 if single else SCALE
    negative = 0
    for j in range(size):
        x = np.float64(p[j]) * scale
        y = np.float64(q[j]) * scale
        negative += (x < 0.0) | (y < 0.0)
        half = 0.5 * x + 0.5 * y
        d[j] = y - x
        s[j] = x
        a[j] = gkl(x, half, 0.5 * (y - x), single)
        b[j] = gkl(y, half, -0.5 * (y - x), single)
    return negative


@kernel
def cross_block(p, q, size, a, d, s):
    """-x log y, x and y of a flat block, without classes of y above 3/4."""
    single = is_single(p)
    negative = 0
    for j in range(size):
        x, y = np.float64(p[j]), np.float64(q[j])
        negative += (x < 0.0) | (y < 0.0)
        kept = not y > BIG
        d[j] = x if kept else 0.0
        s[j] = y if kept else 0.0
        if single:
            term = -x * log(y, single)
        else:
            tiny = y < NORMAL
            term = -x * (log(y * LIFT if tiny else y, single) - (LOG_LIFT if tiny else 0.0))
        term = math.inf if y == 0.0 else term
        term = term if kept else 0.0
        a[j] = 0.0 if x == 0.0 else term
    return negative


@kernel
def remainder(x):
    """x - log1p(x) for x > -1, without cancellation."""
    return gkl(1.0, 1.0 + x, x, False)


@kernel
def prob_pair_rows(first, last, p, q, classes, labels, what, rule, tolerance, out, faults):
    """KL, JS or cross-entropy of rows [first, last)."""
    together = max(1, TILE // classes)
    width = min(TILE, together * classes)
    a = np.empty(width)
    b = np.empty(width if what == JS else 1)
    d = np.empty(width)
    s = np.empty(width)
    sums = np.empty((together, 4))
    single = is_single(p)
    scale = 1.0 if single or what == CROSS else SCALE
    drift = 2e-3 if single else 1e-7
    for begin in range(first, last, together):
        end = min(begin + together, last)
        sums[:] = 0.0
        low0 = low1 = low2 = low3 = 0.0
        negative = 0
        for block in range(begin * classes, end * classes, TILE):
            size = min(TILE, end * classes - block)
            # views, because an index known to start at 0 costs no check and vectorises
            x, y = p[block : block + size], q[block : block + size]
            if what == KL:
                negative += kl_block(x, y, size, a, d, s)
            elif what == JS:
                negative += js_block(x, y, size, a, b, d, s)
            else:
                negative += cross_block(x, y, size, a, d, s)
            part = size if together == 1 else classes
            for r in range(end - begin):
                sums[r, 0], low = two_sum(sums[r, 0], segment_sum(a, r * part, part))
                low0 += low
                sums[r, 1], low = two_sum(sums[r, 1], segment_sum(d, r * part, part))
                low1 += low
                sums[r, 2], low = two_sum(sums[r, 2], segment_sum(s, r * part, part))
                low2 += low
                if what == JS:
                    sums[r, 3], low = two_sum(sums[r, 3], segment_sum(b, r * part, part))
                    low3 += low
        if together == 1:  # with more rows a row is one block, and its low parts are 0
            sums[0, 0] += low0
            sums[0, 1] += low1
            sums[0, 2] += low2
            sums[0, 3] += low3
        for i in range(begin, end):
            out[i] = 0.0
            if labels[i] < 0:
                continue
            r, row = i - begin, i * classes
            g, delta, total = sums[r, 0], sums[r, 1], sums[r, 2]
            big = big_p = 0.0
            if what == CROSS:
                big, place = first_maximum(q, row, classes)
                big_p = np.float64(p[row + place]) if big > BIG else 0.0
                big = big if big > BIG else 0.0
                sum_p, sum_q = delta + big_p, total + big
            else:
                sum_p, sum_q = total / scale, (total + delta) / scale
            if (sum_p != sum_p or sum_q != sum_q) and (
                has_nan(p, row, classes) or has_nan(q, row, classes)
            ):
                out[i] = math.nan
                continue
            bad = negative > 0 and (  # in the tile, but in this row?
                has_negative(p, row, classes) or has_negative(q, row, classes)
            )
            if rule == CHECK:
                bad |= not (abs(sum_p - 1.0) <= tolerance and abs(sum_q - 1.0) <= tolerance)
            else:
                bad |= not (0.5 < sum_p < 2.0 and 0.5 < sum_q < 2.0)
            if bad:  # or of sums far from 1: both are sorted out there
                faults[i] = AGAIN
                continue
            value = math.nan
            if what == CROSS:
                value = g + delta * math.log1p(total + big - 1.0)
                if big_p > 0.0:
                    value += big_p * math.log1p(total / big)
                value /= sum_p
            elif g == math.inf:
                value = g
            elif what == KL:
                g /= total
                back = remainder(delta / total)
                if back <= 0.5 * g or (back == 0.0 and g == 0.0):
                    value = g - back
            else:
                other = total + delta
                both = g / total + sums[r, 3] / other
                back = remainder(0.5 * delta / total) + remainder(-0.5 * delta / other)
                shift = 2.0 * delta / (total + other)
                if (back <= 0.5 * both or both == 0.0) and abs(shift) <= drift:
                    value = 0.5 * (both - back) * (1.0 - 0.215 * shift * shift)
            if value != value:
                faults[i] = AGAIN
            else:
                out[i] = max(value, 0.0)
