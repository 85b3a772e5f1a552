# Exact sums of float64: what math.fsum gives, whatever the order, the blocks or the merges.
from libc.stdint cimport int64_t

from fastent.backends.cython.accumulate.exact_sum_short cimport SpanSum

cdef enum:
    LIMBS = 68

cdef struct ExactSum:
    # Value = (sum of limb[i] * 2^(32 i)) * 2^-1074: a signed "small superaccumulator".
    int64_t limb[LIMBS]
    int64_t adds              # terms since the limbs were last carried, and that; 0: none ever
    int special               # flags of Special

cdef void exact_clear(ExactSum* s) noexcept nogil
# Bring all limbs but the last into [0, 2^32); the sign stays in that.
cdef void exact_carry(ExactSum* s) noexcept nogil
cdef void exact_add(ExactSum* s, const double* v, Py_ssize_t n) noexcept nogil
# The same for more values of one kind: `grid` is NO_GRID at first, and then what did for those before.
cdef void exact_add_like(ExactSum* s, const double* v, Py_ssize_t n, int* grid) noexcept nogil
cdef void exact_add_floats(ExactSum* s, const float* v, Py_ssize_t n) noexcept nogil
cdef void exact_add_one(ExactSum* s, double v) noexcept nogil
# Σ a·b with every rounding error: products enter as rounded product plus error, those that are no
# float64 into `far`, a sum of products; two grids, for both. Negative when there was no memory.
cdef int exact_add_products(ExactSum* s, SpanSum* far, const double* a, const double* b, Py_ssize_t n, int* grids) noexcept nogil
cdef void exact_merge(ExactSum* into, ExactSum* other) noexcept nogil
cdef double exact_round(ExactSum* s) noexcept nogil
