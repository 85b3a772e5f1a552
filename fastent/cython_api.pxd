"""Single rows for other packages written in Cython: ``from fastent.cython_api cimport logsumexp``.

Rows are contiguous, of float or double. Nothing here needs the GIL or raises: a row that the
functions of the same name would refuse (negative probabilities, a sum off 1 by more than 1e-3, a
label out of range) gives NaN, and so does a call that finds no memory.
"""

ctypedef fused row_number:
    float
    double

cdef double logsumexp(const row_number *x, Py_ssize_t n) noexcept nogil
cdef double entropy(const row_number *p, Py_ssize_t n) noexcept nogil
cdef double kl_divergence(const row_number *p, const row_number *q, Py_ssize_t n) noexcept nogil
cdef double sparse_cross_entropy(Py_ssize_t label, const row_number *logits, Py_ssize_t n) noexcept nogil
