"""One block of a row of logits: its maximum m and the sums of exp((x − m)/T) over the others.

The maximum is kept out of every sum, so that nothing cancels when one class has almost all of the
mass. Blocks of a long row are merged in order; a short row is one block.
"""

from libc.stdint cimport int32_t, int64_t

from fastent.backends.cython.elementary cimport (
    INFINITY, NAN, c_fma, exp_tail, fe_lane_max_double, fe_lane_max_float, log2_e,
    madd, nearest_shifted, real, shift_of, times_power,
)
from fastent.backends.cython.kernels cimport ROOM
from fastent.backends.cython.sums cimport row_sum

ctypedef fused source:
    float
    double


cdef struct LogitSums:
    double top                      # m; NaN if the block holds one
    double count                    # how many elements equal m
    double rest                     # Σ e^{(x−m)/T} over x < m
    double moment                   # Σ (m−x)·e^{(x−m)/T}
    double square                   # Σ e^{2(x−m)/T} over x < m
    double gap                      # Σ p·(m−x), for a target p
    double mass                     # Σ p


cdef struct Scale:                  # temperature, and T·ln 2 in two parts: n·high is exact
    double temperature
    double inverse
    double high
    double low


cdef inline Scale scale_of(double temperature) noexcept nogil:
    cdef Scale s
    cdef double product = temperature * 0.69314718055994530942
    cdef double lost = c_fma(temperature, 0.69314718055994530942, -product)
    s.temperature = temperature
    s.inverse = 1 / temperature
    # the 32 leading bits, by adding and taking off 2^21 times the number
    s.high = product * 2097153.0 - (product * 2097153.0 - product)
    s.low = (product - s.high) + (lost + temperature * 2.3190468138462995584e-17)
    return s


cdef inline double block_top(const source *x, Py_ssize_t n) noexcept nogil:
    if source is float:
        return fe_lane_max_float(x, n)
    else:
        return fe_lane_max_double(x, n)


cdef inline Py_ssize_t exp_terms_single(const float *x, Py_ssize_t n, Py_ssize_t room, float m, bint moments, float *e) noexcept nogil:
    """e[i] = exp(x[i] − m), 0 where x[i] = m; then (m − x)·e, if wanted, at e + ROOM. Returns how
    many of the n elements equal m; `room` elements are mapped.

    x − m is never rounded: it is exact for |m| >= 256 wherever the result is not 0; below, the
    whole octaves of m are kept apart (numerics: the rounding costs 4e-6 at a gap of 70).
    """
    cdef Py_ssize_t i
    cdef float c = m if (m >= 256 or m <= -256) else 0
    cdef float m1 = m - c
    cdef float nm = shift_of(nearest_shifted(m1 * log2_e(m1)))
    cdef float rho = <float>(<double>m1 - <double>nm * 0.69314718055994530942)
    cdef float t, h, k, r, v, shifted
    cdef int32_t tops = 0
    for i in range(room):
        t = x[i] - c
        h = t - m1
        shifted = madd(h, <float>1.4426950408889634, <float>12582912.0)
        k = shift_of(shifted) + nm
        r = madd(-k, <float>0.693359375, t)
        r = r - madd(k, <float>-2.12194440054690583e-4, rho)
        v = times_power(madd(r * r, exp_tail(r), r) + <float>1, shifted)
        e[i] = v if (h >= <float>-87) & (x[i] < m) else <float>0
        tops += x[i] == m
    if moments:
        for i in range(n):
            h = m - x[i]
            e[ROOM + i] = (h if h < 104 else <float>104) * e[i]
    for i in range(n, room):                            # of the next row, or of nothing
        tops -= x[i] == m
    return tops


cdef inline Py_ssize_t exp_terms_double(const source *x, Py_ssize_t n, Py_ssize_t room, double m, Scale scale, bint moments, double *e) noexcept nogil:
    """The same for doubles, with a temperature: T·ln 2 is what is taken off, since dividing first
    would round the gap."""
    cdef Py_ssize_t i
    cdef double h, b, low, k, r, v, shifted
    cdef double per_octave = 1.4426950408889634074 * scale.inverse
    cdef double lowest = -708 * scale.temperature
    cdef int64_t tops = 0
    for i in range(room):
        h = <double>x[i] - m
        b = h - <double>x[i]
        low = (<double>x[i] - (h - b)) + (-m - b)
        shifted = madd(h, per_octave, <double>6755399441055744.0)
        k = shift_of(shifted)
        r = madd(-k, scale.high, h)
        r = (r - madd(k, scale.low, -low)) * scale.inverse
        v = times_power(madd(r * r, exp_tail(r), r) + 1, shifted)
        e[i] = v if (h >= lowest) & (x[i] < m) else 0
        tops += x[i] == m
    if moments:
        for i in range(n):
            h = (m - <double>x[i]) * scale.inverse
            e[ROOM + i] = (h if h < 746 else 746.0) * e[i]
    for i in range(n, room):
        tops -= x[i] == m
    return tops


cdef inline LogitSums logit_sums(const source *x, Py_ssize_t n, Py_ssize_t room, Scale scale, bint moments,
                                 real *scratch) noexcept nogil:
    """Sums of one block of n <= CHUNK logits, of which `room` may be read and mapped."""
    cdef LogitSums sums
    cdef Py_ssize_t i
    cdef real *e = scratch
    cdef real *moment = scratch + ROOM
    sums.moment = sums.square = sums.gap = sums.mass = 0
    sums.top = block_top(x, n)
    sums.count = sums.rest = 0
    if not (sums.top > -INFINITY):                      # NaN, or nothing but −inf
        sums.count = n
        return sums
    if sums.top == INFINITY:                            # certainty, shared by ties
        for i in range(n):
            sums.count += x[i] == INFINITY
        return sums
    if real is float and source is float:
        sums.count = exp_terms_single(x, n, room, sums.top, moments, e)
    elif real is double:
        sums.count = exp_terms_double(x, n, room, sums.top, scale, moments, e)
    sums.rest = row_sum(e, n)
    if moments:
        sums.moment = row_sum(moment, n)
        for i in range(n):
            moment[i] = e[i] * e[i]
        sums.square = row_sum(moment, n)
    return sums


cdef inline double exp_over(double high, double low, Scale scale) noexcept nogil:
    """exp((high + low)/T), 0 below the normal range."""
    cdef double shifted = madd(high, 1.4426950408889634074 * scale.inverse, <double>6755399441055744.0)
    cdef double k = shift_of(shifted)
    cdef double r = (madd(-k, scale.high, high) - madd(k, scale.low, -low)) * scale.inverse
    cdef double v = times_power(madd(r * r, exp_tail(r), r) + 1, shifted)
    return v if high >= -708 * scale.temperature else 0.0


cdef inline void merge_into(LogitSums *a, LogitSums b, Scale scale) noexcept nogil:
    """a becomes the sums of both blocks."""
    cdef LogitSums other
    cdef double h, back, low, f
    if b.top != b.top or a.top != a.top:
        a.top = NAN
        return
    if b.top > a.top:
        other = a[0]
        a[0] = b
    else:
        other = b
    a.mass += other.mass
    if other.top == a.top:
        a.count += other.count
        a.rest += other.rest
        a.moment += other.moment
        a.square += other.square
        a.gap += other.gap
        return
    h = other.top - a.top                               # in two parts, as in the terms
    back = h - other.top
    low = (other.top - (h - back)) + (-a.top - back)
    if other.mass > 0:
        a.gap += other.gap - h * other.mass
    if h == -INFINITY:
        return
    f = exp_over(h, low, scale)
    a.moment += f * (other.moment - h * scale.inverse * (other.count + other.rest))
    a.rest += f * (other.count + other.rest)
    a.square += f * f * (other.count + other.square)
