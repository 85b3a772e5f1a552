"""Row statistics of logits and log-probabilities, and the row values that are short formulas of them.

With m the maximum, s = Σ e^{(x−m)/T} over the other classes (so the partition sum is 1 + s):

    sparse cross-entropy        (m − x_y)/T + log1p(s)
    categorical, target p       Σ p (m − x)/(T Σp) + log1p(s)
    entropy                     log1p(s) + Σ (m−x) e^{(x−m)/T} / (T (1 + s))
    confidence                  1/(1 + s)

Every term is positive: nothing cancels. A log-probability row is a logit row whose partition sum
e^m (1 + s) is checked.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastent.backends.cython.kernels.checks cimport check_log_sum, check_sum, report_negatives
from fastent.backends.cython.arithmetic.functions cimport INFINITY, NAN, log1p_positive, real, stored
from fastent.backends.cython.kernels.logits_exp cimport LogitSums, RowSums, Scale, exp_over, merged, scale_of
from fastent.backends.cython.kernels.logits_across cimport FEW_LOGITS, LANES
from fastent.backends.cython.kernels.logits_sums_few cimport LogitsBatch, columns_of, few_class_sums, narrowest
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, blocks_of
from fastent.backends.cython.kernels.interface cimport DOUBLE, LOGPROBS, SINGLE, WIDENED, Kernel, Tile
from fastent.backends.cython.kernels.logits_sums cimport MANY, Ranks, logit_sums, no_ranks, rows_at_once, sums_of_rows
from fastent.backends.cython.kernels.row_blocks cimport classes_of, label_numbers, paired
from fastent.backends.cython.kernels.rank cimport rank_of
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport (
    OUT_ACCURACY, OUT_BRIER, OUT_CONFIDENCE, OUT_CROSS_ENTROPY, OUT_ENTROPY, OUT_RANK,
)


cdef struct LongLogitsRow:
    Tile *tile
    Py_ssize_t r
    int precision
    Scale scale
    bint moments
    Ranks ranks                         # of this row alone
    LogitSums *parts
    bint negative


cdef inline void add_target(const stored *p, const stored *x, Py_ssize_t n, double top, real *terms, LogitSums *sums, bint *negative) noexcept nogil:
    """Σ p·(m − x) and Σ p over one block; p = 0 adds nothing, whatever x."""
    cdef Py_ssize_t i
    cdef real m = <real>top
    cdef int below = 0
    for i in range(n):
        terms[i] = <real>p[i] * (m - <real>x[i]) if p[i] != 0 else 0
        below |= p[i] < 0
    sums.gap = row_sum(terms, n)
    for i in range(n):
        terms[i] = p[i]
    sums.mass = row_sum(terms, n)
    if below:
        negative[0] = True


cdef inline void certain_target(const stored *p, const stored *x, Py_ssize_t n, LogitSums *sums, bint *negative) noexcept nogil:
    """The same where m is infinite: a class at +inf costs nothing, any other everything, as in a block
    of a long row where all are at -inf."""
    cdef Py_ssize_t i
    sums.gap = sums.mass = 0
    for i in range(n):
        sums.mass += p[i]
        if p[i] < 0:
            negative[0] = True
        if p[i] != 0 and x[i] != INFINITY:
            sums.gap = INFINITY


cdef void block_of(LongLogitsRow *row, Py_ssize_t block, real *scratch, const stored *unused) noexcept nogil:
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, row.tile.classes - start)
    cdef const stored *x = classes_of(row.tile, 1, row.r, start, n, <char *>scratch, unused)
    cdef const stored *p
    cdef LogitSums *sums = row.parts + block
    cdef Ranks ranks = row.ranks
    ranks.start = start
    sums[0] = logit_sums(x, n, n, row.scale, row.moments, ranks, scratch)
    if paired(row.tile):
        p = classes_of(row.tile, 0, row.r, start, n, <char *>scratch, unused)
        if sums.top == INFINITY or sums.top == -INFINITY:
            certain_target(p, x, n, sums, &row.negative)
        else:
            add_target(p, x, n, sums.top, scratch, sums, &row.negative)


cdef void logits_block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef LongLogitsRow *row = <LongLogitsRow *>context
    if row.precision == SINGLE:
        block_of(row, block, <float *>scratch, <const float *>NULL)
    elif row.precision == DOUBLE:
        block_of(row, block, <double *>scratch, <const double *>NULL)
    else:
        block_of(row, block, <double *>scratch, <const float *>NULL)


cdef LogitSums long_sums(Tile *tile, LongLogitsRow *row) noexcept nogil:
    """Sums of one row of any length, block by block, merged in order."""
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef LogitSums sums
    cdef LogitSums few[64]
    row.parts = &few[0]
    if count > 64:
        row.parts = <LogitSums *>malloc(count * sizeof(LogitSums))
        if row.parts == NULL:
            tile.no_memory = True
            sums.top = sums.count = sums.rest = sums.moment = sums.square = sums.gap = sums.mass = sums.rank = NAN
            return sums
    tile.run(tile.runner, logits_block_job, row, count, tile.scratch)
    sums = merged(row.parts, count, row.scale)
    if count > 64:
        free(row.parts)
    return sums


cdef inline Ranks ranks_from(Tile *tile, Py_ssize_t start, LogitsBatch *batch, Py_ssize_t at) noexcept nogil:
    """Where the ranks of the labels of rows `at` and on go."""
    return Ranks(&batch.rank[at], &batch.own[at], tile.labels + start + at, 0)


cdef inline void short_row_sums(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Scale scale, bint moments,
                                bint ranked, real *scratch, const stored *unused, LogitsBatch *sums) noexcept nogil:
    """Sums of up to LANES rows of at most CHUNK classes."""
    cdef Py_ssize_t n = tile.classes, at = 0, count
    cdef const stored *x
    cdef RowSums columns
    cdef Ranks ranks = no_ranks()
    while at < rows:
        count = min(rows - at, rows_at_once(n, sizeof(stored)))
        x = <const stored *>tile.pred_rows + (start + at) * n
        columns = columns_of(sums, at)
        if ranked:
            label_numbers(tile, start + at, count, sums.own + at, unused)
            ranks = ranks_from(tile, start, sums, at)
        sums_of_rows(x, count, n, (tile.rows - start - at) * n, scale, moments, ranks, &columns, scratch)
        at += count


cdef inline void long_row_sums(LongLogitsRow *row, Py_ssize_t start, Py_ssize_t r, int precision, bint ranked,
                               LogitsBatch *batch) noexcept nogil:
    """Sums of row start + r, of any length, to place r of the batch."""
    cdef LogitSums sums
    row.r = start + r
    row.precision = precision
    if ranked:
        row.ranks = ranks_from(row.tile, start, batch, r)
    sums = long_sums(row.tile, row)
    batch.top[r] = sums.top
    batch.count[r] = sums.count
    batch.rest[r] = sums.rest
    batch.moment[r] = sums.moment
    batch.square[r] = sums.square
    batch.gap[r] = sums.gap
    batch.mass[r] = sums.mass
    batch.rank[r] = sums.rank


cdef inline bint too_narrow(double count, double rest, double gap) noexcept nogil:
    """Whether float arithmetic was too narrow for the row, or differences of logits beyond 3.4e38
    overflow. Decided by the row alone, not by what is wanted."""
    return ((count == 1) & (rest < narrowest())) | (gap == INFINITY)


cdef inline bint any_narrow(Py_ssize_t rows, LogitsBatch *sums, bint targets) noexcept nogil:
    cdef Py_ssize_t r
    cdef int64_t narrow = 0
    for r in range(rows):
        narrow |= too_narrow(sums.count[r], sums.rest[r], sums.gap[r] if targets else 0.0)
    return narrow != 0


cdef void target_sums(Tile *tile, Py_ssize_t start, Py_ssize_t rows, LogitsBatch *batch, real *scratch, const stored *unused) noexcept nogil:
    """Sums of the targets of short rows."""
    cdef Py_ssize_t r, i, n = tile.classes
    cdef const stored *x
    cdef const stored *p
    cdef LogitSums sums
    cdef bint negative
    for r in range(rows):
        x = <const stored *>tile.pred_rows + (start + r) * n
        p = <const stored *>tile.true_rows + (start + r) * n
        negative = False
        if n <= FEW_LOGITS and batch.top[r] != INFINITY:
            for i in range(n):
                negative |= p[i] < 0
        else:
            if batch.top[r] == INFINITY:
                certain_target(p, x, n, &sums, &negative)
            else:
                add_target(p, x, n, batch.top[r], scratch, &sums, &negative)
            batch.gap[r] = sums.gap
            batch.mass[r] = sums.mass
        if negative:
            report_negatives(tile, start + r, 1, 0)


cdef inline void partitions(LogitsBatch *sums, Py_ssize_t rows, bint single) noexcept nogil:
    """log1p(s), and s in place of the sum that leaves ties out."""
    cdef Py_ssize_t r
    cdef double s
    for r in range(rows):
        s = sums.rest[r] + (sums.count[r] - 1)
        # a NaN, or no class with any mass, makes the row undefined
        s = s if sums.top[r] > -INFINITY else <double>NAN
        sums.rest[r] = s
        sums.partition[r] = log1p_positive(s, single)


cdef void finish(Tile *tile, Py_ssize_t start, Py_ssize_t rows, LogitsBatch *sums, Scale scale, bint ranked, double **out, const stored *unused) noexcept nogil:
    """Values of consecutive rows from their sums: vectors first, then what only some calls want."""
    cdef Py_ssize_t r
    cdef double s, gap, p, square
    cdef bint first, known
    cdef double *s_of = sums.rest
    cdef double *z = sums.partition
    cdef double *loss = out[OUT_CROSS_ENTROPY] + start if out[OUT_CROSS_ENTROPY] != NULL else NULL
    if tile.precision == SINGLE:
        partitions(sums, rows, True)
    else:
        partitions(sums, rows, False)
    if tile.pred_kind == LOGPROBS and tile.normalise:
        for r in range(rows):
            check_log_sum(tile, start + r, 1, sums.top[r], 1 + s_of[r])
    if loss != NULL and paired(tile):
        for r in range(rows):
            check_sum(tile, start + r, 0, sums.mass[r] if sums.gap[r] == sums.gap[r] else <double>NAN)
            loss[r] = sums.gap[r] * scale.inverse / sums.mass[r] + z[r]
    if out[OUT_ENTROPY] != NULL:
        for r in range(rows):
            out[OUT_ENTROPY][start + r] = z[r] + sums.moment[r] / (1 + s_of[r])
    if out[OUT_CONFIDENCE] != NULL:
        for r in range(rows):
            out[OUT_CONFIDENCE][start + r] = 1 / (1 + s_of[r])
    if paired(tile) or tile.labels == NULL:
        return
    if tile.classes > FEW_LOGITS and not ranked:
        label_numbers(tile, start, rows, sums.own, unused)
    if loss != NULL:
        for r in range(rows):
            gap = (sums.top[r] - sums.own[r]) * scale.inverse
            loss[r] = z[r] + (0.0 if sums.own[r] == sums.top[r] else gap)
    if out[OUT_BRIER] != NULL:
        for r in range(rows):
            s = s_of[r]
            gap = 0.0 if sums.own[r] == sums.top[r] else (sums.top[r] - sums.own[r]) * scale.inverse
            p = exp_over(-gap * scale.temperature, 0, scale)
            square = sums.square[r] + sums.count[r] - p * p + (1 + s - p) * (1 + s - p)
            # the label at the maximum: 1 − p = s/(1 + s)
            square = sums.square[r] + (sums.count[r] - 1) + s * s if gap == 0 else square
            out[OUT_BRIER][start + r] = square / ((1 + s) * (1 + s))
    if tile.classes > FEW_LOGITS and (out[OUT_RANK] != NULL or out[OUT_ACCURACY] != NULL):
        for r in range(rows):
            first = sums.own[r] == sums.top[r]
            sums.place[r] = 0.0 if first else 1.0       # not less
            # another maximum adds 1 to s, and it may come first
            if tile.labels[start + r] >= 0 and (out[OUT_RANK] != NULL or (first and s_of[r] > 0.99)):
                # nothing is less than −infinity, which the pass for the maximum would have to compare with
                known = ranked and sums.own[r] > -INFINITY
                sums.place[r] = sums.rank[r] if known else rank_of(tile, start + r, unused)
    for r in range(rows if out[OUT_ACCURACY] != NULL else 0):
        s = s_of[r]
        p = 1.0 if sums.place[r] == 0 else 0.0
        out[OUT_ACCURACY][start + r] = p if s == s else s
    for r in range(rows if out[OUT_RANK] != NULL else 0):
        s = s_of[r]
        out[OUT_RANK][start + r] = sums.place[r] if s == s else s


cdef void logits_rows_of(Tile *tile, double **out, real *scratch, const stored *unused) noexcept nogil:
    cdef Scale scale = scale_of(tile.temperature)
    cdef bint moments = out[OUT_ENTROPY] != NULL or out[OUT_BRIER] != NULL, few = tile.classes <= FEW_LOGITS, narrow
    cdef bint ranks = out[OUT_RANK] != NULL or out[OUT_ACCURACY] != NULL
    cdef Py_ssize_t r, n, start = 0
    cdef LogitsBatch batch
    cdef LongLogitsRow row
    cdef bint ranked = out[OUT_RANK] != NULL and tile.labels != NULL and tile.classes >= MANY
    row.tile = tile
    row.scale = scale
    row.moments = moments
    row.ranks = no_ranks()
    while start < tile.rows:
        n = min(tile.rows - start, <Py_ssize_t>LANES)
        narrow = True
        if few:
            narrow = few_class_sums(tile, start, n, scale, moments, ranks, scratch, unused, &batch)
        elif tile.classes <= CHUNK:
            short_row_sums(tile, start, n, scale, moments, ranked, scratch, unused, &batch)
        else:
            if ranked:
                label_numbers(tile, start, n, batch.own, unused)
            for r in range(n):
                row.negative = False
                long_row_sums(&row, start, r, tile.precision, ranked, &batch)
                if row.negative:
                    report_negatives(tile, start + r, 1, 0)
        if paired(tile) and tile.classes <= CHUNK:
            target_sums(tile, start, n, &batch, scratch, unused)
        narrow = narrow or paired(tile)
        if tile.precision == SINGLE and narrow and any_narrow(n, &batch, paired(tile)):
            for r in range(n):
                if too_narrow(batch.count[r], batch.rest[r], batch.gap[r] if paired(tile) else 0.0) and batch.top[r] < INFINITY and batch.top[r] > -INFINITY:
                    long_row_sums(&row, start, r, WIDENED, ranked, &batch)
        finish(tile, start, n, &batch, scale, ranked, out, unused)
        start += n


cdef void logit_rows(Tile *tile, double **out) noexcept nogil:
    if tile.precision == SINGLE:
        logits_rows_of(tile, out, <float *>tile.scratch, <const float *>NULL)
    elif tile.precision == DOUBLE:
        logits_rows_of(tile, out, <double *>tile.scratch, <const double *>NULL)
    else:
        logits_rows_of(tile, out, <double *>tile.scratch, <const float *>NULL)


cdef Kernel table[1]
table[0] = logit_rows
functions = exported(&table)
