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


cdef inline double exp_over(double high, double low, Scale scale) noexcept nogil:
    """exp((high + low)/T), 0 below the normal range."""
    cdef double shifted = madd(high, 1.4426950408889634074 * scale.inverse, <double>6755399441055744.0)
    cdef double k = shift_of(shifted)
    cdef double r = (madd(-k, scale.high, high) - madd(k, scale.low, -low)) * scale.inverse
    cdef double v = times_power(madd(r * r, exp_tail(r), r) + 1, shifted)
    return v if high >= -708 * scale.temperature else 0.0


cdef inline double block_top(const source *x, Py_ssize_t n) noexcept nogil:
    if source is float:
        return fe_lane_max_float(x, n)
    else:
        return fe_lane_max_double(x, n)


cdef inline float far_origin(float m) noexcept nogil:
    """What is taken off x before the octaves: m itself if it is so large that x − m is exact
    wherever exp(x − m) > 0, else nothing."""
    return m if (m >= 256) | (m <= -256) else <float>0


cdef inline float whole_octaves(float m1) noexcept nogil:
    return shift_of(nearest_shifted(m1 * <float>1.4426950408889634))


cdef inline float exp_below_single(float x, float m, float c, float m1, float octaves, float rho) noexcept nogil:
    """exp(x − m) for x < m, else 0; m = c + m1 and m1 = octaves·ln 2 + rho.

    x − m is never rounded: rounding it costs 4e-6 of the result at a gap of 70.
    """
    cdef float t = x - c
    cdef float h = t - m1
    cdef float shifted = madd(h, <float>1.4426950408889634, <float>12582912.0)
    cdef float k = shift_of(shifted) + octaves
    cdef float r = madd(-k, <float>0.693359375, t)
    r = r - madd(k, <float>-2.12194440054690583e-4, rho)
    cdef float v = times_power(madd(r * r, exp_tail(r), r) + <float>1, shifted)
    return v if (h >= <float>-87) & (x < m) else <float>0


cdef inline double exp_below_double(double x, double m, Scale scale) noexcept nogil:
    """The same in double, with a temperature; the difference goes in as two parts."""
    cdef double h = x - m
    cdef double back = h - x
    cdef double low = (x - (h - back)) + (-m - back)
    cdef double v = exp_over(h, low, scale)
    return v if x < m else 0.0


cdef inline float gap_single(float x, float m) noexcept nogil:
    """m − x for the moment, where its exponential is 0 at the latest at 104."""
    cdef float h = m - x
    return h if h < 104 else <float>104


cdef inline double gap_double(double x, double m, Scale scale) noexcept nogil:
    cdef double h = (m - x) * scale.inverse
    return h if h < 746 else 746.0


cdef inline Py_ssize_t exp_terms_single(const float *x, Py_ssize_t n, Py_ssize_t room, float m, bint moments, float *e) noexcept nogil:
    """e[i] = exp(x[i] − m), 0 where x[i] = m; then (m − x)·e, if wanted, at e + ROOM. Returns how
    many of the n elements equal m; `room` elements are mapped."""
    cdef Py_ssize_t i
    cdef float c = far_origin(m)
    cdef float m1 = m - c
    cdef float octaves = whole_octaves(m1)
    cdef float rho = <float>(<double>m1 - <double>octaves * 0.69314718055994530942)
    cdef int32_t tops = 0
    for i in range(room):
        e[i] = exp_below_single(x[i], m, c, m1, octaves, rho)
        tops += x[i] == m
    if moments:
        for i in range(n):
            e[ROOM + i] = gap_single(x[i], m) * e[i]
    for i in range(n, room):                            # of the next row, or of nothing
        tops -= x[i] == m
    return tops


cdef inline Py_ssize_t exp_terms_double(const source *x, Py_ssize_t n, Py_ssize_t room, double m, Scale scale, bint moments, double *e) noexcept nogil:
    """The same in double."""
    cdef Py_ssize_t i
    cdef int64_t tops = 0
    for i in range(room):
        e[i] = exp_below_double(x[i], m, scale)
        tops += x[i] == m
    if moments:
        for i in range(n):
            e[ROOM + i] = gap_double(x[i], m, scale) * e[i]
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
