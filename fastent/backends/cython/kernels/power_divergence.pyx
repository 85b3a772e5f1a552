"""α-divergences, those of Rényi, Tsallis, Pearson (χ²) and Jeffreys, of two rows of any kinds.

As in careful_pair.pxd, p, q and d = q − p stand on one scale. With β = 1 − α, v = log(q/p) and
φ(x) = e^x − 1 − x, the α-divergence Σ (p^α·q^β − αp − βq) / (α(α−1)) has the terms

    p·(φ(v) − φ(βv)/β) / α        near, where v comes from d: nothing cancels, whatever α,
    (d − p·(e^(βv) − 1)/β) / α    else; both with p and q, α and β exchanged where α <= ½.

Exponents are pairs of doubles, and numbers beyond the range of the lifted masses are taken from their
logarithms. Where the sum overflows, and for Rényi where little or much is left of Σ p^α·q^β, that sum
itself is taken, relative to its largest term: its logarithm has no range to leave.
"""

from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, NAN, c_fabs, c_fma, exp_tail, fe_from_bits_double, log1p_of, log_of_reduced, log_positive, mantissa_of,
    phi, rounding,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.kernels.careful_pair cimport (
    D, FAR, MASS_DIFFERENCE, MOVED, P, Q, TERM, TERMS, Pair, add_distances, differences, read_pair, settle_pair,
)
from fastent.backends.cython.kernels.careful_exp cimport DoubleDouble
from fastent.backends.cython.kernels.careful_row cimport RowView, Sum, add, c_ldexp, element, sum_of_row, value_of
from fastent.backends.cython.kernels.interface cimport PROBS, Kernel, Tile
from fastent.backends.cython.kernels.row_blocks cimport PARTS, part_start, parts_of, run_parts
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport (
    ALPHA_ROWS, CHI2_ROWS, JEFFREYS_ROWS, OUT_DIVERGENCE, RENYI_ROWS, TSALLIS_ROWS,
)
from libc.float cimport DBL_MIN
from libc.math cimport isfinite, rint
from libc.stdint cimport int64_t, uint64_t

cdef enum Quantity:
    POWER, RENYI, CHI2, JEFFREYS

cdef enum:
    FEWEST = -1021                      # octaves of a normal number
    WIDTH = TERMS + 1                   # sums of a pair, and of the lifted terms


cdef struct Row:
    Pair pair
    Quantity quantity
    double alpha
    bint by_q                           # α <= ½: p and q are exchanged
    double order                        # β, or α if exchanged
    double rest                         # 1 − order
    DoubleDouble tops[PARTS]            # log of the largest p^α·q^β of a part, and in the end of all


cdef inline DoubleDouble pair_of(double high, double low) noexcept nogil:
    return DoubleDouble(high, low if low == low else 0.0)       # of infinities


cdef inline DoubleDouble two_sum(double a, double b) noexcept nogil:
    cdef double high = a + b
    return pair_of(high, rounding(a, -b, high))


cdef inline DoubleDouble scaled(DoubleDouble x, double c) noexcept nogil:
    cdef double high = c * x.high
    return pair_of(high, c_fma(c, x.high, -high) + c * x.low)


cdef inline DoubleDouble plus(DoubleDouble x, DoubleDouble y) noexcept nogil:
    cdef DoubleDouble s = two_sum(x.high, y.high)
    s.low += x.low + y.low
    return s


cdef inline DoubleDouble minus(DoubleDouble x, DoubleDouble y) noexcept nogil:
    return plus(x, scaled(y, -1))


cdef inline double octave_and_rest(double x, double *rest) noexcept nogil:
    """e and log(x·2^−e) of a normal x > 0."""
    cdef double octaves
    rest[0] = log_of_reduced(<double>(mantissa_of(x, &octaves) - 1), <double>0)
    return octaves


cdef inline DoubleDouble in_nats(double octaves, double rest) noexcept nogil:
    """octaves·ln 2 + rest, for |octaves| < 2^20."""
    return two_sum(octaves * 6.93147180369123816490e-01, octaves * 1.90821492927058770002e-10 + rest)


cdef inline DoubleDouble log_of(double x) noexcept nogil:
    """log x of any finite x > 0."""
    cdef double rest, octaves, down = 0
    if x < DBL_MIN:
        x *= 18014398509481984.0                        # 2^54
        down = 54
    octaves = octave_and_rest(x, &rest)
    return in_nats(octaves - down, rest)


cdef inline double power_of(DoubleDouble x, double octaves) noexcept nogil:
    """e^x·2^octaves; 0 below the normal range."""
    cdef double k, r, n
    if not x.high < 1e6:
        return INFINITY if x.high > 0 else NAN
    if x.high < -1e6:
        return 0.0
    k = rint(x.high * 1.4426950408889634074)
    r = c_fma(-k, 6.93147180369123816490e-01, x.high)
    r = r - c_fma(k, 1.90821492927058770002e-10, -x.low)
    n = k + octaves
    if n < FEWEST:
        return 0.0
    r = (r + r * r * exp_tail(r)) + 1
    if n < 1024:
        return r * fe_from_bits_double(<uint64_t>(<int64_t>n + 1023) << 52)
    return c_ldexp(r, <int>n) if n < 1025 else INFINITY


cdef inline DoubleDouble log_mass(RowView *view, Py_ssize_t i) noexcept nogil:
    """log of class i of the normalised row, to about the last digit of a double at 1."""
    cdef double x = element(view, i), t = view.scale.temperature
    cdef DoubleDouble h, g
    if view.kind == PROBS:
        if x == 0:
            return pair_of(-INFINITY, 0)
        if i == view.where and view.rest < x:
            return pair_of(-log1p_of(view.rest / x), 0)
        h = log_of(x)
    else:
        h = two_sum(x, -view.top)
        if t != 1 and isfinite(h.high):
            g.high = h.high / t
            g.low = (c_fma(-g.high, t, h.high) + h.low) / t
            h = g
    g = two_sum(h.high, -view.log_total)
    g.low += h.low
    return g


cdef inline DoubleDouble log_ratio(double p, double q, double d) noexcept nogil:
    """log(q/p) of normal numbers, d = q − p."""
    cdef double rest_p, rest_q, octaves_p, octaves_q
    if c_fabs(d / p) <= 0.5:
        return pair_of(log1p_of(d / p), 0)
    octaves_p = octave_and_rest(p, &rest_p)
    octaves_q = octave_and_rest(q, &rest_q)
    return in_nats(octaves_q - octaves_p, rest_q - rest_p)


cdef inline double power_term(Row *row, double p, double q, double d) noexcept nogil:
    """The term of a class of the lifted masses p, q > 0."""
    cdef double o = row.order, octaves, rest
    cdef DoubleDouble u
    if row.by_q:
        p, q, d = q, p, -d
    u = log_ratio(p, q, d)
    if c_fabs(d / p) <= 0.5 and c_fabs(u.high * o) <= 1:
        return p * (phi(u.high) - (phi(o * u.high) / o if o != 0 else 0.0)) / row.rest
    octaves = octave_and_rest(p, &rest)
    return (d - shift_of_mass(p, pair_of(rest, 0), octaves, u, o)) / row.rest


cdef inline double shift_of_mass(double p, DoubleDouble rest, double octaves, DoubleDouble u, double order) noexcept nogil:
    """p·(e^(order·u) − 1)/order for p = e^rest·2^octaves, and its limit."""
    cdef DoubleDouble y
    if order == 0:
        return p * (u.high + u.low)
    y = scaled(u, order)
    if c_fabs(y.high) < 1:
        return p * ((y.high + (phi(y.high) + y.low * (1 + y.high))) / order)
    return (power_of(plus(y, rest), octaves) - p) / order


cdef inline double power_far(Row *row, DoubleDouble p, DoubleDouble q) noexcept nogil:
    """The same from the logarithms of both."""
    cdef double base, other, o = row.order
    if row.by_q:
        p, q = q, p
    if p.high == -INFINITY:
        # p^(1−o)·q^o is 0, if 1 − o > 0, as it is
        return power_of(q, 0) / row.rest
    if q.high == -INFINITY:
        if o <= 0:
            return INFINITY
        return power_of(p, 0) * (1 / o - 1) / row.rest
    base = power_of(p, 0)
    other = power_of(q, 0)
    return ((other - base) - shift_of_mass(base, p, 0, minus(q, p), o)) / row.rest


cdef inline double jeffreys_of(double d, DoubleDouble u) noexcept nogil:
    """(q − p)·log(q/p)."""
    return d * (u.high + u.low)


cdef inline double far_term(Row *row, double p, double q, Py_ssize_t i) noexcept nogil:
    """A class whose p or q is below the range of the lifted masses, from their logarithms: not lifted."""
    cdef Pair *pair = &row.pair
    cdef DoubleDouble log_p = log_mass(&pair.a, i), log_q = log_mass(&pair.b, i)
    if log_p.high == -INFINITY and log_q.high == -INFINITY:
        return 0.0
    if row.quantity == JEFFREYS:
        if log_p.high == -INFINITY or log_q.high == -INFINITY:
            return INFINITY
        return jeffreys_of(q / pair.mass - p / pair.mass, minus(log_q, log_p))
    return power_far(row, log_p, log_q) * (2 if row.quantity == CHI2 else 1)


cdef void add_terms(void *context, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    cdef Row *row = <Row *>context
    cdef Py_ssize_t i
    cdef double p, q
    cdef int some = 0
    differences(&row.pair, start, n, t, sums)
    add_distances(n, t, sums)
    add(&sums[MASS_DIFFERENCE], row_sum(t + D, n))
    for i in range(n):
        some |= (t[P + i] < DBL_MIN) | (t[Q + i] < DBL_MIN)
    for i in range(n if some else 0):
        p = t[P + i]
        q = t[Q + i]
        if p < DBL_MIN or q < DBL_MIN:
            sums[FAR].total += far_term(row, p, q, i + start)
            t[P + i] = t[Q + i] = 1
            t[D + i] = 0
    if row.quantity == CHI2:
        for i in range(n):
            t[TERM + i] = t[D + i] * (t[D + i] / t[Q + i])
    elif row.quantity == JEFFREYS:
        for i in range(n):
            t[TERM + i] = jeffreys_of(t[D + i], log_ratio(t[P + i], t[Q + i], t[D + i]))
    else:
        for i in range(n):
            t[TERM + i] = power_term(row, t[P + i], t[Q + i], t[D + i])
    add(&sums[TERMS], row_sum(t + TERM, n))


cdef double sum_of_terms(Tile *tile, Row *row) noexcept nogil:
    cdef Sum sums[WIDTH * PARTS]
    settle_pair(tile, &row.pair, add_terms, row, WIDTH, sums)
    if sums[MOVED].total == 0:
        return sums[FAR].total
    return value_of(&sums[TERMS]) / row.pair.mass + sums[FAR].total


# --- Σ p^α·q^(1−α) --------------------------------------------------------------------------------

cdef inline DoubleDouble log_affinity(Row *row, Py_ssize_t i) noexcept nogil:
    cdef DoubleDouble p = log_mass(&row.pair.a, i), q = log_mass(&row.pair.b, i)
    cdef double o = row.order
    if row.by_q:
        p, q = q, p
    if p.high == -INFINITY or (q.high == -INFINITY and o > 0):
        return pair_of(-INFINITY, 0)
    if q.high == -INFINITY:
        return pair_of(INFINITY, 0) if o < 0 else p
    return plus(p, scaled(minus(q, p), o))


cdef void top_job(void *context, Py_ssize_t k, char *scratch) noexcept nogil:
    cdef Row *row = <Row *>context
    cdef Py_ssize_t i
    cdef DoubleDouble x, top = pair_of(-INFINITY, 0)
    for i in range(part_start(row.pair.a.classes, k), part_start(row.pair.a.classes, k + 1)):
        x = log_affinity(row, i)
        if x.high > top.high:
            top = x
    row.tops[k] = top


cdef void add_affinities(void *context, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    cdef Row *row = <Row *>context
    cdef Py_ssize_t i
    for i in range(start, start + n):
        add(sums, power_of(minus(log_affinity(row, i), row.tops[0]), 0))


cdef double affinity(Tile *tile, Row *row) noexcept nogil:
    """The sum relative to its largest term, whose logarithm is row.tops[0]."""
    cdef Py_ssize_t k
    run_parts(tile, top_job, row)
    for k in range(1, parts_of(tile.classes)):
        if row.tops[k].high > row.tops[0].high:
            row.tops[0] = row.tops[k]
    return sum_of_row(tile, add_affinities, row) if isfinite(row.tops[0].high) else 1


cdef double divergence_of(Tile *tile, Row *row) noexcept nogil:
    """Σ (p^α·q^β − αp − βq) / (α(α−1)); of χ² it is twice the one with α = 2."""
    cdef double total = sum_of_terms(tile, row), alpha = row.alpha, sum
    cdef double unit = 2 if row.quantity == CHI2 else 1
    if isfinite(total):
        return total
    if alpha == 0 or alpha == 1:
        return INFINITY
    sum = affinity(tile, row)
    return unit * ((power_of(row.tops[0], 0) * sum - 1) / (alpha * (alpha - 1)))


cdef double renyi_of(Tile *tile, Row *row) noexcept nogil:
    cdef double alpha = row.alpha, total = sum_of_terms(tile, row), excess = alpha * (alpha - 1) * total, sum
    if alpha == 1:
        return total if isfinite(total) else INFINITY
    if excess > -0.5 and excess < 3:
        if c_fabs(excess) < 1e-20:
            return alpha * total
        return log1p_of(excess) / (alpha - 1)
    sum = affinity(tile, row)
    return (row.tops[0].high + (row.tops[0].low + log_positive(sum))) / (alpha - 1)


cdef void power_rows(Tile *tile, double *out, Quantity quantity, double factor) noexcept nogil:
    cdef Row row
    cdef Py_ssize_t r
    cdef double alpha = 2.0 if quantity == CHI2 else tile.order
    row.quantity = quantity
    row.alpha = alpha
    row.by_q = alpha <= 0.5
    row.order = alpha if row.by_q else 1 - alpha
    row.rest = 1 - alpha if row.by_q else alpha
    for r in range(tile.rows):
        read_pair(tile, r, &row.pair)
        if row.pair.a.nan or row.pair.b.nan:
            out[r] = NAN
        elif quantity == RENYI:
            out[r] = renyi_of(tile, &row)
        elif quantity == JEFFREYS:
            out[r] = sum_of_terms(tile, &row)
        else:
            out[r] = factor * divergence_of(tile, &row)


cdef void alpha_rows(Tile *tile, double **out) noexcept nogil:
    power_rows(tile, out[OUT_DIVERGENCE], POWER, 1)


cdef void tsallis_rows(Tile *tile, double **out) noexcept nogil:
    power_rows(tile, out[OUT_DIVERGENCE], POWER, tile.order)


cdef void chi2_rows(Tile *tile, double **out) noexcept nogil:
    power_rows(tile, out[OUT_DIVERGENCE], CHI2, 1)


cdef void jeffreys_rows(Tile *tile, double **out) noexcept nogil:
    power_rows(tile, out[OUT_DIVERGENCE], JEFFREYS, 1)


cdef void renyi_rows(Tile *tile, double **out) noexcept nogil:
    power_rows(tile, out[OUT_DIVERGENCE], RENYI, 1)


cdef Kernel table[5]
table[<int>ALPHA_ROWS] = alpha_rows
table[<int>TSALLIS_ROWS] = tsallis_rows
table[<int>RENYI_ROWS] = renyi_rows
table[<int>CHI2_ROWS] = chi2_rows
table[<int>JEFFREYS_ROWS] = jeffreys_rows
functions = exported(&table)
