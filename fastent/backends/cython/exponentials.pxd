"""One block of a row of logits: its maximum m and the sums of exp((x − m)/T) over the others.

The maximum is kept out of every sum, so that nothing cancels when one class has almost all of the
mass. Blocks of a long row are merged in order; a short row is one block.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from fastent.backends.cython.elementary cimport (
    INFINITY, NAN, c_fabs, c_fma, exp_tail, fe_lane_max_double, fe_lane_max_float, madd,
    nearest_shifted, real, shift_of, times_power,
)
from fastent.backends.cython.kernels cimport ROOM
from fastent.backends.cython.sums cimport row_sum

cdef extern from "tops.h" nogil:
    float fe_lane_top_float(const float *x, Py_ssize_t n)
    double fe_lane_top_double(const double *x, Py_ssize_t n)
    bint fe_lane_nan_float(const float *x, Py_ssize_t n)
    bint fe_lane_nan_double(const double *x, Py_ssize_t n)
    int fe_below_float(const float *x, int start, float m)
    int fe_below_double(const double *x, int start, double m)

cdef extern from "moments.h" nogil:
    void fe_lane_moments(const float *x, const float *e, Py_ssize_t n, float m, double *moment, double *square)

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


cdef struct RowSums:                # the same of consecutive rows
    double *top
    double *count
    double *rest
    double *moment
    double *square


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
    wherever exp(x − m) > 0, else nothing: then rounding x − m would cost 4e-6 at a gap of 70."""
    return m if (m >= 256) | (m <= -256) else <float>0


cdef inline double far_origin_double(double m, Scale scale) noexcept nogil:
    return m if c_fabs(m) >= 1500 * scale.temperature else 0.0


cdef inline float shift_single(float m1) noexcept nogil:
    """1.5·2^23 less the whole octaves of m1 = m − origin."""
    return <float>(12582912.0 - shift_of(nearest_shifted(m1 * 1.4426950408889634074)))


cdef inline double shift_double(double m1, Scale scale) noexcept nogil:
    return <double>6755399441055744.0 - shift_of(nearest_shifted(m1 * (1.4426950408889634074 * scale.inverse)))


cdef inline float exp_below_single(float x, float m, float origin, float low, float shift) noexcept nogil:
    """exp(x − origin)/2^octaves for x < m, else 0: exp(x − m) over what `share_of_octave` gives for
    the row, so that neither x − m nor its rounding is needed. low = m − origin − 86."""
    cdef float t = x - origin
    cdef float shifted = madd(t, <float>1.4426950408889634, shift)
    cdef float k = shifted - shift
    cdef float r = madd(-k, <float>-2.12194440054690583e-4, madd(-k, <float>0.693359375, t))
    cdef float v = times_power(madd(madd(exp_tail(r), r, <float>1), r, <float>1), shifted)
    return v if (t >= low) & (x < m) else <float>0


cdef inline double exp_near_double(double x, double m, double origin, double low, double shift, Scale scale) noexcept nogil:
    """The same in double, with a temperature; low = m − origin − 707·T."""
    cdef double t = x - origin
    cdef double shifted = madd(t, 1.4426950408889634074 * scale.inverse, shift)
    cdef double k = shifted - shift
    cdef double r = madd(-k, scale.low, madd(-k, scale.high, t)) * scale.inverse
    cdef double v = times_power(madd(r * r, exp_tail(r), r) + 1, shifted)
    return v if (t >= low) & (x < m) else 0.0


cdef inline double share_of_octave(double m, bint single, Scale scale) noexcept nogil:
    """exp((m − origin)/T) = 2^octaves/share: what turns the terms of a row into exp((x − m)/T)."""
    cdef double m1, octaves, r
    if single:
        m1 = m if c_fabs(m) < 256 else 0.0
        octaves = shift_of(nearest_shifted(m1 * 1.4426950408889634074))
        r = m1 - octaves * 0.69314718055994530942
    else:
        m1 = m - far_origin_double(m, scale)
        octaves = <double>6755399441055744.0 - shift_double(m1, scale)
        r = madd(-octaves, scale.low, madd(-octaves, scale.high, m1)) * scale.inverse
    return madd(r * r, exp_tail(-r), -r) + 1


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


cdef inline Py_ssize_t map_vectors(const source *x, Py_ssize_t vectors, double top, Scale scale, real *e) noexcept nogil:
    """The terms of 16 elements a vector; returns how many are below the top."""
    cdef Py_ssize_t i
    cdef float m = <float>top, origin = far_origin(m), m1 = m - origin, low = m1 - 86
    cdef float shift = shift_single(m1)
    cdef double wide_origin = far_origin_double(top, scale), wide_m1 = top - wide_origin
    cdef double wide_shift = shift_double(wide_m1, scale), wide_low = wide_m1 - 707 * scale.temperature
    cdef int32_t below = 0
    cdef int64_t wide_below = 0
    if real is float:
        for i in range(16 * vectors):
            e[i] = exp_below_single(<float>x[i], m, origin, low, shift)
            below += <float>x[i] < m
        return below
    else:
        for i in range(16 * vectors):
            e[i] = exp_near_double(x[i], top, wide_origin, wide_low, wide_shift, scale)
            wide_below += x[i] < top
        return wide_below


cdef inline Py_ssize_t map_row(const source *x, Py_ssize_t n, Py_ssize_t readable, source m, Scale scale, real *e, source *copy) noexcept nogil:
    """The terms of a row, mapped in whole vectors: past its end lies the next row, whose terms
    overwrite what was mapped of it, or, at the end of what is readable, a copy filled up with m.
    Returns how many of the n elements equal m."""
    cdef Py_ssize_t vectors = (n + 15) // 16, full = n // 16, left = n - 16 * full, below, i
    if left == 0 or 16 * vectors <= readable:
        below = map_vectors(x, vectors, m, scale, e)
        if left:
            if source is float:
                below -= fe_below_float(x + 16 * full, <int>left, m)
            else:
                below -= fe_below_double(x + 16 * full, <int>left, m)
        return n - below
    for i in range(16):
        copy[i] = m
    memcpy(copy, x + 16 * full, left * sizeof(source))
    below = map_vectors(x, full, m, scale, e)
    return n - below - map_vectors(copy, 1, m, scale, e + 16 * full)


cdef inline void add_moments(const source *x, const real *e, Py_ssize_t n, source m, Scale scale, real *terms,
                             RowSums *out, Py_ssize_t r) noexcept nogil:
    cdef Py_ssize_t i
    if real is float and source is float:
        fe_lane_moments(x, e, n, m, &out.moment[r], &out.square[r])
    elif real is double:
        for i in range(n):
            terms[i] = gap_double(x[i], m, scale) * e[i]
            terms[ROOM + i] = e[i] * e[i]
        out.moment[r] = row_sum(terms, n)
        out.square[r] = row_sum(terms + ROOM, n)


cdef inline void settle(const source *x, Py_ssize_t n, RowSums *out, Py_ssize_t r) noexcept nogil:
    """A row whose maximum is not finite, or not alone."""
    cdef Py_ssize_t i
    cdef double top = out.top[r]
    cdef bint nan
    if source is float:
        nan = fe_lane_nan_float(x, n)
    else:
        nan = fe_lane_nan_double(x, n)
    if not nan and top < INFINITY and top > -INFINITY:
        return
    out.top[r] = NAN if nan else top
    out.rest[r] = out.moment[r] = out.square[r] = out.count[r] = 0
    for i in range(n):                                  # +inf is certainty, shared by ties
        out.count[r] += x[i] == top


cdef inline void settle_rows(const source *x, Py_ssize_t rows, Py_ssize_t n, RowSums *out) noexcept nogil:
    cdef Py_ssize_t r
    cdef int64_t odd = 0
    for r in range(rows):
        odd |= (out.count[r] != 1) | (out.top[r] == INFINITY) | (out.top[r] == -INFINITY)
    if odd:
        for r in range(rows):
            if out.count[r] != 1 or out.top[r] == INFINITY or out.top[r] == -INFINITY:
                settle(x + r * n, n, out, r)


cdef inline void sums_of_rows(const source *x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t readable, Scale scale,
                              bint moments, RowSums *out, real *scratch) noexcept nogil:
    """Sums of rows of n logits, of rows·n <= CHUNK in all or one row; `readable` elements of x may
    be read. Each step is taken for all rows before the next one, so that the steps of one row do
    not wait for each other."""
    cdef Py_ssize_t r, i
    cdef double f
    cdef real *e = scratch
    cdef source *copy = <source *>(scratch + 3 * ROOM)
    for r in range(rows):
        if source is float:
            out.top[r] = fe_lane_top_float(x + r * n, n)
        else:
            out.top[r] = fe_lane_top_double(x + r * n, n)
    for r in range(rows):
        out.count[r] = map_row(x + r * n, n, readable - r * n, <source>out.top[r], scale, e + r * n, copy)
    for r in range(rows):
        out.rest[r] = row_sum(e + r * n, n)
    if moments:
        for r in range(rows):
            add_moments(x + r * n, e + r * n, n, <source>out.top[r], scale, scratch + ROOM, out, r)
    for r in range(rows):
        f = share_of_octave(out.top[r], real is float, scale)
        out.rest[r] *= f
        if moments:
            out.moment[r] *= f
            out.square[r] *= f * f
    settle_rows(x, rows, n, out)


cdef inline LogitSums logit_sums(const source *x, Py_ssize_t n, Py_ssize_t readable, Scale scale, bint moments,
                                 real *scratch) noexcept nogil:
    """Sums of one block of n <= CHUNK logits."""
    cdef LogitSums sums
    cdef RowSums row
    sums.moment = sums.square = sums.gap = sums.mass = 0
    row.top = &sums.top
    row.count = &sums.count
    row.rest = &sums.rest
    row.moment = &sums.moment
    row.square = &sums.square
    sums_of_rows(x, 1, n, readable, scale, moments, &row, scratch)
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
