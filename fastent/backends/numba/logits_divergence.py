"""KL, JS and distances where a row is logits or log-probabilities.

If both are: v = (b - m_b) - (a - m_a) - c is the log-ratio of a class, free of any common offset.
With weights e^a, F the sum of e^a (e^v - 1 - v) and E that of e^a (e^v - 1): KL = F/A - h(E/A),
exactly, for every centre c. A row in which the two nearly cancel is done again, centred on
log1p(E/A).

Beside probabilities the logarithmic row becomes probabilities in float64, which is twice the
precision of float32 input. For float64 input that is enough while the divergence is not small;
smaller ones go to `careful_pair`, where the exponentials have 106 bits.
"""

import math

import numpy as np

from . import codes, slots
from .functions import excess, exp_of_sum, kappa, log1p_unit, lost_by, phi, reduction_unit
from .logits_cross_entropy import PAD, arithmetic
from .loops import APART, lane_max
from .probabilities import in_chunks, settle_rows
from .probs_divergence import ROWS as PROBS_ROWS, limits
from .rows import scratch
from .sums import FEW, row_sums
from .vectors import called, choose, is_single, kernel

HALF_LN2 = 0.34657359027997265471
F, E, A, B = 0, APART, 2 * APART, 3 * APART  # where the sums of a row stand


def differences(a, b, row):
    """exp(a - m_a), exp(b - m_b) times what is `per` a unit of them, both differences rounded, and
    the centred log-ratio."""
    m_a, m_b, centre, centre_low, per_a, per_b, unit = row
    a_high, b_high = a - m_a, b - m_b
    a_low, b_low = lost_by(a, m_a, a_high), lost_by(b, m_b, b_high)
    v = ((b_high - a_high) - centre) + ((b_low - a_low) - centre_low)
    mine, other = exp_of_sum(a_high, a_low, unit), exp_of_sum(b_high, b_low, unit)
    return mine * per_a, other * per_b, a_high, b_high, v if a.single else v * unit[3]


def centre_terms(a, b, row):
    """Terms of F and E, and both weights."""
    mine, other, a_high, b_high, v = differences(a, b, row)
    second_order = mine * phi(v)
    near = abs(v) <= 2.0
    far = choose(mine > 0.0, (other - mine) - mine * v, other)
    hole = b_high.same(-math.inf) & (a_high > -math.inf)  # the weight may underflow
    far = choose(hole, math.inf, far)
    change = choose(near, second_order + mine * v, other - mine)
    return choose(near, second_order, far), change, mine, other, None


def shannon_terms(a, b, row):
    """Terms of JS of the normalised rows."""
    mine, other, _, _, u = differences(a, b, row)
    least, most = choose(mine < other, mine, other), choose(mine < other, other, mine)
    far = 0.5 * (mine + other) * (0.6931471805599453 - log1p_unit(least / most))
    far = choose(least > 0.0, far - 0.5 * abs(u) * least, HALF_LN2 * (mine + other))
    return choose(abs(u) <= 2.0, (mine + other) * kappa(u), far), None


def difference_of(a, b, row):
    mine, other, _, _, u = differences(a, b, row)
    return mine, other, choose(abs(u) <= 2.0, mine * (u + phi(u)), other - mine)


def variation_terms(a, b, row):
    return 0.5 * abs(difference_of(a, b, row)[2]), None


def hellinger_terms(a, b, row):
    x, y, z = difference_of(a, b, row)
    root = choose(z.same(0.0), 0.0, z / (x.sqrt() + y.sqrt()))
    return 0.5 * root * root, None


add_centred = row_sums(centre_terms, 2, 4, pads=(PAD, PAD))
excess_of = called(excess)


@kernel
def centre_parts(centre, unit, t):
    """A centre in the unit of the logits: what the arithmetic holds of it, and the rest."""
    scaled = centre[0] / unit[3]
    high = np.float64(np.float32(scaled)) if is_single(t) else scaled
    return high, (scaled - high) + centre[1] / unit[3]


def row_kernel(slot, terms):
    """A kernel of the rows of a and b: KL, or sums of `terms` around the right centre."""
    again = terms is not None
    add_terms = row_sums(terms, 2, 1, pads=(PAD, PAD)) if again else add_centred

    @kernel
    def rows(a, b, classes, unit, checks, sums, t, s, out, faults):
        threshold = 0.3 if is_single(t) else 0.5
        for i in range(out.size):
            row = i * classes
            m_a, m_b = lane_max(a, row, classes), lane_max(b, row, classes)
            if not (abs(m_a) < math.inf and abs(m_b) < math.inf):
                faults[i] = codes.AGAIN
                continue
            centre, value = (0.0, 0.0), math.nan
            delta = mass_a = mass_b = 0.0
            for _ in range(3):
                high, low = centre_parts(centre, unit, t)
                constants = (m_a, m_b, high, low, 1.0, math.exp(-centre[0]), unit)
                add_centred(i, 1, classes, a, b, t, s, faults, constants)
                mass_a, mass_b = s[A], s[B] * math.exp(centre[0])
                gap, second_order = s[F] / mass_a, excess_of(s[E] / mass_a)
                value = gap - second_order
                delta = math.log1p(s[E] / mass_a)
                if not (gap < math.inf and second_order > threshold * gap):
                    break
                centre = (delta, 0.0) if centre[0] == 0.0 else (centre[0], centre[1] + delta)
            if again and value == value:
                if value == math.inf:  # disjoint somewhere: the centre is what the masses say
                    centre = (math.log1p(mass_b / mass_a - 1.0), 0.0)
                else:
                    centre = (delta, 0.0) if centre[0] == 0.0 else (centre[0], centre[1] + delta)
                high, low = centre_parts(centre, unit, t)
                constants = (m_a, m_b, high, low, 1.0 / mass_a, 1.0 / mass_b, unit)
                add_terms(i, 1, classes, a, b, t, s, faults, constants)
                value = math.sqrt(s[0]) if slot == slots.HELLINGER else s[0]
            sound = value < math.inf or (value == math.inf and not is_single(t))
            sound &= not checks[0] or sums[0] <= math.exp(m_a) * mass_a <= sums[1]
            sound &= not checks[1] or sums[0] <= math.exp(m_b) * mass_b <= sums[1]
            if sound:
                out[i] = 0.0 if value < 0.0 else value
            else:
                faults[i] = codes.AGAIN

    return rows


TERMS = {
    slots.KL_DIVERGENCE: None,
    slots.JS_DIVERGENCE: shannon_terms,
    slots.TOTAL_VARIATION: variation_terms,
    slots.HELLINGER: hellinger_terms,
}
ROWS = {slot: row_kernel(slot, terms) for slot, terms in TERMS.items()}
WIDE = (slots.TOTAL_VARIATION, slots.HELLINGER)  # a square underflows before its root does


def mixed(rows, slot, out, faults):
    """KL or JS of a row of probabilities and a logarithmic one, in either order."""
    (p, q), classes = rows.operands, rows.classes
    made, room = PROBS_ROWS[slot, classes <= FEW], scratch(np.float64)
    bounds = limits(*rows.bounds(), False)
    enough = 1e-12 if p.dtype == np.float32 else 5e-3
    # where p has none it is of no importance that q has a mass
    nothing = math.nan if rows.kinds[0] == codes.PROBS or slot == slots.JS_DIVERGENCE else 0.0
    for here, flat, (x, y) in in_chunks(rows, (0, 1), len(out)):
        made(x, y, classes, bounds, *room, out[here], faults[here])
        settle_rows(p[flat], x, q[flat], nothing, classes, enough, out[here], faults[here])


def run(rows, lines, faults):
    """The columns in `lines`, by slot."""
    a, b, temperature = rows.true, rows.pred, rows.temperatures[0]
    unit = reduction_unit(temperature)
    for slot, out in lines.items():
        if codes.PROBS in rows.kinds:
            mixed(rows, slot, out, faults)
            continue
        room = scratch(np.float64 if slot in WIDE else arithmetic(a, temperature))
        check = rows.rule == codes.CHECK
        checks = tuple(float(check and kind == codes.LOGPROBS) for kind in rows.kinds)
        ROWS[slot](a, b, rows.classes, unit, checks, rows.bounds(), *room, out, faults)
