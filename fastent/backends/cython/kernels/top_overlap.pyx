"""The largest class of a row, and how far two rows agree in their largest classes: the first one, five
or ten of each.

Of equal numbers the one before comes first, as in the rank of a label. A row is read once: a stretch of
it is looked at number by number only where one of them is larger than the least of the largest so far.
"""

from fastent.backends.cython.arithmetic.functions cimport INFINITY, NAN, real
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.interface cimport DOUBLE, PROBS, Kernel, Tile
from fastent.backends.cython.kernels.row_blocks cimport classes_of
from fastent.backends.cython.kernels.slots cimport (
    OUT_AGREEMENT, OUT_DIVERGENCE, OUT_TOP1_IN_TOP5, OUT_TOP5_OVERLAP, OUT_TOP10_OVERLAP, put_nan,
)
from fastent.backends.cython.levels cimport exported

cdef extern from "argmax.h" nogil:
    # whether one of n numbers is above the bound, itself such a number, or NaN
    bint some_above "fe_some_above"(const void *x, Py_ssize_t n, double bound)

cdef enum:
    MOST_TOP = 10
    STRETCH = 256                       # a multiple of
    MIDDLE = 64
    SHORT = 16

cdef struct Top:                        # the largest of a row, in order
    double number[MOST_TOP]
    Py_ssize_t place[MOST_TOP]
    int count
    bint nan


cdef inline void insert(Top *top, double x, Py_ssize_t place) noexcept nogil:
    """Take in a number that belongs to the largest so far, of a class after all of them."""
    cdef int k = top.count
    if k < MOST_TOP:
        top.count += 1
    else:
        k -= 1
    while k > 0 and top.number[k - 1] < x:
        top.number[k] = top.number[k - 1]
        top.place[k] = top.place[k - 1]
        k -= 1
    top.number[k] = x
    top.place[k] = place


cdef void take_in(Top *top, const real *x, Py_ssize_t n, Py_ssize_t place) noexcept nogil:
    """Look at n numbers, of classes from `place` on, after those that were seen."""
    cdef Py_ssize_t i = 0, k, some
    while i < n and top.count < MOST_TOP:
        top.nan |= x[i] != x[i]
        insert(top, x[i], place + i)
        i += 1
    while i < n and not top.nan:
        some = min(n - i, <Py_ssize_t>MIDDLE)
        if not some_above(x + i, some, top.number[MOST_TOP - 1]):
            i += some
            continue
        some = min(n - i, <Py_ssize_t>SHORT)
        if some_above(x + i, some, top.number[MOST_TOP - 1]):
            for k in range(i, i + some):
                top.nan |= x[k] != x[k]
                if x[k] > top.number[MOST_TOP - 1]:
                    insert(top, x[k], place + k)
        i += some


cdef void find_top(Tile *tile, int operand, Py_ssize_t r, Top *top, const real *unused) noexcept nogil:
    cdef Py_ssize_t start = 0, n, first, some
    cdef const real *x
    top.count = 0
    top.nan = False
    while start < tile.classes:
        n = min(<Py_ssize_t>CHUNK, tile.classes - start)
        x = classes_of(tile, operand, r, start, n, tile.scratch, unused)
        first = 0
        while first < n:
            some = min(n - first, <Py_ssize_t>STRETCH)
            if top.count < MOST_TOP or some_above(x + first, some, top.number[MOST_TOP - 1]):
                take_in(top, x + first, some, start + first)
            if top.nan:
                return
            first += some
        start += n


cdef int shared(Top *a, Top *b, int k) noexcept nogil:
    """How many of the first k classes both have."""
    cdef int i, j, found = 0
    for i in range(k):
        for j in range(k):
            found += a.place[i] == b.place[j]
    return found


cdef bint undefined(Top *top, int kind) noexcept nogil:
    """Whether the row has a NaN or is no distribution: no logit is more than −inf."""
    return top.nan or (kind != PROBS and top.number[0] == -INFINITY)


cdef void overlap_rows(Tile *tile, double **out) noexcept nogil:
    cdef Top a, b
    cdef Py_ssize_t r
    cdef int k, five, ten
    for r in range(tile.rows):
        if tile.precision == DOUBLE:
            find_top(tile, 0, r, &a, <const double *>NULL)
            find_top(tile, 1, r, &b, <const double *>NULL)
        else:
            find_top(tile, 0, r, &a, <const float *>NULL)
            find_top(tile, 1, r, &b, <const float *>NULL)
        if undefined(&a, tile.true_kind) or undefined(&b, tile.pred_kind):
            put_nan(out, r)
            continue
        five = min(5, a.count)
        ten = min(10, a.count)
        if out[OUT_AGREEMENT] != NULL:
            out[OUT_AGREEMENT][r] = a.place[0] == b.place[0]
        if out[OUT_TOP5_OVERLAP] != NULL:
            out[OUT_TOP5_OVERLAP][r] = <double>shared(&a, &b, five) / five
        if out[OUT_TOP10_OVERLAP] != NULL:
            out[OUT_TOP10_OVERLAP][r] = <double>shared(&a, &b, ten) / ten
        if out[OUT_TOP1_IN_TOP5] != NULL:
            out[OUT_TOP1_IN_TOP5][r] = 0.0
            for k in range(five):
                if b.place[k] == a.place[0]:
                    out[OUT_TOP1_IN_TOP5][r] = 1.0


cdef double first_maximum(Tile *tile, Py_ssize_t r, const real *unused) noexcept nogil:
    """Its place; NaN for a row without one."""
    cdef Py_ssize_t start = 0, n, first, i, found = 0
    cdef const real *x
    cdef double best = -INFINITY
    while start < tile.classes:
        n = min(<Py_ssize_t>CHUNK, tile.classes - start)
        x = classes_of(tile, 1, r, start, n, tile.scratch, unused)
        first = 0
        while first < n:
            if some_above(x + first, min(n - first, <Py_ssize_t>SHORT), best):
                for i in range(first, min(n, first + SHORT)):
                    if x[i] > best or x[i] != x[i]:
                        best = x[i]
                        found = start + i
            if best != best:
                return NAN
            first += SHORT
        start += n
    return NAN if tile.pred_kind != PROBS and best == -INFINITY else <double>found


cdef void predicted_rows(Tile *tile, double **out) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        if tile.precision == DOUBLE:
            out[OUT_DIVERGENCE][r] = first_maximum(tile, r, <const double *>NULL)
        else:
            out[OUT_DIVERGENCE][r] = first_maximum(tile, r, <const float *>NULL)


cdef Kernel table[2]                    # see MAXIMA in columns
table[0] = overlap_rows
table[1] = predicted_rows
functions = exported(&table)
