"""KL, JS, distances and cross-entropy where both rows are logits or log-probabilities.

v = (b - m_b) - (a - m_a) - c is the log-ratio of a class, free of any common offset. With weights
e^a, F the mean of e^v - 1 - v and E that of e^v - 1: KL = F - phi(log1p(E)), exactly, for every
centre c. A row in which the two nearly cancel is done again, centred on log1p(E).
"""

import math

import numpy as np

from .elementary import constants, exp_gap, kappa, log1p_unit, phi, two_sum
from .intrinsics import is_single, segment_sum
from .logits import first_maximum, gap_below
from .pairs import HELLINGER, JS, KL, TOTAL_VARIATION
from .plan import AGAIN, CHECK, LOGITS, TILE, kernel
from .probabilities import has_nan

COLUMNS = (KL, JS, TOTAL_VARIATION, HELLINGER)
LN2 = 0.6931471805599453


@kernel
def ratio_block(a, b, size, m_a, m_b, centre, centre_low, shrink, unit, f, e, x):
    """Terms of F and E and the weights of a flat block, log-ratios centred."""
    single = is_single(a)
    inverse = unit[3]
    for j in range(size):
        a_high, a_low = gap_below(np.float64(a[j]), m_a[j], single)
        b_high, b_low = gap_below(np.float64(b[j]), m_b[j], single)
        weight = exp_gap(a_high, a_low, unit, single)
        other = exp_gap(b_high, b_low, unit, single) * shrink
        v = ((b_high - a_high) * inverse - centre) + ((b_low - a_low) * inverse - centre_low)
        curve = phi(v, single)
        near = abs(v) <= 2.0
        change = weight * (v + curve) if near else other - weight
        bend = weight * curve if near else change - weight * v
        absent = weight == 0.0
        e[j] = other if absent else change
        bend = other if absent else bend
        hole = (b_high == -math.inf) & (a_high > -math.inf)
        f[j] = math.inf if hole else bend
        x[j] = weight


@kernel
def distance_block(a, b, size, m_a, m_b, centre, centre_low, sum_a, sum_b, unit, what, f):
    """Terms of JS, total variation or the squared Hellinger distance of a flat block."""
    single = is_single(a)
    inverse = unit[3]
    for j in range(size):
        a_high, a_low = gap_below(np.float64(a[j]), m_a[j], single)
        b_high, b_low = gap_below(np.float64(b[j]), m_b[j], single)
        p = exp_gap(a_high, a_low, unit, single) / sum_a
        q = exp_gap(b_high, b_low, unit, single) / sum_b
        u = ((b_high - a_high) * inverse - centre) + ((b_low - a_low) * inverse - centre_low)
        near = abs(u) <= 2.0
        if what == JS:
            least, most = min(p, q), max(p, q)
            ratio = least / most if most > 0.0 else 0.0
            far = 0.5 * (p + q) * (LN2 - log1p_unit(ratio, single))
            far -= 0.5 * abs(u) * least if least > 0.0 else 0.0
            f[j] = (p + q) * kappa(u, single) if near else far
        else:
            z = p * (u + phi(u, single)) if near else q - p
            if what == TOTAL_VARIATION:
                f[j] = 0.5 * abs(z)
            else:
                root = z / (math.sqrt(p) + math.sqrt(q))
                f[j] = 0.0 if z == 0.0 else 0.5 * root * root


@kernel
def excess_of(v):
    """exp(v) - 1 - v for any v."""
    return phi(v, False) if abs(v) <= 2.0 else math.expm1(v) - v


@kernel
def centred_row(a, b, row, classes, m_a, m_b, centre, centre_low, unit, f, e, x):
    """Sums of F, E and the weights over one row for a given centre."""
    shrink = math.exp(-centre)
    total_f = total_e = total_x = low_f = low_e = low_x = 0.0
    for block in range(0, classes, TILE):
        size = min(TILE, classes - block)
        begin = row + block
        ratio_block(
            a[begin : begin + size], b[begin : begin + size], size, m_a, m_b, centre, centre_low,
            shrink, unit, f, e, x,
        )  # fmt: skip
        total_f, low = two_sum(total_f, segment_sum(f, 0, size))
        low_f += low
        total_e, low = two_sum(total_e, segment_sum(e, 0, size))
        low_e += low
        total_x, low = two_sum(total_x, segment_sum(x, 0, size))
        low_x += low
    return total_f + low_f, total_e + low_e, total_x + low_x


@kernel
def distance_row(a, b, row, classes, m_a, m_b, delta, sum_a, sum_b, unit, what, f, e, x):
    """JS or a distance of one row: the centre in two parts, then the terms."""
    moved = centred_row(a, b, row, classes, m_a, m_b, delta, 0.0, unit, f, e, x)[1]
    rest = math.log1p(moved / sum_a)
    total = low = 0.0
    for block in range(0, classes, TILE):
        size = min(TILE, classes - block)
        begin = row + block
        distance_block(
            a[begin : begin + size], b[begin : begin + size], size, m_a, m_b, delta, rest, sum_a,
            sum_b, unit, what, f,
        )  # fmt: skip
        total, error = two_sum(total, segment_sum(f, 0, size))
        low += error
    total += low
    return math.sqrt(total) if what == HELLINGER else total


@kernel
def logit_pair_rows(first, last, a, b, classes, labels, what, kinds, rule, tolerance, unit, out,
                    faults):  # fmt: skip
    """KL, JS or a distance of rows [first, last)."""
    unit = constants(unit)
    together = max(1, TILE // classes)
    width = min(TILE, together * classes)
    m_a = np.empty(width)
    m_b = np.empty(width)
    f = np.empty(width)
    e = np.empty(width)
    x = np.empty(width)
    top_a = np.empty(width)
    top_b = np.empty(width)
    tops = np.empty((together, 2))
    sums = np.empty((together, 3))
    for begin in range(first, last, together):
        end = min(begin + together, last)
        for i in range(begin, end):
            r = i - begin
            tops[r, 0] = first_maximum(a, i * classes, classes)[0]
            tops[r, 1] = first_maximum(b, i * classes, classes)[0]
            for j in range(r * classes, min(width, (r + 1) * classes)):
                m_a[j], m_b[j] = tops[r, 0], tops[r, 1]
        if together == 1:
            row = begin * classes
            sums[0] = centred_row(a, b, row, classes, m_a, m_b, 0.0, 0.0, unit, f, e, x)
        else:
            row, size = begin * classes, (end - begin) * classes
            ratio_block(
                a[row : row + size], b[row : row + size], size, m_a, m_b, 0.0, 0.0, 1.0, unit,
                f, e, x,
            )  # fmt: skip
            for r in range(end - begin):
                sums[r, 0] = segment_sum(f, r * classes, classes)
                sums[r, 1] = segment_sum(e, r * classes, classes)
                sums[r, 2] = segment_sum(x, r * classes, classes)
        for i in range(begin, end):
            out[i] = 0.0
            if labels[i] < 0:
                continue
            r, row = i - begin, i * classes
            big_f, big_e, weight = sums[r, 0], sums[r, 1], sums[r, 2]
            if not (abs(tops[r, 0]) < math.inf and abs(tops[r, 1]) < math.inf) or weight != weight:
                faults[i] = AGAIN
                continue
            if big_e != big_e and (has_nan(a, row, classes) or has_nan(b, row, classes)):
                out[i] = math.nan
                continue
            other = weight + big_e
            if rule == CHECK:
                if kinds[0] != LOGITS:
                    if not abs(math.exp(tops[r, 0]) * weight - 1.0) <= tolerance:
                        faults[i] = AGAIN
                        continue
                if kinds[1] != LOGITS:
                    if not abs(math.exp(tops[r, 1]) * other - 1.0) <= tolerance:
                        faults[i] = AGAIN
                        continue
            delta = math.log1p(big_e / weight)
            if what == KL:
                if big_f == math.inf:
                    out[i] = math.inf
                    continue
                value, back = big_f / weight, excess_of(delta)
            else:
                value, back = 0.0, 1.0
            if not back <= 0.4 * value:
                for j in range(min(width, classes)):
                    top_a[j], top_b[j] = tops[r, 0], tops[r, 1]
                if what == KL:
                    big_f, big_e, weight = centred_row(
                        a, b, row, classes, top_a, top_b, delta, 0.0, unit, f, e, x
                    )
                    value, back = big_f / weight, excess_of(math.log1p(big_e / weight))
                else:
                    value = distance_row(
                        a, b, row, classes, top_a, top_b, delta, weight,
                        total_of(b, row, classes, top_b, unit, f), unit, what, f, e, x,
                    )  # fmt: skip
                    back = 0.0 if value > (1e-140 if what == HELLINGER else 1e-300) else math.inf
            if back <= 0.5 * value:
                out[i] = value - back
            else:
                faults[i] = AGAIN


@kernel
def total_of(b, row, classes, m_b, unit, f):
    """Sum of exp(b - m): A + E has lost it where the other sum is much larger."""
    single = is_single(b)
    total = low = 0.0
    for block in range(0, classes, TILE):
        size = min(TILE, classes - block)
        part = b[row + block : row + block + size]
        for j in range(size):
            high, tail = gap_below(np.float64(part[j]), m_b[j], single)
            f[j] = exp_gap(high, tail, unit, single)
        total, error = two_sum(total, segment_sum(f, 0, size))
        low += error
    return total + low
