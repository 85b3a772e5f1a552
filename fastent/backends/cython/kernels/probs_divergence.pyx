"""KL and Jensen-Shannon divergence of rows of probabilities.

Both are sums of x·log(x/y) − x + y, which is never negative and never cancels (functions.pxd).
With G = Σ (p log(p/q) − p + q), S = Σ p, D = Σ (q − p) and h(v) = v − log1p(v):

    KL(p/Σp ‖ q/Σq) = G/S − h(D/S)        exactly, zeros included.

The subtraction is harmless unless the rows are nearly proportional with different sums; such a row
is done again with q rescaled by c = Σp/Σq, where q·c − p takes a single rounding.
"""

from libc.stdint cimport int64_t

from fastent.backends.cython.kernels.checks cimport check_sum, report_rows, sum_bounds
from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, NEAR, c_fma, excess, kl_term, near_excess, scale_up, stored,
)
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, MOST_ROWS, ROOM
from fastent.backends.cython.kernels.interface cimport DOUBLE, SINGLE, Kernel, Tile
from fastent.backends.cython.kernels.row_blocks cimport classes_of
from fastent.backends.cython.kernels.probs_sums cimport (
    BIG, FIRST, JS, KL, MASS, MASS_DIFFERENCE, PARTS, SECOND, LongProbsRow, ProbsBatch, flat_sums, has,
    is_unrolled, mapped_sums, rows_at_once, sum_long_row, sums_at,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport JS_ROWS, KL_ROWS, OUT_JS, OUT_KL


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


cdef bint sums_of(int kind, const stored *p, const stored *q, Py_ssize_t rows, Py_ssize_t n, bint *careful,
                  stored *terms, double **sums) noexcept nogil:
    if not is_unrolled(n, KL, p):
        if kind == JS:
            return flat_sums(p, q, rows, n, JS, terms, sums)
        return flat_sums(p, q, rows, n, KL, terms, sums)
    if kind == JS:
        return mapped_sums(p, q, rows, n, JS, careful, terms, sums)
    return mapped_sums(p, q, rows, n, KL, careful, terms, sums)


cdef void block_sums(LongProbsRow *row, Py_ssize_t block, const stored *unused, char *scratch) noexcept nogil:
    """Sums of one block of a row into its parts, in a second pass against c·q."""
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, row.tile.classes - start)
    cdef const stored *p = classes_of(row.tile, 0, row.r, start, n, scratch, unused)
    cdef const stored *q = classes_of(row.tile, 1, row.r, start, n, scratch, unused)
    cdef double *part = row.parts + PARTS * block
    cdef double *terms = <double *>scratch
    cdef double *sums[PARTS]
    cdef bint careful = not row.tile.normalise
    cdef int k
    part[SECOND] = part[BIG] = 0
    if row.rescale == 0:
        sums_at(part, 1, sums)
        if sums_of(row.kind, p, q, 1, n, &careful, <stored *>scratch, sums):
            row.negative = True         # only ever set: threads do not disturb each other
        return
    rescaled_terms(p, q, n, row.rescale, row.kind == JS, terms)
    for k in range(PARTS):
        if has(k, row.kind, False):
            part[k] = row_sum(terms + k * ROOM, n)


cdef void probs_pair_block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef LongProbsRow *row = <LongProbsRow *>context
    if row.tile.precision == DOUBLE:
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


cdef inline int64_t row_values(ProbsBatch *sums, Py_ssize_t rows, int kind, double limit, bint wide, double *out,
                               int64_t *again) noexcept nogil:
    """Values of consecutive rows, and which of them need a second pass; whether one does. With a `kind` that is no
    constant GCC computes both for every row."""
    cdef Py_ssize_t r
    cdef int64_t some = 0
    for r in range(rows):
        if kind == JS:
            out[r] = js_value(sums.of[FIRST][r], sums.of[SECOND][r], sums.of[MASS][r], sums.of[MASS_DIFFERENCE][r],
                              limit, &again[r])
        else:
            out[r] = kl_value(sums.of[FIRST][r], sums.of[MASS][r], sums.of[MASS_DIFFERENCE][r], limit, wide, &again[r])
        some |= again[r]
    return some


cdef double rescaled_value(Tile *tile, Py_ssize_t r, double mass, double mass_difference, int kind) noexcept nogil:
    """The second pass of one row, against q·Σp/Σq."""
    cdef LongProbsRow row
    cdef ProbsBatch sums
    cdef int64_t again
    cdef double value
    row.tile = tile
    row.kind = kind
    row.rescale = mass / (mass + mass_difference)
    sum_long_row(&row, r, probs_pair_block_job, &sums)
    row_values(&sums, 1, kind, 1 if kind == JS else 0.5, False, &value, &again)
    return value


cdef inline double sum_of(double sum, double down) noexcept nogil:
    """A row sum, without what stands for zeros."""
    sum *= down
    return sum if sum >= 1.4e-45 or down < 1e-100 else 0.0


cdef void finish(Tile *tile, Py_ssize_t start, Py_ssize_t rows, ProbsBatch *sums, int kind, double *out) noexcept nogil:
    """Values of consecutive rows from their sums: vectors first, then the rows that need a look."""
    cdef Py_ssize_t r
    cdef double up = scale_up(<float>0) if tile.precision == SINGLE else scale_up(<double>0)
    cdef double down = 1 / up, low, high, total
    cdef double *mass = sums.of[MASS]
    cdef double *mass_difference = sums.of[MASS_DIFFERENCE]
    cdef int64_t again[MOST_ROWS]
    cdef int64_t some
    if not tile.normalise:
        for r in range(rows):
            total = 0.25 * (sums.of[FIRST][r] + sums.of[SECOND][r]) if kind == JS else sums.of[FIRST][r] - mass_difference[r]
            out[r] = total * down
        return
    sum_bounds(tile, &low, &high)
    low *= up
    high = min(high * up, <double>1.7976931348623157e308)
    if kind == JS:
        some = row_values(sums, rows, JS, 2e-3 if tile.precision == SINGLE else 1e-7, False, out, again)
    else:
        some = row_values(sums, rows, KL, 0.15 if tile.precision == SINGLE else 0.5, False, out, again)
    for r in range(rows):
        total = mass[r] + mass_difference[r]
        some |= <int64_t>((mass[r] < low) | (mass[r] > high) | (total < low) | (total > high))
    if some == 0:
        return
    if kind == KL:
        row_values(sums, rows, KL, 0.15 if tile.precision == SINGLE else 0.5, True, out, again)
    for r in range(rows):
        check_sum(tile, start + r, 0, sum_of(mass[r], down))
        check_sum(tile, start + r, 1, sum_of(mass[r] + mass_difference[r], down))
        if again[r]:
            out[r] = rescaled_value(tile, start + r, mass[r], mass_difference[r], kind)


cdef void probs_pair_rows_of(Tile *tile, double *out, int kind, stored *terms) noexcept nogil:
    cdef const stored *p = <const stored *>tile.true_rows
    cdef const stored *q = <const stored *>tile.pred_rows
    cdef Py_ssize_t classes = tile.classes, start = 0, n, at_once = rows_at_once(classes, KL, terms)
    cdef ProbsBatch batch
    cdef LongProbsRow row
    cdef double *sums[PARTS]
    cdef bint negative, careful = not tile.normalise    # raw numbers may be too large as well
    row.tile = tile
    row.kind = kind
    row.rescale = 0
    sums_at(batch.of[0], MOST_ROWS, sums)
    while start < tile.rows:
        if classes > CHUNK:
            n = 1
            negative = sum_long_row(&row, start, probs_pair_block_job, &batch)
        else:
            n = min(at_once, tile.rows - start)
            negative = sums_of(kind, p + start * classes, q + start * classes, n, classes, &careful, terms, sums)
        finish(tile, start, n, &batch, kind, out + start)
        if negative:
            report_rows(tile, start, n)
        start += n


cdef void divergence_rows(Tile *tile, double *out, int kind) noexcept nogil:
    if tile.precision == SINGLE:
        probs_pair_rows_of(tile, out, kind, <float *>tile.scratch)
    else:
        probs_pair_rows_of(tile, out, kind, <double *>tile.scratch)


cdef void kl_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[OUT_KL], KL)


cdef void js_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[OUT_JS], JS)


cdef Kernel table[2]
table[<int>KL_ROWS] = kl_rows
table[<int>JS_ROWS] = js_rows
functions = exported(&table)
