"""KL and Jensen-Shannon divergence of rows of probabilities.

Both are sums of x·log(x/y) − x + y, which is never negative and never cancels (elementary.pxd).
With G = Σ (p log(p/q) − p + q), S = Σ p, D = Σ (q − p) and h(v) = v − log1p(v):

    KL(p/Σp ‖ q/Σq) = G/S − h(D/S)        exactly, zeros included.

The subtraction is harmless unless the rows are nearly proportional with different sums; such a row
is done again with q rescaled by c = Σp/Σq, where q·c − p takes a single rounding.
"""

from libc.stdlib cimport free, malloc

from fastent.backends.cython.elementary cimport (
    INFINITY, NAN, c_fabs, c_fma, excess, fe_bits_double, fe_bits_float, gap_divergence, real,
)
from fastent.backends.cython.kernels cimport (
    CHUNK, DOUBLE, MOST_ROWS, ROOM, SINGLE, Tile,
)
from fastent.backends.cython.long_rows cimport classes_of
from fastent.backends.cython.sums cimport blocks_of, ordered_sum, row_sum, row_sums, rows_of_chunk
from fastent.backends.cython.checks cimport check_sum, report_negatives, sum_bounds
from fastent.backends.cython.table cimport Table, capsule_of

ctypedef fused source:
    float
    double

cdef enum:
    PARTS = 4                           # sums of a row, and where their terms stand
    FIRST = 0
    SECOND = ROOM
    MASS = 2 * ROOM
    DRIFT = 3 * ROOM


cdef struct Sums:
    double first                        # Σ gap(p, q), or Σ gap(p, m) for JS
    double second                       # JS: Σ gap(q, m)
    double mass                         # Σ p
    double drift                        # Σ (q − p)


cdef struct Batch:                      # the same of consecutive rows
    double first[MOST_ROWS]
    double second[MOST_ROWS]
    double mass[MOST_ROWS]
    double drift[MOST_ROWS]


cdef struct LongRow:                    # one row that is summed in blocks
    Tile *tile
    Py_ssize_t r
    int precision
    bint symmetric
    double rescale                      # 0: first pass
    double *parts
    bint negative


cdef inline real scale_up(real unused) noexcept nogil:
    """Makes every subnormal probability normal; it cancels in the ratios of sums."""
    if real is float:
        return <real>18446744073709551616.0                     # 2^64
    else:
        return <real>1.3407807929942597e154                     # 2^512


cdef inline bint sign_bits(real x, real y) noexcept nogil:
    if real is float:
        return (fe_bits_float(x) | fe_bits_float(y)) >> 31
    else:
        return (fe_bits_double(x) | fe_bits_double(y)) >> 63


cdef bint kl_terms(const source *p, const source *q, Py_ssize_t n, real *terms) noexcept nogil:
    """Terms of KL for n elements; True if a sign bit was seen (a negative number, or −0)."""
    cdef Py_ssize_t i
    cdef real x, y, d, up = scale_up(<real>0)
    cdef int negative = 0
    for i in range(n):
        x = <real>p[i] * up
        y = <real>q[i] * up
        d = y - x
        terms[FIRST + i] = gap_divergence(x, y, d)
        terms[MASS + i] = x
        terms[DRIFT + i] = d
        negative |= sign_bits(x, y)
    return negative


cdef bint js_terms(const source *p, const source *q, Py_ssize_t n, real *terms) noexcept nogil:
    """Terms of JS: both rows against their mean m = (p + q)/2, whose rounding does not matter
    because the difference m − p = d/2 is handed on exactly."""
    cdef Py_ssize_t i
    cdef real x, y, d, m, up = scale_up(<real>0)
    cdef int negative = 0
    for i in range(n):
        x = <real>p[i] * up
        y = <real>q[i] * up
        d = y - x
        m = <real>0.5 * x + <real>0.5 * y
        terms[FIRST + i] = gap_divergence(x, m, <real>0.5 * d)
        terms[SECOND + i] = gap_divergence(y, m, <real>-0.5 * d)
        terms[MASS + i] = x
        terms[DRIFT + i] = d
        negative |= sign_bits(x, y)
    return negative


cdef void rescaled_terms(const source *p, const source *q, Py_ssize_t n, double c, bint symmetric, double *terms) noexcept nogil:
    """The same terms against c·q; the difference is rounded once."""
    cdef Py_ssize_t i
    cdef double x, y, d, m, up = scale_up(<double>0)
    for i in range(n):
        x = <double>p[i] * up
        y = <double>q[i] * up
        d = c_fma(y, c, -x)
        y = y * c
        terms[MASS + i] = x
        terms[DRIFT + i] = d
        if symmetric:
            m = 0.5 * x + 0.5 * y
            terms[FIRST + i] = gap_divergence(x, m, 0.5 * d)
            terms[SECOND + i] = gap_divergence(y, m, -0.5 * d)
        else:
            terms[FIRST + i] = gap_divergence(x, y, d)


cdef void block_sums(LongRow *row, Py_ssize_t block, real *terms, const source *unused) noexcept nogil:
    """Sums of one block of a row into its parts."""
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, row.tile.classes - start)
    cdef const source *p = classes_of(row.tile, 0, row.r, start, n, <char *>terms, unused)
    cdef const source *q = classes_of(row.tile, 1, row.r, start, n, <char *>terms, unused)
    cdef double *part = row.parts + PARTS * block
    cdef bint negative = False
    if row.rescale != 0:
        if real is double:
            rescaled_terms(p, q, n, row.rescale, row.symmetric, terms)
    elif row.symmetric:
        negative = js_terms(p, q, n, terms)
    else:
        negative = kl_terms(p, q, n, terms)
    part[0] = row_sum(terms + FIRST, n)
    part[1] = row_sum(terms + SECOND, n) if row.symmetric else 0
    part[2] = row_sum(terms + MASS, n)
    part[3] = row_sum(terms + DRIFT, n)
    if negative:
        row.negative = True             # only ever set: threads do not disturb each other


cdef void block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef LongRow *row = <LongRow *>context
    if row.precision == DOUBLE:
        block_sums(row, block, <double *>scratch, <const double *>NULL)
    elif row.precision == SINGLE and row.rescale == 0:
        block_sums(row, block, <float *>scratch, <const float *>NULL)
    else:
        block_sums(row, block, <double *>scratch, <const float *>NULL)


cdef Sums long_sums(Tile *tile, LongRow *row) noexcept nogil:
    """Sums of one row of any length, block by block."""
    cdef Sums sums
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double few[PARTS * 64]
    row.parts = &few[0]
    if count > 64:
        row.parts = <double *>malloc(PARTS * count * sizeof(double))
    if row.parts == NULL:
        sums.first = sums.second = sums.mass = sums.drift = NAN
        return sums
    tile.run(tile.runner, block_job, row, count, tile.scratch)
    sums.first = ordered_sum(row.parts, count, PARTS)
    sums.second = ordered_sum(row.parts + 1, count, PARTS)
    sums.mass = ordered_sum(row.parts + 2, count, PARTS)
    sums.drift = ordered_sum(row.parts + 3, count, PARTS)
    if count > 64:
        free(row.parts)
    return sums


cdef inline double kl_value(double first, double mass, double drift, double threshold, int *again) noexcept nogil:
    cdef double gap = first / mass
    cdef double bend = excess(drift / mass)
    cdef double value = gap - bend
    again[0] = (bend > threshold * gap) & (gap < INFINITY)
    return value if not value < 0 else 0.0


cdef inline double js_value(double first, double second, double mass, double drift, double allowed, int *again) noexcept nogil:
    """½[KL(P ‖ R) + KL(Q ‖ R)] with R = m/Σm, which exceeds JS by a term of second order in the
    relative difference ε of the two sums: 0.215·ε²·JS, right to 0.035·ε²."""
    cdef double total = mass + drift
    cdef double gap = first / mass + second / total
    cdef double bend = excess(0.5 * drift / mass) + excess(-0.5 * drift / total)
    cdef double e = 2 * drift / (mass + total)
    cdef double value = 0.5 * (gap - bend) * (1 - 0.215 * e * e)
    again[0] = (c_fabs(e) > allowed) | (bend > 0.5 * gap)
    return value if not value < 0 else 0.0


cdef double rescaled_value(Tile *tile, Py_ssize_t r, double mass, double drift, bint symmetric) noexcept nogil:
    """The second pass of one row, against q·Σp/Σq."""
    cdef LongRow row
    cdef Sums sums
    cdef int again
    row.tile = tile
    row.r = r
    row.precision = tile.precision
    row.symmetric = symmetric
    row.rescale = mass / (mass + drift)
    sums = long_sums(tile, &row)
    if symmetric:
        return js_value(sums.first, sums.second, sums.mass, sums.drift, 1, &again)
    return kl_value(sums.first, sums.mass, sums.drift, 0.5, &again)


cdef void finish(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Batch *sums, bint symmetric, double *out) noexcept nogil:
    """Values of consecutive rows from their sums: vectors first, then the rows that need a look."""
    cdef Py_ssize_t r
    cdef double up = scale_up(<float>0) if tile.precision == SINGLE else scale_up(<double>0)
    cdef double down = 1 / up, threshold, allowed, low, high, mass, total
    cdef int again[MOST_ROWS]
    cdef int some = 0
    if not tile.normalise:
        for r in range(rows):
            out[r] = sums.first[r] - sums.drift[r]
            if symmetric:
                out[r] = 0.5 * (sums.first[r] + sums.second[r])
            out[r] = out[r] * down
        return
    threshold = 0.3 if tile.precision == SINGLE else 0.5
    allowed = 2e-3 if tile.precision == SINGLE else 1e-7
    sum_bounds(tile, &low, &high)
    if symmetric:
        for r in range(rows):
            out[r] = js_value(sums.first[r], sums.second[r], sums.mass[r], sums.drift[r], allowed, &again[r])
    else:
        for r in range(rows):
            out[r] = kl_value(sums.first[r], sums.mass[r], sums.drift[r], threshold, &again[r])
    for r in range(rows):
        mass = sums.mass[r] * down
        total = (sums.mass[r] + sums.drift[r]) * down
        some |= again[r] | (mass < low) | (mass > high) | (total < low) | (total > high)
    if not some:
        return
    for r in range(rows):
        if sums.first[r] == sums.first[r] and sums.drift[r] == sums.drift[r]:   # no NaN in the row
            check_sum(tile, start + r, 0, sums.mass[r] * down)
            check_sum(tile, start + r, 1, (sums.mass[r] + sums.drift[r]) * down)
        if again[r]:
            out[r] = rescaled_value(tile, start + r, sums.mass[r], sums.drift[r], symmetric)


cdef void rows_of(Tile *tile, double *out, bint symmetric, real *terms, const source *unused) noexcept nogil:
    cdef const source *p = <const source *>tile.true_rows
    cdef const source *q = <const source *>tile.pred_rows
    cdef Py_ssize_t classes = tile.classes, start, r, n, at_once
    cdef Batch batch
    cdef Sums sums
    cdef LongRow row
    cdef bint negative
    if classes > CHUNK:
        row.tile = tile
        row.precision = tile.precision
        row.symmetric = symmetric
        row.rescale = 0
        for r in range(tile.rows):
            row.r = r
            row.negative = False
            sums = long_sums(tile, &row)
            batch.first[0] = sums.first
            batch.second[0] = sums.second
            batch.mass[0] = sums.mass
            batch.drift[0] = sums.drift
            finish(tile, r, 1, &batch, symmetric, out + r)
            if row.negative:
                report_negatives(tile, r, 1, 0, unused)
                report_negatives(tile, r, 1, 1, unused)
        return
    at_once = rows_of_chunk(classes)
    start = 0
    while start < tile.rows:
        n = min(at_once, tile.rows - start)
        if symmetric:
            negative = js_terms(p + start * classes, q + start * classes, n * classes, terms)
            row_sums(terms + SECOND, n, classes, batch.second)
        else:
            negative = kl_terms(p + start * classes, q + start * classes, n * classes, terms)
        row_sums(terms + FIRST, n, classes, batch.first)
        row_sums(terms + MASS, n, classes, batch.mass)
        row_sums(terms + DRIFT, n, classes, batch.drift)
        finish(tile, start, n, &batch, symmetric, out + start)
        if negative:
            report_negatives(tile, start, n, 0, unused)
            report_negatives(tile, start, n, 1, unused)
        start += n


cdef void divergence_rows(Tile *tile, double *out, bint symmetric) noexcept nogil:
    if tile.precision == SINGLE:
        rows_of(tile, out, symmetric, <float *>tile.scratch, <const float *>NULL)
    elif tile.precision == DOUBLE:
        rows_of(tile, out, symmetric, <double *>tile.scratch, <const double *>NULL)
    else:
        rows_of(tile, out, symmetric, <double *>tile.scratch, <const float *>NULL)


cdef void kl_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[0], False)


cdef void js_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[0], True)


cdef Table table
table.kernels[0] = kl_rows
table.kernels[1] = js_rows
kernels = capsule_of(&table)
