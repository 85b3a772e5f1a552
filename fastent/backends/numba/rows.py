"""What kernels of rows share: their scratch memory and how sums become values."""

import math
from functools import partial, reduce
from operator import and_

import numpy as np

from . import codes
from .loops import APART, MOST_ROWS, SPARE, finish, over_rows, rank_of
from .sums import row_sums
from .vectors import choose, each, inline, kernel, when

NONE = np.empty(0)


def scratch(dtype):
    """An empty array, whose type is that of the arithmetic, and room for the sums of rows."""
    return np.empty(1, dtype), np.empty((SPARE + 4) * APART)


def settled(value, sound):
    """A row value, and 1 where the row needs another look."""
    return choose(value < 0.0, 0.0, value), choose(sound, value.filled(0.0), 1.0), ~sound


def within(low, high, *sums):
    return reduce(and_, ((total >= low) & (total <= high) for total in sums))


def settler(value, sums):
    """A kernel that makes the values of n rows from their sums: where rows are odd for the quick
    formula, value(False, …), the other one is asked, and what is odd for that too is AGAIN."""
    quick, wide = (over_rows(partial(value, wide), sums) for wide in (False, True))

    @kernel
    def settle(n, s, limits, out, faults, begin):
        odd = quick(n, s, limits)
        if odd > 0:
            odd = wide(n, s, limits)
        finish(n, s, odd, out, faults, begin)

    return settle


@inline()
def look_again(noted, p, q, begin, n, classes, endless, s, faults):
    """AGAIN for those of the `noted` rows that have a negative number: a sign may be that of a
    zero. The first sum is infinite, if it may be `endless`, where p has mass and q has none."""
    with when(noted > 0, likely=False), each(begin, begin + n) as i:
        with when(faults.load(1, i).same(codes.NOTED)):
            faults.store(faults.zeros(), i)
            with each(i * classes, (i + 1) * classes) as j:
                x, y = p.load(1, j), q.load(1, j)
                with when(~((x >= 0.0) & (y >= 0.0))):
                    faults.store(faults.zeros().filled(codes.AGAIN), i)
                with when(y.same(0.0) & (x > 0.0) & endless):
                    s.store(s.zeros().filled(math.inf), i - begin)


def pair_kernel(formula, value, sums, few, endless=True):
    """A kernel of the rows of p and q."""
    add, settle = row_sums(formula, 2, sums, few), settler(value, sums)

    @kernel
    def rows(p, q, classes, limits, t, s, out, faults):
        for begin in range(0, out.size, MOST_ROWS):
            n = MOST_ROWS if begin + MOST_ROWS < out.size else out.size - begin
            noted = add(begin, n, classes, p, q, t, s, faults)
            look_again(noted, p, q, begin, n, classes, endless, s, faults)
            settle(n, s, limits, out, faults, begin)

    return rows


@kernel
def place_labels(x, begin, n, classes, labels, rank, accuracy):
    """Ranks of the labels, and whether they are the first maxima, if they are wanted."""
    for i in range(begin, begin + (n if rank.size + accuracy.size > 0 else 0)):
        if labels[i] >= 0:
            place = rank_of(x, i * classes, classes, labels[i])
            if rank.size > 0:
                rank[i] = place
            if accuracy.size > 0:
                accuracy[i] = 1.0 if place == 0 else 0.0
