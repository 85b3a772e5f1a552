"""Columns of one Bernoulli probability against a target: every element is a row."""

import math

import numpy as np

from .careful import clip_surprisal, gap_to
from .double_double import dd_add, dd_divide, dd_exp
from .formulas import (
    exp_over,
    exp_tail,
    least,
    less_octaves,
    lift,
    log1p_unit,
    log_of_reduced,
    minus_log_lifted,
    reduced,
    reduction_unit,
    rounder,
    times_power,
)
from .lanes import choose, madd, polynomial
from .loops import at, mapped
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
from .sums import smaller

LN2 = 0.6931471805599453
GREATEST = {True: 3.4028234663852886e38, False: 1.7976931348623157e308}  # float32 or not
PART = 512  # elements that are done again if one of them is not finite
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
def bernoulli_rows(true, x, labels, columns, kind, temperature, eps, smoothing, out,
                   faults):  # fmt: skip
    """Any column, any option: one element at a time."""
    for i in range(x.size):
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


def log_complement(v):
    """log(1 - v) for v in [0, 1): 1 - v is rounded for no v. The argument is chosen first, so that
    there is one logarithm."""
    small, near = v <= 0.2928, v < 0.5
    f, e = reduced(1.0 - v)
    whole = choose(small, v._new(v.lift(0.0)), -1.0)
    return log_of_reduced(choose(near, choose(small, -v, 1.0 - (v + v)), f), choose(near, whole, e))


def prob_loss(t, v):
    """Cross-entropy from probabilities; a number out of range is odd."""
    one = choose(v.same(0.0), math.inf, minus_log_lifted(v * lift(v)))
    zero = choose(v.same(1.0), math.inf, -log_complement(v))
    one = choose(t.same(0.0), 0.0, t * one)
    zero = choose(t.same(1.0), 0.0, (1.0 - t) * zero)
    value = choose(v.nan(), v, one + zero)
    return value, (t < 0.0) | (t > 1.0) | (v < 0.0) | (v > 1.0)


def log1p_exp(a):
    """log1p(e^-a) for a >= 0."""
    if not a.single:
        return log1p_unit(exp_over(-a, a * 0.0, *reduction_unit(1.0)))
    low = least(a, 87.0)
    shifted = madd(-low, 1.4426950408889634, rounder(a))
    r = less_octaves(-low, shifted - rounder(a))
    e = times_power(madd(exp_tail(r), r * r, r) + 1.0, shifted)
    e = choose(a <= 87.0, e, 0.0)
    # log1p(e)/e on [0, 1], to 3e-8
    return e * polynomial(
        e, 0.00523268878685, -0.029505215033, 0.0782259097531, -0.13663241868, 0.191060047105,
        -0.248429816251, 0.33319096724, -0.499994931362, 0.99999996988,
    )  # fmt: skip


def finite_logit_loss(t, x):
    """Cross-entropy from finite logits and targets in [0, 1]; whether there may be others."""
    size = abs(x)
    wrong = choose(x < 0.0, t, 1.0 - t)
    one, most = (t._new(t.lift(v)).bits() for v in (1.0, GREATEST[t.single]))
    odd = (one - t.bits()) | t.bits() | (most - size.bits())
    return madd(size, wrong, log1p_exp(size)), odd


def logit_loss(t, x):
    """The same of any logits; a target out of range is odd."""
    wrong = choose(x < 0.0, t, 1.0 - t)
    value = finite_logit_loss(t, x)[0]
    value = choose(abs(x).same(math.inf) & wrong.same(0.0), 0.0, value)
    return choose(x.nan(), x, value), (t < 0.0) | (t > 1.0)


def loss_kernel(formula, quick=None):
    """A kernel of cross-entropies without smoothing, eps or temperature; counts odd elements.
    With a `quick` formula the other one is for parts that hold something odd."""
    loop, parts = mapped(formula, 2, 1, 0, inner=0), quick is not None
    quick_loop = mapped(quick, 2, 1, 0, inner=0) if parts else loop

    @kernel
    def losses(t, x, out):
        if not parts:
            return loop(out.size, at(t, 0), at(x, 0), at(out, 0))
        odd = 0
        for first in range(0, out.size, PART):
            size = smaller(PART, out.size - first)
            if quick_loop(size, at(t, first), at(x, first), at(out, first)) > 0:
                odd += loop(size, at(t, first), at(x, first), at(out, first))
        return odd

    return losses


LOSSES = {LOGITS: loss_kernel(logit_loss, finite_logit_loss), PROBS: loss_kernel(prob_loss)}


@kernel
def range_faults(t, x, kind, faults):
    """Which elements are out of range."""
    for i in range(t.size):
        if t[i] != t[i] or x[i] != x[i]:
            continue
        if t[i] < 0.0 or t[i] > 1.0:
            faults[i] = TRUE_RANGE
        elif kind == PROBS and (x[i] < 0.0 or x[i] > 1.0):
            faults[i] = PRED_RANGE
