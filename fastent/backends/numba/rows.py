"""What kernels of rows share: their scratch memory and how sums become values."""

import math
from functools import partial

import numpy as np

from . import codes
from .loops import APART, MOST_ROWS, copy, mark, over_rows, rank_of, smaller
from .sums import row_sums
from .vectors import at, kernel

VALUE, ODD, SPARE = 7, 8, 9  # where values, their oddity and free arrays stand among the sums
NONE = np.empty(0)


def scratch(dtype):
    """An empty array, whose type is that of the arithmetic, and room for the sums of rows."""
    return np.empty(1, dtype), np.empty((SPARE + 4) * APART)


def settler(value, sums):
    """A kernel that makes the values of n rows from their sums: where rows are odd for the quick
    formula, value(False, …), the other one is asked, and what is odd for that too is AGAIN."""
    quick, wide = (over_rows(partial(value, wide), sums, 2) for wide in (False, True))

    @kernel
    def settle(n, s, limits, out, faults, begin):
        odd = quick(n, at(s, 0), at(s, VALUE * APART), limits)
        if odd > 0:
            odd = wide(n, at(s, 0), at(s, VALUE * APART), limits)
        if out.size > 0:
            copy(n, at(s, VALUE * APART), at(out, begin))
        if odd > 0:
            mark(n, at(s, ODD * APART), at(faults, begin))

    return settle


def pair_kernel(formula, value, sums, few, endless=True):
    """A kernel of the rows of p and q; `endless`: the first sum is infinite where p has mass and q
    has none."""
    add, settle = row_sums(formula, 2, sums, few), settler(value, sums)

    @kernel
    def rows(p, q, classes, limits, t, s, out, faults):
        for begin in range(0, out.size, MOST_ROWS):
            n, start = smaller(MOST_ROWS, out.size - begin), begin * classes
            noted = add(
                n, classes, p.size - start, at(p, start), at(q, start), at(t, 0), at(s, 0),
                at(faults, begin),
            )  # fmt: skip
            for r in range(n if noted > 0 else 0):
                if faults[begin + r] == codes.NOTED:
                    faults[begin + r] = 0
                    for j in range(start + r * classes, start + (r + 1) * classes):
                        if not (p[j] >= 0.0 and q[j] >= 0.0):
                            faults[begin + r] = codes.AGAIN
                        elif endless and q[j] == 0.0 and p[j] > 0.0:
                            s[r] = math.inf
            settle(n, s, limits, out, faults, begin)

    return rows


@kernel
def place_labels(x, begin, n, classes, labels, rank, accuracy):
    """Ranks of the labels, and whether they are the first maxima."""
    for r in range(n):
        if labels[begin + r] >= 0:
            place = rank_of(at(x, (begin + r) * classes), classes, labels[begin + r])
            if rank.size > 0:
                rank[begin + r] = place
            if accuracy.size > 0:
                accuracy[begin + r] = 1.0 if place == 0 else 0.0
