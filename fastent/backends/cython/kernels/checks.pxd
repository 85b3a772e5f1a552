"""Checks of rows that cost nothing while they hold: the sums come free, and a row is looked at again
only after a sign bit was seen."""

from libc.math cimport exp as c_exp

from fastent.backends.cython.arithmetic.functions cimport INFINITY, c_fabs, stored
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.interface cimport DOUBLE, NEGATIVE, PROBS, ROW_SUM, Tile, report
from fastent.backends.cython.kernels.row_blocks cimport classes_of, paired


cdef struct Look:                       # what a row holds
    double total                        # its sum, or that of its exponentials; NaN if it holds one
    double negative                     # its first negative number, or 0
    bint nan


cdef inline Look look_at(Tile *tile, int operand, Py_ssize_t r, bint summed, bint logs,
                         const stored *unused) noexcept nogil:
    """A row number by number, up to a NaN; its sum if that is wanted."""
    cdef Look found
    cdef Py_ssize_t start = 0, n, i
    cdef const stored *x
    found.total = found.negative = 0
    while start < tile.classes:
        n = min(<Py_ssize_t>CHUNK, tile.classes - start)
        x = classes_of(tile, operand, r, start, n, tile.scratch, unused)
        for i in range(n):
            found.nan = x[i] != x[i]
            if summed:
                found.total += c_exp(x[i]) if logs else x[i]
            if found.nan:
                return found
            if x[i] < 0 and found.negative == 0:
                found.negative = x[i]
        start += n
    return found


cdef inline Look look(Tile *tile, int operand, Py_ssize_t r, bint summed) noexcept nogil:
    cdef bint logs = (tile.pred_kind if operand else tile.true_kind) != PROBS
    if tile.precision == DOUBLE:
        return look_at(tile, operand, r, summed, logs, <const double *>NULL)
    return look_at(tile, operand, r, summed, logs, <const float *>NULL)


cdef inline bint holds_nan(Tile *tile, Py_ssize_t r) noexcept nogil:
    """Whether a row, of either operand, is not checked."""
    return look(tile, 1, r, False).nan or (paired(tile) and look(tile, 0, r, False).nan)


cdef inline bint in_order(Tile *tile, double total) noexcept nogil:
    """A negative tolerance stands for "rescale": any positive sum."""
    if tile.tolerance >= 0:
        return c_fabs(total - 1) <= tile.tolerance
    return 0 < total < INFINITY


cdef inline void check_sum(Tile *tile, Py_ssize_t row, int operand, double total) noexcept nogil:
    """The row-sum rule. Rows with a NaN in them, or beside them, pass; sums of a kernel are NaN where infinities
    meet, too."""
    if total != total:
        total = look(tile, operand, row, True).total
    if total == total and not in_order(tile, total) and not holds_nan(tile, row):
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
    """The same for log-probabilities, whose sum is e^top·masses; rescaling takes any finite top."""
    if top == -INFINITY:
        check_sum(tile, row, operand, 0)
    elif (tile.tolerance >= 0 and top == top) or top == INFINITY:
        check_sum(tile, row, operand, c_exp(top) * masses)


cdef inline void report_negatives(Tile *tile, Py_ssize_t start, Py_ssize_t rows, int operand) noexcept nogil:
    """Report the rows in [start, start + rows) with a negative probability in an operand."""
    cdef Py_ssize_t r
    cdef double found
    for r in range(start, start + rows):
        found = look(tile, operand, r, False).negative
        if found < 0 and not holds_nan(tile, r):
            report(tile, r, NEGATIVE, operand, found)


cdef inline void report_rows(Tile *tile, Py_ssize_t start, Py_ssize_t rows) noexcept nogil:
    """The same in every operand that there is."""
    if paired(tile):
        report_negatives(tile, start, rows, 0)
    report_negatives(tile, start, rows, 1)
