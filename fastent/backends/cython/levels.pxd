from fastent.backends.cython.kernels.interface cimport Kernel

# the kernels in use, by module (in the order of levels.MODULES) and number
cdef enum:
    LOGIT_ROWS = 0
    PROBABILITIES = 1
    DIVERGENCE = 2
    LOGIT_DIVERGENCE = 3
    BERNOULLI = 4
    GENERAL = 5

cdef Kernel kernels[6][8]
