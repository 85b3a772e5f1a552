"""Numbers by their bits: an instruction where a comparison and a choice are two."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastent.backends.cython.arithmetic.functions cimport (
    fe_bits, fe_bits_double, fe_bits_float, fe_from_bits, fe_from_bits_double, fe_from_bits_float, real,
)


cdef inline real least(real x, real y) noexcept nogil:
    """The lesser of two numbers; a negative one is less than any positive, whichever of them it is."""
    if real is float:
        return fe_from_bits_float(min(<int32_t>fe_bits_float(x), <int32_t>fe_bits_float(y)))
    else:
        return fe_from_bits_double(min(<int64_t>fe_bits_double(x), <int64_t>fe_bits_double(y)))


cdef inline real most(real x, real y) noexcept nogil:
    if real is float:
        return fe_from_bits_float(max(<int32_t>fe_bits_float(x), <int32_t>fe_bits_float(y)))
    else:
        return fe_from_bits_double(max(<int64_t>fe_bits_double(x), <int64_t>fe_bits_double(y)))


cdef inline real either(real x, real y) noexcept nogil:
    """All bits of both: negative if one of them is; x or y, if the other is 0."""
    return fe_from_bits(fe_bits(x) | fe_bits(y))


cdef inline real both(real x, real y) noexcept nogil:
    """The bits in common: x or 0, if y is a mask."""
    return fe_from_bits(fe_bits(x) & fe_bits(y))


cdef inline real other_of(real x, real y, real one) noexcept nogil:
    """The other one of x and y."""
    return fe_from_bits(fe_bits(x) ^ fe_bits(y) ^ fe_bits(one))


cdef inline real less(real x, real y) noexcept nogil:
    """Something negative where y > x >= 0."""
    return fe_from_bits(fe_bits(x) - fe_bits(y))


cdef inline real mask_of(bint chosen, real unused) noexcept nogil:
    return fe_from_bits_float(-<uint32_t>chosen) if real is float else fe_from_bits_double(-<uint64_t>chosen)


cdef inline real highest(real unused) noexcept nogil:
    """What is not less than any number, NaN included."""
    if real is float:
        return fe_from_bits_float(<uint32_t>0x7fffffff)
    else:
        return fe_from_bits_double(<uint64_t>0x7fffffffffffffff)


cdef inline bint at_most(real x, real y) noexcept nogil:
    """x <= y in the order of `least`."""
    if real is float:
        return <int32_t>fe_bits_float(x) <= <int32_t>fe_bits_float(y)
    else:
        return <int64_t>fe_bits_double(x) <= <int64_t>fe_bits_double(y)


cdef inline bint below_zero(real x) noexcept nogil:
    """Whether the sign is set."""
    return fe_bits_float(x) >> 31 if real is float else fe_bits_double(x) >> 63
