"""Sums of rows of many logits: stretches of 128 classes are mapped and added in registers.

Four vectors of terms are added before their sum is widened to double lanes: kept as an array of terms
and read again, as short rows are, they cost a fifth more. A loop over 16 lanes becomes one vector of
floats at the highest level, so that each term is written down once, as a scalar.

The maximum stays out of the sums. Only the stretch that holds it and the end of the row are guarded by
comparisons; the end goes back over what was added, and a fence of infinities keeps that out.
"""

from fastent.backends.cython.arithmetic.functions cimport fe_ask, madd, real, stored
from fastent.backends.cython.kernels.logits_exp cimport Origin, Scale, exp_in_octaves, origin_of
from fastent.backends.cython.arithmetic.scratch cimport ROOM

cdef extern from "argmax.h" nogil:
    const void *fe_fence(const void *x)     # its middle
    int fe_below(const void *x, Py_ssize_t n, double m)

cdef enum:
    LANES = 16
    FOUR = 4 * LANES
    STRETCH = 2 * FOUR                  # as in argmax.h


cdef inline real within(stored x, stored fence, bint fenced, real whole, real least) noexcept nogil:
    """x − whole, or `least` where that is more or the fence is −infinity; NaN stays, without one."""
    cdef real t
    if fenced:
        x = x if x < fence else fence
    t = <real>x - whole
    return least if least > t else t


cdef inline real mass_of(real t, stored x, stored m, bint guarded, real shift, Scale scale) noexcept nogil:
    cdef real e = exp_in_octaves(t, shift, scale)
    if guarded:
        e = e if x < m else <real>0
    return e


cdef inline void add_four(const stored *x, const stored *fence, stored m, bint guarded, bint fenced, Origin origin, Scale scale,
                          bint moments, real *rest, real *moment, real *square) noexcept nogil:
    """Terms of four classes 16 apart; `guarded`: only of those below m; `fenced`: and within the fence."""
    cdef real whole = <real>origin.whole, top = <real>origin.top, least = <real>origin.least
    cdef real shift = <real>origin.shift
    cdef real s = within(x[0], fence[0], fenced, whole, least)
    cdef real t = within(x[LANES], fence[LANES], fenced, whole, least)
    cdef real u = within(x[2 * LANES], fence[2 * LANES], fenced, whole, least)
    cdef real v = within(x[3 * LANES], fence[3 * LANES], fenced, whole, least)
    cdef real e = mass_of(s, x[0], m, guarded, shift, scale)
    cdef real f = mass_of(t, x[LANES], m, guarded, shift, scale)
    cdef real g = mass_of(u, x[2 * LANES], m, guarded, shift, scale)
    cdef real h = mass_of(v, x[3 * LANES], m, guarded, shift, scale)
    rest[0] = (e + f) + (g + h)
    if moments:
        moment[0] = madd(top - v, h, madd(top - u, g, madd(top - t, f, (top - s) * e)))
        square[0] = madd(h, h, madd(g, g, madd(f, f, e * e)))


cdef inline void add_stretch(const stored *x, const stored *fence, stored m, bint guarded, bint fenced, Origin origin,
                             Scale scale, bint moments, real unused,
                             double *rest, double *moment, double *square) noexcept nogil:
    """Terms of 128 classes into the lanes."""
    cdef Py_ssize_t j
    cdef real a, b, moment_a = 0, moment_b = 0, square_a = 0, square_b = 0
    for j in range(LANES):
        add_four(x + j, fence + j, m, guarded, fenced, origin, scale, moments, &a, &moment_a, &square_a)
        add_four(x + FOUR + j, fence + FOUR + j, m, guarded, fenced, origin, scale, moments, &b, &moment_b, &square_b)
        rest[j] += <double>(a + b)
        if moments:
            moment[j] += <double>(moment_a + moment_b)
            square[j] += <double>(square_a + square_b)


cdef inline double lanes_of_row(const stored *x, Py_ssize_t n, double top, Py_ssize_t where,
                                Scale scale, bint moments, Py_ssize_t ahead, real unused, double *lanes) noexcept nogil:
    """Sums of a row of at least 128 logits in 16 lanes; returns how many of its maxima stayed out of them."""
    cdef Py_ssize_t whole = n // STRETCH * STRETCH, start = 0, j
    cdef const stored *fence = <const stored *>fe_fence(x)
    cdef int count = 0
    cdef bint near = ahead <= n         # else other rows come first
    cdef stored m = <stored>top
    cdef double[LANES] rest, moment, square
    cdef Origin origin = origin_of(top, real is float, scale)
    for j in range(LANES):
        rest[j] = moment[j] = square[j] = 0
    while start < whole:
        fe_ask(x + start + ahead, STRETCH * sizeof(stored), near)
        if start != where:
            add_stretch(x + start, fence, m, False, False, origin, scale, moments, unused, rest, moment, square)
        else:
            count += STRETCH - fe_below(x + start, STRETCH, m)
            add_stretch(x + start, fence, m, True, False, origin, scale, moments, unused, rest, moment, square)
        start += STRETCH
    if start < n:
        fe_ask(x + start + ahead, STRETCH * sizeof(stored), near)
        count += <int>(n - start) - fe_below(x + start, n - start, m)
        start = n - STRETCH             # what was added already lies outside of the fence
        add_stretch(x + start, fence - (whole - start), m, True, True, origin, scale, moments, unused, rest, moment, square)
    for j in range(LANES):
        lanes[j] = rest[j]
    if moments:
        for j in range(LANES):
            lanes[ROOM + j] = moment[j] * scale.inverse
            lanes[2 * ROOM + j] = square[j]
    return count


