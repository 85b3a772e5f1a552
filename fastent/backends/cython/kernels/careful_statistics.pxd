"""Statistics of one row of any kind, each with its number and its formula: a new one needs no other file
of the core but its line in `columns`."""

from libc.math cimport exp as c_exp, expm1 as c_expm1

from fastent.backends.cython.arithmetic.functions cimport INFINITY
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.careful_row cimport RowView, load_block
from fastent.backends.cython.kernels.interface cimport PROBS
from fastent.backends.cython.kernels.slots cimport OUT_STATISTIC

cdef enum:                              # eight at most
    OUT_MARGIN = OUT_STATISTIC


cdef inline void put_statistics(RowView *view, char *scratch, Py_ssize_t r, double **out) noexcept nogil:
    """What is wanted of a row without NaN, whose normaliser is known."""
    if out[OUT_MARGIN] != NULL:
        out[OUT_MARGIN][r] = margin(view, scratch)


cdef inline double margin(RowView *view, char *scratch) noexcept nogil:
    """p₁ − p₂ of the two largest: p₁·(1 − e^(x₂ − x₁)) of logs, so that near ones keep their digits."""
    cdef double first = -INFINITY, second = 0.0 if view.kind == PROBS else -INFINITY, x
    cdef double *t = <double *>scratch
    cdef Py_ssize_t start = 0, n, i
    while start < view.classes:
        n = min(<Py_ssize_t>CHUNK, view.classes - start)
        load_block(view, start, n, t, scratch)
        for i in range(n):
            x = t[i]
            if x > first:
                x = first
                first = t[i]
            second = x if x > second else second
        start += n
    if view.kind == PROBS:
        return (first - second) / view.total
    x = c_exp((first - view.top) * view.scale.inverse) / view.total
    return -c_expm1((second - first) * view.scale.inverse) * x
