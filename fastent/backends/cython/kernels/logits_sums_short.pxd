"""Sums of rows of less than 512 logits: all terms of a chunk of rows first, then their sums.

Rows follow each other without gaps, so that no vector is left half empty; in registers, as longer
rows are summed, the ends of rows would cost more than the array of terms.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from fastent.backends.cython.arithmetic.functions cimport real, stored
from fastent.backends.cython.kernels.logits_exp cimport Origin, RowSums, Scale, exp_in_octaves, gap_of, origin_of
from fastent.backends.cython.arithmetic.scratch cimport ROOM
from fastent.backends.cython.arithmetic.sums cimport row_sum

cdef extern from "argmax.h" nogil:
    int fe_below(const void *x, Py_ssize_t n, double m)

cdef extern from "moments.h" nogil:
    void fe_lane_moments(const float *x, const float *e, Py_ssize_t n, float m, double *moment, double *square)


cdef inline Py_ssize_t map_vectors(const stored *x, Py_ssize_t vectors, stored m, Scale scale, real *e) noexcept nogil:
    """The terms of 16 elements a vector; returns how many are below m."""
    cdef Py_ssize_t i
    cdef Origin origin = origin_of(m, real is float, scale)
    cdef real whole = <real>origin.whole, least = <real>origin.least, shift = <real>origin.shift, t, v
    cdef int32_t below = 0              # as wide as the elements
    cdef int64_t wide_below = 0
    for i in range(16 * vectors):
        t = <real>x[i] - whole
        v = exp_in_octaves(t, shift, scale)
        e[i] = v if (t >= least) & (x[i] < m) else <real>0
        if real is float:
            below += x[i] < m
        else:
            wide_below += x[i] < m
    return below + wide_below


cdef inline Py_ssize_t map_row(const stored *x, Py_ssize_t n, Py_ssize_t readable, stored m, Scale scale, real *e, stored *copy) noexcept nogil:
    """The terms of a row, mapped in whole vectors: past its end lies the next row, whose terms
    overwrite what was mapped of it, or, at the end of what is readable, a copy filled up with m.
    Returns how many of the n elements equal m."""
    cdef Py_ssize_t vectors = (n + 15) // 16, full = n // 16, left = n - 16 * full, below, i
    if left == 0 or 16 * vectors <= readable:
        below = map_vectors(x, vectors, m, scale, e)
        if left:
            below -= fe_below(x + n, 16 * vectors - n, m)       # what is not of this row
        return n - below
    for i in range(16):
        copy[i] = m
    memcpy(copy, x + 16 * full, left * sizeof(stored))
    below = map_vectors(x, full, m, scale, e)
    return n - below - map_vectors(copy, 1, m, scale, e + 16 * full)


cdef inline void add_moments(const stored *x, const real *e, Py_ssize_t n, stored m, Scale scale, real *terms,
                             RowSums *out, Py_ssize_t r) noexcept nogil:
    cdef Py_ssize_t i
    if real is float and stored is float:
        fe_lane_moments(x, e, n, m, &out.moment[r], &out.square[r])
    elif real is double:
        for i in range(n):
            terms[i] = gap_of(<double>x[i], <double>m, scale) * e[i]
            terms[ROOM + i] = e[i] * e[i]
        out.moment[r] = row_sum(terms, n)
        out.square[r] = row_sum(terms + ROOM, n)
