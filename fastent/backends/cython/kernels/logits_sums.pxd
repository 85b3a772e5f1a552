"""Sums of exp((x − m)/T) and their moments over rows of logits, m the maximum of the row."""

from libc.stdint cimport int64_t

from fastent.backends.cython.arithmetic.functions cimport fe_ask, real, stored
from fastent.backends.cython.kernels.logits_exp cimport LogitSums, RowSums, Scale, settle_rows, share_of_octave
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM
from fastent.backends.cython.kernels.logits_sums_short cimport add_moments, map_row
from fastent.backends.cython.kernels.logits_sums_long cimport LANES, lanes_of_row
from fastent.backends.cython.arithmetic.sums cimport row_sum, row_sums

cdef extern from "argmax.h" nogil:
    double fe_lane_top(const void *x, Py_ssize_t n, Py_ssize_t *where)
    double fe_lane_rank(const void *x, Py_ssize_t n, Py_ssize_t *where, double own, Py_ssize_t label, double *rank)

cdef enum:
    MANY = 512                          # classes from which a row is summed in stretches
    ROWS_AT_ONCE = CHUNK // 17          # of more than 16 classes


cdef struct Ranks:                      # of the labels of rows, taken in the pass for their maxima
    double *rank                        # NULL: not wanted
    const double *own                   # the labels' numbers
    const int64_t *labels
    Py_ssize_t start                    # the first class of the block


cdef inline Ranks no_ranks() noexcept nogil:
    return Ranks(NULL, NULL, NULL, 0)


cdef inline Py_ssize_t rows_at_once(Py_ssize_t n, size_t width) noexcept nogil:
    """How many rows are summed at once, twice: with their terms, from the first-level cache, where there is
    room for the next ones; those of many classes from the second level."""
    return <Py_ssize_t>(8192 // width) // n if n < MANY else max(<Py_ssize_t>1, <Py_ssize_t>(32768 // width) // n)


cdef inline double top_of(const stored *x, Py_ssize_t n, Py_ssize_t *where, Py_ssize_t r, Ranks ranks) noexcept nogil:
    if ranks.rank == NULL:
        return fe_lane_top(x, n, where)
    return fe_lane_rank(x, n, where, ranks.own[r], ranks.labels[r] - ranks.start, ranks.rank + r)


cdef inline void sums_of_rows(const stored *x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t readable, Scale scale,
                              bint moments, Ranks ranks, RowSums *out, real *scratch) noexcept nogil:
    """Sums of up to `rows_at_once` rows of n <= CHUNK logits; `readable` elements of x may be read. Each step is
    taken for all rows before the next one, so that the steps of one row do not wait for each other."""
    cdef Py_ssize_t r
    cdef Py_ssize_t where[ROWS_AT_ONCE]
    cdef double f
    cdef double *lanes = <double *>scratch
    cdef real *terms = scratch
    cdef stored *copy = <stored *>(scratch + 3 * ROOM)
    for r in range(rows):
        out.top[r] = top_of(x + r * n, n, &where[r], r, ranks)
    if n < MANY:
        for r in range(rows):
            fe_ask(x + (rows + r) * n, n * sizeof(stored), True)
            out.count[r] = map_row(x + r * n, n, readable - r * n, <stored>out.top[r], scale, terms + r * n, copy)
        for r in range(rows):
            out.rest[r] = row_sum(terms + r * n, n)
        if moments:
            for r in range(rows):
                add_moments(x + r * n, terms + r * n, n, <stored>out.top[r], scale, terms + ROOM, out, r)
    elif moments:                       # a loop each: without moments they would be computed, too
        for r in range(rows):
            out.count[r] = lanes_of_row(x + r * n, n, out.top[r], where[r], scale, True, rows * n, <real>0, lanes + LANES * r)
        row_sums(lanes, rows, LANES, out.rest)
        row_sums(lanes + ROOM, rows, LANES, out.moment)
        row_sums(lanes + 2 * ROOM, rows, LANES, out.square)
    else:
        for r in range(rows):
            out.count[r] = lanes_of_row(x + r * n, n, out.top[r], where[r], scale, False, rows * n, <real>0, lanes + LANES * r)
        row_sums(lanes, rows, LANES, out.rest)
    for r in range(rows):               # relative to e^(m/T) instead of a power of two
        f = share_of_octave(out.top[r], real is float, scale)
        out.rest[r] *= f
        # what stands for zeros in long rows of doubles is not a loss
        out.rest[r] = out.rest[r] if out.rest[r] > 1e-300 else 0
        if moments:
            f = f if out.rest[r] > 0 else 0
            out.moment[r] *= f
            out.square[r] *= f * f
    settle_rows(x, rows, n, out)


cdef inline LogitSums logit_sums(const stored *x, Py_ssize_t n, Py_ssize_t readable, Scale scale, bint moments, Ranks ranks,
                                 real *scratch) noexcept nogil:
    """Sums of one block of n <= CHUNK logits."""
    cdef LogitSums sums
    cdef RowSums row = RowSums(&sums.top, &sums.count, &sums.rest, &sums.moment, &sums.square)
    sums.moment = sums.square = sums.gap = sums.mass = sums.rank = 0
    if ranks.rank != NULL:
        ranks.rank = &sums.rank
    sums_of_rows(x, 1, n, readable, scale, moments, ranks, &row, scratch)
    return sums
