"""Cross-entropy of labels and of a target, entropy and the statistics of a row, from probabilities.

log S and log p of a large class cancel when a row is nearly one-hot and its sum S is not exactly 1,
so the large class (at most one exceeds 3/4) is kept out: its surprisal is log1p(R / p) with R the
sum of the others. Rows that are odd in any way are marked, and done once more in `careful`.
"""

import math

import numpy as np

from fastent.backends.sharing import share

from . import codes, slots
from .functions import (
    LEAST_DOUBLE,
    NEAR,
    is_speck,
    lifted,
    log_normal,
    log_of_sum,
    log_positive,
    log_ratio,
    surprisal_of,
)
from .loops import APART, MOST_ROWS, copy, lane_max, over_rows, settled, smaller, within
from .rows import NONE, SPARE, pair_kernel, place_labels, scratch, settler
from .sums import FEW, row_sums
from .vectors import at, choose, kernel

BIG = 0.75  # the large class is kept out above this
OWN = 2  # where the label's probability stands among the sums
LONG_ROW = 1 << 18  # classes from which the parts of a row are shared among threads
PART = 1 << 14  # classes of a part
OTHERS = (slots.BRIER, slots.RANK, slots.ACCURACY, slots.CONFIDENCE)


@kernel
def negative_rows(x, start, classes, n, faults, begin):
    """AGAIN for the noted rows that have a negative number: a sign may be that of a zero."""
    for r in range(n):
        if faults[begin + r] == codes.NOTED:
            faults[begin + r] = 0
            for j in range(start + r * classes, start + (r + 1) * classes):
                if not x[j] >= 0.0:
                    faults[begin + r] = codes.AGAIN


def log_total(wide, total, sound):
    """log Σ, and whether the row is sound: only sums near 1 are, if not `wide`."""
    near = abs(total - 1.0) <= NEAR
    if wide:
        return choose(near, log_of_sum(total), log_positive(total)), sound
    return log_of_sum(total), sound & near


# --- entropy --------------------------------------------------------------------------------------


def entropy_sums(x):
    """−x log x and x without the large class, and the large class."""
    small = x <= BIG  # not true of NaN, which ends up among the large ones
    term = choose(small, x * surprisal_of(x), 0.0)
    return term, choose(small, x, 0.0), choose(small, 0.0, x), x.bits()


def entropy_value(wide, t, rest, big, limits):
    total = rest + big
    log_sum, sound = log_total(wide, total, within(*limits, total))
    value = t + rest * log_sum + choose(big > 0.0, big * log_ratio(rest, big), 0.0)
    return settled(value / total, sound)


settle_entropy = settler(entropy_value, 3)


def entropy_kernel(few):
    add = row_sums(entropy_sums, 1, 3, few)

    @kernel
    def rows(x, classes, limits, t, s, out, parts, faults):
        """Entropy; `parts`, (3, rows) or empty, gets the sums of rows that are parts of one."""
        for begin in range(0, faults.size, MOST_ROWS):
            n, start = smaller(MOST_ROWS, faults.size - begin), begin * classes
            noted = add(
                n, classes, x.size - start, at(x, start), at(t, 0), at(s, 0), at(faults, begin)
            )
            if noted > 0:
                negative_rows(x, start, classes, n, faults, begin)
            for k in range(parts.shape[0]):
                copy(n, at(s, k * APART), at(parts[k], begin))
            if out.size > 0:
                settle_entropy(n, s, limits, out, faults, begin)

    return rows


ENTROPIES = {few: entropy_kernel(few) for few in (False, True)}
NO_PARTS = np.empty((0, 0))


def entropy(rows, x, out, faults):
    limits = rows.bounds(0.75, 1.5)
    if rows.classes < LONG_ROW:
        ENTROPIES[rows.classes <= FEW](
            x, rows.classes, limits, *scratch(x.dtype), out, NO_PARTS, faults
        )
        return
    for i, row in enumerate(x.reshape(-1, rows.classes)):
        _long_entropy(rows, row, limits, out[i : i + 1], faults[i : i + 1])


def _long_entropy(rows, x, limits, out, faults):
    """Entropy of one row of very many classes, whose parts are shared among the threads."""
    whole = x.size // PART
    sums, odd = np.zeros((3, whole + 1)), np.zeros(whole + 1, np.int8)

    def part(first, last):
        wide = PART if last <= whole else x.size - first * PART
        some = np.empty((3, last - first))
        ENTROPIES[False](
            x[first * PART : last * PART], wide, limits, *scratch(x.dtype), NONE, some,
            odd[first:last],
        )  # fmt: skip
        sums[:, first:last] = some

    threads = rows.spec.num_threads
    share(part, 0, whole, max(1, whole // (4 * threads)), threads)
    if whole * PART < x.size:
        part(whole, whole + 1)
    room = scratch(x.dtype)[1]
    room[[0, APART, 2 * APART]] = [math.fsum(line) for line in sums]
    if odd.any():
        faults[:] = codes.AGAIN
    else:
        settle_entropy(1, room, limits, out, faults, 0)


# --- columns with a label -------------------------------------------------------------------------


def plain_sums(x):
    return x, x.bits()


def square_sums(x):
    return x, x * x, x.bits()


def sparse_value(wide, rest, _, own, limits):
    """Odd where the label has less than nothing, which no sum notes; if not `wide`, next to it."""
    total = rest + own
    log_sum, sound = log_total(wide, total, within(*limits, total))
    log_own = log_positive(own) if wide else log_normal(own)
    sound = sound & (own >= (0.0 if wide else LEAST_DOUBLE))
    return settled(choose(rest < own, log_ratio(rest, own), log_sum - log_own), sound)


def brier_value(rest, square, own):
    total = rest + own
    return (square + rest * rest) / (total * total), None


settle_losses, map_briers = settler(sparse_value, 3), over_rows(brier_value, 3, 1)


@kernel
def extra_columns(x, begin, n, classes, labels, s, others):
    brier, rank, accuracy, confidence = others
    if brier.size > 0:
        map_briers(n, at(s, 0), at(s, SPARE * APART))
        copy(n, at(s, SPARE * APART), at(brier, begin))
    if rank.size + accuracy.size > 0:
        place_labels(x, begin, n, classes, labels, rank, accuracy)
    for r in range(n if confidence.size > 0 else 0):
        total = s[r] + s[OWN * APART + r]
        confidence[begin + r] = lane_max(at(x, (begin + r) * classes), classes) / total


def sparse_kernel(few, squares):
    """Cross-entropy of labels; Brier score, ranks and confidence only if `squares`."""
    formula, sums = (square_sums, 2) if squares else (plain_sums, 1)
    add = row_sums(formula, 1, sums, few, label=True)

    @kernel
    def rows(x, classes, labels, limits, t, s, out, others, faults):
        for begin in range(0, labels.size, MOST_ROWS):
            n, start = smaller(MOST_ROWS, labels.size - begin), begin * classes
            for r in range(n):
                label = labels[begin + r]
                s[OWN * APART + r] = x[start + r * classes + label] if label >= 0 else 1.0
            noted = add(
                n, classes, x.size - start, at(x, start), at(t, 0), at(s, 0), at(faults, begin),
                at(labels, begin),
            )  # fmt: skip
            if noted > 0:
                negative_rows(x, start, classes, n, faults, begin)
            settle_losses(n, s, limits, out, faults, begin)
            if squares:
                extra_columns(x, begin, n, classes, labels, s, others)

    return rows


SPARSE = {(few, more): sparse_kernel(few, more) for few in (False, True) for more in (False, True)}


# --- a target and a prediction --------------------------------------------------------------------


def cross_sums(p, q):
    """−x log y without classes of y above 3/4, and x and y of either side, and whether y is 0."""
    y = lifted(q)
    small = q <= BIG
    term = choose(small, p * surprisal_of(y, 64 if q.single else 512), 0.0)
    sides = (choose(small, p, 0.0), choose(small, 0.0, p), choose(small, q, 0.0))
    return term, *sides, choose(small, 0.0, q), p.bits() | q.bits() | is_speck(y)


def cross_value(wide, t, rest, big, pred_rest, pred_big, limits):
    mass, total = rest + big, pred_rest + pred_big
    log_sum, sound = log_total(wide, total, within(*limits, mass, total))
    value = t + rest * log_sum
    value = value + choose(big > 0.0, big * log_ratio(pred_rest, pred_big), 0.0)
    return settled(value / mass, sound)


CROSS = {few: pair_kernel(cross_sums, cross_value, 5, few) for few in (False, True)}


def run(rows, lines, faults):
    """The columns in `lines`, by slot."""
    x, few, room = rows.pred, rows.classes <= FEW, scratch(rows.pred.dtype)
    if slots.ENTROPY in lines:
        entropy(rows, x, lines[slots.ENTROPY], faults)
    elif rows.true is not None:
        CROSS[few](
            rows.true, x, rows.classes, rows.bounds(), *room, lines[slots.CROSS_ENTROPY], faults
        )
    else:
        loss = lines.get(slots.CROSS_ENTROPY, NONE)
        others = tuple(
            lines.get(slot, NONE)
            for slot in (slots.BRIER, slots.RANK, slots.ACCURACY, slots.CONFIDENCE)
        )
        SPARSE[few, any(line.size for line in others)](
            x, rows.classes, rows.labels, rows.bounds(0.75, 1.5), *room, loss, others, faults
        )
