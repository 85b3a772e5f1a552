"""The block loops of exact sums at one SIMD level: `exact.use_blocks(functions())`."""

from cpython.pycapsule cimport PyCapsule_New

from fastent.backends.cython.grids cimport Blocks, GridSums, float_grid_sums, grid_sums, products


cdef bint level_grid_sums(GridSums* into, const double* v, Py_ssize_t n) noexcept nogil:
    return grid_sums(into, v, n)


cdef bint level_float_grid_sums(GridSums* into, const float* v, Py_ssize_t n) noexcept nogil:
    return float_grid_sums(into, v, n)


cdef void level_products(const double* a, const double* b, double* high, double* low,
                         Py_ssize_t n) noexcept nogil:
    products(a, b, high, low, n)


cdef Blocks table
table.grid_sums = level_grid_sums
table.float_grid_sums = level_float_grid_sums
table.products = level_products


def functions():
    """A capsule of the functions, for `exact.use_blocks`."""
    return PyCapsule_New(&table, "fastent.blocks", NULL)
