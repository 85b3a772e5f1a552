"""Sums of rows of a few logits, which lie across the vectors: a row alone would leave most of a
vector empty."""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, exp_tail, fe_less_octaves, largest, madd, nearest_shifted, real, shift_of, stored,
)
from fastent.backends.cython.kernels.logits_exp cimport (
    RowSums, Scale, exp_in_octaves, far_origin, far_origin_double, gap_double, gap_single,
    settle_rows, share_of_octave, shift_double,
)
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM
from fastent.backends.cython.kernels.interface cimport Tile

cdef extern from "transpose.h" nogil:
    void fe_lay_across_float(const float *x, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t readable, float *out, Py_ssize_t step, float *top)
    void fe_lay_across_double(const double *x, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t readable, double *out, Py_ssize_t step, double *top)

cdef extern from *:
    """
    /* A formula that is called is not vectorised, and GCC calls what many loops use. */
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    """

cdef enum:
    FEW_LOGITS = 16                            # classes up to which rows lie across the vectors
    LANES = CHUNK // FEW_LOGITS                # rows at once

# what is kept of a row while its classes are added, a vector of rows at a time
cdef enum:
    TOP
    ORIGIN
    LOW
    SHIFT
    REST
    COUNT
    MOMENT
    SQUARE
    OWN
    SHARE
    RANKS

cdef struct LogitsBatch:                      # LogitSums of consecutive rows
    double top[LANES]
    double count[LANES]
    double rest[LANES]
    double moment[LANES]
    double square[LANES]
    double gap[LANES]
    double mass[LANES]
    double rank[LANES]
    double partition[LANES]             # log1p(s)
    double own[LANES]                   # sparse: the label's logit
    double place[LANES]                 # and its rank, where classes are few


cdef inline RowSums columns_of(LogitsBatch *batch, Py_ssize_t at) noexcept nogil:
    cdef RowSums columns
    columns.top = &batch.top[at]
    columns.count = &batch.count[at]
    columns.rest = &batch.rest[at]
    columns.moment = &batch.moment[at]
    columns.square = &batch.square[at]
    return columns


cdef inline void lay_across(const stored *x, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t readable, real *across, real *top) noexcept nogil:
    """Columns of the rows and their maxima (-inf for NaN). An odd number of classes gets one without any mass."""
    cdef Py_ssize_t r, c
    if classes == 2:
        for r in range(rows):
            across[r] = x[2 * r]
            across[LANES + r] = x[2 * r + 1]
            top[r] = largest(across[LANES + r], across[r] if across[r] == across[r] else <real>-INFINITY)
    elif real is float and stored is float:
        fe_lay_across_float(x, rows, classes, readable, across, LANES, top)
    elif real is double and stored is double:
        fe_lay_across_double(x, rows, classes, readable, across, LANES, top)
    else:
        for r in range(rows):
            top[r] = -INFINITY
        if classes & 1:
            for r in range(rows):
                across[classes * LANES + r] = -INFINITY
        for c in range(classes):
            for r in range(rows):
                across[c * LANES + r] = x[r * classes + c]
                top[r] = largest(across[c * LANES + r], top[r])


cdef inline real term_of(real x, real m, real origin, real low, real shift, Scale scale) noexcept nogil:
    """exp((x − origin)/T)/2^octaves for x < m, else 0."""
    cdef real t = x - origin, e
    if real is float:
        # no 0 where it is too small: a row whose sum is as small as that is done again in double
        e = exp_in_octaves(low if low > t else t, shift, scale)
        return e if x < m else <real>0
    else:
        e = exp_in_octaves(t, shift, scale)
        return e if (t >= low) & (x < m) else <real>0


cdef inline real gap_of(real x, real m, Scale scale) noexcept nogil:
    if real is float:
        return gap_single(x, m)
    else:
        return gap_double(x, m, scale)


cdef inline void own_columns(const real *across, int some, Py_ssize_t first, const int32_t *narrow, const int64_t *wide,
                             real *own, Py_ssize_t rows) noexcept nogil:
    """The logit of the label, where it is one of two or four classes."""
    cdef Py_ssize_t r
    cdef int32_t c = <int32_t>first
    cdef real v
    for r in range(rows):
        v = own[r]
        if real is float:
            v = across[r] if narrow[r] == c else v
            v = across[LANES + r] if narrow[r] == c + 1 else v
            if some == 4:
                v = across[2 * LANES + r] if narrow[r] == c + 2 else v
                v = across[3 * LANES + r] if narrow[r] == c + 3 else v
        else:
            v = across[r] if wide[r] == first else v
            v = across[LANES + r] if wide[r] == first + 1 else v
        own[r] = v


cdef inline void rank_columns(const real *across, Py_ssize_t first, const int32_t *narrow, const int64_t *wide,
                              const real *own, real *rank, Py_ssize_t rows) noexcept nogil:
    """Classes above the label, and equal ones before it, out of two."""
    cdef Py_ssize_t r
    cdef int32_t c = <int32_t>first
    cdef real x, y, above
    for r in range(rows):
        x = across[r]
        y = across[LANES + r]
        above = rank[r] + (<real>1 if x > own[r] else <real>0) + (<real>1 if y > own[r] else <real>0)
        if real is float:
            above = above + (<real>1 if (x == own[r]) & (narrow[r] > c) else <real>0)
            above = above + (<real>1 if (y == own[r]) & (narrow[r] > c + 1) else <real>0)
        else:
            above = above + (<real>1 if (x == own[r]) & (wide[r] > first) else <real>0)
            above = above + (<real>1 if (y == own[r]) & (wide[r] > first + 1) else <real>0)
        rank[r] = above


cdef inline void add_columns(const real *across, int some, real *row, Py_ssize_t rows, Scale scale, bint moments) noexcept nogil:
    """The terms of two or four classes."""
    cdef Py_ssize_t r
    cdef const real *top = row + TOP * LANES
    cdef const real *origin = row + ORIGIN * LANES
    cdef const real *low = row + LOW * LANES
    cdef const real *shift = row + SHIFT * LANES
    cdef real *rest = row + REST * LANES
    cdef real *count = row + COUNT * LANES
    cdef real *moment = row + MOMENT * LANES
    cdef real *square = row + SQUARE * LANES
    cdef real m, x, y, e, f, g, h, total, equal, fall, twofold
    for r in range(rows):
        m = top[r]
        x = across[r]
        y = across[LANES + r]
        e = term_of(x, m, origin[r], low[r], shift[r], scale)
        f = term_of(y, m, origin[r], low[r], shift[r], scale)
        total = e + f
        if real is float:                               # doubles: in a loop of their own
            equal = count[r] - (<real>1 if x < m else <real>0) - (<real>1 if y < m else <real>0)
        if moments:
            fall = madd(gap_of(x, m, scale), e, gap_of(y, m, scale) * f)
            twofold = madd(e, e, f * f)
        if some == 4:
            x = across[2 * LANES + r]
            y = across[3 * LANES + r]
            g = term_of(x, m, origin[r], low[r], shift[r], scale)
            h = term_of(y, m, origin[r], low[r], shift[r], scale)
            total += g + h
            equal = equal - (<real>1 if x < m else <real>0) - (<real>1 if y < m else <real>0)
            if moments:
                fall += madd(gap_of(x, m, scale), g, gap_of(y, m, scale) * h)
                twofold += madd(g, g, h * h)
        rest[r] += total
        if real is float:
            count[r] = equal
        if moments:
            moment[r] += fall
            square[r] += twofold


cdef inline void count_columns(const real *across, const real *top, real *count, Py_ssize_t rows) noexcept nogil:
    """Take off the classes below the maximum, out of two. Beside the terms of doubles it costs a
    fifth of them at AVX2, where GCC makes five selections of the two."""
    cdef Py_ssize_t r
    for r in range(rows):
        count[r] = count[r] - (<real>1 if across[r] < top[r] else <real>0) - (<real>1 if across[LANES + r] < top[r] else <real>0)


cdef inline void add_classes(const real *across, Py_ssize_t classes, real *row, Py_ssize_t rows, Scale scale, bint moments) noexcept nogil:
    cdef Py_ssize_t c = 0
    while c < classes:
        if real is float and classes - c > 2:
            add_columns(across + c * LANES, 4, row, rows, scale, moments)
            c += 4
        else:
            add_columns(across + c * LANES, 2, row, rows, scale, moments)
            if real is double:
                count_columns(across + c * LANES, row + TOP * LANES, row + COUNT * LANES, rows)
            c += 2


cdef inline bint few_class_sums(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Scale scale, bint moments, bint ranks,
                                real *scratch, const stored *unused, LogitsBatch *sums) noexcept nogil:
    """Sums of up to LANES rows, the logits of their labels and if wanted their ranks; whether there may be a row for which
    float arithmetic is too narrow."""
    cdef const stored *x = <const stored *>tile.pred_rows + start * tile.classes
    cdef const stored *p = <const stored *>tile.true_rows
    cdef Py_ssize_t classes = tile.classes, r, c, padded = (rows + 15) & ~<Py_ssize_t>15
    cdef Py_ssize_t without_mass = classes & 1
    cdef real *across = scratch
    cdef real *target = scratch + ROOM
    cdef real *row = scratch + 2 * ROOM
    cdef real *top = row + TOP * LANES
    cdef real *origin = row + ORIGIN * LANES
    cdef real *low = row + LOW * LANES
    cdef real *shift = row + SHIFT * LANES
    cdef real *rest = row + REST * LANES
    cdef real *count = row + COUNT * LANES
    cdef real *moment = row + MOMENT * LANES
    cdef real *square = row + SQUARE * LANES
    cdef real *own = row + OWN * LANES
    cdef real *share = row + SHARE * LANES
    cdef real *rank = row + RANKS * LANES
    cdef int32_t narrow[LANES]
    cdef int64_t wide[LANES]
    cdef const int64_t *labels
    cdef int32_t odd32 = 0
    cdef int64_t odd64 = 0
    cdef real v, octaves
    cdef double f
    cdef RowSums columns
    lay_across(x, rows, classes, (tile.rows - start) * classes, across, top)
    for r in range(padded):
        rest[r] = 0
        count[r] = classes + without_mass
        if real is float:
            origin[r] = far_origin(top[r])
            v = top[r] - origin[r]
            octaves = shift_of(nearest_shifted(v * <real>1.4426950408889634))
            low[r] = v - <real>86
            shift[r] = <real>12582912.0 - octaves
            v = fe_less_octaves(v, octaves)
            share[r] = madd(exp_tail(-v), v * v, -v)
        else:
            origin[r] = far_origin_double(top[r], scale)
            low[r] = top[r] - origin[r] - 707 * scale.temperature
            shift[r] = shift_double(top[r] - origin[r], scale)
            share[r] = share_of_octave(top[r], False, scale) - 1
    if moments:
        for r in range(padded):
            moment[r] = square[r] = 0
    if moments:
        add_classes(across, classes, row, padded, scale, True)
    else:
        add_classes(across, classes, row, padded, scale, False)
    if tile.labels != NULL and p == NULL:
        labels = tile.labels + start
        for r in range(rows):
            if real is float:
                narrow[r] = <int32_t>labels[r]
            else:
                wide[r] = labels[r]
        for r in range(padded):
            own[r] = 1
        c = 0
        while c < classes:
            if real is float and classes - c > 2:
                own_columns(across + c * LANES, 4, c, narrow, wide, own, padded)
                c += 4
            else:
                own_columns(across + c * LANES, 2, c, narrow, wide, own, padded)
                c += 2
        for r in range(rows):
            sums.own[r] = own[r]
        if ranks:
            for r in range(padded):
                rank[r] = 0
            for c in range(0, classes, 2):
                rank_columns(across + c * LANES, c, narrow, wide, own, rank, padded)
            for r in range(rows):
                sums.place[r] = rank[r]
    for r in range(rows):
        if real is float:
            odd32 |= (count[r] != 1) | (top[r] - top[r] != 0) | (rest[r] < <real>2e-27)
        else:
            odd64 |= <int64_t>((count[r] != 1) | (top[r] - top[r] != 0))
    for r in range(rows):
        sums.top[r] = top[r]
        sums.count[r] = count[r]
        f = share[r]
        sums.rest[r] = madd(<double>rest[r], f, <double>rest[r])
    if moments:
        for r in range(rows):
            f = 1 + <double>share[r]
            sums.moment[r] = moment[r] * f
            sums.square[r] = square[r] * (f * f)
    if odd32 | odd64:
        columns = columns_of(sums, 0)
        settle_rows(x, rows, classes, &columns)
    if p != NULL:
        memset(sums.gap, 0, rows * sizeof(double))
        memset(sums.mass, 0, rows * sizeof(double))
        lay_across(p + start * classes, rows, classes, (tile.rows - start) * classes, target, low)
        for c in range(classes):
            for r in range(rows):
                v = target[c * LANES + r]
                sums.mass[r] += v
                sums.gap[r] += v * (top[r] - across[c * LANES + r]) if v != 0 else <real>0
    return (odd32 | odd64) != 0
