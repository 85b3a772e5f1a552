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
from libc.string cimport memcpy

from fastent.backends.cython.checks cimport check_log_sum, check_sum, report_negatives
from fastent.backends.cython.elementary cimport INFINITY, NAN, log1p_of, real
from fastent.backends.cython.exponentials cimport (
    LogitSums, Scale, exp_over, logit_sums, merge_into, scale_of,
)
from fastent.backends.cython.kernels cimport (
    CHUNK, DOUBLE, LOGPROBS, ROOM, SINGLE, WIDENED, Kernel, Tile,
)
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


cdef struct LongRow:
    const void *x
    const void *target
    Py_ssize_t classes
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
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, row.classes - start)
    cdef const source *x = <const source *>row.x + start
    cdef LogitSums *sums = row.parts + block
    sums[0] = logit_sums(x, n, n, row.scale, row.moments, scratch)
    if row.target != NULL:
        if sums.top == INFINITY:
            certain_target(<const source *>row.target + start, x, n, sums)
        else:
            add_target(<const source *>row.target + start, x, n, sums.top, scratch, sums, &row.negative)


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
    cdef Py_ssize_t count = blocks_of(row.classes), b
    cdef LogitSums sums
    cdef LogitSums few[64]
    row.parts = &few[0]
    if count > 64:
        row.parts = <LogitSums *>malloc(count * sizeof(LogitSums))
        if row.parts == NULL:
            sums.top = sums.count = sums.rest = sums.moment = sums.square = sums.gap = sums.mass = NAN
            return sums
    tile.run(tile.runner, block_job, row, count, tile.scratch)
    sums = row.parts[0]
    for b in range(1, count):
        merge_into(&sums, row.parts[b], row.scale)
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


cdef inline double rank_of(const source *x, Py_ssize_t n, Py_ssize_t label) noexcept nogil:
    """Classes above the label plus equal ones before it."""
    cdef Py_ssize_t i
    cdef int64_t rank = 0
    cdef source own = x[label]
    for i in range(label):
        rank += x[i] >= own
    for i in range(label + 1, n):
        rank += x[i] > own
    return rank


cdef void row_values(Tile *tile, Py_ssize_t r, LogitSums sums, Scale scale, double **out, const source *unused) noexcept nogil:
    """All wanted values of one row from its sums."""
    cdef const source *x = <const source *>tile.pred_rows + r * tile.classes
    cdef Py_ssize_t label = tile.labels[r] if tile.labels != NULL else -1
    cdef double s = sums.rest + (sums.count - 1), gap, p, square
    cdef double z = log1p_of(s)
    cdef double undefined = 0
    if sums.top != sums.top or sums.top == -INFINITY:
        undefined = NAN                                 # a NaN, or no class has any mass
    if tile.pred_kind == LOGPROBS and tile.normalise:
        check_log_sum(tile, r, 1, sums.top, 1 + s)
    if tile.true_rows != NULL:
        if sums.gap == sums.gap:
            check_sum(tile, r, 0, sums.mass)
        out[CROSS_ENTROPY][r] = sums.gap * scale.inverse / sums.mass + z + undefined
    elif label >= 0:
        gap = 0.0 if x[label] == sums.top else (sums.top - <double>x[label]) * scale.inverse
        if out[CROSS_ENTROPY] != NULL:
            out[CROSS_ENTROPY][r] = gap + z + undefined
        if out[RANK] != NULL:
            out[RANK][r] = rank_of(x, tile.classes, label) + undefined
        if out[ACCURACY] != NULL:
            p = x[label] == sums.top
            if p and sums.count > 1:
                p = rank_of(x, tile.classes, label) == 0
            out[ACCURACY][r] = p + undefined
        if out[BRIER] != NULL:
            if gap == 0:                                # label at the maximum: 1 − p = s/(1+s)
                square = sums.square + (sums.count - 1) + s * s
            else:
                p = exp_over(-gap * scale.temperature, 0, scale)
                square = sums.square + sums.count - p * p + (1 + s - p) * (1 + s - p)
            out[BRIER][r] = square / ((1 + s) * (1 + s)) + undefined
    if out[ENTROPY] != NULL:
        out[ENTROPY][r] = z + sums.moment / (1 + s) + undefined
    if out[CONFIDENCE] != NULL:
        out[CONFIDENCE][r] = 1 / (1 + s) + undefined


cdef inline bint out_of_range(Tile *tile, LogitSums sums) noexcept nogil:
    """Whether float arithmetic was too narrow for the row: s < 2^-90 leaves its normal range, and
    differences of logits beyond 3.4e38 overflow. Decided by the row alone, not by what is wanted."""
    if tile.precision != SINGLE or not (sums.top < INFINITY and sums.top > -INFINITY):
        return False
    return (sums.count == 1 and sums.rest < 8e-28) or not (sums.gap < INFINITY)


cdef void rows_of(Tile *tile, double **out, real *scratch, const source *unused) noexcept nogil:
    cdef Scale scale = scale_of(tile.temperature)
    cdef bint moments = out[ENTROPY] != NULL or out[BRIER] != NULL
    cdef Py_ssize_t r
    cdef LogitSums sums
    cdef LongRow row
    row.classes = tile.classes
    row.precision = tile.precision
    row.scale = scale
    row.moments = moments
    for r in range(tile.rows):
        row.negative = False
        row.x = <const source *>tile.pred_rows + r * tile.classes
        row.target = NULL
        if tile.true_rows != NULL:
            row.target = <const source *>tile.true_rows + r * tile.classes
        if tile.classes > CHUNK:
            sums = long_sums(tile, &row)
        else:
            sums = short_sums(tile, r, scale, moments, &row.negative, scratch, <const source *>NULL)
        row_values(tile, r, sums, scale, out, <const source *>NULL)
        if out_of_range(tile, sums):
            row.precision = WIDENED
            row_values(tile, r, long_sums(tile, &row), scale, out, <const source *>NULL)
            row.precision = SINGLE
        if row.negative:
            report_negatives(tile, r, 1, <source *>row.target, <source *>NULL)


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
