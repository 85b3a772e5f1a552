"""Sparse columns, entropy and cross-entropy of a target from logits or log-probabilities.

With m the maximum and s = sum of exp(x - m) over the others, the normaliser is m + log1p(s) and
every column is a short formula of such sums, in which nothing cancels. Odd rows are done once more
in `careful`.
"""

import math

import numpy as np

from . import codes, slots
from .functions import exp_of_sum, exp_scaled, log1p_of, reduction_unit, row_factor, row_scale
from .loops import APART, MOST_ROWS, ODD, SPARE, finish, lane_max, over_rows, put
from .probabilities import in_chunks, settle_rows
from .rows import NONE, look_again, place_labels, scratch, settled, within
from .sums import FEW, row_sums
from .vectors import SINGLE, choose, kernel

TOP, MASS, GAP, COUNT, REST, MOMENT, SQUARE = range(7)  # among the sums of rows
PAD = -math.inf
# what a kernel makes: cross-entropy, entropy too, whatever there is; cross-entropy of a target
LOSS, HEAT, ALL, TARGET = range(4)
OTHERS = (slots.ENTROPY, slots.CONFIDENCE, slots.BRIER, slots.RANK, slots.ACCURACY)


def exp_sums(x, *row):
    """How many are not below the maximum (NaN is not), and the others' exp((x − m)/T) over the
    factor of the row."""
    term, under = exp_scaled(x, row)
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


def target_sums(p, x, *row):
    """Σ p, Σ p (m − x) of a target, and what `exp_sums` gives."""
    heat = choose(p.same(0.0), 0.0, p * (row[0] - x))
    return p, heat, *exp_sums(x, *row)[:2], p.bits()


# with how many arrays are read, and where the sums begin
FORMULAS = {
    LOSS: (exp_sums, 1, 2, COUNT),
    HEAT: (heat_sums, 1, 3, COUNT),
    ALL: (moment_sums, 1, 4, COUNT),
    TARGET: (target_sums, 2, 4, MASS),
}


def unscaled(top, mass, gap, count, rest, moment, square, like, unit):
    """The sums of exp((x − m)/T), of those over the factor of the row."""
    f = row_factor(top, like.element == SINGLE, unit)
    return rest * f, moment * f, square * (f * f), None


def loss_value(top, mass, gap, count, rest, inverse, least):
    """Cross-entropy, and 1 where the row is odd: no finite maximum, or too narrow for float32."""
    s = rest + (count - 1.0)
    sound = (abs(top) < math.inf) & ((count > 1.0) | (rest >= least))
    return settled(gap * inverse + log1p_of(s), sound)


def target_value(top, mass, gap, count, rest, inverse, least, low, high):
    """Cross-entropy against a row of target probabilities."""
    value, odd, _ = loss_value(top, mass, gap / mass, count, rest, inverse, least)
    return settled(value, odd.same(0.0) & within(low, high, mass) & (gap < math.inf))


def sum_value(top, mass, gap, count, rest, moment, square, value, odd, low, high, unit):
    """1 where the row is odd, or one of log-probabilities whose sum is off the bounds."""
    total = exp_of_sum(top, top * 0.0, unit) * (rest + count)
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
    p = exp_of_sum(-gap, gap * 0.0, unit)
    p = choose(gap < math.inf, p, 0.0)
    brier = square + count - p * p + (whole - p) * (whole - p)
    at_top = square + (count - 1.0) + s * s  # the label at the maximum: 1 - p = s / (1 + s)
    brier = choose(gap.same(0.0), at_top, brier) / (whole * whole)
    entropy, _ = heat_value(top, mass, gap, count, rest, moment, unit)
    return entropy, 1.0 / whole, brier, None


map_sums, map_checks = over_rows(unscaled, 7, REST), over_rows(sum_value, 9, ODD)
map_losses, map_targets = over_rows(loss_value, 5), over_rows(target_value, 5)
map_heats, map_others = over_rows(heat_value, 6, SPARE), over_rows(other_values, 7, SPARE)


@kernel
def settle_sums(x, begin, classes, n, s, unit, t):
    """What the sums of n rows are in the end, and NaN as the maximum of rows that have one: it was
    counted as one more maximum."""
    for r in range(n):
        if s[COUNT * APART + r] != 1.0:
            s[TOP * APART + r] = lane_max(x, (begin + r) * classes, classes)
    map_sums(n, s, t, unit)


def row_kernel(few, columns):
    """A kernel of rows of few classes or of many, for some columns; p is the target, if any."""
    formula, reads, sums, to = FORMULAS[columns]
    add = row_sums(formula, reads, sums, few, (0.0, PAD)[-reads:], row_scale, to=to)

    @kernel
    def rows(p, x, classes, labels, unit, limits, t, s, out, others, faults):
        low, high, least, least_mass, most_mass = limits
        for begin in range(0, faults.size, MOST_ROWS):
            n = MOST_ROWS if begin + MOST_ROWS < faults.size else faults.size - begin
            if columns == TARGET:
                noted = add(begin, n, classes, p, x, t, s, faults, unit)
                look_again(noted, p, p, begin, n, classes, False, s, faults)
            else:
                add(begin, n, classes, x, t, s, faults, unit)
            settle_sums(x, begin, classes, n, s, unit, t)
            if columns == TARGET:
                odd = map_targets(n, s, unit[3], least, least_mass, most_mass)
            else:
                for r in range(n):
                    label, top = labels[begin + r] if labels.size > 0 else -1, s[TOP * APART + r]
                    gap = top - x[(begin + r) * classes + label] if label >= 0 else 0.0
                    s[GAP * APART + r] = gap
                odd = map_losses(n, s, unit[3], least)
            if low > -math.inf:
                odd = map_checks(n, s, low, high, unit)
            finish(n, s, odd, out, faults, begin)
            if columns == HEAT:
                map_heats(n, s, unit)
                put(n, s, SPARE, others[0], begin)
            elif columns == ALL:
                entropy, confidence, brier, rank, accuracy = others
                map_others(n, s, unit)
                put(n, s, SPARE, entropy, begin)
                put(n, s, SPARE + 1, confidence, begin)
                put(n, s, SPARE + 2, brier, begin)
                place_labels(x, begin, n, classes, labels, rank, accuracy)

    return rows


ROWS = {(few, columns): row_kernel(few, columns) for few in (False, True) for columns in FORMULAS}


def arithmetic(x, temperature):
    """float32 rows with a temperature are done in float64."""
    return x.dtype if temperature == 1.0 else np.dtype(np.float64)


def limits(rows, dtype, masses=(0.5, 2.0)):
    """What makes a row of logits odd: the bounds of its sum, if it has any; the least sum of the
    others, as what float32 exponentials below the normal range add should not matter; and the
    bounds of its target's sum."""
    sums = rows.bounds(0.0, math.inf) if rows.kinds[-1] == codes.LOGPROBS else (-math.inf, math.inf)
    least = max(8e-28, 4e-30 * rows.classes) if dtype == np.float32 and rows.classes > 1 else -1.0
    return *sums, least, *masses


def run(rows, lines, faults):
    """The columns in `lines`, by slot."""
    x, classes, temperature = rows.pred, rows.classes, rows.temperatures[-1]
    unit, dtype = reduction_unit(temperature), arithmetic(x, temperature)
    loss, others = lines.get(slots.CROSS_ENTROPY, NONE), tuple(lines.get(k, NONE) for k in OTHERS)
    if rows.true is not None and rows.kinds[0] != codes.PROBS:
        check, room = limits(rows, np.float64), scratch(np.float64)
        for here, flat, (p,) in in_chunks(rows, (0,), len(loss)):
            true, line, odd = rows.true[flat], loss[here], faults[here]
            ROWS[False, TARGET](p, x[flat], classes, rows.labels, unit, check, *room, line, (), odd)
            settle_rows(true, p, x[flat], -math.inf, classes, -math.inf, line, odd)
        return
    columns, wanted = (HEAT, others[:1]) if others[0].size else (LOSS, ())
    if any(line.size for line in others[1:]):
        columns, wanted = ALL, others
    target, few = (NONE, classes <= FEW) if rows.true is None else (rows.true, False)
    ROWS[few, columns if rows.true is None else TARGET](
        target, x, classes, rows.labels, unit, limits(rows, dtype, rows.bounds()), *scratch(dtype),
        loss, wanted, faults,
    )  # fmt: skip
