"""Sums over rows of terms that are computed on the way, without a trip to memory.

Rows of few classes lie across the vectors, one in each lane. Others are added up one by one: eight
vectors of terms meet in a tree of additions in the precision of the row (three roundings at most),
and only their sum is widened to the eight lanes of float64 of the row; blocks of a long row are
added with their rounding errors. How a row is cut depends on its length alone.
"""

import math

from numba import types

from . import codes
from .loops import APART, largest, spread, top_of
from .vectors import DOUBLE, Variable, arguments, choose, each, either, inline, lanes_of, when

FEW = 16  # classes up to which rows lie across the vectors
SLIM = 4  # classes up to which neighbouring rows are loaded at once
UNROLLED = 8
LANES = 8  # of a row's sum
SINGLE_BLOCK = 2048  # elements that are added up at once
DOUBLE_BLOCK = 512  # so that the error of 200,000 equal terms stays below 37 roundings
FIRST_CACHE = 1 << 13  # elements that stay there from one pass over them to the next


def row_sums(formula, reads, sums, few=False, pads=(0.0, 0.0), prepare=None, label=False, to=0):
    """A formula over the rows of `reads` arrays whose terms are added up: call it as
    add(begin, rows, classes, *sources, like, target, faults, [labels], *numbers), from row `begin`.

    Arithmetic is done in the type of `like`. Sums go to arrays of the target APART apart, from
    place `to` on, which have room for a vector more. The formula is given the elements and then the
    numbers; it returns its terms, which are 0 (or too little to count) where the sources are
    `pads`, and Bits or None: a sign bit says that the row needs a look, which is NOTED in `faults`;
    the call returns how many do. With `prepare` the maximum of each row of the last source (NaN is
    passed over) goes to the target, and prepare(maximum, *numbers) makes the numbers of the row;
    with `label` the elements of the labels are replaced by `pads`.
    """
    plain = arguments(prepare) - 1 if prepare else arguments(formula) - reads

    @inline(types.intp, 6 + reads + label + plain)
    def add(begin, rows, classes, *given):
        arrays, (like, target, faults, *more) = given[:reads], given[reads:]
        start, sources = begin * classes, [array + begin * classes for array in arrays]
        work = (_Across if few else _Along)(sources, like.element, formula, sums, pads, prepare)
        work.labels = more.pop(0) + begin if label else None
        work.maxima = target
        numbers = [spread(number, work.element, work.lanes) for number in more]
        readable, target = arrays[0].size - start, target + to * APART
        return work.add(rows, classes, readable, target, faults + begin, numbers)

    return add


class _Sums:
    """What both ways to add share."""

    def __init__(self, sources, element, formula, sums, pads, prepare):
        self.sources, self.element, self.formula = sources, element, formula
        self.pads, self.prepare, self.lanes = pads[: len(sources)], prepare, lanes_of(element)
        self.zero = sources[0].zeros(self.lanes).resized(element)
        self.sums = [Variable(sources[0].zeros(self.width).wide()) for _ in range(sums)]
        self.note = Variable(self.zero.bits())

    def clear(self, places):
        for place in places:
            place.value = place.value.filled(0)

    def terms(self, vectors, numbers, kept=None):
        """The formula's terms; what it notes is gathered, in the `kept` lanes."""
        *found, note = self.formula(*vectors, *numbers)
        if note is not None:
            note = note if kept is None else choose(kept, note, 0)
            self.note.value = self.note.value | note
        return found

    def padded(self, where, vectors):
        return [choose(where, pad, v) for v, pad in zip(vectors, self.pads, strict=True)]


class _Along(_Sums):
    """Row by row."""

    width = LANES

    def add(self, rows, classes, readable, target, faults, numbers):
        count = range(len(self.sums))
        self.parts = [Variable(self.zero) for _ in count]
        self.high, self.low = ([Variable(total.value) for total in self.sums] for _ in range(2))
        self.copies = [source.room(self.lanes) for source in self.sources]
        self.own, found = Variable(rows.filled(-1)), Variable(rows.filled(0))
        rooms = [target.room(8 * LANES) for _ in count]
        group = rows.filled(8).least(classes.within(FIRST_CACHE) + 1)
        with each(0, rows, 8) as start:
            most = (rows - start).least(8)
            with each(0, most, group) as first:
                last = most.least(first + group)
                if self.prepare:
                    with each(first, last) as k:
                        top = top_of(self.sources[-1] + (start + k) * classes, classes)
                        self.maxima.store(top.wide(), start + k)
                with each(first, last) as k:
                    self.row(start + k, classes, readable, numbers)
                    for room, high, low in zip(rooms, self.high, self.low, strict=True):
                        room.store(high.value + low.value, k * LANES)
                    with when((self.note.value < 0).any(), likely=False):
                        faults.store(faults.zeros().filled(codes.NOTED), start + k)
                        found.value = found.value + 1
            for k, room in enumerate(rooms):
                vectors = [room.load(LANES, j * LANES) for j in range(8)]
                (target + k * APART).store(_sums_of(vectors), start)
        return found.value

    def row(self, index, classes, readable, numbers):
        if self.prepare:
            top = spread(self.maxima.load(1, index), self.element, self.lanes)
            numbers = self.prepare(top, *numbers)
        self.clear([self.note])
        block = DOUBLE_BLOCK if self.element == DOUBLE else SINGLE_BLOCK
        with each(0, classes, block) as first:
            if self.labels:
                place = self.labels.load(1, index) - first
                self.own.value = choose((place >= 0) & (place < block), place, -1)
            start, size = index * classes + first, (classes - first).least(block)
            self.block([source + start for source in self.sources], size, readable - start, numbers)
            with either(first.same(0)) as (then, otherwise):
                with then:
                    self.clear(self.low)
                    for total, high in zip(self.sums, self.high, strict=True):
                        high.value = total.value
                with otherwise:
                    for places in zip(self.sums, self.high, self.low, strict=True):
                        _add_exactly(*places)

    def block(self, sources, size, readable, numbers):
        """The sums of a block's terms."""
        lanes, step = self.lanes, UNROLLED * self.lanes

        def terms(sources, index, place, kept=None):
            vectors = [source.load(lanes, index).resized(self.element) for source in sources]
            if kept is not None:
                vectors = self.padded(~kept, vectors)
            if self.labels:
                vectors = self.padded((self.own.value - place).only(lanes), vectors)
            return self.terms(vectors, numbers, kept)

        def add(found):
            for part, term in zip(self.parts, found, strict=True):
                part.value = part.value + term

        self.clear(self.sums)
        whole, full = size & -step, size & -lanes
        with each(0, whole, step) as index:
            found = [terms(sources, index + k * lanes, index + k * lanes) for k in range(UNROLLED)]
            for total, vectors in zip(self.sums, zip(*found, strict=True), strict=True):
                _widen(total, _tree(vectors))
        with when(whole < size):
            self.clear(self.parts)
            with each(whole, full, lanes) as index:
                add(terms(sources, index, index))
            rest = size - full
            with when(rest > 0):
                last = [
                    enough(source + full, rest, readable - full, lanes, copy)
                    for source, copy in zip(sources, self.copies, strict=True)
                ]
                add(terms(last, 0, full, rest.first(lanes)))
            for total, part in zip(self.sums, self.parts, strict=True):
                _widen(total, part.value)


class _Across(_Sums):
    """A row in each lane; two columns at once."""

    width = property(lambda self: self.lanes)

    def add(self, rows, classes, readable, target, faults, numbers):
        lanes = self.lanes
        columns = [source.room((FEW + 1) * lanes, self.element) for source in self.sources]
        copies = [source.room((FEW + 1) * lanes) for source in self.sources]
        labels = self.labels and self.labels.room(lanes)
        notes, noted = faults.room(lanes, self.note.value.element), Variable(rows.filled(0))
        with each(0, rows, lanes) as start:
            left, first = (rows - start).least(lanes), start * classes
            needed = (lanes - 1) * classes + FEW
            places = [
                enough(source + first, left * classes, readable - first, needed, copy)
                for source, copy in zip(self.sources, copies, strict=True)
            ]
            if labels:
                self.own = enough(self.labels + start, left, left, lanes, labels).load(lanes)
            self.clear([*self.sums, self.note])
            with either(classes.same(2)) as (two, others):
                with two:
                    pairs = [place.load(2 * lanes).resized(self.element) for place in places]
                    pair = [[v.shuffled(range(k, 2 * lanes, 2)) for v in pairs] for k in range(2)]
                    top = largest(pair[1][-1], pair[0][-1])
                    self.columns(left.filled(0), pair, self.numbers(start, top, numbers))
                with others:
                    for place, to, pad in zip(places, columns, self.pads, strict=True):
                        _lay_across(place, classes, to, lanes)
                        to.store(self.zero.filled(pad), classes * lanes)
                    top = Variable(self.zero.filled(-math.inf))
                    if self.prepare:
                        with each(0, classes) as c:
                            top.value = largest(columns[-1].load(lanes, c * lanes), top.value)
                    mine = self.numbers(start, top.value, numbers)
                    with each(0, classes, 2) as c:
                        pair = [[to.load(lanes, (c + k) * lanes) for to in columns] for k in (0, 1)]
                        self.columns(c, pair, mine, (c + 1 < classes).spread(lanes))
            for k, total in enumerate(self.sums):
                (target + k * APART).store(total.value, start)
            with when((self.note.value < 0).any(), likely=False):
                notes.store(self.note.value)
                with each(0, left) as k, when(notes.load(1, k) < 0):
                    faults.store(faults.zeros().filled(codes.NOTED), start + k)
                    noted.value = noted.value + 1
        return noted.value

    def columns(self, c, pair, numbers, kept=None):
        """Add the terms of columns c and, where it is `kept`, c + 1."""
        found = []
        for k, vectors in enumerate(pair):
            if self.labels:
                vectors = self.padded(self.own.same((c + k).spread(self.lanes)), vectors)
            terms = self.terms(vectors, numbers)
            found.append([choose(kept, t, 0.0) for t in terms] if k and kept else terms)
        for total, terms in zip(self.sums, zip(*found, strict=True), strict=True):
            total.value = total.value + _tree(terms).wide()

    def numbers(self, start, top, numbers):
        if not self.prepare:
            return numbers
        self.maxima.store(top.wide(), start)
        return self.prepare(top, *numbers)


def enough(source, count, readable, needed, room):
    """Where `needed` elements may be read: the source, or a copy of `count` in `room`."""
    place = Variable(source)
    with when(readable < needed, likely=False):
        room.copy(source, count)
        place.value = room
    return place.value


def _lay_across(source, classes, to, lanes):
    """Columns of as many rows as a vector has lanes; whatever is in those past the last."""
    with either(classes <= SLIM) as (then, otherwise):
        with then:
            for count in range(1, SLIM + 1):
                with when(classes.same(count)):
                    rows = source.load(count * lanes)
                    for c in range(count):
                        column = rows.shuffled(range(c, count * lanes, count))
                        to.store(column.resized(to.element), c * lanes)
        with otherwise:
            for first in range(0, FEW, lanes):
                with when(classes > first):
                    rows = [(source + classes * k).load(lanes, first) for k in range(lanes)]
                    for k, column in enumerate(_turned(rows)):
                        to.store(column.resized(to.element), (first + k) * lanes)


def _turned(vectors):
    """A square block of as many vectors as they have lanes, transposed by exchanging ever larger
    halves of neighbours."""
    size, half = len(vectors), 1
    while half < size:
        orders = [
            [k + size - half if k & half else k for k in range(size)],
            [k + size if k & half else k + half for k in range(size)],
        ]
        for k in range(size):
            if not k & half:
                a, b = vectors[k], vectors[k | half]
                vectors[k], vectors[k | half] = (a.shuffled(order, b) for order in orders)
        half *= 2
    return vectors


def _tree(vectors):
    while len(vectors) > 1:
        vectors = [a + b for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def _widen(total, vector):
    """Add a vector of terms to the lanes of a sum."""
    for first in range(0, vector.count, LANES):
        total.value = total.value + vector.shuffled(range(first, first + LANES)).wide()


def _sums_of(vectors):
    """The sums of 8 vectors of 8 lanes, as one vector: neighbours first."""
    for width in (1, 2, 4):
        low, high = (
            [v + k + half + j for k in range(0, 8, 2 * width) for v in (0, 8) for j in range(width)]
            for half in (0, width)
        )
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [a.shuffled(low, b) + a.shuffled(high, b) for a, b in pairs]
    return vectors[0]


def _add_exactly(total, high, low):
    """Add a block's lanes to those of the row, with their rounding errors."""
    before, more = high.value, total.value
    both = before + more
    back = both - before
    lost = (before - (both - back)) + (more - back)
    high.value, low.value = both, low.value + choose(abs(both) < math.inf, lost, 0.0)
