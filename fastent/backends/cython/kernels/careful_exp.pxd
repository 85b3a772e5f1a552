"""exp in about 102 bits: a pair of doubles whose sum is the number.

A row of probabilities that meets a row of logits needs it: rounding the exponentials alone would
make up all of a difference below 1e-16.
"""

from fastent.backends.cython.arithmetic.functions cimport (
    c_fma, fe_poly, log2_e, nearest_shifted, rounding, shift_of, times_power,
)
from fastent.backends.cython.kernels.logits_exp cimport Scale
from fastent.backends.cython.arithmetic.scratch cimport ROOM

cdef struct DoubleDouble:
    double high, low


cdef inline DoubleDouble two_sum(double a, double b) noexcept nogil:
    cdef double high = a + b
    return DoubleDouble(high, rounding(a, -b, high))


cdef inline DoubleDouble plus(DoubleDouble a, double high, double low) noexcept nogil:
    cdef DoubleDouble s = two_sum(a.high, high)
    return two_sum(s.high, s.low + (a.low + low))


cdef inline DoubleDouble times(DoubleDouble a, DoubleDouble b) noexcept nogil:
    cdef double product = a.high * b.high
    return two_sum(product, c_fma(a.high, b.high, -product) + (a.high * b.low + a.low * b.high))


cdef inline DoubleDouble doubled(DoubleDouble e) noexcept nogil:
    """expm1(2z) from expm1(z)."""
    return plus(times(e, e), 2 * e.high, 2 * e.low)


cdef inline void double_double_exp(double *x, Py_ssize_t n, double top, Scale scale, double lift) noexcept nogil:
    """exp((x − top)/T)·2^lift for x <= top in place: what x loses goes to x + ROOM.

    Whole octaves come off first, then six halvings: expm1(z) by its series, and six times
    expm1(2z) = 2·expm1(z) + expm1(z)², which keeps the absolute error. A loop in itself, as GCC
    inlines no function of this size, and a call would keep it out of the vectors (5 times slower).
    """
    cdef Py_ssize_t i
    cdef double h, low, g, g_low, shifted, k, t, power
    cdef double lowest = (-707.5 - 0.69314718 * lift) * scale.temperature
    cdef DoubleDouble z, e
    for i in range(n):
        h = x[i] - top
        low = rounding(x[i], top, h)
        g = h * scale.inverse
        g_low = (c_fma(-g, scale.temperature, h) + low) * scale.inverse
        shifted = nearest_shifted(g * log2_e(g))
        k = shift_of(shifted)
        # ln 2 in three parts; k times the first two is exact, and so is the first difference
        z = two_sum(g - k * 0.6931471805598903, -k * 5.49792301870721e-14)
        z = two_sum(z.high, z.low + (g_low - k * 1.1612227229362532e-26))
        z.high *= 0.015625
        z.low *= 0.015625
        # 1/12! and on, down to 1/6!
        t = fe_poly(z.high, 2.08767569878681e-09, 2.505210838544172e-08, 2.755731922398589e-07, 2.7557319223985893e-06,
                    2.48015873015873e-05, 0.0001984126984126984, 0.001388888888888889)
        e = two_sum(0.008333333333333333, t * z.high + 1.1564823173178714e-19)
        e = plus(times(e, z), 0.041666666666666664, 2.3129646346357427e-18)
        e = plus(times(e, z), 0.16666666666666666, 9.25185853854297e-18)
        e = plus(times(e, z), 0.5, 0.0)
        e = plus(times(times(e, z), z), z.high, z.low)
        e = doubled(doubled(doubled(doubled(doubled(doubled(e))))))
        e = plus(e, 1.0, 0.0)
        power = times_power(<double>1.0, shifted + lift)
        x[i] = e.high * power if h >= lowest else 0.0
        x[ROOM + i] = e.low * power if h >= lowest else 0.0
