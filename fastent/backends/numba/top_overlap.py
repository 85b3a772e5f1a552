"""Which classes are the largest of a row, or of both operands."""

import numpy as np

from . import codes, slots
from .vectors import kernel

# how many of the first classes of p and of q, and of how many their common ones are a share
OVERLAPS = {
    slots.TOP1_AGREEMENT: (1, 1),
    slots.TOP5_OVERLAP: (5, 5),
    slots.TOP10_OVERLAP: (10, 10),
    slots.TOP1_IN_TOP5: (1, 5),
}


@kernel
def find_top(x, row, classes, numbers, places):
    """Places of the largest of a row in order, the earlier one of equals first."""
    last = places.size - 1
    for j in range(classes):
        if j > last and not x[row + j] > numbers[last]:
            continue
        k = min(j, last)
        while k > 0 and numbers[k - 1] < x[row + j]:
            numbers[k], places[k] = numbers[k - 1], places[k - 1]
            k -= 1
        numbers[k], places[k] = x[row + j], j


@kernel
def overlap_rows(p, q, classes, of_p, of_q, out):
    """Share of the largest classes of p that are among those of q."""
    numbers = np.empty(of_q)
    ours, theirs = np.empty(min(of_p, classes), np.int64), np.empty(min(of_q, classes), np.int64)
    for i in range(out.size):
        find_top(p, i * classes, classes, numbers, ours)
        find_top(q, i * classes, classes, numbers, theirs)
        both = 0
        for j in ours:
            for k in theirs:
                both += j == k
        out[i] = both / ours.size


def run(rows, lines, faults):
    """The columns in `lines`, by slot."""
    if slots.PREDICTED in lines:  # by the plain loops
        faults[:] = codes.AGAIN
        return
    for slot, out in lines.items():
        overlap_rows(*rows.operands, rows.classes, *OVERLAPS[slot], out)
