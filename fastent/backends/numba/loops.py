"""Formulas as loops over memory that Numba code can call, and what else is done with memory.

A loop works on vectors of 64 bytes whatever the machine has, so a value has the same bits wherever
it stands: the last, partial vector goes through a copy.
"""

import math

from numba import types

from . import codes
from .vectors import Variable, arguments, choose, each, either, inline, lanes_of, spread, when

MOST_ROWS = 512  # of a chunk: their sums and values are vectors too
APART = MOST_ROWS + 16  # distance of the arrays of sums
VALUE, ODD, SPARE = 7, 8, 9  # where values, their oddity and free arrays stand among the sums


def over_elements(formula, reads, inner=None):
    """A formula as a loop over n elements from `begin` on, whose results begin at `to`: call it as
    loop(begin, n, *sources, to, target, *numbers).

    Arithmetic is done in the type of the target, or in that of the `inner` source. The formula is
    given the elements and then the numbers; it returns the results and a Mask, or Bits of which the
    sign counts, or None. The loop returns whether it was seen anywhere.
    """

    @inline(types.intp, 4 + arguments(formula))
    def loop(begin, n, *given):
        sources = [array + begin for array in given[:reads]]
        to, target, *numbers = given[reads:]
        target = target + to
        element = target.element if inner is None else sources[inner].element
        lanes = lanes_of(element)
        numbers = [spread(number, element, lanes) for number in numbers]
        seen = Variable(target.zeros(lanes).resized(element).bits())

        def step(sources, target, index, kept=None):
            loaded = [source.load(lanes, index).resized(element) for source in sources]
            value, odd = formula(*loaded, *numbers)
            target.store(value.resized(target.element), index)
            if odd is not None:
                odd = odd.as_bits(seen.value.element.width)
                seen.value = seen.value | (odd if kept is None else choose(kept, odd, 0))

        whole = n & -lanes
        with each(0, whole, lanes) as index:
            step(sources, target, index)
        rest = n - whole
        with when(rest > 0):
            copies, result = [source.room(lanes) for source in sources], target.room(lanes)
            for copy, source in zip(copies, sources, strict=True):
                copy.store(copy.zeros(lanes))
                copy.copy(source + whole, rest)
            step(copies, result, n.filled(0), rest.first(lanes))
            (target + whole).copy(result, rest)
        return (seen.value.folded(lambda a, b: a | b) < 0).as_count()

    return loop


def over_rows(formula, reads, to=VALUE):
    """A formula over the first `reads` sums of rows: call it as loop(n, sums, *numbers).

    The sums are arrays APART apart, and so are the results, from place `to` on; numbers may be
    tuples. The loop returns how many of the n rows have the Mask that the formula returns last, or
    None.
    """

    @inline(types.intp, 2 + arguments(formula) - reads)
    def loop(n, sums, *numbers):
        lanes = lanes_of(sums.element)
        numbers = [spread(number, sums.element, lanes) for number in numbers]
        seen = Variable(n.filled(0).spread(lanes))
        with each(0, n, lanes) as index:
            loaded = [(sums + k * APART).load(lanes, index) for k in range(reads)]
            *found, odd = formula(*loaded, *numbers)
            for k, value in enumerate(found, to):
                (sums + k * APART).store(value, index)
            if odd is not None:
                seen.value = seen.value + (odd & (n - index).first(lanes)).as_count()
        return seen.value.folded(lambda a, b: a + b)

    return loop


def largest(a, b):
    """The larger one; b where a is NaN."""
    return choose(a > b, a, b)


def top_of(x, n, checked=False):
    """Largest of n >= 1 numbers; NaN if there is one where that is `checked`, else they are passed
    over. Four vectors at once, because one running maximum waits for itself; the last vector
    overlaps the one before."""
    lanes, chains = lanes_of(x.element), 4
    low = x.zeros(lanes).filled(-math.inf)
    best = [Variable(low) for _ in range(chains)]
    odd = Variable(low.nan())

    def meet(value, chain):
        if checked:
            odd.value = odd.value | value.nan()
        chain.value = largest(value, chain.value)

    with either(n < lanes) as (then, otherwise):
        with then, each(0, n) as index:  # one by one, in all lanes
            meet(x.load(1, index).spread(lanes), best[0])
        with otherwise:
            whole, last = n & -(lanes * chains), n - lanes
            with each(0, whole, lanes * chains) as index:
                for k, chain in enumerate(best):
                    meet(x.load(lanes, index + k * lanes), chain)
            with each(whole, n, lanes) as index:
                meet(x.load(lanes, index.least(last)), best[0])
    a, b, c, d = (chain.value for chain in best)
    top = largest(largest(d, c), largest(b, a)).folded(lambda low, high: largest(high, low))
    return choose(odd.value.any(), math.nan, top) if checked else top


@inline(types.float64)
def lane_max(x, start, n):
    """Largest of n >= 1 numbers; NaN if there is one."""
    return top_of(x + start, n, checked=True).wide()


@inline(types.intp)
def rank_of(x, start, classes, label):
    """How many are above the label's, or equal and before it."""
    x = x + start
    own, rank = x.load(1, label), Variable(label.filled(0))
    with each(0, classes) as j:
        value = x.load(1, j)
        above = (value > own) | (value.same(own) & (j < label))
        rank.value = rank.value + above.as_count()
    return rank.value


@inline()
def put(n, sums, place, out, begin):
    """Copy n results of rows to where they are wanted, if they are."""
    with when(out.size > 0):
        (out + begin).copy(sums + place * APART, n)


@inline()
def finish(n, sums, odd, out, faults, begin):
    """Copy n values of rows likewise; AGAIN where one of the `odd` rows is."""
    with when(out.size > 0):
        (out + begin).copy(sums + VALUE * APART, n)
    with when(odd > 0), each(0, n) as index:
        again, place = (sums + ODD * APART).load(1, index) > 0.0, begin + index
        faults.store(choose(again, codes.AGAIN, faults.load(1, place)), place)
