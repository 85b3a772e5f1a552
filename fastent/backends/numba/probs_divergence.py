"""KL and JS of two rows of probabilities, at the cost of the naive formulas.

With G the sum of x log(x/y) - x + y and D that of y - x, KL of the normalised rows is exactly
G / Sp - h(D / Sp), h(x) = x - log1p(x); JS likewise from both halves. Rows that are nearly
proportional but of different sums cancel there, and go to `careful_pair`, as does whatever is odd.
"""

import numpy as np

from . import slots
from .functions import NEAR, excess, gap, is_speck, lifted, near_excess, near_gap
from .rows import pair_kernel, scratch, settled, within
from .sums import FEW
from .vectors import choose


def kl_sums(p, q):
    """x log(x/y) − x + y, x and y − x, and whether y is 0."""
    x, y = lifted(p), lifted(q)
    return gap(x, y), x, y - x, x.bits() | y.bits() | is_speck(y)


def js_sums(p, q):
    """The same of twice both rows against their sum m, whose rounding does not matter because the
    differences m − 2x = y − x and m − 2y are handed on. The greater of x and y is within a factor 2
    of the mean, so that only the lesser one has octaves."""
    x, y = lifted(p), lifted(q)
    low, high = x.bits().least(y.bits()).as_number(), x.bits().most(y.bits()).as_number()
    m = x + y
    of_low = gap(low + low, m, high - low, rising=True)  # m − 2·low as it is, rounded once
    of_high = near_gap(high + high, m, low - high)
    more = x > y
    first, second = choose(more, of_high, of_low), choose(more, of_low, of_high)
    return first, x, y - x, second, x.bits() | y.bits()


def kl_value(wide, g, mass, mass_difference, limits):
    """Odd where the sums are apart, if not `wide`."""
    low, high, threshold, _ = limits
    each = 1.0 / mass
    v, whole = mass_difference * each, g * each
    near = abs(v) <= NEAR
    second_order = v * v * near_excess(v)
    sound = within(low, high, mass, mass + mass_difference)
    if wide:
        second_order = choose(near, second_order, excess(v))
    else:
        sound = sound & near
    return settled(whole - second_order, sound & (second_order <= threshold * whole))


def js_value(wide, g, mass, mass_difference, other, limits):
    """½[KL(P ‖ R) + KL(Q ‖ R)] with R = m/Σm, which exceeds JS by a term of second order in the
    relative difference e of the two sums: 0.215·e²·JS, right to 0.035·e²."""
    low, high, _, allowed = limits
    total = mass + mass_difference
    each, per_other = 1.0 / mass, 1.0 / total
    v, u = 0.5 * mass_difference * each, -0.5 * mass_difference * per_other
    whole = 0.5 * (g * each + other * per_other)
    second_order = v * v * near_excess(v) + u * u * near_excess(u)
    squared = -4.0 * v * u  # e², to e² of itself
    value = 0.5 * (whole - second_order) * (1.0 - 0.215 * squared)
    close = (squared <= allowed * allowed) & (second_order <= 0.5 * whole)
    return settled(value, within(low, high, mass, total) & close)


FORMULAS = {
    slots.KL_DIVERGENCE: (kl_sums, kl_value, 3),
    slots.JS_DIVERGENCE: (js_sums, js_value, 4),
}
ROWS = {
    (slot, few): pair_kernel(*formula, few, endless=slot == slots.KL_DIVERGENCE)
    for slot, formula in FORMULAS.items()
    for few in (False, True)
}


def limits(low, high, single):
    """What makes a row odd, from the bounds of its sums: times what probabilities are lifted by."""
    scale = 2.0**64 if single else 2.0**512
    return low * scale, high * scale, 0.3 if single else 0.5, 2e-3 if single else 1e-7


def run(rows, lines, faults):
    """The columns in `lines`, by slot."""
    p, q, single = rows.true, rows.pred, rows.pred.dtype == np.float32
    bounds, few = limits(*rows.bounds(), single), rows.classes <= FEW
    for slot, out in lines.items():
        ROWS[slot, few](p, q, rows.classes, bounds, *scratch(p.dtype), out, faults)
