"""Columns of one Bernoulli probability against a target: every element is a row."""

import math

import numpy as np

from .careful import clip_surprisal, gap_to
from .double_double import dd_add, dd_divide, dd_exp
from .elementary import constants, exp_gap, log, log1p_unit, log_of, scalar
from .intrinsics import is_single
from .plan import (
    ACCURACY,
    BRIER,
    CROSS_ENTROPY,
    ENTROPY,
    LOGITS,
    PRED_RANGE,
    PROBABILITY,
    PROBS,
    TRUE_RANGE,
    kernel,
)

LN2 = 0.6931471805599453
NORMAL = 2.2250738585072014e-308
LIFT = 18014398509481984.0  # 2**54
CLOSE = 1e-3  # nearer to its target a logistic probability is wanted with more than 53 bits


@kernel
def bernoulli(x, kind, temperature):
    """p, 1 - p, -log p and -log(1 - p), each right relative to itself."""
    if kind == PROBS:
        yes = -math.log(x) if x > 0.0 else (math.inf if x == 0.0 else x)
        no = -math.log1p(-x) if x < 1.0 else (math.inf if x == 1.0 else x)
        return x, 1.0 - x, yes, no
    if kind == LOGITS:
        size, tail = gap_to(0.0, abs(x), temperature)
        small = math.exp(size)
        small += small * tail
        near = math.log1p(small)
        far = near - size
        major, minor = 1.0 / (1.0 + small), small / (1.0 + small)
        if abs(x) == math.inf:
            near, far, major, minor = 0.0, math.inf, 1.0, 0.0
        if x >= 0.0:
            return major, minor, near, far
        return minor, major, far, near
    p = math.exp(x)
    complement = -math.expm1(x)
    no = -math.log(complement) if p > 0.5 and p < 1.0 else -math.log1p(-p)
    return p, complement, -x, no


@kernel
def squared_miss(x, t, kind, temperature, p, complement):
    """(p - t)^2; a probability of logarithmic kind that is close to its target is made anew."""
    if t == 1.0:
        return complement * complement
    miss = p - t
    if kind == PROBS or abs(miss) > CLOSE * t or not abs(x) < math.inf:
        return miss * miss
    if kind == LOGITS:
        small = dd_exp(*gap_to(0.0, abs(x), temperature), 0)
        pair = dd_divide((1.0, 0.0) if x >= 0.0 else small, dd_add((1.0, 0.0), small))
    else:
        pair = dd_exp(x, 0.0, 0)
    miss = dd_add(pair, (-t, 0.0))[0]
    return miss * miss


@kernel
def bernoulli_rows(first, last, true, x, labels, columns, kind, temperature, eps, smoothing, out,
                   faults):  # fmt: skip
    """Columns of elements [first, last)."""
    for i in range(first, last):
        if labels.size > 0 and labels[i] < 0:
            out[:, i] = 0.0
            continue
        t, value = np.float64(true[i]), np.float64(x[i])
        if t != t or value != value:
            out[:, i] = math.nan
            continue
        if t < 0.0 or t > 1.0:
            faults[i] = TRUE_RANGE
            continue
        if (kind != LOGITS and value > (1.0 if kind == PROBS else 0.0)) or (
            kind == PROBS and value < 0.0
        ):
            faults[i] = PRED_RANGE
            continue
        p, complement, yes, no = bernoulli(value, kind, temperature)
        for k in range(columns.size):
            column = columns[k]
            if column == CROSS_ENTROPY:
                on = (1.0 - smoothing) * t + 0.5 * smoothing
                off = (1.0 - smoothing) * (1.0 - t) + 0.5 * smoothing
                a = clip_surprisal(yes, eps) if eps > 0.0 else yes
                b = clip_surprisal(no, eps) if eps > 0.0 else no
                out[k, i] = (on * a if on > 0.0 else 0.0) + (off * b if off > 0.0 else 0.0)
            elif column == ACCURACY:
                if kind == PROBS:
                    likely = value >= 0.5
                else:
                    likely = value >= (0.0 if kind == LOGITS else -LN2)
                out[k, i] = 1.0 if likely == (t >= 0.5) else 0.0
            elif column == BRIER:
                out[k, i] = squared_miss(value, t, kind, temperature, p, complement)
            elif column == ENTROPY:
                out[k, i] = (p * yes if p > 0.0 else 0.0) + (
                    complement * no if complement > 0.0 else 0.0
                )
            elif column == PROBABILITY:
                out[k, i] = p


@scalar
def log_complement(v, single):
    """log(1 - v) for v in [0, 1): the difference is rounded only where that is exact."""
    if v >= 0.5:
        return log(1.0 - v, single)
    low = v <= 0.29289321881345254
    return log_of(-v if low else 1.0 - 2.0 * v, 0.0 if low else -1.0, single)


@kernel
def plain_prob_losses(t, x, size, out):
    """Cross-entropy from probabilities, without smoothing or eps; counts values out of range."""
    single = is_single(x)
    outside = 0
    for j in range(size):
        target, v = np.float64(t[j]), np.float64(x[j])
        outside += (target < 0.0) | (target > 1.0) | (v < 0.0) | (v > 1.0)
        tiny = v < NORMAL
        yes = log(v * LIFT if tiny else v, single) - (54.0 * LN2 if tiny else 0.0)
        yes = -math.inf if v == 0.0 else yes
        no = -math.inf if v == 1.0 else log_complement(v, single)
        rest = 1.0 - target
        on = 0.0 if target == 0.0 else -target * yes
        off = 0.0 if rest == 0.0 else -rest * no
        value = on + off
        out[j] = v if v != v else value
    return outside


@kernel
def plain_logit_losses(t, x, size, unit, out):
    """Cross-entropy from logits, without smoothing or eps; counts targets out of range."""
    single = is_single(x)
    inverse = unit[3]
    outside = 0
    for j in range(size):
        target, v = np.float64(t[j]), np.float64(x[j])
        outside += (target < 0.0) | (target > 1.0)
        distance = abs(v)
        soft = log1p_unit(exp_gap(-distance, 0.0, unit, single), single)
        wrong = 1.0 - target if v >= 0.0 else target
        out[j] = soft + (0.0 if wrong == 0.0 else distance * inverse * wrong)
    return outside


@kernel
def loss_rows(first, last, true, x, labels, kind, unit, out, faults):
    """Cross-entropy of elements [first, last) in vector loops."""
    unit = constants(unit)
    size = last - first
    t, v, values = true[first:last], x[first:last], out[first:last]
    if kind == PROBS:
        outside = plain_prob_losses(t, v, size, values)
    else:
        outside = plain_logit_losses(t, v, size, unit, values)
    if labels.size > 0:
        for i in range(first, last):
            if labels[i] < 0:
                out[i] = 0.0
    if outside > 0:
        for i in range(first, last):
            if (labels.size > 0 and labels[i] < 0) or true[i] != true[i] or x[i] != x[i]:
                continue
            if true[i] < 0.0 or true[i] > 1.0:
                faults[i] = TRUE_RANGE
            elif kind == PROBS and (x[i] < 0.0 or x[i] > 1.0):
                faults[i] = PRED_RANGE
