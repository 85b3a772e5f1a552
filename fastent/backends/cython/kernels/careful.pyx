"""Everything with options, in double: weighted and smoothed cross-entropy, clipping, "as_is", operands
of two different kinds, and distances. Rows are read as in careful_row.pxd, two of them as in careful_pair.pxd."""

from libc.math cimport exp as c_exp, expm1 as c_expm1, log as c_log, log1p as c_log1p

from fastent.backends.cython.arithmetic.functions cimport INFINITY, NAN, clipped
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM
from fastent.backends.cython.kernels.interface cimport LOGITS, NEGATIVE, PROBS, Kernel, Tile, report
from fastent.backends.cython.kernels.row_blocks cimport PARTS, paired, part_start, parts_of, run_parts, weights_of
from fastent.backends.cython.kernels.careful_pair cimport pair_values
from fastent.backends.cython.kernels.careful_statistics cimport put_statistics
from fastent.backends.cython.kernels.careful_row cimport (
    RowView, Sum, add, c_ldexp, element, lift_of, load_block, masses, read_view, sum_of_terms, surprisal, surprisals,
    total_of, view_at,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport (
    CAREFUL_CROSS_ENTROPY, CAREFUL_ENTROPY, CAREFUL_PAIR, CAREFUL_STATISTICS, MOST_SLOTS, OUT_BRIER, OUT_CONFIDENCE,
    OUT_CROSS_ENTROPY, OUT_ENTROPY, OUT_TARGET_WEIGHT,
)

cdef enum:                              # where the arrays of a block stand in scratch memory
    WEIGHT = 0                          # w_c·t'_c
    LOSS = ROOM                         # −log q_c, clipped
    TERM = 2 * ROOM


cdef struct Loss:                       # what a call asks for
    double low                          # bounds of −log q
    double high
    double keep                         # 1 − ε, and ε/C
    double even


cdef struct Row:                        # of the cross-entropy
    Tile *tile
    Py_ssize_t r
    Loss loss
    RowView pred, target
    double lift                         # of the masses of the target, and their sum
    double mass
    Sum value[PARTS]                    # of every part, and in the end of the row
    Sum weight[PARTS]


cdef Loss loss_of(Tile *tile) noexcept nogil:
    cdef Loss loss
    loss.low = 0 if tile.normalise else -INFINITY
    loss.high = INFINITY
    if tile.eps > 0:
        loss.low = -c_log1p(-tile.eps)
        loss.high = -c_log(tile.eps)
    loss.keep = 1 - tile.smoothing
    loss.even = tile.smoothing / tile.classes
    return loss


cdef void label_loss(Tile *tile, Py_ssize_t r, Loss loss, double **out) noexcept nogil:
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
        value = weight * clipped(surprisal(&pred, label), loss.low, loss.high) if weight != 0 else 0.0
    if out[OUT_CROSS_ENTROPY] != NULL:
        out[OUT_CROSS_ENTROPY][r] = value
    if out[OUT_TARGET_WEIGHT] != NULL:
        out[OUT_TARGET_WEIGHT][r] = weight


cdef void target_block(Tile *tile, Py_ssize_t r, RowView *target, Py_ssize_t start, Py_ssize_t n, double lift, double mass,
                       Loss loss, const double *w, double *t) noexcept nogil:
    """w_c·t'_c of a block, times `mass`."""
    cdef Py_ssize_t i
    cdef double keep = loss.keep, even = loss.even * mass
    if not paired(tile):
        for i in range(n):
            t[WEIGHT + i] = even
        if start <= tile.labels[r] < start + n:
            t[WEIGHT + tile.labels[r] - start] = keep + even
    else:
        load_block(target, start, n, t + WEIGHT, <char *>t)
        masses(target, n, lift, t + WEIGHT)
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


cdef void loss_job(void *context, Py_ssize_t k, char *scratch) noexcept nogil:
    cdef Row *row = <Row *>context
    cdef Tile *tile = row.tile
    cdef Loss loss = row.loss
    cdef const double *w
    cdef double *t = <double *>scratch
    cdef double per = 1 / row.mass, u
    cdef Py_ssize_t start = part_start(tile.classes, k), stop = part_start(tile.classes, k + 1), n, i
    cdef Sum value, weight
    value.total = value.lost = weight.total = weight.lost = 0
    while start < stop:
        n = min(<Py_ssize_t>CHUNK, stop - start)
        w = weights_of(tile, row.r, start, n, scratch)
        target_block(tile, row.r, &row.target, start, n, row.lift, row.mass, loss, w, t)
        load_block(&row.pred, start, n, t + LOSS, scratch)
        surprisals(&row.pred, start, n, t + LOSS)
        for i in range(n):
            u = t[WEIGHT + i]
            t[LOSS + i] = clipped(t[LOSS + i], loss.low, loss.high)
            # a tiny target may meet a loss of any size
            t[TERM + i] = u * t[LOSS + i] * per if u < 1 else u * per * t[LOSS + i]
            t[TERM + i] = t[TERM + i] if u != 0 else 0.0
        if paired(tile) and row.pred.holes and row.target.kind != PROBS and loss.keep > 0:
            impossible_terms(&row.target, start, n, w, t)
        add(&value, row_sum(t + TERM, n))
        add(&weight, row_sum(t + WEIGHT, n))
        start += n
    row.value[k] = value
    row.weight[k] = weight


cdef void weighted_loss(Tile *tile, Py_ssize_t r, double **out) noexcept nogil:
    """Σ w_c t'_c (−log q_c) and Σ w_c t'_c with the smoothed target t' = (1 − ε)t + ε/C."""
    cdef Row row
    cdef bint sparse = not paired(tile)
    cdef double value
    if sparse and tile.labels[r] < 0:
        return
    row.loss = loss_of(tile)
    if sparse and row.loss.even == 0:
        label_loss(tile, r, row.loss, out)
        return
    row.tile = tile
    row.r = r
    read_view(tile, r, 1, &row.pred)
    row.lift = 0
    row.mass = 1
    if not sparse:
        read_view(tile, r, 0, &row.target)
        row.lift = lift_of(&row.target)
        row.mass = c_ldexp(row.target.total, <int>row.lift)
    run_parts(tile, loss_job, &row)
    value = total_of(row.value, parts_of(tile.classes))
    if out[OUT_CROSS_ENTROPY] != NULL:
        out[OUT_CROSS_ENTROPY][r] = NAN if row.pred.nan or (not sparse and row.target.nan) else value
    if out[OUT_TARGET_WEIGHT] != NULL:
        out[OUT_TARGET_WEIGHT][r] = total_of(row.weight, parts_of(tile.classes)) * (1 / row.mass)


cdef void entropy_terms(void *context, Py_ssize_t start, Py_ssize_t n, double *t) noexcept nogil:
    cdef RowView *view = <RowView *>context
    cdef Py_ssize_t i
    load_block(view, start, n, t + WEIGHT, <char *>t)
    load_block(view, start, n, t + LOSS, <char *>t)
    masses(view, n, 0, t + WEIGHT)
    surprisals(view, start, n, t + LOSS)
    for i in range(n):
        t[TERM + i] = t[WEIGHT + i] * t[LOSS + i] if t[WEIGHT + i] != 0 else 0.0


cdef void raw_entropy(Tile *tile, Py_ssize_t r, double **out) noexcept nogil:
    """−Σ p log p of the numbers as they are."""
    cdef RowView view
    read_view(tile, r, 1, &view)
    out[OUT_ENTROPY][r] = NAN if view.nan else sum_of_terms(tile, entropy_terms, &view, TERM)


cdef void brier_terms(void *context, Py_ssize_t start, Py_ssize_t n, double *t) noexcept nogil:
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


cdef void statistics(Tile *tile, Py_ssize_t r, double **out) noexcept nogil:
    """What careful_statistics.pxd has, and Brier score and confidence of log-probabilities as they are."""
    cdef RowView view
    cdef Py_ssize_t k
    if tile.labels[r] < 0:
        return
    read_view(tile, r, 1, &view)
    if view.nan:
        for k in range(MOST_SLOTS):
            if out[k] != NULL:
                out[k][r] = NAN
        return
    if out[OUT_CONFIDENCE] != NULL:
        out[OUT_CONFIDENCE][r] = c_exp(element(&view, view.where))
    put_statistics(&view, tile.scratch, r, out)
    if out[OUT_BRIER] != NULL:
        out[OUT_BRIER][r] = sum_of_terms(tile, brier_terms, &view, 0)


ctypedef void (*RowValues)(Tile *tile, Py_ssize_t r, double **out) noexcept nogil


cdef inline void each_row(Tile *tile, double **out, RowValues values) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        values(tile, r, out)


cdef void cross_entropy_rows(Tile *tile, double **out) noexcept nogil:
    each_row(tile, out, weighted_loss)


cdef void pair_rows(Tile *tile, double **out) noexcept nogil:
    each_row(tile, out, pair_values)


cdef void raw_entropy_rows(Tile *tile, double **out) noexcept nogil:
    each_row(tile, out, raw_entropy)


cdef void statistics_rows(Tile *tile, double **out) noexcept nogil:
    each_row(tile, out, statistics)


cdef Kernel table[4]
table[<int>CAREFUL_CROSS_ENTROPY] = cross_entropy_rows
table[<int>CAREFUL_PAIR] = pair_rows
table[<int>CAREFUL_ENTROPY] = raw_entropy_rows
table[<int>CAREFUL_STATISTICS] = statistics_rows
functions = exported(&table)
