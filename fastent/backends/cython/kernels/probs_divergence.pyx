"""KL and Jensen-Shannon divergence of rows of probabilities.

Both are sums of x·log(x/y) − x + y, which is never negative and never cancels (functions.pxd).
With G = Σ (p log(p/q) − p + q), S = Σ p, D = Σ (q − p) and h(v) = v − log1p(v):

    KL(p/Σp ‖ q/Σq) = G/S − h(D/S)        exactly, zeros included.

The subtraction is harmless unless the rows are nearly proportional with different sums; such a row
is done again with q rescaled by c = Σp/Σq, where q·c − p takes a single rounding.
"""

from libc.stdint cimport int64_t

from fastent.backends.cython.kernels.checks cimport check_sum, report_negatives, sum_bounds
from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, NEAR, c_fma, excess, kl_term, near_excess, scale_up, stored,
)
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, MOST_ROWS, ROOM
from fastent.backends.cython.kernels.interface cimport DOUBLE, SINGLE, Kernel, Tile
from fastent.backends.cython.kernels.row_blocks cimport classes_of, sum_blocks
from fastent.backends.cython.kernels.probs_sums cimport (
    FIRST, JS, KL, MASS, MASS_DIFFERENCE, SECOND, flat_sums, is_unrolled, mapped_sums, rows_at_once,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport JS_ROWS, KL_ROWS, OUT_JS, OUT_KL


cdef enum:
    SUMS = 4                            # of a row


cdef struct ProbsPairBatch:             # sums of consecutive rows, in the order of probs_sums.pxd
    double first[MOST_ROWS]             # Σ kl_term(p, q), or Σ kl_term(2p, p + q) for JS
    double second[MOST_ROWS]            # JS: Σ kl_term(2q, p + q)
    double mass[MOST_ROWS]              # Σ p
    double mass_difference[MOST_ROWS]   # Σ (q − p)


cdef struct LongProbsPairRow:                    # one row that is summed in blocks
    Tile *tile
    Py_ssize_t r
    int precision
    bint symmetric
    double rescale                      # 0: first pass
    double *parts
    bint negative


cdef void rescaled_terms(const stored *p, const stored *q, Py_ssize_t n, double c, bint symmetric, double *terms) noexcept nogil:
    """The same terms against c·q; the difference is rounded once."""
    cdef Py_ssize_t i
    cdef double x, y, d, up = scale_up(<double>0)
    for i in range(n):
        x = <double>p[i] * up
        y = <double>q[i] * up
        d = c_fma(y, c, -x)
        y = y * c
        terms[MASS * ROOM + i] = x
        terms[MASS_DIFFERENCE * ROOM + i] = d
        if symmetric:
            terms[FIRST * ROOM + i] = kl_term(x + x, x + y, d)
            terms[SECOND * ROOM + i] = kl_term(y + y, x + y, -d)
        else:
            terms[FIRST * ROOM + i] = kl_term(x, y, d)


cdef inline void sums_at(double *out, Py_ssize_t apart, double **sums) noexcept nogil:
    cdef int k
    for k in range(SUMS):
        sums[k] = out + k * apart


cdef bint sums_of(bint symmetric, const stored *p, const stored *q, Py_ssize_t rows, Py_ssize_t n, bint *careful,
                  stored *terms, double **sums) noexcept nogil:
    if not is_unrolled(n, KL, p):
        if symmetric:
            return flat_sums(p, q, rows, n, JS, terms, sums)
        return flat_sums(p, q, rows, n, KL, terms, sums)
    if symmetric:
        return mapped_sums(p, q, rows, n, JS, careful, terms, sums)
    return mapped_sums(p, q, rows, n, KL, careful, terms, sums)


cdef void block_sums(LongProbsPairRow *row, Py_ssize_t block, const stored *unused, char *scratch) noexcept nogil:
    """Sums of one block of a row into its parts, in a second pass against c·q."""
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, row.tile.classes - start)
    cdef const stored *p = classes_of(row.tile, 0, row.r, start, n, scratch, unused)
    cdef const stored *q = classes_of(row.tile, 1, row.r, start, n, scratch, unused)
    cdef double *part = row.parts + SUMS * block
    cdef double *terms = <double *>scratch
    cdef double *sums[SUMS]
    cdef bint careful = not row.tile.normalise
    cdef int k
    part[SECOND] = 0
    if row.rescale == 0:
        sums_at(part, 1, sums)
        if sums_of(row.symmetric, p, q, 1, n, &careful, <stored *>scratch, sums):
            row.negative = True         # only ever set: threads do not disturb each other
        return
    rescaled_terms(p, q, n, row.rescale, row.symmetric, terms)
    for k in range(SUMS):
        if k != SECOND or row.symmetric:
            part[k] = row_sum(terms + k * ROOM, n)


cdef void probs_pair_block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef LongProbsPairRow *row = <LongProbsPairRow *>context
    if row.precision == DOUBLE:
        block_sums(row, block, <const double *>NULL, scratch)
    else:
        block_sums(row, block, <const float *>NULL, scratch)


cdef inline double second_order_of(double v, bint wide) noexcept nogil:
    """h(v); where sums deviate by more than they do if they are checked, only if `wide`, a constant."""
    cdef double near = v * v * near_excess(v)
    if wide:
        return near if v * v <= NEAR * NEAR else excess(v)
    return near


cdef inline double difference(double gap, double second_order) noexcept nogil:
    """gap − second_order, or 0 where nothing is left but rounding errors: rows that are proportional."""
    cdef double value = gap - second_order
    return 0.0 if value < 4e-15 * gap else value


cdef inline double kl_value(double first, double mass, double mass_difference, double threshold, bint wide, int64_t *again) noexcept nogil:
    """`again`: whether the row needs a second pass, or `wide` first."""
    cdef double each = 1 / mass
    cdef double v = mass_difference * each
    cdef double gap = first * each, second_order = second_order_of(v, wide)
    again[0] = <int64_t>((second_order > threshold * gap) & (gap < INFINITY))
    if not wide:
        again[0] |= <int64_t>(v * v > NEAR * NEAR)
    return difference(gap, second_order)


cdef inline double js_value(double first, double second, double mass, double mass_difference, double allowed, int64_t *again) noexcept nogil:
    """½[KL(P ‖ R) + KL(Q ‖ R)] with R = m/Σm, which exceeds JS by a term of second order in the
    relative difference ε of the two sums: 0.215·ε²·JS, right to 0.035·ε²."""
    cdef double each = 1 / mass, other = 1 / (mass + mass_difference)
    cdef double v = mass_difference * each, u = mass_difference * other
    cdef double gap = 0.5 * (first * each + second * other)
    cdef double second_order = second_order_of(0.5 * v, False) + second_order_of(-0.5 * u, False)
    cdef double squared = v * u                     # ε², to ε² of itself
    again[0] = <int64_t>((squared > allowed * allowed) | (second_order > 0.5 * gap))
    return 0.5 * difference(gap, second_order) * (1 - 0.215 * squared)


cdef double rescaled_value(Tile *tile, Py_ssize_t r, double mass, double mass_difference, bint symmetric) noexcept nogil:
    """The second pass of one row, against q·Σp/Σq."""
    cdef LongProbsPairRow row
    cdef double[SUMS] sums
    cdef int64_t again
    row.tile = tile
    row.r = r
    row.precision = tile.precision
    row.symmetric = symmetric
    row.rescale = mass / (mass + mass_difference)
    sum_blocks(tile, probs_pair_block_job, &row, &row.parts, SUMS, sums)
    if symmetric:
        return js_value(sums[FIRST], sums[SECOND], sums[MASS], sums[MASS_DIFFERENCE], 1, &again)
    return kl_value(sums[FIRST], sums[MASS], sums[MASS_DIFFERENCE], 0.5, False, &again)


cdef inline double sum_of(double sum, double down) noexcept nogil:
    """A row sum, without what stands for zeros."""
    sum *= down
    return sum if sum >= 1.4e-45 or down < 1e-100 else 0.0


cdef void finish(Tile *tile, Py_ssize_t start, Py_ssize_t rows, ProbsPairBatch *sums, bint symmetric, double *out) noexcept nogil:
    """Values of consecutive rows from their sums: vectors first, then the rows that need a look."""
    cdef Py_ssize_t r
    cdef double up = scale_up(<float>0) if tile.precision == SINGLE else scale_up(<double>0)
    cdef double down = 1 / up, threshold, allowed, low, high, total
    cdef int64_t again[MOST_ROWS]
    cdef int64_t doubt, some = 0
    if not tile.normalise:
        for r in range(rows):
            out[r] = sums.first[r] - sums.mass_difference[r]
            if symmetric:
                out[r] = 0.25 * (sums.first[r] + sums.second[r])
            out[r] = out[r] * down
        return
    threshold = 0.15 if tile.precision == SINGLE else 0.5
    allowed = 2e-3 if tile.precision == SINGLE else 1e-7
    sum_bounds(tile, &low, &high)
    low *= up
    high = min(high * up, <double>1.7976931348623157e308)
    if symmetric:                       # a loop each: in one, GCC computes both for every row
        for r in range(rows):
            out[r] = js_value(sums.first[r], sums.second[r], sums.mass[r], sums.mass_difference[r], allowed, &doubt)
            some |= doubt
    else:
        for r in range(rows):
            out[r] = kl_value(sums.first[r], sums.mass[r], sums.mass_difference[r], threshold, False, &doubt)
            some |= doubt
    for r in range(rows):
        total = sums.mass[r] + sums.mass_difference[r]
        some |= <int64_t>((sums.mass[r] < low) | (sums.mass[r] > high) | (total < low) | (total > high))
    if some == 0:
        return
    for r in range(rows):
        if symmetric:
            js_value(sums.first[r], sums.second[r], sums.mass[r], sums.mass_difference[r], allowed, &again[r])
        else:
            out[r] = kl_value(sums.first[r], sums.mass[r], sums.mass_difference[r], threshold, True, &again[r])
    for r in range(rows):
        check_sum(tile, start + r, 0, sum_of(sums.mass[r], down))
        check_sum(tile, start + r, 1, sum_of(sums.mass[r] + sums.mass_difference[r], down))
        if again[r]:
            out[r] = rescaled_value(tile, start + r, sums.mass[r], sums.mass_difference[r], symmetric)


cdef void probs_pair_rows_of(Tile *tile, double *out, bint symmetric, stored *terms) noexcept nogil:
    cdef const stored *p = <const stored *>tile.true_rows
    cdef const stored *q = <const stored *>tile.pred_rows
    cdef Py_ssize_t classes = tile.classes, start, r, n, at_once
    cdef ProbsPairBatch batch
    cdef double[SUMS] long_row
    cdef LongProbsPairRow row
    cdef double *sums[SUMS]
    cdef bint negative, careful = not tile.normalise    # raw numbers may be too large as well
    if classes > CHUNK:
        row.tile = tile
        row.precision = tile.precision
        row.symmetric = symmetric
        row.rescale = 0
        for r in range(tile.rows):
            row.r = r
            row.negative = False
            sum_blocks(tile, probs_pair_block_job, &row, &row.parts, SUMS, long_row)
            batch.first[0] = long_row[FIRST]
            batch.second[0] = long_row[SECOND]
            batch.mass[0] = long_row[MASS]
            batch.mass_difference[0] = long_row[MASS_DIFFERENCE]
            finish(tile, r, 1, &batch, symmetric, out + r)
            if row.negative:
                report_negatives(tile, r, 1, 0)
                report_negatives(tile, r, 1, 1)
        return
    at_once = rows_at_once(classes, KL, terms)
    sums_at(batch.first, MOST_ROWS, sums)
    start = 0
    while start < tile.rows:
        n = min(at_once, tile.rows - start)
        negative = sums_of(symmetric, p + start * classes, q + start * classes, n, classes, &careful, terms, sums)
        finish(tile, start, n, &batch, symmetric, out + start)
        if negative:
            report_negatives(tile, start, n, 0)
            report_negatives(tile, start, n, 1)
        start += n


cdef void divergence_rows(Tile *tile, double *out, bint symmetric) noexcept nogil:
    if tile.precision == SINGLE:
        probs_pair_rows_of(tile, out, symmetric, <float *>tile.scratch)
    else:
        probs_pair_rows_of(tile, out, symmetric, <double *>tile.scratch)


cdef void kl_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[OUT_KL], False)


cdef void js_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[OUT_JS], True)


cdef Kernel table[2]
table[<int>KL_ROWS] = kl_rows
table[<int>JS_ROWS] = js_rows
functions = exported(&table)
