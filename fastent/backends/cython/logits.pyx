"""Row statistics of logits and log-probabilities, and the row values that are short formulas of them.

With m the maximum, s = Σ e^{(x−m)/T} over the other classes (so the partition sum is 1 + s):

    sparse cross-entropy        (m − x_y)/T + log1p(s)
    categorical, target p       Σ p (m − x)/(T Σp) + log1p(s)
    entropy                     log1p(s) + Σ (m−x) e^{(x−m)/T} / (T (1 + s))
    confidence                  1/(1 + s)

Every term is positive: nothing cancels. A log-probability row is a logit row whose partition sum
e^m (1 + s) is checked.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastent.backends.cython.checks cimport check_log_sum, check_sum, report_negatives
from fastent.backends.cython.elementary cimport INFINITY, NAN, log1p_of, real
from fastent.backends.cython.exponentials cimport (
    LogitSums, Scale, exp_below_double, exp_below_single, exp_over, far_origin, gap_double,
    gap_single, logit_sums, merge_into, scale_of, whole_octaves,
)
from fastent.backends.cython.kernels cimport (
    CHUNK, DOUBLE, LOGPROBS, ROOM, SINGLE, WIDENED, Tile,
)
from fastent.backends.cython.long_rows cimport classes_of, label_numbers, paired
from fastent.backends.cython.ranks cimport rank_of
from fastent.backends.cython.sums cimport blocks_of, row_sum
from fastent.backends.cython.table cimport Table, capsule_of

ctypedef fused source:
    float
    double

cdef enum:
    CROSS_ENTROPY
    ACCURACY
    RANK
    BRIER
    ENTROPY
    CONFIDENCE


cdef enum:
    FEW = 16                            # classes up to which rows lie across the vectors
    LANES = CHUNK // FEW                # rows at once

cdef struct Batch:                      # LogitSums of consecutive rows
    double top[LANES]
    double count[LANES]
    double rest[LANES]
    double moment[LANES]
    double square[LANES]
    double gap[LANES]
    double mass[LANES]
    double partition[LANES]             # log1p(s)
    double own[LANES]                   # sparse: the label's logit


cdef struct LongRow:
    Tile *tile
    Py_ssize_t r
    int precision
    Scale scale
    bint moments
    LogitSums *parts
    bint negative


cdef inline void add_target(const source *p, const source *x, Py_ssize_t n, double top, real *terms, LogitSums *sums, bint *negative) noexcept nogil:
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


cdef inline void certain_target(const source *p, const source *x, Py_ssize_t n, LogitSums *sums) noexcept nogil:
    """The same where m = +inf: a class at +inf costs nothing, any other everything."""
    cdef Py_ssize_t i
    sums.gap = sums.mass = 0
    for i in range(n):
        sums.mass += p[i]
        if p[i] != 0 and x[i] != INFINITY:
            sums.gap = INFINITY


cdef void block_of(LongRow *row, Py_ssize_t block, real *scratch, const source *unused) noexcept nogil:
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, row.tile.classes - start)
    cdef const source *x = classes_of(row.tile, 1, row.r, start, n, <char *>scratch, unused)
    cdef const source *p
    cdef LogitSums *sums = row.parts + block
    sums[0] = logit_sums(x, n, n, row.scale, row.moments, scratch)
    if paired(row.tile):
        p = classes_of(row.tile, 0, row.r, start, n, <char *>scratch, unused)
        if sums.top == INFINITY:
            certain_target(p, x, n, sums)
        else:
            add_target(p, x, n, sums.top, scratch, sums, &row.negative)


cdef void block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef LongRow *row = <LongRow *>context
    if row.precision == SINGLE:
        block_of(row, block, <float *>scratch, <const float *>NULL)
    elif row.precision == DOUBLE:
        block_of(row, block, <double *>scratch, <const double *>NULL)
    else:
        block_of(row, block, <double *>scratch, <const float *>NULL)


cdef LogitSums long_sums(Tile *tile, LongRow *row) noexcept nogil:
    """Sums of one row of any length, block by block, merged in order."""
    cdef Py_ssize_t count = blocks_of(tile.classes), b, step = 1
    cdef LogitSums sums
    cdef LogitSums few[64]
    row.parts = &few[0]
    if count > 64:
        row.parts = <LogitSums *>malloc(count * sizeof(LogitSums))
        if row.parts == NULL:
            sums.top = sums.count = sums.rest = sums.moment = sums.square = sums.gap = sums.mass = NAN
            return sums
    tile.run(tile.runner, block_job, row, count, tile.scratch)
    while step < count:                                 # a tree: the roundings grow with its depth
        b = 0
        while b + step < count:
            merge_into(&row.parts[b], row.parts[b + step], row.scale)
            b += 2 * step
        step *= 2
    sums = row.parts[0]
    if count > 64:
        free(row.parts)
    return sums


cdef LogitSums short_sums(Tile *tile, Py_ssize_t r, Scale scale, bint moments, bint *negative,
                          real *scratch, const source *unused) noexcept nogil:
    """Sums of row r of at most CHUNK classes, mapped in whole vectors of 16: past its end lies the
    next row, or, at the end of the tile, a copy with room."""
    cdef Py_ssize_t n = tile.classes, room = (n + 15) & ~<Py_ssize_t>15
    cdef const source *x = <const source *>tile.pred_rows + r * n
    cdef source *copy = <source *>(scratch + 3 * ROOM)
    cdef LogitSums sums
    cdef const source *p
    if r * n + room > tile.rows * n:
        memcpy(copy, x, n * sizeof(source))
        x = copy
    sums = logit_sums(x, n, room, scale, moments, scratch)
    if tile.true_rows != NULL:
        p = <const source *>tile.true_rows + r * n
        if sums.top == INFINITY:
            certain_target(p, x, n, &sums)
        else:
            add_target(p, x, n, sums.top, scratch, &sums, negative)
    return sums


cdef void few_class_sums(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Scale scale, bint moments,
                         real *scratch, const source *unused, Batch *sums) noexcept nogil:
    """Sums of up to LANES rows of a few classes: the rows lie across the vectors, since a row alone
    would leave most of a vector empty."""
    cdef const source *x = <const source *>tile.pred_rows + start * tile.classes
    cdef const source *p = <const source *>tile.true_rows
    cdef Py_ssize_t classes = tile.classes, r, c
    cdef real *across = scratch
    cdef real *target = scratch + ROOM
    cdef real *top = scratch + 2 * ROOM
    cdef real *origin = top + LANES
    cdef real *octaves = origin + LANES
    cdef real *rho = octaves + LANES
    cdef real *nan = rho + LANES
    cdef real *tops = nan + LANES
    cdef real e, f, v, w, m
    cdef bint pair
    for r in range(rows):
        for c in range(classes):
            across[c * LANES + r] = x[r * classes + c]
    for r in range(rows):
        top[r] = across[r]
        nan[r] = across[r]
        tops[r] = 0
        sums.rest[r] = sums.moment[r] = sums.square[r] = sums.gap[r] = sums.mass[r] = 0
    for c in range(1, classes):
        for r in range(rows):
            v = across[c * LANES + r]
            top[r] = v if v > top[r] else top[r]
            nan[r] = nan[r] if v == v else v
    for r in range(rows):
        sums.top[r] = top[r] if nan[r] == nan[r] else nan[r]
        if real is float:
            origin[r] = far_origin(top[r])
            v = top[r] - origin[r]
            octaves[r] = whole_octaves(v)
            rho[r] = <float>(<double>v - <double>octaves[r] * 0.69314718055994530942)
    c = 0
    while c < classes:                                  # two at a time: half the widening to double
        pair = c + 1 < classes
        for r in range(rows):
            v = across[c * LANES + r]
            w = across[(c + 1) * LANES + r] if pair else v
            m = top[r]
            if real is float:
                e = exp_below_single(v, m, origin[r], m - origin[r], octaves[r], rho[r])
                f = exp_below_single(w, m, origin[r], m - origin[r], octaves[r], rho[r]) if pair else <real>0
            else:
                e = exp_below_double(v, m, scale)
                f = exp_below_double(w, m, scale) if pair else <real>0
            sums.rest[r] += e + f
            tops[r] += (<real>1 if v == m else <real>0) + (<real>1 if pair & (w == m) else <real>0)
            if moments:
                sums.square[r] += e * e + f * f
                if real is float:
                    sums.moment[r] += gap_single(v, m) * e + gap_single(w, m) * f
                else:
                    sums.moment[r] += gap_double(v, m, scale) * e + gap_double(w, m, scale) * f
        c += 2
    for r in range(rows):
        sums.count[r] = tops[r]
    if p != NULL:
        p += start * classes
        for r in range(rows):
            for c in range(classes):
                target[c * LANES + r] = p[r * classes + c]
        for c in range(classes):
            for r in range(rows):
                e = target[c * LANES + r]
                sums.mass[r] += e
                sums.gap[r] += e * (top[r] - across[c * LANES + r]) if e != 0 else <real>0


cdef inline void put(LogitSums *sums, Batch *batch, Py_ssize_t at) noexcept nogil:
    batch.top[at] = sums.top
    batch.count[at] = sums.count
    batch.rest[at] = sums.rest
    batch.moment[at] = sums.moment
    batch.square[at] = sums.square
    batch.gap[at] = sums.gap
    batch.mass[at] = sums.mass


cdef inline bint too_narrow(double count, double rest, double gap) noexcept nogil:
    """Whether float arithmetic was too narrow for the row: s < 2^-90 leaves its normal range, and
    differences of logits beyond 3.4e38 overflow. Decided by the row alone, not by what is wanted."""
    return ((count == 1) & (rest < 8e-28)) | (gap == INFINITY)


cdef inline bint any_odd(Tile *tile, Py_ssize_t rows, Batch *sums) noexcept nogil:
    """Whether some row needs a look: NaN, no finite maximum, or too narrow."""
    cdef Py_ssize_t r
    cdef int odd = 0
    for r in range(rows):
        odd |= not ((sums.top[r] < INFINITY) & (sums.top[r] > -INFINITY))
        odd |= too_narrow(sums.count[r], sums.rest[r], sums.gap[r])
    return odd


cdef void check_target(Tile *tile, Py_ssize_t r, Batch *sums, Py_ssize_t at) noexcept nogil:
    if sums.gap[at] == sums.gap[at]:
        check_sum(tile, r, 0, sums.mass[at])


cdef void finish(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Batch *sums, Scale scale, double **out, const source *unused) noexcept nogil:
    """Values of consecutive rows from their sums: vectors first, then what only some calls want."""
    cdef Py_ssize_t r, label
    cdef double s, gap, p, square, own
    cdef double *s_of = sums.rest
    cdef double *z = sums.partition
    cdef double *loss = out[CROSS_ENTROPY] + start if out[CROSS_ENTROPY] != NULL else NULL
    for r in range(rows):
        s = sums.rest[r] + (sums.count[r] - 1)
        # a NaN, or no class with any mass, makes the row undefined
        s = s if sums.top[r] > -INFINITY else <double>NAN
        s_of[r] = s
        z[r] = log1p_of(s)
    if tile.pred_kind == LOGPROBS and tile.normalise:
        for r in range(rows):
            check_log_sum(tile, start + r, 1, sums.top[r], 1 + s_of[r])
    if loss != NULL and paired(tile):
        for r in range(rows):
            check_target(tile, start + r, sums, r)
            loss[r] = sums.gap[r] * scale.inverse / sums.mass[r] + z[r]
    if out[ENTROPY] != NULL:
        for r in range(rows):
            out[ENTROPY][start + r] = z[r] + sums.moment[r] / (1 + s_of[r])
    if out[CONFIDENCE] != NULL:
        for r in range(rows):
            out[CONFIDENCE][start + r] = 1 / (1 + s_of[r])
    if paired(tile) or tile.labels == NULL:
        return
    label_numbers(tile, start, rows, sums.own, unused)
    if loss != NULL:
        for r in range(rows):
            p = sums.own[r]
            gap = (sums.top[r] - p) * scale.inverse
            loss[r] = z[r] + (0.0 if p == sums.top[r] else gap)
    if out[RANK] == NULL and out[ACCURACY] == NULL and out[BRIER] == NULL:
        return
    for r in range(rows):
        label = tile.labels[start + r]
        if label < 0:
            continue
        own = sums.own[r]
        gap = 0.0 if own == sums.top[r] else (sums.top[r] - own) * scale.inverse
        s = s_of[r]
        if out[RANK] != NULL:
            out[RANK][start + r] = rank_of(tile, start + r, unused) if s == s else s
        if out[ACCURACY] != NULL:
            p = own == sums.top[r]
            if p and sums.count[r] > 1:
                p = rank_of(tile, start + r, unused) == 0
            out[ACCURACY][start + r] = p if s == s else s
        if out[BRIER] != NULL:
            if gap == 0:                                # label at the maximum: 1 − p = s/(1+s)
                square = sums.square[r] + (sums.count[r] - 1) + s * s
            else:
                p = exp_over(-gap * scale.temperature, 0, scale)
                square = sums.square[r] + sums.count[r] - p * p + (1 + s - p) * (1 + s - p)
            out[BRIER][start + r] = square / ((1 + s) * (1 + s))


cdef void rows_of(Tile *tile, double **out, real *scratch, const source *unused) noexcept nogil:
    cdef Scale scale = scale_of(tile.temperature)
    cdef bint moments = out[ENTROPY] != NULL or out[BRIER] != NULL, few = tile.classes <= FEW
    cdef Py_ssize_t r, n, start = 0
    cdef bint finite
    cdef LogitSums sums
    cdef Batch batch
    cdef LongRow row
    row.tile = tile
    row.scale = scale
    row.moments = moments
    while start < tile.rows:
        n = min(tile.rows - start, <Py_ssize_t>LANES)
        if few:
            few_class_sums(tile, start, n, scale, moments, scratch, <const source *>NULL, &batch)
        for r in range(n):
            if few and not paired(tile) and not any_odd(tile, n, &batch):
                break
            row.precision = tile.precision
            row.negative = few
            row.r = start + r
            finite = few and batch.top[r] < INFINITY and batch.top[r] > -INFINITY
            if tile.classes > CHUNK:
                sums = long_sums(tile, &row)
                put(&sums, &batch, r)
            elif not finite:
                sums = short_sums(tile, start + r, scale, moments, &row.negative, scratch, <const source *>NULL)
                put(&sums, &batch, r)
            finite = batch.top[r] < INFINITY and batch.top[r] > -INFINITY
            if tile.precision == SINGLE and finite and too_narrow(batch.count[r], batch.rest[r], batch.gap[r]):
                row.precision = WIDENED
                sums = long_sums(tile, &row)
                put(&sums, &batch, r)
            if row.negative and paired(tile):
                report_negatives(tile, start + r, 1, 0, unused)
        finish(tile, start, n, &batch, scale, out, <const source *>NULL)
        start += n


cdef void logit_rows(Tile *tile, double **out) noexcept nogil:
    if tile.precision == SINGLE:
        rows_of(tile, out, <float *>tile.scratch, <const float *>NULL)
    elif tile.precision == DOUBLE:
        rows_of(tile, out, <double *>tile.scratch, <const double *>NULL)
    else:
        rows_of(tile, out, <double *>tile.scratch, <const float *>NULL)


cdef Table table
table.kernels[0] = logit_rows
kernels = capsule_of(&table)
