"""Adding one Store to another: first room for it, which may fail, then sums, which cannot.

Column c here is column place[c] of the other, and cell i of the other is cell cells[i] here; NULL:
the same.
"""

from libc.stdint cimport int64_t

from fastent.backends.cython.accumulate.exact_sum cimport exact_merge
from fastent.backends.cython.accumulate.exact_sum_short cimport span_merge, span_reserve_merge
from fastent.backends.cython.accumulate.histogram cimport histogram_merge_reserved, histogram_reserve_merge
from fastent.backends.cython.accumulate.state_data cimport Store, widen


cdef inline int reserve_merge(Store* into, Store* other, const int64_t* place, const int64_t* cells) noexcept nogil:
    """Room for the histograms and bins; negative when there is no memory."""
    cdef Py_ssize_t i, g, k, width = into.bin_width
    cdef int c
    for c in range(into.K + 2):
        if histogram_reserve_merge(&into.histogram[c], &other.histogram[place[c] if place != NULL else c], cells) < 0:
            return -1
    for i in range(into.group_width):
        k = 3 * place[i // 3] + i % 3 if place != NULL and i < 3 * into.K else i
        if span_reserve_merge(&into.far[i], &other.far[k], False) < 0:
            return -1
    for g in range(other.cell_room):
        k = cells[g] if cells != NULL else g
        for i in range(width):
            if span_reserve_merge(&into.bin_sum[k * width + i], &other.bin_sum[g * width + i], True) < 0:
                return -1
    return 0


cdef inline void merge_extremes(double* into, const double* other, int64_t rows) noexcept nogil:
    if rows and not other[0] > other[1]:               # else the column keeps no extremes
        widen(into, other[0])
        widen(into, other[1])


cdef inline void merge(Store* into, Store* other, const int64_t* place, const int64_t* cells) noexcept nogil:
    """All but groups and clusters."""
    cdef Py_ssize_t i, g, k, width = into.bin_width
    cdef int c
    for c in range(into.K):
        k = place[c] if place != NULL else c
        for i in range(3):
            exact_merge(&into.total[3 * c + i], &other.total[3 * k + i])
            span_merge(&into.far[3 * c + i], &other.far[3 * k + i])
        merge_extremes(&into.extreme[2 * c], &other.extreme[2 * k], other.count[into.column[c].kind])
    for i in range(3 * into.K, into.group_width):
        exact_merge(&into.total[i], &other.total[i])
        span_merge(&into.far[i], &other.far[i])
    for c in range(2):
        into.count[c] += other.count[c]
    for c in range(into.K + 2):
        histogram_merge_reserved(&into.histogram[c], &other.histogram[place[c] if place != NULL else c], cells)
    for g in range(other.cell_room):
        k = cells[g] if cells != NULL else g
        for i in range(width):
            span_merge(&into.bin_sum[k * width + i], &other.bin_sum[g * width + i])
