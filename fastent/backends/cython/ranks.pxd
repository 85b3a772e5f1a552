"""The rank of a label in its row, whatever the row holds."""

from libc.stdint cimport int32_t

ctypedef fused source:
    float
    double

cdef enum:
    MOST_COUNTED = 1 << 30


cdef inline double rank_of(const source *x, Py_ssize_t n, Py_ssize_t label) noexcept nogil:
    """Classes above the label plus equal ones before it."""
    cdef Py_ssize_t i, start = 0, stop, ties
    cdef double rank = 0
    cdef int32_t above
    cdef source own = x[label]
    while start < n:                    # 32-bit counts, as wide as a float, for as long as they fit
        stop = min(n, start + MOST_COUNTED)
        ties = min(stop, max(start, label))
        above = 0
        for i in range(start, ties):
            above += x[i] >= own
        for i in range(ties, stop):
            above += x[i] > own
        rank += above
        start = stop
    return rank
