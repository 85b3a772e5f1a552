"""Columns of one Bernoulli probability against a target: every element is a row."""

import math

import numpy as np

from . import codes, slots
from .careful import clip_surprisal, gap_to, surprisal
from .careful_exp import dd_add, dd_divide, dd_exp
from .functions import LN2, even_and_odd, in_pairs, less_octaves, rounder, times_power
from .loops import largest, over_elements
from .rows import NONE
from .vectors import HAS_FMA, choose, kernel, madd, polynomial

PART = 1024  # elements that are computed at a time
PAUSE = 8  # parts until the quick formula is tried again
CLOSE = 0.125  # nearer to its target a logistic probability is wanted with more than 53 bits


@kernel
def bernoulli(x, kind, temperature):
    """p, 1 - p, -log p and -log(1 - p), each right relative to itself."""
    if kind == codes.PROBS:
        return x, 1.0 - x, surprisal(x), -math.log1p(-x) if x < 1.0 else math.inf
    if kind == codes.LOGITS:
        size, tail = gap_to(0.0, abs(x), temperature)
        small = math.exp(size)
        small += small * tail
        near = math.log1p(small)
        far = near - size
        major, minor = 1.0 / (1.0 + small), small / (1.0 + small)
        if x >= 0.0:
            return major, minor, near, far
        return minor, major, far, near
    p = math.exp(x)
    complement = -math.expm1(x)
    # by x, as p of the nearest ones rounds to 1
    no = surprisal(complement) if x > -LN2 else -math.log1p(-p)
    return p, complement, -x, no


@kernel
def squared_miss(x, t, kind, temperature, p, complement):
    """(p - t)^2; a probability of logarithmic kind that is close to its target is made anew."""
    if t == 1.0:
        return complement * complement
    miss = p - t
    if kind == codes.PROBS or abs(miss) > CLOSE * t or not abs(x) < math.inf:
        return miss * miss
    if kind == codes.LOGITS:
        small = dd_exp(*gap_to(0.0, abs(x), temperature), 0)
        pair = dd_divide((1.0, 0.0) if x >= 0.0 else small, dd_add((1.0, 0.0), small))
    else:
        pair = dd_exp(x, 0.0, 0)
    miss = dd_add(pair, (-t, 0.0))[0]
    return miss * miss


@kernel
def range_fault(t, x, kind):
    """The code of what is out of range, else 0; there may be a NaN."""
    if t != t or x != x:
        return 0
    if t < 0.0 or t > 1.0:
        return 2 * codes.RANGE - 1
    above = x > (1.0 if kind == codes.PROBS else 0.0) and kind != codes.LOGITS
    return 2 * codes.RANGE if above or (x < 0.0 and kind == codes.PROBS) else 0


@kernel
def bernoulli_rows(true, x, slot, kind, temperature, eps, smoothing, out, faults):
    """Any column, any option: one element at a time; without `out` only faults."""
    for i in range(x.size):
        t, value = np.float64(true[i]), np.float64(x[i])
        faults[i] = range_fault(t, value, kind)
        if out.size == 0:
            continue
        if faults[i] != 0 or t != t or value != value:
            out[i] = math.nan
            continue
        p, complement, yes, no = bernoulli(value, kind, temperature)
        if slot == slots.CROSS_ENTROPY:
            on = (1.0 - smoothing) * t + 0.5 * smoothing
            off = (1.0 - smoothing) * (1.0 - t) + 0.5 * smoothing
            a = clip_surprisal(yes, eps) if eps > 0.0 else yes
            b = clip_surprisal(no, eps) if eps > 0.0 else no
            out[i] = (on * a if on > 0.0 else 0.0) + (off * b if off > 0.0 else 0.0)
        elif slot == slots.ACCURACY:
            half = 0.5 if kind == codes.PROBS else 0.0 if kind == codes.LOGITS else -LN2
            out[i] = 1.0 if (value >= half) == (t >= 0.5) else 0.0
        elif slot == slots.BRIER:
            out[i] = squared_miss(value, t, kind, temperature, p, complement)
        elif slot == slots.ENTROPY:
            likely = p * yes if p > 0.0 else 0.0
            out[i] = likely + (complement * no if complement > 0.0 else 0.0)
        elif slot == slots.PROBABILITY:
            out[i] = p


def one_of(x):
    """The bits of 1."""
    return 0x3F800000 if x.single else 0x3FF0000000000000


def outside_unit(x):
    """Its sign bit says so, for NaN too: integers leave the multipliers alone."""
    return x.bits() | (one_of(x) - x.bits())


def below_normal(x):
    return x.bits() - (0x00800000 if x.single else 0x0010000000000000)


def surprisal_of_sum(u, c, extra=None):
    """-log((c + u)·2^-extra) for a normal sum, c = 0 or 1: 1 + u is rounded for no u. `extra` are
    the bits of whole octaves.

    c + u = m·2^k with m in [√½, √2); m - 1 is taken from u itself.
    """
    total = u + c
    if u.single:
        whole = (total.bits() - 0x3F3504F3) & -0x800000
        s = (0x3F800000 - whole).as_number()
        f = madd(s, u, madd(s, c, -1.0))
        # (log1p(f) − f)/f² to 3e-8 of the logarithm
        t = in_pairs(
            f, -0.087387129664421, 0.1430769264698, -0.14916363358498, 0.16570316255093,
            -0.19962239265442, 0.25001776218414, -0.33333945274353, 0.49999991059303,
        )  # fmt: skip
        whole = whole if extra is None else whole - extra
        return madd(whole.converted(), -8.26295829486781727573e-8, madd(t, f * f, -f))
    k = (total.bits() - 0x3FE6A09E667F3BCD + (2048 << 52)).logical_shift(52)
    s = (0x3FF0000000000000 - ((k - 2048) << 52)).as_number()
    f = madd(s, u, madd(s, c, -1.0))
    # 2 atanh(f/(2 + f)), to 2e-16
    s = f / (f + 2.0)
    tail = polynomial(
        s * s, 0.16819300313334425877, 0.18123687860553559368, 0.22223370219954249208,
        0.28571417151255980478, 0.40000000052136253075, 0.66666666666587495123, 2.0,
    )  # fmt: skip
    k = k if extra is None else k - extra.logical_shift(52)
    octaves = 4503599627372544.0 - (k | 0x4330000000000000).as_number()
    return madd(-s, tail, octaves * LN2)


def hard_loss(t, v):
    """Cross-entropy of targets 0 and 1 from probabilities, by one of the two logarithms; odd where
    there may be others, or v or 1 - v is no normal number."""
    one, sign = one_of(t), -(1 << (31 if t.single else 63))
    swapped = t.bits() ^ one  # of c = 1 − t; u = ±v: −v for t = 0
    c, u = swapped.as_number(), (v.bits() ^ ((swapped << 2) & sign)).as_number()
    soft = outside_unit(t) | ((t.bits() - one) & ~(t.bits() - 1))
    return surprisal_of_sum(u, c), soft | below_normal(u + c) | outside_unit(v)


def prob_loss(t, v):
    """The same of any targets and probabilities; a number out of range is odd."""
    extra = below_normal(v).logical_shift(31 if t.single else 63) << (29 if t.single else 61)
    scale = (extra + one_of(v)).as_number()  # 2^64 or 2^512 where v is subnormal
    nothing = v * 0.0
    one = choose(v.same(0.0), math.inf, surprisal_of_sum(v * scale, nothing, extra))
    zero = choose(v.same(1.0), math.inf, surprisal_of_sum(-v, nothing + 1.0))
    one = choose(t.same(0.0), 0.0, t * one)
    zero = choose(t.same(1.0), 0.0, (1.0 - t) * zero)
    value = choose(v.nan(), v, one + zero)
    return value, (t < 0.0) | (t > 1.0) | (v < 0.0) | (v > 1.0)


FAR = {True: 87.0, False: 708.0}  # by width: from here on log1p(e^-a) is taken as 0


def plus_log1p_exp(a, more):
    """log1p(e^-a) + more for a in [0, FAR]."""
    shifted = madd(-a, 1.4426950408889634, rounder(a))
    n = shifted - rounder(a)
    if a.single:
        # e^r to 9e-8
        e = polynomial(
            less_octaves(-a, n), 0.0082902209833, 0.041899379342794, 0.16667646169662,
            0.49999138712883, 0.99999970197678, 1.0,
        )  # fmt: skip
        e = times_power(e, shifted)
        # log1p(e)/e on [0, 1], to 3e-8
        t = in_pairs(
            e, 0.0053654224611819, -0.030068300664425, 0.079208828508854, -0.13754187524319,
            0.19153848290443, -0.24857217073441, 0.33321329951286, -0.49999648332596, 1.0,
        )  # fmt: skip
        return madd(e, t, more)
    # (e^r − 1 − r)/r², to 4e-18 of e^r
    r = madd(n, -1.90821492927058770002e-10, madd(n, -6.93147180369123816490e-01, -a))
    t = even_and_odd(
        r, 2.5000016378619278682e-8, 2.7630306247634376788e-7, 2.7557586811278568101e-6,
        0.000024801492949665845111, 0.00019841269505766048109, 0.0013888888943759891465,
        0.0083333333334949804391, 0.041666666666529728828, 0.16666666666666411505,
        0.50000000000000106686,
    )  # fmt: skip
    e = times_power(madd(t, r * r, r) + 1.0, shifted)
    # 2 atanh(e/(2 + e)), to 5e-17: on all of [0, 1] the series is two terms longer than on a part,
    # but nothing is chosen and no octave added
    s = e / (e + 2.0)
    t = even_and_odd(
        s * s, 0.17739750549920606478, 0.09902824644617018922, 0.13586313591235317042,
        0.15364295586784174407, 0.1818281406923744674, 0.22222192904749453327,
        0.28571429057995793911, 0.39999999996049711151, 0.666666666666776944,
    )  # fmt: skip
    return madd(s, madd(t, s * s, 2.0), more)


def near_logit_loss(t, x):
    """Cross-entropy from logits up to FAR and targets in [0, 1]; odd where there may be others."""
    a = abs(x)
    if HAS_FMA:  # |x|·w rounded once, never as a difference of two rounded products
        margin = madd(-x, t, largest(x, x * 0.0))
    else:
        margin = a * choose(x < 0.0, t, 1.0 - t)
    far = a.filled(FAR[a.single]).bits() - a.bits()
    return plus_log1p_exp(a, margin), far | outside_unit(t)


def logit_loss(t, x):
    """The same of any logits; a target out of range is odd."""
    a, wrong = abs(x), choose(x < 0.0, t, 1.0 - t)
    far = choose(wrong.same(0.0), 0.0, a * wrong)
    value = choose(a > FAR[a.single], far, near_logit_loss(t, x)[0])
    return choose(x.nan(), x, value), (t < 0.0) | (t > 1.0)


def loss_kernel(formula, quick):
    """A kernel of cross-entropies without smoothing, eps or temperature; counts odd elements. Parts
    with something that is odd for the `quick` formula take the other one, as do some after them."""
    loop, quick_loop = over_elements(formula, 2, inner=0), over_elements(quick, 2, inner=0)

    @kernel
    def losses(t, x, out):
        odd, wait = 0, 0
        for first in range(0, out.size, PART):
            size = PART if first + PART < out.size else out.size - first
            if wait == 0:
                if quick_loop(first, size, t, x, first, out) == 0:
                    continue
                wait = PAUSE
            odd += loop(first, size, t, x, first, out)
            wait -= 1
        return odd

    return losses


LOSSES = {
    codes.LOGITS: loss_kernel(logit_loss, near_logit_loss),
    codes.PROBS: loss_kernel(prob_loss, hard_loss),
}


def plain(kind, spec):
    """Whether cross-entropies have a kernel of their own."""
    has_temperature = kind == codes.LOGITS and spec.temperature != 1.0
    return not (kind == codes.LOGPROBS or has_temperature or spec.eps or spec.label_smoothing)


def run(rows, lines, faults):
    """The columns in `lines`, by slot."""
    t, x, kind, spec = rows.true, rows.pred, rows.kinds[-1], rows.spec
    ((slot, out),) = lines.items()
    if plain(kind, spec) and slot == slots.CROSS_ENTROPY:
        if LOSSES[kind](t, x, out) == 0:
            return
        out = NONE  # only what is out of range is looked for
    bernoulli_rows(
        t, x, slot, kind, rows.temperatures[-1], float(spec.eps), float(spec.label_smoothing), out,
        faults,
    )  # fmt: skip
