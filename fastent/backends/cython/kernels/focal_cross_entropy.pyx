"""Focal cross-entropy −Σ t·(1 − q)^γ·log q of a soft target. 1 − q is taken from log q, not from a
rounded q, so that confident rows keep their digits."""

from libc.math cimport expm1, pow

from fastent.backends.cython.arithmetic.functions cimport NAN
from fastent.backends.cython.arithmetic.scratch cimport ROOM
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.kernels.careful_row cimport (
    RowView, Sum, add, c_ldexp, lift_of, load_block, masses, read_view, sum_of_row, surprisals,
)
from fastent.backends.cython.kernels.interface cimport Kernel, Tile
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport OUT_DIVERGENCE

cdef enum:                              # where the arrays of a block stand in scratch memory
    TARGET = 0
    LOSS = ROOM
    TERM = 2 * ROOM

cdef struct Row:
    RowView target, pred
    double gamma
    double lift                         # of the target's masses,
    double per                          # and 1 by their sum then


cdef void add_losses(void *context, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    cdef Row *row = <Row *>context
    cdef double p, loss
    cdef Py_ssize_t i
    load_block(&row.target, start, n, t + TARGET, <char *>t)
    masses(&row.target, n, row.lift, t + TARGET)
    load_block(&row.pred, start, n, t + LOSS, <char *>t)
    surprisals(&row.pred, start, n, t + LOSS)
    for i in range(n):
        p = t[TARGET + i] * row.per
        loss = t[LOSS + i]
        t[TERM + i] = p * pow(-expm1(-loss), row.gamma) * loss if t[TARGET + i] > 0 else 0.0
    add(sums, row_sum(t + TERM, n))


cdef void focal_rows(Tile *tile, double **out) noexcept nogil:
    cdef Row row
    cdef Py_ssize_t r
    row.gamma = tile.order
    for r in range(tile.rows):
        read_view(tile, r, 0, &row.target)
        read_view(tile, r, 1, &row.pred)
        if row.target.nan or row.pred.nan:
            out[OUT_DIVERGENCE][r] = NAN
            continue
        row.lift = lift_of(&row.target)
        row.per = 1 / c_ldexp(row.target.total, <int>row.lift)
        out[OUT_DIVERGENCE][r] = sum_of_row(tile, add_losses, &row)


cdef Kernel table[1]
table[0] = focal_rows
functions = exported(&table)
