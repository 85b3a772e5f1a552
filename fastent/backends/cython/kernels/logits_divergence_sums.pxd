"""Sums of the terms of one row, or of a block of it, without an array of terms in between.

Eight vectors of 16 classes (four of doubles) are mapped at once and their terms added by a tree in
registers; what is left is mapped a vector at a time. The sums go on in 16 lanes of double. Terms that are stored and read
again cost KL of float32 a third of its time.
"""

from fastent.backends.cython.arithmetic.functions cimport magnitude, real
from fastent.backends.cython.kernels.logits_exp cimport Scale
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, DOUBLE_BLOCK
from fastent.backends.cython.kernels.logits_divergence_terms cimport (
    centred, js_term, kl_terms, mass_of, octave_origin, split_centre,
)

cdef extern from "lane_sums.h" nogil:
    void fe_ask(const char *at, Py_ssize_t size, bint near)

cdef enum:
    LANES = 16

cdef enum Sums:                         # what is summed
    PLAIN_KL                            # gap, mass_difference and mass of a: c = 0, octaves in common
    CENTRED_KL
    DISTANCE                            # |mass_difference|, mass_difference and mass of a
    MASSES                              # of a and of b
    JS

cdef struct Constants:                  # of a row
    double octaves_a
    double octaves_b
    double factor                       # of the masses of b
    double centre                       # a logarithm, in two parts
    double centre_low
    double per_a                        # JS: 1/Σ e_a and 1/Σ e_b
    double per_b


cdef inline int sums_of(Sums what) noexcept nogil:
    return 3 if what <= DISTANCE else 2 if what == MASSES else 1


cdef inline void add_class(Sums what, const real *a, const real *b, Constants row, real c, real c_low,
                           Scale scale, real *sums) noexcept nogil:
    """The terms of one class."""
    cdef real x = a[0], y = b[0], v, origin = octave_origin(<real>0), inverse = <real>scale.inverse
    cdef real ea = mass_of(x, origin - <real>row.octaves_a, scale)
    cdef real eb = mass_of(y, origin - <real>row.octaves_b, scale)
    if what != PLAIN_KL:
        eb = eb * <real>row.factor
    if what == MASSES:
        sums[0] = ea
        sums[1] = eb
        return
    v = y - x if what == PLAIN_KL else centred(x, y, c, c_low)
    if real is double:
        v = v * inverse
    if what == JS:
        sums[0] = js_term(ea * <real>row.per_a, eb * <real>row.per_b, v)
    else:
        kl_terms(ea, eb, v, &sums[0], &sums[1])
        if what == DISTANCE:
            sums[0] = magnitude(sums[1])
        sums[2] = ea


cdef inline void add_two(Sums what, const real *a, const real *b, Constants row, real c, real c_low,
                         Scale scale, real *sums) noexcept nogil:
    cdef real more[3]
    cdef int k
    add_class(what, a, b, row, c, c_low, scale, sums)
    add_class(what, a + LANES, b + LANES, row, c, c_low, scale, &more[0])
    for k in range(sums_of(what)):
        sums[k] = sums[k] + more[k]


cdef inline void add_four(Sums what, const real *a, const real *b, Constants row, real c, real c_low,
                          Scale scale, real *sums) noexcept nogil:
    cdef real more[3]
    cdef int k
    add_two(what, a, b, row, c, c_low, scale, sums)
    add_two(what, a + 2 * LANES, b + 2 * LANES, row, c, c_low, scale, &more[0])
    for k in range(sums_of(what)):
        sums[k] = sums[k] + more[k]


cdef inline void add_group(Sums what, const real *a, const real *b, Constants row, real c, real c_low, Scale scale,
                           double *lanes) noexcept nogil:
    """Eight vectors of floats, or four of doubles, which are not widened."""
    cdef real sums[3]
    cdef real more[3]
    cdef int j, k
    for j in range(LANES):
        add_four(what, a + j, b + j, row, c, c_low, scale, &sums[0])
        if real is float:
            add_four(what, a + j + 4 * LANES, b + j + 4 * LANES, row, c, c_low, scale, &more[0])
        for k in range(sums_of(what)):
            lanes[k * LANES + j] += sums[k] + more[k] if real is float else sums[k]


cdef inline void add_one(Sums what, const real *a, const real *b, Constants row, real c, real c_low,
                         Scale scale, real *some) noexcept nogil:
    cdef real sums[3]
    cdef int j, k
    for j in range(LANES):
        add_class(what, a + j, b + j, row, c, c_low, scale, &sums[0])
        for k in range(sums_of(what)):
            some[k * LANES + j] += sums[k]


cdef inline void last_vector(const real *x, Py_ssize_t n, real *out) noexcept nogil:
    """The n % 16 last classes, filled up with some that have no mass in either row."""
    cdef Py_ssize_t i, left = n % LANES
    if n < LANES:
        for i in range(LANES):
            out[i] = <real>-1e30
        for i in range(n):
            out[i] = x[i]
    else:
        for i in range(LANES):
            out[i] = x[n - LANES + i] if i >= LANES - left else <real>-1e30


cdef inline void lanes_of(Sums what, const real *a, const real *b, Py_ssize_t n, Py_ssize_t ahead, Constants row,
                          Scale scale, double *lanes) noexcept nogil:
    cdef Py_ssize_t group = (8 if real is float else 4) * LANES, start = 0, most
    cdef const real *x
    cdef const real *y
    cdef real c, c_low
    cdef int i
    cdef real some[3 * LANES]
    cdef double held[3 * LANES]             # on the stack: stores to `lanes` might change what is read
    cdef real tail_a[LANES]
    cdef real tail_b[LANES]
    split_centre(row.centre, row.centre_low, scale, &c, &c_low)
    for i in range(3 * LANES):
        some[i] = 0
    start = n - n % group
    if what != MASSES:
        fe_ask(<const char *>(a + start + ahead), (n - start) * sizeof(real), True)
        fe_ask(<const char *>(b + start + ahead), (n - start) * sizeof(real), True)
    if n % LANES:
        last_vector(a, n, &tail_a[0])
        last_vector(b, n, &tail_b[0])
    while start < n:
        x = a + start if start + LANES <= n else <const real *>tail_a
        y = b + start if start + LANES <= n else <const real *>tail_b
        add_one(what, x, y, row, c, c_low, scale, &some[0])
        start += LANES
    for i in range(3 * LANES):
        lanes[i] = some[i]
    start = 0
    while start + group <= n:
        for i in range(3 * LANES):
            held[i] = 0
        most = start + (CHUNK if real is float else DOUBLE_BLOCK)
        while start + group <= n and start < most:
            if what != MASSES:
                fe_ask(<const char *>(a + start + ahead), group * sizeof(real), True)
                fe_ask(<const char *>(b + start + ahead), group * sizeof(real), True)
            add_group(what, a + start, b + start, row, c, c_low, scale, &held[0])
            start += group
        for i in range(3 * LANES):
            lanes[i] += held[i]


cdef inline void sum_lanes(Sums what, const real *a, const real *b, Py_ssize_t n, Py_ssize_t ahead, Constants row,
                           Scale scale, double *lanes) noexcept nogil:
    """Three times 16 lanes whose totals are the sums of n classes; those that are not asked for are 0. Asks for
    the classes `ahead` of these, whose maxima are taken next: KL of 1000 classes from memory 1.22 to 0.95 ns a pair.
    (As a member of `row` it made the structure 64 bytes, which are copied while they are still being written.)"""
    if what == MASSES:
        lanes_of(MASSES, a, b, n, ahead, row, scale, lanes)
    elif what == DISTANCE:
        lanes_of(DISTANCE, a, b, n, ahead, row, scale, lanes)
    elif what == JS:
        lanes_of(JS, a, b, n, ahead, row, scale, lanes)
    elif row.centre == 0 and row.centre_low == 0 and row.octaves_a == row.octaves_b:
        lanes_of(PLAIN_KL, a, b, n, ahead, row, scale, lanes)
    else:
        lanes_of(CENTRED_KL, a, b, n, ahead, row, scale, lanes)
