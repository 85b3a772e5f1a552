"""One block of a row of logits: its maximum m and the sums of exp((x − m)/T) over the others.

The maximum is kept out of every sum, so that nothing cancels when one class has almost all of the
mass. Blocks of a long row are merged in order; a short row is one block.
"""

from libc.stdint cimport int64_t

from fastent.backends.cython.arithmetic.functions cimport (
    FE_OCTAVE, INFINITY, NAN, c_fabs, c_fma, exp_tail, fe_less_octaves, madd, nearest_shifted, real, rounding, shift_of,
    stored, times_power,
)

cdef extern from "argmax.h" nogil:
    bint fe_lane_nan(const void *x, Py_ssize_t n)


cdef struct LogitSums:
    double top                      # m; NaN if the block holds one
    double count                    # how many elements equal m
    double rest                     # Σ e^{(x−m)/T} over x < m
    double moment                   # Σ (m−x)·e^{(x−m)/T}
    double square                   # Σ e^{2(x−m)/T} over x < m
    double gap                      # Σ p·(m−x), for a target p
    double mass                     # Σ p
    double rank                     # of the label, if it is wanted


cdef struct RowSums:                # the same of consecutive rows
    double *top
    double *count
    double *rest
    double *moment
    double *square


cdef struct Scale:                  # temperature, and T·ln 2 in two parts: n·high is exact
    double temperature, inverse, high, low


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


cdef inline real far_origin(real m, Scale scale) noexcept nogil:
    """What is taken off x before the octaves: m itself if it is so large that x − m is exact
    wherever exp((x − m)/T) > 0, else nothing: then rounding x − m would cost 4e-6 at a gap of 70."""
    if real is float:
        return m if (m >= 256) | (m <= -256) else <float>0
    else:
        return m if c_fabs(m) >= 1500 * scale.temperature else 0.0


cdef inline double shift_double(double m1, Scale scale) noexcept nogil:
    """1.5·2^52 less the whole octaves of m1 = m − origin."""
    return <double>6755399441055744.0 - shift_of(nearest_shifted(m1 * (1.4426950408889634074 * scale.inverse)))


cdef struct Origin:                     # what the exponents of a row are relative to
    double whole                        # taken off x first
    double top                          # m less that
    double least                        # so far below the top that its exponential does not count
    double shift                        # takes off the octaves of the top


cdef inline Origin origin_of(double m, bint single, Scale scale) noexcept nogil:
    cdef Origin origin
    if single:
        origin.whole = far_origin(<float>m, scale)
        origin.top = m - origin.whole
        origin.least = origin.top - 86
        origin.shift = 12582912.0 - shift_of(nearest_shifted(origin.top * 1.4426950408889634074))
    else:
        origin.whole = far_origin(m, scale)
        origin.top = m - origin.whole
        origin.least = origin.top - 707 * scale.temperature
        origin.shift = shift_double(origin.top, scale)
    return origin


cdef inline real exp_in_octaves(real t, real shift, Scale scale) noexcept nogil:
    """exp(t/T)/2^octaves, where `shift` takes off the octaves of the row."""
    cdef real shifted, r
    if real is float:
        shifted = madd(t, <real>1.4426950408889634, shift)
        r = fe_less_octaves(t, shifted - shift)
    else:
        shifted = madd(t, 1.4426950408889634074 * scale.inverse, shift)
        r = shift - shifted
        r = madd(r, scale.low, madd(r, scale.high, t)) * scale.inverse
    return times_power(madd(exp_tail(r), r * r, r) + <real>1, shifted)


cdef inline double share_of_octave(double m, bint single, Scale scale) noexcept nogil:
    """exp((m − origin)/T) = 2^octaves/share: what turns the terms of a row into exp((x − m)/T)."""
    cdef double m1, octaves, r
    if single:
        m1 = m if c_fabs(m) < 256 else 0.0
        octaves = shift_of(nearest_shifted(m1 * 1.4426950408889634074))
        r = m1 - octaves * FE_OCTAVE
    else:
        m1 = m - far_origin(m, scale)
        octaves = <double>6755399441055744.0 - shift_double(m1, scale)
        r = madd(-octaves, scale.low, madd(-octaves, scale.high, m1)) * scale.inverse
    return madd(r * r, exp_tail(-r), -r) + 1


cdef inline double exp_below_double(double x, double m, Scale scale) noexcept nogil:
    """The same in double, with a temperature; the difference goes in as two parts."""
    cdef double h = x - m
    cdef double v = exp_over(h, rounding(x, m, h), scale)
    return v if x < m else 0.0


cdef inline real gap_of(real x, real m, Scale scale) noexcept nogil:
    """(m − x)/T for the moment, where its exponential is 0 at the latest at 104, or 746."""
    cdef real h = m - x if real is float else (m - x) * <real>scale.inverse
    cdef real most = <real>104 if real is float else <real>746
    return h if h < most else most


cdef inline void settle_rows(const stored *x, Py_ssize_t rows, Py_ssize_t n, RowSums *out) noexcept nogil:
    """Rows whose maximum is not finite, or not alone."""
    cdef Py_ssize_t r, i
    cdef int64_t some = 0
    cdef bint nan, infinite
    cdef double top
    for r in range(rows):
        some |= (out.count[r] != 1) | (out.top[r] == INFINITY) | (out.top[r] == -INFINITY)
    for r in range(rows if some else 0):
        top = out.top[r]
        infinite = top == INFINITY or top == -INFINITY
        nan = (infinite or out.count[r] != 1) and fe_lane_nan(x + r * n, n)
        if not nan and not infinite:
            continue
        out.top[r] = NAN if nan else top
        out.rest[r] = out.moment[r] = out.square[r] = out.count[r] = 0
        for i in range(n):                              # +inf is certainty, shared by ties
            out.count[r] += x[r * n + i] == top


cdef inline void merge_into(LogitSums *a, LogitSums b, Scale scale) noexcept nogil:
    """a becomes the sums of both blocks."""
    cdef LogitSums other
    cdef double h, f
    if b.top != b.top or a.top != a.top:
        a.top = a.gap = NAN                             # and nothing is said about the target's sum
        return
    if b.top > a.top:
        other = a[0]
        a[0] = b
    else:
        other = b
    a.mass += other.mass
    a.rank += other.rank
    if other.top == a.top:
        a.count += other.count
        a.rest += other.rest
        a.moment += other.moment
        a.square += other.square
        a.gap += other.gap
        return
    h = other.top - a.top                               # in two parts, as in the terms
    if other.mass > 0:
        a.gap += other.gap - h * other.mass
    if h == -INFINITY:
        return
    f = exp_over(h, rounding(other.top, a.top, h), scale)
    a.moment += f * (other.moment - h * scale.inverse * (other.count + other.rest))
    a.rest += f * (other.count + other.rest)
    a.square += f * f * (other.count + other.square)


cdef inline LogitSums merged(LogitSums *parts, Py_ssize_t count, Scale scale) noexcept nogil:
    """The sums of all blocks, by a tree: the roundings grow with its depth."""
    cdef Py_ssize_t step = 1, b
    while step < count:
        b = 0
        while b + step < count:
            merge_into(&parts[b], parts[b + step], scale)
            b += 2 * step
        step *= 2
    return parts[0]
