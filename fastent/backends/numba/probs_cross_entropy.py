"""Cross-entropy of labels and of a target, entropy and the statistics of a row, from probabilities.

log S and log p of a large class cancel when a row is nearly one-hot and its sum S is not exactly 1,
so the large class (at most one exceeds 3/4) is kept out: its surprisal is log1p(R / p) with R the
sum of the others. Rows that are odd in any way are marked, and done once more in `careful`.
"""

import math

import numpy as np

from fastent.backends.sharing import share

from . import codes, slots
from .functions import is_speck, lifted, log_of, log_ratio, log_total, surprisal_of
from .loops import APART, MOST_ROWS, SPARE, lane_max, over_rows, put
from .rows import NONE, look_again, pair_kernel, place_labels, scratch, settled, settler, within
from .sums import FEW, row_sums
from .vectors import choose, kernel

BIG = 0.75  # the large class is kept out above this
OWN = 2  # where the label's probability stands among the sums
LONG_ROW = 1 << 18  # classes from which the parts of a row are shared among threads
PART = 1 << 14  # classes of a part
ENTROPY, LOSS, ALL = range(3)  # what a kernel makes
OTHERS = (slots.BRIER, slots.RANK, slots.ACCURACY, slots.CONFIDENCE)


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


def plain_sums(x):
    return x, x.bits()


def square_sums(x):
    return x, x * x, x.bits()


def sparse_value(wide, rest, _, own, limits):
    """Odd where the label has less than nothing, which no sum notes; if not `wide`, next to it."""
    total = rest + own
    log_sum, sound = log_total(wide, total, within(*limits, total))
    log_own, sound = log_of(wide, own, sound)
    return settled(choose(rest < own, log_ratio(rest, own), log_sum - log_own), sound)


def brier_value(rest, square, own):
    total = rest + own
    return (square + rest * rest) / (total * total), None


map_briers = over_rows(brier_value, 3, SPARE)


settle_entropy, settle_losses = settler(entropy_value, 3), settler(sparse_value, 3)
FORMULAS = {
    ENTROPY: (entropy_sums, 3, settle_entropy),
    LOSS: (plain_sums, 1, settle_losses),
    ALL: (square_sums, 2, settle_losses),
}


def row_kernel(few, columns):
    """Entropy; or cross-entropy of labels, and for ALL whatever there is beside it."""
    formula, sums, settle = FORMULAS[columns]
    add = row_sums(formula, 1, sums, few, label=columns != ENTROPY)

    @kernel
    def rows(x, classes, labels, limits, t, s, out, others, faults):
        for begin in range(0, faults.size, MOST_ROWS):
            n = MOST_ROWS if begin + MOST_ROWS < faults.size else faults.size - begin
            if columns == ENTROPY:
                noted = add(begin, n, classes, x, t, s, faults)
            else:
                for r in range(n):
                    label = labels[begin + r]
                    s[OWN * APART + r] = x[(begin + r) * classes + label] if label >= 0 else 1.0
                noted = add(begin, n, classes, x, t, s, faults, labels)
            look_again(noted, x, x, begin, n, classes, False, s, faults)
            if columns != ENTROPY or out.size > 0:
                settle(n, s, limits, out, faults, begin)
            if columns == ALL:
                brier, rank, accuracy, confidence = others
                map_briers(n, s)
                put(n, s, SPARE, brier, begin)
                place_labels(x, begin, n, classes, labels, rank, accuracy)
                for r in range(n if confidence.size > 0 else 0):
                    total = s[r] + s[OWN * APART + r]
                    confidence[begin + r] = lane_max(x, (begin + r) * classes, classes) / total

    return rows


ROWS = {(few, columns): row_kernel(few, columns) for few in (False, True) for columns in FORMULAS}


def _long_entropy(rows, x, limits, out, faults):
    """Entropy of one row of very many classes, whose parts are shared among the threads."""
    whole = x.size // PART
    sums, odd = np.zeros((3, whole + 1)), np.zeros(whole + 1, np.int8)

    def part(first, last):
        piece, (t, s) = x[first * PART : last * PART], scratch(x.dtype)
        classes, here = piece.size // (last - first), odd[first:last]
        ROWS[False, ENTROPY](piece, classes, rows.labels, limits, t, s, NONE, (), here)
        sums[:, first:last] = s[: 3 * APART].reshape(3, APART)[:, : last - first]

    threads = rows.spec.num_threads
    share(part, 0, whole, min(max(1, whole // (4 * threads)), MOST_ROWS), threads)
    if whole * PART < x.size:
        part(whole, whole + 1)
    s = scratch(x.dtype)[1]
    s[[0, APART, 2 * APART]] = [math.fsum(line) for line in sums]
    if odd.any():
        faults[:] = codes.AGAIN
    else:
        settle_entropy(1, s, limits, out, faults, 0)


def cross_sums(p, q):
    """−x log y without classes of y above 3/4, x and y of these and of the others, and whether y is
    0."""
    y = lifted(q)
    small = q <= BIG
    term = choose(small, p * surprisal_of(y, 64 if q.single else 512), 0.0)
    parts = (choose(small, p, 0.0), choose(small, 0.0, p), choose(small, q, 0.0))
    return term, *parts, choose(small, 0.0, q), p.bits() | q.bits() | is_speck(y)


def cross_value(wide, t, rest, big, pred_rest, pred_big, limits):
    mass, total = rest + big, pred_rest + pred_big
    log_sum, sound = log_total(wide, total, within(*limits, mass, total))
    value = t + rest * log_sum
    value = value + choose(big > 0.0, big * log_ratio(pred_rest, pred_big), 0.0)
    return settled(value / mass, sound)


CROSS = {few: pair_kernel(cross_sums, cross_value, 5, few) for few in (False, True)}


def run(rows, lines, faults):
    """The columns in `lines`, by slot."""
    x, classes, few, limits = rows.pred, rows.classes, rows.classes <= FEW, rows.bounds(0.75, 1.5)
    loss = lines.get(slots.CROSS_ENTROPY, NONE)
    if rows.true is not None:
        CROSS[few](rows.true, x, classes, rows.bounds(), *scratch(x.dtype), loss, faults)
    elif slots.ENTROPY in lines and classes >= LONG_ROW:
        for i, row in enumerate(x.reshape(-1, classes)):
            here = slice(i, i + 1)
            _long_entropy(rows, row, limits, lines[slots.ENTROPY][here], faults[here])
    else:
        others = tuple(lines.get(slot, NONE) for slot in OTHERS)
        columns = ALL if any(line.size for line in others) else LOSS
        if slots.ENTROPY in lines:
            columns, loss = ENTROPY, lines[slots.ENTROPY]
        ROWS[few, columns](
            x, classes, rows.labels, limits, *scratch(x.dtype), loss,
            others if columns == ALL else (), faults,
        )  # fmt: skip
