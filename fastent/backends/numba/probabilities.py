"""Rows of any kind as float64 probabilities in scratch memory, for kernels that take no others."""

import math

import numpy as np

from . import codes
from .functions import exp_below, reduction_unit
from .loops import lane_max, over_elements
from .probs_cross_entropy import plain_sums
from .rows import scratch
from .sums import row_sums
from .vectors import at, choose, kernel

FINE, NEGATIVE, SUM = range(3)
CHUNK = 1 << 15  # elements that are turned into probabilities at once


def weights(x, m, unit):
    """exp((x - m)/T), 1 at the maximum."""
    return choose(x.same(m), 1.0, exp_below(x, m, unit)), None


def shares(x, total):
    return x / total, None


map_weights, map_plain = over_elements(weights, 1), over_elements(shares, 1)
add_plain = row_sums(plain_sums, 1, 1)


@kernel
def total_of(x, start, size, s, note):
    """Sum in float64 of a row, and whether it has a negative sign."""
    note[0] = 0
    add_plain(1, size, x.size - start, at(x, start), at(s, 0), at(s, 0), at(note, 0))
    return s[0], note[0] != 0


@kernel
def probability_row(x, row, size, kind, rule, tolerance, unit, into, start, s, note):
    """Fill in the normalised probabilities of a row; what is wrong, and whether there is a NaN."""
    top = lane_max(at(x, row), size)
    if top != top:
        return FINE, True
    if kind == codes.PROBS:
        total, signs = total_of(x, row, size, s, note)
        mass = total
        for j in range(size if signs else 0):
            if x[row + j] < 0.0:
                return NEGATIVE, False
        map_plain(size, at(x, row), at(into, start), 1.0 if rule == codes.SKIP else total)
        if rule == codes.SKIP:
            return FINE, False
    elif kind == codes.LOGPROBS and rule == codes.SKIP:
        for j in range(size):
            into[start + j] = math.exp(np.float64(x[row + j]))
        return FINE, False
    elif abs(top) == math.inf:  # ties share what there is
        if kind == codes.LOGPROBS or top < 0.0:
            return (SUM, False) if kind == codes.LOGPROBS else (FINE, True)
        total = mass = 0.0
        for j in range(size):
            into[start + j] = 1.0 if x[row + j] == top else 0.0
            total += into[start + j]
    else:
        map_weights(size, at(x, row), at(into, start), top, unit)
        total = total_of(into, start, size, s, note)[0]
        mass = math.exp(top) * total
    if kind != codes.LOGITS and rule == codes.CHECK and not abs(mass - 1.0) <= tolerance:
        return SUM, False
    if not 0.0 < total < math.inf:
        return SUM, False
    if kind != codes.PROBS:
        map_plain(size, at(into, start), at(into, start), total)
    return FINE, False


@kernel
def probability_rows(x, first, rows, classes, kind, rule, tolerance, unit, into, s):
    """The same of some rows; NaN where something is wrong."""
    note = np.zeros(1, np.int8)
    for r in range(rows):
        row, start = (first + r) * classes, r * classes
        wrong, lost = probability_row(
            x, row, classes, kind, rule, tolerance, unit, into, start, s, note
        )
        if wrong != FINE or lost:
            into[r * classes : (r + 1) * classes] = math.nan


@kernel
def settle_rows(x, y, other, nothing, first, rows, classes, enough, out, faults):
    """AGAIN where 53 bits are not enough; infinite where x, which became y, has a mass, maybe one
    that was flushed to 0, and the other operand has none."""
    for r in range(first, first + rows):
        for j in range(classes if nothing == nothing else 0):
            if y[(r - first) * classes + j] == 0.0 and x[r * classes + j] > -math.inf:
                if other[r * classes + j] == nothing:
                    out[r] = math.inf
        if not enough <= out[r] < math.inf:
            faults[r] = codes.AGAIN


def in_chunks(rows, sides, count):
    """(first row, how many, their probabilities) of the operands of some sides."""
    step, s = max(1, CHUNK // rows.classes), scratch(np.float64)[1]
    rooms = [np.empty(step * rows.classes) for _ in sides]
    for first in range(0, count, step):
        n = min(step, count - first)
        for side, room in zip(sides, rooms, strict=True):
            probability_rows(
                rows.operands[side], first, n, rows.classes, rows.kinds[side], rows.rule,
                float(rows.spec.sum_tolerance), reduction_unit(rows.temperatures[side]), room, s,
            )  # fmt: skip
        yield first, n, [room[: n * rows.classes] for room in rooms]
