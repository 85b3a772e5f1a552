"""Terms of KL and JS of two rows of logits, element by element, and loops over arrays of them.

A mass is e_a = 2^−n·exp(a/T), n a whole number near the row's maximum over T·ln 2: the octaves of n
come off for nothing, and no difference a − m is rounded. The masses of b get the factor that makes
them 2^−n·exp(b/T − c), so that v = (b − a)/T − c is the logarithm of their ratio. Any constant c of
the row will do; rows that have none need a single subtraction for v.

A mass is never below the normal range, and v is 4 where that of a ends: a class without mass then
needs no case of its own, and what it adds is below 1e-30 (float) or 1e-300.
"""

from libc.stdint cimport int32_t, uint32_t

from fastent.backends.cython.arithmetic.functions cimport (
    FE_OCTAVE, INFINITY, c_fma, fe_bits_float, fe_poly, kappa, lost_by, madd, magnitude, phi, real,
)
from fastent.backends.cython.kernels.logits_exp cimport Scale, exp_in_octaves
from fastent.backends.cython.arithmetic.scratch cimport ROOM

cdef enum:                              # where the arrays of a piece stand in scratch memory
    MASS_A = 0
    MASS_B = ROOM
    GAP = 2 * ROOM                      # terms of Σ e_a·φ(v), or of JS
    MASS_DIFFERENCE = 3 * ROOM                    # terms of Σ (e_b − e_a)
    SHIFT_A = GAP                       # before that: what makes octaves of a, and of b
    SHIFT_B = MASS_DIFFERENCE
    CENTRE = 4 * ROOM                   # c in units of the logits, in two parts
    CENTRE_LOW = 5 * ROOM
    FACTOR = 6 * ROOM
    SPARE = 7 * ROOM
    PER_A = GAP                         # JS: 1/Σ e_a and 1/Σ e_b
    PER_B = MASS_DIFFERENCE


cdef inline real octave_origin(real unused) noexcept nogil:
    """Its sum with a number below 2^21 is that number rounded, in the low bits."""
    return <real>12582912.0 if real is float else <real>6755399441055744.0


cdef inline double octave(bint single) noexcept nogil:
    """ln 2 as `mass_of` has it: one float will do, as its error counts in the octaves below n only."""
    return FE_OCTAVE if single else 0.69314718055994530942


cdef inline real end_of_mass(real unused) noexcept nogil:
    """Masses up to it stand for none."""
    return <real>2.4e-38 if real is float else <real>4.5e-308


cdef inline real mass_of(real x, real shift, Scale scale) noexcept nogil:
    """2^−n·exp(x/T) for shift = octave_origin − n. What is too small is raised before, so that it
    comes out as one and the same small number."""
    cdef real least
    if real is float:
        least = ((<real>12582912.0 - shift) - <real>125) * <real>0.6931472
    else:
        least = ((<real>6755399441055744.0 - shift) - <real>1021) * scale.high
    return exp_in_octaves(x if x > least else least, shift, scale)


cdef inline void split_centre(double centre, double centre_low, Scale scale, real *high, real *low) noexcept nogil:
    """c in units of the logits, in two parts."""
    cdef double product = centre * scale.temperature
    high[0] = <real>product
    low[0] = <real>((product - <double>high[0]) + c_fma(centre, scale.temperature, -product)
                    + centre_low * scale.temperature)


cdef inline real log_ratio(bint plain, real a, real b, real c, real c_low, Scale scale) noexcept nogil:
    """v = (b − a)/T − c, the difference rounded once although b − a is rounded. `plain`, a constant: c is 0."""
    cdef real v = b - a
    if not plain:
        v = (v - c) + (lost_by(b, a, v) - c_low)
    return v if real is float else v * <real>scale.inverse


cdef inline real cut(real v, real mass) noexcept nogil:
    """v, or a little where a has no mass, unless it has some that b cannot have. Bits of floats are
    compared as integers: that goes beside the multiplications, a comparison of floats does not."""
    cdef bint none
    if real is float:
        none = <int32_t>fe_bits_float(mass) <= 0x01015546           # end_of_mass
        return <real>4 if none & (fe_bits_float(v) != <uint32_t>0xff800000) else v
    else:
        return <real>4 if (mass <= end_of_mass(v)) & (v != <real>-INFINITY) else v


cdef inline bint is_near(real v) noexcept nogil:
    """Whether e_a·φ(v) is summed as that."""
    if real is float:
        return <int32_t>fe_bits_float(magnitude(v)) <= 0x3fa00000   # 1.25
    else:
        return magnitude(v) <= <real>1.25


cdef inline void near_terms(real ea, real v, real *gap, real *mass_difference) noexcept nogil:
    """The same as `kl_terms` where v is near and a has mass."""
    gap[0] = ea * phi(v)
    mass_difference[0] = ea * v + gap[0]


cdef inline void kl_terms(real ea, real eb, real v, real *gap, real *mass_difference) noexcept nogil:
    """e_a·φ(v) and e_b − e_a."""
    cdef real d = eb - ea, product, term
    cdef bint near
    v = cut(v, ea)
    near = is_near(v)
    product = ea * v
    term = ea * phi(v)
    gap[0] = term if near else d - product
    mass_difference[0] = product + term if near else d


cdef inline real far_log1p(real z, real high) noexcept nogil:
    """½·log1p(z/high) for z <= 0.136·high: atanh of z/(2·high + z), its series cut off below 4e-9 (1e-17)."""
    cdef real s = z / madd(<real>2, high, z), w = s * s, t
    if real is float:
        t = madd(<real>0.2, w, <real>0.33333333333333333333)
    else:
        t = fe_poly(w, 0.076923076923076923077, 0.090909090909090909091, 0.11111111111111111111,
                       0.14285714285714285714, 0.2, 0.33333333333333333333)
    return madd(s * w, t, s)


cdef inline real js_term(real p, real q, real v) noexcept nogil:
    """(p + q)·κ(v) for probabilities p and q, v = log(q/p)."""
    cdef real low, high, far
    v = magnitude(v)
    v = v if v < <real>1000 else <real>1000
    low = p if p < q else q
    high = q if p < q else p
    far = (p + q) * (<real>0.34657359027997265471 - far_log1p(low, high))
    far = madd(<real>-0.5 * v, low, far)
    return (p + q) * kappa(v) if v <= 2 else far


cdef inline void kl_of_classes(bint plain, const real *a, const real *b, Py_ssize_t n, Scale scale, real *t) noexcept nogil:
    """`plain`, a constant: rows with c = 0 and octaves in common."""
    cdef Py_ssize_t i
    cdef real x, y, ea, eb
    for i in range(n):
        x = a[i]
        y = b[i]
        ea = mass_of(x, t[SHIFT_A + i], scale)
        eb = mass_of(y, t[SHIFT_A + i], scale) if plain else mass_of(y, t[SHIFT_B + i], scale) * t[FACTOR + i]
        t[MASS_A + i] = ea
        kl_terms(ea, eb, log_ratio(plain, x, y, t[CENTRE + i], t[CENTRE_LOW + i], scale),
                 t + GAP + i, t + MASS_DIFFERENCE + i)


cdef inline void masses(const real *a, const real *b, Py_ssize_t n, Scale scale, real *t) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        t[MASS_A + i] = mass_of(a[i], t[SHIFT_A + i], scale)
        t[MASS_B + i] = mass_of(b[i], t[SHIFT_B + i], scale) * t[FACTOR + i]


cdef inline void js_of_classes(const real *a, const real *b, Py_ssize_t n, Scale scale, real *t) noexcept nogil:
    """Of the masses in their places."""
    cdef Py_ssize_t i
    cdef real v
    for i in range(n):
        v = log_ratio(False, a[i], b[i], t[CENTRE + i], t[CENTRE_LOW + i], scale)
        t[GAP + i] = js_term(t[MASS_A + i] * t[PER_A + i], t[MASS_B + i] * t[PER_B + i], v)
