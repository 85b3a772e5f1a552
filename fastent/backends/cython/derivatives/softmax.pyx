"""Softmax, its logarithm and log Σ e^x of rows; the first two also of single numbers, given the
row's maximum and log Σ e^(x − maximum), for rows so long that they are shared among threads.

With m the maximum and s = Σ e^(x − m) over the others, a probability is e^(x − m)/(1 + s) and its
logarithm (x − m) − log1p(s). All arithmetic is in double.
"""

from libc.string cimport memset

from fastent.backends.cython.arithmetic.functions cimport INFINITY, fe_lane_max, log1p_of, stored
from fastent.backends.cython.kernels.logits_exp cimport Scale, exp_below_double, scale_of
from fastent.backends.cython.derivatives.interface cimport (
    FEW_SLOPES, LOGARITHM, PROBABILITY, TOTAL, Slope, Slopes, exponentials, exponentials_together,
)
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.arithmetic.sums cimport row_sum

cdef enum:
    BLOCK = 512                         # numbers mapped at a time; a local array is no alias of x


cdef inline void put_row(const stored *x, Py_ssize_t n, double top, double s, const double *e, stored *out, int wanted) noexcept nogil:
    """One row of probabilities or logarithms; e is 0 where x is the maximum."""
    cdef Py_ssize_t k
    cdef double unit, rest
    if wanted == PROBABILITY:
        unit = 1 / (1 + s)
        for k in range(n):
            out[k] = <stored>((1.0 if x[k] == top else e[k]) * unit)
        return
    rest = log1p_of(s)
    for k in range(n):
        out[k] = <stored>((0.0 if x[k] == top else x[k] - top) - rest)


cdef void softmax_rows_of(Slopes *tile, const stored *x) noexcept nogil:
    cdef Py_ssize_t r, k, ties, n = tile.classes
    cdef double *maxima = tile.scratch
    cdef double *e = maxima + tile.room
    cdef double *own
    cdef stored *out = <stored *>tile.gradient
    cdef double top, s
    cdef bint together = n <= FEW_SLOPES
    if together:
        exponentials_together(x, tile.rows, n, maxima, e)
    for r in range(tile.rows):
        if together:
            own = e + r * n
            top = maxima[r * n]
        else:
            own = e
            top = fe_lane_max(x, n)
            exponentials(x, n, top, own)
        if top == INFINITY:                             # certainty, shared by ties
            memset(own, 0, n * sizeof(double))
        ties = 0
        for k in range(n):
            ties += x[k] == top
        s = row_sum(own, n) + <double>(ties - 1)
        if tile.wanted == TOTAL:
            out[r] = <stored>(top if top == INFINITY or top == -INFINITY else top + log1p_of(s))
        else:
            s = s if top > -INFINITY else top - top     # nothing has any mass, or a NaN
            put_row(x, n, top, s, own, out + r * n, tile.wanted)
        x += n


cdef void numbers_of(Slopes *tile, const stored *x) noexcept nogil:
    """The same for single numbers of a row with a finite maximum `top`; `rest` is 1/(1 + s), or
    log1p(s) for logarithms."""
    cdef double found[BLOCK]
    cdef Py_ssize_t k, size, start = 0
    cdef Scale scale = scale_of(1)
    cdef double top = tile.top, rest = tile.rest
    cdef stored *out = <stored *>tile.gradient
    while start < tile.rows:
        size = min(<Py_ssize_t>BLOCK, tile.rows - start)
        if tile.wanted == LOGARITHM:
            for k in range(size):
                found[k] = (x[k] - top) - rest
        else:
            for k in range(size):
                found[k] = (1.0 if x[k] == top else exp_below_double(x[k], top, scale)) * rest
        for k in range(size):
            out[k] = <stored>found[k]
        x += size
        out += size
        start += size


cdef void softmax_of(Slopes *tile, const stored *x) noexcept nogil:
    if tile.by_number:
        numbers_of(tile, x)
    else:
        softmax_rows_of(tile, x)


cdef void softmax(Slopes *tile) noexcept nogil:
    if tile.single:
        softmax_of(tile, <const float *>tile.x)
    else:
        softmax_of(tile, <const double *>tile.x)


cdef Slope table = softmax
functions = exported(&table)
