"""Row kernels of divergences given as scalar functions of (p, q).

A row of either kind becomes normalised float64 probabilities in scratch memory; the functions see
nothing else. Classes with p = q = 0 add nothing.
"""

import math

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from . import _first_fault
from .elementary import constants, exp_gap, reduction_unit
from .intrinsics import is_single, segment_max, segment_sum
from .logits import gap_below
from .plan import CHECK, KINDS, LOGPROBS, PROBS, RULES, SKIP, kernel

FINE, NEGATIVE, SUM = 0, 1, 2


@kernel
def probability_row(x, start, size, rule, tolerance, into):
    """Normalised probabilities; what is wrong with them, and whether there is a NaN."""
    negative = 0
    for j in range(size):
        into[j] = np.float64(x[start + j])
        negative += into[j] < 0.0
    if negative:
        return NEGATIVE, False
    total = segment_sum(into, 0, size)
    if total != total:
        return FINE, True
    if rule == SKIP:
        return FINE, False
    if rule == CHECK and abs(total - 1.0) > tolerance:
        return SUM, False
    if not 0.0 < total < math.inf:
        return SUM, False
    for j in range(size):
        into[j] /= total
    return FINE, False


@kernel
def log_row(x, start, size, kind, rule, tolerance, unit, into):
    """The same from logits or log-probabilities."""
    single = is_single(x)
    steps = constants(unit)
    top, ties, has_nan = np.float64(segment_max(x, start, size)), 0.0, False
    for j in range(size):
        value = np.float64(x[start + j])
        has_nan |= value != value
        ties += value == top
    if has_nan:
        return FINE, True
    if kind == LOGPROBS and rule == SKIP:
        for j in range(size):
            into[j] = math.exp(np.float64(x[start + j]))
        return FINE, False
    if abs(top) == math.inf:
        for j in range(size):
            into[j] = 1.0 / ties if x[start + j] == top else 0.0
    else:
        for j in range(size):
            h, low = gap_below(np.float64(x[start + j]), top, single)
            into[j] = exp_gap(h, low, steps, single)
    total = segment_sum(into, 0, size)
    if kind == LOGPROBS:
        mass = math.exp(top) * total
        if top == -math.inf or top == math.inf or (rule == CHECK and abs(mass - 1.0) > tolerance):
            return SUM, False
    elif top == -math.inf:
        return FINE, True
    for j in range(size):
        into[j] /= total
    return FINE, False


@kernel
def any_row(x, start, size, kind, rule, tolerance, unit, into):
    if kind == PROBS:
        return probability_row(x, start, size, rule, tolerance, into)
    return log_row(x, start, size, kind, rule, tolerance, unit, into)


def row_kernel(term, side, finish, count):
    """The kernel over rows of finish(Σ term, Σ side, *parameters), `count` of them."""
    width = count + 1

    @njit(nogil=True, error_model="numpy")
    def rows(
        first, last, p, q, classes, labels, kinds, rule, tolerance, units, numbers, out, faults
    ):
        parameters = to_fixed_tuple(numbers, width)[1:]
        a, b = np.empty(classes), np.empty(classes)
        terms, sides = np.empty(classes), np.empty(classes)
        for i in range(first, last):
            out[i] = 0.0
            if labels[i] < 0:
                continue
            row = i * classes
            wrong, lost = any_row(p, row, classes, kinds[0], rule, tolerance, units[0], a)
            if wrong:
                faults[i] = 2 * wrong - 1
                continue
            wrong, gone = any_row(q, row, classes, kinds[1], rule, tolerance, units[1], b)
            if wrong:
                faults[i] = 2 * wrong
                continue
            if lost or gone:
                out[i] = math.nan
                continue
            for j in range(classes):
                x, y = a[j], b[j]
                terms[j] = 0.0 if x == 0.0 and y == 0.0 else term(x, y, *parameters)
                sides[j] = 0.0 if x == 0.0 and y == 0.0 else side(x, y, *parameters)
            total = segment_sum(terms, 0, classes)
            out[i] = finish(total, segment_sum(sides, 0, classes), *parameters)

    return rows


class Rows:
    """What the engine asks for row values: a kernel with its parameters and unit."""

    def __init__(self, compiled, numbers, unit):
        self.compiled, self.unit = compiled, unit
        self.numbers = np.array([0.0, *numbers])  # a parallel region takes no tuples

    def row_values(self, spec, true, pred, labels, out, terms=None):
        rows, classes = pred.shape
        if rows == 0:
            return None
        faults = np.zeros(rows, np.int8)
        kinds = (spec.kind_true, spec.kind_pred)
        hot = [float(spec.temperature) if kind == "logits" else 1.0 for kind in kinds]
        arguments = (
            true.reshape(-1), pred.reshape(-1), classes,
            np.zeros(rows, np.int64) if labels is None else labels,
            np.array([KINDS[kind] for kind in kinds]), RULES[spec.row_sums],
            float(spec.sum_tolerance), np.array([reduction_unit(t) for t in hot]), self.numbers,
            out[0], faults,
        )  # fmt: skip
        self.compiled(0, rows, *arguments)
        out[0] /= self.unit
        return _first_fault(spec, true, pred, faults)
