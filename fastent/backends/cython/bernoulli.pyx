"""Binary cross-entropy and its companions: every element is a row.

    logits          log1p(e^−|x|) + |x|·w,  w = 1 − t for x >= 0, t for x < 0
    probabilities   −t·log v − (1−t)·log(1−v)

with 0·inf = 0: a term whose weight is 0 adds nothing.
"""

from libc.stdint cimport int32_t, uint32_t

from fastent.backends.cython.elementary cimport (
    INFINITY, exp_of_sum, fe_bits_float, fe_from_bits_float, fe_less_octaves, log1p_of, log1p_unit,
    log_normal, log_of_reduced, log_positive, madd, magnitude, minus_log_scaled, real, times_power,
)
from fastent.backends.cython.exponentials cimport Scale, exp_over, scale_of
from fastent.backends.cython.kernels cimport (
    DOUBLE, LOGITS, LOGPROBS, PROBS, RANGE, SINGLE, Kernel, Tile, report,
)
from fastent.backends.cython.table cimport Table, capsule_of

cdef extern from "<math.h>" nogil:
    double c_expm1 "expm1"(double)
    double c_log1p "log1p"(double)
    double c_log "log"(double)
    double c_exp "exp"(double)

ctypedef fused source:
    float
    double

cdef enum:
    CROSS_ENTROPY
    ACCURACY
    BRIER
    ENTROPY
    PROBABILITY

cdef struct Surprise:                   # −log q and −log(1 − q)
    double of_one
    double of_zero


cdef inline real log_complement(real v) noexcept nogil:
    """log(1 − v) for v in [0, 1): 1 − v is rounded for no v."""
    cdef bint small = v <= <real>0.2928
    cdef real f = -v if small else <real>1 - (v + v), e = <real>0 if small else <real>-1, rest = <real>1 - v
    cdef int32_t k
    if real is float:
        # 0x3f3504f3 is √½; the argument is chosen first, so that there is one logarithm
        k = (<int32_t>fe_bits_float(rest) - 0x3f3504f3) >> 23
        rest = fe_from_bits_float(fe_bits_float(rest) - (<uint32_t>k << 23)) - <real>1
        f = f if v < <real>0.5 else rest
        return log_of_reduced(f, e if v < <real>0.5 else <real>k)
    else:
        return log_of_reduced(f, e) if v < 0.5 else log_normal(rest)


cdef inline real log1p_exp(real a) noexcept nogil:
    """log1p(e^−a) for a >= 0."""
    cdef real shifted, r, w, e, t
    if real is float:
        shifted = madd(-a, <real>1.4426950408889634, <real>12582912.0)
        r = fe_less_octaves(-a, shifted - <real>12582912.0)
        w = r * r
        t = madd(madd(<real>0.0013929125370749966632, r, <real>0.0083655341115735858489), w,
                 madd(<real>0.041666536253543594824, r, <real>0.16666562289211806851))
        e = times_power(madd(madd(t, r, <real>0.5), w, r) + <real>1, shifted)
        e = e if a <= 87 else <real>0
        # log1p(e)/e on [0, 1], to 3e-8
        w = e * e
        t = madd(<real>0.00523268878685, w, madd(<real>-0.029505215033, e, <real>0.0782259097531))
        t = madd(t, w, madd(<real>-0.13663241868, e, <real>0.191060047105))
        t = madd(t, w, madd(<real>-0.248429816251, e, <real>0.33319096724))
        return e * madd(t, w, madd(<real>-0.499994931362, e, <real>0.99999996988))
    else:
        return log1p_unit(exp_of_sum(-a, <real>0))


cdef bint from_logits(const real *t, const real *x, Py_ssize_t n, double *out) noexcept nogil:
    """True if some target may be no number in [0, 1]."""
    cdef Py_ssize_t i
    cdef real a, w
    cdef uint32_t b32, most32 = 0, target32 = 0
    cdef int odd = 0, outside = 0
    for i in range(n):
        a = magnitude(x[i])
        w = t[i] if x[i] < 0 else <real>1 - t[i]
        out[i] = madd(a, w, log1p_exp(a))
        if real is float:                   # bits are in the order of the magnitudes, NaN last
            b32 = fe_bits_float(a)
            most32 = b32 if b32 > most32 else most32
            b32 = fe_bits_float(t[i])
            target32 = b32 if b32 > target32 else target32
        else:
            odd |= not (a < INFINITY)
            outside |= not ((t[i] >= 0) & (t[i] <= 1))
    if real is float:
        odd = most32 >= 0x7f800000
        outside = target32 > 0x3f800000
    if odd:
        for i in range(n):
            w = t[i] if x[i] < 0 else <real>1 - t[i]
            if x[i] != x[i]:
                out[i] = x[i]
            elif magnitude(x[i]) == <real>INFINITY and w == 0:
                out[i] = 0
    return outside


cdef bint from_probabilities(const real *t, const real *v, Py_ssize_t n, double *out) noexcept nogil:
    """True if some number may be none in [0, 1]."""
    cdef Py_ssize_t i
    cdef real one, zero, up
    cdef uint32_t b32, most32 = 0
    cdef int outside = 0
    if real is float:
        up = <real>18446744073709551616.0
    else:
        up = <real>1.3407807929942597e154
    for i in range(n):
        one = <real>INFINITY if v[i] == 0 else minus_log_scaled(v[i] * up)
        zero = <real>INFINITY if v[i] == 1 else -log_complement(v[i])
        one = <real>0 if t[i] == 0 else t[i] * one
        zero = <real>0 if t[i] == 1 else (<real>1 - t[i]) * zero
        one = one + zero
        out[i] = one if v[i] == v[i] else v[i]
        if real is float:
            b32 = fe_bits_float(v[i])
            most32 = b32 if b32 > most32 else most32
            b32 = fe_bits_float(t[i])
            most32 = b32 if b32 > most32 else most32
        else:
            outside |= not ((t[i] >= 0) & (t[i] <= 1) & (v[i] >= 0) & (v[i] <= 1))
    return most32 > 0x3f800000 if real is float else outside


cdef inline Surprise surprise_of(double x, int kind, Scale scale) noexcept nogil:
    """Both surprises of one prediction, to full relative accuracy each."""
    cdef Surprise s
    cdef double a, z
    if x != x:
        s.of_one = s.of_zero = x
    elif kind == LOGITS:
        a = -x if x < 0 else x
        z = log1p_of(exp_over(-a, 0, scale))
        a = a * scale.inverse
        s.of_one = z + (a if x < 0 else 0.0)
        s.of_zero = z + (0.0 if x < 0 else a)
    elif kind == LOGPROBS:
        s.of_one = -x
        s.of_zero = -c_log(-c_expm1(x)) if x > -0.6931471805599453 else -c_log1p(-c_exp(x))
    else:
        s.of_one = -log_positive(x) if x < 0.5 else -c_log1p(x - 1)
        s.of_zero = -c_log1p(-x)
    return s


cdef inline double weighted(double w, double surprise) noexcept nogil:
    return 0.0 if w == 0 else w * surprise


cdef inline double clipped(double surprise, double low, double high) noexcept nogil:
    surprise = low if surprise < low else surprise
    return high if surprise > high else surprise


cdef void general_values(const source *t, const source *x, Tile *tile, Scale scale, double **out) noexcept nogil:
    """Any column, any option: one element at a time in double."""
    cdef Py_ssize_t i
    cdef double target, one, zero, low = 0, high = INFINITY, p, q, d
    cdef double smooth = tile.smoothing
    cdef Surprise s
    if tile.eps > 0:
        low = -c_log1p(-tile.eps)
        high = -c_log(tile.eps)
    for i in range(tile.rows):
        target = t[i]
        s = surprise_of(x[i], tile.pred_kind, scale)
        p = x[i] if tile.pred_kind == PROBS else c_exp(-s.of_one)     # calibration bins see p itself
        q = c_exp(-s.of_zero)
        if out[CROSS_ENTROPY] != NULL:
            one = (1 - smooth) * target + 0.5 * smooth
            zero = (1 - smooth) * (1 - target) + 0.5 * smooth
            out[CROSS_ENTROPY][i] = (weighted(one, clipped(s.of_one, low, high))
                                     + weighted(zero, clipped(s.of_zero, low, high)))
        if out[ACCURACY] != NULL:
            d = 0.5 if tile.pred_kind == PROBS else 0.0 if tile.pred_kind == LOGITS else -0.6931471805599453
            out[ACCURACY][i] = ((x[i] >= d) == (target >= 0.5)) + 0 * (p + target)
        if out[BRIER] != NULL:
            # from the smaller of p and 1 − p; a probability is exact as it is
            d = p - target if p < 0.5 or tile.pred_kind == PROBS else (1 - target) - q
            out[BRIER][i] = d * d
        if out[ENTROPY] != NULL:
            out[ENTROPY][i] = weighted(p, s.of_one) + weighted(q, s.of_zero)
        if out[PROBABILITY] != NULL:
            out[PROBABILITY][i] = p


cdef void check_range(const source *x, Tile *tile, int operand, source low, source high) noexcept nogil:
    """Values must lie in [low, high]; the loop that looks for the bad one runs only if there is one."""
    cdef Py_ssize_t i
    cdef int outside = 0
    for i in range(tile.rows):
        outside |= (x[i] < low) | (x[i] > high)
    if outside:
        for i in range(tile.rows):
            if x[i] < low or x[i] > high:
                report(tile, i, RANGE, operand, x[i])


cdef void rows_of(Tile *tile, double **out, const source *t, const source *x) noexcept nogil:
    """The cross-entropy has loops of its own unless an option changes it, whatever other columns
    are wanted: a value has the same bits in any company."""
    cdef double *others[5]
    cdef int k
    cdef bint look = True
    for k in range(5):
        others[k] = out[k]
    if out[CROSS_ENTROPY] != NULL and tile.eps == 0 and tile.smoothing == 0 and tile.temperature == 1:
        if tile.pred_kind == LOGITS:
            look = from_logits(t, x, tile.rows, out[CROSS_ENTROPY])
            others[CROSS_ENTROPY] = NULL
        elif tile.pred_kind == PROBS:
            look = from_probabilities(t, x, tile.rows, out[CROSS_ENTROPY])
            others[CROSS_ENTROPY] = NULL
    if look:
        check_range(t, tile, 0, <source>0, <source>1)
        if tile.pred_kind == PROBS:
            check_range(x, tile, 1, <source>0, <source>1)
        elif tile.pred_kind == LOGPROBS:
            check_range(x, tile, 1, <source>-INFINITY, <source>0)
    for k in range(5):
        if others[k] != NULL:
            general_values(t, x, tile, scale_of(tile.temperature), others)
            return


cdef void bernoulli_rows(Tile *tile, double **out) noexcept nogil:
    if tile.precision == DOUBLE:
        rows_of(tile, out, <const double *>tile.true_rows, <const double *>tile.pred_rows)
    else:
        rows_of(tile, out, <const float *>tile.true_rows, <const float *>tile.pred_rows)


cdef Table table
table.kernels[0] = bernoulli_rows
kernels = capsule_of(&table)
