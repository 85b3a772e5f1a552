"""Row kernels of divergences given as scalar functions of (p, q).

A row of either kind becomes normalised float64 probabilities in scratch memory; the functions see
nothing else. Classes with p = q = 0 add nothing.
"""

import math

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from .columns import _first_fault
from .constants import CHECK, KINDS, LOGPROBS, PROBS, RULES, SKIP, kernel
from .functions import reduction_unit
from .loops import at, mapped
from .mixed_divergence import map_weights
from .sums import DOUBLE_BLOCK, lane_max, lane_sum

FINE, NEGATIVE, SUM = 0, 1, 2


def copied(x):
    return x, x < 0.0


def shared(x, total):
    return x / total, None


map_copies, map_shares = mapped(copied, 1, 1, 0), mapped(shared, 1, 1, 0)


@kernel
def total_of(into, size):
    """Sum of a row; `into` has room to be read past the end."""
    total = 0.0
    for first in range(0, size, DOUBLE_BLOCK):
        total += lane_sum(at(into, first), min(DOUBLE_BLOCK, size - first))
    return total


@kernel
def probability_row(x, start, size, rule, tolerance, into):
    """Normalised probabilities; what is wrong, and whether there is a NaN."""
    if map_copies(size, at(x, start), at(into, 0)) > 0:
        return NEGATIVE, False
    total = total_of(into, size)
    if total != total:
        return FINE, True
    if rule == SKIP:
        return FINE, False
    if rule == CHECK and abs(total - 1.0) > tolerance:
        return SUM, False
    if not 0.0 < total < math.inf:
        return SUM, False
    map_shares(size, at(into, 0), at(into, 0), total)
    return FINE, False


@kernel
def log_row(x, start, size, kind, rule, tolerance, unit, into):
    """The same from logits or log-probabilities."""
    top = np.float64(lane_max(at(x, start), size))
    if top != top:
        return FINE, True
    if kind == LOGPROBS and rule == SKIP:
        for j in range(size):
            into[j] = math.exp(np.float64(x[start + j]))
        return FINE, False
    if abs(top) == math.inf:
        for j in range(size):
            into[j] = 1.0 if x[start + j] == top else 0.0
    else:
        map_weights(size, at(x, start), at(into, 0), top, unit)
    total = total_of(into, size)
    if kind == LOGPROBS:
        mass = math.exp(top) * total
        if top == -math.inf or top == math.inf or (rule == CHECK and abs(mass - 1.0) > tolerance):
            return SUM, False
    elif top == -math.inf:
        return FINE, True
    map_shares(size, at(into, 0), at(into, 0), total)
    return FINE, False


@kernel
def any_row(x, start, size, kind, rule, tolerance, unit, into):
    if kind == PROBS:
        return probability_row(x, start, size, rule, tolerance, into)
    return log_row(x, start, size, kind, rule, tolerance, unit, into)


def row_kernel(term, finish, count):
    """The kernel over rows of finish(Σ term(p, q, *parameters), *parameters), `count` of them; of
    the sum itself without a `finish`."""
    finishes = finish is not None
    if not finishes:
        finish = term
    width = count + 1

    @njit(nogil=True, error_model="numpy")
    def rows(p, q, classes, labels, kinds, rule, tolerance, units, numbers, out, faults):
        parameters = to_fixed_tuple(numbers, width)[1:]
        room = classes + 16  # sums read a little past the end of a row
        a, b, terms = np.empty(room), np.empty(room), np.empty(room)
        for i in range(out.size):
            out[i] = 0.0
            if labels.size > 0 and labels[i] < 0:
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
            total = total_of(terms, classes)
            if finishes:
                out[i] = finish(total, *parameters)
            else:
                out[i] = total

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
        has_temperature = [float(spec.temperature) if kind == "logits" else 1.0 for kind in kinds]
        arguments = (
            true.reshape(-1), pred.reshape(-1), classes,
            np.empty(0, np.int64) if labels is None else labels,
            np.array([KINDS[kind] for kind in kinds]), RULES[spec.row_sums],
            float(spec.sum_tolerance), tuple(reduction_unit(t) for t in has_temperature),
            self.numbers, out[0], faults,
        )  # fmt: skip
        self.compiled(*arguments)
        out[0] /= self.unit
        return _first_fault(spec, true, pred, faults)
