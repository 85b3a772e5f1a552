"""Entropy and cross-entropy of rows of probabilities.

At most one class of a row exceeds ¾. It is kept out of the sums, because log S and log p of that
class cancel when the row is nearly one-hot and S differs from 1. With R and M the sums over the
other classes and the big one (M = 0 if there is none), S = R + M:

    entropy             [Σ_others −p log p + R·log S + M·log1p(R/M)] / S
    cross-entropy       [Σ_others −p log q + P_others·log S_q + P_big·log1p(R_q/M_q)] / S_p
    sparse              log1p(R/p_y), R over the classes other than the label; log S − log p_y if R >= p_y
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastent.backends.cython.kernels.checks cimport check_sum, report_rows, sum_bounds
from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, NAN, NEAR, fe_ask_two, fe_bits_double, fe_bits_float, lifted, log1p_of, log_of_sum, log_positive,
    log_ratio, mantissa_of, speck, step, stored, surprisal_of,
)
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, MOST_ROWS, ROOM, rows_of_chunk
from fastent.backends.cython.kernels.interface cimport SINGLE, Kernel, Tile
from fastent.backends.cython.kernels.row_blocks cimport classes_of, label_numbers, top_in
from fastent.backends.cython.kernels.rank cimport rank_of
from fastent.backends.cython.kernels.probs_sums cimport (
    AHEAD, BIG, CROSS, ENTROPY, PARTS, PIECE, PRED_BIG, PRED_REST, REST, TERM, LongProbsRow, ProbsBatch, is_unrolled,
    mapped_sums, rows_at_once, scale, sum_long_row, sums_at,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum, row_sums
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport (
    OUT_ACCURACY, OUT_BRIER, OUT_CONFIDENCE, OUT_CROSS_ENTROPY, OUT_ENTROPY, OUT_RANK, PROBS_ENTROPY, PROBS_SPARSE,
    PROBS_TARGET,
)

cdef enum:                              # what is summed, beside ENTROPY and CROSS, which are greater:
    SPARSE                              # REST: the predicted p
    SQUARES                             # and PRED_REST: p²


cdef inline int sparse_terms(const stored *p, Py_ssize_t n, bint squared, stored *terms) noexcept nogil:
    cdef Py_ssize_t i
    cdef int negative = 0
    for i in range(n):
        terms[REST * ROOM + i] = p[i]
        if squared:                     # a constant
            terms[PRED_REST * ROOM + i] = p[i] * p[i]
        negative |= p[i] < 0
    return negative


cdef inline bint cross_terms(const stored *p, const stored *q, Py_ssize_t n, bint whole, stored *terms, bint *big,
                             bint *zero) noexcept nogil:
    """Terms as if no class of q were above ¾, of an entropy if `whole`, a constant, where p is q; tells whether there
    is one, whether a q is 0, and whether a number is negative. By the bits: c − b has a sign if b > c."""
    cdef Py_ssize_t i
    cdef stored x, y, up
    cdef uint32_t above32 = 0, signs32 = 0
    cdef uint64_t above64 = 0, signs64 = 0
    cdef int32_t least32 = 0x7fffffff
    cdef int64_t least64 = 0x7fffffffffffffff
    for i in range(n):
        y = q[i]
        x = y if whole else p[i]
        # in an entropy 0 and subnormal numbers have a finite logarithm, and a product below 1e-35 or 0
        up = y if whole else lifted(y)
        terms[TERM * ROOM + i] = x * surprisal_of(up, not whole)
        terms[REST * ROOM + i] = x
        if not whole:
            terms[PRED_REST * ROOM + i] = y
        if stored is float:
            above32 |= <uint32_t>0x3f400000 - fe_bits_float(y)
            signs32 |= fe_bits_float(x) | fe_bits_float(y)
            if not whole:
                least32 = min(least32, <int32_t>fe_bits_float(up))
        else:
            above64 |= <uint64_t>0x3fe8000000000000 - fe_bits_double(y)
            signs64 |= fe_bits_double(x) | fe_bits_double(y)
            if not whole:
                least64 = min(least64, <int64_t>fe_bits_double(up))
    if stored is float:
        zero[0] |= least32 <= <int32_t>fe_bits_float(speck(<float>0))
        big[0] |= (above32 | signs32) >> 31
        return signs32 >> 31
    else:
        zero[0] |= least64 <= <int64_t>fe_bits_double(speck(<double>0))
        big[0] |= (above64 | signs64) >> 63
        return signs64 >> 63


cdef inline void cross_big(const stored *p, const stored *q, Py_ssize_t n, bint whole, stored *terms) noexcept nogil:
    """Take the classes of q above ¾ out of the sums. A loop of its own: many chunks have none, and a row
    without one gets the same numbers either way."""
    cdef Py_ssize_t i
    cdef stored x, y, term
    for i in range(n):
        y = q[i]
        x = y if whole else p[i]
        term = terms[TERM * ROOM + i]
        terms[BIG * ROOM + i] = <stored>0 if y <= <stored>0.75 else x        # NaN and infinity too
        terms[TERM * ROOM + i] = term if y <= <stored>0.75 else <stored>0
        terms[REST * ROOM + i] = x if y <= <stored>0.75 else <stored>0
        if not whole:
            terms[PRED_BIG * ROOM + i] = <stored>0 if y <= <stored>0.75 else y
            terms[PRED_REST * ROOM + i] = y if y <= <stored>0.75 else <stored>0


cdef inline bint map_terms(int mode, const stored *p, const stored *q, Py_ssize_t n, stored *scratch, int *filled) noexcept nogil:
    """Fill the term arrays; whether a number may be negative, and which arrays have terms."""
    cdef bint negative, big = False, zero = False
    cdef Py_ssize_t start = 0, some, i
    if mode == SPARSE:
        filled[0] = 1 << REST
        return sparse_terms(q, n, False, scratch)
    if mode == SQUARES:
        filled[0] = 1 << REST | 1 << PRED_REST
        return sparse_terms(q, n, True, scratch)
    if mode == ENTROPY:
        filled[0] = 1 << TERM | 1 << REST
        negative = cross_terms(q, q, n, True, scratch, &big, &zero)
        if big:
            filled[0] |= 1 << BIG
            cross_big(q, q, n, True, scratch)
        return negative
    filled[0] = 1 << TERM | 1 << REST | 1 << PRED_REST
    negative = False
    while start < n:
        some = min(n - start, <Py_ssize_t>(PIECE // sizeof(stored)))
        fe_ask_two(p + start, q + start, AHEAD, PIECE)
        negative |= cross_terms(p + start, q + start, some, False, scratch + start, &big, &zero)
        start += some
    for i in range(n if zero else 0):
        scratch[TERM * ROOM + i] = <stored>INFINITY if (q[i] == 0) & (p[i] > 0) else scratch[TERM * ROOM + i]
    if big:
        filled[0] |= 1 << BIG | 1 << PRED_BIG
        cross_big(p, q, n, False, scratch)
    return negative


cdef inline void leave_out(stored *scratch, Py_ssize_t at) noexcept nogil:
    """Take the label out of the sparse sums."""
    scratch[REST * ROOM + at] = 0
    scratch[PRED_REST * ROOM + at] = 0


cdef bint strip_sums(int mode, const stored *p, const stored *q, Py_ssize_t rows, Py_ssize_t n, bint *careful, stored *scratch,
                     double **sums) noexcept nogil:
    """Sums of consecutive rows of many classes; whether a number is negative."""
    if mode == ENTROPY:
        return mapped_sums(q, q, rows, n, ENTROPY, careful, scratch, sums)
    return mapped_sums(p, q, rows, n, CROSS, careful, scratch, sums)


cdef void block_of(LongProbsRow *row, Py_ssize_t block, stored *scratch) noexcept nogil:
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, row.tile.classes - start)
    cdef const stored *p = NULL
    cdef const stored *q = classes_of(row.tile, 1, row.r, start, n, <char *>scratch, p)
    cdef double *part = row.parts + PARTS * block
    cdef double *sums[PARTS]
    cdef int k, filled
    cdef bint careful = False
    if row.kind == CROSS:
        p = classes_of(row.tile, 0, row.r, start, n, <char *>scratch, p)
    if row.kind >= ENTROPY and is_unrolled(n, ENTROPY, q):
        sums_at(part, 1, sums)
        if strip_sums(row.kind, p, q, 1, n, &careful, scratch, sums):
            row.negative = True
        return
    if map_terms(row.kind, p, q, n, scratch, &filled):
        row.negative = True
    if row.kind <= SQUARES and start <= row.label < start + n:
        leave_out(scratch, row.label - start)
    for k in range(PARTS):
        part[k] = row_sum(scratch + k * ROOM, n) if filled >> k & 1 else 0
    if row.kind >= ENTROPY:
        part[TERM] *= step(<stored>0)


cdef void probs_block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef LongProbsRow *row = <LongProbsRow *>context
    if row.tile.precision == SINGLE:
        block_of(row, block, <float *>scratch)
    else:
        block_of(row, block, <double *>scratch)


cdef inline bint usual(double total) noexcept nogil:
    """Whether a row sum is near enough to 1 for the short formulas, as all checked ones are."""
    return (total >= 1 - NEAR) & (total <= 1 + NEAR)


cdef inline double cross_value(double t, double rest, double big, double pred_rest, double pred_big, bint wide) noexcept nogil:
    """By the short formulas, or for any sum if `wide`, a constant."""
    cdef double total = pred_rest + pred_big
    cdef double near = t + rest * log_of_sum(total) + big * log_ratio(pred_rest, pred_big + pred_big + pred_rest)
    cdef double far
    if wide:
        far = t + rest * log_positive(total)
        far = far + (big * log1p_of(pred_rest / pred_big) if big > 0 else 0.0)
        near = near if usual(total) else far
    return near / (rest + big)


cdef inline double sparse_value(double rest, double own, bint wide) noexcept nogil:
    """One division for both: log1p(rest/own), or log S + octaves·ln 2 + log(1/m) for own = m·2^−octaves."""
    cdef double total = rest + own
    cdef double octaves, m = mantissa_of(own, &octaves)
    cdef bint near = rest < own
    cdef double value = log_ratio(rest if near else 1 - m, own + own + rest if near else 1 + m)
    cdef double more = -octaves * 0.69314718055994530942 + log_of_sum(total)
    cdef double far
    value = value + (0.0 if near else more)
    if wide:
        far = log_positive(total) - log_positive(own)
        far = far if total == total else total              # NaN stays
        far = log1p_of(rest / own) if near else far
        value = value if usual(total) & (own >= 2.2250738585072014e-308) else far
    return value


cdef void sparse_columns(Tile *tile, Py_ssize_t r, double rest, double square, double own, double **out, const stored *unused) noexcept nogil:
    """What is wanted of a row beside its cross-entropy."""
    cdef Py_ssize_t block
    cdef double total = rest + own, undefined = 0 if total == total else NAN, rank
    if not tile.normalise:                              # "as_is": distances of the raw numbers
        rest = rest if total != total else 1 - own
        total = 1 + undefined
    if out[OUT_ACCURACY] != NULL or out[OUT_RANK] != NULL:
        rank = rank_of(tile, r, unused) + undefined
        if out[OUT_RANK] != NULL:
            out[OUT_RANK][r] = rank
        if out[OUT_ACCURACY] != NULL:
            out[OUT_ACCURACY][r] = (rank == 0) + undefined
    if out[OUT_BRIER] != NULL:
        out[OUT_BRIER][r] = (square + rest * rest) / (total * total)
    if out[OUT_CONFIDENCE] != NULL:
        out[OUT_CONFIDENCE][r] = top_in(tile, 1, r, 0, tile.classes, tile.scratch, &block, unused) / total


cdef inline void row_values(ProbsBatch *sums, Py_ssize_t rows, int mode, bint wide, double *value) noexcept nogil:
    cdef Py_ssize_t r
    if mode <= SQUARES:
        for r in range(rows):
            value[r] = sparse_value(sums.of[REST][r], sums.own[r], wide)
    elif mode == ENTROPY:
        for r in range(rows):
            value[r] = cross_value(
                sums.of[TERM][r], sums.of[REST][r], sums.of[BIG][r], sums.of[REST][r], sums.of[BIG][r], wide)
            if wide and not sums.of[REST][r] + sums.of[BIG][r] > 0:
                value[r] = NAN
    else:
        for r in range(rows):
            value[r] = cross_value(
                sums.of[TERM][r], sums.of[REST][r], sums.of[BIG][r], sums.of[PRED_REST][r],
                sums.of[PRED_BIG][r], wide)


cdef extern from *:
    """
    #define FE_CALLED __attribute__((noinline)) void
    """
    ctypedef void called "FE_CALLED"        # in the loop over rows it would have too few registers


cdef called finish(Tile *tile, Py_ssize_t start, Py_ssize_t rows, ProbsBatch *sums, int mode, double **out, const stored *unused) noexcept nogil:
    """Values of consecutive rows from their sums: vectors first, then the rows that need a look."""
    cdef Py_ssize_t r
    cdef double low, high, total, pred_total
    cdef double *value = out[<int>OUT_ENTROPY if mode == ENTROPY else <int>OUT_CROSS_ENTROPY]
    # the two parts of the predicted row's sum
    cdef double *rest = &sums.of[<int>PRED_REST if mode == CROSS else <int>REST][0]
    cdef double *big = &sums.own[0] if mode <= SQUARES else &sums.of[<int>PRED_BIG if mode == CROSS else <int>BIG][0]
    cdef int64_t some = 0
    if value != NULL:
        value += start
        row_values(sums, rows, mode, False, value)
        for r in range(rows):
            some |= <int64_t>(not usual(rest[r] + big[r]))
        for r in range(rows if mode <= SQUARES else 0):
            some |= <int64_t>(sums.own[r] < 2.2250738585072014e-308)
        if some:
            row_values(sums, rows, mode, True, value)
        some = 0
    if mode <= SQUARES and (out[OUT_ACCURACY] != NULL or out[OUT_RANK] != NULL or out[OUT_BRIER] != NULL or out[OUT_CONFIDENCE] != NULL):
        for r in range(rows):
            if tile.labels[start + r] >= 0:             # a skipped row has no label to read
                sparse_columns(tile, start + r, sums.of[REST][r], sums.of[PRED_REST][r], sums.own[r], out, unused)
    if not tile.normalise:
        return
    sum_bounds(tile, &low, &high)
    for r in range(rows):
        pred_total = rest[r] + big[r]
        total = sums.of[REST][r] + sums.of[BIG][r] if mode == CROSS else pred_total
        some |= <int64_t>((total < low) | (total > high) | (pred_total < low) | (pred_total > high))
    for r in range(rows if some else 0):
        if mode == CROSS:
            check_sum(tile, start + r, 0, sums.of[REST][r] + sums.of[BIG][r])
        check_sum(tile, start + r, 1, rest[r] + big[r])


cdef void probs_rows_of(Tile *tile, int mode, double **out, stored *scratch) noexcept nogil:
    cdef const stored *p = <const stored *>tile.true_rows
    cdef const stored *q = <const stored *>tile.pred_rows
    cdef Py_ssize_t classes = tile.classes, start = 0, r, n, at_once
    cdef bint negative, many, careful = False
    cdef int k, filled
    cdef double *sums[PARTS]
    cdef ProbsBatch batch
    cdef LongProbsRow row
    many = mode >= ENTROPY and is_unrolled(classes, ENTROPY, q)
    at_once = rows_at_once(classes, ENTROPY, scratch) if many else rows_of_chunk(classes, sizeof(stored))
    row.tile = tile
    row.kind = mode
    sums_at(batch.of[0], MOST_ROWS, sums)
    while start < tile.rows:
        n = min(at_once, tile.rows - start)
        if classes > CHUNK:
            n = 1
            row.label = tile.labels[start] if tile.labels != NULL else -1
            negative = sum_long_row(&row, start, probs_block_job, &batch)
        elif many:
            negative = strip_sums(mode, p + start * classes if p != NULL else p, q + start * classes, n, classes,
                                  &careful, scratch, sums)
        else:
            negative = map_terms(mode, p + start * classes if p != NULL else p, q + start * classes,
                                 n * classes, scratch, &filled)
            for r in range(n if mode <= SQUARES else 0):
                if tile.labels[start + r] >= 0:
                    leave_out(scratch, r * classes + tile.labels[start + r])
            for k in range(PARTS):
                if filled >> k & 1:
                    row_sums(scratch + k * ROOM, n, classes, sums[k])
                else:
                    memset(sums[k], 0, n * sizeof(double))
            if mode >= ENTROPY:
                scale(sums[TERM], n, step(<stored>0))
        if mode <= SQUARES:             # a skipped row, which has no label, is taken for a certain one
            label_numbers(tile, start, n, batch.own, q)
            for r in range(n):
                batch.of[REST][r] = batch.of[REST][r] if tile.labels[start + r] >= 0 else 0.0
        finish(tile, start, n, &batch, mode, out, q)
        if negative:
            report_rows(tile, start, n)
        start += n


cdef void in_precision(Tile *tile, int mode, double **out) noexcept nogil:
    if tile.precision == SINGLE:
        probs_rows_of(tile, mode, out, <float *>tile.scratch)
    else:
        probs_rows_of(tile, mode, out, <double *>tile.scratch)


cdef void sparse_rows(Tile *tile, double **out) noexcept nogil:
    in_precision(tile, SQUARES if out[OUT_BRIER] != NULL else SPARSE, out)


cdef void entropy_rows(Tile *tile, double **out) noexcept nogil:
    in_precision(tile, ENTROPY, out)


cdef void cross_rows(Tile *tile, double **out) noexcept nogil:
    in_precision(tile, CROSS, out)


cdef Kernel table[3]
table[<int>PROBS_SPARSE] = sparse_rows
table[<int>PROBS_ENTROPY] = entropy_rows
table[<int>PROBS_TARGET] = cross_rows
functions = exported(&table)
