"""exp, log, log1p and the non-negative remainders behind KL and JS, for float32 and float64.

Written once for vectors and single numbers of either type (see `vectors`); polynomials differ in
degree. Bounds and their arguments: docs/numerics.md. Zeros, infinities and NaN are the business of
the caller unless said otherwise.
"""

import math
from fractions import Fraction
from functools import lru_cache

from .loops import largest
from .vectors import HAS_FMA, choose, madd, polynomial

LN2 = 0.6931471805599453
LEAST_DOUBLE = 2.2250738585072014e-308
EXACT_LN2 = Fraction(0x2C5C85FDF473DE6AF278ECE600FCBDABD, 1 << 130)  # to 130 bits
FLUSH = 708.0  # exp(-708) = 3e-308: beyond, 0 is within the absolute bound


@lru_cache(maxsize=64)
def reduction_unit(temperature):
    """What reduces x for exp(x / temperature) without dividing x first: log2(e) / T, the leading 32
    bits of T ln 2, the rest of it, 1 / T and the flush limit."""
    exact = Fraction(temperature) * EXACT_LN2
    (high,) = split(exact, 1, 32)
    rest = float(exact - Fraction(high))
    return (1.0 / float(exact), high, rest, 1.0 / temperature, -FLUSH * temperature)


def split(exact, parts, bits=53):
    """An exact number as `parts` floats, the leading ones cut to `bits` bits."""
    found = []
    for _ in range(parts):
        mantissa, exponent = math.frexp(float(exact))
        piece = math.ldexp(math.floor(math.ldexp(mantissa, bits)), exponent - bits)
        found.append(piece)
        exact -= Fraction(piece)
    return tuple(found)


def in_pairs(x, *coefficients):
    """A `polynomial` by two steps at once, as a chain of single ones waits for itself."""
    first = len(coefficients) % 2
    total = x.filled(coefficients[0]) if first else polynomial(x, *coefficients[:2])
    for k in range(first or 2, len(coefficients), 2):
        total = madd(x * x, total, polynomial(x, *coefficients[k : k + 2]))
    return total


def even_and_odd(x, *coefficients):
    """A `polynomial` as two chains, of its even and of its odd powers."""
    even, odd = coefficients[::-2][::-1], coefficients[-2::-2][::-1]
    return madd(polynomial(x * x, *odd), x, polynomial(x * x, *even))


def series(single, double):
    """A `polynomial` of its own for each width."""
    return lambda x: polynomial(x, *(single if x.single else double))


def gap(x, y, d=None, rising=False):
    """x·log(x/y) − x + y >= 0 for normal x, y > 0 and d = y − x, rounded once.

    y is brought within a factor 2 of x by whole octaves, rounded towards zero, so that nothing
    cancels: log(x/y') by atanh of s = (y' − x)/(y' + x). `rising`: y >= x.
    """
    near, octaves = without_octaves(y, x, rising)
    difference = near - x if d is None else choose(octaves.same(0.0), d, near - x)
    return near_gap(x, near, difference, madd(x, octaves, y - near))


def kl_term(x, y, d):
    """The same where x and y may be 0: x = 0 gives y, y = 0 < x infinity."""
    value = choose(x.same(0.0), y, gap(x, y, d))
    return choose(y.same(0.0) & (x > 0.0), math.inf, value)


def lifted(x):
    """x times a power that makes every subnormal probability normal and cancels in ratios of sums;
    0 becomes a speck, so that nothing divides by it or takes its logarithm."""
    return madd(x, 2.0**64 if x.single else 2.0**512, speck(x))


def speck(x):
    """What 0 is replaced by beside lifted numbers: the least of them rounds it away."""
    return x.filled(2.0**-112 if x.single else 2.0**-620)


def is_speck(y):
    """Its sign bit says so, of a lifted number."""
    return y.bits() - speck(y).bits() - 1


def without_octaves(y, x, rising=False):
    """y within a factor 2 of x > 0, by whole octaves, rounded towards zero, and how many times
    −ln 2. `rising`: y >= x."""
    if x.single:
        whole = y.bits() - x.bits()
        if not rising:
            whole = whole + ((whole >> 31) & 0x7FFFFF)
        whole = whole & -0x800000
        return (y.bits() - whole).as_number(), whole.converted() * -8.26295829486781727573e-8
    # AVX2 has neither a 64-bit arithmetic shift nor int64 -> double: high words, and a biased
    # count of octaves that becomes a double by its bits
    high = y.bits().logical_shift(32) - x.bits().logical_shift(32)
    if not rising:
        high = high + ((high.logical_shift(63) << 20) - high.logical_shift(63))
    m = (high + (4096 << 20)).logical_shift(20)
    octaves = (m | 0x4330000000000000).as_number() - 4503599627374592.0
    return (y.bits() - (m << 52)).as_number(), octaves * -LN2


# −2(atanh(s)/s − 1)/s² for w = s² in [0, 1/9], its error weighted as `near_gap` needs it
atanh_tail = series(
    (-0.27606210526046814049, -0.28089700000151978045, -0.40015743530857887641,
     -0.66666525861133859984),
    (-0.17398834775955963923, -0.10073143560365455712, -0.13550895875138710497,
     -0.15368260395983356528, -0.18182556187391516439, -0.22222202700705908724,
     -0.28571428851501432461, -0.39999999998164301369, -0.66666666666670238462),
)  # fmt: skip


def near_gap(x, y, d, far=None):
    """x·log(x/y) − x + y + far for y within a factor 2 of x > 0 and d = y − x, rounded once."""
    s = d / (y + x)
    w = s * s
    inner = madd(x * w, atanh_tail(w), d)
    return s * inner if far is None else madd(s, inner, far)


def excess(v):
    """v − log1p(v) >= 0 for v > −1."""
    one = v.filled(1.0)
    return kl_term(one, v + 1.0, v)


NEAR = 0.00390625  # sums that are checked are nearer to 1: short series, and a division less


def near_excess(v):
    """The same over v² in float64 for |v| <= NEAR."""
    return polynomial(
        v, -0.14286053375868146583, 0.16666952773180559654, -0.19999999996927858366,
        0.24999999998362876243, -0.33333333333333340735, 0.50000000000000001388,
    )  # fmt: skip


def log_total(wide, total, sound):
    """log(total) in float64, and whether a row is `sound`: only sums near 1 are, if not `wide`."""
    near, v = abs(total - 1.0) <= NEAR, total - 1.0
    log = madd(-v * v, near_excess(v), v)
    if wide:
        return choose(near, log, log_positive(total)), sound
    return log, sound & near


def log_ratio(rest, own):
    """log1p(rest/own) in float64 for 0 <= rest <= own: 2 atanh(rest/(2 own + rest))."""
    s = rest / (own + own + rest)
    w = s * s
    return s * madd(-w, atanh_tail(w), 2.0)


# (e^r − 1 − r)/r² on ±0.36
exp_tail = series(
    (0.0013929125370749966632, 0.0083655341115735858489, 0.041666536253543594824,
     0.16666562289211806851, 0.5),
    (2.0917677381805068175e-9, 2.5109404672957822402e-8, 2.7557266175047446732e-7,
     2.7557244942221746346e-6, 0.000024801587331670254509, 0.00019841269883394330142,
     0.0013888888888881926351, 0.0083333333333235837498, 0.041666666666666671179,
     0.16666666666666672985, 0.5),
)  # fmt: skip


def rounder(x):
    """Adding it leaves the nearest integer in the low bits."""
    return 12582912.0 if x.single else 6755399441055744.0


def times_power(e, shifted):
    """e·2^n, n in the low bits of `shifted`; both e and the result normal."""
    return (e.bits() + (shifted.bits() << (23 if e.single else 52))).as_number()


def exp_reduced(r, shifted):
    """e^r·2^n for |r| <= 0.36."""
    return times_power(madd(r * r, exp_tail(r), r) + 1.0, shifted)


SINGLE_UNIT = 1.4426950408889634, 0.693359375, -2.12194440054690583e-4, 1.0, -87.0


def exp_of_sum(high, low, unit):
    """exp((high + low)/T) for high <= 0, |low| of the size of its rounding error; 0 below the
    normal range. Rounding the difference first would cost 4e-6 at the far end of float32, where T
    is 1. Constants of `reduction_unit`."""
    per_octave, octave, rest, inverse, limit = SINGLE_UNIT if high.single else unit
    shifted = madd(high, per_octave, rounder(high))
    n = shifted - rounder(high)
    r = (madd(-n, octave, high) - madd(n, rest, -low)) * inverse
    return choose(high >= limit, exp_reduced(r, shifted), 0.0)


def _octaves(m, unit):
    """(origin, m − origin, whole octaves of that): what is taken off x before its octaves is m
    itself if it is so large that x − m is exact wherever exp(x − m) > 0, and nothing else, since
    rounding x − m would cost 4e-6 in float32 at a gap of 70."""
    far = 256.0 if m.single else 1500.0 / unit[3]
    origin = choose(abs(m) >= far, m, 0.0)
    rest = m - origin
    per_octave = 1.4426950408889634 if m.single else unit[0]
    return origin, rest, (rest * per_octave + rounder(m)) - rounder(m)


def row_scale(m, unit):
    """What `exp_scaled` needs to know of a row whose maximum is m."""
    origin, rest, octaves = _octaves(m, unit)
    low = rest - 86.0 if m.single else rest - 707.0 / unit[3]
    return m, origin, low, rounder(m) - octaves, unit


def exp_scaled(x, row):
    """exp((x − m)/T) over the `row_factor` for x < m, else 0; and a Mask of x < m. Neither
    x − m nor its rounding is needed. In float32 what is below the normal range stays at its end."""
    m, origin, low, shift, unit = row
    t, under = x - origin, x < m
    kept = under if x.single else under & (t >= low)
    t = largest(t, low) if x.single else t
    shifted = madd(t, 1.4426950408889634 if x.single else unit[0], shift)
    value = exp_reduced(less_octaves(t, shifted - shift, unit), shifted)
    return choose(kept, value, 0.0), under


OCTAVE = 0.69314718246459960938 if HAS_FMA else LN2  # as `less_octaves` has it


def less_octaves(t, n, unit=None):
    """(t − n·T·ln 2)/T; in float32, where T is 1, by one constant where the product is exact:
    `row_factor` takes it too."""
    if t.single and HAS_FMA:
        return madd(-n, OCTAVE, t)
    if t.single:
        return madd(-n, -2.12194440054690583e-4, madd(-n, 0.693359375, t))
    return madd(-n, unit[2], madd(-n, unit[1], t)) * unit[3]


def row_factor(m, single, unit):
    """exp(((m − origin)/T) over its octaves, inverted: what `exp_scaled` leaves out, in float64."""
    if single:
        _, rest, octaves = (number.wide() for number in _octaves(m.narrow(), unit))
        r = rest - octaves * OCTAVE
    else:
        _, rest, octaves = _octaves(m, unit)
        r = less_octaves(rest, octaves, unit)
    return madd(r * r, exp_tail(-r), -r) + 1.0


def lost_by(x, m, high):
    """What the rounding of high = x − m lost; nothing where the difference is infinite."""
    back = high - x
    low = (x - (high - back)) + (-m - back)
    return choose(high > -math.inf, low, 0.0)


phi_tail = series(
    (2.6708717471550330882e-8, 2.9721254460548687576e-7, 2.7498767046351810566e-6,
     0.000024724989935296362183, 0.00019842109974706421475, 0.0013889988672722743161,
     0.0083333291243386372418, 0.041666611551954950061, 0.16666666700351318191,
     0.50000000441109037592),
    (8.5803578497942620733e-18, 1.6376126325516947007e-16, 2.8087409252747675917e-15,
     4.7737580214960734068e-14, 7.6472739571951974328e-13, 1.1470977753219091082e-11,
     1.6059041233681633512e-10, 2.0876751504173478155e-9, 2.5052108421528207929e-8,
     2.7557319300013138664e-7, 2.7557319223705003738e-6, 0.000024801587300995484599,
     0.0001984126984127093615, 0.0013888888888891195858, 0.0083333333333333316906,
     0.041666666666666632053, 0.16666666666666666671, 0.50000000000000000085),
)  # fmt: skip


def phi(v):
    """e^v − 1 − v on |v| <= 2."""
    return v * v * phi_tail(v)


kappa_tail = series(
    (2.9051849202926132616e-8, -6.8843497782534438486e-7, 8.8887352810301332007e-6,
     -0.000091293231056116693456, 0.00086745629877256746271, -0.0078123533264641503299,
     0.06249999403821387395),
    (-6.9606016909544943816e-18, 2.9123281706988472023e-16, -6.0951565461697510649e-15,
     8.8023776613888402665e-14, -1.0285079642738775056e-12, 1.0775465748988592811e-11,
     -1.0780986576618014398e-10, 1.0620841897374725245e-9, -1.0412063454618402149e-8,
     1.0179212512270481693e-7, -9.9177604181189199841e-7, 9.6106149335314378223e-6,
     -0.000092230902745074733108, 0.00086805555555169066313, -0.0078124999999998188448,
     0.062499999999999998586),
)  # fmt: skip


def kappa(u):
    """½[(u/2)·tanh(u/2) − log cosh(u/2)] on |u| <= 2: what JS is of log-ratios."""
    return u * u * kappa_tail(u * u)


def log_of_reduced(f, e):
    """log1p(f) + e·ln 2 for f in [√½ − 1, √2 − 1] and a whole e."""
    if f.single:
        tail = polynomial(
            f, 0.069716114714511778317, -0.11479733846637635556, 0.11685419923486739308,
            -0.12425687331451106113, 0.14249057645697480404, -0.16667802319501254074,
            0.20000715748892101743, -0.24999996957950882045, 0.33333331180030048052,
        )  # fmt: skip
        w = f * f
        tail = madd(w * f, tail, e * -2.12194440054690583e-4)
        return madd(e, 0.693359375, f + (tail - 0.5 * w))
    s = f / (f + 2.0)
    w = s * s
    tail = polynomial(
        w, 0.073085187743958250731, 0.076658370150839309258, 0.090914452783478017639,
        0.11111105557572080752, 0.14285714313047945769, 0.19999999999949619489,
        0.33333333333333348477,
    )  # fmt: skip
    half = 0.5 * f * f
    tail = s * (half + 2.0 * w * tail)
    return e * 6.93147180369123816490e-01 - ((half - (tail + e * 1.90821492927058770002e-10)) - f)


def _reduced(x):
    """f and e of log1p(f) + e·ln 2 = log x for a normal x > 0."""
    if x.single:  # 0x3F3504F3 is √½: the mantissa lands in [√½, √2)
        k = (x.bits() - 0x3F3504F3) >> 23
        return (x.bits() - (k << 23)).as_number() - 1.0, k.converted()
    k = (x.bits() - 0x3FE6A09E667F3BCD + (2048 << 52)).logical_shift(52)  # exponent + 2048
    f = (x.bits() - (k << 52) + (2048 << 52)).as_number() - 1.0
    return f, (k | 0x4330000000000000).as_number() - 4503599627372544.0


def surprisal_of(x, octaves=0):
    """−log(x·2^−octaves) for a normal x > 0 and a result of 0.28 at least: its error is an absolute
    one. 0 and subnormal numbers give something finite."""
    if x.single:
        whole = (x.bits() - 0x3F3504F3) & -0x800000
        m = (x.bits() - whole).as_number()
        s = (1.0 - m) / (1.0 + m)
        tail = polynomial(
            s * s, 0.29961260160059209527, 0.39973603887646991634, 0.66666816695714421379, 2.0
        )
        whole = whole.filled(octaves << 23) - whole
        return madd(s, tail, whole.converted() * 8.26295829486781727573e-8)
    f, e = _reduced(x)
    s = -f / (f + 2.0)
    tail = polynomial(
        s * s, 0.16896585151252850002, 0.18116597714706797289, 0.22223615985342849839,
        0.28571413192052701155, 0.40000000081061584305, 0.66666666666513849451, 2.0,
    )  # fmt: skip
    return madd(s, tail, (octaves - e) * LN2)


def log_normal(x):
    """log(x) for a normal x > 0."""
    return log_of_reduced(*_reduced(x))


def log1p_of(x):
    """log1p(x) for x > −1 in float64, infinity included."""
    u = x + 1.0
    f, e = _reduced(u)
    whole = e.same(0.0)
    # what 1 + x lost, relative to u: matters up to u = 2^53 only, and an eighth of it does not, so
    # 1/u comes from the bits of u
    lost = choose(whole | (u >= 9007199254740992.0), 0.0, x - (u - 1.0))
    inverse = (u.filled(0.0).bits() - u.bits() + 0x7FDE623822FC16E6).as_number()
    lost = lost * inverse
    value = log_of_reduced(choose(whole, x, f), e) + lost
    return choose(u < math.inf, value, u)


def log_positive(x):
    """log(x) in float64 for any x > 0, subnormal ones and infinity included; 0 gives −infinity."""
    small = x < LEAST_DOUBLE
    value = log_normal(choose(small, x * 18014398509481984.0, x))
    value = value - choose(small, x.filled(37.429947750237047), 0.0)
    value = choose(x.same(0.0), -math.inf, value)
    return choose(x < math.inf, value, x)


def log_of(wide, x, sound):
    """log(x) in float64, and whether a row is `sound`: only normal x are, if not `wide`."""
    if wide:
        return log_positive(x), sound & (x >= 0.0)
    return log_normal(x), sound & (x >= LEAST_DOUBLE)


def log1p_unit(e):
    """log1p(e) for e in [0, 1]."""
    small = e < 0.41421356
    whole = choose(small, e.filled(0.0), 1.0)
    return log_of_reduced(choose(small, e, (e - 1.0) * 0.5), whole)
