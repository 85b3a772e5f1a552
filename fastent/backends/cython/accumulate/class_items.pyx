"""What rows add to the calibration of every class: items of a state, a line for each kind of sum.

Of a bin of a class these are Σ w, Σ w·p and Σ w·y, of a class Σ (w·p)² and Σ w·y·w·p, and for weights
that are not 1, Σ W·x of the last two sums of a bin, and the x. The last line counts rows with a NaN.
Products are kept as m·2^(SCALE·(k − ORIGIN)), rounded once, as they may be out of range; each k has a line.
"""

import numpy as np

from libc.math cimport frexp
from libc.stdint cimport int64_t, uint64_t

from fastent.backends.cython.arithmetic.functions cimport fe_bits_double, fe_from_bits_double

cpdef enum:
    ITEMS = 1 << 30
    LINE_BITS = 21
    BIN_BITS = 10
    SCALE_BITS = 9
    SCALE = 1 << SCALE_BITS
    ORIGIN = 8
    PLACES = 16
    WEIGHT = 0
    PROBABILITY = 1
    LABEL = 2
    SQUARE = 3
    BOTH = SQUARE + PLACES
    CROSS = BOTH + PLACES
    LESS = CROSS + 2 * PLACES
    LOST = LESS + 2

cdef enum:
    TILE = 8                                # rows: a cache line of each line of items


cdef inline double mantissa(double x, int *exponent) noexcept nogil:
    """As frexp gives them."""
    cdef uint64_t bits = fe_bits_double(x)
    cdef int field = <int>(bits >> 52)
    if 0 < field < 2047:
        exponent[0] = field - 1022
        return fe_from_bits_double((bits & <uint64_t>0xfffffffffffff) | (<uint64_t>1022 << 52))
    return frexp(x, exponent)


cdef inline int64_t scaled(double a, double b, double *m) noexcept nogil:
    """k of a·b, both at least 0, with its m."""
    cdef int e, f
    cdef double product = mantissa(a, &e) * mantissa(b, &f)
    e += f
    m[0] = product * fe_from_bits_double(<uint64_t>(1023 + (e & (SCALE - 1))) << 52)
    return (e >> SCALE_BITS) + ORIGIN


cdef inline int64_t bin_of(double p, const double *edges, Py_ssize_t bins) noexcept nogil:
    """Of bins (lo, hi], `edges` between them; 0 is in the first."""
    cdef Py_ssize_t b = <Py_ssize_t>(p * bins)
    b = min(max(b, <Py_ssize_t>0), bins - 1)
    while b > 0 and edges[b - 1] >= p:
        b -= 1
    while b < bins - 1 and edges[b] < p:
        b += 1
    return b


cdef struct Row:
    double weight                           # 0 for ignored rows and those with a NaN
    double more                             # the weight where it is not 1
    bint lost
    int64_t label


cdef inline void put(int64_t *numbers, double *amounts, Py_ssize_t at, int64_t item, int64_t line,
                     double amount) noexcept nogil:
    numbers[at] = item + (line << LINE_BITS)
    amounts[at] = amount


cdef void fill(const double *p, Py_ssize_t rows, Py_ssize_t classes, const int64_t *labels, const double *weights,
               const double *edges, Py_ssize_t bins, int64_t *numbers, double *amounts) noexcept nogil:
    cdef Py_ssize_t start, count, r, c, line, single = (5 if weights != NULL else 3) * classes
    cdef int64_t place, row_class, k
    cdef double w, x, m
    cdef Row tile[TILE]
    start = 0
    while start < rows:
        count = min(<Py_ssize_t>TILE, rows - start)
        for r in range(count):
            w = 1.0 if weights == NULL else weights[start + r]
            tile[r].label = max(labels[start + r], 0)
            tile[r].lost = False
            for c in range(classes):
                if p[(start + r) * classes + c] != p[(start + r) * classes + c]:
                    tile[r].lost = True
                    break
            w = 0 if labels[start + r] < 0 else w
            tile[r].weight = 0 if tile[r].lost else w
            tile[r].more = 0 if w == 1 else tile[r].weight
            for line in range(single, single + (5 if weights != NULL else 3)):
                numbers[line * rows + start + r] = -1
                amounts[line * rows + start + r] = 0
            if tile[r].lost:
                put(numbers, amounts, single * rows + start + r, ITEMS, LOST, w)
        for c in range(classes):
            row_class = ITEMS + (c << BIN_BITS)
            for r in range(count):
                w = tile[r].weight
                x = 0 if tile[r].lost else p[(start + r) * classes + c]
                place = row_class + bin_of(x, edges, bins)
                x *= w
                line = c * rows + start + r
                put(numbers, amounts, line, place, WEIGHT, w)
                put(numbers, amounts, line + classes * rows, place, PROBABILITY, x)
                k = SQUARE + scaled(x, x, &m)
                put(numbers, amounts, line + 2 * classes * rows, row_class, k, m)
                if weights != NULL:
                    k = CROSS + scaled(tile[r].more, x, &m)
                    put(numbers, amounts, line + 3 * classes * rows, place, k, m)
                    put(numbers, amounts, line + 4 * classes * rows, place, LESS, x if tile[r].more != 0 else 0.0)
                if c != tile[r].label or tile[r].lost:
                    continue
                line = (single + 1) * rows + start + r
                put(numbers, amounts, line, place, LABEL, w)
                k = BOTH + scaled(w, x, &m)
                put(numbers, amounts, line + rows, row_class, k, m)
                if weights != NULL:
                    k = CROSS + PLACES + scaled(tile[r].more, w, &m)
                    put(numbers, amounts, line + 2 * rows, place, k, m)
                    put(numbers, amounts, line + 3 * rows, place, LESS + 1, tile[r].more)
        start += count


def items_of(const double[:, ::1] p, const int64_t[::1] labels, const double[::1] weights, const double[::1] edges):
    """Numbers and amounts of the items of rows: (lines, rows), a negative number for none.

    Labels below 0 are of ignored rows; weights may be None; `edges` are those between the bins.
    """
    cdef Py_ssize_t rows = p.shape[0], classes = p.shape[1]
    numbers = np.empty(((5 if weights is not None else 3) * (classes + 1), rows), np.int64)
    amounts = np.empty(numbers.shape)
    cdef int64_t[:, ::1] where = numbers
    cdef double[:, ::1] much = amounts
    if rows and classes:
        with nogil:
            fill(&p[0, 0], rows, classes, &labels[0], NULL if weights is None else &weights[0],
                 &edges[0] if edges.shape[0] else NULL, edges.shape[0] + 1, &where[0, 0], &much[0, 0])
    return numbers, amounts
