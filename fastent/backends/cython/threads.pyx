"""A pool of worker threads that never touch Python.

Ours, because libgomp hangs in a child that was forked after a parallel region. Workers are started
when first needed and sleep on a condition; in a forked child the pool starts anew. Any number of
threads may call at once: each works on its own job and takes what helpers are free, so nothing
waits for another caller and nothing is oversubscribed by us. Workers block all signals, which thus
go to the caller's threads as if the pool did not exist, except SIGBUS: it is of the thread that
touches a mapped file, and whoever maps files may have a handler for it.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastent.backends.cython.arithmetic.float_mode cimport enter_default_mode

cdef extern from "Python.h":
    int PyErr_CheckSignals()

cdef extern from "os_threads.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int FE_CLOCK
    int clock_gettime(int, timespec *)
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t *)
    int sigdelset(sigset_t *, int)
    int SIG_SETMASK
    int SIGBUS
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_broadcast(pthread_cond_t *)
    int pthread_create(pthread_t *, void *, void *(*)(void *) noexcept nogil, void *)
    int pthread_detach(pthread_t)
    int pthread_sigmask(int, sigset_t *, sigset_t *)
    int pthread_atfork(void *, void *, void (*)() noexcept nogil)

cdef enum:
    MOST_WORKERS = 1024
    MOST_CLAIMED = 16                   # indices at once
    PATIENCE = 50000000                 # ns between looks for signals

cdef struct Work:                       # one call of run_parallel, on its caller's stack
    Body body
    void *context
    Py_ssize_t count
    Py_ssize_t next                     # the next index that nobody has claimed
    int threads
    int wanted                          # helpers that may still join
    int helping                         # helpers at work
    int joined                          # helpers so far: names their scratch
    bint watched                        # the caller looks for signals
    bint interrupted                    # and a handler of one has raised
    int64_t looked                      # when, in ns; 0: not yet
    Work *behind

cdef pthread_mutex_t lock
cdef pthread_cond_t called, done
cdef Work *queue = NULL
cdef int workers = 0
cdef bint watching_forks = False


cdef void reset() noexcept nogil:
    """No workers, no work: at import, and in a child, where only the forking thread lives on."""
    global queue, workers
    pthread_mutex_init(&lock, NULL)
    pthread_cond_init(&called, NULL)
    pthread_cond_init(&done, NULL)
    queue = NULL
    workers = 0


cdef inline bint raised(Work *work) noexcept nogil:
    """Whether a signal has come whose Python handler raises, as Ctrl-C does: seldom asked, as it takes the GIL."""
    cdef timespec now
    cdef int64_t ns
    clock_gettime(FE_CLOCK, &now)
    ns = <int64_t>now.tv_sec * 1000000000 + now.tv_nsec
    if work.looked == 0:
        work.looked = ns
    if ns - work.looked < PATIENCE:
        return False
    work.looked = ns
    with gil:
        work.interrupted = PyErr_CheckSignals() != 0
    return work.interrupted


cdef inline void claim(Work *work, int worker) noexcept nogil:
    """Do a share of the work: neighbours for as long as much is left, since what a thread asks the
    memory for ahead is mostly its own then, and one by one in the end, so that no thread waits."""
    cdef Py_ssize_t index = relaxed_load(&work.next), share
    while index < work.count:
        share = min(max((work.count - index) // (4 * work.threads), <Py_ssize_t>1), <Py_ssize_t>MOST_CLAIMED)
        if not claimed(&work.next, &index, index + share):
            continue                    # another thread was faster: index is what it left
        for index in range(index, index + share):
            work.body(work.context, index, worker)
        index = relaxed_load(&work.next)
        if work.watched and worker == 0 and index < work.count and raised(work):
            relaxed_store(&work.next, work.count)
            return


cdef void withdraw(Work *work) noexcept nogil:
    """Take work off the queue (under the lock)."""
    global queue
    cdef Work **link = &queue
    while link[0] != NULL:
        if link[0] == work:
            link[0] = work.behind
            return
        link = &link[0].behind


cdef void *serve(void *unused) noexcept nogil:
    cdef Work *work
    cdef int worker
    enter_default_mode()
    pthread_mutex_lock(&lock)
    while True:
        while queue == NULL:
            pthread_cond_wait(&called, &lock)
        work = queue
        work.wanted -= 1
        if work.wanted == 0:
            withdraw(work)
        work.helping += 1
        work.joined += 1
        worker = work.joined
        pthread_mutex_unlock(&lock)
        claim(work, worker)
        pthread_mutex_lock(&lock)
        work.helping -= 1
        if work.helping == 0:
            pthread_cond_broadcast(&done)


cdef void hire(int wanted) noexcept nogil:
    """Have at least `wanted` workers (under the lock); fewer if the system gives no more."""
    global workers, watching_forks
    cdef pthread_t thread
    cdef sigset_t everything, before
    if workers >= wanted:
        return
    if not watching_forks:
        pthread_atfork(NULL, NULL, reset)
        watching_forks = True
    sigfillset(&everything)
    sigdelset(&everything, SIGBUS)
    pthread_sigmask(SIG_SETMASK, &everything, &before)
    while workers < wanted and workers < MOST_WORKERS:
        if pthread_create(&thread, NULL, serve, NULL) != 0:
            break
        pthread_detach(thread)
        workers += 1
    pthread_sigmask(SIG_SETMASK, &before, NULL)


cdef bint run_parallel(Body body, void *context, Py_ssize_t count, int threads, bint watched=False) noexcept nogil:
    """Call body for every index, on this thread and up to threads − 1 workers; indices are claimed
    in increasing order. `watched`, for a caller that has released the GIL: True if a handler of a
    signal has raised; its exception is set, and only some indices are done."""
    global queue
    cdef Work work
    memset(&work, 0, sizeof(Work))
    work.watched = watched
    work.body = body
    work.context = context
    work.count = count
    work.threads = <int>max(<Py_ssize_t>1, min(<Py_ssize_t>threads, count))
    work.wanted = work.threads - 1
    if work.threads == 1:
        claim(&work, 0)
        return work.interrupted
    pthread_mutex_lock(&lock)
    hire(work.threads - 1)
    work.behind = queue
    queue = &work
    pthread_cond_broadcast(&called)
    pthread_mutex_unlock(&lock)
    claim(&work, 0)
    pthread_mutex_lock(&lock)
    withdraw(&work)
    while work.helping > 0:
        pthread_cond_wait(&done, &lock)
    pthread_mutex_unlock(&lock)
    return work.interrupted


cdef int pass_on() except -1:
    """Raise what the handler raised."""
    return -1


reset()
