"""Entropy and cross-entropy of rows of probabilities.

At most one class of a row exceeds ¾. It is kept out of the sums, because log S and log p of that
class cancel when the row is nearly one-hot and S differs from 1. With R and M the sums over the
other classes and the big one (M = 0 if there is none), S = R + M:

    entropy             [Σ_others −p log p + R·log S + M·log1p(R/M)] / S
    cross-entropy       [Σ_others −p log q + P_others·log S_q + P_big·log1p(R_q/M_q)] / S_p
    sparse              log1p(R/p_y), R over the classes other than the label; log S − log p_y if R >= p_y
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastent.backends.cython.checks cimport check_sum, report_negatives, sum_bounds
from fastent.backends.cython.elementary cimport (
    INFINITY, NAN, log1p_of, log_normal, log_positive, minus_log_scaled, real,
)
from fastent.backends.cython.kernels cimport CHUNK, DOUBLE, MOST_ROWS, ROOM, SINGLE, Tile
from fastent.backends.cython.long_rows cimport classes_of, label_numbers, top_in
from fastent.backends.cython.ranks cimport rank_of
from fastent.backends.cython.sums cimport blocks_of, ordered_sum, row_sum, row_sums, rows_of_chunk
from fastent.backends.cython.table cimport Table, capsule_of

ctypedef fused source:
    float
    double

cdef enum:
    SPARSE, ENTROPY, CROSS              # what is summed
    WIDTH = 5                           # sums of a row, at most

# columns of the sparse kernel
cdef enum:
    CROSS_ENTROPY
    ACCURACY
    RANK
    BRIER
    UNUSED
    CONFIDENCE

cdef struct Sums:
    double of[WIDTH]


cdef struct Batch:                      # the same of consecutive rows
    double of[WIDTH][MOST_ROWS]
    double own[MOST_ROWS]               # sparse: the label's probability


cdef struct LongRow:
    Tile *tile
    Py_ssize_t r
    Py_ssize_t label
    int precision
    int mode
    double *parts
    bint negative


cdef int sparse_terms(const source *p, Py_ssize_t n, real *terms) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x
    cdef int negative = 0
    for i in range(n):
        x = p[i]
        terms[i] = x
        terms[ROOM + i] = x * x
        negative |= p[i] < 0
    return negative


cdef int even_entropy_terms(const source *p, Py_ssize_t n, real *terms) noexcept nogil:
    """Terms of rows without a class above ¾, as if there were none; tells whether there are (2),
    and whether a number is negative (1)."""
    cdef Py_ssize_t i
    cdef real x
    cdef int seen = 0
    for i in range(n):
        x = p[i]
        # a subnormal or zero x gives a finite logarithm here, and a product below 1e-35 or 0
        terms[i] = -x * log_normal(x)
        terms[ROOM + i] = x
        seen |= (0 if x <= <real>0.75 else 2) | (x < 0)
    return seen


cdef int entropy_terms(const source *p, Py_ssize_t n, real *terms) noexcept nogil:
    """Terms with the big class apart. Rows without one get the same numbers from either function,
    so a row does not depend on its neighbours."""
    cdef Py_ssize_t i
    cdef real x
    cdef int negative = 0
    for i in range(n):
        x = p[i]
        terms[i] = -x * log_normal(x) if x <= <real>0.75 else <real>0
        terms[ROOM + i] = x if x <= <real>0.75 else <real>0
        terms[2 * ROOM + i] = <real>0 if x <= <real>0.75 else x      # NaN and infinity too
        negative |= x < 0
    return negative


cdef int cross_terms(const source *p, const source *q, Py_ssize_t n, real *terms) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x, y, term, up
    cdef int negative = 0
    if real is float:
        up = <real>18446744073709551616.0
    else:
        up = <real>1.3407807929942597e154
    for i in range(n):
        x = p[i]
        y = q[i]
        term = x * minus_log_scaled(y * up)
        term = <real>INFINITY if (y == 0) & (x > 0) else term
        terms[i] = term if y <= <real>0.75 else <real>0
        terms[ROOM + i] = x if y <= <real>0.75 else <real>0
        terms[2 * ROOM + i] = <real>0 if y <= <real>0.75 else x
        terms[3 * ROOM + i] = y if y <= <real>0.75 else <real>0
        terms[4 * ROOM + i] = <real>0 if y <= <real>0.75 else y
        negative |= (x < 0) | (y < 0)
    return negative


cdef inline bint map_terms(int mode, const source *p, const source *q, Py_ssize_t n, real *scratch, int *arrays) noexcept nogil:
    """Fill the term arrays; whether a negative number was seen, and how many arrays have terms."""
    cdef int seen
    if mode == SPARSE:
        arrays[0] = 2
        return sparse_terms(q, n, scratch)
    if mode == CROSS:
        arrays[0] = 5
        return cross_terms(p, q, n, scratch)
    arrays[0] = 2
    seen = even_entropy_terms(q, n, scratch)
    if seen >= 2:
        arrays[0] = 3
        return entropy_terms(q, n, scratch)
    return seen


cdef inline void leave_out(real *scratch, Py_ssize_t at) noexcept nogil:
    """Take the label out of the sparse sums."""
    scratch[at] = 0
    scratch[at + ROOM] = 0


cdef void block_of(LongRow *row, Py_ssize_t block, real *scratch, const source *unused) noexcept nogil:
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, row.tile.classes - start)
    cdef const source *p = NULL
    cdef const source *q = classes_of(row.tile, 1, row.r, start, n, <char *>scratch, unused)
    cdef int k, arrays
    if row.mode == CROSS:
        p = classes_of(row.tile, 0, row.r, start, n, <char *>scratch, unused)
    if map_terms(row.mode, p, q, n, scratch, &arrays):
        row.negative = True
    if row.mode == SPARSE and start <= row.label < start + n:
        leave_out(scratch, row.label - start)
    for k in range(WIDTH):
        row.parts[block * WIDTH + k] = row_sum(scratch + k * ROOM, n) if k < arrays else 0


cdef void block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef LongRow *row = <LongRow *>context
    if row.precision == SINGLE:
        block_of(row, block, <float *>scratch, <const float *>NULL)
    elif row.precision == DOUBLE:
        block_of(row, block, <double *>scratch, <const double *>NULL)
    else:
        block_of(row, block, <double *>scratch, <const float *>NULL)


cdef Sums long_sums(Tile *tile, LongRow *row) noexcept nogil:
    cdef Sums sums
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double few[WIDTH * 64]
    cdef int k
    row.parts = &few[0]
    if count > 64:
        row.parts = <double *>malloc(WIDTH * count * sizeof(double))
    if row.parts == NULL:
        for k in range(WIDTH):
            sums.of[k] = NAN
        return sums
    tile.run(tile.runner, block_job, row, count, tile.scratch)
    for k in range(WIDTH):
        sums.of[k] = ordered_sum(row.parts + k, count, WIDTH)
    if count > 64:
        free(row.parts)
    return sums


cdef inline double entropy_value(double t, double rest, double big) noexcept nogil:
    cdef double total = rest + big
    cdef double value = t + rest * log_positive(total)
    value = value + (big * log1p_of(rest / big) if big > 0 else 0.0)
    return value / total if total > 0 else NAN


cdef inline double cross_value(double t, double rest, double big, double pred_rest, double pred_big) noexcept nogil:
    cdef double value = t + rest * log_positive(pred_rest + pred_big)
    value = value + (big * log1p_of(pred_rest / pred_big) if big > 0 else 0.0)
    return value / (rest + big)


cdef inline double sparse_value(double rest, double own) noexcept nogil:
    cdef double total = rest + own
    cdef double near = log1p_of(rest / own)
    cdef double far = log_positive(total) - log_positive(own)
    far = far if total == total else total              # NaN stays
    return near if rest < own else far


cdef void sparse_columns(Tile *tile, Py_ssize_t r, double rest, double square, double own, double **out, const source *unused) noexcept nogil:
    """What is wanted of a row beside its cross-entropy."""
    cdef Py_ssize_t block
    cdef double total = rest + own, undefined = 0 if total == total else NAN, rank
    if not tile.normalise:                              # "as_is": distances of the raw numbers
        rest = rest if total != total else 1 - own
        total = 1 + undefined
    if out[ACCURACY] != NULL or out[RANK] != NULL:
        rank = rank_of(tile, r, unused) + undefined
        if out[RANK] != NULL:
            out[RANK][r] = rank
        if out[ACCURACY] != NULL:
            out[ACCURACY][r] = (rank == 0) + undefined
    if out[BRIER] != NULL:
        out[BRIER][r] = (square + rest * rest) / (total * total)
    if out[CONFIDENCE] != NULL:
        out[CONFIDENCE][r] = top_in(tile, 1, r, &block, unused) / total


cdef void finish(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Batch *sums, int mode, double **out, const source *unused) noexcept nogil:
    """Values of consecutive rows from their sums: vectors first, then the rows that need a look."""
    cdef Py_ssize_t r
    cdef double low, high, total, pred_total
    cdef double *value = out[0]
    cdef int some = 0
    if value != NULL:
        value += start
        if mode == SPARSE:
            for r in range(rows):
                value[r] = sparse_value(sums.of[0][r], sums.own[r])
        elif mode == ENTROPY:
            for r in range(rows):
                value[r] = entropy_value(sums.of[0][r], sums.of[1][r], sums.of[2][r])
        else:
            for r in range(rows):
                value[r] = cross_value(sums.of[0][r], sums.of[1][r], sums.of[2][r], sums.of[3][r], sums.of[4][r])
    if mode == SPARSE and (out[ACCURACY] != NULL or out[RANK] != NULL or out[BRIER] != NULL or out[CONFIDENCE] != NULL):
        for r in range(rows):
            if tile.labels[start + r] >= 0:             # a skipped row has no label to read
                sparse_columns(tile, start + r, sums.of[0][r], sums.of[1][r], sums.own[r], out, unused)
    if not tile.normalise:
        return
    sum_bounds(tile, &low, &high)
    for r in range(rows):
        total = sums.of[0][r] + sums.own[r] if mode == SPARSE else sums.of[1][r] + sums.of[2][r]
        pred_total = sums.of[3][r] + sums.of[4][r] if mode == CROSS else total
        some |= (total < low) | (total > high) | (pred_total < low) | (pred_total > high)
    if not some:
        return
    for r in range(rows):
        if mode == SPARSE:
            check_sum(tile, start + r, 1, sums.of[0][r] + sums.own[r])
        elif mode == ENTROPY:
            check_sum(tile, start + r, 1, sums.of[1][r] + sums.of[2][r])
        elif sums.of[0][r] == sums.of[0][r] and sums.of[3][r] + sums.of[4][r] == sums.of[3][r] + sums.of[4][r]:
            check_sum(tile, start + r, 0, sums.of[1][r] + sums.of[2][r])
            check_sum(tile, start + r, 1, sums.of[3][r] + sums.of[4][r])


cdef void report_rows(Tile *tile, int mode, Py_ssize_t start, Py_ssize_t rows, const source *unused) noexcept nogil:
    """Look for negative numbers in every operand that was read."""
    if mode == CROSS:
        report_negatives(tile, start, rows, 0, unused)
    report_negatives(tile, start, rows, 1, unused)


cdef void rows_of(Tile *tile, int mode, double **out, real *scratch, const source *unused) noexcept nogil:
    cdef const source *p = <const source *>tile.true_rows
    cdef const source *q = <const source *>tile.pred_rows
    cdef Py_ssize_t classes = tile.classes, start = 0, r, n, at_once
    cdef bint negative
    cdef int k, arrays
    cdef Sums sums
    cdef Batch batch
    cdef LongRow row
    if classes > CHUNK:
        row.tile = tile
        row.precision = tile.precision
        row.mode = mode
        for r in range(tile.rows):
            row.r = r
            row.label = tile.labels[r] if tile.labels != NULL else -1
            row.negative = False
            sums = long_sums(tile, &row)
            for k in range(WIDTH):
                batch.of[k][0] = sums.of[k]
            if mode == SPARSE:
                label_numbers(tile, r, 1, batch.own, q)
            finish(tile, r, 1, &batch, mode, out, q)
            if row.negative:
                report_rows(tile, mode, r, 1, unused)
        return
    at_once = rows_of_chunk(classes)
    while start < tile.rows:
        n = min(at_once, tile.rows - start)
        negative = map_terms(mode, p + start * classes if p != NULL else p, q + start * classes, n * classes, scratch, &arrays)
        if mode == SPARSE:
            label_numbers(tile, start, n, batch.own, q)
            for r in range(n):
                if tile.labels[start + r] >= 0:
                    leave_out(scratch, r * classes + tile.labels[start + r])
        for k in range(WIDTH):
            if k < arrays:
                row_sums(scratch + k * ROOM, n, classes, batch.of[k])
            else:
                memset(batch.of[k], 0, n * sizeof(double))
        finish(tile, start, n, &batch, mode, out, q)
        if negative:
            report_rows(tile, mode, start, n, unused)
        start += n


cdef void in_precision(Tile *tile, int mode, double **out) noexcept nogil:
    if tile.precision == SINGLE:
        rows_of(tile, mode, out, <float *>tile.scratch, <const float *>NULL)
    elif tile.precision == DOUBLE:
        rows_of(tile, mode, out, <double *>tile.scratch, <const double *>NULL)
    else:
        rows_of(tile, mode, out, <double *>tile.scratch, <const float *>NULL)


cdef void sparse_rows(Tile *tile, double **out) noexcept nogil:
    in_precision(tile, SPARSE, out)


cdef void entropy_rows(Tile *tile, double **out) noexcept nogil:
    in_precision(tile, ENTROPY, out)


cdef void cross_rows(Tile *tile, double **out) noexcept nogil:
    in_precision(tile, CROSS, out)


cdef Table table
table.kernels[0] = sparse_rows
table.kernels[1] = entropy_rows
table.kernels[2] = cross_rows
kernels = capsule_of(&table)
