"""Formulas whose terms are added up row by row as they are computed, without a trip to memory.

Eight vectors of terms meet in a tree of additions in the precision of the row (three roundings at
most), and only their sum is widened to the eight lanes of float64 that a row is added up in. Where
a row is cut depends on its length alone.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .constants import DOUBTFUL, NOTED, NOTED_DOUBT
from .loops import (
    BYTES,
    INT32,
    KEPT,
    arguments,
    below,
    copy_room,
    element_of,
    load,
    number,
    resized,
    size_of,
    spread,
    store,
    with_arguments,
)
from .sums import APART, DOUBLE_BLOCK, SINGLE_BLOCK, together
from .vectors import DOUBLE, SINGLE, Number, choose

UNROLLED = 8
LANES = 8  # of a row's sum
CODES = (DOUBTFUL, NOTED, NOTED_DOUBT)


class _Row:
    """The code that adds up one row: its sources, and the places of its sums."""

    def __init__(self, builder, element, formula, count):
        self.builder, self.element, self.formula = builder, element, formula
        self.width = BYTES // size_of(element)
        self.vector = ir.VectorType(element, self.width)
        eight = ir.VectorType(DOUBLE, LANES)
        flags = ir.VectorType(ir.IntType(8 * size_of(element)), self.width)
        new = cgutils.alloca_once
        self.parts = [new(builder, self.vector) for _ in range(count)]
        self.lanes, self.high, self.low = (
            [new(builder, eight) for _ in range(count)] for _ in range(3)
        )
        self.flags = [new(builder, flags) for _ in range(2)]
        self.seen = [False, False]

    def clear(self, places):
        for place in places:
            kind = place.type.pointee
            self.builder.store(ir.Constant(kind, None), place)

    def bump(self, place, value):
        self.builder.store(self.builder.fadd(self.builder.load(place), value), place)

    def terms(self, loaded, numbers, kept=None):
        """The formula's terms as vectors; flags are gathered, those of `kept` lanes."""
        *found, negative, note = self.formula(*loaded, *numbers)
        for k, flag in enumerate((negative, note)):
            if flag is not None:
                self.seen[k] = True
                bits = flag.value
                if kept is not None:
                    zeros = ir.Constant(bits.type, None)
                    bits = self.builder.select(kept, bits, zeros)
                both = self.builder.or_(self.builder.load(self.flags[k]), bits)
                self.builder.store(both, self.flags[k])
        return [term.value for term in found]

    def widened(self, vectors):
        """Add vectors of terms, one of each sum, to the lanes."""
        for place, vector in zip(self.lanes, vectors, strict=True):
            if self.element == DOUBLE:
                self.bump(place, vector)
                continue
            for side in (0, LANES):
                order = ir.Constant(ir.VectorType(INT32, LANES), list(range(side, side + LANES)))
                half = self.builder.shuffle_vector(vector, vector, order)
                wide = self.builder.fpext(half, ir.VectorType(DOUBLE, LANES))
                self.bump(place, wide)

    def flagged(self):
        """Whether a number was negative, and whether the formula noted something."""
        found = []
        for seen, place in zip(self.seen, self.flags, strict=True):
            if not seen:
                found.append(ir.Constant(ir.IntType(1), 0))
                continue
            value = self.builder.load(place)
            signs = self.builder.icmp_signed("<", value, ir.Constant(value.type, None))
            packed = self.builder.bitcast(signs, ir.IntType(self.width))
            found.append(self.builder.icmp_unsigned("!=", packed, packed.type(0)))
        return found


def _tree(builder, vectors):
    while len(vectors) > 1:
        vectors = [builder.fadd(a, b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def row_adder(formula, reads, sums, pads=(0.0, 0.0), each=0, prepare=None, label=False):
    """A formula over the rows of `reads` arrays whose terms are added up: call it as
    loop(rows, classes, readable, *sources, like, target, faults, *given, *numbers).

    `readable` elements of each source may be read. Arithmetic is done in the type of `like`. Sums
    go to arrays of the target APART apart. The formula is given the elements and then the numbers;
    it returns its terms, which are 0 (or too little to count) where the sources are `pads`, and
    two of Bits or None: a sign bit in the first one says that a number was negative, in the second
    that the row needs a look. Codes for both are left in `faults`; the loop returns how many rows
    have one. With `each` a pointer to arrays of row numbers, APART apart, is `given`, and
    prepare(*row numbers, *numbers) makes the numbers of a row; with `label` a pointer to labels,
    whose elements are replaced by `pads`.
    """
    extra = bool(each) + label
    plain = arguments(prepare) - each if each else arguments(formula) - reads

    @with_arguments(6 + reads + extra + plain)
    def loop(typingctx, rows, classes, readable, *args):
        def codegen(context, builder, signature, values):
            rows, classes, readable = values[:3]
            sources, (_, target, faults) = values[3 : 3 + reads], values[3 + reads : 6 + reads]
            kinds = [element_of(kind) for kind in signature.args[3 : 4 + reads]]
            element = kinds.pop()
            given = list(values[6 + reads : 6 + reads + extra])
            row_numbers = given.pop(0) if each else None
            labels = given.pop() if label else None
            row = _Row(builder, element, formula, sums)
            width, step = row.width, UNROLLED * row.width
            numbers = [
                spread(builder, value, kind, element, width)
                for value, kind in zip(
                    values[6 + reads + extra :], signature.args[6 + reads + extra :], strict=True
                )
            ]
            block = SINGLE_BLOCK if element == SINGLE else DOUBLE_BLOCK
            found = cgutils.alloca_once_value(builder, number(0))
            rooms = [
                cgutils.alloca_once(builder, ir.ArrayType(ir.VectorType(DOUBLE, LANES), 8))
                for _ in range(sums)
            ]
            copies = [copy_room(builder, kind, width) for kind in kinds]
            own = cgutils.alloca_once_value(builder, number(-1))
            iota = ir.Constant(
                ir.VectorType(ir.IntType(8 * size_of(element)), width), list(range(width))
            )
            padding = [ir.Constant(row.vector, [pad] * width) for pad in pads[:reads]]

            def without_label(vectors, index):
                if not label:
                    return vectors
                place = builder.sub(builder.load(own), index)
                one = builder.trunc(place, iota.type.element) if element == SINGLE else place
                one = builder.insert_element(
                    ir.Constant(iota.type, ir.Undefined), one, ir.Constant(INT32, 0)
                )
                order = ir.Constant(ir.VectorType(INT32, width), [0] * width)
                same = builder.icmp_signed("==", builder.shuffle_vector(one, one, order), iota)
                return [
                    builder.select(same, pad, vector)
                    for pad, vector in zip(padding, vectors, strict=True)
                ]

            def elements(pointers, index, kept=None):
                vectors = [
                    resized(Number(builder, load(builder, p, index, kind, width)), element).value
                    for p, kind in zip(pointers, kinds, strict=True)
                ]
                if kept is not None:
                    vectors = [
                        builder.select(kept, vector, pad)
                        for pad, vector in zip(padding, vectors, strict=True)
                    ]
                return vectors

            def add_block(pointers, size, readable, numbers):
                def terms(index):
                    vectors = without_label(elements(pointers, index), index)
                    return row.terms([Number(builder, v) for v in vectors], numbers)

                row.clear(row.lanes)
                whole = builder.and_(size, number(-step))
                with cgutils.for_range_slice(builder, number(0), whole, number(step)) as (i, _):
                    found = [terms(builder.add(i, number(k * width))) for k in range(UNROLLED)]
                    row.widened([_tree(builder, list(v)) for v in zip(*found, strict=True)])
                with builder.if_then(builder.icmp_signed("<", whole, size)):
                    row.clear(row.parts)
                    full = builder.and_(size, number(-width))
                    with cgutils.for_range_slice(builder, whole, full, number(width)) as (i, _):
                        for part, vector in zip(row.parts, terms(i), strict=True):
                            row.bump(part, vector)
                    rest = builder.sub(size, full)
                    with builder.if_then(builder.icmp_signed(">", rest, number(0))):
                        places = [
                            cgutils.alloca_once_value(builder, builder.gep(p, [full]))
                            for p in pointers
                        ]
                        short = builder.icmp_signed(">", builder.add(full, number(width)), readable)
                        with builder.if_then(short, likely=False):
                            for place, copy, kind in zip(places, copies, kinds, strict=True):
                                source = builder.load(place)
                                cgutils.raw_memcpy(builder, copy, source, rest, size_of(kind))
                                builder.store(copy, place)
                        kept = below(builder, rest, width)
                        loaded = elements(
                            [builder.load(place) for place in places], number(0), kept
                        )
                        loaded = without_label(loaded, full)
                        vectors = row.terms([Number(builder, v) for v in loaded], numbers, kept)
                        for part, vector in zip(row.parts, vectors, strict=True):
                            row.bump(part, vector)
                    row.widened([builder.load(part) for part in row.parts])

            def add_row(index):
                base = builder.mul(index, classes)
                mine = numbers
                if each:
                    mine = []
                    for k in range(each):
                        place = builder.add(index, number(k * APART))
                        one = builder.load(builder.gep(row_numbers, [place]))
                        mine.append(spread(builder, one, types.float64, element, width))
                    mine = prepare(*mine, *numbers)
                row.clear(row.flags)
                with cgutils.for_range_slice(builder, number(0), classes, number(block)) as (
                    first,
                    _,
                ):
                    left = builder.sub(classes, first)
                    size = builder.select(
                        builder.icmp_signed("<", left, number(block)), left, number(block)
                    )
                    start = builder.add(base, first)
                    if label:
                        place = builder.sub(builder.load(builder.gep(labels, [index])), first)
                        inside = builder.icmp_unsigned("<", place, number(block))
                        builder.store(builder.select(inside, place, number(-1)), own)
                    pointers = [builder.gep(source, [start]) for source in sources]
                    add_block(pointers, size, builder.sub(readable, start), mine)
                    new = builder.icmp_signed("==", first, number(0))
                    with builder.if_else(new) as (then, otherwise):
                        with then:
                            row.clear(row.low)
                            for lanes, high in zip(row.lanes, row.high, strict=True):
                                builder.store(builder.load(lanes), high)
                        with otherwise:
                            for places in zip(row.lanes, row.high, row.low, strict=True):
                                _add_twofold(builder, *places)

            def close(index, k):
                for room, high, low in zip(rooms, row.high, row.low, strict=True):
                    total = builder.fadd(builder.load(high), builder.load(low))
                    builder.store(total, builder.gep(room, [number(0), k]))
                negative, note = row.flagged()
                with builder.if_then(builder.or_(negative, note), likely=False):
                    byte = ir.IntType(8)
                    doubt, noted, both = (ir.Constant(byte, code) for code in CODES)
                    code = builder.select(negative, builder.select(note, both, doubt), noted)
                    builder.store(code, builder.gep(faults, [index]))
                    builder.store(builder.add(builder.load(found), number(1)), found)

            with cgutils.for_range_slice(builder, number(0), rows, number(8)) as (r, _):
                left = builder.sub(rows, r)
                most = builder.icmp_signed("<", left, number(8))
                most = builder.select(most, left, number(8))
                with cgutils.for_range(builder, most) as inner:
                    index = builder.add(r, inner.index)
                    add_row(index)
                    close(index, inner.index)
                for k, room in enumerate(rooms):
                    vectors = [
                        builder.load(builder.gep(room, [number(0), number(j)])) for j in range(8)
                    ]
                    place = builder.gep(target, [number(k * APART)])
                    store(builder, together(builder, vectors), place, r, DOUBLE)
            return builder.load(found)

        kinds = [types.intp] * 3 + list(args[: 3 + reads + extra])
        kinds += [a if isinstance(a, KEPT) else types.float64 for a in args[3 + reads + extra :]]
        return types.int64(*kinds), codegen

    return loop


def _add_twofold(builder, lanes, high, low):
    """Add a block's lanes to those of the row, with their rounding errors."""
    before, more = Number(builder, builder.load(high)), Number(builder, builder.load(lanes))
    total = before + more
    back = total - before
    lost = (before - (total - back)) + (more - back)
    lost = choose(abs(total) < math.inf, lost, 0.0)
    builder.store(total.value, high)
    builder.store((Number(builder, builder.load(low)) + lost).value, low)
