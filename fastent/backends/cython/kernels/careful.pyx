"""Everything with options, in double: weighted and smoothed cross-entropy, clipping, "as_is", operands
of two different kinds, and distances. Rows are read as in careful_row.pxd, two of them as in careful_pair.pxd."""

from libc.math cimport exp as c_exp, expm1 as c_expm1

from fastent.backends.cython.arithmetic.functions cimport INFINITY, NAN, clipped
from fastent.backends.cython.arithmetic.scratch cimport ROOM
from fastent.backends.cython.kernels.interface cimport LOGITS, NEGATIVE, PROBS, Kernel, Tile, report
from fastent.backends.cython.kernels.row_blocks cimport PARTS, paired, weights_of
from fastent.backends.cython.kernels.careful_pair cimport Pair, pair_values
from fastent.backends.cython.kernels.careful_statistics cimport put_statistics
from fastent.backends.cython.kernels.careful_row cimport (
    Bounds, RowView, Sum, add, bounds_of, c_ldexp, element, lift_of, load_block, masses, read_view, sum_of_row,
    sum_row, surprisal, surprisals, value_of, view_at,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport (
    CAREFUL_CROSS_ENTROPY, CAREFUL_ENTROPY, CAREFUL_PAIR, CAREFUL_STATISTICS, OUT_BRIER, OUT_CONFIDENCE,
    OUT_CROSS_ENTROPY, OUT_ENTROPY, OUT_TARGET_WEIGHT, put_nan,
)

cdef enum:                              # where the arrays of a block stand in scratch memory
    WEIGHT = 0                          # w_c·t'_c
    LOSS = ROOM                         # −log q_c, clipped
    TERM = 2 * ROOM

cdef enum:                              # sums of the cross-entropy
    VALUE, WEIGHTS


cdef struct Row:                        # of the cross-entropy
    Tile *tile
    Py_ssize_t r
    Bounds bounds
    double keep                         # 1 − ε, and ε/C
    double even
    RowView pred, target
    double lift                         # of the masses of the target, and their sum
    double mass


cdef void label_loss(Tile *tile, Py_ssize_t r, Bounds bounds, double **out) noexcept nogil:
    """A hard label without smoothing: one class counts. "as_is" reads one number of the row."""
    cdef Py_ssize_t label = tile.labels[r]
    cdef const double *w = weights_of(tile, r, label, 1, tile.scratch)
    cdef double weight = w[0] if w != NULL else 1.0, value = NAN
    cdef RowView pred
    if tile.normalise or tile.pred_kind == LOGITS:
        read_view(tile, r, 1, &pred)
    else:
        pred = view_at(tile, r, 1)
        if pred.kind == PROBS and element(&pred, label) < 0:
            report(tile, r, NEGATIVE, 1, element(&pred, label))
    if not pred.nan:
        value = weight * clipped(surprisal(&pred, label), bounds.low, bounds.high) if weight != 0 else 0.0
    if out[OUT_CROSS_ENTROPY] != NULL:
        out[OUT_CROSS_ENTROPY][r] = value
    if out[OUT_TARGET_WEIGHT] != NULL:
        out[OUT_TARGET_WEIGHT][r] = weight


cdef void target_block(Row *row, Py_ssize_t start, Py_ssize_t n, const double *w, double *t) noexcept nogil:
    """w_c·t'_c of a block, times `mass`."""
    cdef Py_ssize_t i
    cdef double keep = row.keep, even = row.even * row.mass
    if not paired(row.tile):
        for i in range(n):
            t[WEIGHT + i] = even
        i = row.tile.labels[row.r] - start
        if 0 <= i < n:
            t[WEIGHT + i] = keep + even
    else:
        load_block(&row.target, start, n, t + WEIGHT, <char *>t)
        masses(&row.target, n, row.lift, t + WEIGHT)
        for i in range(n):
            t[WEIGHT + i] = keep * t[WEIGHT + i] + even
    if w != NULL:
        for i in range(n):
            t[WEIGHT + i] *= w[i]


cdef void impossible_terms(RowView *target, Py_ssize_t start, Py_ssize_t n, const double *w, double *t) noexcept nogil:
    """A class without mass costs infinitely much, however small the target: it may underflow."""
    cdef Py_ssize_t i
    for i in range(n):
        if t[LOSS + i] == INFINITY and element(target, start + i) > -INFINITY and (w == NULL or w[i] != 0):
            t[TERM + i] = INFINITY


cdef void add_losses(void *context, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    cdef Row *row = <Row *>context
    cdef Bounds bounds = row.bounds
    cdef const double *w = weights_of(row.tile, row.r, start, n, <char *>t)
    cdef double per = 1 / row.mass, u
    cdef Py_ssize_t i
    target_block(row, start, n, w, t)
    load_block(&row.pred, start, n, t + LOSS, <char *>t)
    surprisals(&row.pred, start, n, t + LOSS)
    for i in range(n):
        u = t[WEIGHT + i]
        t[LOSS + i] = clipped(t[LOSS + i], bounds.low, bounds.high)
        # a tiny target may meet a loss of any size
        t[TERM + i] = u * t[LOSS + i] * per if u < 1 else u * per * t[LOSS + i]
        t[TERM + i] = t[TERM + i] if u != 0 else 0.0
    if paired(row.tile) and row.pred.holes and row.target.kind != PROBS and row.keep > 0:
        impossible_terms(&row.target, start, n, w, t)
    add(&sums[VALUE], row_sum(t + TERM, n))
    add(&sums[WEIGHTS], row_sum(t + WEIGHT, n))


cdef void weighted_loss(Row *row, double **out) noexcept nogil:
    """Σ w_c t'_c (−log q_c) and Σ w_c t'_c with the smoothed target t' = (1 − ε)t + ε/C."""
    cdef Tile *tile = row.tile
    cdef Py_ssize_t r = row.r
    cdef Sum sums[2 * PARTS]
    cdef bint nan
    read_view(tile, r, 1, &row.pred)
    row.lift = 0
    row.mass = 1
    nan = row.pred.nan
    if paired(tile):
        read_view(tile, r, 0, &row.target)
        row.lift = lift_of(&row.target)
        row.mass = c_ldexp(row.target.total, <int>row.lift)
        nan |= row.target.nan
    sum_row(tile, add_losses, row, 2, sums)
    if out[OUT_CROSS_ENTROPY] != NULL:
        out[OUT_CROSS_ENTROPY][r] = NAN if nan else value_of(&sums[VALUE])
    if out[OUT_TARGET_WEIGHT] != NULL:
        out[OUT_TARGET_WEIGHT][r] = value_of(&sums[WEIGHTS]) * (1 / row.mass)


cdef void add_entropies(void *context, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    cdef RowView *view = <RowView *>context
    cdef Py_ssize_t i
    load_block(view, start, n, t + WEIGHT, <char *>t)
    load_block(view, start, n, t + LOSS, <char *>t)
    masses(view, n, 0, t + WEIGHT)
    surprisals(view, start, n, t + LOSS)
    for i in range(n):
        t[TERM + i] = t[WEIGHT + i] * t[LOSS + i] if t[WEIGHT + i] != 0 else 0.0
    add(sums, row_sum(t + TERM, n))


cdef void add_squares(void *context, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    """(p − y)²."""
    cdef RowView *view = <RowView *>context
    cdef Py_ssize_t i, label = view.tile.labels[view.row] - start
    cdef double miss
    load_block(view, start, n, t, <char *>t)
    miss = c_expm1(t[label]) if 0 <= label < n else 0.0
    masses(view, n, 0, t)
    if 0 <= label < n:
        t[label] = miss
    for i in range(n):
        t[i] *= t[i]
    add(sums, row_sum(t, n))


cdef void cross_entropy_rows(Tile *tile, double **out) noexcept nogil:
    cdef Row row
    row.tile = tile
    row.bounds = bounds_of(tile)
    row.keep = 1 - tile.smoothing
    row.even = tile.smoothing / tile.classes
    for row.r in range(tile.rows):
        if paired(tile):
            weighted_loss(&row, out)
        elif tile.labels[row.r] >= 0 and row.even == 0:
            label_loss(tile, row.r, row.bounds, out)
        elif tile.labels[row.r] >= 0:
            weighted_loss(&row, out)


cdef void pair_rows(Tile *tile, double **out) noexcept nogil:
    cdef Pair pair
    cdef Py_ssize_t r
    pair.eps = tile.eps
    pair.bounds = bounds_of(tile)
    pair.out = out
    for r in range(tile.rows):
        pair_values(tile, r, &pair)


cdef void raw_entropy_rows(Tile *tile, double **out) noexcept nogil:
    """−Σ p log p of the numbers as they are."""
    cdef RowView view
    cdef Py_ssize_t r
    for r in range(tile.rows):
        read_view(tile, r, 1, &view)
        out[OUT_ENTROPY][r] = NAN if view.nan else sum_of_row(tile, add_entropies, &view)


cdef void statistics_rows(Tile *tile, double **out) noexcept nogil:
    """What careful_statistics.pxd has, and Brier score and confidence of log-probabilities as they are."""
    cdef RowView view
    cdef Py_ssize_t r
    for r in range(tile.rows):
        if tile.labels[r] < 0:
            continue
        read_view(tile, r, 1, &view)
        if view.nan:
            put_nan(out, r)
            continue
        if out[OUT_CONFIDENCE] != NULL:
            out[OUT_CONFIDENCE][r] = c_exp(element(&view, view.where))
        put_statistics(&view, tile.scratch, r, out)
        if out[OUT_BRIER] != NULL:
            out[OUT_BRIER][r] = sum_of_row(tile, add_squares, &view)


cdef Kernel table[4]
table[<int>CAREFUL_CROSS_ENTROPY] = cross_entropy_rows
table[<int>CAREFUL_PAIR] = pair_rows
table[<int>CAREFUL_ENTROPY] = raw_entropy_rows
table[<int>CAREFUL_STATISTICS] = statistics_rows
functions = exported(&table)
