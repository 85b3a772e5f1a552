"""Binary cross-entropy and its companions: every element is a row.

    logits          log1p(e^−|x|) + |x|·w,  w = 1 − t for x >= 0, t for x < 0
    probabilities   −t·log v − (1−t)·log(1−v)

with 0·inf = 0: a term whose weight is 0 adds nothing.
"""

from libc.math cimport exp as c_exp, expm1 as c_expm1, log as c_log, log1p as c_log1p
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastent.backends.cython.arithmetic.functions cimport (
    FE_FUSED, INFINITY, clipped, fe_bits_double, fe_bits_float, fe_from_bits_double, fe_from_bits_float,
    fe_less_octaves, fe_poly, log1p_of, log_positive, madd, magnitude, minus_log_scaled, nearest_shifted, real,
    shift_of, stored, times_power,
)
from fastent.backends.cython.kernels.careful_exp cimport DoubleDouble, plus, times, two_sum, double_double_exp
from fastent.backends.cython.kernels.careful_row cimport Bounds, bounds_of
from fastent.backends.cython.kernels.logits_exp cimport Scale, exp_over, scale_of
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM
from fastent.backends.cython.kernels.interface cimport DOUBLE, LOGITS, LOGPROBS, PROBS, RANGE, Kernel, Tile, report
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport (
    MOST_SLOTS, OUT_ACCURACY, OUT_BRIER, OUT_CROSS_ENTROPY, OUT_ENTROPY, OUT_PROBABILITY,
)

ctypedef fused value:                   # what row values are written as: their sum takes floats
    float
    double

cdef enum:                              # what a loop saw
    SOFT = 1                            # targets between 0 and 1
    UNUSUAL = 2                             # numbers that its formula is not for
    OUTSIDE = 4

cdef struct Surprisal:                   # −log q and −log(1 − q)
    double of_one, of_zero


cdef inline real plus_log1p_exp(real a, real more) noexcept nogil:
    """log1p(e^−a) + more for a in [0, FAR]. Polynomials in pairs: one chain of steps waits for itself."""
    cdef real shifted, n, r, w, e, t, odd
    shifted = nearest_shifted(<real>0)
    shifted = madd(-a, <real>1.4426950408889634074, shifted)
    n = shift_of(shifted)
    if real is float:
        # e^r to 9e-8
        r = fe_less_octaves(-a, n)
        t = fe_poly(r, 0.0082902209833, 0.041899379342794, 0.16667646169662, 0.49999138712883, 0.99999970197678)
        e = times_power(madd(t, r, <real>1), shifted)
        # log1p(e)/e on [0, 1], to 3e-8
        w = e * e
        t = madd(<real>0.0053654224611819, w, madd(<real>-0.030068300664425, e, <real>0.079208828508854))
        t = madd(t, w, madd(<real>-0.13754187524319, e, <real>0.19153848290443))
        t = madd(t, w, madd(<real>-0.24857217073441, e, <real>0.33321329951286))
        return madd(e, madd(t, w, madd(<real>-0.49999648332596, e, <real>1)), more)
    else:
        # e^r to 4e-18
        r = madd(n, <real>-6.93147180369123816490e-01, -a)
        r = madd(n, <real>-1.90821492927058770002e-10, r)
        w = r * r
        t = fe_poly(w, 2.7630306247634376788e-7, 0.000024801492949665845111, 0.0013888888943759891465,
                       0.041666666666529728828, 0.50000000000000106686)
        odd = fe_poly(w, 2.5000016378619278682e-8, 2.7557586811278568101e-6, 0.00019841269505766048109,
                         0.0083333333334949804391, 0.16666666666666411505)
        e = times_power(madd(madd(odd, r, t), w, r) + <real>1, shifted)
        # 2 atanh(e/(2 + e)), to 5e-17: on all of [0, 1] the series is two terms longer than on a
        # part, but nothing is chosen and no octave added
        r = e / (<real>2 + e)
        w = r * r
        n = w * w
        t = fe_poly(n, 0.17739750549920606478, 0.13586313591235317042, 0.1818281406923744674,
                       0.28571429057995793911, 0.666666666666776944)
        odd = fe_poly(n, 0.09902824644617018922, 0.15364295586784174407, 0.22222192904749453327,
                         0.39999999996049711151)
        return madd(r, madd(madd(odd, w, t), w, <real>2), more)


cdef inline real far(real unused) noexcept nogil:
    """From here on log1p(e^−a) is no normal number, and taken as 0."""
    return <real>87 if real is float else <real>708


cdef inline real margin(real x, real t) noexcept nogil:
    """|x|·w: rounded once, or with a rounded 1 − t, never as a difference of two rounded products."""
    cdef int32_t above
    cdef real positive
    if FE_FUSED:
        if real is float:                   # integers leave the multipliers alone
            above = <int32_t>fe_bits_float(x)
            positive = fe_from_bits_float(<uint32_t>(above if above > 0 else 0))
        else:
            positive = x if x > 0 else <real>0
        return madd(-x, t, positive)
    else:
        return magnitude(x) * (t if x < 0 else <real>1 - t)


cdef inline uint64_t outside_unit(double v) noexcept nogil:
    """The sign bit of this says so, for NaN too: integers leave the multipliers alone."""
    return fe_bits_double(v) | (<uint64_t>0x3ff0000000000000 - fe_bits_double(v))


cdef bint from_logits(const real *t, const real *x, Py_ssize_t n, value *out) noexcept nogil:
    """True if some target may be no number in [0, 1]."""
    cdef Py_ssize_t i
    cdef real a, w, v
    cdef uint32_t b32, most32 = 0, target32 = 0
    cdef uint64_t odd64 = 0, outside64 = 0
    cdef bint unusual, outside
    for i in range(n):
        a = magnitude(x[i])
        out[i] = <value>plus_log1p_exp(a, margin(x[i], t[i]))
        if real is float:                   # bits are in the order of the magnitudes, NaN last
            b32 = fe_bits_float(a)
            most32 = b32 if b32 > most32 else most32
            b32 = fe_bits_float(t[i])
            target32 = b32 if b32 > target32 else target32
        else:
            odd64 |= fe_bits_double(far(a)) - fe_bits_double(a)
            outside64 |= outside_unit(t[i])
    if real is float:
        unusual = most32 > fe_bits_float(far(<real>0))
        outside = target32 > 0x3f800000
    else:
        unusual = <int64_t>odd64 < 0
        outside = <int64_t>outside64 < 0
    if unusual:
        for i in range(n):
            a = magnitude(x[i])
            w = t[i] if x[i] < 0 else <real>1 - t[i]
            v = <real>0 if w == 0 else a * w
            v = v if a > far(a) else <real>out[i]
            out[i] = <value>(v if a == a else x[i])
    return outside


cdef inline real surprisal(real u, real c) noexcept nogil:
    """−log(c + u) for a normal sum, c = 0 or 1: 1 + u is rounded for no u.

    c + u = m·2^k with m in [√½, √2); m − 1 is taken from u itself.
    """
    cdef int32_t whole
    cdef uint64_t k
    cdef real f, w, t, s
    if real is float:
        whole = <int32_t>(fe_bits_float(c + u) - <uint32_t>0x3f3504f3) & <int32_t>0xff800000
        s = fe_from_bits_float(<uint32_t>0x3f800000 - <uint32_t>whole)          # 2^−k
        f = madd(s, u, madd(s, c, <real>-1))
        # (log1p(f) − f)/f² to 3e-8 of the logarithm, in pairs
        w = f * f
        t = madd(<real>-0.087387129664421, f, <real>0.1430769264698)
        t = madd(t, w, madd(<real>-0.14916363358498, f, <real>0.16570316255093))
        t = madd(t, w, madd(<real>-0.19962239265442, f, <real>0.25001776218414))
        t = madd(t, w, madd(<real>-0.33333945274353, f, <real>0.49999991059303))
        return madd(<real>whole, <real>-8.26295829486781727573e-8, madd(t, w, -f))       # ln 2·2^-23
    else:
        k = (fe_bits_double(c + u) - <uint64_t>0x3fe6a09e667f3bcd + (<uint64_t>2048 << 52)) >> 52
        s = fe_from_bits_double(<uint64_t>0x3ff0000000000000 - ((k - 2048) << 52))
        f = madd(s, u, madd(s, c, <real>-1))
        # 2 atanh(f/(2 + f)), to 2e-16
        s = f / (<real>2 + f)
        w = s * s
        t = fe_poly(w, 0.16819300313334425877, 0.18123687860553559368, 0.22223370219954249208,
                       0.28571417151255980478, 0.40000000052136253075, 0.66666666666587495123)
        w = madd(t, w, <real>2)
        t = <real>4503599627372544.0 - fe_from_bits_double(k | <uint64_t>0x4330000000000000)      # −k
        return madd(-s, w, t * <real>0.69314718055994530942)


cdef inline real least_normal(real unused) noexcept nogil:
    return <real>1.1754943508222875e-38 if real is float else <real>2.2250738585072014e-308


cdef inline real weighted(real w, real surprisal) noexcept nogil:
    """Nothing without weight, whatever the surprisal."""
    return <real>0 if w == 0 else w * surprisal


cdef inline real both_terms(real t, real of_one, real of_zero) noexcept nogil:
    return weighted(t, of_one) + weighted(<real>1 - t, of_zero)


cdef int from_hard_targets(const real *t, const real *v, Py_ssize_t n, value *out) noexcept nogil:
    """For targets 0 and 1: one of the two logarithms, with the bits that `from_targets` gives."""
    cdef Py_ssize_t i
    cdef real u, c
    cdef uint32_t b32, most32 = 0, least32 = 0x7fffffff, target32 = 0, least_target32 = 0xffffffff
    cdef uint64_t b64, soft64 = 0, odd64 = 0, outside64 = 0
    cdef bint soft, unusual, outside
    for i in range(n):
        if real is float:
            b32 = fe_bits_float(t[i]) ^ <uint32_t>0x3f800000            # c = 1 − t, u = ±v: −v for t = 0
            c = fe_from_bits_float(b32)
            u = fe_from_bits_float(fe_bits_float(v[i]) ^ ((b32 << 2) & <uint32_t>0x80000000))
        else:
            b64 = fe_bits_double(t[i]) ^ <uint64_t>0x3ff0000000000000
            c = fe_from_bits_double(b64)
            u = fe_from_bits_double(fe_bits_double(v[i]) ^ ((b64 << 2) & <uint64_t>0x8000000000000000))
        out[i] = <value>surprisal(u, c)
        if real is float:
            b32 = fe_bits_float(c + u)
            least32 = b32 if b32 < least32 else least32
            b32 = fe_bits_float(v[i])
            most32 = b32 if b32 > most32 else most32
            b32 = fe_bits_float(t[i])
            target32 = b32 if b32 > target32 else target32
            b32 -= 1                                                    # 0 comes last
            least_target32 = b32 if b32 < least_target32 else least_target32
        else:
            b64 = fe_bits_double(t[i])
            soft64 |= outside_unit(t[i]) | (b64 - <uint64_t>0x3ff0000000000000) & ~(b64 - 1)
            odd64 |= fe_bits_double(c + u) - fe_bits_double(least_normal(c))
            outside64 |= outside_unit(v[i])
    if real is float:
        soft = target32 > 0x3f800000 or least_target32 < 0x3f7fffff
        unusual = least32 < fe_bits_float(least_normal(<real>0))
        outside = most32 > 0x3f800000
    else:
        soft = <int64_t>soft64 < 0
        unusual = <int64_t>odd64 < 0
        outside = <int64_t>outside64 < 0
    return (SOFT if soft else 0) | (UNUSUAL if unusual or outside else 0) | (OUTSIDE if outside else 0)


cdef int from_targets(const real *t, const real *v, Py_ssize_t n, value *out) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint32_t b32, most32 = 0, least32 = 0xffffffff, ones32 = 0
    cdef uint64_t odd64 = 0, outside64 = 0
    cdef bint unusual, outside
    for i in range(n):
        out[i] = <value>both_terms(t[i], surprisal(v[i], <real>0), surprisal(-v[i], <real>1))
        if real is float:
            b32 = fe_bits_float(v[i])
            least32 = b32 if b32 < least32 else least32
            most32 = b32 if b32 > most32 else most32
            ones32 |= b32 == 0x3f800000
            b32 = fe_bits_float(t[i])
            most32 = b32 if b32 > most32 else most32
        else:
            odd64 |= fe_bits_double(v[i]) - fe_bits_double(least_normal(v[i]))
            odd64 |= <uint64_t>0x3fefffffffffffff - fe_bits_double(v[i])
            outside64 |= outside_unit(t[i]) | outside_unit(v[i])
    if real is float:
        unusual = least32 < 0x00800000 or ones32
        outside = most32 > 0x3f800000
    else:
        unusual = <int64_t>odd64 < 0
        outside = <int64_t>outside64 < 0
    return (UNUSUAL if unusual or outside else 0) | (OUTSIDE if outside else 0)


cdef void unusual_losses(const real *t, const real *v, Py_ssize_t n, value *out) noexcept nogil:
    """Elements whose v or 1 − v is 0 or subnormal, and NaN."""
    cdef Py_ssize_t i
    cdef real of_one, of_zero, up
    if real is float:
        up = <real>18446744073709551616.0
    else:
        up = <real>1.3407807929942597e154
    for i in range(n):
        if v[i] != v[i]:
            out[i] = <value>v[i]
        elif v[i] < least_normal(v[i]) or v[i] == 1:
            of_one = <real>INFINITY if v[i] == 0 else minus_log_scaled(v[i] * up) if v[i] < 1 else <real>0
            of_zero = <real>INFINITY if v[i] == 1 else surprisal(-v[i], <real>1)
            out[i] = <value>both_terms(t[i], of_one, of_zero)


cdef bint losses(const real *t, const real *x, Py_ssize_t n, int kind, value *out, bint *soft) noexcept nogil:
    """True if some number may be none in [0, 1]. `soft`: targets between 0 and 1 were seen before."""
    cdef int seen = SOFT
    if kind == LOGITS:
        return from_logits(t, x, n, out)
    if not soft[0]:
        seen = from_hard_targets(t, x, n, out)
        soft[0] = (seen & SOFT) != 0
    if seen & SOFT:
        seen = from_targets(t, x, n, out)
    if seen & UNUSUAL:
        unusual_losses(t, x, n, out)
    return (seen & OUTSIDE) != 0


cdef bint cross_entropies(const real *t, const real *x, Tile *tile, double *out) noexcept nogil:
    """To `out`, or to the sum that the tile asks for instead. True as above."""
    cdef Py_ssize_t start = 0, n
    cdef real *values = <real *>tile.scratch
    cdef bint look = False, soft = False
    while start < tile.rows:
        n = min(tile.rows - start, <Py_ssize_t>CHUNK)
        if tile.sum == NULL:
            look |= losses(t + start, x + start, n, tile.pred_kind, out + start, &soft)
        else:
            look |= losses(t + start, x + start, n, tile.pred_kind, values, &soft)
            if real is float:
                tile.add_floats(tile.sum, values, n)
            else:
                tile.add_doubles(tile.sum, values, n)
        start += n
    tile.summed = tile.sum != NULL
    return look


cdef inline Surprisal surprisal_of(double x, int kind, Scale scale) noexcept nogil:
    """Both surprisals of one prediction, to full relative accuracy each."""
    cdef Surprisal s
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


cdef double close_miss(double x, double target, int kind, Scale scale) noexcept nogil:
    """p − t with p in 102 bits: where they are close, the rounding of p would be much of it."""
    cdef double room[ROOM + 1]
    cdef DoubleDouble e, of_zero
    room[0] = x if x < 0 else -x
    double_double_exp(room, 1, 0, scale, 0)
    e.high = room[0]
    e.low = room[ROOM]
    if kind == LOGPROBS:
        return plus(e, -target, 0).high
    # 1/(1 + e) − t for x >= 0, else e/(1 + e) − t
    of_zero = two_sum(1, -target)
    if x < 0:
        return plus(times(e, of_zero), -target, 0).high / (1 + e.high)
    return -plus(times(e, two_sum(target, 0)), -of_zero.high, -of_zero.low).high / (1 + e.high)


cdef void general_values(const stored *t, const stored *x, Tile *tile, Scale scale, double **out) noexcept nogil:
    """Any column, any option: one element at a time in double."""
    cdef Py_ssize_t i
    cdef double target, one, zero, p, q, d
    cdef double smooth = tile.smoothing
    cdef Bounds bounds = bounds_of(tile)
    cdef Surprisal s
    for i in range(tile.rows):
        target = t[i]
        s = surprisal_of(x[i], tile.pred_kind, scale)
        p = x[i] if tile.pred_kind == PROBS else c_exp(-s.of_one)     # calibration bins see p itself
        q = c_exp(-s.of_zero)
        if out[OUT_CROSS_ENTROPY] != NULL:
            one = (1 - smooth) * target + 0.5 * smooth
            zero = (1 - smooth) * (1 - target) + 0.5 * smooth
            out[OUT_CROSS_ENTROPY][i] = (weighted(one, clipped(s.of_one, bounds.low, bounds.high))
                                     + weighted(zero, clipped(s.of_zero, bounds.low, bounds.high)))
        if out[OUT_ACCURACY] != NULL:
            d = 0.5 if tile.pred_kind == PROBS else 0.0 if tile.pred_kind == LOGITS else -0.6931471805599453
            out[OUT_ACCURACY][i] = ((x[i] >= d) == (target >= 0.5)) + 0 * (p + target)
        if out[OUT_BRIER] != NULL:
            # from the smaller of p and 1 − p; a probability is exact as it is
            d = p - target if p < 0.5 or tile.pred_kind == PROBS else (1 - target) - q
            if tile.pred_kind != PROBS and magnitude(d) < 0.125 * (p if p < 0.5 else q):
                d = close_miss(x[i], target, tile.pred_kind, scale)
            out[OUT_BRIER][i] = d * d
        if out[OUT_ENTROPY] != NULL:
            out[OUT_ENTROPY][i] = weighted(p, s.of_one) + weighted(q, s.of_zero)
        if out[OUT_PROBABILITY] != NULL:
            out[OUT_PROBABILITY][i] = p


cdef void check_range(const stored *x, Tile *tile, int operand, stored low, stored high) noexcept nogil:
    """Values must lie in [low, high]; the loop that looks for the bad one runs only if there is one."""
    cdef Py_ssize_t i
    cdef int outside = 0
    for i in range(tile.rows):
        outside |= (x[i] < low) | (x[i] > high)
    if outside:
        for i in range(tile.rows):
            if x[i] < low or x[i] > high:
                report(tile, i, RANGE, operand, x[i])


cdef void binary_rows_of(Tile *tile, double **out, const stored *t, const stored *x) noexcept nogil:
    """The cross-entropy has loops of its own unless an option changes it, whatever other columns
    are wanted: a value has the same bits in any company."""
    cdef int k
    cdef bint look = True, plain = tile.eps == 0 and tile.smoothing == 0 and tile.temperature == 1
    if out[OUT_CROSS_ENTROPY] != NULL and plain and tile.pred_kind != LOGPROBS:
        look = cross_entropies(t, x, tile, out[OUT_CROSS_ENTROPY])
        out[OUT_CROSS_ENTROPY] = NULL                       # the array is this kernel's own
    if look:
        check_range(t, tile, 0, <stored>0, <stored>1)
        if tile.pred_kind == PROBS:
            check_range(x, tile, 1, <stored>0, <stored>1)
        elif tile.pred_kind == LOGPROBS:
            check_range(x, tile, 1, <stored>-INFINITY, <stored>0)
    for k in range(MOST_SLOTS):
        if out[k] != NULL:
            general_values(t, x, tile, scale_of(tile.temperature), out)
            return


cdef void bernoulli_rows(Tile *tile, double **out) noexcept nogil:
    if tile.precision == DOUBLE:
        binary_rows_of(tile, out, <const double *>tile.true_rows, <const double *>tile.pred_rows)
    else:
        binary_rows_of(tile, out, <const float *>tile.true_rows, <const float *>tile.pred_rows)


cdef Kernel table[1]
table[0] = bernoulli_rows
functions = exported(&table)
