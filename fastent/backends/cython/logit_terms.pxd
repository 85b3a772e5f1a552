"""Terms of KL and JS of two rows of logits, element by element: loops over arrays in scratch memory.

A mass is e_a = 2^−n·exp(a/T), n a whole number near the row's maximum over T·ln 2: the octaves of n
come off for nothing, and no difference a − m is rounded. The masses of b get the factor that makes
them 2^−n·exp(b/T − c), so that v = (b − a)/T − c is the logarithm of their ratio. Any constant c of
the row will do; rows that have none need a single subtraction for v.

A mass is never below the normal range, and v is 4 where that of a ends: a class without mass then
needs no case of its own, and what it adds is below 1e-30 (float) or 1e-300.
"""

from libc.stdint cimport int32_t, uint32_t

from fastent.backends.cython.elementary cimport (
    FE_OCTAVE, INFINITY, fe_bits_float, fe_from_bits_float, fe_less_octaves, kappa, log1p_unit,
    lost_by, madd, magnitude, phi, real, times_power,
)
from fastent.backends.cython.exponentials cimport Scale, exp_over
from fastent.backends.cython.kernels cimport ROOM

ctypedef fused source:
    float
    double

cdef enum:                              # where the arrays of a piece stand in scratch memory
    MASS_A = 0
    MASS_B = ROOM
    GAP = 2 * ROOM                      # terms of Σ e_a·φ(v), or of JS
    DRIFT = 3 * ROOM                    # terms of Σ (e_b − e_a)
    SHIFT_A = GAP                       # before that: what makes octaves of a, and of b
    SHIFT_B = DRIFT
    CENTRE = 4 * ROOM                   # c in units of the logits, in two parts
    CENTRE_LOW = 5 * ROOM
    FACTOR = 6 * ROOM
    SPARE = 7 * ROOM
    PER_A = GAP                         # JS: 1/Σ e_a and 1/Σ e_b
    PER_B = DRIFT


cdef inline real octave_origin(real unused) noexcept nogil:
    """Its sum with a number below 2^21 is that number rounded, in the low bits."""
    if real is float:
        return <real>12582912.0
    else:
        return <real>6755399441055744.0


cdef inline double octave(real unused) noexcept nogil:
    """ln 2 as `mass_of` has it: one float will do, as its error counts in the octaves below n only."""
    return FE_OCTAVE if real is float else 0.69314718055994530942


cdef inline real end_of_mass(real unused) noexcept nogil:
    """Masses up to it stand for none."""
    if real is float:
        return <real>1.7e-38
    else:
        return <real>4.5e-308


cdef inline real mass_of(real x, real shift, Scale scale) noexcept nogil:
    """2^−n·exp(x/T) for shift = octave_origin − n. What is too small is cut off before, so that it
    comes out as one and the same small number."""
    cdef real shifted, r, w, t
    cdef int32_t octaves
    cdef uint32_t rest
    if real is float:
        # as integers, which go beside the multiplications; a comparison of floats does not
        octaves = <int32_t>fe_bits_float(madd(x, <real>1.4426950408889634, shift))
        octaves = octaves if octaves > 0x4b3fff83 else 0x4b3fff83               # n − 125
        shifted = fe_from_bits_float(<uint32_t>octaves)
        rest = fe_bits_float(fe_less_octaves(x, shifted - shift))
        rest = rest if rest < <uint32_t>0xbec00000 else <uint32_t>0xbec00000    # −0.375
        r = fe_from_bits_float(rest)
        w = r * r
        t = madd(madd(<real>0.0013929125370749966632, r, <real>0.0083655341115735858489), w,
                 madd(<real>0.041666536253543594824, r, <real>0.16666562289211806851))
        return times_power(madd(madd(t, r, <real>0.5), w, r) + <real>1, shifted)
    else:
        w = ((<real>6755399441055744.0 - shift) - <real>1021) * scale.high
        x = x if x > w else w
        shifted = madd(x, 1.4426950408889634074 * scale.inverse, shift)
        r = shift - shifted
        r = madd(r, scale.low, madd(r, scale.high, x)) * scale.inverse
        w = r * r
        t = madd(madd(<real>2.0917677381805068175e-9, r, <real>2.5109404672957822402e-8), w,
                 madd(<real>2.7557266175047446732e-7, r, <real>2.7557244942221746346e-6))
        t = madd(t, w, madd(<real>0.000024801587331670254509, r, <real>0.00019841269883394330142))
        t = madd(t, w, madd(<real>0.0013888888888881926351, r, <real>0.0083333333333235837498))
        t = madd(t, w, madd(<real>0.041666666666666671179, r, <real>0.16666666666666672985))
        return times_power(madd(madd(t, r, <real>0.5), w, r) + <real>1, shifted)


cdef inline real centred(real a, real b, real c, real c_low) noexcept nogil:
    """(b − a) − c, the difference rounded once although b − a is rounded."""
    cdef real d = b - a
    cdef real low = lost_by(b, a, d)
    return (d - c) + (low - c_low)


cdef inline real cut(real v, real mass) noexcept nogil:
    """v, or a little where a has no mass, unless it has some that b cannot have."""
    return <real>4 if (mass <= end_of_mass(v)) & (v != <real>-INFINITY) else v


cdef inline void put_kl(real ea, real eb, real v, real *t) noexcept nogil:
    """Masses, e_a·φ(v) and e_b − e_a."""
    cdef real d = eb - ea, product, term
    cdef bint near
    v = cut(v, ea)
    near = magnitude(v - <real>0.125) <= <real>1.375
    product = ea * v
    term = ea * phi(v)
    t[MASS_A] = ea
    t[MASS_B] = eb
    t[GAP] = term if near else d - product
    t[DRIFT] = product + term if near else d


cdef inline void put_js(real p, real q, real v, real *t) noexcept nogil:
    """(p + q)·κ(v) for probabilities p and q, v = log(q/p)."""
    cdef real low, high, far
    v = v if v > <real>-1000 else <real>-1000
    low = p if p < q else q
    high = q if p < q else p
    far = <real>0.5 * (p + q) * (<real>0.69314718055994530942 - log1p_unit(low / high))
    far = far - <real>0.5 * magnitude(v) * low
    t[GAP] = (p + q) * kappa(v) if magnitude(v) <= 2 else far


cdef inline void plain_kl(const source *a, const source *b, Py_ssize_t n, Scale scale, real *t) noexcept nogil:
    """Rows with c = 0 and octaves in common."""
    cdef Py_ssize_t i
    cdef real x, y, shift, v, inverse = <real>scale.inverse
    for i in range(n):
        x = a[i]
        y = b[i]
        shift = t[SHIFT_A + i]
        v = y - x
        if real is double:
            v = v * inverse
        put_kl(mass_of(x, shift, scale), mass_of(y, shift, scale), v, t + i)


cdef inline void centred_kl(const source *a, const source *b, Py_ssize_t n, Scale scale, real *t) noexcept nogil:
    """Rows with a centre."""
    cdef Py_ssize_t i
    cdef real x, y, ea, eb, v, inverse = <real>scale.inverse
    for i in range(n):
        x = a[i]
        y = b[i]
        ea = mass_of(x, t[SHIFT_A + i], scale)
        eb = mass_of(y, t[SHIFT_B + i], scale) * t[FACTOR + i]
        v = centred(x, y, t[CENTRE + i], t[CENTRE_LOW + i])
        if real is double:
            v = v * inverse
        put_kl(ea, eb, v, t + i)


cdef inline void masses(const source *a, const source *b, Py_ssize_t n, Scale scale, real *t) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        t[MASS_A + i] = mass_of(<real>a[i], t[SHIFT_A + i], scale)
        t[MASS_B + i] = mass_of(<real>b[i], t[SHIFT_B + i], scale) * t[FACTOR + i]


cdef inline void centred_js(const source *a, const source *b, Py_ssize_t n, Scale scale, real *t) noexcept nogil:
    """Of the masses in their places."""
    cdef Py_ssize_t i
    cdef real x, y, v, inverse = <real>scale.inverse
    for i in range(n):
        x = a[i]
        y = b[i]
        v = centred(x, y, t[CENTRE + i], t[CENTRE_LOW + i])
        if real is double:
            v = v * inverse
        x = t[MASS_A + i]
        put_js(x * t[PER_A + i], t[MASS_B + i] * t[PER_B + i], cut(v, x), t + i)


cdef inline void far_row(const source *a, const source *b, Py_ssize_t n, double top_a, double top_b, double c, double c_low,
                         double factor, Scale scale, double *t, double *v) noexcept nogil:
    """Masses and v of a row of any size: each operand is taken from its own maximum first, in two
    parts, as the low parts of b − a would be rounded in units of its size."""
    cdef Py_ssize_t i
    cdef double x, ah, al, bh, bl, e, f, inverse = scale.inverse, least = end_of_mass(inverse)
    for i in range(n):
        x = a[i]
        ah = x - top_a
        al = lost_by(x, top_a, ah)
        x = b[i]
        bh = x - top_b
        bl = lost_by(x, top_b, bh)
        e = exp_over(ah, al, scale)
        f = exp_over(bh, bl, scale) * factor
        t[MASS_A + i] = e if e > least else least
        t[MASS_B + i] = f if f > least else least
        v[i] = (((bh - ah) - c) + ((bl - al) - c_low)) * inverse


cdef inline void far_kl(Py_ssize_t n, const double *v, double *t) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        put_kl(t[MASS_A + i], t[MASS_B + i], v[i], t + i)


cdef inline void far_js(Py_ssize_t n, const double *v, double per_a, double per_b, double *t) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        put_js(t[MASS_A + i] * per_a, t[MASS_B + i] * per_b, cut(v[i], t[MASS_A + i]), t + i)
