"""Totals as Python objects: integers in units of 2^-1074, or the inf or nan that decides.

Totals of products (Σ x², Σ W·x, ΣW²) are in units of 2^-2162.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from fastent.backends.cython.accumulate.exact_sum cimport LIMBS, ExactSum, exact_carry
from fastent.backends.cython.accumulate.exact_sum_blocks cimport FAR, decided
from fastent.backends.cython.accumulate.exact_sum_short cimport SpanSum, int_of, span_add, span_carry, span_cover
from fastent.backends.cython.accumulate.state_data cimport check

cdef enum:
    MOST_BITS = 1024 + 64     # of a sum of 2^63 numbers, above the point


cdef inline object exact_object(ExactSum* s):
    if s.special:
        return decided(s.special)
    exact_carry(s)
    return int_of(s.limb, LIMBS, 0)


cdef inline object span_object(SpanSum* s):
    if s.special:
        return decided(s.special)
    check(span_carry(s))
    return int_of(s.limb, s.size, s.low)


cdef inline int span_add_object(SpanSum* s, object total) except -1:
    cdef bytes raw
    cdef const unsigned char* p
    cdef uint32_t part
    cdef int first, size, i
    if isinstance(total, float):
        return check(span_add(s, total, 0))
    if total == 0:
        return 0
    first = ((total & -total).bit_length() - 1) >> 5
    total >>= 32 * first
    size = (total.bit_length() >> 5) + 1
    raw = total.to_bytes(4 * size, "little", signed=True)
    p = raw
    check(span_carry(s))
    check(span_cover(s, first, first + size))
    for i in range(size):
        memcpy(&part, p + 4 * i, 4)
        # The last part carries the sign.
        s.limb[first - s.low + i] += <int> part if i == size - 1 else <int64_t> part
    s.adds = 1
    return 0


cdef inline str packed(object total, int unit=1074):
    """A total as text: `0x<odd>p<exponent of two>`, or inf, -inf, nan."""
    if isinstance(total, float):
        return repr(total)
    if total == 0:
        return "0x0p0"
    zeros = (total & -total).bit_length() - 1
    return f"{total >> zeros:#x}p{zeros - unit}"


cdef inline object unpacked(str text, int unit=1074):
    if "p" not in text:
        return float(text)
    odd, exponent = text.split("p")
    units = int(odd, 16)
    if int(exponent) + units.bit_length() > (MOST_BITS if unit == 1074 else MOST_BITS + 32 * FAR):
        raise ValueError("a sum out of range")
    return units << (int(exponent) + unit)
