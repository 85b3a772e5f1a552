"""Binary cross-entropy and its companions: every element is a row.

    logits          log1p(e^−|x|) + |x|·w,  w = 1 − t for x >= 0, t for x < 0
    probabilities   −t·log v − (1−t)·log(1−v)

with 0·inf = 0: a term whose weight is 0 adds nothing.
"""

from fastent.backends.cython.elementary cimport (
    INFINITY, exp_of_sum, log1p_of, log1p_unit, log_normal, log_of_reduced, log_positive,
    minus_log_scaled, real,
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
    cdef real f = -v if small else <real>1 - (v + v)
    cdef real near = log_of_reduced(f, <real>0 if small else <real>-1)
    return near if v < <real>0.5 else log_normal(<real>1 - v)


cdef void from_logits(const real *t, const real *x, Py_ssize_t n, double *out) noexcept nogil:
    cdef Py_ssize_t i
    cdef real a, w, v
    for i in range(n):
        a = -x[i] if x[i] < 0 else x[i]
        w = t[i] if x[i] < 0 else <real>1 - t[i]
        v = log1p_unit(exp_of_sum(-a, <real>0))
        v = v + (<real>0 if w == 0 else a * w)
        out[i] = v if x[i] == x[i] else x[i]


cdef void from_probabilities(const real *t, const real *v, Py_ssize_t n, double *out) noexcept nogil:
    cdef Py_ssize_t i
    cdef real one, zero, up
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


cdef void check_range(const source *x, Tile *tile, int operand, double low, double high) noexcept nogil:
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
    check_range(t, tile, 0, 0, 1)
    if tile.pred_kind == PROBS:
        check_range(x, tile, 1, 0, 1)
    elif tile.pred_kind == LOGPROBS:
        check_range(x, tile, 1, -INFINITY, 0)
    for k in range(5):
        others[k] = out[k]
    if out[CROSS_ENTROPY] != NULL and tile.eps == 0 and tile.smoothing == 0 and tile.temperature == 1:
        if tile.pred_kind == LOGITS:
            from_logits(t, x, tile.rows, out[CROSS_ENTROPY])
            others[CROSS_ENTROPY] = NULL
        elif tile.pred_kind == PROBS:
            from_probabilities(t, x, tile.rows, out[CROSS_ENTROPY])
            others[CROSS_ENTROPY] = NULL
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
