"""Losses and divergences of logits that come a block of classes at a time, as products do.

What is known of a row after some blocks is a line of doubles. A cross-entropy keeps the sums of its
logits, the maximum apart. A divergence is seen in one visit: with w = (z_q − z_p) − δ, where δ is that
difference at p's maximum so far, and A = E_p[e^w − 1 − w] >= 0, B = E_p[w],

    KL = A − g(A + B),   g(t) = t − log1p(t),

in which nothing cancels that is small. Where w is far from 0, or p is 0, p·e^w is summed by itself,
relative to q's maximum (FAR), so that nothing overflows before it is known how far q is from p. Logits
are float or double; all arithmetic is double.
"""

from libc.math cimport exp, fabs, tanh
from libc.stdint cimport int64_t

from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, NAN, excess, exp_of_sum, log1p_of, log_positive, phi, stored,
)
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, DOUBLE_BLOCK, ROOM
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.kernels.interface cimport SCRATCH
from fastent.backends.cython.kernels.logits_exp cimport LogitSums, Scale, merge_into, scale_of
from fastent.backends.cython.kernels.logits_sums cimport logit_sums, no_ranks

cdef extern from "argmax.h" nogil:
    double fe_lane_top_double(const double *x, Py_ssize_t n, Py_ssize_t *where)

STATE_DOUBLES = STATE                   # what is kept of a row
SCRATCH_BYTES = SCRATCH + 8 * ROOM * sizeof(double)     # what a thread needs

cdef enum:
    STATE = 8
    TOP = 0, MASS, EXCESS, MEAN, DELTA, TOP_Q, MASS_Q, FAR

cdef struct Head:                       # what is done to a product before it is a logit
    const double *bias
    double scale
    double softcap                      # 0: none
    double temperature


cdef void logits_of(const stored *z, Py_ssize_t start, Py_ssize_t n, Head *head, double *out) noexcept nogil:
    """The logits of classes [start, start + n), divided by the temperature."""
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = z[i]
    if head.bias != NULL:
        for i in range(n):
            out[i] += head.bias[start + i]
    if head.scale != 1:
        for i in range(n):
            out[i] *= head.scale
    if head.softcap != 0:
        for i in range(n):
            out[i] = head.softcap * tanh(out[i] / head.softcap)
    if head.temperature != 1:
        for i in range(n):
            out[i] /= head.temperature


cdef Head head_of(const double[::1] bias, double scale, double softcap, double temperature):
    cdef const double *at = &bias[0] if bias is not None and bias.shape[0] else NULL
    return Head(at, scale, softcap, temperature)


cdef inline void rebase(double *s, double top, double delta) noexcept nogil:
    """Let the sums of a row be relative to a new maximum of p's logits, and to δ there.

    Excesses of classes seen so far follow from e^(w − c) = e^−c·e^w; where c is large they are taken
    in as far ones, whose cancellation costs nothing beside what the old maximum, far now, adds.
    """
    cdef double f, c, mean, change
    if s[TOP] > -INFINITY:
        f = exp_of_sum(s[TOP] - top, 0.0)
        c = delta - s[DELTA]
        s[MASS] *= f
        s[MEAN] *= f
        s[EXCESS] *= f
        mean = s[MEAN] - c * s[MASS]
        if -1.25 <= -c <= 1.5:
            change = phi(-c) - c                        # e^−c − 1
            s[EXCESS] = (s[EXCESS] + change * s[EXCESS]) + (s[MASS] * phi(-c) + s[MEAN] * change)
        else:
            s[EXCESS] = -(s[MASS] + mean)
            s[FAR] = s[MASS_Q]
        s[MEAN] = mean
    s[TOP] = top
    s[DELTA] = delta


cdef void add_pair(const double *x, const double *y, Py_ssize_t n, bint first, double *s, double *terms) noexcept nogil:
    """Take in classes with logits x of p and y of q."""
    cdef Py_ssize_t i, best, where
    cdef double top = fe_lane_top_double(x, n, &best), top_q = fe_lane_top_double(y, n, &where)
    cdef double delta, p, w, near, f
    cdef double *means = terms + ROOM
    cdef double *excesses = means + ROOM
    cdef double *others = excesses + ROOM
    cdef double *fars = others + ROOM
    if first:
        s[TOP] = s[TOP_Q] = -INFINITY
    while x[best] < top:                                # told to a few vectors
        best += 1
    if not (top < INFINITY and top_q < INFINITY):       # NaN or infinity
        s[MASS_Q] = NAN
    elif top > -INFINITY and y[best] == -INFINITY:
        s[MEAN] = -INFINITY
    if top_q > s[TOP_Q]:
        f = exp_of_sum(s[TOP_Q] - top_q, 0.0)
        s[MASS_Q] *= f
        s[FAR] *= f
        s[TOP_Q] = top_q
    top_q = s[TOP_Q]
    if s[MASS_Q] != s[MASS_Q] or top_q == -INFINITY:
        return
    for i in range(n):
        others[i] = exp_of_sum(y[i] - top_q, 0.0)
    if s[MEAN] > -INFINITY:
        if top > s[TOP]:
            rebase(s, top, y[best] - top)
        top = s[TOP]
        delta = s[DELTA]
        if top == -INFINITY:                            # no mass of p so far
            s[FAR] += row_sum(others, n)
        else:
            for i in range(n):
                p = exp_of_sum(x[i] - top, 0.0)
                w = (y[i] - x[i]) - delta
                means[i] = w if w == -INFINITY else 0.0   # however small p is
                w = w if p > 0 else 9.0
                near = fabs(w - 0.125)
                terms[i] = p
                means[i] += p * w
                excesses[i] = p * phi(w) if near <= 1.375 else -(p + p * w)
                fars[i] = 0.0 if near <= 1.375 else others[i]
            s[MASS] += row_sum(terms, n)
            s[MEAN] += row_sum(means, n)
            s[EXCESS] += row_sum(excesses, n)
            s[FAR] += row_sum(fars, n)
    s[MASS_Q] += row_sum(others, n)


cdef double divergence_of(const double *s) noexcept nogil:
    cdef double a, b, gap, plain
    if not s[MASS_Q] > 0:
        return NAN
    if s[MEAN] == -INFINITY:
        return INFINITY
    if not s[MASS] > 0:
        return NAN
    b = s[MEAN] / s[MASS]
    gap = s[TOP_Q] - s[TOP] - s[DELTA]
    plain = gap + (log_positive(s[MASS_Q]) - log_positive(s[MASS])) - b
    if plain > 0.5 or not -1 < b < 1:                   # nothing cancels, and nothing overflows
        return plain if plain > 0 else 0.0
    a = (s[EXCESS] + s[FAR] * exp(gap)) / s[MASS]
    a -= excess(a + b)
    return a if a > 0 else 0.0


def add_labels(const stored[:, :] z, const int64_t[::1] labels, Py_ssize_t start, const double[::1] bias, double scale,
               double softcap, double temperature, double[:, ::1] state, double[::1] own, char[::1] scratch):
    """Take a block of products in: rows of `z`, classes [start, start + z.shape[1])."""
    cdef Head head = head_of(bias, scale, softcap, temperature)
    cdef double *terms = <double *>&scratch[0]
    cdef double *x = <double *>&scratch[SCRATCH]
    cdef Scale unit = scale_of(1.0)
    cdef Py_ssize_t r, at, count
    cdef LogitSums *kept
    cdef LogitSums sums
    with nogil:
        for r in range(z.shape[0]):
            kept = <LogitSums *>&state[r, 0]
            at = 0
            while at < z.shape[1]:
                count = min(<Py_ssize_t>CHUNK, z.shape[1] - at)
                logits_of(&z[r, at], start + at, count, &head, x)
                sums = logit_sums(x, count, count, unit, False, no_ranks(), terms)
                if start + at == 0:
                    kept[0] = sums
                else:
                    merge_into(kept, sums, unit)
                if start + at <= labels[r] < start + at + count:
                    own[r] = x[labels[r] - start - at]
                at += count


def losses(const int64_t[::1] labels, const double[:, ::1] state, const double[::1] own, double[::1] out):
    """The cross-entropies; 0 where the label is negative."""
    cdef Py_ssize_t r
    cdef const LogitSums *kept
    for r in range(labels.shape[0]):
        kept = <const LogitSums *>&state[r, 0]
        if labels[r] < 0:
            out[r] = 0
        elif kept.top != kept.top or kept.top == -INFINITY:
            out[r] = NAN
        else:
            out[r] = (kept.top - own[r] if own[r] != kept.top else 0.0) + log1p_of(kept.rest + (kept.count - 1))


def add_pairs(const stored[:, :] p, const stored[:, :] q, Py_ssize_t start, const double[::1] bias_p,
              const double[::1] bias_q, double scale_p, double scale_q, double softcap_p, double softcap_q,
              double temperature, double[:, ::1] state, char[::1] scratch):
    """Take a block of both products in."""
    cdef Head head_p = head_of(bias_p, scale_p, softcap_p, temperature)
    cdef Head head_q = head_of(bias_q, scale_q, softcap_q, temperature)
    cdef double *x = <double *>&scratch[0]
    cdef Py_ssize_t r, at, count
    with nogil:
        for r in range(p.shape[0]):
            at = 0
            while at < p.shape[1]:
                count = min(<Py_ssize_t>DOUBLE_BLOCK, p.shape[1] - at)
                logits_of(&p[r, at], start + at, count, &head_p, x)
                logits_of(&q[r, at], start + at, count, &head_q, x + ROOM)
                add_pair(x, x + ROOM, count, start + at == 0, &state[r, 0], x + 2 * ROOM)
                at += count


def divergences(const double[:, ::1] state, double[::1] out):
    """The divergences; NaN where a row has a NaN."""
    cdef Py_ssize_t r
    for r in range(state.shape[0]):
        out[r] = divergence_of(&state[r, 0])
