"""How a kernel module of one SIMD level hands its functions to the engine."""

from cpython.pycapsule cimport PyCapsule_New

from fastent.backends.cython.kernels.interface cimport Kernel

ctypedef struct Table:
    Kernel kernels[8]


cdef inline object capsule_of(Table *table):
    return PyCapsule_New(table, "fastent.kernels", NULL)
