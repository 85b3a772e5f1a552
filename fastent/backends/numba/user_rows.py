"""Row kernels of divergences given as scalar functions of (p, q).

A row of either kind becomes normalised float64 probabilities in scratch memory; the functions see
nothing else. Classes with p = q = 0 add nothing. Ready-made functions also get a third number: d =
q − p with its digits, where the difference of the rounded numbers has lost them, or 1 − q.
"""

import math

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from . import _first_fault
from .constants import CHECK, KINDS, LOGPROBS, PROBS, RULES, SKIP, kernel
from .double_double import fma, two_sum
from .functions import reduction_unit
from .loops import at, mapped
from .mixed_divergence import map_weights
from .sums import DOUBLE_BLOCK, lane_max, lane_sum

FINE, NEGATIVE, SUM = 0, 1, 2
NOTHING, DIFFERENCE, REST = range(3)  # the third number


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
    """Normalised probabilities; what is wrong, whether there is a NaN, and what was divided by."""
    if map_copies(size, at(x, start), at(into, 0)) > 0:
        return NEGATIVE, False, 1.0
    total = total_of(into, size)
    if total != total:
        return FINE, True, 1.0
    if rule == SKIP:
        return FINE, False, 1.0
    if rule == CHECK and abs(total - 1.0) > tolerance:
        return SUM, False, total
    if not 0.0 < total < math.inf:
        return SUM, False, total
    map_shares(size, at(into, 0), at(into, 0), total)
    return FINE, False, total


@kernel
def log_row(x, start, size, kind, rule, tolerance, unit, into):
    """The same from logits or log-probabilities."""
    top = np.float64(lane_max(at(x, start), size))
    if top != top:
        return FINE, True, 1.0
    if kind == LOGPROBS and rule == SKIP:
        for j in range(size):
            into[j] = math.exp(np.float64(x[start + j]))
        return FINE, False, 1.0
    if abs(top) == math.inf:
        for j in range(size):
            into[j] = 1.0 if x[start + j] == top else 0.0
    else:
        map_weights(size, at(x, start), at(into, 0), top, unit)
    total = total_of(into, size)
    if kind == LOGPROBS:
        mass = math.exp(top) * total
        if top == -math.inf or top == math.inf or (rule == CHECK and abs(mass - 1.0) > tolerance):
            return SUM, False, total
    elif top == -math.inf:
        return FINE, True, 1.0
    map_shares(size, at(into, 0), at(into, 0), total)
    return FINE, False, total


@kernel
def any_row(x, start, size, kind, rule, tolerance, unit, into):
    if kind == PROBS:
        return probability_row(x, start, size, rule, tolerance, into)
    return log_row(x, start, size, kind, rule, tolerance, unit, into)


@kernel
def differences(p, q, start, size, kinds, rule, hot, sums, a, b, d):
    """d = q − p of the normalised rows a and b, to a rounding error of itself.

    Rows of one kind: the rounding of their sums moves all of d by a multiple of b, which Σ d, being
    0, tells. Mixed kinds have the digits of a and b.
    """
    plain = rule == SKIP or kinds[0] != kinds[1]
    if kinds[0] == PROBS:
        scale = sums[0] / sums[1]
        plain |= not 1e-290 < scale < 1e290
        for j in range(size):
            if plain:
                d[j] = b[j] - a[j]
            else:
                x, y = np.float64(p[start + j]), np.float64(q[start + j])
                d[j] = fma(y, scale, -x) / sums[0]
    else:
        top = np.float64(lane_max(at(p, start), size))
        other = np.float64(lane_max(at(q, start), size))
        plain |= not (abs(top) < math.inf and abs(other) < math.inf)
        shift = math.log(sums[1] / sums[0])
        for j in range(size):
            d[j] = b[j] - a[j]
            if not plain:
                h, low = two_sum(np.float64(p[start + j]), -top)
                g, tail = two_sum(np.float64(q[start + j]), -other)
                v = ((g - h) + (tail - low)) / hot - shift
                if abs(v) < 1.0:
                    d[j] = a[j] * math.expm1(v)
    if not plain:
        lost = total_of(d, size)
        for j in range(size):
            d[j] -= b[j] * lost


@kernel
def rests(b, size, d):
    """d = 1 − b of a normalised row, from the other numbers where one is above ½."""
    big = -1
    for j in range(size):
        d[j] = 1.0 - b[j]
        if b[j] > 0.5:
            big = j
    if big >= 0:
        own = b[big]
        b[big] = 0.0
        d[big] = total_of(b, size)
        b[big] = own


def row_kernel(term, side, finish, count, third=NOTHING):
    """The kernel over rows of finish(Σ term, Σ side, *parameters), `count` of them.

    Term and side take (p, q, third, *parameters); a side of None adds up to 0.
    """
    two = side is not None
    if side is None:
        side = term
    width = count + 1

    @njit(nogil=True, error_model="numpy")
    def rows(p, q, classes, labels, kinds, rule, tolerance, units, hot, numbers, out, faults):
        parameters = to_fixed_tuple(numbers, width)[1:]
        room = classes + 16  # sums read a little past the end of a row
        a, b = np.empty(room), np.empty(room)
        terms, sides, d = np.empty(room), np.empty(room), np.zeros(room)
        for i in range(out.size):
            out[i] = 0.0
            if labels.size > 0 and labels[i] < 0:
                continue
            row = i * classes
            wrong, lost, mass = any_row(p, row, classes, kinds[0], rule, tolerance, units[0], a)
            if wrong:
                faults[i] = 2 * wrong - 1
                continue
            wrong, gone, other = any_row(q, row, classes, kinds[1], rule, tolerance, units[1], b)
            if wrong:
                faults[i] = 2 * wrong
                continue
            if lost or gone:
                out[i] = math.nan
                continue
            if third == DIFFERENCE:
                differences(p, q, row, classes, kinds, rule, hot, (mass, other), a, b, d)
            elif third == REST:
                rests(b, classes, d)
            for j in range(classes):
                x, y = a[j], b[j]
                terms[j] = 0.0 if x == 0.0 and y == 0.0 else term(x, y, d[j], *parameters)
                if two:
                    sides[j] = 0.0 if x == 0.0 and y == 0.0 else side(x, y, d[j], *parameters)
            total = total_of(terms, classes)
            out[i] = finish(total, total_of(sides, classes) if two else 0.0, *parameters)

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
            np.empty(0, np.int64) if labels is None else labels,
            np.array([KINDS[kind] for kind in kinds]), RULES[spec.row_sums],
            float(spec.sum_tolerance), tuple(reduction_unit(t) for t in hot), hot[0],
            self.numbers, out[0], faults,
        )  # fmt: skip
        self.compiled(*arguments)
        out[0] /= self.unit
        return _first_fault(spec, true, pred, faults)
