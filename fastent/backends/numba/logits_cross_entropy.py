"""Sparse columns, entropy and cross-entropy of a target from logits or log-probabilities.

With m the maximum and s = sum of exp(x - m) over the others, the normaliser is m + log1p(s) and
every column is a short formula of such sums, in which nothing cancels. Rows of few classes lie
across the vectors; others are mapped one by one. Odd rows are done once more in `careful`.
"""

import math
from functools import partial

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .constants import kernel
from .functions import exp_over, exp_share, largest, log1p_of, row_scale, share
from .fused import row_adder
from .loops import (
    BYTES,
    INT32,
    at,
    element_of,
    is_single,
    load,
    number,
    resized,
    size_of,
    spread,
    store,
)
from .probs_cross_entropy import rank_of
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
from .vectors import DOUBLE, Number, choose

FEW = 16  # classes up to which rows lie across the vectors
SLIM = 4  # classes up to which they are laid so one by one
TOP, GAP, COUNT, REST, MOMENT, SQUARE, VALUE, ODD = range(8)  # among the sums of rows
NEAR = 1 << 13  # elements that stay in the first cache from one pass over them to the next
PAD = -math.inf


def exp_sums(x, *row):
    """How many are not below the maximum (NaN is not), and the others' exp((x − m)/T) over the
    share of the row."""
    term, under = exp_share(x, row)
    return choose(under, term._new(term.lift(0.0)), 1.0), term, None, None


def heat_sums(x, *row):
    """The same, and the products with m − x."""
    count, term, *_ = exp_sums(x, *row)
    # clamped where the exponential is 0 at the latest
    gap = row[0] - x
    most = 104.0 if x.single else 746.0 / row[-1][3]
    return count, term, choose(gap < most, gap, most) * term, None, None


def moment_sums(x, *row):
    """The same, and the squares."""
    count, term, heat, *_ = heat_sums(x, *row)
    return count, term, heat, term * term, None, None


def target_sums(p, x, *row):
    """Σ p (m − x) of a target, what `exp_sums` gives, and Σ p."""
    heat = choose(p.same(0.0), 0.0, p * (row[0] - x))
    return heat, *exp_sums(x, *row)[:2], p, p.bits(), None


def loss_value(top, gap, count, rest, inverse, least):
    """Cross-entropy, and 1 where the row is odd: no finite maximum, or too narrow for float32."""
    s = rest + (count - 1.0)
    sound = (abs(top) < math.inf) & ((count > 1.0) | (rest >= least))
    return settled(gap * inverse + log1p_of(s), sound)


def mass_value(top, gap, count, rest, moment, square, value, odd, low, high, unit):
    """1 where the row is odd, or one of log-probabilities whose sum is off the bounds."""
    mass = exp_over(top, top * 0.0, *unit) * (rest + count)
    sound = odd.same(0.0) & (top <= 1.0) & (mass >= low) & (mass <= high)
    return choose(sound, odd, 1.0), ~sound


def target_value(top, gap, count, rest, mass, inverse, least, low, high):
    """Cross-entropy against a row of target probabilities."""
    value, odd, _ = loss_value(top, gap / mass, count, rest, inverse, least)
    sound = odd.same(0.0) & (mass >= low) & (mass <= high) & (gap < math.inf)
    return settled(value, sound)


def heat_value(top, gap, count, rest, moment, unit):
    """Entropy."""
    s = rest + (count - 1.0)
    return log1p_of(s) + moment * unit[3] / (s + 1.0), None


def other_values(top, gap, count, rest, moment, square, unit):
    """Entropy, confidence and Brier score."""
    s = rest + (count - 1.0)
    whole = s + 1.0
    p = exp_over(-gap, gap * 0.0, *unit)
    p = choose(gap < math.inf, p, 0.0)
    brier = square + count - p * p + (whole - p) * (whole - p)
    at_top = square + (count - 1.0) + s * s  # the label at the maximum: 1 - p = s / (1 + s)
    brier = choose(gap.same(0.0), at_top, brier) / (whole * whole)
    return *heat_value(top, gap, count, rest, moment, unit)[:1], 1.0 / whole, brier, None


map_losses, map_target_losses = row_loop(loss_value, 4, 2), row_loop(target_value, 5, 2)
map_masses = row_loop(mass_value, 8, 1)
map_heats, map_others = row_loop(heat_value, 5, 1), row_loop(other_values, 6, 3)


LOSS, HEAT, ALL = range(3)  # columns of a kernel: cross-entropy, entropy too, or whatever there is
FORMULAS = (exp_sums, 2), (heat_sums, 3), (moment_sums, 4)


def share_loop(columns):
    """A kernel that makes the sums of n rows those of exp((x − m)/T)."""

    def alone(single, top, gap, count, rest, unit):
        return rest * share(top, single, unit), None

    def with_heat(single, top, gap, count, rest, moment, unit):
        f = share(top, single, unit)
        return rest * f, moment * f, None

    def with_all(single, top, gap, count, rest, moment, square, unit):
        f = share(top, single, unit)
        return rest * f, moment * f, square * (f * f), None

    formula = (alone, with_heat, with_all)[columns]
    map_single, map_double = (
        row_loop(partial(formula, single), 4 + columns, 1 + columns) for single in (True, False)
    )

    @kernel
    def share_out(n, s, unit, t):
        if is_single(t):
            map_single(n, at(s, 0), at(s, REST * APART), unit)
        else:
            map_double(n, at(s, 0), at(s, REST * APART), unit)

    return share_out


def _turned(builder, vectors):
    """A square block of as many vectors as they have lanes, transposed by exchanging ever larger
    halves of neighbours."""
    size = len(vectors)
    vectors, side = list(vectors), 1
    while side < size:
        orders = [
            [k + size - side if k & side else k for k in range(size)],
            [k + size if k & side else k + side for k in range(size)],
        ]
        for k in range(size):
            if not k & side:
                a, b = vectors[k], vectors[k | side]
                vectors[k], vectors[k | side] = (
                    builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, size), order))
                    for order in orders
                )
        side *= 2
    return vectors


def _lay_across(builder, x, first, rows, classes, kind, element, to):
    """Columns of the rows from `first` on, past the last one as if it were repeated, as vectors of
    `element` in scratch memory; up to FEW of them, whatever is in those past the last."""
    width = BYTES // size_of(element)
    vector = ir.VectorType(kind, width)
    last = builder.sub(rows, number(1))
    starts = []
    for k in range(width):
        row = builder.add(first, number(k))
        row = builder.select(builder.icmp_signed("<", row, last), row, last)
        starts.append(builder.mul(builder.sub(row, first), classes))
    place = builder.gep(x, [builder.mul(first, classes)])

    def put(value, index):
        store(builder, resized(Number(builder, value), element).value, to, index, element)

    slim = builder.icmp_signed("<=", classes, number(SLIM))
    with builder.if_else(slim) as (then, otherwise):
        with then, cgutils.for_range(builder, classes) as loop:
            value = ir.Constant(vector, ir.Undefined)
            for k, start in enumerate(starts):
                one = builder.gep(place, [builder.add(start, loop.index)])
                value = builder.insert_element(value, builder.load(one), number(k))
            put(value, builder.mul(loop.index, number(width)))
        with otherwise:
            room = cgutils.alloca_once(builder, ir.ArrayType(kind, FEW * (width + 1)))
            room = builder.bitcast(room, kind.as_pointer())
            source = cgutils.alloca_once_value(builder, place)
            # reading FEW numbers of the last row must not go past the end of all rows
            end = builder.mul(builder.sub(builder.sub(rows, first), number(width)), classes)
            short = builder.icmp_signed("<", builder.add(end, classes), number(FEW))
            with builder.if_then(short, likely=False):
                left = builder.mul(builder.sub(rows, first), classes)
                most = builder.mul(number(width), classes)
                left = builder.select(builder.icmp_signed("<", left, most), left, most)
                cgutils.raw_memcpy(builder, room, place, left, size_of(kind))
                builder.store(room, source)
            start_of = builder.load(source)
            for column in range(0, FEW, width):
                with builder.if_then(builder.icmp_signed(">", classes, number(column))):
                    vectors = [
                        load(builder, start_of, builder.add(start, number(column)), kind, width)
                        for start in starts
                    ]
                    for k, value in enumerate(_turned(builder, vectors)):
                        put(value, number((column + k) * width))


def _across(formula, sums):
    """The sums of up to MOST_ROWS rows of few classes: call it as across(x, rows, classes, s, like,
    unit), the arithmetic is done in the type of `like`, which has room for FEW vectors."""

    @intrinsic
    def across(typingctx, x, rows, classes, s, like, unit):
        def codegen(context, builder, signature, args):
            x, rows, classes, s, columns = args[:5]
            source = element_of(signature.args[0])
            element = element_of(signature.args[4])
            width = BYTES // size_of(element)
            unit = spread(builder, args[5], signature.args[5], element, width)
            kind, wide = ir.VectorType(element, width), ir.VectorType(DOUBLE, width)

            def zeros(of):
                return ir.Constant(of, [0.0] * width)

            top, count = (cgutils.alloca_once(builder, kind) for _ in range(2))
            totals = [cgutils.alloca_once(builder, wide) for _ in range(sums - 1)]
            size = builder.mul(classes, number(width))

            def column(index):
                return Number(builder, load(builder, columns, index, element, width))

            with cgutils.for_range_slice(builder, number(0), rows, number(width)) as (r, _):
                _lay_across(builder, x, r, rows, classes, source, element, columns)
                builder.store(ir.Constant(kind, [-math.inf] * width), top)
                builder.store(zeros(kind), count)
                for total in totals:
                    builder.store(zeros(wide), total)
                with cgutils.for_range_slice(builder, number(0), size, number(width)) as (j, _):
                    best = largest(column(j), Number(builder, builder.load(top)))
                    builder.store(best.value, top)
                m = Number(builder, builder.load(top))
                row = row_scale(m, unit)
                with cgutils.for_range_slice(builder, number(0), size, number(width)) as (j, _):
                    first, *found = formula(column(j), *row)[:-2]
                    builder.store((first + Number(builder, builder.load(count))).value, count)
                    for total, value in zip(totals, found, strict=True):
                        before = Number(builder, builder.load(total))
                        builder.store((before + value.wide()).value, total)
                kept = [m.wide().value, Number(builder, builder.load(count)).wide().value]
                kept += [builder.load(total) for total in totals]
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


def logit_kernel(few, columns):
    """A kernel of rows of few classes or of many, for LOSS, HEAT or ALL."""
    formula, sums = FORMULAS[columns]
    across = _across(formula, sums) if few else None
    add_rows = None if few else row_adder(formula, 1, sums, (PAD,), 1, row_scale)
    share_out = share_loop(columns)

    @kernel
    def rows(x, classes, labels, unit, limits, t, s, out, others, faults):
        group = smaller(8, NEAR // classes + 1)
        for begin in range(0, faults.size, MOST_ROWS):
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
            share_out(n, s, unit, t)
            for r in range(n):
                row, top = (begin + r) * classes, s[TOP * APART + r]
                if s[COUNT * APART + r] != 1.0:
                    top = s[TOP * APART + r] = lane_max(at(x, row), classes)
                label = labels[begin + r] if labels.size > 0 else -1
                s[GAP * APART + r] = top - x[row + label] if label >= 0 else 0.0
            least, check, low, high = limits
            odd = map_losses(n, at(s, 0), at(s, VALUE * APART), unit[3], least)
            if check:
                odd = map_masses(n, at(s, 0), at(s, ODD * APART), low, high, unit)
            if odd > 0:
                mark(n, at(s, ODD * APART), 0, at(faults, begin))
            if out.size > 0:
                copy(n, at(s, VALUE * APART), at(out, begin))
            if columns == HEAT:
                map_heats(n, at(s, 0), at(s, SPARE * APART), unit)
                copy(n, at(s, SPARE * APART), at(others[0], begin))
            elif columns == ALL:
                other_columns(x, begin, n, classes, labels, unit, s, others)

    return rows


ROWS = {
    (few, columns): logit_kernel(few, columns)
    for few in (False, True)
    for columns in (LOSS, HEAT, ALL)
}
share_out = share_loop(LOSS)
add_targets = row_adder(target_sums, 2, 4, (0.0, PAD), 1, row_scale)


@kernel
def target_rows(p, x, classes, unit, limits, t, s, out, faults):
    """Cross-entropy on logits of targets that are rows of probabilities."""
    group = smaller(8, NEAR // classes + 1)
    for begin in range(0, out.size, MOST_ROWS):
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
        share_out(n, s, unit, t)
        least, check, low, high, mass_low, mass_high = limits
        odd = map_target_losses(
            n, at(s, 0), at(s, VALUE * APART), unit[3], least, mass_low, mass_high
        )
        if check:
            odd = map_masses(n, at(s, 0), at(s, ODD * APART), low, high, unit)
        copy(n, at(s, VALUE * APART), at(out, begin))
        if odd > 0:
            mark(n, at(s, ODD * APART), 0, at(faults, begin))
