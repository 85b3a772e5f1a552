"""KL, JS and distances where both rows are logits or log-probabilities.

v = (b - m_b) - (a - m_a) - c is the log-ratio of a class, free of any common offset. With weights
e^a, F the sum of e^a (e^v - 1 - v) and E that of e^a (e^v - 1): KL = F/A - h(E/A), exactly, for
every centre c. A row in which the two nearly cancel is done again, centred on log1p(E/A).
"""

import math

import numpy as np

from .careful_pair import HELLINGER, JS, KL, TOTAL_VARIATION
from .constants import AGAIN, kernel
from .functions import excess, exp_of_sum, exp_over, kappa, log1p_unit, lost_by, phi
from .loops import at, called, is_single
from .sums import APART, SPARE, add_block, block_of, lane_max, settle, smaller, term_loop
from .vectors import choose

HALF_LN2 = 0.34657359027997265471
F, E, A, B = 0, APART, 2 * APART, 3 * APART  # where the sums of a row stand


def differences(a, b, m_a, m_b, centre, centre_low, unit):
    """exp(a - m_a), exp(b - m_b), both differences rounded, and the centred log-ratio."""
    a_high, b_high = a - m_a, b - m_b
    a_low, b_low = lost_by(a, m_a, a_high), lost_by(b, m_b, b_high)
    v = ((b_high - a_high) - centre) + ((b_low - a_low) - centre_low)
    if a.single:
        return exp_of_sum(a_high, a_low), exp_of_sum(b_high, b_low), a_high, b_high, v
    return (
        exp_over(a_high, a_low, *unit),
        exp_over(b_high, b_low, *unit),
        a_high,
        b_high,
        v * unit[3],
    )


def centre_terms(a, b, m_a, m_b, centre, centre_low, shrink, unit):
    """Terms of F and E, and both weights."""
    mine, other, a_high, b_high, v = differences(a, b, m_a, m_b, centre, centre_low, unit)
    other = other * shrink
    second_order = mine * phi(v)
    near = abs(v) <= 2.0
    far = choose(mine > 0.0, (other - mine) - mine * v, other)
    hole = b_high.same(-math.inf) & (a_high > -math.inf)  # the weight may underflow
    far = choose(hole, math.inf, far)
    change = choose(near, second_order + mine * v, other - mine)
    return choose(near, second_order, far), change, mine, other, None


def shannon_terms(a, b, m_a, m_b, centre, centre_low, per_a, per_b, unit):
    """Terms of JS of the normalised rows."""
    mine, other, _, _, u = differences(a, b, m_a, m_b, centre, centre_low, unit)
    mine, other = mine * per_a, other * per_b
    least, most = choose(mine < other, mine, other), choose(mine < other, other, mine)
    far = 0.5 * (mine + other) * (0.6931471805599453 - log1p_unit(least / most))
    far = choose(least > 0.0, far - 0.5 * abs(u) * least, HALF_LN2 * (mine + other))
    return choose(abs(u) <= 2.0, (mine + other) * kappa(u), far), None


def difference_of(a, b, m_a, m_b, centre, centre_low, per_a, per_b, unit):
    mine, other, _, _, u = differences(a, b, m_a, m_b, centre, centre_low, unit)
    mine, other = mine * per_a, other * per_b
    return mine, other, choose(abs(u) <= 2.0, mine * (u + phi(u)), other - mine)


def variation_terms(a, b, m_a, m_b, centre, centre_low, per_a, per_b, unit):
    z = difference_of(a, b, m_a, m_b, centre, centre_low, per_a, per_b, unit)[2]
    return 0.5 * abs(z), None


def hellinger_terms(a, b, m_a, m_b, centre, centre_low, per_a, per_b, unit):
    x, y, z = difference_of(a, b, m_a, m_b, centre, centre_low, per_a, per_b, unit)
    root = choose(z.same(0.0), 0.0, z / (x.sqrt() + y.sqrt()))
    return 0.5 * root * root, None


map_centred = term_loop(centre_terms, 2, 4, over=True)
excess_of = called(excess)


@kernel
def centred_sums(a, b, row, classes, m_a, m_b, centre, unit, t, s):
    """Sums of F, E and both weights of one row for a given centre, which is in two parts."""
    scaled = centre[0] / unit[3]
    single = np.float64(np.float32(scaled)) if is_single(t) else scaled
    low = (scaled - single) + centre[1] / unit[3]
    shrink, lost, block = math.exp(-centre[0]), at(s, (SPARE + 3) * APART), block_of(t)
    for first in range(row, row + classes, block):
        size = smaller(block, row + classes - first)
        map_centred(
            size, a.size - first, at(a, first), at(b, first), at(t, 0), m_a, m_b, single, low,
            shrink, unit,
        )  # fmt: skip
        add_block(at(t, 0), 4, size, at(s, 0), lost, first == row)
    settle(4, at(s, 0), lost)


def pair_kernel(what, terms):
    """A kernel of the rows of a and b: KL, or sums of `terms` around the right centre."""
    again = terms is not None
    map_terms = term_loop(terms, 2, 1, over=True) if again else map_centred

    @kernel
    def rows(a, b, classes, unit, checks, low, high, t, s, out, faults):
        threshold = 0.3 if is_single(t) else 0.5
        lost, block = at(s, (SPARE + 3) * APART), block_of(t)
        for i in range(out.size):
            row = i * classes
            m_a = np.float64(lane_max(at(a, row), classes))
            m_b = np.float64(lane_max(at(b, row), classes))
            if not (abs(m_a) < math.inf and abs(m_b) < math.inf):
                faults[i] = AGAIN
                continue
            centre, value = (0.0, 0.0), math.nan
            delta = mass_a = mass_b = 0.0
            for attempt in range(3):
                centred_sums(a, b, row, classes, m_a, m_b, centre, unit, t, s)
                mass_a = s[A]
                mass_b = s[B] * math.exp(centre[0])
                gap, second_order = s[F] / mass_a, excess_of(s[E] / mass_a)
                value = gap - second_order
                delta = math.log1p(s[E] / mass_a)
                if not (gap < math.inf and second_order > threshold * gap):
                    break
                centre = (delta, 0.0) if attempt == 0 else (centre[0], centre[1] + delta)
            if again and value == value:
                if value == math.inf:  # disjoint somewhere: the centre is what the masses say
                    centre = (math.log1p(mass_b / mass_a - 1.0), 0.0)
                elif centre[0] == 0.0:
                    centre = (delta, 0.0)
                else:
                    centre = (centre[0], centre[1] + delta)
                scaled = centre[0] / unit[3]
                single = np.float64(np.float32(scaled)) if is_single(t) else scaled
                rest = (scaled - single) + centre[1] / unit[3]
                for first in range(row, row + classes, block):
                    size = smaller(block, row + classes - first)
                    map_terms(
                        size, a.size - first, at(a, first), at(b, first), at(t, 0), m_a, m_b,
                        single, rest, 1.0 / mass_a, 1.0 / mass_b, unit,
                    )  # fmt: skip
                    add_block(at(t, 0), 1, size, at(s, 0), lost, first == row)
                settle(1, at(s, 0), lost)
                value = math.sqrt(s[0]) if what == HELLINGER else s[0]
            sound = value < math.inf or (value == math.inf and not is_single(t))
            if checks[0]:
                sound &= low <= math.exp(m_a) * mass_a <= high
            if checks[1]:
                sound &= low <= math.exp(m_b) * mass_b <= high
            if sound:
                out[i] = 0.0 if value < 0.0 else value
            else:
                faults[i] = AGAIN

    return rows


ROWS = {
    KL: pair_kernel(KL, None),
    JS: pair_kernel(JS, shannon_terms),
    TOTAL_VARIATION: pair_kernel(TOTAL_VARIATION, variation_terms),
    HELLINGER: pair_kernel(HELLINGER, hellinger_terms),
}
WIDE = (TOTAL_VARIATION, HELLINGER)  # a square underflows in float32 before its root does
