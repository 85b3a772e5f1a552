"""Mutual information of contingency tables, from what each cell differs from independence."""

from libc.stdlib cimport calloc, free

from fastent.backends.cython.arithmetic.functions cimport NAN, c_fma, kl_term
from fastent.backends.cython.arithmetic.sums cimport two_sum_add


cdef double one_table(const double *table, Py_ssize_t rows, Py_ssize_t columns, double *down, double *up) noexcept nogil:
    """Σ x log(x/y) / N² with x = N·n and y = R·C of each cell, so that Σ x = Σ y.

    y − x is taken from products and margins of twice the precision: of nearly independent tables nothing
    else is left. `down` and `up`: pairs, zeros to begin with.
    """
    cdef Py_ssize_t i, j
    cdef double n, x, y, d, whole = 0, rest = 0, total = 0, lost = 0
    cdef double lift = 2.5822498780869086e120       # 2^400: keeps products of small margins in the normal range
    for i in range(rows):
        for j in range(columns):
            n = table[i * columns + j]
            two_sum_add(&down[2 * i], &down[2 * i + 1], n)
            two_sum_add(&up[2 * j], &up[2 * j + 1], n)
            two_sum_add(&whole, &rest, n)
    if whole != whole:
        return NAN
    for i in range(rows):
        for j in range(columns):
            n = table[i * columns + j]
            x = whole * lift * n
            d = -c_fma(whole * lift, n, -x) - rest * lift * n
            y = down[2 * i] * lift * up[2 * j]
            d += c_fma(down[2 * i] * lift, up[2 * j], -y)
            d += down[2 * i] * lift * up[2 * j + 1] + down[2 * i + 1] * lift * up[2 * j]
            two_sum_add(&total, &lost, kl_term(x, y, (y - x) + d))
    return (total + lost) / lift / whole / whole


def mutual_rows(Py_ssize_t first, Py_ssize_t last, const double[:, :, ::1] tables, double[::1] out):
    """The values of tables [first, last) into `out`."""
    cdef Py_ssize_t t, rows = tables.shape[1], columns = tables.shape[2]
    cdef double *margins
    with nogil:
        for t in range(first, last):
            margins = <double *>calloc(2 * (rows + columns), sizeof(double))
            if margins == NULL:
                with gil:
                    raise MemoryError("fastent: no memory for the margins of a table")
            out[t] = one_table(&tables[t, 0, 0], rows, columns, margins, margins + 2 * rows)
            free(margins)
