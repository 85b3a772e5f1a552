from fastent.backends.cython.accumulate.state_data cimport Rows, Store

cdef int add_rows(Store* store, Rows* rows, int threads) noexcept nogil
