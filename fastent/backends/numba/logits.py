"""Sparse columns, entropy and cross-entropy of a target from logits or log-probabilities.

With m the maximum and s = sum of exp(x - m) over the others, the normaliser is m + log1p(s) and
every column is a short formula of such sums, in which nothing cancels. Rows of few classes lie
across the vectors; others are mapped one by one. Odd rows are done once more in `careful`.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .formulas import exp_over, exp_share, log1p_of, row_scale, share
from .fused import summed
from .lanes import DOUBLE, Number, choose
from .loops import BYTES, at, element_of, is_single, number, resized, size_of, spread, store
from .plan import kernel
from .probabilities import rank_of
from .sums import (
    APART,
    MOST_ROWS,
    SPARE,
    copy,
    lane_max,
    lane_top,
    mark,
    row_loop,
    settled,
    smaller,
)

FEW = 16  # classes up to which rows lie across the vectors
TOP, GAP, COUNT, REST, MOMENT, SQUARE, VALUE, ODD = range(8)  # among the sums of rows
MASS = MOMENT  # of a target, which has no moments
NEAR = 1 << 13  # elements that stay in the first cache from one pass over them to the next
PAD = -math.inf


def exp_sums(x, *row):
    """How many are not below the maximum (NaN is not), and the others' exp((x − m)/T) over the
    share of the row."""
    term, under = exp_share(x, row)
    return choose(under, term._new(term.lift(0.0)), 1.0), term, None, None


def moment_sums(x, *row):
    """The same, and the products with m − x and with itself."""
    count, term, *_ = exp_sums(x, *row)
    # clamped where the exponential is 0 at the latest
    gap = row[0] - x
    most = 104.0 if x.single else 746.0 / row[-1][3]
    return count, term, choose(gap < most, gap, most) * term, term * term, None, None


def target_sums(p, x, *row):
    """Σ p (m − x) of a target, what `exp_sums` gives, and Σ p."""
    heat = choose(p.same(0.0), 0.0, p * (row[0] - x))
    return heat, *exp_sums(x, *row)[:2], p, p.bits(), None


def loss_value(top, gap, count, rest, inverse, least, check, low, high, unit):
    """Cross-entropy, and 1 where the row is odd: no finite maximum, too narrow for float32, or a
    sum of log-probabilities off the bounds."""
    s = rest + (count - 1.0)
    mass = exp_over(top * check, top * 0.0, *unit) * (s + 1.0)
    sound = (abs(top) < math.inf) & (top * check <= 1.0) & (mass >= low) & (mass <= high)
    sound = sound & ((count > 1.0) | (rest >= least))
    return settled(gap * inverse + log1p_of(s), sound)


def target_value(
    top, gap, count, rest, mass, inverse, least, check, low, high, mass_low, mass_high, unit
):
    """The same against a row of target probabilities."""
    value, odd, _ = loss_value(top, gap / mass, count, rest, inverse, least, check, low, high, unit)
    sound = odd.same(0.0) & (mass >= mass_low) & (mass <= mass_high) & (gap < math.inf)
    return settled(value, sound)


def other_values(top, gap, count, rest, moment, square, unit):
    """Entropy, confidence and Brier score."""
    s = rest + (count - 1.0)
    whole = s + 1.0
    p = exp_over(-gap, gap * 0.0, *unit)
    p = choose(gap < math.inf, p, 0.0)
    brier = square + count - p * p + (whole - p) * (whole - p)
    at_top = square + (count - 1.0) + s * s  # the label at the maximum: 1 - p = s / (1 + s)
    brier = choose(gap.same(0.0), at_top, brier) / (whole * whole)
    return log1p_of(s) + moment * unit[3] / whole, 1.0 / whole, brier, None


map_losses, map_target_losses = row_loop(loss_value, 4, 2), row_loop(target_value, 5, 2)
map_others = row_loop(other_values, 6, 3)


def share_loop(single, moments):
    """A loop that multiplies the sums of rows, of float32 arithmetic or not, by their shares."""

    def with_moments(top, gap, count, rest, moment, square, unit):
        f = share(top, single, unit)
        return rest * f, moment * f, square * (f * f), None

    def alone(top, gap, count, rest, unit):
        return rest * share(top, single, unit), None

    return row_loop(with_moments, 6, 3) if moments else row_loop(alone, 4, 1)


def _across(moments):
    """The sums of up to MOST_ROWS rows of few classes: call it as across(x, rows, classes, s, like,
    unit), the arithmetic is done in the type of `like`."""

    @intrinsic
    def across(typingctx, x, rows, classes, s, like, unit):
        def codegen(context, builder, signature, args):
            x, rows, classes, s = args[:4]
            source = element_of(signature.args[0])
            element = element_of(signature.args[4])
            width = BYTES // size_of(element)
            unit = spread(builder, args[5], signature.args[5], element, width)
            kind, wide = ir.VectorType(element, width), ir.VectorType(DOUBLE, width)

            def zeros(of):
                return ir.Constant(of, [0.0] * width)

            top = cgutils.alloca_once(builder, kind)
            nan = cgutils.alloca_once(builder, kind)
            sums = [cgutils.alloca_once(builder, wide) for _ in range(4 if moments else 2)]
            last = builder.sub(rows, number(1))
            with cgutils.for_range_slice(builder, number(0), rows, number(width)) as (r, _):
                places = []
                for k in range(width):  # rows past the end are read as the last one
                    row = builder.add(r, number(k))
                    row = builder.select(builder.icmp_signed("<", row, last), row, last)
                    places.append(builder.gep(x, [builder.mul(row, classes)]))

                def column(index):
                    vector = ir.Constant(ir.VectorType(source, width), ir.Undefined)
                    for k, place in enumerate(places):
                        one = builder.load(builder.gep(place, [index]))
                        vector = builder.insert_element(vector, one, number(k))
                    return resized(Number(builder, vector), element)

                builder.store(ir.Constant(kind, [-math.inf] * width), top)
                builder.store(zeros(kind), nan)
                for total in sums:
                    builder.store(zeros(wide), total)
                with cgutils.for_range(builder, classes) as loop:
                    v = column(loop.index)
                    best = Number(builder, builder.load(top))
                    builder.store(choose(v > best, v, best).value, top)
                    builder.store(choose(v.nan(), v, Number(builder, builder.load(nan))).value, nan)
                m = Number(builder, builder.load(top))
                row = row_scale(m, unit)
                with cgutils.for_range(builder, classes) as loop:
                    v = column(loop.index)
                    term, _ = exp_share(v, row)
                    found = [choose(v.same(m), term._new(zeros(kind)) + 1.0, 0.0), term]
                    if moments:
                        gap, most = m - v, 104.0 if m.single else 746.0 / unit[3]
                        found += [choose(gap < most, gap, most) * term, term * term]
                    for total, value in zip(sums, found, strict=True):
                        before = Number(builder, builder.load(total))
                        builder.store((before + value.wide()).value, total)
                odd = Number(builder, builder.load(nan)).nan()
                kept = [choose(odd, math.nan, m.wide()).value] + [
                    builder.load(total) for total in sums
                ]
                for number_of, value in zip((TOP, COUNT, REST, MOMENT, SQUARE), kept, strict=False):
                    to = builder.gep(s, [number(number_of * APART)])
                    store(builder, value, to, r, DOUBLE)
            return context.get_dummy_value()

        return types.void(x, types.intp, types.intp, s, like, unit), codegen

    return across


@kernel
def place_ranks(x, begin, n, classes, labels, s, rank, accuracy):
    for r in range(n):
        label = labels[begin + r]
        if label < 0:
            continue
        place = 1
        if rank.size > 0 or (s[GAP * APART + r] == 0.0 and s[COUNT * APART + r] > 1.0):
            place = rank_of(at(x, (begin + r) * classes), classes, label)
        elif s[GAP * APART + r] == 0.0:
            place = 0
        if rank.size > 0:
            rank[begin + r] = place
        if accuracy.size > 0:
            accuracy[begin + r] = 1.0 if place == 0 else 0.0


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
        place_ranks(x, begin, n, classes, labels, s, rank, accuracy)


def logit_kernel(few, full):
    """A kernel of rows of few classes or of many; columns beside cross-entropy only if `full`."""
    across = _across(full) if few else None
    formula, sums = (moment_sums, 4) if full else (exp_sums, 2)
    add_rows = None if few else summed(formula, 1, sums, (PAD,), 1, row_scale)
    map_single, map_double = share_loop(True, full), share_loop(False, full)

    @kernel
    def rows(x, classes, labels, unit, limits, t, s, out, others, faults):
        group, begin = smaller(8, NEAR // classes + 1), 0
        while begin < faults.size:
            n = smaller(MOST_ROWS, faults.size - begin)
            if few:
                across(at(x, begin * classes), n, classes, at(s, 0), at(t, 0), unit)
            else:
                for first in range(0, n, group):
                    some, row = smaller(group, n - first), (begin + first) * classes
                    for r in range(some):
                        s[TOP * APART + first + r] = lane_top(at(x, row + r * classes), classes)
                    add_rows(
                        some, classes, x.size - row, at(x, row), at(t, 0),
                        at(s, COUNT * APART + first), at(faults, begin), at(s, TOP * APART + first),
                        unit,
                    )  # fmt: skip
            if is_single(t):
                map_single(n, at(s, 0), at(s, REST * APART), unit)
            else:
                map_double(n, at(s, 0), at(s, REST * APART), unit)
            for r in range(n):
                row, top = (begin + r) * classes, s[TOP * APART + r]
                if not few and s[COUNT * APART + r] != 1.0:
                    top = s[TOP * APART + r] = lane_max(at(x, row), classes)
                label, gap = labels[begin + r] if labels.size > 0 else -1, 0.0
                if label >= 0:
                    value = np.float64(x[row + label])
                    gap = 0.0 if value == top else top - value
                s[GAP * APART + r] = gap
            odd = map_losses(n, at(s, 0), at(s, VALUE * APART), unit[3], *limits, unit)
            if odd > 0:
                mark(n, at(s, ODD * APART), 0, at(faults, begin))
            if out.size > 0:
                copy(n, at(s, VALUE * APART), at(out, begin))
            if full:
                other_columns(x, begin, n, classes, labels, unit, s, others)
            begin += n

    return rows


ROWS = {(few, full): logit_kernel(few, full) for few in (False, True) for full in (False, True)}
add_targets = summed(target_sums, 2, 4, (0.0, PAD), 1, row_scale)
target_single, target_double = share_loop(True, False), share_loop(False, False)


@kernel
def target_rows(p, x, classes, unit, limits, t, s, out, faults):
    """Cross-entropy on logits of targets that are rows of probabilities."""
    group, begin = smaller(8, NEAR // classes + 1), 0
    while begin < out.size:
        n = smaller(MOST_ROWS, out.size - begin)
        for first in range(0, n, group):
            some, row = smaller(group, n - first), (begin + first) * classes
            for r in range(some):
                s[TOP * APART + first + r] = lane_max(at(x, row + r * classes), classes)
            add_targets(
                some, classes, x.size - row, at(p, row), at(x, row), at(t, 0),
                at(s, GAP * APART + first), at(faults, begin + first), at(s, TOP * APART + first),
                unit,
            )  # fmt: skip
        if is_single(t):
            target_single(n, at(s, 0), at(s, REST * APART), unit)
        else:
            target_double(n, at(s, 0), at(s, REST * APART), unit)
        odd = map_target_losses(n, at(s, 0), at(s, VALUE * APART), unit[3], *limits, unit)
        copy(n, at(s, VALUE * APART), at(out, begin))
        if odd > 0:
            mark(n, at(s, ODD * APART), 0, at(faults, begin))
        begin += n
