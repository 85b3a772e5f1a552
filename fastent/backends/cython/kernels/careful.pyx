"""Everything with options, in double: weighted and smoothed cross-entropy, clipping, "as_is", operands
of two different kinds, and distances. Rows are read as in careful_row.pxd, two of them as in careful_pair.pxd."""

from libc.math cimport exp as c_exp, expm1 as c_expm1

from fastent.backends.cython.arithmetic.functions cimport INFINITY, NAN
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM
from fastent.backends.cython.kernels.interface cimport LOGITS, NEGATIVE, PROBS, Kernel, Tile, report
from fastent.backends.cython.kernels.row_blocks cimport (
    PARTS, paired, part_start, parts_of, run_parts, weights_of,
)
from fastent.backends.cython.kernels.careful_pair cimport c_log, c_log1p, pair_values
from fastent.backends.cython.kernels.careful_statistics cimport put_statistics
from fastent.backends.cython.kernels.careful_row cimport (
    RowView, Sum, add, add_sum, c_ldexp, element, lift_of, load_block, masses, read_view, view_at,
    surprisal, surprisals, value_of,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport (
    CAREFUL_CROSS_ENTROPY, CAREFUL_ENTROPY, CAREFUL_PAIR, CAREFUL_STATISTICS, MOST_SLOTS,
    OUT_BRIER, OUT_CONFIDENCE, OUT_CROSS_ENTROPY, OUT_ENTROPY, OUT_TARGET_WEIGHT,
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


cdef struct Row:                        # of the cross-entropy kernel or the entropy
    Tile *tile
    Py_ssize_t r
    Loss loss
    RowView pred
    RowView target
    double lift                         # of the masses of the target, and their sum
    double mass
    Sum value[PARTS]                    # of every part, and in the end of the row
    Sum weight[PARTS]


cdef inline double clipped(double x, double low, double high) noexcept nogil:
    x = low if x < low else x
    return high if x > high else x


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
    cdef Py_ssize_t k
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
    for k in range(1, parts_of(tile.classes)):
        add_sum(&row.value[0], &row.value[k])
        add_sum(&row.weight[0], &row.weight[k])
    if out[OUT_CROSS_ENTROPY] != NULL:
        out[OUT_CROSS_ENTROPY][r] = value_of(&row.value[0])
        if row.pred.nan or (not sparse and row.target.nan):
            out[OUT_CROSS_ENTROPY][r] = NAN
    if out[OUT_TARGET_WEIGHT] != NULL:
        out[OUT_TARGET_WEIGHT][r] = value_of(&row.weight[0]) * (1 / row.mass)


cdef void entropy_job(void *context, Py_ssize_t k, char *scratch) noexcept nogil:
    cdef Row *row = <Row *>context
    cdef RowView *view = &row.pred
    cdef double *t = <double *>scratch
    cdef Sum value
    cdef Py_ssize_t start = part_start(view.classes, k), stop = part_start(view.classes, k + 1), n, i
    value.total = value.lost = 0
    while start < stop:
        n = min(<Py_ssize_t>CHUNK, stop - start)
        load_block(view, start, n, t + WEIGHT, scratch)
        load_block(view, start, n, t + LOSS, scratch)
        masses(view, n, 0, t + WEIGHT)
        surprisals(view, start, n, t + LOSS)
        for i in range(n):
            t[TERM + i] = t[WEIGHT + i] * t[LOSS + i] if t[WEIGHT + i] != 0 else 0.0
        add(&value, row_sum(t + TERM, n))
        start += n
    row.value[k] = value


cdef void raw_entropy(Tile *tile, Py_ssize_t r, double *out) noexcept nogil:
    """−Σ p log p of the numbers as they are."""
    cdef Row row
    cdef Py_ssize_t k
    read_view(tile, r, 1, &row.pred)
    run_parts(tile, entropy_job, &row)
    for k in range(1, parts_of(tile.classes)):
        add_sum(&row.value[0], &row.value[k])
    out[r] = NAN if row.pred.nan else value_of(&row.value[0])


cdef void statistics_job(void *context, Py_ssize_t k, char *scratch) noexcept nogil:
    """Σ (p − y)² of a part of the row."""
    cdef Row *row = <Row *>context
    cdef RowView *view = &row.pred
    cdef double *t = <double *>scratch
    cdef double miss
    cdef Sum value
    cdef Py_ssize_t start = part_start(view.classes, k), stop = part_start(view.classes, k + 1), n, i
    cdef Py_ssize_t label
    value.total = value.lost = 0
    while start < stop:
        n = min(<Py_ssize_t>CHUNK, stop - start)
        load_block(view, start, n, t + TERM, scratch)
        label = row.tile.labels[row.r] - start
        miss = c_expm1(t[TERM + label]) if 0 <= label < n else 0.0
        masses(view, n, 0, t + TERM)
        if 0 <= label < n:
            t[TERM + label] = miss
        for i in range(n):
            t[TERM + i] *= t[TERM + i]
        add(&value, row_sum(t + TERM, n))
        start += n
    row.value[k] = value


cdef void statistics(Tile *tile, Py_ssize_t r, double **out) noexcept nogil:
    """What careful_statistics.pxd has, and Brier score and confidence of log-probabilities as they are."""
    cdef Row row
    cdef Py_ssize_t k
    if tile.labels[r] < 0:
        return
    row.tile = tile
    row.r = r
    read_view(tile, r, 1, &row.pred)
    if row.pred.nan:
        for k in range(MOST_SLOTS):
            if out[k] != NULL:
                out[k][r] = NAN
        return
    if out[OUT_CONFIDENCE] != NULL:
        out[OUT_CONFIDENCE][r] = c_exp(element(&row.pred, row.pred.where))
    put_statistics(&row.pred, tile.scratch, r, out)
    if out[OUT_BRIER] != NULL:
        run_parts(tile, statistics_job, &row)
        for k in range(1, parts_of(tile.classes)):
            add_sum(&row.value[0], &row.value[k])
        out[OUT_BRIER][r] = value_of(&row.value[0])


cdef void cross_entropy_rows(Tile *tile, double **out) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        weighted_loss(tile, r, out)


cdef void pair_rows(Tile *tile, double **out) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        pair_values(tile, r, out)


cdef void raw_entropy_rows(Tile *tile, double **out) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        raw_entropy(tile, r, out[OUT_ENTROPY])


cdef void statistics_rows(Tile *tile, double **out) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        statistics(tile, r, out)


cdef Kernel table[4]
table[<int>CAREFUL_CROSS_ENTROPY] = cross_entropy_rows
table[<int>CAREFUL_PAIR] = pair_rows
table[<int>CAREFUL_ENTROPY] = raw_entropy_rows
table[<int>CAREFUL_STATISTICS] = statistics_rows
functions = exported(&table)
