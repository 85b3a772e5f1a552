"""Divergences of a row of probabilities and one of logits, and cross-entropy where both are logits.

The logarithmic side becomes probabilities in float64, which is twice the precision of float32
input. For float64 input that is enough while the divergence is not small; smaller ones go to
`pairs`, where the exponentials have 106 bits.
"""

import math

import numpy as np

from .careful_pair import JS, KL
from .constants import AGAIN, kernel
from .functions import exp_below, row_unit
from .loops import at, is_single, mapped
from .probs_divergence import js_terms, kl_terms, remainder
from .sums import (
    APART,
    DOUBLE_BLOCK,
    ROOM,
    SPARE,
    add_block,
    block_of,
    lane_max,
    lane_sum,
    settle,
    smaller,
    term_loop,
)
from .vectors import choose

COLUMNS = (KL, JS)
LEAST = 1e-300


def weight_terms(x, m, unit):
    """exp((x - m)/T), 1 at the maximum; a log-probability of NaN is odd."""
    term = exp_below(x, m, row_unit(m, unit))
    return choose(x.same(m), 1.0, choose(x.nan(), x, term)), x.nan()


def scaled_terms(y, scale):
    value = y * scale
    return choose(value < LEAST, 0.0, value), None


def plain_terms(p):
    return p, ~(p >= 0.0)


def surprisal_terms(t, x, m_t, m, unit):
    """Target weights, their products with m - x, and exp(x - m) without the maxima, as for
    sparse rows; both in the same unit. The maxima of x are counted."""
    weight = choose(t.same(m_t), 1.0, exp_below(t, m_t, row_unit(m_t, unit)))
    gap = m - x
    heat = choose(weight.same(0.0), 0.0, weight * gap)
    heat = choose(gap.same(math.inf) & (t > -math.inf), math.inf, heat)  # a weight may underflow
    return weight, heat, exp_below(x, m, row_unit(m, unit)), x.same(m)


map_kl, map_js = term_loop(kl_terms, 2, 3), term_loop(js_terms, 2, 4)
map_plain, map_surprises = term_loop(plain_terms, 1, 1), term_loop(surprisal_terms, 2, 3)
map_weights, map_scaled = mapped(weight_terms, 1, 1, 0), mapped(scaled_terms, 1, 1, 0)


@kernel
def cross_logit_rows(t, x, classes, unit, checks, low, high, terms, s, out, faults):
    """Cross-entropy of rows where the target too is logits or log-probabilities."""
    lost, block = at(s, (SPARE + 3) * APART), block_of(terms)
    for i in range(out.size):
        row, count = i * classes, 0
        m_t = np.float64(lane_max(at(t, row), classes))
        m = np.float64(lane_max(at(x, row), classes))
        if not (abs(m_t) < math.inf and abs(m) < math.inf):
            faults[i] = AGAIN
            continue
        for first in range(row, row + classes, block):
            size = smaller(block, row + classes - first)
            count += map_surprises(size, at(t, first), at(x, first), at(terms, 0), m_t, m, unit)
            add_block(at(terms, 0), 3, size, at(s, 0), lost, first == row)
        settle(3, at(s, 0), lost)
        rest = s[2 * APART] + (count - 1.0)
        out[i] = s[APART] / s[0] * unit[3] + math.log1p(rest)
        sound = out[i] == out[i]
        if is_single(terms):
            sound &= out[i] < math.inf and (count > 1 or rest > 8e-28)
        if checks[0]:
            sound &= low <= math.exp(m_t) * s[0] <= high
        if checks[1]:
            sound &= low <= math.exp(m) * (1.0 + rest) <= high
        if not sound:
            faults[i] = AGAIN


@kernel
def softmax_row(x, row, classes, unit, y, total):
    """Fill y with exp(x - m) scaled to sum to `total`; returns the maximum and the raw sum."""
    top = np.float64(lane_max(at(x, row), classes))
    map_weights(classes, at(x, row), at(y, 0), top, unit)
    raw = 0.0
    for first in range(0, classes, DOUBLE_BLOCK):
        raw += lane_sum(at(y, first), smaller(DOUBLE_BLOCK, classes - first))
    map_scaled(classes, at(y, 0), at(y, 0), total / raw)
    return top, raw


@kernel
def below_range(p, x, row, classes, y):
    """Whether a class that p excludes has a mass which `softmax_row` flushed to 0."""
    for j in range(classes):
        if y[j] == 0.0 and p[row + j] == 0.0 and x[row + j] > -math.inf:
            return True
    return False


@kernel
def mixed_rows(p, x, classes, what, backwards, unit, check_x, low, high, out, faults):
    """KL or JS of probabilities p and logarithmic x; `backwards` is KL of x from p."""
    y = np.empty(classes + 16)
    t = np.empty(4 * ROOM)
    enough = 1e-12 if is_single(p) else 5e-3
    for i in range(out.size):
        row = i * classes
        mass, odd = 0.0, 0
        for first in range(row, row + classes, DOUBLE_BLOCK):
            size = smaller(DOUBLE_BLOCK, row + classes - first)
            odd += map_plain(size, at(p, first), at(t, 0))
            mass += lane_sum(at(t, 0), size)
        # sums far from 1, infinities and NaN are left to `pairs`, which says what is wrong
        if odd > 0 or not low <= mass <= high:
            faults[i] = AGAIN
            continue
        top, raw = softmax_row(x, row, classes, unit, y, mass)
        sound = abs(top) < math.inf and raw < math.inf
        if not sound or (check_x and not low <= math.exp(top) * raw <= high):
            faults[i] = AGAIN
            continue
        first_sum = second_sum = total = moved = 0.0
        for first in range(0, classes, DOUBLE_BLOCK):
            size = smaller(DOUBLE_BLOCK, classes - first)
            part, other = at(p, row + first), at(y, first)
            if what == JS:
                map_js(size, other, part, at(t, 0))
                second_sum += lane_sum(at(t, 3 * ROOM), size)
            elif backwards:
                map_kl(size, other, part, at(t, 0))
            else:
                map_kl(size, part, other, at(t, 0))
            first_sum += lane_sum(at(t, 0), size)
            total += lane_sum(at(t, ROOM), size)
            moved += lane_sum(at(t, 2 * ROOM), size)
        if what == JS:
            end = total + moved
            value = 0.5 * (first_sum / total + second_sum / end)
            value = 0.5 * (value - remainder(0.5 * moved / total) - remainder(-0.5 * moved / end))
        else:
            value = first_sum / total - remainder(moved / total)
        if backwards and what == KL and below_range(p, x, row, classes, y):
            value = math.inf
        if enough <= value < math.inf:
            out[i] = value
        else:
            faults[i] = AGAIN
