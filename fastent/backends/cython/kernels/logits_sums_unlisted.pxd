"""Blocks of a row of logits without the classes that a list has.

A block is up to 16 stretches of 128 classes. They are read where they lie; those with listed classes, and
the end of a row, are copies in which −infinity stands for what is none of the tail.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from fastent.backends.cython.arithmetic.functions cimport INFINITY, fe_ask, real, stored
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.kernels.logits_exp cimport LogitSums, Origin, Scale, origin_of, share_of_octave
from fastent.backends.cython.kernels.logits_sums_long cimport LANES, STRETCH, add_stretch, fe_below, fe_fence

cdef extern from "extremes.h" nogil:
    double fe_scan_stretches(const void *at, Py_ssize_t count, double low, double high, Py_ssize_t *where,
                             uint64_t *held)

cdef enum:
    STRETCHES = CHUNK // STRETCH


cdef inline Py_ssize_t stretches_of(const stored *x, Py_ssize_t n, Py_ssize_t start, const int64_t *ids, Py_ssize_t listed,
                                    stored *copies, const stored **at) noexcept nogil:
    """Where the stretches of the block of n classes at `start` are, and how many; `ids` are the listed
    classes in it, `copies` has room for CHUNK."""
    cdef Py_ssize_t count = (n + STRETCH - 1) // STRETCH, s, i, place, rest = n % STRETCH
    cdef stored *copy
    for s in range(count):
        at[s] = x + start + s * STRETCH
    if rest:
        copy = copies + (count - 1) * STRETCH
        memcpy(copy, at[count - 1], rest * sizeof(stored))
        for i in range(rest, STRETCH):
            copy[i] = <stored>(-INFINITY)
        at[count - 1] = copy
    for i in range(listed):
        place = ids[i] - start
        copy = copies + place // STRETCH * STRETCH
        if at[place // STRETCH] != copy:
            memcpy(copy, at[place // STRETCH], STRETCH * sizeof(stored))
            at[place // STRETCH] = copy
        copies[place] = <stored>(-INFINITY)
    return count


cdef inline LogitSums sums_of_stretches(const stored **at, Py_ssize_t count, double low, double high, uint64_t *held,
                                        const stored *ahead, Scale scale, real unused) noexcept nogil:
    """Sums of a block, and which of its sixteens may hold ends; the block at `ahead` is asked for."""
    cdef LogitSums sums
    cdef Py_ssize_t where = 0, s, j
    cdef const stored *fence = <const stored *>fe_fence(at[0])
    cdef stored m = <stored>fe_scan_stretches(at, count, low, high, &where, held)
    cdef Origin origin
    cdef double[LANES] rest, none
    sums.count = sums.rest = sums.moment = sums.square = sums.gap = sums.mass = sums.rank = 0
    sums.top = m
    if not -INFINITY < m < INFINITY:
        return sums
    origin = origin_of(m, real is float, scale)
    for j in range(LANES):
        rest[j] = 0
    for s in range(count):
        fe_ask(ahead + s * STRETCH, STRETCH * sizeof(stored), True)
        if s != where:
            add_stretch(at[s], fence, m, False, False, origin, scale, False, <real>0, rest, none, none)
        else:
            sums.count = STRETCH - fe_below(at[s], STRETCH, m)
            add_stretch(at[s], fence, m, True, False, origin, scale, False, <real>0, rest, none, none)
    sums.rest = row_sum(<const double *>rest, LANES) * share_of_octave(m, real is float, scale)
    # what stands for zeros in doubles is not a loss
    sums.rest = sums.rest if sums.rest > 1e-300 else 0
    return sums
