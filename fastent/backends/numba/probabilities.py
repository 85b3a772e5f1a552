"""Rows of any kind as float64 probabilities in scratch memory, for kernels that take no others."""

import math

import numpy as np

from . import codes
from .functions import exp_of_sum, lost_by, reduction_unit
from .loops import lane_max, over_elements
from .probs_cross_entropy import plain_sums
from .rows import scratch
from .sums import row_sums
from .vectors import choose, kernel

CHUNK = 1 << 15  # elements that are turned into probabilities at once


def weights(x, m, unit):
    """exp((x - m)/T), 1 at the maximum."""
    high = x - m
    below = choose(x < m, exp_of_sum(high, lost_by(x, m, high), unit), 0.0)
    return choose(x.same(m), 1.0, below), None


def divided(x, total):
    return x / total, None


def holes(y, x, other, nothing):
    return y, y.same(0.0) & (x > -math.inf) & other.same(nothing)


find_holes = over_elements(holes, 3, inner=0)
exponentiate, divide = over_elements(weights, 1), over_elements(divided, 1)
add_plain = row_sums(plain_sums, 1, 1)


@kernel
def total_of(x, row, size, work):
    """Sum in float64 of a row, and whether it has a negative sign."""
    s, note = work
    note[row] = 0
    add_plain(row, 1, size, x, s, s, note)
    return s[0], note[row] != 0


@kernel
def probability_row(x, row, size, kind, rule, tolerance, unit, into, place, work):
    """Fill in the normalised probabilities of a row; what is wrong with it."""
    first, start = row * size, place * size
    top = lane_max(x, first, size)
    if top != top:
        return codes.UNKNOWN
    if kind == codes.PROBS:
        total, signs = total_of(x, row, size, work)
        for j in range(size if signs else 0):
            if x[first + j] < 0.0:
                return codes.NEGATIVE
        mass = total
        divide(first, size, x, start, into, 1.0 if rule == codes.SKIP else total)
        if rule == codes.SKIP:
            return codes.FINE
    elif kind == codes.LOGPROBS and rule == codes.SKIP:
        for j in range(size):
            into[start + j] = math.exp(np.float64(x[first + j]))
        return codes.FINE
    elif abs(top) == math.inf and (kind == codes.LOGPROBS or top < 0.0):
        return codes.SUM if kind == codes.LOGPROBS else codes.UNKNOWN
    else:  # ties at infinity share what there is
        exponentiate(first, size, x, start, into, top, unit)
        total = total_of(into, place, size, work)[0]
        mass = math.exp(top) * total
    checked = kind != codes.LOGITS and rule == codes.CHECK
    if not 0.0 < total < math.inf or (checked and not abs(mass - 1.0) <= tolerance):
        return codes.SUM
    if kind != codes.PROBS:
        divide(start, size, into, start, into, total)
    return codes.FINE


@kernel
def probability_rows(x, classes, kind, rule, tolerance, unit, into, s):
    """The same of some rows; NaN where something is wrong."""
    work = s, np.zeros(x.size // classes, np.int8)
    for r in range(x.size // classes):
        if probability_row(x, r, classes, kind, rule, tolerance, unit, into, r, work):
            into[r * classes : (r + 1) * classes] = math.nan


@kernel
def settle_rows(x, y, other, nothing, classes, enough, out, faults):
    """AGAIN where 53 bits are not enough; infinite where x, which became y, has a mass, maybe one
    that was flushed to 0, and the other operand has none."""
    for i in range(out.size):
        at = i * classes
        if nothing == nothing and find_holes(at, classes, y, x, other, at, y, nothing) > 0:
            out[i] = math.inf
        if not enough <= out[i] < math.inf:
            faults[i] = codes.AGAIN


def in_chunks(rows, operands, count):
    """Slices of rows and of their elements, and the probabilities of some operands there."""
    step, s = max(1, CHUNK // rows.classes), scratch(np.float64)[1]
    rooms = [np.empty(step * rows.classes) for _ in operands]
    for first in range(0, count, step):
        here = slice(first, min(first + step, count))
        flat = slice(here.start * rows.classes, here.stop * rows.classes)
        filled = [room[: flat.stop - flat.start] for room in rooms]
        for k, room in zip(operands, filled, strict=True):
            probability_rows(
                rows.operands[k][flat], rows.classes, rows.kinds[k], rows.rule,
                float(rows.spec.sum_tolerance), reduction_unit(rows.temperatures[k]), room, s,
            )  # fmt: skip
        yield here, flat, filled
