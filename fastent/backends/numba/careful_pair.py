"""Any column of two distributions for one awkward row, in pairs of float64.

Both rows, whatever their kinds, become normalised probabilities of 106 bits and surprisals of 53.
Then sums are exactly 1, KL is the plain sum of x log(x/y) - x + y, and differences of nearly equal
rows are right. About a hundred times the cost of the plain kernels, which send rows here when a
cancellation was too deep for them.
"""

import math

import numpy as np

from . import codes, slots
from .careful import TINY, clip_surprisal, gap_to, largest, pair_fault, surprisal
from .careful_exp import dd_add, dd_divide, dd_exp
from .functions import LN2, kl_term
from .vectors import called, kernel

LEAST = 1e-300  # times HELD: a normal number
NOISE = 2.0**-98  # differences below this, relatively, are rounding of the pairs
HELD = 2.0**500  # probabilities are held times this: tiny ones stay in the normal range
ROOT_HELD = 2.0**250

divergence = called(kl_term)


@kernel
def normalise(x, start, size, kind, rule, temperature, into):
    """Fill in the row's probabilities times HELD, high and low, and their surprisals."""
    high, low, n = into[0], into[1], into[2]
    top, place = largest(x, start, size)
    plain, probs = rule == codes.SKIP and kind != codes.LOGITS, kind == codes.PROBS
    power = 0 if plain or not 0.0 < top < math.inf else math.frexp(top)[1]
    if not abs(top) < math.inf and top != math.inf:
        top = math.nan
    rest = (0.0, 0.0)
    for j in range(size):
        value = np.float64(x[start + j])
        if probs:
            high[j], low[j], n[j] = math.ldexp(value, 500 - power), 0.0, surprisal(value)
        else:
            h, tail = (value, 0.0) if plain else gap_to(value, top, temperature)
            high[j], low[j] = dd_exp(h, tail, 500)
            n[j] = -(h + tail)
        if j != place:
            rest = dd_add(rest, (high[j] / HELD, low[j] / HELD))
    if plain or size == 0:
        return
    total = dd_add(rest, (high[place] / HELD, low[place] / HELD))
    shift = math.log1p(rest[0])
    if probs:
        shift = math.log(total[0]) + (total[1] / total[0] + power * LN2)
    for j in range(size):
        raw = high[j] / HELD
        high[j], low[j] = dd_divide((high[j], low[j]), total)
        if not probs:
            n[j] += shift
        elif j == place:
            n[j] = math.log1p(rest[0] / raw)
        elif high[j] > TINY * HELD:
            n[j] = -math.log(high[j] / HELD)
        else:
            n[j] += shift


@kernel
def pair_row(slot, a, b, plain, eps):
    """One column from two normalised rows; `plain` says that they are taken as they are."""
    total = (0.0, 0.0)
    lost = (0.0, 0.0)
    clip_n = -math.log1p(-eps)
    for j in range(a.shape[1]):
        x, x_low, x_log = a[0, j], a[1, j], a[2, j]
        y, y_low, y_log = b[0, j], b[1, j], b[2, j]
        if x != x or y != y:
            return math.nan
        clipped = y_log
        if eps > 0.0 and (slot == slots.KL_DIVERGENCE or slot == slots.JS_DIVERGENCE):
            clipped = clip_surprisal(y_log, eps)
        if clipped != y_log and slot == slots.JS_DIVERGENCE:
            y, y_low, y_log = HELD * (1.0 - eps if clipped == clip_n else eps), 0.0, clipped
        d, d_low = dd_add((y, y_low), (-x, -x_low))
        if abs(d) <= NOISE * x:
            d = d_low = 0.0
        term, moved = 0.0, (d, d_low) if plain else (0.0, 0.0)
        if slot == slots.KL_DIVERGENCE:
            if clipped != y_log:  # by surprisals: 1 - eps rounds a confident p away
                term = 0.0 if x_log == math.inf else x * (clipped - x_log)
                moved = (0.0, 0.0) if plain else dd_add((x, x_low), (-y, -y_low))  # Σ d = 0
            elif x_log == math.inf:
                term = y
            elif y_log == math.inf:
                return math.inf
            elif x < LEAST or y < LEAST:
                term = x * (y_log - x_log) - x + y
            else:
                term = divergence(x, y, d)
        elif slot == slots.JS_DIVERGENCE:
            half = 0.5 * x + 0.5 * y
            if x >= LEAST or y >= LEAST:
                term = 0.5 * (divergence(x, half, 0.5 * d) + divergence(y, half, -0.5 * d))
        elif slot == slots.TOTAL_VARIATION:
            # what is won is lost elsewhere, maybe where 106 bits do not show it
            term = 0.5 * abs(d) if plain else max(d, 0.0)
            lost = dd_add(lost, (0.0 if plain else max(-d, 0.0), 0.0))
        elif slot == slots.BRIER:
            term = d * (d / HELD)
        elif slot == slots.HELLINGER:
            if d != 0.0:
                root = d / (math.sqrt(x) + math.sqrt(y))
                term = 0.5 * root * root
        elif x_log != math.inf and (x != 0.0 or y_log == math.inf):  # cross-entropy
            term = x * y_log if x > 0.0 else math.inf
        total = dd_add(total, (term, 0.0))
        if slot == slots.KL_DIVERGENCE:
            total = dd_add(total, (-moved[0], -moved[1]))
    if slot == slots.HELLINGER:
        return math.sqrt(total[0]) / ROOT_HELD
    value = max(total[0], lost[0]) / HELD if slot == slots.TOTAL_VARIATION else total[0] / HELD
    return value if plain or eps > 0.0 else max(value, 0.0)


@kernel
def pair_rows(p, q, classes, slot, given, eps, out, faults):
    """One column of the rows marked AGAIN, whatever the kinds and options."""
    kinds, rule, _, temperatures = given
    work = np.empty((2, 3, classes))
    for i in range(faults.size):
        if faults[i] != codes.AGAIN:
            continue
        row = i * classes
        fault = pair_fault(p, q, row, classes, given)
        faults[i] = max(fault, 0)
        if fault != 0:
            out[i] = math.nan
        elif slot == slots.TOP1_AGREEMENT:
            first, second = largest(p, row, classes), largest(q, row, classes)
            out[i] = 1.0 if first[1] == second[1] else 0.0
        else:
            normalise(p, row, classes, kinds[0], rule, temperatures[0], work[0])
            normalise(q, row, classes, kinds[1], rule, temperatures[1], work[1])
            out[i] = pair_row(slot, work[0], work[1], rule == codes.SKIP, eps)


@kernel
def fault_rows(p, q, classes, labels, given, missing, faults):
    """Check rows for columns that do not check both operands; mark those that are unknown."""
    for i in range(faults.size):
        if labels.size == 0 or labels[i] >= 0:
            fault = pair_fault(p, q, i * classes, classes, given)
            missing[i] = fault < 0
            faults[i] = max(fault, 0)
