"""KL, JS and cross-entropy of two rows of probabilities, at the cost of the naive formulas.

With G the sum of x log(x/y) - x + y and D that of y - x, KL of the normalised rows is exactly
G / Sp - h(D / Sp), h(x) = x - log1p(x); JS likewise from both halves. Rows that are nearly
proportional but of different sums cancel there, and go to `pairs`, as does whatever is odd.
"""

import math

from .formulas import excess, gap_divergence, lift, log1p_of, log_positive, minus_log_lifted
from .lanes import choose
from .loops import at, called
from .pairs import CROSS, JS, KL
from .plan import kernel
from .sums import (
    APART,
    MOST_ROWS,
    SPARE,
    add_block,
    block_of,
    copy,
    mark,
    row_loop,
    row_sums,
    settle,
    settled,
    smaller,
    term_loop,
    within,
)

BIG = 0.75  # the large class is kept out of sums above this
VALUE, ODD = 6, 7  # where the row values stand among the sums


def kl_terms(p, q):
    """x log(x/y) - x + y, x and y - x; a sign bit is odd (a negative number, or -0)."""
    x, y = p * lift(p), q * lift(q)
    d = y - x
    return gap_divergence(x, y, d), x, d, x.bits() | y.bits()


def js_terms(p, q):
    """The same of x and of y against their mean m, whose rounding does not matter because m - x is
    handed on exactly."""
    x, y = p * lift(p), q * lift(q)
    d = y - x
    m = 0.5 * x + 0.5 * y
    first, second = gap_divergence(x, m, 0.5 * d), gap_divergence(y, m, -0.5 * d)
    return first, x, d, second, x.bits() | y.bits()


def cross_terms(p, q):
    """-x log y without classes of y above 3/4, and x and y of either side."""
    term = p * minus_log_lifted(q * lift(q))
    term = choose(q.same(0.0) & (p > 0.0), math.inf, term)
    small = q <= BIG
    sides = (choose(small, p, 0.0), choose(small, 0.0, p), choose(small, q, 0.0))
    return choose(small, term, 0.0), *sides, choose(small, 0.0, q), p.bits() | q.bits()


def kl_value(g, mass, drift, low, high, threshold, allowed):
    gap = g / mass
    bend = excess(drift / mass)
    return settled(gap - bend, within(low, high, mass, mass + drift) & (bend <= threshold * gap))


def js_value(g, mass, drift, other, low, high, threshold, allowed):
    """½[KL(P ‖ R) + KL(Q ‖ R)] with R = m/Σm, which exceeds JS by a term of second order in the
    relative difference e of the two sums: 0.215·e²·JS, right to 0.035·e²."""
    total = mass + drift
    gap = g / mass + other / total
    bend = excess(0.5 * drift / mass) + excess(-0.5 * drift / total)
    e = 2.0 * drift / (mass + total)
    value = 0.5 * (gap - bend) * (1.0 - 0.215 * e * e)
    sound = within(low, high, mass, total) & (abs(e) <= allowed) & (bend <= 0.5 * gap)
    return settled(value, sound)


def cross_value(t, rest, big, pred_rest, pred_big, low, high, threshold, allowed):
    value = t + rest * log_positive(pred_rest + pred_big)
    value = value + choose(big > 0.0, big * log1p_of(pred_rest / pred_big), 0.0)
    mass = rest + big
    return settled(value / mass, within(low, high, mass, pred_rest + pred_big))


def pair_rows(terms, value, arrays):
    """A kernel of the rows of p and q: values to `out`, and to `faults` where a row is odd."""
    map_terms, map_values = term_loop(terms, 2, arrays), row_loop(value, arrays, 2)

    @kernel
    def rows(p, q, classes, low, high, threshold, allowed, t, s, out, faults):
        lost = at(s, SPARE * APART)
        block = block_of(t)
        together = smaller(block // classes, MOST_ROWS) if classes <= block else 1
        count = out.size
        begin = 0
        while begin < count:
            n = smaller(together, count - begin)
            start = begin * classes
            negative = 0
            if classes <= block:
                negative += map_terms(n * classes, at(p, start), at(q, start), at(t, 0))
                row_sums(at(t, 0), arrays, n, classes, at(s, 0))
            else:
                for first in range(0, classes, block):
                    size = smaller(block, classes - first)
                    place = start + first
                    negative += map_terms(size, at(p, place), at(q, place), at(t, 0))
                    add_block(at(t, 0), arrays, size, at(s, 0), lost, first == 0)
                settle(arrays, at(s, 0), lost)
            odd = map_values(n, at(s, 0), at(s, VALUE * APART), low, high, threshold, allowed)
            copy(n, at(s, VALUE * APART), at(out, begin))
            if odd + negative > 0:
                mark(n, at(s, ODD * APART), negative, at(faults, begin))
            begin += n

    return rows


ROWS = {
    KL: pair_rows(kl_terms, kl_value, 3),
    JS: pair_rows(js_terms, js_value, 4),
    CROSS: pair_rows(cross_terms, cross_value, 5),
}
remainder = called(excess)


def limits(what, low, high, single):
    """What makes a row odd, from the bounds of its sums: times what probabilities are lifted by."""
    scale = 1.0 if what == CROSS else 2.0**64 if single else 2.0**512
    return low * scale, high * scale, 0.3 if single else 0.5, 2e-3 if single else 1e-7
