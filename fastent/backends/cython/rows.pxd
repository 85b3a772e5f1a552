from fastent.backends.cython.store cimport Rows, Store

cdef int add_rows(Store* store, Rows* rows, int threads) noexcept nogil
