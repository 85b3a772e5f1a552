from fastent.backends.cython.store cimport Store

cdef dict store_text(Store* store, bint weighted, tuple columns, list groups, list clusters)
cdef int load_store(Store* store, bint weighted, tuple columns, dict data) except -1
