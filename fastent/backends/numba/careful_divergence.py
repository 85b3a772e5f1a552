"""Columns of two distributions, for every pair of kinds and every option."""

import math

import numpy as np

from .careful import row_fault
from .careful_pair import pair_value
from .constants import (
    AGAIN,
    LOGITS,
    PRED_NEGATIVE,
    PRED_SUM,
    TRUE_NEGATIVE,
    TRUE_SUM,
    kernel,
)
from .loops import at
from .sums import lane_max


@kernel
def pair_fault(p, q, row, size, kinds, rule, tolerance):
    """The fault code of a pair of rows, 0 if there is none, -1 if there is a NaN."""
    first = row_fault(p, row, size, kinds[0], rule, tolerance)
    second = row_fault(q, row, size, kinds[1], rule, tolerance)
    if first < 0 or second < 0:
        return -1
    if first:
        return TRUE_NEGATIVE if first == 1 else TRUE_SUM
    if second:
        return PRED_NEGATIVE if second == 1 else PRED_SUM
    return 0


@kernel
def careful_pair_rows(p, q, classes, what, kinds, rule, tolerance, temperatures, eps, out,
                      faults):  # fmt: skip
    """One column of the rows marked AGAIN, whatever the kinds and options."""
    work = np.empty((6, classes))
    for i in range(faults.size):
        if faults[i] != AGAIN:
            continue
        faults[i] = 0
        row = i * classes
        fault = pair_fault(p, q, row, classes, kinds, rule, tolerance)
        if fault > 0:
            faults[i] = fault
        elif fault < 0:
            out[i] = math.nan
        else:
            out[i] = pair_value(what, p, q, row, classes, kinds, rule, temperatures, eps, work)


@kernel
def fault_rows(p, q, classes, labels, kinds, rule, tolerance, missing, faults):
    """Check rows for columns that do not check both operands; mark those that hold a NaN."""
    for i in range(faults.size):
        if labels.size == 0 or labels[i] >= 0:
            fault = pair_fault(p, q, i * classes, classes, kinds, rule, tolerance)
            missing[i] = fault < 0
            for x, kind in ((p, kinds[0]), (q, kinds[1])):
                if kind == LOGITS and lane_max(at(x, i * classes), classes) == -math.inf:
                    missing[i] = True  # no class is possible, so nothing is known of the row
            faults[i] = max(fault, 0)


@kernel
def find_top(x, row, classes, count, numbers, places):
    """Places of the largest of a row in order, the earlier one of equals first."""
    found = 0
    for j in range(classes):
        if found == count and not x[row + j] > numbers[count - 1]:
            continue
        k = found if found < count else count - 1
        found = min(found + 1, count)
        while k > 0 and numbers[k - 1] < x[row + j]:
            numbers[k], places[k] = numbers[k - 1], places[k - 1]
            k -= 1
        numbers[k], places[k] = x[row + j], j
    return found


@kernel
def overlap_rows(p, q, classes, of_p, of_q, out):
    """Share of the largest classes of p that are among those of q."""
    numbers, ours, theirs = np.empty(of_q), np.empty(of_p, np.int64), np.empty(of_q, np.int64)
    for i in range(out.size):
        count = find_top(p, i * classes, classes, of_p, numbers, ours)
        others = find_top(q, i * classes, classes, of_q, numbers, theirs)
        both = 0
        for j in ours[:count]:
            for k in theirs[:others]:
                both += j == k
        out[i] = both / count


@kernel
def agreement_rows(p, q, classes, out):
    """1 where both rows have their first maximum in the same class."""
    for i in range(out.size):
        at_p = at_q = 0
        for j in range(classes):
            if p[i * classes + j] > p[i * classes + at_p]:
                at_p = j
            if q[i * classes + j] > q[i * classes + at_q]:
                at_q = j
        out[i] = 1.0 if at_p == at_q else 0.0
