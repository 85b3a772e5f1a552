"""Rows of counts brought near a sum of 1 by a power of two: exact, and what the kernels of
probabilities expect. Sums that are not positive, infinite or NaN stay for their check."""

from libc.math cimport frexp, ldexp
from libc.stdint cimport uint64_t

from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, fe_bits_double, fe_from_bits_double, fe_lane_max, fe_lane_sum,
)
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.interface cimport RowLoader

cdef enum:
    FEW_RESCALED = 16                            # classes that a plain loop adds faster than lanes do


cdef inline const double *block_of(RowLoader *source, Py_ssize_t r, Py_ssize_t start, Py_ssize_t n, const double *row,
                                   double *room) noexcept nogil:
    """A block of a row times the power found so far: of `row`, if it is in memory."""
    cdef Py_ssize_t i
    if row == NULL:
        source.load(source, r, start, n, room)
        return room
    if source.power == 1 and source.more_power == 1:
        return row + start
    for i in range(n):
        room[i] = row[start + i] * source.power * source.more_power
    return room


cdef inline double sum_of(RowLoader *source, Py_ssize_t r, Py_ssize_t classes, const double *row, double *room) noexcept nogil:
    cdef Py_ssize_t start = 0, n, i
    cdef const double *x
    cdef double total = 0
    while start < classes:
        n = min(<Py_ssize_t>CHUNK, classes - start)
        x = block_of(source, r, start, n, row, room)
        if n < FEW_RESCALED:
            for i in range(n):
                total += x[i]
        else:
            total += fe_lane_sum(x, n)
        start += n
    return total


cdef inline double top_of(RowLoader *source, Py_ssize_t r, Py_ssize_t classes, const double *row, double *room) noexcept nogil:
    """The largest number of a row; NaN if there is one."""
    cdef Py_ssize_t start = 0, n
    cdef double top = 0, found
    while start < classes:
        n = min(<Py_ssize_t>CHUNK, classes - start)
        found = fe_lane_max(block_of(source, r, start, n, row, room), n)
        if found != found:
            return found
        top = max(top, found)
        start += n
    return top


cdef inline void set_power(RowLoader *source, int exponent) noexcept nogil:
    """2^−exponent as two factors, since one may be beyond the range."""
    cdef int first = min(max(-exponent, -1000), 1000)
    source.power = ldexp(1.0, first)
    source.more_power = ldexp(1.0, -exponent - first)


cdef inline void find_power(RowLoader *source, Py_ssize_t r, Py_ssize_t classes, const double *row, double *room) noexcept nogil:
    """The power of two that brings the sum of row r into [¾, 1½). `row` is where the row is in memory,
    or NULL; `room` is for a block of it, with 64 numbers more."""
    cdef double total, top
    cdef int exponent, more = 0
    source.power = source.more_power = 1
    total = sum_of(source, r, classes, row, room)
    if 1e-290 < total < 1e290:
        # its exponent, one more from 1½ on: half of the mantissa is added, and carries
        source.power = fe_from_bits_double(
            (<uint64_t>2046 << 52) - ((fe_bits_double(total) + (<uint64_t>1 << 51)) & (<uint64_t>2047 << 52)))
        return
    top = top_of(source, r, classes, row, room)
    if not (top > 0 and top < INFINITY):
        return
    frexp(top, &more)                                   # the sum may be beyond the range
    set_power(source, more)
    total = sum_of(source, r, classes, row, room)
    if frexp(total, &exponent) < 0.75:
        exponent -= 1
    if total > 0:
        set_power(source, exponent + more)
    else:
        source.power = source.more_power = 1


cdef inline void rescale(RowLoader *source, Py_ssize_t n, Py_ssize_t classes, double *rows, double *room) noexcept nogil:
    """Rescale rows in memory."""
    cdef Py_ssize_t r, c
    cdef double *x
    cdef double power, more
    for r in range(n):
        x = rows + r * classes
        find_power(source, r, classes, x, room)
        power, more = source.power, source.more_power
        for c in range(classes if power != 1 or more != 1 else 0):
            x[c] = x[c] * power * more
