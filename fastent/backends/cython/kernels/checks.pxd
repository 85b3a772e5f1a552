"""Checks of rows that cost nothing while they hold: the sums come free, and a row is looked at again
only after a sign bit was seen."""

from libc.math cimport exp as c_exp

from fastent.backends.cython.arithmetic.functions cimport INFINITY, c_fabs, stored
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.interface cimport DOUBLE, NEGATIVE, PROBS, ROW_SUM, Tile, report
from fastent.backends.cython.kernels.row_blocks cimport classes_of, paired


cdef inline double plain_sum(Tile *tile, int operand, Py_ssize_t r, bint logs, const stored *unused) noexcept nogil:
    """Sum of a row, or of its exponentials, number by number; NaN if the row holds one."""
    cdef Py_ssize_t start = 0, n, i
    cdef const stored *x
    cdef double total = 0
    while start < tile.classes:
        n = min(<Py_ssize_t>CHUNK, tile.classes - start)
        x = classes_of(tile, operand, r, start, n, tile.scratch, unused)
        for i in range(n):
            total += c_exp(x[i]) if logs else x[i]
        start += n
    return total


cdef inline double sum_again(Tile *tile, int operand, Py_ssize_t r) noexcept nogil:
    cdef bint logs = (tile.pred_kind if operand else tile.true_kind) != PROBS
    if tile.precision == DOUBLE:
        return plain_sum(tile, operand, r, logs, <const double *>NULL)
    return plain_sum(tile, operand, r, logs, <const float *>NULL)


cdef inline bint nan_among(Tile *tile, int operand, Py_ssize_t r, const stored *unused) noexcept nogil:
    cdef Py_ssize_t start = 0, n, i
    cdef const stored *x
    while start < tile.classes:
        n = min(<Py_ssize_t>CHUNK, tile.classes - start)
        x = classes_of(tile, operand, r, start, n, tile.scratch, unused)
        for i in range(n):
            if x[i] != x[i]:
                return True
        start += n
    return False


cdef inline bint holds_nan(Tile *tile, Py_ssize_t r) noexcept nogil:
    """Whether a row, of either operand, is not checked."""
    if tile.precision == DOUBLE:
        return (nan_among(tile, 1, r, <const double *>NULL)
                or (paired(tile) and nan_among(tile, 0, r, <const double *>NULL)))
    return (nan_among(tile, 1, r, <const float *>NULL)
            or (paired(tile) and nan_among(tile, 0, r, <const float *>NULL)))


cdef inline bint in_order(Tile *tile, double total) noexcept nogil:
    """A negative tolerance stands for "rescale": any positive sum."""
    if tile.tolerance >= 0:
        return c_fabs(total - 1) <= tile.tolerance
    return 0 < total < INFINITY


cdef inline void look_again(Tile *tile, Py_ssize_t row, int operand, double total) noexcept nogil:
    """A sum that is not in order: sums of a kernel are NaN where infinities meet, not only for NaN."""
    if total != total:
        total = sum_again(tile, operand, row)
    if total == total and not in_order(tile, total) and not holds_nan(tile, row):
        report(tile, row, ROW_SUM, operand, total)


cdef inline void check_sum(Tile *tile, Py_ssize_t row, int operand, double total) noexcept nogil:
    """The row-sum rule. Rows with a NaN in them, or beside them, pass."""
    if not in_order(tile, total):
        look_again(tile, row, operand, total)


cdef inline void sum_bounds(Tile *tile, double *low, double *high) noexcept nogil:
    """Sums in [low, high] pass `check_sum` without a look."""
    if tile.tolerance >= 0:
        low[0] = (1 - tile.tolerance) * (1 + 1e-12)
        high[0] = (1 + tile.tolerance) * (1 - 1e-12)
    else:
        low[0] = 2.2250738585072014e-308
        high[0] = 1.7976931348623157e308


cdef inline void check_log_sum(Tile *tile, Py_ssize_t row, int operand, double top, double masses) noexcept nogil:
    """The same for log-probabilities, whose sum is e^top·masses; rescaling takes any finite top."""
    if top == -INFINITY:
        check_sum(tile, row, operand, 0)
    elif (tile.tolerance >= 0 and top == top) or top == INFINITY:
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
        if negative_in(tile, operand, r, &found, unused) and not holds_nan(tile, r):
            report(tile, r, NEGATIVE, operand, found)
