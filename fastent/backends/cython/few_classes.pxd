"""Sums of rows of a few logits, which lie across the vectors: a row alone would leave most of a
vector empty."""

from libc.string cimport memset

from fastent.backends.cython.elementary cimport INFINITY, real
from fastent.backends.cython.exponentials cimport (
    RowSums, Scale, exp_below_single, exp_near_double, far_origin, far_origin_double, gap_double,
    gap_single, settle_rows, share_of_octave, shift_double, shift_single,
)
from fastent.backends.cython.kernels cimport CHUNK, ROOM, Tile

cdef extern from "across.h" nogil:
    void fe_across_float(const float *x, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t readable, float *out, Py_ssize_t stride)
    void fe_across_double(const double *x, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t readable, double *out, Py_ssize_t stride)

ctypedef fused source:
    float
    double

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


cdef inline RowSums columns_of(Batch *batch, Py_ssize_t at) noexcept nogil:
    cdef RowSums columns
    columns.top = &batch.top[at]
    columns.count = &batch.count[at]
    columns.rest = &batch.rest[at]
    columns.moment = &batch.moment[at]
    columns.square = &batch.square[at]
    return columns


cdef inline void lay_across(const source *x, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t readable, real *across) noexcept nogil:
    cdef Py_ssize_t r, c
    if classes == 2:
        for r in range(rows):
            across[r] = x[2 * r]
            across[LANES + r] = x[2 * r + 1]
    elif real is float and source is float:
        fe_across_float(x, rows, classes, readable, across, LANES)
    elif real is double and source is double:
        fe_across_double(x, rows, classes, readable, across, LANES)
    else:
        for c in range(classes):
            for r in range(rows):
                across[c * LANES + r] = x[r * classes + c]


cdef inline real term_of(real x, real m, real origin, real low, real shift, Scale scale) noexcept nogil:
    if real is float:
        return exp_below_single(x, m, origin, low, shift)
    else:
        return exp_near_double(x, m, origin, low, shift, scale)


cdef inline real gap_of(real x, real m, Scale scale) noexcept nogil:
    if real is float:
        return gap_single(x, m)
    else:
        return gap_double(x, m, scale)


cdef inline void add_columns(const real *across, real *row, Py_ssize_t rows, Scale scale, bint moments, Batch *sums) noexcept nogil:
    """The terms of two classes: half the widening to double."""
    cdef Py_ssize_t r
    cdef const real *next = across + LANES
    cdef const real *origin = row + LANES
    cdef const real *low = row + 2 * LANES
    cdef const real *shift = row + 3 * LANES
    cdef real x, y, m, e, f
    for r in range(rows):
        x = across[r]
        y = next[r]
        m = row[r]
        e = term_of(x, m, origin[r], low[r], shift[r], scale)
        f = term_of(y, m, origin[r], low[r], shift[r], scale)
        sums.rest[r] += e + f
        if moments:
            sums.moment[r] += gap_of(x, m, scale) * e + gap_of(y, m, scale) * f
            sums.square[r] += e * e + f * f


cdef inline void few_class_sums(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Scale scale, bint moments,
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
    cdef real *low = origin + LANES
    cdef real *shift = low + LANES
    cdef real *tops = shift + LANES
    cdef real v
    cdef double f
    cdef RowSums columns
    lay_across(x, rows, classes, (tile.rows - start) * classes, across)
    for r in range(rows):
        top[r] = across[r] if across[r] == across[r] else <real>-INFINITY
        tops[r] = classes
        sums.rest[r] = 0
    if moments:
        for r in range(rows):
            sums.moment[r] = sums.square[r] = 0
    for c in range(1, classes):
        for r in range(rows):
            v = across[c * LANES + r]
            top[r] = v if v > top[r] else top[r]
    for r in range(rows):
        sums.top[r] = top[r]
        if real is float:
            origin[r] = far_origin(top[r])
            low[r] = top[r] - origin[r] - 86
            shift[r] = shift_single(top[r] - origin[r])
        else:
            origin[r] = far_origin_double(top[r], scale)
            low[r] = top[r] - origin[r] - 707 * scale.temperature
            shift[r] = shift_double(top[r] - origin[r], scale)
    for c in range(classes):
        for r in range(rows):
            tops[r] -= <real>1 if across[c * LANES + r] < top[r] else <real>0
    if classes & 1:                                     # a class without any mass makes pairs
        for r in range(rows):
            across[classes * LANES + r] = -INFINITY
    for c in range((classes + 1) // 2):
        add_columns(across + 2 * c * LANES, top, rows, scale, moments, sums)
    for r in range(rows):
        sums.count[r] = tops[r]
        f = share_of_octave(sums.top[r], real is float, scale)
        sums.rest[r] *= f
        if moments:
            sums.moment[r] *= f
            sums.square[r] *= f * f
    columns = columns_of(sums, 0)
    settle_rows(x, rows, classes, &columns)
    if p != NULL:
        memset(sums.gap, 0, rows * sizeof(double))
        memset(sums.mass, 0, rows * sizeof(double))
        lay_across(p + start * classes, rows, classes, (tile.rows - start) * classes, target)
        for c in range(classes):
            for r in range(rows):
                v = target[c * LANES + r]
                sums.mass[r] += v
                sums.gap[r] += v * (top[r] - across[c * LANES + r]) if v != 0 else <real>0
