"""KL of rows of a few logits, which lie across the vectors: 32 rows go from their logits to their values
before the next 32 are looked at. (With 16, the steps of one vector wait for each other: 4.2 instead of
2.9 ns a row of 2 classes; a first pass in arrays for all of a tile's rows took 12.)

The first pass sums the masses of both rows, which give the right centre, c = log Σ e_b − log Σ e_a, so
that one pass over the terms is enough and nothing of the value cancels:

    KL = F/A − h(E/A),   F = Σ e_a·φ(v),   E = Σ (e_b·A/B − e_a) ≈ 0

c and A/B come from the same two sums, in double: however those are rounded, the two belong together, and
the identity holds for every centre. What is wrong with E/A, some 1e-7 (1e-16), counts by its square.

Error, in units of u = 2^-24 (2^-53), to first order: 2 in v, and so 5 in φ(v) at most (|v| <= 1.25), 3 in its
polynomial, 2.5 in e_a, 1 in their product, 2 in the sum of four terms, 4.5 in A: 18 if all of them were at
their worst and of one sign; the tests hold 1e-6 and 1e-14, which are 17 and 90.
"""

from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, c_fabs, log_normal, madd, real,
)
from fastent.backends.cython.kernels.logits_divergence_long cimport in_reach, octaves_of, threshold_of
from fastent.backends.cython.kernels.logits_divergence_terms cimport (
    kl_terms, log_ratio, mass_of, octave, octave_origin, split_centre,
)
from fastent.backends.cython.kernels.logits_exp cimport Scale
from fastent.backends.cython.kernels.logits_across cimport FEW_LOGIT_PAIRS, STEP

cdef enum:
    VECTOR = 32                         # rows at once: two vectors of floats, or four of doubles
    MOST_FEW = 64                       # rows that are laid across at once
    PIECE = 512                         # elements of other rows at once: their arrays fit the first cache
    MOST_ROWS = PIECE + 24              # whole pages apart, they would take each other's places in it

cdef struct PairBatch:                  # what is known of consecutive rows
    double[MOST_ROWS] top_a, top_b
    double[MOST_ROWS] octaves_a, octaves_b      # n of either row
    double[MOST_ROWS] centre, centre_low        # c, a logarithm, in two parts
    double[MOST_ROWS] right, right_low          # the right centre, once settled
    double[MOST_ROWS] factor                    # of the masses of b
    double[MOST_ROWS] gap                       # F
    double[MOST_ROWS] mass_difference           # E
    double[MOST_ROWS] mass_a, mass_b            # of b for JS only
    double[MOST_ROWS] value
    int[MOST_ROWS] again                        # a better centre is needed
    int[MOST_ROWS] nonfinite                    # beyond the reach of this arithmetic: to be done alone


cdef inline real class_masses(const real *a, const real *b, real shift_a, real shift_b, Scale scale, real *ea, real *eb,
                              real is_odd, real *e, real *f) noexcept nogil:
    """Masses of a class, kept and handed on; whether it, or one before it, holds a NaN."""
    cdef real x = a[0], y = b[0]
    e[0] = ea[0] = mass_of(x, shift_a, scale)
    f[0] = eb[0] = mass_of(y, shift_b, scale)
    return <real>1 if (x != x) | (y != y) else is_odd


cdef inline void add_masses(const real *a, const real *b, int some, const real *shift_a, const real *shift_b, Scale scale,
                            real *ea, real *eb, double *mass_a, real *mass_b, real *odd) noexcept nogil:
    """Masses of two or four classes of 32 rows."""
    cdef Py_ssize_t r
    cdef real e, f, g, h, total_a, total_b, is_odd
    for r in range(VECTOR):
        is_odd = class_masses(a + r, b + r, shift_a[r], shift_b[r], scale, ea + r, eb + r, odd[r], &total_a, &total_b)
        is_odd = class_masses(a + STEP + r, b + STEP + r, shift_a[r], shift_b[r], scale,
                              ea + VECTOR + r, eb + VECTOR + r, is_odd, &e, &f)
        total_a = total_a + e
        total_b = total_b + f
        if some == 4:
            is_odd = class_masses(a + 2 * STEP + r, b + 2 * STEP + r, shift_a[r], shift_b[r], scale,
                                  ea + 2 * VECTOR + r, eb + 2 * VECTOR + r, is_odd, &e, &f)
            is_odd = class_masses(a + 3 * STEP + r, b + 3 * STEP + r, shift_a[r], shift_b[r], scale,
                                  ea + 3 * VECTOR + r, eb + 3 * VECTOR + r, is_odd, &g, &h)
            total_a = total_a + (e + g)
            total_b = total_b + (f + h)
        mass_a[r] += total_a
        mass_b[r] += total_b
        odd[r] = is_odd


cdef inline real term_of_class(const real *a, const real *b, real ea, real eb, real c, real c_low, real factor, Scale scale,
                               real *difference) noexcept nogil:
    cdef real gap
    kl_terms(ea, eb * factor, log_ratio(False, a[0], b[0], c, c_low, scale), &gap, difference)
    return gap


cdef inline void add_terms(const real *a, const real *b, int some, const real *ea, const real *eb, const real *c,
                           const real *c_low, const real *factor, Scale scale, double *gap, real *difference) noexcept nogil:
    """Terms of two or four classes of 32 rows."""
    cdef Py_ssize_t r
    cdef real high, low, f, total, more, d, d_more
    for r in range(VECTOR):
        high = c[r]
        low = c_low[r]
        f = factor[r]
        total = term_of_class(a + r, b + r, ea[r], eb[r], high, low, f, scale, &d)
        total = total + term_of_class(a + STEP + r, b + STEP + r, ea[VECTOR + r], eb[VECTOR + r], high, low, f, scale, &d_more)
        d = d + d_more
        if some == 4:
            more = term_of_class(a + 2 * STEP + r, b + 2 * STEP + r, ea[2 * VECTOR + r], eb[2 * VECTOR + r], high, low, f, scale, &d_more)
            d = d + d_more
            more = more + term_of_class(a + 3 * STEP + r, b + 3 * STEP + r, ea[3 * VECTOR + r], eb[3 * VECTOR + r], high, low, f, scale, &d_more)
            d = d + d_more
            total = total + more
        gap[r] += total
        difference[r] += d


cdef inline void few_pairs_kl(const real *a, const real *b, Py_ssize_t classes, Scale scale, const real *top_a, const real *top_b,
                              Py_ssize_t at, PairBatch *batch) noexcept nogil:
    """32 rows, `at` and on, that lie across the vectors."""
    cdef real[FEW_LOGIT_PAIRS * VECTOR] ea, eb
    cdef real[VECTOR] shift_a, shift_b, mass_b, odd, high, low, factor, difference
    cdef double[VECTOR] mass_a, gap
    cdef Py_ssize_t r, c
    cdef double x, y, ratio, logarithm, whole, n, share, second_order, threshold = threshold_of(real is float)
    cdef int fits
    for r in range(VECTOR):
        x = <double>top_a[r] * scale.inverse
        y = <double>top_b[r] * scale.inverse
        fits = in_reach(x, y, real is float)
        x = x if fits else 0.0
        y = y if fits else 0.0
        batch.top_a[at + r] = top_a[r]
        batch.top_b[at + r] = top_b[r]
        batch.nonfinite[at + r] = 1 - fits
        x = octaves_of(x)
        y = octaves_of(y)
        batch.octaves_a[at + r] = x
        batch.octaves_b[at + r] = y
        shift_a[r] = octave_origin(<real>0) - <real>x
        shift_b[r] = octave_origin(<real>0) - <real>y
        mass_a[r] = gap[r] = 0
        mass_b[r] = odd[r] = difference[r] = 0
    c = 0
    while c < classes:
        if real is float and classes - c > 2:
            add_masses(a + c * STEP, b + c * STEP, 4, shift_a, shift_b, scale, ea + c * VECTOR, eb + c * VECTOR, mass_a, mass_b, odd)
            c += 4
        else:
            add_masses(a + c * STEP, b + c * STEP, 2, shift_a, shift_b, scale, ea + c * VECTOR, eb + c * VECTOR, mass_a, mass_b, odd)
            c += 2
    for r in range(VECTOR):
        ratio = mass_a[r] / <double>mass_b[r]
        logarithm = log_normal(ratio)
        n = batch.octaves_b[at + r] - batch.octaves_a[at + r]
        if real is float:
            x = n * octave(True) - logarithm
            high[r] = <real>x
            low[r] = <real>(x - <double>high[r])
            batch.centre[at + r] = x
            batch.centre_low[at + r] = 0
        else:
            whole = n * 6.93147180369123816490e-01          # exact
            x = whole - logarithm
            y = ((whole - x) - logarithm) + n * 1.90821492927058770002e-10
            batch.centre[at + r] = x
            batch.centre_low[at + r] = y
            split_centre(x, y, scale, &high[r], &low[r])
        factor[r] = <real>ratio
    c = 0
    while c < classes:
        if real is float and classes - c > 2:
            add_terms(a + c * STEP, b + c * STEP, 4, ea + c * VECTOR, eb + c * VECTOR, high, low, factor, scale, gap, difference)
            c += 4
        else:
            add_terms(a + c * STEP, b + c * STEP, 2, ea + c * VECTOR, eb + c * VECTOR, high, low, factor, scale, gap, difference)
            c += 2
    for r in range(VECTOR):
        x = 1 / mass_a[r]
        share = gap[r] * x
        x = <double>difference[r] * x
        second_order = x * x * madd(x, <double>(-1. / 3), <double>0.5)
        batch.mass_a[at + r] = mass_a[r]
        batch.mass_difference[at + r] = difference[r]
        batch.value[at + r] = share - second_order
        batch.again[at + r] = (second_order > threshold * share) | (c_fabs(x) > 1e-4)
        # NaN, and differences beyond 3.4e38, which overflow in float
        batch.nonfinite[at + r] |= 1 - ((share < INFINITY) & (odd[r] == 0))
