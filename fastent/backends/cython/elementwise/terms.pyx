"""The terms of entropy and divergence, one value for each element, with SciPy's edges.

A block is mapped into a local array first: `out` may be the input, and no compiler vectorises a
loop whose arrays may overlap. Numbers so small or large that bit tricks, squares or sums would leave
the normal range are then done again one at a time, scaled; a value depends on its element alone.
"""

from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy

from fastent.backends.cython.arithmetic.functions cimport (
    FE_STEP, INFINITY, NAN, atanh_tail, kl_term, log_in_octaves, log_positive, madd, real, without_octaves,
)
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.elementwise.terms cimport BLOCK, ENTR, REL_ENTR, Name, Terms


cdef inline real least(real unused) noexcept nogil:
    """Below it, and above its inverse, numbers are scaled before they are divided or added, or
    multiplied with octaves in units of 2^-23."""
    return <real>8.077935669463161e-28 if real is float else <real>1.1830521861667747e-271  # 2^-90, 2^-900


cdef inline bint far(real x) noexcept nogil:
    """Whether a finite x > 0 must be scaled."""
    return ((x > 0) & (x < least(x))) | ((x > 1 / least(x)) & (x < <real>INFINITY))


cdef inline real log_ratio(real x, real y) noexcept nogil:
    """log(x/y) for normal x, y > 0: y is brought within a factor 2 of x by whole octaves, rounded
    towards zero, so that both parts have one sign."""
    cdef real octaves, near = without_octaves(y, x, False, &octaves)
    cdef real s = (x - near) / (x + near), w = s * s
    cdef real step = <real>8.26295829486781727573e-8 if real is float else <real>FE_STEP    # ln 2·2^-23
    return madd(-(s * w), atanh_tail(w), (s + s) - octaves * step)


cdef inline real entr_of(real x) noexcept nogil:
    cdef bint small = x < least(x)
    cdef int octaves = 24 if real is float else 54
    cdef real lifted = x * <real>(<uint64_t>1 << octaves) if small else x
    cdef real v = -x * log_in_octaves(lifted, <real>(octaves if small else 0))
    v = <real>0 if x == 0 else v
    v = -<real>INFINITY if (x < 0) | (x == <real>INFINITY) else v
    return x if x != x else v


cdef inline real rel_entr_of(real x, real y) noexcept nogil:
    cdef real v = x * log_ratio(x, y)
    cdef bint endless = x == <real>INFINITY
    v = -<real>INFINITY if y == <real>INFINITY else v
    v = (<real>NAN if y == <real>INFINITY else <real>INFINITY) if endless else v
    v = <real>0 if x == 0 else v
    v = <real>INFINITY if (x < 0) | (y < 0) | ((y == 0) & (x > 0)) else v
    return x + y if (x != x) | (y != y) else v


cdef inline real kl_div_of(real x, real y) noexcept nogil:
    cdef real v = kl_term(x, y, y - x)
    v = <real>INFINITY if (x < 0) | (y < 0) | (x == <real>INFINITY) | (y == <real>INFINITY) else v
    return x + y if (x != x) | (y != y) else v


cdef double scaling(double x, double y) noexcept nogil:
    """A power of two that brings both within range; 0 if none does."""
    cdef bint small = (x < least(x)) | (y < least(y)), large = (x > 1 / least(x)) | (y > 1 / least(y))
    if small and large:
        return 0
    return 1.2980742146337069e33 if small else 7.703719777548943e-34       # 2^110, 2^-110


cdef double far_log_ratio(double x, double y) noexcept nogil:
    cdef double unit = scaling(x, y)
    if unit == 0:
        return log_positive(x) - log_positive(y)
    return log_ratio(x * unit, y * unit)


cdef real far_rel_entr(real x, real y) noexcept nogil:
    """In double, whose range makes a float an ordinary number."""
    return <float>(<double>x * log_ratio(<double>x, <double>y)) if real is float else x * far_log_ratio(x, y)


cdef real far_kl_div(real x, real y) noexcept nogil:
    cdef double unit
    if real is float:
        return <float>kl_term(<double>x, <double>y, <double>y - <double>x)
    else:
        unit = scaling(x, y)
        if unit == 0:                                  # the smaller one adds nothing but its logarithm
            return y if y > x else x * (far_log_ratio(x, y) - 1)
        return kl_term(x * unit, y * unit, y * unit - x * unit) / unit


cdef void terms_of(Name name, const real *x, const real *y, real *out, Py_ssize_t n) noexcept nogil:
    cdef real found[BLOCK]
    cdef Py_ssize_t start = 0, i, size
    cdef const real *a
    cdef const real *b
    cdef int32_t some
    while start < n:
        size = min(<Py_ssize_t>BLOCK, n - start)
        a = x + start
        b = y + start
        some = 0
        if name == ENTR:
            for i in range(size):
                found[i] = entr_of(a[i])
        elif name == REL_ENTR:
            for i in range(size):
                found[i] = rel_entr_of(a[i], b[i])
                some |= far(a[i]) | far(b[i])
        else:
            for i in range(size):
                found[i] = kl_div_of(a[i], b[i])
                some |= far(a[i]) | far(b[i])
        if some:
            for i in range(size):
                if (far(a[i]) or far(b[i])) and 0 < a[i] < <real>INFINITY and 0 < b[i] < <real>INFINITY:
                    found[i] = far_rel_entr(a[i], b[i]) if name == REL_ENTR else far_kl_div(a[i], b[i])
        memcpy(out + start, found, size * sizeof(real))
        start += size


cdef void terms(Name name, bint single, const void *x, const void *y, void *out, Py_ssize_t n) noexcept nogil:
    if single:
        terms_of(name, <const float *>x, <const float *>y, <float *>out, n)
    else:
        terms_of(name, <const double *>x, <const double *>y, <double *>out, n)


cdef Terms table = terms
functions = exported(&table)
