"""Scalar functions of the kernels: plain formulas that the compiler vectorises in the callers' loops.

Each is written once for float and double; the polynomials differ in degree. Error bounds and their
arguments: docs/numerics.md. All of them take and give ordinary numbers; zeros, infinities and NaN
are the business of the caller unless said otherwise.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t


cdef extern from "lane_sums.h" nogil:
    # of floats or of doubles, as the pointers say
    double fe_lane_sum(const void *x, Py_ssize_t n)
    void fe_row_sums(const void *x, Py_ssize_t rows, Py_ssize_t n, double *out)
    uint64_t fe_bits(double x)          # 32 of a float
    double fe_from_bits(uint64_t b)     # a float of 32
    uint32_t fe_bits_float(float x)
    uint64_t fe_bits_double(double x)
    float fe_from_bits_float(uint32_t b)
    double fe_from_bits_double(uint64_t b)
    double fe_without_octaves(double y, double x, bint rising, double *octaves)
    double fe_nearest_octaves(double y, double x, double *octaves)
    double fe_mantissa(double x, double *octaves)
    double mantissa_of "fe_whole_mantissa"(double x, double *octaves)
    const double FE_STEP
    const double FE_STEPS
    const double FE_OCTAVE
    const bint FE_FUSED
    const double NEAR "FE_NEAR"
    double fe_madd(double a, double b, double c)
    double fe_poly(double x, double highest, double next, ...)
    float fe_less_octaves(float x, float k)
    void fe_ask(const void *at, Py_ssize_t size, bint near)
    void fe_ask_two(const void *p, const void *q, Py_ssize_t ahead, Py_ssize_t size)

cdef extern from "argmax.h" nogil:
    double fe_lane_max(const void *x, Py_ssize_t n)

cdef extern from "<math.h>" nogil:
    double c_fma "fma"(double, double, double)
    const double INFINITY
    const double NAN
    double c_sqrt "sqrt"(double)
    double c_fabs "fabs"(double)

# What arithmetic is done in, and what the memory holds. Cython picks the variant of a function by the
# types of its arguments: those called `unused` are there for that, and carry no value.
ctypedef fused real:
    float
    double

ctypedef fused stored:
    float
    double

cdef inline real madd(real a, real b, real c) noexcept nogil:
    return fe_madd(a, b, c)


cdef inline real largest(real a, real b) noexcept nogil:
    return a if a > b else b


cdef inline double clipped(double x, double low, double high) noexcept nogil:
    x = low if x < low else x
    return high if x > high else x


cdef inline real magnitude(real x) noexcept nogil:
    if real is float:
        return fe_from_bits_float(fe_bits_float(x) & <uint32_t>0x7fffffff)
    else:
        return fe_from_bits_double(fe_bits_double(x) & <uint64_t>0x7fffffffffffffff)


# --- x·log(x/y) − x + y -------------------------------------------------------------------------

cdef inline real scale_up(real unused) noexcept nogil:
    """The power of two that makes every subnormal number normal."""
    return <real>18446744073709551616.0 if real is float else <real>1.3407807929942597e154  # 2^64, 2^512


cdef inline real speck(real unused) noexcept nogil:
    """What 0 is replaced by beside numbers that are scaled up: rounded away by the least of them."""
    return <real>1.925929944387236e-34 if real is float else <real>2.2982786799458352e-187  # 2^-112, 2^-620


cdef inline real lifted(real x) noexcept nogil:
    """x scaled up, exactly; 0 becomes a speck, so that nothing divides by 0 or takes its logarithm."""
    return madd(x, scale_up(x), speck(x))


cdef inline real atanh_tail(real w) noexcept nogil:
    """−2(atanh(s)/s − 1)/s² for w = s² in [0, 1/9], its error weighted as `near_gap` needs it."""
    if real is float:
        return fe_poly(w, -0.27606210526046814049, -0.28089700000151978045, -0.40015743530857887641,
                          -0.66666525861133859984)
    else:
        return fe_poly(w, -0.17398834775955963923, -0.10073143560365455712, -0.13550895875138710497,
                          -0.15368260395983356528, -0.18182556187391516439, -0.22222202700705908724,
                          -0.28571428851501432461, -0.39999999998164301369, -0.66666666666670238462)


cdef inline real short_atanh_tail(real w) noexcept nogil:
    """The same in [0, 1/25]."""
    if real is float:
        return fe_poly(w, -0.30271584008768173713, -0.39963458588895934282, -0.66666864217927471018)
    else:
        return fe_poly(w, -0.1529436987979053412893, -0.1526091993740385565123, -0.1818574412900477226535,
                          -0.2222215572204491975393, -0.2857142914952230069186, -0.3999999999777972747159,
                          -0.6666666666666914717406)


cdef inline real without_octaves(real y, real x, bint rising, real *octaves) noexcept nogil:
    """y within a factor 2 of x > 0, by whole octaves, rounded towards zero: how many (in units of 2^-23,
    or of what makes FE_STEP of ln 2). `rising`, a constant: y >= x."""
    cdef int32_t whole
    if real is float:
        whole = <int32_t>(fe_bits_float(y) - fe_bits_float(x))
        if not rising:
            whole += (whole >> 31) & 0x7fffff
        whole &= <int32_t>0xff800000
        octaves[0] = <real>whole
        return fe_from_bits_float(fe_bits_float(y) - <uint32_t>whole)
    else:
        return fe_without_octaves(y, x, rising, octaves)


cdef inline real nearest_octaves(real y, real x, real *octaves) noexcept nogil:
    """The same rounded to nearest, as the bits run: y within a factor 1.5 of x."""
    cdef int32_t whole
    if real is float:
        whole = (<int32_t>(fe_bits_float(y) - fe_bits_float(x)) + 0x400000) & <int32_t>0xff800000
        octaves[0] = <real>whole
        return fe_from_bits_float(fe_bits_float(y) - <uint32_t>whole)
    else:
        return fe_nearest_octaves(y, x, octaves)


cdef inline real far_gap(real x, real y, real near, real octaves) noexcept nogil:
    """What the octaves between y and `near` add to a gap."""
    if real is float:
        return madd(x * octaves, <real>-8.26295829486781727573e-8, y - near)        # ln 2·2^-23
    else:
        return madd(x, octaves * <real>-FE_STEP, y - near)


cdef inline real near_gap(real x, real y, real d, real far, bint nearest) noexcept nogil:
    """x·log(x/y) − x + y + far for y within a factor 2 of x > 0, or 1.5 if `nearest`, and d = y − x, rounded once."""
    cdef real s = d / (y + x), w = s * s
    return madd(s, madd(x * w, short_atanh_tail(w) if nearest else atanh_tail(w), d), far)


cdef inline real positive_gap(real x, real y) noexcept nogil:
    """x·log(x/y) − x + y >= 0 for normal x, y > 0.

    y is brought near x by n whole octaves: log(x/y') by atanh of s = (y' − x)/(y' + x), and (y' − x)·s is
    its first term. With fma y' is the nearest; what cancels, y − y' and x·n·ln 2, is rounded once, and
    a shorter polynomial will do. Without, n is rounded towards zero, so that nothing cancels.
    """
    cdef real octaves, near
    if FE_FUSED:
        near = nearest_octaves(y, x, &octaves)
        return near_gap(x, near, near - x, far_gap(x, y, near, octaves), True)
    near = without_octaves(y, x, False, &octaves)
    return near_gap(x, near, near - x, far_gap(x, y, near, octaves), False)


cdef inline real kl_term(real x, real y, real d) noexcept nogil:
    """The same for x, y >= 0 (normal or 0) and d = y − x, rounded once, where y − x is not.

    x = 0 gives y, y = 0 < x gives infinity.
    """
    cdef real octaves, near = without_octaves(y, x, False, &octaves)
    cdef real a = d if octaves == 0 else near - x
    cdef real value = near_gap(x, near, a, far_gap(x, y, near, octaves), False)
    value = y if x == 0 else value
    return <real>INFINITY if (y == 0) & (x > 0) else value


cdef inline double excess(double v) noexcept nogil:
    """h(v) = v − log1p(v) >= 0 for v > −1."""
    return kl_term(<double>1.0, 1.0 + v, v)


cdef inline double near_excess(double v) noexcept nogil:
    """h(v)/v² for |v| <= NEAR."""
    return fe_poly(v, -0.14286053375868146583, 0.16666952773180559654, -0.19999999996927858366,
                      0.24999999998362876243, -0.33333333333333340735, 0.50000000000000001388)


# --- exponentials -------------------------------------------------------------------------------

cdef inline real exp_tail(real r) noexcept nogil:
    """(e^r − 1 − r)/r² on ±0.36."""
    cdef real t, w, odd
    if real is float:
        return fe_poly(r, 0.0013929125370749966632, 0.0083655341115735858489, 0.041666536253543594824,
                          0.16666562289211806851, 0.5)
    else:
        # even and odd powers apart: one chain of ten steps keeps the arithmetic waiting
        w = r * r
        t = fe_poly(w, 2.0917677381805068175e-9, 2.7557266175047446732e-7, 0.000024801587331670254509,
                       0.0013888888888881926351, 0.041666666666666671179, 0.5)
        odd = fe_poly(w, 2.5109404672957822402e-8, 2.7557244942221746346e-6, 0.00019841269883394330142,
                         0.0083333333333235837498, 0.16666666666666672985)
        return madd(odd, r, t)


cdef inline real nearest_shifted(real x) noexcept nogil:
    """x + 1.5·2^(mantissa bits): its low bits are the nearest integer to x (|x| < 2^21)."""
    return x + <real>12582912.0 if real is float else x + <real>6755399441055744.0


cdef inline real shift_of(real shifted) noexcept nogil:
    """The integer in the low bits of `nearest_shifted`, as a real."""
    return shifted - <real>12582912.0 if real is float else shifted - <real>6755399441055744.0


cdef inline real times_power(real e, real shifted) noexcept nogil:
    """e·2^n, n in the low bits of `shifted`; both e and the result normal."""
    return fe_from_bits(fe_bits(e) + (fe_bits(shifted) << (23 if real is float else 52)))


cdef inline real log2_e(real unused) noexcept nogil:
    return <real>1.4426950408889634074


cdef inline real exp_of_sum(real high, real low) noexcept nogil:
    """exp(high + low), |low| of the size of high's rounding error; 0 below the normal range.

    For high <= 0. The two parts of a difference x − m go in unrounded: rounding x − m first costs
    u·|x − m| in the result, 4e-6 in float and 6e-14 in double at the far ends.
    """
    cdef real shifted, n, r, e, lowest = <real>-87 if real is float else <real>-708
    if real is float:
        shifted = madd(high, log2_e(high), <real>12582912.0)
        n = shift_of(shifted)
        r = madd(-n, <real>0.693359375, high)
        r = r - madd(n, <real>-2.12194440054690583e-4, -low)
    else:
        shifted = madd(high, log2_e(high), <real>6755399441055744.0)
        n = shift_of(shifted)
        r = madd(-n, <real>6.93147180369123816490e-01, high)
        r = r - madd(n, <real>1.90821492927058770002e-10, -low)
    e = madd(r * r, exp_tail(r), r) + <real>1
    e = times_power(e, shifted)
    return e if high >= lowest else <real>0.0


cdef inline real phi(real v) noexcept nogil:
    """φ(v) = e^v − 1 − v on [−1.25, 1.5]. In pairs, as a chain of multiplications waits for itself."""
    cdef real w = v * v, t
    if real is float:
        t = madd(<real>3.078505395e-6, v, <real>2.58059570978e-5)
        t = madd(t, w, madd(<real>0.000197701081326, v, <real>0.00138772466491))
        t = madd(t, w, madd(<real>0.00833380606161, v, <real>0.0416671086529))
        t = madd(t, w, madd(<real>0.166666593417, v, <real>0.499999973408))
    else:
        t = <real>5.3757495188824497901e-14
        t = madd(t, w, madd(<real>7.8144807005977732314e-13, v, <real>1.1439782562566307872e-11))
        t = madd(t, w, madd(<real>1.6055007114876917211e-10, v, <real>2.0877430143052668813e-9))
        t = madd(t, w, madd(<real>2.5052159383143754881e-8, v, <real>2.7557311845048196262e-7))
        t = madd(t, w, madd(<real>2.7557318865394651921e-6, v, <real>0.00002480158734328917904))
        t = madd(t, w, madd(<real>0.0001984126984262560338, v, <real>0.0013888888888776984915))
        t = madd(t, w, madd(<real>0.0083333333333309599281, v, <real>0.041666666666667781258))
        t = madd(t, w, madd(<real>0.16666666666666679237, v, <real>0.49999999999999998224))
    return w * t


cdef inline real kappa(real u) noexcept nogil:
    """κ(u) = ½[(u/2)·tanh(u/2) − log cosh(u/2)] on |u| <= 2."""
    cdef real w = u * u
    cdef real x = w * w, t
    if real is float:
        t = madd(madd(<real>2.9051849202926132616e-8, w, <real>-6.8843497782534438486e-7), x,
                 madd(<real>8.8887352810301332007e-6, w, <real>-0.000091293231056116693456))
        t = madd(t, x, madd(<real>0.00086745629877256746271, w, <real>-0.0078123533264641503299))
        t = madd(t, w, <real>0.06249999403821387395)
    else:
        t = madd(madd(<real>-6.9606016909544943816e-18, w, <real>2.9123281706988472023e-16), x,
                 madd(<real>-6.0951565461697510649e-15, w, <real>8.8023776613888402665e-14))
        t = madd(t, x, madd(<real>-1.0285079642738775056e-12, w, <real>1.0775465748988592811e-11))
        t = madd(t, x, madd(<real>-1.0780986576618014398e-10, w, <real>1.0620841897374725245e-9))
        t = madd(t, x, madd(<real>-1.0412063454618402149e-8, w, <real>1.0179212512270481693e-7))
        t = madd(t, x, madd(<real>-9.9177604181189199841e-7, w, <real>9.6106149335314378223e-6))
        t = madd(t, x, madd(<real>-0.000092230902745074733108, w, <real>0.00086805555555169066313))
        t = madd(t, x, madd(<real>-0.0078124999999998188448, w, <real>0.062499999999999998586))
    return w * t


# --- logarithms ---------------------------------------------------------------------------------

cdef inline real log_of_reduced(real f, real e) noexcept nogil:
    """log1p(f) + e·ln 2 for f in [√½ − 1, √2 − 1] and a whole e."""
    cdef real t, s, w, half
    if real is float:
        t = fe_poly(f, 0.069716114714511778317, -0.11479733846637635556, 0.11685419923486739308,
                       -0.12425687331451106113, 0.14249057645697480404, -0.16667802319501254074,
                       0.20000715748892101743, -0.24999996957950882045, 0.33333331180030048052)
        w = f * f
        t = madd(w * f, t, e * <real>-2.12194440054690583e-4)
        return madd(e, <real>0.693359375, f + (t - <real>0.5 * w))
    else:
        s = f / (2 + f)
        w = s * s
        t = fe_poly(w, 0.073085187743958250731, 0.076658370150839309258, 0.090914452783478017639,
                       0.11111105557572080752, 0.14285714313047945769, 0.19999999999949619489,
                       0.33333333333333348477)
        half = <real>0.5 * f * f
        t = s * (half + 2 * w * t)
        return e * <real>6.93147180369123816490e-01 - ((half - (t + e * <real>1.90821492927058770002e-10)) - f)


cdef inline real log_in_octaves(real x, real octaves) noexcept nogil:
    """log(x·2^−octaves) for a normal x > 0 and whole octaves."""
    cdef int32_t k32
    cdef real f, e
    if real is float:
        # 0x3f3504f3 is √½: the mantissa lands in [√½, √2)
        k32 = (<int32_t>fe_bits_float(x) - 0x3f3504f3) >> 23
        f = fe_from_bits_float(fe_bits_float(x) - (<uint32_t>k32 << 23)) - <real>1
        e = <real>k32
    else:
        f = mantissa_of(x, &e) - <real>1
    return log_of_reduced(f, e - octaves)


cdef inline real log_normal(real x) noexcept nogil:
    """log(x) for a normal x > 0."""
    return log_in_octaves(x, <real>0)


cdef inline real minus_log_scaled(real x) noexcept nogil:
    """−log q for x = q·2^64 (float) or q·2^512 (double), so that a subnormal q is no exception."""
    return -log_in_octaves(x, <real>(64 if real is float else 512))


cdef inline real step(real unused) noexcept nogil:
    """ln 2 times the share of an octave that `surprisal_of` counts in."""
    return <real>8.26295829486781727573e-8 if real is float else FE_STEP  # 2^-23


cdef inline real surprisal_of(real x, bint scaled) noexcept nogil:
    """−log x for a normal x > 0, or −log(x / scale_up(x)), in steps; its error is an absolute one, and
    of use where the result is 0.28 nats at least. 0 and subnormal numbers give something finite."""
    cdef int32_t whole
    cdef real m, s, w, t, octaves
    if real is float:
        whole = <int32_t>(fe_bits_float(x) - <uint32_t>0x3f3504f3) & <int32_t>0xff800000
        m = fe_from_bits_float(fe_bits_float(x) - <uint32_t>whole)
        if scaled:
            whole -= <int32_t>(64 << 23)
        octaves = -<real>whole
        s = (<real>1 - m) / (<real>1 + m)
        w = s * s
        t = fe_poly(w, 3625972.5743343474615, 4837686.75348087912, 8068153.5978611509985, 24204406.323122971101)
    else:
        m = fe_mantissa(x, &octaves)
        octaves = <real>(512 * FE_STEPS) - octaves if scaled else -octaves
        s = (1 - m) / (1 + m)
        w = s * s
        t = fe_poly(w, 0.2437662393375570505944 * FE_STEPS, 0.2613672568078782393736 * FE_STEPS,
                       0.3206190057267482355238 * FE_STEPS, 0.4121983612336394019922 * FE_STEPS,
                       0.5770780175250568197782 * FE_STEPS, 0.9617966939237709185146 * FE_STEPS,
                       2.88539008177792681472 * FE_STEPS)
    return madd(s, t, octaves)


cdef inline double log_of_sum(double total) noexcept nogil:
    """log(total) for |total − 1| <= NEAR."""
    cdef double v = total - 1
    return madd(-v * v, near_excess(v), v)


cdef inline double log_ratio(double rest, double twice) noexcept nogil:
    """log1p(rest/own) for twice = 2·own + rest, |rest| <= twice/3: 2 atanh(rest/twice)."""
    cdef double s = rest / twice, w = s * s
    return s * madd(-w, atanh_tail(w), <double>2)


cdef inline double log1p_of(double x) noexcept nogil:
    """log1p(x) for x > −1, infinity included."""
    cdef double u = 1.0 + x, e
    cdef double f = mantissa_of(u, &e) - 1
    # what 1 + x lost, relative to u: matters up to u = 2^53 only
    cdef double lost = (x - (u - 1) if u < 9007199254740992.0 else 0.0) / u
    f = x if e == 0 else f
    lost = 0.0 if e == 0 else lost
    cdef double value = log_of_reduced(f, e) + lost
    return value if u < INFINITY else u


cdef inline double log1p_positive(double x, bint single) noexcept nogil:
    """log1p(x) for 0 <= x < 2^52: nothing is lost, 1 + x is scaled before it is rounded. To 1e-9 of it
    if `single`, a constant."""
    cdef uint64_t k = (fe_bits_double(1 + x) - <uint64_t>0x3fe6a09e667f3bcd) >> 52
    cdef double scale = fe_from_bits_double(<uint64_t>0x3ff0000000000000 - (k << 52))
    cdef double f = madd(x, scale, scale - 1)
    cdef double e = fe_from_bits_double(k | <uint64_t>0x4330000000000000) - 4503599627370496.0
    cdef double s, w, t
    if not single:
        return log_of_reduced(f, e)
    s = f / (2 + f)
    w = s * s
    t = fe_poly(w, 0.29871762, 0.3997754, 0.66666776, 2)
    return madd(s, t, e * 0.69314718055994530942)


cdef inline double log_positive(double x) noexcept nogil:
    """log(x) for any x > 0, subnormal ones and infinity included; 0 gives −infinity."""
    cdef bint small = x < 2.2250738585072014e-308
    cdef double value = log_normal(<double>(x * 18014398509481984.0 if small else x))
    value = value - (37.429947750237047 if small else 0.0)
    value = -INFINITY if x == 0 else value
    return value if x < INFINITY else x


cdef inline real rounding(real x, real m, real high) noexcept nogil:
    """What the rounding of high = x − m lost; NaN where the difference is infinite."""
    cdef real back = high - x
    return (x - (high - back)) + (-m - back)


cdef inline real lost_by(real x, real m, real high) noexcept nogil:
    """The same; nothing where the difference is infinite."""
    cdef real low = rounding(x, m, high)
    return low if high > <real>-INFINITY else <real>0
