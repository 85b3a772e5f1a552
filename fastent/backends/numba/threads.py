"""Rows shared among Numba's threads, or one thread where that is all that is safe.

Two of Numba's threading layers cannot take everything a caller may do: GNU OpenMP ends a process
that forks after its first parallel region and launches another, and the workqueue layer ends one
that launches from two threads at once. So parallel launches are made under one lock, a caller that
finds it taken does its rows itself, and so does a child of the process that loaded this module.
Every path runs the same compiled row kernel, so the numbers do not depend on it.
"""

import multiprocessing
import os
import threading

import numba
from numba import njit, prange

SMALL = 1 << 16  # elements below which a launch costs more than it saves
CHUNKS = 4  # per thread, to even out

_launch = threading.Lock()


def _inherited_threads():
    """Whether this process was forked by one that already runs Numba's threads."""
    from numba.np.ufunc import parallel

    running = getattr(parallel, "_is_initialized", False)
    return running and multiprocessing.parent_process() is not None


_home = None if _inherited_threads() else os.getpid()


@njit(parallel=True, nogil=True)
def _share(kernel, rows, size, arguments):
    for chunk in prange((rows + size - 1) // size):
        first = chunk * size
        kernel(first, min(first + size, rows), *arguments)


def run(kernel, rows, elements, num_threads, *arguments):
    """Call kernel(first, last, *arguments) over all rows; `elements` says how much work it is."""
    threads = min(num_threads or len(os.sched_getaffinity(0)), numba.config.NUMBA_NUM_THREADS)
    together = threads > 1 and rows > 1 and elements >= SMALL and os.getpid() == _home
    if not (together and _launch.acquire(blocking=False)):
        kernel(0, rows, *arguments)
        return
    try:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            _share(kernel, rows, max(1, -(-rows // (threads * CHUNKS))), arguments)
        finally:
            numba.set_num_threads(before)
    finally:
        _launch.release()
