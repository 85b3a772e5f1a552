"""exp, log, log1p and the non-negative remainders behind KL and JS, as scalar float64 functions.

They are plain arithmetic, a few selects and bit casts, so LLVM vectorises every loop they are
inlined into. All work in float64; `single` says that the operands came from float32, where shorter
polynomials already are far below the rounding of the input. It is a compile-time constant.
"""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numba import njit

from .intrinsics import exact_fma, from_bits, muladd, to_bits

scalar = njit(nogil=True, error_model="numpy", forceinline=True)

LN2 = Fraction(0x2C5C85FDF473DE6AF278ECE600FCBDABD, 1 << 130)  # to 130 bits
LN2_HI = 6.93147180369123816490e-01
LN2_LO = 1.90821492927058770002e-10
ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer in the low bits
FLUSH = 708.0  # exp(-708) = 3e-308: beyond, 0 is within the absolute bound
ONE_BITS = 0x3FF0000000000000
HALF_ROOT_BITS = 0x3FE6A09E667F3BCD  # of sqrt(1/2)
MANTISSA = (1 << 52) - 1
SCALE = 2.0**512  # lifts subnormal probabilities into the normal range, exactly


@lru_cache(maxsize=64)
def reduction_unit(temperature):
    """Constants that reduce x for exp(x / temperature) without dividing x first.

    Returns log2(e) / T, the leading 32 bits of T ln 2, the rest of it, 1 / T and the flush limit.
    """
    exact = Fraction(temperature) * LN2
    mantissa, exponent = math.frexp(float(exact))
    high = math.ldexp(math.floor(math.ldexp(mantissa, 32)), exponent - 32)
    rest = float(exact - Fraction(high))
    return np.array([1.0 / float(exact), high, rest, 1.0 / temperature, -FLUSH * temperature])


@scalar
def constants(unit):
    """The constants as a tuple: loads from an array would be repeated in every loop."""
    return unit[0], unit[1], unit[2], unit[3], unit[4]


@scalar
def exp_gap(h, low, unit, single):
    """exp((h + low) / T) for h <= 0 and a tail below one ulp of h; NaN stays NaN."""
    per_octave, octave_hi, octave_lo, inverse, limit = unit
    t = limit if h < limit else h
    shifted = muladd(t, per_octave, ROUND)
    n = shifted - ROUND
    r = muladd(-n, octave_hi, t)
    r = (r - muladd(n, octave_lo, -low)) * inverse
    if single:
        p = muladd(r, 0.0013929125370749966632, 0.0083655341115735858489)
        p = muladd(r, p, 0.041666536253543594824)
        p = muladd(r, p, 0.16666562289211806851)
        p = muladd(r, p, 0.5)
    else:
        p = muladd(r, 2.0917677381805068175e-9, 2.5109404672957822402e-8)
        p = muladd(r, p, 2.7557266175047446732e-7)
        p = muladd(r, p, 2.7557244942221746346e-6)
        p = muladd(r, p, 0.000024801587331670254509)
        p = muladd(r, p, 0.00019841269883394330142)
        p = muladd(r, p, 0.0013888888888881926351)
        p = muladd(r, p, 0.0083333333333235837498)
        p = muladd(r, p, 0.041666666666666671179)
        p = muladd(r, p, 0.16666666666666672985)
        p = muladd(r, p, 0.5)
    v = 1.0 + muladd(r * r, p, r)
    return 0.0 if h < limit else from_bits(to_bits(v) + (to_bits(shifted) << 52))


@scalar
def log_of(f, k, single):
    """log(1 + f) + k ln 2 for f in [sqrt(1/2) - 1, sqrt(2) - 1] and an integer k."""
    s = f / (2.0 + f)
    w = s * s
    if single:
        q = muladd(w, 0.11111105557572080752, 0.14285714313047945769)
    else:
        q = muladd(w, 0.073085187743958250731, 0.076658370150839309258)
        q = muladd(w, q, 0.090914452783478017639)
        q = muladd(w, q, 0.11111105557572080752)
        q = muladd(w, q, 0.14285714313047945769)
    q = muladd(w, q, 0.19999999999949619489)
    q = muladd(w, q, 0.33333333333333348477)
    half = 0.5 * f * f
    tail = muladd(s, muladd(2.0 * w, q, half), k * LN2_LO)
    return k * LN2_HI - ((half - tail) - f)


@scalar
def log(x, single):
    """Natural logarithm of a positive normal number."""
    t = to_bits(x) + (ONE_BITS - HALF_ROOT_BITS)
    # The exponent as a double through the bits of 2**52 + k: no 64-bit conversion below AVX-512.
    k = from_bits((t >> 52) | 0x4330000000000000) - (4503599627370496.0 + 1023.0)
    return log_of(from_bits((t & MANTISSA) + HALF_ROOT_BITS) - 1.0, k, single)


@scalar
def log1p_unit(x, single):
    """log(1 + x) for x in [0, 1]."""
    far = x > 0.41421356237309503
    return log_of((x - 1.0) * 0.5 if far else x, 1.0 if far else 0.0, single)


@scalar
def gkl(x, y, d, single):
    """x log(x / y) - x + y >= 0, given d = y - x; one division and no cancellation.

    x and y must be 0 or normal. y is brought within a factor 2 of x by whole octaves; there
    log(y'/x) = 2 atanh s with s = (y' - x) / (y' + x).
    """
    h = (to_bits(y) >> 32) - (to_bits(x) >> 32)
    octaves = (h + (0xFFFFF if h < 0 else 0) + (4096 << 20)) >> 20
    n = from_bits(octaves | 0x4330000000000000) - (4503599627370496.0 + 4096.0)
    near = from_bits(to_bits(y) - (octaves << 52))
    a = d if n == 0.0 else near - x
    s = a / (near + x)
    w = s * s
    if single:
        q = muladd(w, 0.10393808427873376085, 0.087323512327203870914)
        q = muladd(w, q, 0.11132355604500662288)
        q = muladd(w, q, 0.14285152860941831225)
        q = muladd(w, q, 0.20000005384974832161)
        q = muladd(w, q, 0.33333333325011807005)
    else:
        q = muladd(w, 0.080820228059717661105, 0.044003692430723369411)
        q = muladd(w, q, 0.060005364047953562676)
        q = muladd(w, q, 0.066570721048274680752)
        q = muladd(w, q, 0.076927850324793115517)
        q = muladd(w, q, 0.090908947180664290846)
        q = muladd(w, q, 0.11111111358713931495)
        q = muladd(w, q, 0.14285714283554378581)
        q = muladd(w, q, 0.20000000000007291337)
        q = muladd(w, q, 0.33333333333333329281)
    close = a * s - (2.0 * x) * s * w * q
    xn = x * n
    value = close + (muladd(-xn, LN2_HI, y - near) - xn * LN2_LO)
    value = math.inf if y == 0.0 else value
    value = y if x == 0.0 else value
    return math.nan if x != x or y != y else value


@scalar
def phi(v, single):
    """exp(v) - 1 - v for |v| <= 2, without cancellation."""
    if single:
        p = muladd(v, 2.6708717471550330882e-8, 2.9721254460548687576e-7)
        p = muladd(v, p, 2.7498767046351810566e-6)
        p = muladd(v, p, 0.000024724989935296362183)
        p = muladd(v, p, 0.00019842109974706421475)
        p = muladd(v, p, 0.0013889988672722743161)
        p = muladd(v, p, 0.0083333291243386372418)
        p = muladd(v, p, 0.041666611551954950061)
        p = muladd(v, p, 0.16666666700351318191)
        p = muladd(v, p, 0.50000000441109037592)
    else:
        p = muladd(v, 8.5803578497942620733e-18, 1.6376126325516947007e-16)
        p = muladd(v, p, 2.8087409252747675917e-15)
        p = muladd(v, p, 4.7737580214960734068e-14)
        p = muladd(v, p, 7.6472739571951974328e-13)
        p = muladd(v, p, 1.1470977753219091082e-11)
        p = muladd(v, p, 1.6059041233681633512e-10)
        p = muladd(v, p, 2.0876751504173478155e-9)
        p = muladd(v, p, 2.5052108421528207929e-8)
        p = muladd(v, p, 2.7557319300013138664e-7)
        p = muladd(v, p, 2.7557319223705003738e-6)
        p = muladd(v, p, 0.000024801587300995484599)
        p = muladd(v, p, 0.0001984126984127093615)
        p = muladd(v, p, 0.0013888888888891195858)
        p = muladd(v, p, 0.0083333333333333316906)
        p = muladd(v, p, 0.041666666666666632053)
        p = muladd(v, p, 0.16666666666666666671)
        p = muladd(v, p, 0.50000000000000000085)
    return v * v * p


@scalar
def kappa(u, single):
    """(u tanh(u/2) / 2 - log cosh(u/2)) / 2 for |u| <= 2: what JS is of log-ratios."""
    w = u * u
    if single:
        p = muladd(w, 2.9051849202926132616e-8, -6.8843497782534438486e-7)
        p = muladd(w, p, 8.8887352810301332007e-6)
        p = muladd(w, p, -0.000091293231056116693456)
        p = muladd(w, p, 0.00086745629877256746271)
        p = muladd(w, p, -0.0078123533264641503299)
        p = muladd(w, p, 0.06249999403821387395)
    else:
        p = muladd(w, -6.9606016909544943816e-18, 2.9123281706988472023e-16)
        p = muladd(w, p, -6.0951565461697510649e-15)
        p = muladd(w, p, 8.8023776613888402665e-14)
        p = muladd(w, p, -1.0285079642738775056e-12)
        p = muladd(w, p, 1.0775465748988592811e-11)
        p = muladd(w, p, -1.0780986576618014398e-10)
        p = muladd(w, p, 1.0620841897374725245e-9)
        p = muladd(w, p, -1.0412063454618402149e-8)
        p = muladd(w, p, 1.0179212512270481693e-7)
        p = muladd(w, p, -9.9177604181189199841e-7)
        p = muladd(w, p, 9.6106149335314378223e-6)
        p = muladd(w, p, -0.000092230902745074733108)
        p = muladd(w, p, 0.00086805555555169066313)
        p = muladd(w, p, -0.0078124999999998188448)
        p = muladd(w, p, 0.062499999999999998586)
    return w * p


@scalar
def two_sum(a, b):
    """a + b as its rounding and the exact error; the error is 0 where the sum is not finite."""
    s = a + b
    t = s - a
    low = (a - (s - t)) + (b - t)
    return s, (low if abs(s) < math.inf else 0.0)


@scalar
def two_product(a, b):
    """a * b as its rounding and the exact error."""
    p = a * b
    return p, exact_fma(a, b, -p)
