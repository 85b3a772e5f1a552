"""KL, JS and cross-entropy of two rows of probabilities, at the cost of the naive formulas.

With G the sum of x log(x/y) - x + y and D that of y - x, KL of the normalised rows is exactly
G / Sp - h(D / Sp), h(x) = x - log1p(x); JS likewise from both halves. Rows that are nearly
proportional but of different sums cancel there, and go to `pairs`, as does whatever is odd.
"""

import math
from functools import partial

from .careful_pair import CROSS, JS, KL
from .constants import DOUBTFUL, NOTED, NOTED_DOUBT, kernel
from .functions import (
    NEAR,
    excess,
    lifted,
    log_of_sum,
    log_positive,
    log_ratio,
    near_excess,
    near_gap,
    positive_gap,
    speck,
    surprisal_of,
    without_octaves,
)
from .fused import row_adder
from .loops import at, called
from .sums import (
    APART,
    MOST_ROWS,
    block_of,
    copy,
    mark,
    row_loop,
    row_sums,
    settled,
    smaller,
    term_loop,
    within,
)
from .vectors import choose, madd

BIG = 0.75  # the large class is kept out of sums above this
VALUE, ODD = 6, 7  # where the row values stand among the sums


def kl_sums(p, q):
    """x log(x/y) − x + y, x and y − x, and whether y is 0."""
    x, y = lifted(p), lifted(q)
    zero = y.bits() - speck(y).bits() - 1
    return positive_gap(x, y), x, y - x, x.bits() | y.bits(), zero


def js_sums(p, q):
    """The same of twice both rows against their sum m, whose rounding does not matter because the
    differences m − 2x = y − x and m − 2y are handed on. The greater of x and y is within a factor 2
    of the mean, so that only the lesser one has octaves."""
    x, y = lifted(p), lifted(q)
    low, high = x.bits().least(y.bits()).as_number(), x.bits().most(y.bits()).as_number()
    m = x + y
    near, octaves = without_octaves(m, low + low, rising=True)
    # m − 2·low as it is, rounded once, where no octave is taken off
    d = choose(octaves.same(0.0), high - low, near - (low + low))
    of_low = near_gap(low + low, near, d, madd(low + low, octaves, m - near))
    of_high = near_gap(high + high, m, low - high)
    more = x > y
    first, second = choose(more, of_high, of_low), choose(more, of_low, of_high)
    return first, x, y - x, second, x.bits() | y.bits(), None


def cross_sums(p, q):
    """−x log y without classes of y above 3/4, and x and y of either side, and whether y is 0."""
    y = lifted(q)
    small = q <= BIG
    term = choose(small, p * surprisal_of(y, 64 if q.single else 512), 0.0)
    sides = (choose(small, p, 0.0), choose(small, 0.0, p), choose(small, q, 0.0))
    zero = y.bits() - speck(y).bits() - 1
    return term, *sides, choose(small, 0.0, q), p.bits() | q.bits(), zero


def flat(formula, endless):
    """The same terms as arrays; the first one is infinite where p has mass and q none."""

    def terms(p, q):
        first, *others, negative, _ = formula(p, q)
        if endless:
            first = choose(q.same(0.0) & (p > 0.0), math.inf, first)
        return first, *others, negative

    return terms


kl_terms, js_terms = flat(kl_sums, True), flat(js_sums, False)


def kl_value(wide, g, mass, mass_difference, low, high, threshold, allowed):
    """Odd where the sums are apart, if not `wide`."""
    each = 1.0 / mass
    v, gap = mass_difference * each, g * each
    near = abs(v) <= NEAR
    second_order = v * v * near_excess(v)
    sound = within(low, high, mass, mass + mass_difference)
    if wide:
        second_order = choose(near, second_order, excess(v))
    else:
        sound = sound & near
    return settled(gap - second_order, sound & (second_order <= threshold * gap))


def js_value(wide, g, mass, mass_difference, other, low, high, threshold, allowed):
    """½[KL(P ‖ R) + KL(Q ‖ R)] with R = m/Σm, which exceeds JS by a term of second order in the
    relative difference e of the two sums: 0.215·e²·JS, right to 0.035·e²."""
    total = mass + mass_difference
    each, per_other = 1.0 / mass, 1.0 / total
    v, u = 0.5 * mass_difference * each, -0.5 * mass_difference * per_other
    gap = 0.5 * (g * each + other * per_other)
    second_order = v * v * near_excess(v) + u * u * near_excess(u)
    squared = -4.0 * v * u  # e², to e² of itself
    value = 0.5 * (gap - second_order) * (1.0 - 0.215 * squared)
    sound = (
        within(low, high, mass, total)
        & (squared <= allowed * allowed)
        & (second_order <= 0.5 * gap)
    )
    return settled(value, sound)


def cross_value(wide, t, rest, big, pred_rest, pred_big, low, high, threshold, allowed):
    """Odd where the sum is not near 1, if not `wide`."""
    mass, total = rest + big, pred_rest + pred_big
    near = abs(total - 1.0) <= NEAR
    log_total, sound = log_of_sum(total), within(low, high, mass, total)
    if wide:
        log_total = choose(near, log_total, log_positive(total))
    else:
        sound = sound & near
    value = t + rest * log_total
    value = value + choose(big > 0.0, big * log_ratio(pred_rest, pred_big), 0.0)
    return settled(value / mass, sound)


@kernel
def endless(p, q, classes):
    """Whether p has mass where q has none."""
    found = 0
    for j in range(classes):
        found += (q[j] == 0.0) & (p[j] > 0.0)
    return found > 0


def few_rows(formula, value, arrays, zeros):
    """A kernel of the rows of p and q that are mapped together: values to `out`, and to `faults`
    where a row is odd."""
    map_terms = term_loop(flat(formula, zeros), 2, arrays)
    map_near, map_wide = (row_loop(partial(value, wide), arrays, 2) for wide in (False, True))

    @kernel
    def rows(p, q, classes, low, high, threshold, allowed, t, s, out, faults):
        together = smaller(block_of(t) // classes, MOST_ROWS)
        for begin in range(0, out.size, together):
            n, start = smaller(together, out.size - begin), begin * classes
            negative = map_terms(n * classes, at(p, start), at(q, start), at(t, 0))
            row_sums(at(t, 0), arrays, n, classes, at(s, 0))
            odd = map_near(n, at(s, 0), at(s, VALUE * APART), low, high, threshold, allowed)
            if odd > 0:
                odd = map_wide(n, at(s, 0), at(s, VALUE * APART), low, high, threshold, allowed)
            copy(n, at(s, VALUE * APART), at(out, begin))
            if odd + negative > 0:
                mark(n, at(s, ODD * APART), negative, at(faults, begin))

    return rows


def many_rows(formula, value, arrays, zeros):
    """The same where each row is added up by itself."""
    add_rows = row_adder(formula, 2, arrays)
    map_near, map_wide = (row_loop(partial(value, wide), arrays, 2) for wide in (False, True))

    @kernel
    def rows(p, q, classes, low, high, threshold, allowed, t, s, out, faults):
        for begin in range(0, out.size, MOST_ROWS):
            n, start = smaller(MOST_ROWS, out.size - begin), begin * classes
            noted = add_rows(
                n, classes, p.size - start, at(p, start), at(q, start), at(t, 0), at(s, 0),
                at(faults, begin),
            )  # fmt: skip
            if noted > 0 and zeros:
                for r in range(n):
                    if faults[begin + r] <= NOTED:
                        if endless(p[start + r * classes :], q[start + r * classes :], classes):
                            s[r] = math.inf
                        faults[begin + r] = DOUBTFUL if faults[begin + r] == NOTED_DOUBT else 0
            odd = map_near(n, at(s, 0), at(s, VALUE * APART), low, high, threshold, allowed)
            if odd > 0:
                odd = map_wide(n, at(s, 0), at(s, VALUE * APART), low, high, threshold, allowed)
            copy(n, at(s, VALUE * APART), at(out, begin))
            if odd > 0:
                mark(n, at(s, ODD * APART), 0, at(faults, begin))

    return rows


FORMULAS = {
    KL: (kl_sums, kl_value, 3, True),
    JS: (js_sums, js_value, 4, False),
    CROSS: (cross_sums, cross_value, 5, True),
}
ROWS = {
    (what, few): (few_rows if few else many_rows)(*formula)
    for what, formula in FORMULAS.items()
    for few in (False, True)
}
remainder = called(excess)


def limits(what, low, high, single):
    """What makes a row odd, from the bounds of its sums: times what probabilities are lifted by."""
    scale = 1.0 if what == CROSS else 2.0**64 if single else 2.0**512
    return low * scale, high * scale, 0.3 if single else 0.5, 2e-3 if single else 1e-7
