"""The block loops of exact sums and histograms at one SIMD level: `exact.use_blocks(functions())`."""

from cpython.pycapsule cimport PyCapsule_New

from fastent.backends.cython.accumulate.simd_table cimport Blocks, fill

cdef Blocks table
fill(&table)


def functions():
    """A capsule of the functions, for `exact.use_blocks`."""
    return PyCapsule_New(&table, "fastent.blocks", NULL)
