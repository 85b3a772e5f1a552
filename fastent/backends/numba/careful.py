"""Row formulas for rare options and awkward rows: plain loops over probabilities and surprisals.

`surprisals` turns a row of any kind into P and -log P, both right to a few ulps relative to
themselves; whatever has only non-negative terms is a plain compensated sum of these.
"""

import math

import numpy as np

from . import codes, slots
from .careful_exp import two_product, two_sum
from .functions import LEAST_DOUBLE
from .loops import rank_of
from .vectors import kernel

TINY = 1e-290


@kernel
def gap_to(x, top, temperature):
    """(x - top) / temperature with its rounding error; a +inf top is shared by its ties."""
    if top == math.inf:
        return (0.0, 0.0) if x == math.inf else (-math.inf, 0.0)
    h, low = two_sum(x, -top)
    if temperature == 1.0 or not abs(h) < math.inf:
        return h, low
    quotient = h / temperature
    product, error = two_product(quotient, temperature)
    rest = ((h - product) - error + low) / temperature
    return quotient, (rest if abs(rest) < math.inf else 0.0)


@kernel
def largest(x, start, size):
    """Value and place of the first maximum; NaN if there is any NaN."""
    top, place = np.float64(x[start]), 0
    for j in range(size):
        value = np.float64(x[start + j])
        if value != value:
            return math.nan, 0
        if value > top:
            top, place = value, j
    return top, place


@kernel
def surprisal(p):
    """−log p, of a negative number NaN."""
    if p > 0.0:
        return -math.log(p)
    return math.inf if p == 0.0 else math.nan


@kernel
def surprisals(x, start, size, kind, rule, temperature, p, n):
    """Fill p with the row's probabilities and n with their negative logarithms."""
    if rule == codes.SKIP and kind != codes.LOGITS:
        for j in range(size):
            value = np.float64(x[start + j])
            p[j] = value if kind == codes.PROBS else math.exp(value)
            n[j] = surprisal(value) if kind == codes.PROBS else -value
        return
    top, place = largest(x, start, size)
    probs = kind == codes.PROBS
    rest = low = 0.0
    for j in range(size):
        value = np.float64(x[start + j])
        if probs:
            p[j], n[j] = value, surprisal(value)
        else:
            h, tail = gap_to(value, top, temperature)
            e = math.exp(h)
            p[j], n[j] = e + e * tail, -(h + tail)
        if j != place:
            rest, error = two_sum(rest, p[j])
            low += error
    rest += low
    if not probs and not abs(top) < math.inf and top != math.inf:
        rest = math.nan
    total = rest + (top if probs else 1.0)
    for j in range(size):
        p[j] /= total
        if not probs:
            n[j] += math.log1p(rest)
        elif p[j] > 0.75:
            n[j] = math.log1p(rest / top)
        elif p[j] > TINY:
            n[j] = -math.log(p[j])
        else:
            n[j] += math.log(total)


@kernel
def clip_surprisal(n, eps):
    """-log of the probability clipped to [eps, 1 - eps]."""
    if n != n:
        return n
    return min(max(n, -math.log1p(-eps)), -math.log(eps))


@kernel
def cross_entropy_row(t, n, smoothing, eps, weights):
    """Sum of w t' (-log q') and of w t' for a target t, smoothed; empty weights are ones, and 0
    times infinity is 0."""
    total = low = mass = mass_low = 0.0
    for j in range(n.size):
        target = (1.0 - smoothing) * t[j] + smoothing / n.size if smoothing > 0.0 else t[j]
        if weights.size > 0:
            target *= weights[j]
        loss = clip_surprisal(n[j], eps) if eps > 0.0 else n[j]
        if target != 0.0 or loss != loss:
            total, error = two_sum(total, target * loss)
            low += error
        mass, error = two_sum(mass, target)
        mass_low += error
    return total + low, mass + mass_low


@kernel
def lookup_rows(x, classes, labels, kind, out, faults):
    """Surprisals of the labels in numbers taken as they are: one number a row is read."""
    for i in range(labels.size):
        out[i] = 0.0
        if labels[i] >= 0:
            value = np.float64(x[i * classes + labels[i]])
            faults[i] = 2 * codes.NEGATIVE if kind == codes.PROBS and value < 0.0 else 0
            out[i] = surprisal(value) if kind == codes.PROBS else -value


@kernel
def row_fault(x, start, size, kind, rule, tolerance):
    """What is wrong with a row; UNKNOWN if there is a NaN, EMPTY if no class is possible."""
    top = largest(x, start, size)[0]
    if top != top:
        return codes.UNKNOWN
    if kind == codes.LOGITS:
        return codes.EMPTY if top == -math.inf else codes.FINE
    negative = False
    total = low = 0.0
    for j in range(size):
        value = np.float64(x[start + j])
        negative |= value < 0.0
        total, error = two_sum(total, value if kind == codes.PROBS else math.exp(value))
        low += error
    total += low
    if kind == codes.PROBS and negative:
        return codes.NEGATIVE
    if rule == codes.SKIP:
        sound = True
    elif rule == codes.CHECK:
        sound = abs(total - 1.0) <= tolerance
    elif kind == codes.LOGPROBS:  # any offset of logarithms can be taken out
        sound = abs(top) < math.inf
    else:
        sound = 0.0 < total < math.inf
    return codes.FINE if sound else codes.SUM


@kernel
def pair_fault(p, q, row, size, given):
    """The fault of a pair of rows, 0 if there is none, less if one is undefined; of one row if p is
    empty. A NaN exempts both from checks, an empty row only itself."""
    kinds, rule, tolerance, _ = given
    first = row_fault(p, row, size, kinds[0], rule, tolerance) if p.size > 0 else codes.FINE
    second = row_fault(q, row, size, kinds[-1], rule, tolerance)
    if first == codes.UNKNOWN or second == codes.UNKNOWN:
        return codes.UNKNOWN
    if first > 0 or second > 0:
        return 2 * first - 1 if first > 0 else 2 * second
    return min(first, second)


@kernel
def sparse_column(slot, x, p, n, label, top, place, kind, temperature):
    """A column of one row from its numbers, probabilities and surprisals."""
    if slot == slots.PREDICTED:
        return float(place)
    if slot == slots.CROSS_ENTROPY:
        return n[label]
    if slot == slots.ENTROPY:
        return cross_entropy_row(p, n, 0.0, 0.0, p[:0])[0]
    if slot == slots.CONFIDENCE:
        return largest(p, 0, p.size)[0]
    if slot == slots.ACCURACY:
        return 1.0 if place == label else 0.0
    if slot == slots.RANK:
        return float(rank_of(x, 0, x.size, label))
    if slot == slots.BRIER:
        miss = -math.expm1(-n[label])
        total, low = miss * miss, 0.0
        for j in range(p.size):
            if j != label:
                total, error = two_sum(total, p[j] * p[j])
                low += error
        return total + low
    # the margin p₁ − p₂ = p₁·(1 − p₂/p₁), so that near ones keep their digits
    second = 0.0 if kind == codes.PROBS else -math.inf
    for j in range(p.size):
        second = max(second, np.float64(x[j])) if j != place else second
    if second == top:
        return 0.0
    if kind == codes.PROBS:
        return p[place] * ((top - second) / top)
    return p[place] * -math.expm1((second - top) / temperature)


@kernel
def single_rows(x, classes, labels, wanted, given, out, faults):
    """Sparse columns and entropy of the rows marked AGAIN, whatever they hold."""
    kinds, rule, _, temperatures = given
    kind, temperature = kinds[-1], temperatures[-1]
    p, n = np.empty(classes), np.empty(classes)
    for i in range(faults.size):
        if faults[i] != codes.AGAIN:
            continue
        row, label = i * classes, labels[i] if labels.size > 0 else 0
        fault = pair_fault(x[:0], x, row, classes, given)
        faults[i] = max(fault, 0)
        if fault > 0:
            continue
        if fault < 0:
            out[:, i] = math.nan
            continue
        top, place = largest(x, row, classes)
        if wanted[0] != slots.PREDICTED:
            surprisals(x, row, classes, kind, rule, temperature, p, n)
        for k in range(wanted.size):
            out[k, i] = sparse_column(
                wanted[k], x[row : row + classes], p, n, label, top, place, kind, temperature
            )


@kernel
def option_rows(true, x, classes, labels, given, eps, smoothing, weights, values, masses, faults):
    """Cross-entropy with weights, eps or smoothing, and its target weight.

    `true` is empty for sparse targets; `weights` is (1, C), (n, C) or (0, 0).
    """
    kinds, rule, _, temperatures = given
    p, n, t, t_log = np.empty(classes), np.empty(classes), np.empty(classes), np.empty(classes)
    for i in range(values.size):
        if labels.size > 0 and labels[i] < 0:
            continue
        row = i * classes
        faults[i] = max(pair_fault(true, x, row, classes, given), 0)
        if faults[i] > 0:
            continue
        surprisals(x, row, classes, kinds[-1], rule, temperatures[-1], p, n)
        if true.size > 0:
            surprisals(true, row, classes, kinds[0], rule, temperatures[0], t, t_log)
            for j in range(classes):
                if t[j] == 0.0 and t_log[j] < math.inf:  # not 0 beside an infinite surprisal
                    t[j] = LEAST_DOUBLE
        else:
            t[:] = 0.0
            t[labels[i]] = 1.0
        w = weights[i if weights.shape[0] > 1 else 0] if weights.size > 0 else p[:0]
        values[i], masses[i] = cross_entropy_row(t, n, smoothing, eps, w)
