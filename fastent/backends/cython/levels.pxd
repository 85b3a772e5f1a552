"""The functions of the SIMD level in use, one table a module; every layer may read them."""

from cpython.pycapsule cimport PyCapsule_New

# The modules that are compiled once per level, in the order of levels.MODULES. What their tables
# hold stands in the interface of their layer.
cdef enum Module:
    LOGITS_CROSS_ENTROPY = 0, PROBS_CROSS_ENTROPY, PROBS_DIVERGENCE, LOGITS_DIVERGENCE
    BINARY_CROSS_ENTROPY, CAREFUL, POWER_DIVERGENCE, FOCAL_CROSS_ENTROPY, TOP_OVERLAP, SIMD_LOOPS
    LOAD, GRADIENT, SOFTMAX, TERMS, MODULE_COUNT

cdef void *functions[MODULE_COUNT]


cdef inline object exported(void *table):
    """The table of a module of one level, under the name that `levels.use` looks for."""
    return PyCapsule_New(table, "fastent.functions", NULL)
