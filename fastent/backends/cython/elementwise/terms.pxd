"""Terms one by one: C functions only, shared by every SIMD level."""

cdef enum:
    BLOCK = 512                         # numbers mapped at a time

cdef enum Name:
    ENTR = 0
    REL_ENTR = 1
    KL_DIV = 2

# out[i] = term(x[i], y[i]) for contiguous floats or doubles; `out` may be x or y
ctypedef void (*Terms)(Name name, bint single, const void *x, const void *y, void *out, Py_ssize_t n) noexcept nogil
