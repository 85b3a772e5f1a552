"""Sparse columns, entropy and cross-entropy of a target from logits or log-probabilities.

With m the maximum and s = sum of exp(x - m) over the others, the normaliser is m + log1p(s) and
every column is a short formula of such sums, in which nothing cancels. Odd rows are done once more
in `careful`.
"""

import math
from functools import partial

import numpy as np

from . import codes, slots
from .functions import (
    exp_over,
    exp_share,
    log1p_of,
    reduction_unit,
    row_scale,
    share,
)
from .loops import (
    APART,
    MOST_ROWS,
    copy,
    lane_max,
    mark,
    over_rows,
    settled,
    smaller,
    within,
)
from .probabilities import in_chunks, settle_rows
from .probs_cross_entropy import negative_rows
from .rows import NONE, ODD, SPARE, VALUE, place_labels, scratch
from .sums import FEW, row_sums
from .vectors import at, choose, is_single, kernel

TOP, MASS, GAP, COUNT, REST, MOMENT, SQUARE = range(7)  # among the sums of rows
PAD = -math.inf
LOSS, HEAT, ALL = range(3)  # columns of a kernel: cross-entropy, entropy too, or whatever there is
OTHERS = (slots.ENTROPY, slots.CONFIDENCE, slots.BRIER, slots.RANK, slots.ACCURACY)


def exp_sums(x, *row):
    """How many are not below the maximum (NaN is not), and the others' exp((x − m)/T) over the
    share of the row."""
    term, under = exp_share(x, row)
    return choose(under, term.filled(0.0), 1.0), term, None


def heat_sums(x, *row):
    """The same, and the products with m − x."""
    count, term, _ = exp_sums(x, *row)
    # clamped where the exponential is 0 at the latest
    gap = row[0] - x
    most = 104.0 if x.single else 746.0 / row[-1][3]
    return count, term, choose(gap < most, gap, most) * term, None


def moment_sums(x, *row):
    """The same, and the squares."""
    count, term, heat, _ = heat_sums(x, *row)
    return count, term, heat, term * term, None


FORMULAS = (exp_sums, 2), (heat_sums, 3), (moment_sums, 4)


def shared(single, top, mass, gap, count, rest, moment, square, unit):
    """The sums of exp((x − m)/T), of those over the share of the row."""
    f = share(top, single, unit)
    return rest * f, moment * f, square * (f * f), None


def loss_value(top, mass, gap, count, rest, inverse, least):
    """Cross-entropy, and 1 where the row is odd: no finite maximum, or too narrow for float32."""
    s = rest + (count - 1.0)
    sound = (abs(top) < math.inf) & ((count > 1.0) | (rest >= least))
    return settled(gap * inverse + log1p_of(s), sound)


def sum_value(top, mass, gap, count, rest, moment, square, value, odd, low, high, unit):
    """1 where the row is odd, or one of log-probabilities whose sum is off the bounds."""
    total = exp_over(top, top * 0.0, *unit) * (rest + count)
    sound = odd.same(0.0) & (top <= 1.0) & within(low, high, total)
    return choose(sound, odd, 1.0), ~sound


def heat_value(top, mass, gap, count, rest, moment, unit):
    """Entropy."""
    s = rest + (count - 1.0)
    return log1p_of(s) + moment * unit[3] / (s + 1.0), None


def other_values(top, mass, gap, count, rest, moment, square, unit):
    """Entropy, confidence and Brier score."""
    s = rest + (count - 1.0)
    whole = s + 1.0
    p = exp_over(-gap, gap * 0.0, *unit)
    p = choose(gap < math.inf, p, 0.0)
    brier = square + count - p * p + (whole - p) * (whole - p)
    at_top = square + (count - 1.0) + s * s  # the label at the maximum: 1 - p = s / (1 + s)
    brier = choose(gap.same(0.0), at_top, brier) / (whole * whole)
    entropy, _ = heat_value(top, mass, gap, count, rest, moment, unit)
    return entropy, 1.0 / whole, brier, None


map_single, map_double = (over_rows(partial(shared, single), 7, 3) for single in (True, False))
map_losses, map_sums = over_rows(loss_value, 5, 2), over_rows(sum_value, 9, 1)
map_heats, map_others = over_rows(heat_value, 6, 1), over_rows(other_values, 7, 3)


@kernel
def settle_sums(x, classes, n, s, unit, t):
    """What the sums of n rows are in the end, and NaN as the maximum of rows that have one: it was
    counted as one more maximum."""
    for r in range(n):
        if s[COUNT * APART + r] != 1.0:
            s[TOP * APART + r] = lane_max(at(x, r * classes), classes)
    if is_single(t):
        map_single(n, at(s, 0), at(s, REST * APART), unit)
    else:
        map_double(n, at(s, 0), at(s, REST * APART), unit)


@kernel
def other_columns(x, begin, n, classes, labels, unit, s, others):
    """Columns beside cross-entropy, from the sums of rows."""
    entropy, confidence, brier, rank, accuracy = others
    map_others(n, at(s, 0), at(s, SPARE * APART), unit)
    if entropy.size > 0:
        copy(n, at(s, SPARE * APART), at(entropy, begin))
    if confidence.size > 0:
        copy(n, at(s, (SPARE + 1) * APART), at(confidence, begin))
    if brier.size > 0:
        copy(n, at(s, (SPARE + 2) * APART), at(brier, begin))
    if rank.size + accuracy.size > 0:
        place_labels(x, begin, n, classes, labels, rank, accuracy)


@kernel
def check_sums(n, s, limits, unit, odd, faults, begin):
    """AGAIN where a row is odd, among log-probabilities also by its sum."""
    if limits[0] > -math.inf:
        odd = map_sums(n, at(s, 0), at(s, ODD * APART), limits[0], limits[1], unit)
    if odd > 0:
        mark(n, at(s, ODD * APART), at(faults, begin))


def sparse_kernel(few, columns):
    """A kernel of rows of few classes or of many, for LOSS, HEAT or ALL."""
    formula, sums = FORMULAS[columns]
    add = row_sums(formula, 1, sums, few, (PAD,), row_scale)

    @kernel
    def rows(x, classes, labels, unit, limits, t, s, out, others, faults):
        for begin in range(0, faults.size, MOST_ROWS):
            n, start = smaller(MOST_ROWS, faults.size - begin), begin * classes
            add(
                n, classes, x.size - start, at(x, start), at(t, 0), at(s, COUNT * APART),
                at(faults, begin), at(s, TOP * APART), unit,
            )  # fmt: skip
            settle_sums(x[start:], classes, n, s, unit, t)
            for r in range(n):
                label = labels[begin + r] if labels.size > 0 else -1
                gap = s[TOP * APART + r] - x[start + r * classes + label] if label >= 0 else 0.0
                s[GAP * APART + r] = gap
            odd = map_losses(n, at(s, 0), at(s, VALUE * APART), unit[3], limits[2])
            check_sums(n, s, limits, unit, odd, faults, begin)
            if out.size > 0:
                copy(n, at(s, VALUE * APART), at(out, begin))
            if columns == HEAT:
                map_heats(n, at(s, 0), at(s, SPARE * APART), unit)
                copy(n, at(s, SPARE * APART), at(others[0], begin))
            elif columns == ALL:
                other_columns(x, begin, n, classes, labels, unit, s, others)

    return rows


ROWS = {
    (few, columns): sparse_kernel(few, columns)
    for few in (False, True)
    for columns in (LOSS, HEAT, ALL)
}


# --- a target and a prediction --------------------------------------------------------------------


def target_sums(p, x, *row):
    """Σ p, Σ p (m − x) of a target, and what `exp_sums` gives."""
    heat = choose(p.same(0.0), 0.0, p * (row[0] - x))
    return p, heat, *exp_sums(x, *row)[:2], p.bits()


def target_value(top, mass, gap, count, rest, inverse, least, low, high):
    """Cross-entropy against a row of target probabilities."""
    value, odd, _ = loss_value(top, mass, gap / mass, count, rest, inverse, least)
    return settled(value, odd.same(0.0) & within(low, high, mass) & (gap < math.inf))


map_targets = over_rows(target_value, 5, 2)
add_targets = row_sums(target_sums, 2, 4, pads=(0.0, PAD), prepare=row_scale)


@kernel
def target_rows(p, x, classes, unit, limits, sums, t, s, out, faults):
    """Targets that are rows of probabilities."""
    for begin in range(0, out.size, MOST_ROWS):
        n, start = smaller(MOST_ROWS, out.size - begin), begin * classes
        noted = add_targets(
            n, classes, x.size - start, at(p, start), at(x, start), at(t, 0), at(s, MASS * APART),
            at(faults, begin), at(s, TOP * APART), unit,
        )  # fmt: skip
        if noted > 0:
            negative_rows(p, start, classes, n, faults, begin)
        settle_sums(x[start:], classes, n, s, unit, t)
        odd = map_targets(n, at(s, 0), at(s, VALUE * APART), unit[3], limits[2], sums[0], sums[1])
        check_sums(n, s, limits, unit, odd, faults, begin)
        copy(n, at(s, VALUE * APART), at(out, begin))


def arithmetic(x, temperature):
    """float32 rows with a temperature are done in float64."""
    return x.dtype if temperature == 1.0 else np.dtype(np.float64)


def limits(rows, dtype):
    """What makes a row of logits odd: the bounds of its sum, if it has any, and the least sum of
    the others: what float32 exponentials below the normal range add should not matter."""
    least = max(8e-28, 4e-30 * rows.classes) if dtype == np.float32 and rows.classes > 1 else -1.0
    return *(
        rows.bounds(0.0, math.inf) if rows.kinds[-1] == codes.LOGPROBS else (-math.inf, math.inf)
    ), least


def run(rows, lines, faults):
    """The columns in `lines`, by slot."""
    x, classes, temperature = rows.pred, rows.classes, rows.temperatures[-1]
    unit, dtype = reduction_unit(temperature), arithmetic(x, temperature)
    if rows.true is not None and rows.kinds[0] != codes.PROBS:
        loss, check = lines[slots.CROSS_ENTROPY], limits(rows, np.float64)
        for first, n, (p,) in in_chunks(rows, (0,), len(loss)):
            here = slice(first, first + n)
            target_rows(
                p, x[first * classes : (first + n) * classes], classes, unit, check,
                (0.5, 2.0), *scratch(np.float64), loss[here], faults[here],
            )  # fmt: skip
            settle_rows(rows.true, p, x, -math.inf, first, n, classes, -math.inf, loss, faults)
    elif rows.true is not None:
        target_rows(
            rows.true, x, classes, unit, limits(rows, dtype), rows.bounds(), *scratch(dtype),
            lines[slots.CROSS_ENTROPY], faults,
        )  # fmt: skip
    else:
        others = tuple(lines.get(slot, NONE) for slot in OTHERS)
        columns = HEAT if others[0].size else LOSS
        columns = ALL if any(line.size for line in others[1:]) else columns
        ROWS[classes <= FEW, columns](
            x, classes, rows.labels, unit, limits(rows, dtype), *scratch(dtype),
            lines.get(slots.CROSS_ENTROPY, NONE), others, faults,
        )  # fmt: skip
