"""The table of block loops: `blocks` fills it at every SIMD level, `exact` at the plain one.

The numbers are the same at all of them.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastent.backends.cython.accumulate.exact_sum_blocks cimport GridSums, float_grid_sums, grid_sums, products
from fastent.backends.cython.accumulate.buckets cimport bin_places, count_below, histogram_places

ctypedef struct Blocks:
    bint (*grid_sums)(GridSums* into, const double* v, Py_ssize_t n) noexcept nogil
    bint (*float_grid_sums)(GridSums* into, const float* v, Py_ssize_t n) noexcept nogil
    void (*products)(const double* a, const double* b, double* high, double* low,
                     Py_ssize_t n) noexcept nogil
    void (*histogram_places)(const double* v, Py_ssize_t n, uint32_t* place,
                             int64_t* ends) noexcept nogil
    int64_t (*count_below)(const double* v, Py_ssize_t n, double threshold) noexcept nogil
    int (*bin_places)(const double* confidence, const double* correct, Py_ssize_t n, int bins,
                      uint32_t* place, uint64_t* low, uint64_t* high,
                      uint64_t* rows) noexcept nogil


cdef inline void fill(Blocks* blocks) noexcept nogil:
    """The loops as the module that asks is compiled."""
    blocks.grid_sums = grid_sums
    blocks.float_grid_sums = float_grid_sums
    blocks.products = products
    blocks.histogram_places = histogram_places
    blocks.count_below = count_below
    blocks.bin_places = bin_places
