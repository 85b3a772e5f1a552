from fastent.backends.cython.accumulate.state_data cimport Store

cdef object sum_object(Store* store, Py_ssize_t i, Py_ssize_t g)
cdef list line_text(Store* store, bint weighted, Py_ssize_t g)
cdef dict store_text(Store* store, bint weighted, tuple columns)
cdef list cluster_text(Store* store, Py_ssize_t g)
cdef int load_store(Store* store, bint weighted, tuple columns, list room, dict data) except -1
