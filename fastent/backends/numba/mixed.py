"""Cross-entropy on logits, and divergences of a row of probabilities and one of logits.

The logarithmic side becomes probabilities in float64, which is twice the precision of float32
input. For float64 input that is enough while the divergence is not small; smaller ones go to
`pairs`, where the exponentials have 106 bits.
"""

import math

import numpy as np

from .elementary import constants, exp_gap, two_sum
from .intrinsics import is_single, segment_sum
from .logits import first_maximum, gap_below
from .pairs import JS, KL
from .plan import (
    AGAIN,
    CHECK,
    LOGITS,
    PROBS,
    TILE,
    kernel,
)
from .prob_divergence import js_block, kl_block, remainder
from .probabilities import has_nan, has_negative

COLUMNS = (KL, JS)
LEAST = 1e-300


@kernel
def target_block(t, x, size, m_t, m, kind, unit_t, unit, heat, e, weight):
    """Target weights, their products with m - x, and exp(x - m) of a flat block."""
    single = is_single(x)
    inverse = unit[3]
    for j in range(size):
        high, low = gap_below(np.float64(x[j]), m[j], single)
        e[j] = exp_gap(high, low, unit, single)
        heat[j] = -(high + low) * inverse
    if kind == PROBS:
        for j in range(size):
            weight[j] = np.float64(t[j])
            heat[j] = 0.0 if weight[j] == 0.0 else weight[j] * heat[j]
    else:
        for j in range(size):
            high, low = gap_below(np.float64(t[j]), m_t[j], single)
            weight[j] = exp_gap(high, low, unit_t, single)
            product = 0.0 if weight[j] == 0.0 else weight[j] * heat[j]
            heat[j] = math.inf if (heat[j] == math.inf) & (high > -math.inf) else product


@kernel
def cross_logit_rows(first, last, t, x, classes, labels, kinds, rule, tolerance, unit_t, unit, out,
                     faults):  # fmt: skip
    """Cross-entropy of rows [first, last) on logits or log-probabilities."""
    unit_t, unit = constants(unit_t), constants(unit)
    together = max(1, TILE // classes)
    width = min(TILE, together * classes)
    m_t = np.empty(width)
    m = np.empty(width)
    heat = np.empty(width)
    e = np.empty(width)
    weight = np.empty(width)
    tops = np.zeros((together, 2))
    places = np.empty(together, np.int64)
    sums = np.empty((together, 3))
    for begin in range(first, last, together):
        end = min(begin + together, last)
        for i in range(begin, end):
            r = i - begin
            if kinds[0] != PROBS:
                tops[r, 0] = first_maximum(t, i * classes, classes)[0]
            tops[r, 1], places[r] = first_maximum(x, i * classes, classes)
            for j in range(r * classes, min(width, (r + 1) * classes)):
                m_t[j], m[j] = tops[r, 0], tops[r, 1]
        sums[:] = 0.0
        low0 = low1 = low2 = 0.0
        for block in range(begin * classes, end * classes, TILE):
            size = min(TILE, end * classes - block)
            target_block(
                t[block : block + size], x[block : block + size], size, m_t, m, kinds[0], unit_t,
                unit, heat, e, weight,
            )  # fmt: skip
            part = size if together == 1 else classes
            for r in range(end - begin):
                place = (begin + r) * classes + places[r] - block
                if 0 <= place < size:
                    e[place] = 0.0
                sums[r, 0], low = two_sum(sums[r, 0], segment_sum(heat, r * part, part))
                low0 += low
                sums[r, 1], low = two_sum(sums[r, 1], segment_sum(e, r * part, part))
                low1 += low
                sums[r, 2], low = two_sum(sums[r, 2], segment_sum(weight, r * part, part))
                low2 += low
        if together == 1:
            sums[0, 0] += low0
            sums[0, 1] += low1
            sums[0, 2] += low2
        for i in range(begin, end):
            out[i] = 0.0
            if labels[i] < 0:
                continue
            r, row = i - begin, i * classes
            total, s = sums[r, 2], sums[r, 1]
            value = sums[r, 0] / total + math.log1p(s)
            if kinds[0] == PROBS and has_negative(t, row, classes):
                if not (has_nan(t, row, classes) or has_nan(x, row, classes)):
                    faults[i] = AGAIN
                    continue
            bounded = abs(tops[r, 0]) < math.inf and abs(tops[r, 1]) < math.inf
            if not bounded or (value != value):
                faults[i] = AGAIN
                continue
            if rule == CHECK:
                if kinds[0] != LOGITS:
                    mass = total if kinds[0] == PROBS else math.exp(tops[r, 0]) * total
                    if not abs(mass - 1.0) <= tolerance:
                        faults[i] = AGAIN
                        continue
                if kinds[1] != LOGITS:
                    if not abs(math.exp(tops[r, 1]) * (1.0 + s) - 1.0) <= tolerance:
                        faults[i] = AGAIN
                        continue
            elif kinds[0] == PROBS and not 1e-280 < total < 1e280:
                faults[i] = AGAIN
                continue
            out[i] = value


@kernel
def softmax_row(x, row, classes, unit, y, total):
    """Fill y with exp(x - m) scaled to sum to `total`; returns the maximum and the raw sum."""
    single = is_single(x)
    top = first_maximum(x, row, classes)[0]
    part = x[row : row + classes]
    for j in range(classes):
        high, low = gap_below(np.float64(part[j]), top, single)
        y[j] = exp_gap(high, low, unit, False)  # to float64 even for float32: y - p may be small
    raw = low_part = 0.0
    for block in range(0, classes, TILE):
        raw, error = two_sum(raw, segment_sum(y, block, min(TILE, classes - block)))
        low_part += error
    raw += low_part
    scale = total / raw
    for j in range(classes):
        value = y[j] * scale
        y[j] = 0.0 if value < LEAST else value
    return top, raw


@kernel
def mixed_rows(first, last, p, x, classes, labels, what, backwards, kind, rule, tolerance, unit,
               out, faults):  # fmt: skip
    """KL or JS of probabilities p and logarithmic x; `backwards` is KL of x from p."""
    unit = constants(unit)
    y = np.empty(classes)
    width = min(TILE, classes)
    a = np.empty(width)
    b = np.empty(width)
    d = np.empty(width)
    s = np.empty(width)
    enough = 1e-12 if is_single(p) else 5e-3
    for i in range(first, last):
        out[i] = 0.0
        if labels[i] < 0:
            continue
        row = i * classes
        mass = low = 0.0
        for block in range(0, classes, TILE):
            size = min(TILE, classes - block)
            part = p[row + block : row + block + size]
            for j in range(size):
                a[j] = np.float64(part[j])
            mass, error = two_sum(mass, segment_sum(a, 0, size))
            low += error
        mass += low
        # sums far from 1, infinities and NaN are left to `pairs`
        if not 0.5 < mass < 2.0 or has_negative(p, row, classes):
            faults[i] = AGAIN
            continue
        top, raw = softmax_row(x, row, classes, unit, y, mass)
        if not (abs(top) < math.inf and raw < math.inf):
            faults[i] = AGAIN
            continue
        if rule == CHECK:
            bad_p = not abs(mass - 1.0) <= tolerance
            bad_x = kind != LOGITS and not abs(math.exp(top) * raw - 1.0) <= tolerance
            if bad_p or bad_x:
                faults[i] = AGAIN  # which says whose fault it is
                continue
        first_sum = second_sum = total = moved = 0.0
        for block in range(0, classes, TILE):
            size = min(TILE, classes - block)
            part, other = p[row + block : row + block + size], y[block : block + size]
            if what == JS:
                js_block(other, part, size, a, b, d, s)
                second_sum += segment_sum(b, 0, size)
            elif backwards:
                kl_block(other, part, size, a, d, s)
            else:
                for j in range(size):
                    b[j] = np.float64(part[j])
                kl_block(b, other, size, a, d, s)
            first_sum += segment_sum(a, 0, size)
            moved += segment_sum(d, 0, size)
            total += segment_sum(s, 0, size)
        if what == JS:
            end = total + moved
            value = first_sum / total + second_sum / end
            value = 0.5 * (value - remainder(0.5 * moved / total) - remainder(-0.5 * moved / end))
        else:
            value = first_sum / total - remainder(moved / total)
        if enough <= value < math.inf:
            out[i] = value
        else:
            faults[i] = AGAIN
