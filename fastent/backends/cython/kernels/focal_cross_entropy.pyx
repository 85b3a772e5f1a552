"""Focal cross-entropy −Σ t·(1 − q)^γ·log q of a soft target. 1 − q is taken from log q, not from a
rounded q, so that confident rows keep their digits."""

from libc.math cimport expm1, pow

from fastent.backends.cython.arithmetic.functions cimport NAN
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.kernels.careful_row cimport (
    RowView, Sum, add, add_sum, c_ldexp, lift_of, load_block, masses, read_view, surprisals, value_of,
)
from fastent.backends.cython.kernels.interface cimport Kernel, Tile
from fastent.backends.cython.kernels.row_blocks cimport PARTS, part_start, parts_of, run_parts
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport OUT_DIVERGENCE

cdef enum:                              # where the arrays of a block stand in scratch memory
    TARGET = 0
    LOSS = ROOM
    TERM = 2 * ROOM

cdef struct Row:
    RowView target
    RowView pred
    double gamma
    double lift                         # of the target's masses,
    double per                          # and 1 by their sum then
    Sum value[PARTS]


cdef void focal_job(void *context, Py_ssize_t k, char *scratch) noexcept nogil:
    cdef Row *row = <Row *>context
    cdef double *t = <double *>scratch
    cdef double p, loss
    cdef Py_ssize_t start = part_start(row.pred.classes, k), stop = part_start(row.pred.classes, k + 1), n, i
    cdef Sum value
    value.total = value.lost = 0
    while start < stop:
        n = min(<Py_ssize_t>CHUNK, stop - start)
        load_block(&row.target, start, n, t + TARGET, scratch)
        masses(&row.target, n, row.lift, t + TARGET)
        load_block(&row.pred, start, n, t + LOSS, scratch)
        surprisals(&row.pred, start, n, t + LOSS)
        for i in range(n):
            p = t[TARGET + i] * row.per
            loss = t[LOSS + i]
            t[TERM + i] = p * pow(-expm1(-loss), row.gamma) * loss if t[TARGET + i] > 0 else 0.0
        add(&value, row_sum(t + TERM, n))
        start += n
    row.value[k] = value


cdef void focal_rows(Tile *tile, double **out) noexcept nogil:
    cdef Row row
    cdef Py_ssize_t r, k
    row.gamma = tile.order
    for r in range(tile.rows):
        read_view(tile, r, 0, &row.target)
        read_view(tile, r, 1, &row.pred)
        if row.target.nan or row.pred.nan:
            out[OUT_DIVERGENCE][r] = NAN
            continue
        row.lift = lift_of(&row.target)
        row.per = 1 / c_ldexp(row.target.total, <int>row.lift)
        run_parts(tile, focal_job, &row)
        for k in range(1, parts_of(tile.classes)):
            add_sum(&row.value[0], &row.value[k])
        out[OUT_DIVERGENCE][r] = value_of(&row.value[0])


cdef Kernel table[1]
table[0] = focal_rows
functions = exported(&table)
