"""Sparse columns and entropy from logits or log-probabilities.

One pass for the maximum and one for exp(x - m). The first maximum is kept out of every sum, so that
nothing cancels in confident rows: with s = sum of exp(x - m) over the others, the normaliser is
m + log1p(s) and every column is a short formula of such sums.
"""

import math

import numpy as np

from .elementary import constants, exp_gap, scalar, two_sum
from .intrinsics import is_single, segment_max, segment_sum
from .plan import (
    ACCURACY,
    BRIER,
    CHECK,
    CONFIDENCE,
    CROSS_ENTROPY,
    ENTROPY,
    LOGITS,
    PRED_SUM,
    RANK,
    SKIP,
    TARGET_WEIGHT,
    TILE,
    kernel,
)

PART = 128


@scalar
def gap_below(x, m, single):
    """x - m and its rounding error; float32 numbers lose nothing that counts in float64."""
    h = x - m
    if single:
        return h, 0.0
    t = h - x
    low = (x - (h - t)) - (m + t)
    return h, (low if abs(low) < math.inf else 0.0)


@kernel
def first_maximum(x, start, size):
    """Value and place of the first maximum; the place counts from `start`."""
    # a search does not vectorise, so it is confined to the part with the maximum
    top, part = segment_max(x, start, min(PART, size)), 0
    for begin in range(PART, size, PART):
        candidate = segment_max(x, start + begin, min(PART, size - begin))
        if candidate > top or top != top:
            top, part = candidate, begin
    row = x[start : start + size]
    for j in range(part, min(part + PART, size)):
        if row[j] == top:
            return np.float64(top), j
    return math.nan, 0


@kernel
def exp_block(x, size, m, unit, want_heat, want_square, e, heat, square):
    """exp(x - m) of a flat block, times m - x, and squared; `m` holds one maximum an element."""
    single = is_single(x)
    for j in range(size):
        h, low = gap_below(np.float64(x[j]), m[j], single)
        e[j] = exp_gap(h, low, unit, single)
    if want_heat:
        for j in range(size):
            gap = m[j] - np.float64(x[j])
            heat[j] = 0.0 if e[j] == 0.0 else gap * e[j]
    if want_square:
        for j in range(size):
            square[j] = e[j] * e[j]


@kernel
def unbounded_row(x, start, size, label):
    """Sums of a row whose maximum is infinite: +inf classes share the certainty.

    Returns the sum, the place of the first maximum, the label's gap and whether no class is
    possible; the sum is NaN then, as it is when a NaN is there.
    """
    ties, place, has_nan = 0, -1, False
    top = -math.inf
    for j in range(size):
        value = x[start + j]
        has_nan |= value != value
        if value == math.inf:
            top = math.inf
            ties += 1
            if place < 0:
                place = j
    if has_nan or top < 0.0:
        return math.nan, 0, math.nan, not has_nan
    gap = 0.0 if x[start + label] == math.inf else math.inf
    return ties - 1.0, place, gap, False


@kernel
def rank_of(x, start, size, label):
    """Classes above the label plus equal ones before it."""
    row = x[start : start + size]
    value = row[label]
    above = 0
    for j in range(size):
        above += row[j] > value
    for j in range(label):
        above += row[j] == value
    return above


@kernel
def logit_rows(first, last, x, classes, labels, columns, kind, rule, unit, tolerance, out,
               faults):  # fmt: skip
    """Columns of rows [first, last) into `out`; rows that break the sum check into `faults`."""
    unit = constants(unit)
    single = is_single(x)
    inverse = unit[3]
    want_heat = want_square = False
    for column in columns:
        want_heat |= column == ENTROPY
        want_square |= column == BRIER
    together = max(1, TILE // classes)
    width = min(TILE, together * classes)
    m = np.empty(width)
    e = np.empty(width)
    heat = np.empty(width if want_heat else 1)
    square = np.empty(width if want_square else 1)
    tops = np.empty(together)
    places = np.empty(together, np.int64)
    sums = np.empty((together, 3))
    for begin in range(first, last, together):
        end = min(begin + together, last)
        for i in range(begin, end):
            r = i - begin
            top, places[r] = first_maximum(x, i * classes, classes)
            tops[r] = top
            sums[r, :] = 0.0
            for j in range(r * classes, min(width, (r + 1) * classes)):
                m[j] = top
        lows = (0.0, 0.0, 0.0)
        for block in range(begin * classes, end * classes, TILE):
            size = min(TILE, end * classes - block)
            # a view, because an index known to start at 0 costs no check and vectorises
            exp_block(
                x[block : block + size], size, m, unit, want_heat, want_square, e, heat, square
            )
            part = size if together == 1 else classes
            for r in range(end - begin):
                place = (begin + r) * classes + places[r] - block
                if 0 <= place < size:
                    e[place] = 0.0
                    if want_square:
                        square[place] = 0.0
                sums[r, 0], low0 = two_sum(sums[r, 0], segment_sum(e, r * part, part))
                low1 = low2 = 0.0
                if want_heat:
                    sums[r, 1], low1 = two_sum(sums[r, 1], segment_sum(heat, r * part, part))
                if want_square:
                    sums[r, 2], low2 = two_sum(sums[r, 2], segment_sum(square, r * part, part))
                lows = (lows[0] + low0, lows[1] + low1, lows[2] + low2)
        if together == 1:  # with more rows a row is one block, and has no low part
            sums[0, 0] += lows[0]
            sums[0, 1] += lows[1]
            sums[0, 2] += lows[2]
        for i in range(begin, end):
            r = i - begin
            label = labels[i]
            if label < 0:
                out[:, i] = 0.0
                continue
            row = i * classes
            top, place, s, q = tops[r], places[r], sums[r, 0], sums[r, 2]
            gap, low = gap_below(np.float64(x[row + label]), top, single)
            gap = -(gap + low)
            empty = False
            if not abs(top) < math.inf:
                s, place, gap, empty = unbounded_row(x, row, classes, label)
                sums[r, 1], q = 0.0, s
            if kind != LOGITS and rule != SKIP:
                total = math.exp(top) * (1.0 + s) if s == s else (0.0 if empty else math.nan)
                if rule == CHECK:
                    bad = abs(total - 1.0) > tolerance
                else:
                    bad = empty or top == math.inf  # any offset of logarithms can be taken out
                if bad:
                    faults[i] = PRED_SUM
                    continue
            broken = s != s
            for k in range(columns.size):
                column = columns[k]
                if column == CROSS_ENTROPY:
                    value = gap * inverse + math.log1p(s)
                elif column == ENTROPY:
                    value = math.log1p(s) + sums[r, 1] * inverse / (1.0 + s)
                elif column == ACCURACY:
                    value = math.nan if broken else (1.0 if place == label else 0.0)
                elif column == RANK:
                    value = math.nan if broken else float(rank_of(x, row, classes, label))
                elif column == CONFIDENCE:
                    value = 1.0 / (1.0 + s)
                elif column == BRIER:
                    whole = 1.0 + s
                    if place == label:
                        miss, rest = s / whole, q / whole / whole
                    else:
                        mine = exp_gap(-gap, 0.0, unit, single) if gap < math.inf else 0.0
                        miss = (whole - mine) / whole
                        rest = (1.0 + (q - mine * mine)) / whole / whole
                    value = miss * miss + rest
                elif column == TARGET_WEIGHT:
                    value = 1.0
                else:
                    continue
                out[k, i] = value
