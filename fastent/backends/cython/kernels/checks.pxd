"""Checks of rows that cost nothing while they hold: the sums come free, and a row is looked at again
only after a sign bit was seen."""

from libc.math cimport exp as c_exp

from fastent.backends.cython.arithmetic.functions cimport INFINITY, c_fabs
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.interface cimport NEGATIVE, ROW_SUM, Tile, report
from fastent.backends.cython.kernels.row_blocks cimport classes_of, stored


cdef inline void check_sum(Tile *tile, Py_ssize_t row, int operand, double total) noexcept nogil:
    """The row-sum rule; NaN passes. A negative tolerance stands for "rescale": any positive sum."""
    if tile.tolerance >= 0:
        if c_fabs(total - 1) > tile.tolerance:
            report(tile, row, ROW_SUM, operand, total)
    elif total <= 0 or total == INFINITY:
        report(tile, row, ROW_SUM, operand, total)


cdef inline void sum_bounds(Tile *tile, double *low, double *high) noexcept nogil:
    """Sums in [low, high] pass `check_sum` without a look."""
    if tile.tolerance >= 0:
        low[0] = (1 - tile.tolerance) * (1 + 1e-12)
        high[0] = (1 + tile.tolerance) * (1 - 1e-12)
    else:
        low[0] = 2.2250738585072014e-308
        high[0] = 1.7976931348623157e308


cdef inline void check_log_sum(Tile *tile, Py_ssize_t row, int operand, double top, double masses) noexcept nogil:
    """The same for log-probabilities, whose sum is e^top·masses; rescaling takes any but −inf."""
    if top == -INFINITY:
        check_sum(tile, row, operand, 0)
    elif tile.tolerance >= 0 and top == top:
        check_sum(tile, row, operand, c_exp(top) * masses)


cdef inline bint negative_in(Tile *tile, int operand, Py_ssize_t r, double *found, const stored *unused) noexcept nogil:
    """Whether a row without NaN holds a negative number, and the first one."""
    cdef Py_ssize_t start = 0, n, i
    cdef const stored *x
    cdef bint negative = False
    while start < tile.classes:
        n = min(<Py_ssize_t>CHUNK, tile.classes - start)
        x = classes_of(tile, operand, r, start, n, tile.scratch, unused)
        for i in range(n):
            if x[i] != x[i]:
                return False
            if x[i] < 0 and not negative:
                negative = True
                found[0] = x[i]
        start += n
    return negative


cdef inline void report_negatives(Tile *tile, Py_ssize_t start, Py_ssize_t rows, int operand, const stored *unused) noexcept nogil:
    """Report the rows in [start, start + rows) with a negative probability in an operand."""
    cdef Py_ssize_t r
    cdef double found = 0
    for r in range(start, start + rows):
        if negative_in(tile, operand, r, &found, unused):
            report(tile, r, NEGATIVE, operand, found)
