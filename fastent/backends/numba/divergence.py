"""Columns of two distributions, for every pair of kinds and every option."""

import math

import numpy as np

from .elementary import two_sum
from .intrinsics import segment_max
from .pairs import pair_value
from .plan import (
    CHECK,
    LOGITS,
    LOGPROBS,
    PRED_NEGATIVE,
    PRED_SUM,
    PROBS,
    RESCALE,
    SKIP,
    TRUE_NEGATIVE,
    TRUE_SUM,
    kernel,
)
from .probabilities import has_nan, has_negative


@kernel
def row_fault(x, start, size, kind, rule, tolerance):
    """0 for a sound row, 1 for a negative number, 2 for a bad sum."""
    if kind == LOGITS:
        return 0
    if kind == PROBS and has_negative(x, start, size):
        return 1
    if rule == SKIP:
        return 0
    if kind == LOGPROBS and rule == RESCALE:  # any offset of logarithms can be taken out
        return 0 if abs(segment_max(x, start, size)) < math.inf else 2
    total = low = 0.0
    for j in range(size):
        value = np.float64(x[start + j])
        total, error = two_sum(total, value if kind == PROBS else math.exp(value))
        low += error
    total += low
    if rule == CHECK:
        return 0 if abs(total - 1.0) <= tolerance else 2
    return 0 if 0.0 < total < math.inf else 2


@kernel
def pair_fault(p, q, row, size, kinds, rule, tolerance):
    """The fault code of a pair of rows, 0 if there is none, -1 if there is a NaN."""
    if has_nan(p, row, size) or has_nan(q, row, size):
        return -1
    fault = row_fault(p, row, size, kinds[0], rule, tolerance)
    if fault:
        return TRUE_NEGATIVE if fault == 1 else TRUE_SUM
    fault = row_fault(q, row, size, kinds[1], rule, tolerance)
    if fault:
        return PRED_NEGATIVE if fault == 1 else PRED_SUM
    return 0


@kernel
def careful_pair_rows(first, last, p, q, classes, labels, what, kinds, rule, tolerance,
                      temperatures, eps, out, faults):  # fmt: skip
    """One column of rows [first, last), whatever the kinds and options."""
    work = np.empty((6, classes))
    for i in range(first, last):
        if labels[i] < 0:  # ignored, or done already
            continue
        row = i * classes
        fault = pair_fault(p, q, row, classes, kinds, rule, tolerance)
        if fault > 0:
            faults[i] = fault
        elif fault < 0:
            out[i] = math.nan
        else:
            out[i] = pair_value(what, p, q, row, classes, kinds, rule, temperatures, eps, work)


@kernel
def fault_rows(first, last, p, q, classes, labels, kinds, rule, tolerance, missing, faults):
    """Check rows for columns that do not check both operands; mark those that hold a NaN."""
    for i in range(first, last):
        if labels[i] >= 0:
            fault = pair_fault(p, q, i * classes, classes, kinds, rule, tolerance)
            missing[i] = fault < 0
            for x, kind in ((p, kinds[0]), (q, kinds[1])):
                if kind == LOGITS and segment_max(x, i * classes, classes) == -math.inf:
                    missing[i] = True  # no class is possible, so nothing is known of the row
            faults[i] = max(fault, 0)


@kernel
def agreement_rows(first, last, p, q, classes, labels, out):
    """1 where both rows have their first maximum in the same class."""
    for i in range(first, last):
        at_p = at_q = 0
        for j in range(classes):
            if p[i * classes + j] > p[i * classes + at_p]:
                at_p = j
            if q[i * classes + j] > q[i * classes + at_q]:
                at_q = j
        out[i] = 1.0 if at_p == at_q and labels[i] >= 0 else 0.0
