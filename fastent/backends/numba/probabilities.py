"""Sparse columns and entropy from probabilities.

log S and log p of a large class cancel when a row is nearly one-hot and its sum S is not exactly 1,
so the large class (at most one exceeds 3/4) is kept out: its surprisal is log1p(R / p) with R the
sum of the others.
"""

import math

import numpy as np

from .careful import sparse_columns, surprisals
from .elementary import log, two_sum
from .intrinsics import is_single, segment_sum
from .logits import first_maximum, rank_of
from .plan import (
    ACCURACY,
    BRIER,
    CHECK,
    CONFIDENCE,
    CROSS_ENTROPY,
    ENTROPY,
    PRED_NEGATIVE,
    PRED_SUM,
    PROBS,
    RANK,
    SKIP,
    TARGET_WEIGHT,
    TILE,
    kernel,
)

BIG = 0.75  # the large class is kept out above this
NORMAL = 2.2250738585072014e-308


@kernel
def prob_block(p, size, want_entropy, want_square, f, small, heat, square):
    """Copies of a flat block, of its classes up to 3/4, their -p log p, and the squares."""
    single = is_single(p)
    negative = 0
    for j in range(size):
        value = np.float64(p[j])
        negative += value < 0.0
        f[j] = value
    if want_entropy:
        for j in range(size):
            value = f[j]
            kept = 0.0 if value > BIG else value
            small[j] = kept
            # below the normal range p log p is under the absolute bound
            heat[j] = 0.0 if kept < NORMAL else -kept * log(kept, single)
    if want_square:
        for j in range(size):
            square[j] = f[j] * f[j]
    return negative


@kernel
def has_nan(x, start, size):
    """Whether a NaN is among `size` numbers."""
    found = 0
    part = x[start : start + size]  # a view: an index known to start at 0 vectorises
    for j in range(size):
        found += part[j] != part[j]
    return found > 0


@kernel
def has_negative(x, start, size):
    """Whether a number below 0 is among `size` numbers."""
    found = 0
    part = x[start : start + size]
    for j in range(size):
        found += part[j] < 0
    return found > 0


@kernel
def prob_rows(first, last, p, classes, labels, columns, rule, tolerance, out, faults):
    """Columns of rows [first, last) into `out`; rows with bad numbers into `faults`."""
    want_entropy = want_square = False
    for column in columns:
        want_entropy |= column == ENTROPY
        want_square |= column == BRIER
    together = max(1, TILE // classes)
    width = min(TILE, together * classes)
    f = np.empty(width)
    small = np.empty(width if want_entropy else 1)
    heat = np.empty(width if want_entropy else 1)
    square = np.empty(width if want_square else 1)
    sums = np.empty((together, 4))
    careful = np.empty((2, classes if rule != CHECK else 1))
    for begin in range(first, last, together):
        end = min(begin + together, last)
        sums[:] = 0.0
        lows = (0.0, 0.0, 0.0, 0.0)
        negative = 0
        for block in range(begin * classes, end * classes, TILE):
            size = min(TILE, end * classes - block)
            negative += prob_block(
                p[block : block + size], size, want_entropy, want_square, f, small, heat, square
            )
            part = size if together == 1 else classes
            for r in range(end - begin):
                place = (begin + r) * classes + labels[begin + r] - block
                if 0 <= place < size and labels[begin + r] >= 0:
                    f[place] = 0.0
                    if want_square:
                        square[place] = 0.0
                sums[r, 0], low0 = two_sum(sums[r, 0], segment_sum(f, r * part, part))
                low1 = low2 = low3 = 0.0
                if want_entropy:
                    sums[r, 1], low1 = two_sum(sums[r, 1], segment_sum(small, r * part, part))
                    sums[r, 2], low2 = two_sum(sums[r, 2], segment_sum(heat, r * part, part))
                if want_square:
                    sums[r, 3], low3 = two_sum(sums[r, 3], segment_sum(square, r * part, part))
                lows = (lows[0] + low0, lows[1] + low1, lows[2] + low2, lows[3] + low3)
        if together == 1:
            sums[0, 0] += lows[0]
            sums[0, 1] += lows[1]
            sums[0, 2] += lows[2]
            sums[0, 3] += lows[3]
        for i in range(begin, end):
            r = i - begin
            label, row = labels[i], i * classes
            if label < 0:
                out[:, i] = 0.0
                continue
            rest, mine = sums[r, 0], np.float64(p[row + label])
            total = rest + mine
            broken = total != total and has_nan(p, row, classes)
            if negative > 0 and not broken and has_negative(p, row, classes):
                faults[i] = PRED_NEGATIVE
                continue
            if broken:
                for k in range(columns.size):
                    if columns[k] >= 0:
                        out[k, i] = 1.0 if columns[k] == TARGET_WEIGHT else math.nan
                continue
            bad = not (0.0 < total < math.inf)
            if rule == CHECK:
                bad = not abs(total - 1.0) <= tolerance
            if bad and rule != SKIP:
                faults[i] = PRED_SUM
                continue
            top, at = 0.0, 0
            for column in columns:
                if column in (ACCURACY, CONFIDENCE, ENTROPY):
                    top, at = first_maximum(p, row, classes)
                    break
            if rule == SKIP or not abs(total - 1.0) <= 0.2:
                surprisals(p, row, classes, PROBS, rule, 1.0, careful[0], careful[1])
                sparse_columns(careful[0], careful[1], label, columns, out, i)
            for k in range(columns.size):
                column = columns[k]
                if column == ACCURACY:
                    out[k, i] = 1.0 if at == label else 0.0
                elif column == RANK:
                    out[k, i] = float(rank_of(p, row, classes, label))
                elif column == TARGET_WEIGHT:
                    out[k, i] = 1.0
            if rule == SKIP or not abs(total - 1.0) <= 0.2:
                continue
            for k in range(columns.size):
                column = columns[k]
                if column == CROSS_ENTROPY:
                    ratio = rest / mine
                    if mine == 0.0:  # of either sign
                        out[k, i] = math.inf
                    elif ratio < math.inf:
                        out[k, i] = math.log1p(ratio)
                    else:
                        out[k, i] = math.log(rest) - math.log(mine)
                elif column == CONFIDENCE:
                    out[k, i] = top / total
                elif column == BRIER:
                    miss = rest / total
                    out[k, i] = miss * miss + sums[r, 3] / total / total
                elif column == ENTROPY:
                    others, big = sums[r, 1], (top if top > BIG else 0.0)
                    value = sums[r, 2] + others * math.log1p(others + big - 1.0)
                    if big > 0.0:
                        value += big * math.log1p(others / big)
                    out[k, i] = max(value / (others + big), 0.0)
