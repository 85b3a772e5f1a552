"""A pool of worker threads that never touch Python (see threads.pyx)."""

# body(context, index, worker): index in [0, count), worker in [0, threads) names the scratch to use
ctypedef void (*Body)(void *context, Py_ssize_t index, int worker) noexcept nogil

cdef void run_parallel(Body body, void *context, Py_ssize_t count, int threads) noexcept nogil

cdef extern from * nogil:
    """
    #define FE_FETCH_ADD(p, n) __atomic_fetch_add((p), (n), __ATOMIC_RELAXED)
    #define FE_EXCHANGE(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
    """
    Py_ssize_t fetch_add "FE_FETCH_ADD"(Py_ssize_t *p, Py_ssize_t n)
    char *exchange "FE_EXCHANGE"(char **p, char *v)
