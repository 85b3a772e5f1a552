from fastent.backends.cython.accumulate.state_data cimport Rows, Store

cdef enum:
    MOST_BINS = 1000

cdef int add_rows(Store* store, Store* fresh, Rows* rows, bint final, int threads) noexcept nogil
