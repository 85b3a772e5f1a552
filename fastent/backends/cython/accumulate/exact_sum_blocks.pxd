"""The loops of exact sums that are worth a SIMD level of their own."""

from libc.float cimport DBL_MAX
from libc.math cimport INFINITY, NAN, fabs, fma, ldexp
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastent.backends.cython.arithmetic.functions cimport fe_bits_double, fe_bits_float, fe_from_bits_double

cdef extern from *:
    """
    #define LEAST_NEAR 1e-285           /* its rounding error is a multiple of 2^-1074 */
    """
    double LEAST_NEAR

cdef enum:
    NO_GRID = 1 << 20
    # Products have 34 limbs below those of float64, and as many above: no scale of weights is lost.
    FAR = 34
    PRODUCT_UNIT = 32 * FAR + 1074        # totals of products are in units of 2^-2162

cdef enum Special:            # what a sum has seen
    SEEN_NAN = 1
    SEEN_POSITIVE_INF = 2
    SEEN_NEGATIVE_INF = 4

ctypedef struct GridSums:
    int64_t multiple[3]       # the sum is Σ multiple[i] * 2^(grid - 51 i)
    int grid                  # before: one to be tried first, or NO_GRID

cdef inline int exponent_of(double v, uint64_t* m, uint64_t* negative) noexcept nogil:
    """e, with |v| = m·2^(e − 1074), or 0x7FF for an infinity (m is 0 then) and NaN; `negative` is 0 or all ones."""
    cdef uint64_t b = fe_bits_double(v)
    cdef int e = <int> ((b >> 52) & 0x7FF)
    m[0] = b & ((<uint64_t> 1 << 52) - 1)
    negative[0] = 0 - (b >> 63)
    if e == 0 or e == 0x7FF:
        return e
    m[0] |= <uint64_t> 1 << 52
    return e - 1


cdef inline int special_of(uint64_t m, uint64_t negative) noexcept nogil:
    """The flag of Special for what `exponent_of` gives 0x7FF for."""
    return <int> (SEEN_NAN if m else SEEN_NEGATIVE_INF if negative else SEEN_POSITIVE_INF)


cdef inline double decided(int special) noexcept nogil:
    """The infinity or NaN that decides a sum."""
    if special == SEEN_POSITIVE_INF:
        return INFINITY
    return -INFINITY if special == SEEN_NEGATIVE_INF else NAN


cdef inline void add_to_limbs(int64_t* limb, uint64_t m, uint64_t negative, int shift) noexcept nogil:
    """Add ±m * 2^shift to three limbs of 32 bits."""
    cdef int k = shift & 31
    cdef uint64_t low = m << k
    limb += shift >> 5
    limb[0] += <int64_t> (((low & <uint64_t> 0xFFFFFFFF) ^ negative) - negative)
    limb[1] += <int64_t> (((low >> 32) ^ negative) - negative)
    limb[2] += <int64_t> ((((m >> 1) >> (63 - k)) ^ negative) - negative)


cdef inline uint64_t grid_bits(int grid) noexcept nogil:
    """Those of 1.5·2^(grid + 52)."""
    return (<uint64_t> (grid + 52 + 1023) << 52) | (<uint64_t> 1 << 51)


cdef inline uint64_t on_two_grids(double r, double m0, double m1, uint64_t* k0, uint64_t* k1) noexcept nogil:
    """Adds the digits of r on either grid to their sums; the bits of what is left of it."""
    cdef double t = m0 + r
    k0[0] += fe_bits_double(t)
    r = r - (t - m0)
    t = m1 + r
    k1[0] += fe_bits_double(t)
    return fe_bits_double(r - (t - m1))


cdef inline bint tried_grid_sums(GridSums* into, const double* v, Py_ssize_t n) noexcept nogil:
    """The sums through `into.grid` and the next one; False if the values do not fit, which is seen
    as M + r then is in another binade than M. One pass: 0.21 ns a value instead of 0.28."""
    cdef Py_ssize_t i
    cdef uint64_t b0 = grid_bits(into.grid), b1 = grid_bits(into.grid - 51), k0 = 0, k1 = 0, rest = 0, off = 0
    cdef double m0 = fe_from_bits_double(b0), m1 = fe_from_bits_double(b1)
    for i in range(n):
        off |= fe_bits_double(m0 + v[i]) ^ b0
        rest |= on_two_grids(v[i], m0, m1, &k0, &k1)
    into.multiple[0] = <int64_t> (k0 - <uint64_t> n * b0)
    into.multiple[1] = <int64_t> (k1 - <uint64_t> n * b1)
    into.multiple[2] = 0
    return not off >> 52 and not rest << 1


cdef inline bint grid_sums(GridSums* into, const double* v, Py_ssize_t n) noexcept nogil:
    """Sum at most 2^11 values through three rounding grids; False if they do not fit."""
    cdef Py_ssize_t i
    cdef int64_t largest = 0, magnitude
    cdef uint64_t digits = 0
    if into.grid != NO_GRID and tried_grid_sums(into, v, n):
        return True
    for i in range(n):
        magnitude = <int64_t> (fe_bits_double(v[i]) & <uint64_t> 0x7FFFFFFFFFFFFFFF)
        largest = magnitude if magnitude > largest else largest
        digits |= fe_bits_double(v[i])
    cdef int top = <int> (largest >> 52) - 1023        # |v| < 2^(top + 1)
    if top > 1000:
        return False
    # |v| <= 2^50 grid steps keeps M + r in the binade of M = 1.5 * 2^(grid + 52); of -972 the third is 2^-1074.
    cdef int grid = max(top - 49, -972)
    cdef uint64_t b0 = grid_bits(grid), b1 = grid_bits(grid - 51), b2 = grid_bits(grid - 102)
    cdef double m0 = fe_from_bits_double(b0), m1 = fe_from_bits_double(b1), m2 = fe_from_bits_double(b2)
    cdef double r, t
    cdef uint64_t k0 = 0, k1 = 0, k2 = 0, rest = 1
    # As many grids as the digits need: one is enough for values that were floats, down to 2^-26 of
    # the largest, two for most others.
    if not digits & <uint64_t> 0x1FFFFFFF:
        rest = 0
        for i in range(n):
            t = m0 + v[i]
            k0 += fe_bits_double(t)
            rest |= fe_bits_double(t - m0) ^ fe_bits_double(v[i])
        k1 = <uint64_t> n * b1
        k2 = <uint64_t> n * b2
    if rest:
        k0 = k1 = rest = 0
        k2 = <uint64_t> n * b2
        for i in range(n):
            rest |= on_two_grids(v[i], m0, m1, &k0, &k1)
    if rest << 1:
        k1 = k2 = rest = 0
        for i in range(n):
            r = v[i] - ((m0 + v[i]) - m0)
            rest |= on_two_grids(r, m1, m2, &k1, &k2)
        if rest << 1:
            return False
    # The sums of raw bits wrap around; taking out n times the bits of M leaves the integers.
    into.multiple[0] = <int64_t> (k0 - <uint64_t> n * b0)
    into.multiple[1] = <int64_t> (k1 - <uint64_t> n * b1)
    into.multiple[2] = <int64_t> (k2 - <uint64_t> n * b2)
    into.grid = grid
    return True


cdef inline bint float_grid_sums(GridSums* into, const float* v, Py_ssize_t n) noexcept nogil:
    """The same of values that are floats: their exponents say beforehand how many grids are needed.

    One for values within 2^27 of each other, two for 2^78; no third one."""
    cdef Py_ssize_t i
    cdef uint32_t b, most = 0, least = 0xffffffff
    for i in range(n):
        b = fe_bits_float(v[i]) & <uint32_t> 0x7fffffff
        most = b if b > most else most
        b -= 1                                         # 0 comes last: it needs no digits
        least = b if b < least else least
    cdef int top = <int> (most >> 23), low = <int> ((least + 1) >> 23)
    into.multiple[0] = into.multiple[1] = into.multiple[2] = into.grid = 0
    if top == 255:
        return False
    if most == 0:
        return True
    low = max(low, 1)                                  # subnormal numbers have its last digit
    top = max(top, 1)
    # The last digit of the least value is 2^(low − 150), and |v| < 2^(top − 126).
    cdef int grid = low - 150 if top - low <= 27 else top - 176
    if grid - 51 > low - 150:
        return False
    cdef uint64_t b0 = grid_bits(grid), b1 = grid_bits(grid - 51), k0 = 0, k1 = 0
    cdef double m0 = fe_from_bits_double(b0), m1 = fe_from_bits_double(b1), r, t
    if top - low <= 27:
        for i in range(n):
            k0 += fe_bits_double(m0 + <double> v[i])
    else:
        for i in range(n):
            r = v[i]
            t = m0 + r
            k0 += fe_bits_double(t)
            k1 += fe_bits_double(m1 + (r - (t - m0)))
        into.multiple[1] = <int64_t> (k1 - <uint64_t> n * b1)
    into.multiple[0] = <int64_t> (k0 - <uint64_t> n * b0)
    into.grid = grid
    return True


cdef inline bint products(const double* a, const double* b, double* high, double* low, Py_ssize_t n) noexcept nogil:
    """a·b as rounded product and rounding error; False unless all are 0 or of a size at which the two
    are exact: see `near`."""
    cdef Py_ssize_t i
    cdef double p
    # Signs are gathered: of what is missing to the range, where neither factor is 0.
    cdef int64_t off = 0, size, least = <int64_t> fe_bits_double(LEAST_NEAR), most = <int64_t> fe_bits_double(DBL_MAX)
    for i in range(n):
        p = a[i] * b[i]
        high[i] = p
        low[i] = fma(a[i], b[i], -p)
        size = <int64_t> fe_bits_double(fabs(p))
        off |= ((size - least) | (most - size)) & ~(
            (<int64_t> fe_bits_double(fabs(a[i])) - 1) | (<int64_t> fe_bits_double(fabs(b[i])) - 1))
    return off >= 0


cdef inline bint near(double a, double b) noexcept nogil:
    """Whether a·b and its rounding error are float64 (or a·b is no finite number)."""
    cdef double p = fabs(a * b)
    return (p >= LEAST_NEAR and p < INFINITY) or a == 0 or b == 0 or not (fabs(a) < INFINITY and fabs(b) < INFINITY)


cdef inline void far_product(double a, double b, double* high, double* low, int* limbs) noexcept nogil:
    """a·b and its rounding error of any finite factors, in units of 2^-1074 and so many limbs of 32 bits."""
    cdef double scale
    limbs[0] = FAR
    if not near(a, b):
        scale = ldexp(1.0, 544) if fabs(a * b) < 1.0 else ldexp(1.0, -544)
        limbs[0] = 0 if scale > 1 else 2 * FAR
        a *= scale
        b *= scale
    high[0] = a * b
    low[0] = fma(a, b, -high[0]) if fabs(high[0]) < INFINITY else 0.0
