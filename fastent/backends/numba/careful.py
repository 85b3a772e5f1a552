"""Row formulas for rare options and awkward rows: plain loops over probabilities and surprisals.

`surprisals` turns a row of any kind into P and -log P, both right to a few ulps relative to
themselves; whatever has only non-negative terms is a plain compensated sum of these.
"""

import math

import numpy as np

from .constants import (
    ACCURACY,
    AGAIN,
    BRIER,
    CHECK,
    CONFIDENCE,
    CROSS_ENTROPY,
    DOUBTFUL,
    ENTROPY,
    LOGITS,
    LOGPROBS,
    PRED_NEGATIVE,
    PRED_SUM,
    PROBS,
    RANK,
    RESCALE,
    SKIP,
    TARGET_WEIGHT,
    kernel,
)
from .double_double import two_sum

TINY = 1e-290


@kernel
def gap_to(x, top, temperature):
    """(x - top) / temperature with its rounding error; a +inf top is shared by its ties."""
    if top == math.inf:
        if x != x:
            return math.nan, 0.0
        return (0.0, 0.0) if x == math.inf else (-math.inf, 0.0)
    h, low = two_sum(x, -top)
    if temperature == 1.0 or not abs(h) < math.inf:
        return h, low
    quotient = h / temperature
    product = quotient * temperature
    # the remainder of the division, by Dekker's product
    split = 134217729.0 * quotient
    q_hi = split - (split - quotient)
    q_lo = quotient - q_hi
    split = 134217729.0 * temperature
    t_hi = split - (split - temperature)
    t_lo = temperature - t_hi
    error = ((q_hi * t_hi - product) + q_hi * t_lo + q_lo * t_hi) + q_lo * t_lo
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
def surprisals(x, start, size, kind, rule, temperature, p, n):
    """Fill p with the row's probabilities and n with their negative logarithms."""
    if kind != PROBS and rule == SKIP and kind != LOGITS:
        for j in range(size):
            value = np.float64(x[start + j])
            p[j] = math.exp(value)
            n[j] = -value
        return
    if kind == PROBS and rule == SKIP:
        for j in range(size):
            value = np.float64(x[start + j])
            p[j] = value
            n[j] = -math.log(value) if value > 0.0 else (math.inf if value == 0.0 else math.nan)
        return
    top, place = largest(x, start, size)
    rest = low = 0.0
    if kind == PROBS:
        for j in range(size):
            if j != place:
                rest, error = two_sum(rest, np.float64(x[start + j]))
                low += error
        rest += low
        total = rest + top
        for j in range(size):
            value = np.float64(x[start + j])
            p[j] = value / total
            if p[j] > 0.75:
                n[j] = math.log1p(rest / top)
            elif p[j] > TINY:
                n[j] = -math.log(p[j])
            elif value > 0.0:
                n[j] = math.log(total) - math.log(value)
            else:
                n[j] = math.inf if value == 0.0 else math.nan
        return
    for j in range(size):
        h, tail = gap_to(np.float64(x[start + j]), top, temperature)
        e = math.exp(h)
        e += e * tail
        p[j], n[j] = e, -(h + tail)
        if j != place:
            rest, error = two_sum(rest, e)
            low += error
    rest += low
    if not abs(top) < math.inf and top != math.inf:
        rest = math.nan
    for j in range(size):
        p[j] /= 1.0 + rest
        n[j] += math.log1p(rest)


@kernel
def sparse_columns(p, n, label, columns, out, i):
    """Sparse columns of one row from its probabilities and surprisals."""
    size = p.size
    for k in range(columns.size):
        column = columns[k]
        if column == CROSS_ENTROPY:
            out[k, i] = n[label]
        elif column == CONFIDENCE:
            out[k, i] = largest(p, 0, size)[0]
        elif column == ENTROPY:
            out[k, i] = weighted_surprisal(p, n)
        elif column == BRIER:
            miss = -math.expm1(-n[label])
            total, low = miss * miss, 0.0
            for j in range(size):
                if j != label:
                    total, error = two_sum(total, p[j] * p[j])
                    low += error
            out[k, i] = total + low


@kernel
def weighted_surprisal(weights, n):
    """Sum of weights times surprisals with 0 times inf = 0."""
    total = low = 0.0
    for j in range(n.size):
        if weights[j] != 0.0 or n[j] != n[j]:
            total, error = two_sum(total, weights[j] * n[j])
            low += error
    return total + low


@kernel
def clip_surprisal(n, eps):
    """-log of the probability clipped to [eps, 1 - eps]."""
    if n != n:
        return n
    return min(max(n, -math.log1p(-eps)), -math.log(eps))


@kernel
def cross_entropy_row(t, n, smoothing, eps, weights):
    """Sum of w t' (-log q') and of w t' for a target t, smoothed; empty weights are ones."""
    size = n.size
    total = low = mass = mass_low = 0.0
    for j in range(size):
        target = t[j]
        if smoothing > 0.0:
            target = (1.0 - smoothing) * target + smoothing / size
        if weights.size > 0:
            target *= weights[j]
        surprisal = clip_surprisal(n[j], eps) if eps > 0.0 else n[j]
        if target != 0.0 or surprisal != surprisal:
            total, error = two_sum(total, target * surprisal)
            low += error
        mass, error = two_sum(mass, target)
        mass_low += error
    return total + low, mass + mass_low


@kernel
def option_rows(true, x, classes, labels, kinds, rule, temperatures, eps, smoothing,
                weights, value_out, weight_out, faults):  # fmt: skip
    """Cross-entropy with weights, eps or smoothing, and its target weight.

    `true` is empty for sparse targets; `weights` is (1, C), (n, C) or (0, 0). Rows already found
    faulty are left alone; checks of the sums are made by the plain kernels.
    """
    p = np.empty(classes)
    n = np.empty(classes)
    t = np.zeros(classes)
    t_log = np.empty(classes)
    none = np.empty(0)
    for i in range(value_out.size):
        if labels.size > 0 and labels[i] < 0:
            value_out[i] = weight_out[i] = 0.0
            continue
        if faults[i] != 0:
            continue
        surprisals(x, i * classes, classes, kinds[1], rule, temperatures[1], p, n)
        if true.size > 0:
            surprisals(true, i * classes, classes, kinds[0], rule, temperatures[0], t, t_log)
        else:
            t[labels[i]] = 1.0
        w = none
        if weights.size > 0:
            w = weights[i if weights.shape[0] > 1 else 0]
        value_out[i], weight_out[i] = cross_entropy_row(t, n, smoothing, eps, w)
        if true.size == 0:
            t[labels[i]] = 0.0


@kernel
def lookup_rows(x, classes, labels, kind, out, faults):
    """Surprisals of the labels in numbers taken as they are: one number a row is read."""
    for i in range(labels.size):
        out[i] = 0.0
        if labels[i] >= 0:
            value = np.float64(x[i * classes + labels[i]])
            if kind == LOGPROBS:
                out[i] = -value
            elif value < 0.0:
                faults[i] = PRED_NEGATIVE
            else:
                out[i] = -math.log(value) if value > 0.0 else (math.inf if value == 0.0 else value)


@kernel
def row_fault(x, start, size, kind, rule, tolerance):
    """0 for a sound row, 1 for a negative number, 2 for a bad sum, -1 if there is a NaN."""
    negative = False
    total = low = 0.0
    top = -math.inf
    for j in range(size):
        value = np.float64(x[start + j])
        if value != value:
            return -1
        negative |= value < 0.0
        top = value if value > top else top
        total, error = two_sum(total, value if kind == PROBS else math.exp(value))
        low += error
    if kind == LOGITS:
        return 0
    if kind == PROBS and negative:
        return 1
    if rule == SKIP:
        return 0
    if kind == LOGPROBS and rule == RESCALE:  # any offset of logarithms can be taken out
        return 0 if abs(top) < math.inf else 2
    total += low
    if rule == CHECK:
        return 0 if abs(total - 1.0) <= tolerance else 2
    return 0 if 0.0 < total < math.inf else 2


@kernel
def doubtful_rows(x, classes, faults):
    """AGAIN for doubtful rows that have a negative number."""
    for i in range(faults.size):
        if faults[i] == DOUBTFUL:
            for j in range(i * classes, (i + 1) * classes):
                if x[j] < 0.0:
                    faults[i] = AGAIN


@kernel
def margin_rows(x, classes, labels, kind, rule, temperature, out, faults):
    """p₁ − p₂ of the two largest: p₁·(1 − p₂/p₁), so that near ones keep their digits."""
    p = np.empty(classes)
    n = np.empty(classes)
    for i in range(out.size):
        row = i * classes
        out[i] = math.nan
        top, place = largest(x, row, classes)
        if labels[i] < 0:
            out[i] = 0.0
        elif faults[i] == 0 and top == top and not (kind == LOGITS and top == -math.inf):
            surprisals(x, row, classes, kind, rule, temperature, p, n)
            second = 0.0 if kind == PROBS else -math.inf
            for j in range(classes):
                second = max(second, np.float64(x[row + j])) if j != place else second
            if second == top:
                out[i] = 0.0
            elif kind == PROBS:
                out[i] = p[place] * ((top - second) / top)
            else:
                out[i] = p[place] * -math.expm1((second - top) / temperature)


@kernel
def single_rows(x, classes, labels, columns, kind, rule, tolerance, temperature, out, faults):
    """Sparse columns and entropy of the rows marked AGAIN, whatever they hold."""
    p = np.empty(classes)
    n = np.empty(classes)
    for i in range(faults.size):
        if faults[i] != AGAIN:
            continue
        row, label = i * classes, labels[i] if labels.size > 0 else 0
        fault = row_fault(x, row, classes, kind, rule, tolerance)
        faults[i] = PRED_NEGATIVE if fault == 1 else PRED_SUM if fault == 2 else 0
        if fault > 0:
            continue
        top, place = largest(x, row, classes)
        if fault == 0:
            surprisals(x, row, classes, kind, rule, temperature, p, n)
            sparse_columns(p, n, label, columns, out, i)
        broken = fault < 0 or (kind == LOGITS and top == -math.inf)
        for k in range(columns.size):
            column = columns[k]
            if column == TARGET_WEIGHT:
                out[k, i] = 1.0
            elif broken:
                out[k, i] = math.nan
            elif column == ACCURACY:
                out[k, i] = 1.0 if place == label else 0.0
            elif column == RANK:
                rank = 0
                for j in range(classes):
                    value, mine = x[row + j], x[row + label]
                    rank += value > mine or (value == mine and j < label)
                out[k, i] = float(rank)
