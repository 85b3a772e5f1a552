"""KL and Jensen-Shannon divergence of rows of probabilities.

Both are sums of x·log(x/y) − x + y, which is never negative and never cancels (elementary.pxd).
With G = Σ (p log(p/q) − p + q), S = Σ p, D = Σ (q − p) and h(v) = v − log1p(v):

    KL(p/Σp ‖ q/Σq) = G/S − h(D/S)        exactly, zeros included.

The subtraction is harmless unless the rows are nearly proportional with different sums; such a row
is done again with q rescaled by c = Σp/Σq, where q·c − p takes a single rounding.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from fastent.backends.cython.elementary cimport (
    INFINITY, NAN, NEAR, c_fma, excess, far_gap, fe_bits_double, fe_bits_float, fe_from_bits_double,
    fe_from_bits_float, gap_divergence, lifted, near_excess, near_gap, positive_gap, real, scale_up,
    speck, without_octaves,
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
    double first                        # Σ gap(p, q), or Σ gap(2p, p + q) for JS
    double second                       # JS: Σ gap(2q, p + q)
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


cdef void without_mass(const source *p, const source *q, Py_ssize_t n, real *terms) noexcept nogil:
    """KL is infinite where q has no mass: a loop of its own, since few chunks need it."""
    cdef Py_ssize_t i
    for i in range(n):
        terms[FIRST + i] = <real>INFINITY if (q[i] == 0) & (p[i] > 0) else terms[FIRST + i]


cdef bint kl_terms(const source *p, const source *q, Py_ssize_t n, real *terms) noexcept nogil:
    """Terms of KL for n elements; whether a number is negative."""
    cdef Py_ssize_t i
    cdef real x, y
    cdef int32_t bits32, least32 = 0x7fffffff, signs32 = 0
    cdef int64_t bits64, least64 = 0x7fffffffffffffff, signs64 = 0
    for i in range(n):
        x = lifted(<real>p[i])
        y = lifted(<real>q[i])
        terms[FIRST + i] = positive_gap(x, y)
        terms[MASS + i] = x
        terms[DRIFT + i] = y - x
        if real is float:
            bits32 = <int32_t>fe_bits_float(y)
            least32 = min(least32, bits32)
            signs32 |= <int32_t>fe_bits_float(x)
        else:
            bits64 = <int64_t>fe_bits_double(y)
            least64 = min(least64, bits64)
            signs64 |= <int64_t>fe_bits_double(x)
    if real is float:
        if least32 <= <int32_t>fe_bits_float(speck(<float>0)):
            without_mass(p, q, n, terms)
        return (least32 | signs32) < 0
    else:
        if least64 <= <int64_t>fe_bits_double(speck(<double>0)):
            without_mass(p, q, n, terms)
        return (least64 | signs64) < 0


cdef inline real least(real x, real y) noexcept nogil:
    """The lesser of two positive numbers, by their bits: an instruction, where a comparison and a
    choice are two."""
    if real is float:
        return fe_from_bits_float(min(<int32_t>fe_bits_float(x), <int32_t>fe_bits_float(y)))
    else:
        return fe_from_bits_double(min(<int64_t>fe_bits_double(x), <int64_t>fe_bits_double(y)))


cdef inline real most(real x, real y) noexcept nogil:
    if real is float:
        return fe_from_bits_float(max(<int32_t>fe_bits_float(x), <int32_t>fe_bits_float(y)))
    else:
        return fe_from_bits_double(max(<int64_t>fe_bits_double(x), <int64_t>fe_bits_double(y)))


cdef bint js_terms(const source *p, const source *q, Py_ssize_t n, real *terms) noexcept nogil:
    """Terms of JS: twice both rows against their sum m, whose rounding does not matter because the
    differences m − 2p = q − p and m − 2q are handed on. The greater of p and q is within a factor 2
    of the mean, so that only the lesser one has octaves."""
    cdef Py_ssize_t i
    cdef real x, y, low, high, m, near, octaves, of_low, of_high
    cdef int32_t signs32 = 0
    cdef int64_t signs64 = 0
    for i in range(n):
        x = lifted(<real>p[i])
        y = lifted(<real>q[i])
        low = least(x, y)
        high = most(x, y)
        m = x + y
        near = without_octaves(m, low + low, True, &octaves)
        of_low = near_gap(
            low + low, near, high - low if octaves == 0 else near - (low + low),
            far_gap(low + low, m, near, octaves))
        of_high = near_gap(high + high, m, low - high, <real>0)
        terms[FIRST + i] = of_high if x > y else of_low
        terms[SECOND + i] = of_low if x > y else of_high
        terms[MASS + i] = x
        terms[DRIFT + i] = y - x
        if real is float:
            signs32 |= <int32_t>(fe_bits_float(x) | fe_bits_float(y))
        else:
            signs64 |= <int64_t>(fe_bits_double(x) | fe_bits_double(y))
    if real is float:
        return signs32 < 0
    else:
        return signs64 < 0


cdef void rescaled_terms(const source *p, const source *q, Py_ssize_t n, double c, bint symmetric, double *terms) noexcept nogil:
    """The same terms against c·q; the difference is rounded once."""
    cdef Py_ssize_t i
    cdef double x, y, d, up = scale_up(<double>0)
    for i in range(n):
        x = <double>p[i] * up
        y = <double>q[i] * up
        d = c_fma(y, c, -x)
        y = y * c
        terms[MASS + i] = x
        terms[DRIFT + i] = d
        if symmetric:
            terms[FIRST + i] = gap_divergence(x + x, x + y, d)
            terms[SECOND + i] = gap_divergence(y + y, x + y, -d)
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


cdef inline double bend_of(double v, bint wide) noexcept nogil:
    """h(v); where sums deviate by more than they do if they are checked, only if `wide`, a constant."""
    cdef double near = v * v * near_excess(v)
    if wide:
        return near if v * v <= NEAR * NEAR else excess(v)
    return near


cdef inline double difference(double gap, double bend) noexcept nogil:
    """gap − bend, or 0 where nothing is left but rounding errors: rows that are proportional."""
    cdef double value = gap - bend
    return 0.0 if value < 4e-15 * gap else value


cdef inline double kl_value(double first, double mass, double drift, double threshold, bint wide, int64_t *again) noexcept nogil:
    """`again`: whether the row needs a second pass, or `wide` first."""
    cdef double each = 1 / mass
    cdef double v = drift * each
    cdef double gap = first * each, bend = bend_of(v, wide)
    again[0] = <int64_t>((bend > threshold * gap) & (gap < INFINITY))
    if not wide:
        again[0] |= <int64_t>(v * v > NEAR * NEAR)
    return difference(gap, bend)


cdef inline double js_value(double first, double second, double mass, double drift, double allowed, int64_t *again) noexcept nogil:
    """½[KL(P ‖ R) + KL(Q ‖ R)] with R = m/Σm, which exceeds JS by a term of second order in the
    relative difference ε of the two sums: 0.215·ε²·JS, right to 0.035·ε²."""
    cdef double each = 1 / mass, other = 1 / (mass + drift)
    cdef double v = drift * each, u = drift * other
    cdef double gap = 0.5 * (first * each + second * other)
    cdef double bend = bend_of(0.5 * v, False) + bend_of(-0.5 * u, False)
    cdef double squared = v * u                     # ε², to ε² of itself
    again[0] = <int64_t>((squared > allowed * allowed) | (bend > 0.5 * gap))
    return 0.5 * difference(gap, bend) * (1 - 0.215 * squared)


cdef double rescaled_value(Tile *tile, Py_ssize_t r, double mass, double drift, bint symmetric) noexcept nogil:
    """The second pass of one row, against q·Σp/Σq."""
    cdef LongRow row
    cdef Sums sums
    cdef int64_t again
    row.tile = tile
    row.r = r
    row.precision = tile.precision
    row.symmetric = symmetric
    row.rescale = mass / (mass + drift)
    sums = long_sums(tile, &row)
    if symmetric:
        return js_value(sums.first, sums.second, sums.mass, sums.drift, 1, &again)
    return kl_value(sums.first, sums.mass, sums.drift, 0.5, False, &again)


cdef inline double sum_of(double sum, double down) noexcept nogil:
    """A row sum, without what stands for zeros."""
    sum *= down
    return sum if sum >= 1.4e-45 or down < 1e-100 else 0.0


cdef void finish(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Batch *sums, bint symmetric, double *out) noexcept nogil:
    """Values of consecutive rows from their sums: vectors first, then the rows that need a look."""
    cdef Py_ssize_t r
    cdef double up = scale_up(<float>0) if tile.precision == SINGLE else scale_up(<double>0)
    cdef double down = 1 / up, threshold, allowed, low, high, total
    cdef int64_t again[MOST_ROWS]
    cdef int64_t doubt, some = 0
    if not tile.normalise:
        for r in range(rows):
            out[r] = sums.first[r] - sums.drift[r]
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
            out[r] = js_value(sums.first[r], sums.second[r], sums.mass[r], sums.drift[r], allowed, &doubt)
            some |= doubt
    else:
        for r in range(rows):
            out[r] = kl_value(sums.first[r], sums.mass[r], sums.drift[r], threshold, False, &doubt)
            some |= doubt
    for r in range(rows):
        total = sums.mass[r] + sums.drift[r]
        some |= <int64_t>((sums.mass[r] < low) | (sums.mass[r] > high) | (total < low) | (total > high))
    if some == 0:
        return
    for r in range(rows):
        if symmetric:
            js_value(sums.first[r], sums.second[r], sums.mass[r], sums.drift[r], allowed, &again[r])
        else:
            out[r] = kl_value(sums.first[r], sums.mass[r], sums.drift[r], threshold, True, &again[r])
    for r in range(rows):
        if sums.first[r] == sums.first[r] and sums.drift[r] == sums.drift[r]:   # no NaN in the row
            check_sum(tile, start + r, 0, sum_of(sums.mass[r], down))
            check_sum(tile, start + r, 1, sum_of(sums.mass[r] + sums.drift[r], down))
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
    at_once = rows_of_chunk(classes, sizeof(real))
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
