"""A pool of worker threads that never touch Python (see threads.pyx)."""

# body(context, index, worker): index in [0, count), worker in [0, threads) names the scratch to use
ctypedef void (*Body)(void *context, Py_ssize_t index, int worker) noexcept nogil

cdef bint run_parallel(Body body, void *context, Py_ssize_t count, int threads, bint watched=*) noexcept nogil
cdef int pass_on() except -1

cdef extern from * nogil:
    """
    #define FE_CLAIMED(p, was, now) \\
        __atomic_compare_exchange_n((p), (was), (now), 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
    #define FE_LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define FE_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define FE_EXCHANGE(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
    """
    bint claimed "FE_CLAIMED"(Py_ssize_t *p, Py_ssize_t *was, Py_ssize_t now)
    Py_ssize_t relaxed_load "FE_LOAD"(Py_ssize_t *p)
    void relaxed_store "FE_STORE"(Py_ssize_t *p, Py_ssize_t v)
    char *exchange "FE_EXCHANGE"(char **p, char *v)
