"""The rank of a label in its row, whatever the row holds."""

from libc.stdint cimport int32_t

from fastent.backends.cython.arithmetic.functions cimport stored
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.interface cimport Tile
from fastent.backends.cython.kernels.row_blocks cimport class_of, classes_of


cdef inline double rank_of(Tile *tile, Py_ssize_t r, const stored *unused) noexcept nogil:
    """Classes above the label of a predicted row plus equal ones before it."""
    cdef Py_ssize_t i, n, start = 0, ties, label = tile.labels[r]
    cdef const stored *x
    cdef stored own = class_of(tile, 1, r, label, unused)
    cdef double rank = 0
    cdef int32_t above                  # as wide as a float
    while start < tile.classes:
        n = min(<Py_ssize_t>CHUNK, tile.classes - start)
        x = classes_of(tile, 1, r, start, n, tile.scratch, unused)
        ties = min(n, max(<Py_ssize_t>0, label - start))
        above = 0
        for i in range(ties):
            above += x[i] >= own
        for i in range(ties, n):
            above += x[i] > own
        rank += above
        start += n
    return rank
