"""Sums over the classes of a row."""

from fastent.backends.cython.arithmetic.functions cimport fe_lane_sum, fe_row_sums, real, rounding
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, DOUBLE_BLOCK


cdef inline void two_sum_add(double *total, double *lost, double x) noexcept nogil:
    """total + lost += x, with the rounding error kept."""
    cdef double s = total[0] + x
    lost[0] += rounding(total[0], -x, s)
    total[0] = s


cdef inline double row_sum(const real *terms, Py_ssize_t n) noexcept nogil:
    """Sum of n <= CHUNK terms in scratch memory (reads up to 15 elements further)."""
    cdef double total = 0, lost = 0
    cdef Py_ssize_t start = 0
    if n <= DOUBLE_BLOCK or real is float:
        return fe_lane_sum(terms, n)
    while start < n:
        two_sum_add(&total, &lost, fe_lane_sum(terms + start, min(DOUBLE_BLOCK, n - start)))
        start += DOUBLE_BLOCK
    # infinite totals leave NaN in `lost`
    return total + lost if lost == lost else total


cdef inline void strided_sums(const real *terms, Py_ssize_t rows, Py_ssize_t classes, double *out) noexcept nogil:
    """Row sums for a constant small number of classes: vectorised across the rows."""
    cdef Py_ssize_t r, c
    cdef double total
    for r in range(rows):
        total = terms[r * classes]
        for c in range(1, classes):
            total = total + terms[r * classes + c]
        out[r] = total


cdef inline void row_sums(const real *terms, Py_ssize_t rows, Py_ssize_t classes, double *out) noexcept nogil:
    """Sums of consecutive rows in scratch memory."""
    cdef Py_ssize_t r
    if classes == 2:
        strided_sums(terms, rows, 2, out)
    elif classes == 3:
        strided_sums(terms, rows, 3, out)
    elif classes == 4:
        strided_sums(terms, rows, 4, out)
    elif classes == 1:
        strided_sums(terms, rows, 1, out)
    elif classes <= DOUBLE_BLOCK or real is float:
        fe_row_sums(terms, rows, classes, out)
    else:
        for r in range(rows):
            out[r] = row_sum(terms + r * classes, classes)


cdef inline double ordered_sum(const double *parts, Py_ssize_t count, Py_ssize_t stride) noexcept nogil:
    """Sum of the parts of one long row in their order."""
    cdef double total = 0, lost = 0
    cdef Py_ssize_t b
    for b in range(count):
        two_sum_add(&total, &lost, parts[b * stride])
    return total + lost if lost == lost else total
