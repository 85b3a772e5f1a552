"""Sums and maxima over fixed lanes, and what else is done with sums: no flag of LLVM's is needed.

Terms of few classes, and of two rows of logits, are mapped into scratch memory by chunks, then
summed row by row (others are added up as they are mapped, see `fused`). A row of many classes goes
block by block, and the blocks are added with their rounding errors. Either way a row's sums are cut
at the same places whatever its neighbours are.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .constants import AGAIN, DOUBTFUL
from .loops import (
    BYTES,
    INT32,
    below,
    element_of,
    folded,
    load,
    mapped,
    number,
    size_of,
    splat,
    store,
)
from .vectors import DOUBLE, SINGLE, Number, choose

SUMMED = 16  # lanes of a sum
FEW_CLASSES = 4  # whose rows are summed across the vectors
FEW = 16  # classes up to which rows of probabilities are mapped together
SINGLE_BLOCK = 2048  # elements that are mapped at once: they stay in the first cache
DOUBLE_BLOCK = 512  # so that the error of 200,000 equal terms stays below 37 roundings
ROOM = SINGLE_BLOCK + 64  # distance of the arrays of terms
MOST_ROWS = 512  # of a chunk: their sums and values are vectors too
APART = MOST_ROWS + 16  # distance of the arrays of sums
ARRAYS = 8  # of terms
SPARE = 8  # the first array of sums that is free for other uses, of four


def scratch(dtype):
    """Room for terms, of the type of the arithmetic, and for the sums of rows."""
    return np.empty(ARRAYS * ROOM, dtype), np.empty((SPARE + 4) * APART)


def term_loop(formula, reads, writes, over=False):
    """A formula over elements, into arrays of terms."""
    return mapped(formula, reads, writes, ROOM, over=over)


def row_loop(formula, reads, writes):
    """A formula over sums of rows, into arrays of sums."""
    return mapped(formula, reads, writes, APART, apart=APART, padded=True)


def settled(value, sound):
    """A row value, and 1 where the row needs another look."""
    odd = choose(sound, value._new(value.lift(0.0)), 1.0)
    return choose(value < 0.0, 0.0, value), odd, ~sound


def within(low, high, *sums):
    sound = None
    for total in sums:
        inside = (total >= low) & (total <= high)
        sound = inside if sound is None else sound & inside
    return sound


def _partial(builder, pointer, first, rest, element):
    """The numbers from `first` on as SUMMED lanes, 0 beyond `rest` of them."""
    tail = load(builder, pointer, first, element, SUMMED)
    kept = ir.Constant(tail.type, [0.0] * SUMMED)
    return builder.select(below(builder, rest, SUMMED), tail, kept)


def _widened(builder, vector):
    wide = ir.VectorType(DOUBLE, SUMMED)
    return builder.fpext(vector, wide) if vector.type.element == SINGLE else vector


def _lanes(builder, pointer, size, element):
    """Sums of `size` numbers in SUMMED lanes of float64; 15 more may be read.

    float32 numbers are added in pairs first, 16 apart: half a rounding of float32, and half the
    conversions, which are most of the work.
    """
    wide, step = ir.VectorType(DOUBLE, SUMMED), 2 * SUMMED
    lanes = cgutils.alloca_once(builder, wide)
    builder.store(ir.Constant(wide, [0.0] * SUMMED), lanes)

    def add(vector):
        builder.store(builder.fadd(builder.load(lanes), _widened(builder, vector)), lanes)

    pairs = builder.and_(size, number(-step))
    with cgutils.for_range_slice(builder, number(0), pairs, number(step)) as (j, _):
        first = load(builder, pointer, j, element, SUMMED)
        second = load(builder, pointer, builder.add(j, number(SUMMED)), element, SUMMED)
        if element == SINGLE:
            add(builder.fadd(first, second))
        else:
            add(first)
            add(second)
    full = builder.and_(size, number(-SUMMED))
    with builder.if_then(builder.icmp_signed("<", pairs, full)):
        add(load(builder, pointer, pairs, element, SUMMED))
    rest = builder.sub(size, full)
    with builder.if_then(builder.icmp_signed(">", rest, number(0))):
        add(_partial(builder, pointer, full, rest, element))
    return builder.load(lanes)


def _halved(builder, vector):
    """16 lanes as 8."""
    low, high = (
        builder.shuffle_vector(
            vector, vector, ir.Constant(ir.VectorType(INT32, 8), list(range(first, first + 8)))
        )
        for first in (0, 8)
    )
    return builder.fadd(low, high)


def summed(builder, pointer, size, element):
    """Sum in float64 of `size` numbers of scratch memory, of which 15 more may be read."""
    return folded(builder, _lanes(builder, pointer, size, element), builder.fadd)


@intrinsic
def lane_sum(typingctx, terms, n):
    """Sum in float64 of n numbers of scratch memory, of which 15 more may be read."""

    def codegen(context, builder, signature, args):
        return summed(builder, *args, element_of(signature.args[0]))

    return types.float64(terms, types.intp), codegen


@intrinsic
def block_of(typingctx, t):
    """How many elements are mapped at once."""

    def codegen(context, builder, signature, args):
        single = element_of(signature.args[0]) == SINGLE
        return number(SINGLE_BLOCK if single else DOUBLE_BLOCK)

    return types.intp(t), codegen


@intrinsic
def smaller(typingctx, a, b):
    """The smaller of two counts."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.intp(types.intp, types.intp), codegen


def _few_sums(builder, terms, rows, classes, out, element):
    """Row sums for up to FEW_CLASSES, 8 rows at a time, as if rows were a multiple of 8: the rows
    lie across the vector."""
    width = 8
    wide = ir.VectorType(DOUBLE, width)
    for count in range(1, FEW_CLASSES + 1):
        with builder.if_then(builder.icmp_signed("==", classes, number(count))):
            with cgutils.for_range_slice(builder, number(0), rows, number(width)) as (r, _):
                first = builder.mul(r, number(count))
                together = load(builder, terms, first, element, count * width)
                total = None
                for c in range(count):
                    order = ir.Constant(
                        ir.VectorType(INT32, width), list(range(c, count * width, count))
                    )
                    part = builder.shuffle_vector(together, together, order)
                    part = builder.fpext(part, wide) if element == SINGLE else part
                    total = part if total is None else builder.fadd(total, part)
                store(builder, total, out, r, DOUBLE)


def together(builder, vectors):
    """The sums of 8 vectors of 8 lanes, as one vector: neighbours first."""
    for width in (1, 2, 4):
        orders = []
        for side in (0, 1):
            order = []
            for k in range(0, 8, 2 * width):
                for vector in (0, 8):
                    order += [vector + k + side * width + j for j in range(width)]
            orders.append(ir.Constant(ir.VectorType(INT32, 8), order))
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [
            builder.fadd(*(builder.shuffle_vector(a, b, order) for order in orders))
            for a, b in pairs
        ]
    return vectors[0]


@intrinsic
def row_sums(typingctx, terms, arrays, rows, classes, sums):
    """Sums of arrays of terms, row by row, into arrays of sums."""

    def codegen(context, builder, signature, args):
        terms, arrays, rows, classes, sums = args
        element = element_of(signature.args[0])
        eight = ir.VectorType(DOUBLE, 8)
        room = cgutils.alloca_once(builder, ir.ArrayType(eight, 8))
        few = builder.icmp_signed("<=", classes, number(FEW_CLASSES))
        short = builder.icmp_signed("<=", classes, number(SUMMED))
        with cgutils.for_range(builder, arrays) as loop:
            source = builder.gep(terms, [builder.mul(loop.index, number(ROOM))])
            out = builder.gep(sums, [builder.mul(loop.index, number(APART))])
            with builder.if_else(few) as (then, otherwise):
                with then:
                    _few_sums(builder, source, rows, classes, out, element)
                with (
                    otherwise,
                    cgutils.for_range_slice(builder, number(0), rows, number(8)) as (r, _),
                ):
                    with builder.if_else(short) as (one_vector, several):
                        with one_vector:
                            vectors = []
                            for k in range(8):
                                row = builder.mul(builder.add(r, number(k)), classes)
                                part = _partial(builder, source, row, classes, element)
                                vectors.append(_halved(builder, _widened(builder, part)))
                            store(builder, together(builder, vectors), out, r, DOUBLE)
                        with several:
                            left = builder.sub(rows, r)
                            most = builder.icmp_signed("<", left, number(8))
                            most = builder.select(most, left, number(8))
                            with cgutils.for_range(builder, most) as inner:
                                row = builder.mul(builder.add(r, inner.index), classes)
                                row = builder.gep(source, [row])
                                lanes = _halved(builder, _lanes(builder, row, classes, element))
                                place = builder.gep(room, [number(0), inner.index])
                                builder.store(lanes, place)
                            vectors = [
                                builder.load(builder.gep(room, [number(0), number(k)]))
                                for k in range(8)
                            ]
                            store(builder, together(builder, vectors), out, r, DOUBLE)
        return context.get_dummy_value()

    return types.void(terms, types.intp, types.intp, types.intp, sums), codegen


@intrinsic
def add_block(typingctx, terms, arrays, n, sums, lost, first):
    """Add a block of a long row to its sums, one in each array; `lost` keeps their rounding errors.
    The `first` block takes the place of what was there."""

    def codegen(context, builder, signature, args):
        terms, arrays, n, sums, lost, first = args
        element = element_of(signature.args[0])
        with cgutils.for_range(builder, arrays) as loop:
            source = builder.gep(terms, [builder.mul(loop.index, number(ROOM))])
            place = builder.gep(sums, [builder.mul(loop.index, number(APART))])
            rest = builder.gep(lost, [loop.index])
            more = Number(builder, summed(builder, source, n, element))
            zero = ir.Constant(DOUBLE, 0.0)
            before = Number(builder, builder.select(first, zero, builder.load(place)))
            gone = Number(builder, builder.select(first, zero, builder.load(rest)))
            total = before + more
            back = total - before
            low = (before - (total - back)) + (more - back)
            gone = gone + choose(abs(total) < math.inf, low, 0.0)
            builder.store(total.value, place)
            builder.store(gone.value, rest)
        return context.get_dummy_value()

    given = (terms, types.intp, types.intp, sums, lost, types.boolean)
    return types.void(*given), codegen


@intrinsic
def settle(typingctx, arrays, sums, lost):
    """What the sums of a long row lost goes back to them."""

    def codegen(context, builder, signature, args):
        arrays, sums, lost = args
        with cgutils.for_range(builder, arrays) as loop:
            place = builder.gep(sums, [builder.mul(loop.index, number(APART))])
            rest = builder.load(builder.gep(lost, [loop.index]))
            builder.store(builder.fadd(builder.load(place), rest), place)
        return context.get_dummy_value()

    return types.void(types.intp, sums, lost), codegen


@intrinsic
def copy(typingctx, n, source, target):
    """Copy n numbers."""

    def codegen(context, builder, signature, args):
        n, source, target = args
        cgutils.raw_memcpy(builder, target, source, n, size_of(element_of(signature.args[1])))
        return context.get_dummy_value()

    return types.void(types.intp, source, target), codegen


@intrinsic
def mark(typingctx, n, odd, negative, faults):
    """AGAIN where a row is odd; DOUBTFUL for the others of a chunk with a negative number."""

    def codegen(context, builder, signature, args):
        n, odd, negative, faults = args
        byte = ir.IntType(8)
        doubt = builder.icmp_signed(">", negative, number(0))
        other = builder.select(doubt, ir.Constant(byte, DOUBTFUL), ir.Constant(byte, 0))
        with cgutils.for_range(builder, n) as loop:
            flag = builder.load(builder.gep(odd, [loop.index]))
            again = builder.fcmp_ordered(">", flag, ir.Constant(DOUBLE, 0.0))
            code = builder.select(again, ir.Constant(byte, AGAIN), other)
            place = builder.gep(faults, [loop.index])
            same = builder.icmp_signed("==", code, ir.Constant(byte, 0))
            builder.store(builder.select(same, builder.load(place), code), place)
        return context.get_dummy_value()

    return types.void(types.intp, odd, types.intp, faults), codegen


def _lane_max(checked):
    """Largest of n >= 1 numbers; NaN if there is one where that is `checked`, else they are passed
    over. Four vectors at once, because one running maximum waits for itself; the last vector
    overlaps the one before."""

    @intrinsic
    def lane_max(typingctx, x, n):
        def codegen(context, builder, signature, args):
            pointer, size = args
            element = element_of(signature.args[0])
            width, chains = BYTES // size_of(element), 4
            low = ir.Constant(ir.VectorType(element, width), [-math.inf] * width)
            best = [cgutils.alloca_once(builder, low.type) for _ in range(chains)]
            odd = cgutils.alloca_once(builder, ir.VectorType(ir.IntType(1), width))
            for chain in best:
                builder.store(low, chain)
            builder.store(ir.Constant(odd.type.pointee, [0] * width), odd)

            def larger(a, b):
                return builder.select(builder.fcmp_ordered(">", b, a), b, a)

            def meet(index, chain):
                v = load(builder, pointer, index, element, width)
                if checked:
                    nan = builder.fcmp_unordered("uno", v, v)
                    builder.store(builder.or_(builder.load(odd), nan), odd)
                builder.store(larger(builder.load(chain), v), chain)

            few = builder.icmp_signed("<", size, number(width))
            with builder.if_else(few) as (then, otherwise):
                with then:  # one by one, in all lanes
                    with cgutils.for_range(builder, size) as loop:
                        v = builder.load(builder.gep(pointer, [loop.index]))
                        one = splat(builder, v, width)
                        builder.store(larger(builder.load(best[0]), one), best[0])
                        if checked:
                            nan = builder.fcmp_unordered("uno", v, v)
                            builder.store(
                                builder.or_(builder.load(odd), splat(builder, nan, width)), odd
                            )
                with otherwise:
                    step = width * chains
                    whole = builder.and_(size, number(-step))
                    with cgutils.for_range_slice(builder, number(0), whole, number(step)) as (
                        index,
                        _,
                    ):
                        for k, chain in enumerate(best):
                            meet(builder.add(index, number(k * width)), chain)
                    last = builder.sub(size, number(width))
                    with cgutils.for_range_slice(builder, whole, size, number(width)) as (index, _):
                        inside = builder.icmp_signed("<", index, last)
                        meet(builder.select(inside, index, last), best[0])
            vectors = [builder.load(chain) for chain in best]
            vector = larger(larger(vectors[0], vectors[1]), larger(vectors[2], vectors[3]))
            found = folded(builder, vector, larger)
            if not checked:
                return found
            nan = folded(builder, builder.load(odd), builder.or_)
            return builder.select(nan, ir.Constant(element, math.nan), found)

        return x.dtype(x, types.intp), codegen

    return lane_max


lane_max, lane_top = _lane_max(True), _lane_max(False)
