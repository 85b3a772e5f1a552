"""The block loops that `simd_loops` has at every SIMD level; the numbers are the same at all of them."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastent.backends.cython.accumulate.exact_sum_blocks cimport GridSums
from fastent.backends.cython.levels cimport SIMD_LOOPS, functions

ctypedef struct Blocks:
    bint (*grid_sums)(GridSums* into, const double* v, Py_ssize_t n) noexcept nogil
    bint (*float_grid_sums)(GridSums* into, const float* v, Py_ssize_t n) noexcept nogil
    bint (*products)(const double* a, const double* b, double* high, double* low, Py_ssize_t n) noexcept nogil
    void (*histogram_places)(const double* v, Py_ssize_t n, uint32_t* place, int64_t* ends) noexcept nogil
    int64_t (*count_below)(const double* v, Py_ssize_t n, double threshold) noexcept nogil
    int64_t (*count_ones)(const double* v, Py_ssize_t n) noexcept nogil
    int (*bin_places)(const double* confidence, const double* correct, Py_ssize_t n, int bins,
                      uint32_t* place, uint64_t* low, uint64_t* high,
                      uint64_t* rows) noexcept nogil


cdef inline Blocks *blocks() noexcept nogil:
    """Those of the level in use."""
    return <Blocks *>functions[<int>SIMD_LOOPS]
