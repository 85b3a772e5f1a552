"""Sums of rows of a few logits, which lie across the vectors: a row alone would leave most of a vector empty."""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastent.backends.cython.arithmetic.functions cimport (
    exp_tail, fe_less_octaves, madd, nearest_shifted, real, shift_of, stored,
)
from fastent.backends.cython.arithmetic.bits cimport both, mask_of
from fastent.backends.cython.kernels.logits_exp cimport (
    RowSums, Scale, exp_in_octaves, far_origin, gap_of, settle_rows, share_of_octave, shift_double,
)
from fastent.backends.cython.kernels.interface cimport Tile
from fastent.backends.cython.kernels.logits_across cimport ACROSS, LANES, STEP, lay_across

cdef extern from *:
    """
    /* A formula that is called is not vectorised, and GCC calls what many loops use. */
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    #define FE_32_REGISTERS (FE_WIDTH == 8)
    """
    const bint FE_32_REGISTERS

cdef enum:
    TOGETHER = 16                       # classes whose terms are added before they are widened

cdef struct LogitsBatch:                # LogitSums of consecutive rows
    double[LANES] top, count, rest, moment, square, gap, mass, rank
    double partition[LANES]             # log1p(s)
    double own[LANES]                   # sparse: the label's logit
    double place[LANES]                 # and its rank, where classes are few


cdef inline Py_ssize_t summed_at_once(Py_ssize_t rows, real unused) noexcept nogil:
    """Rows that are summed at once: the sums of two vectors of floats stay in registers, where there are 32 of
    them; loops over more rows are faster where there are 16, and for doubles, but then a row that is alone
    should not cost what all of them do (1 µs of 10 doubles)."""
    return 32 if FE_32_REGISTERS and real is float else (rows + 15) & ~<Py_ssize_t>15


cdef inline double narrowest() noexcept nogil:
    """2^-86: a smaller s comes near what stands for zeros in floats."""
    return 1.3e-26


cdef inline RowSums columns_of(LogitsBatch *batch, Py_ssize_t at) noexcept nogil:
    return RowSums(&batch.top[at], &batch.count[at], &batch.rest[at], &batch.moment[at], &batch.square[at])


cdef inline real term_of(real x, real m, real origin, real low, real shift, Scale scale, real *below) noexcept nogil:
    """exp((x − origin)/T)/2^octaves for x < m, else 0; `below` is a mask of x < m. (Two choices by the same
    comparison, of the term and of what counts it, GCC makes into one of four paths.)"""
    cdef real t = x - origin
    below[0] = mask_of(x < m, x)
    if real is float:
        # no 0 where it is too small: a row whose sum is as small as that is done again in double
        return both(exp_in_octaves(low if low > t else t, shift, scale), below[0])
    else:
        return both(both(exp_in_octaves(t, shift, scale), mask_of(t >= low, t)), below[0])


cdef inline void add_columns(const real *across, Py_ssize_t rows, int some, const real *top, const real *origin, const real *low, const real *shift,
                             Scale scale, bint moments, real *rest, real *count, real *moment, real *square) noexcept nogil:
    """The terms of two or four classes."""
    cdef Py_ssize_t r
    cdef real m, x, y, e, f, g, h, total, equal, fall, squares, below, below_too
    for r in range(rows):
        m = top[r]
        x = across[r]
        y = across[STEP + r]
        e = term_of(x, m, origin[r], low[r], shift[r], scale, &below)
        f = term_of(y, m, origin[r], low[r], shift[r], scale, &below_too)
        total = e + f
        equal = (count[r] - both(<real>1, below)) - both(<real>1, below_too)
        if moments:
            fall = madd(gap_of(x, m, scale), e, gap_of(y, m, scale) * f)
            squares = madd(e, e, f * f)
        if some == 4:
            x = across[2 * STEP + r]
            y = across[3 * STEP + r]
            g = term_of(x, m, origin[r], low[r], shift[r], scale, &below)
            h = term_of(y, m, origin[r], low[r], shift[r], scale, &below_too)
            total += g + h
            equal = (equal - both(<real>1, below)) - both(<real>1, below_too)
            if moments:
                fall += madd(gap_of(x, m, scale), g, gap_of(y, m, scale) * h)
                squares += madd(g, g, h * h)
        rest[r] += total
        count[r] = equal
        if moments:
            moment[r] += fall
            square[r] += squares


cdef inline void few_row_sums(const real *across, const real *top, Py_ssize_t rows, Py_ssize_t classes, Scale scale, bint moments,
                              LogitsBatch *sums, Py_ssize_t at) noexcept nogil:
    """Sums of some rows."""
    cdef Py_ssize_t r, c = 0, stop
    cdef bint more
    cdef double f
    cdef real[LANES] origin, rest, count, share, low, shift, moment, square
    cdef real v, octaves
    for r in range(rows):
        count[r] = classes + (classes & 1)
        origin[r] = far_origin(top[r], scale)
        if real is float:
            v = top[r] - origin[r]
            octaves = shift_of(nearest_shifted(v * <real>1.4426950408889634))
            low[r] = v - <real>86
            shift[r] = <real>12582912.0 - octaves
            v = fe_less_octaves(v, octaves)
            share[r] = madd(exp_tail(-v), v * v, -v)
        else:
            low[r] = top[r] - origin[r] - 707 * scale.temperature
            shift[r] = shift_double(top[r] - origin[r], scale)
            share[r] = share_of_octave(top[r], False, scale) - 1
    while c < classes:
        stop = min(c + TOGETHER, classes)
        more = c > 0
        for r in range(rows):
            rest[r] = 0
            if moments:
                moment[r] = square[r] = 0
        while c < stop:
            if real is float and stop - c > 2:
                add_columns(across + c * STEP, rows, 4, top, origin, low, shift, scale, moments, rest, count, moment, square)
                c += 4
            else:
                add_columns(across + c * STEP, rows, 2, top, origin, low, shift, scale, moments, rest, count, moment, square)
                c += 2
        for r in range(rows):           # relative to e^(m/T)
            f = share[r]
            sums.rest[at + r] = madd(<double>rest[r], f, <double>rest[r]) + (sums.rest[at + r] if more else 0.0)
            if moments:
                f = 1 + f
                sums.moment[at + r] = moment[r] * f + (sums.moment[at + r] if more else 0.0)
                sums.square[at + r] = square[r] * (f * f) + (sums.square[at + r] if more else 0.0)
    for r in range(rows):
        sums.top[at + r] = top[r]
        sums.count[at + r] = count[r]


cdef inline void own_and_rank(const real *across, Py_ssize_t rows, Py_ssize_t classes, const int64_t *labels, bint ranks,
                              LogitsBatch *sums, Py_ssize_t at) noexcept nogil:
    """The logits of the labels of some rows; if wanted how many classes are above them, or equal and before."""
    cdef Py_ssize_t r, c
    cdef int32_t[LANES] narrow, above
    cdef int64_t wide_above[LANES]
    cdef real own[LANES]
    cdef real x
    for r in range(rows):
        own[r] = 1
        if real is float:
            narrow[r] = <int32_t>labels[r]
    for c in range(classes):
        for r in range(rows):
            x = across[c * STEP + r]
            if real is float:
                own[r] = x if narrow[r] == <int32_t>c else own[r]
            else:
                own[r] = x if labels[r] == c else own[r]
    for r in range(rows):
        sums.own[at + r] = own[r]
    if not ranks:
        return
    for r in range(rows):
        above[r] = 0
        wide_above[r] = 0
    for c in range(classes):
        for r in range(rows):
            x = across[c * STEP + r]
            if real is float:
                above[r] += <int32_t>((x > own[r]) | ((x == own[r]) & (narrow[r] > <int32_t>c)))
            else:
                wide_above[r] += <int64_t>((x > own[r]) | ((x == own[r]) & (labels[r] > c)))
    for r in range(rows):
        sums.place[at + r] = above[r] if real is float else wide_above[r]


cdef inline bint few_class_sums(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Scale scale, bint moments, bint ranks,
                                real *scratch, const stored *unused, LogitsBatch *sums) noexcept nogil:
    """Sums of up to LANES rows, the logits of their labels and if wanted their ranks; whether there may be a row for which
    float arithmetic is too narrow."""
    cdef const stored *x = <const stored *>tile.pred_rows + start * tile.classes
    cdef const stored *p = <const stored *>tile.true_rows
    cdef Py_ssize_t classes = tile.classes, r, c, at = 0, step = summed_at_once(rows, <real>0)
    cdef real *across = scratch
    cdef real *target = scratch + ACROSS
    cdef real[LANES] top, target_top
    cdef int64_t labels[LANES]
    cdef int64_t odd = 0
    cdef real v
    cdef double least = -1
    cdef RowSums columns
    if real is float:
        least = narrowest()
    lay_across(x, rows, classes, (tile.rows - start) * classes, across, top)
    for r in range(rows, (rows + step - 1) // step * step):
        top[r] = 0
    while at < rows:
        if moments:
            few_row_sums(across + at, top + at, step, classes, scale, True, sums, at)
        else:
            few_row_sums(across + at, top + at, step, classes, scale, False, sums, at)
        if tile.labels != NULL and p == NULL:
            if at + step <= rows:
                own_and_rank(across + at, step, classes, tile.labels + start + at, ranks, sums, at)
            else:
                for r in range(step):
                    labels[r] = tile.labels[start + at + r] if at + r < rows else 0
                own_and_rank(across + at, step, classes, <const int64_t *>labels, ranks, sums, at)
        at += step
    for r in range(rows):
        odd |= (sums.count[r] != 1) | (sums.top[r] - sums.top[r] != 0) | (sums.rest[r] < least)
    if odd:
        columns = columns_of(sums, 0)
        settle_rows(x, rows, classes, &columns)
    if p != NULL:
        memset(sums.gap, 0, rows * sizeof(double))
        memset(sums.mass, 0, rows * sizeof(double))
        lay_across(p + start * classes, rows, classes, (tile.rows - start) * classes, target, target_top)
        for c in range(classes):
            for r in range(rows):
                v = target[c * STEP + r]
                sums.mass[r] += v
                sums.gap[r] += v * (top[r] - across[c * STEP + r]) if v != 0 else <real>0
    return odd != 0
