"""Totals as Python objects: integers in units of 2^-1074, or the inf or nan that decides.

Totals of products (Σ x², Σ W·x, ΣW²) are in units of 2^-2162.
"""

from libc.math cimport INFINITY, NAN

from fastent.backends.cython.accumulate.exact_sum cimport ExactSum, exact_add_int, exact_add_one, exact_to_int
from fastent.backends.cython.accumulate.exact_sum_short cimport (
    SEEN_NAN, SEEN_NEGATIVE_INF, SEEN_POSITIVE_INF, SpanSum, span_add, span_add_int, span_to_int,
)

from fastent.backends.cython.accumulate.exact_sum_blocks cimport FAR

cdef enum:
    MOST_BITS = 1024 + 64     # of a sum of 2^63 numbers, above the point


cdef inline object special_of(bint nan, bint positive, bint negative):
    if nan or (positive and negative):
        return NAN
    return INFINITY if positive else -INFINITY


cdef inline object exact_object(ExactSum* s):
    """An integer in units of 2^-1074, or the infinity or NaN that decides the sum."""
    if s.nans or s.positive_infs or s.negative_infs:
        return special_of(s.nans > 0, s.positive_infs > 0, s.negative_infs > 0)
    return exact_to_int(s)


cdef inline object span_object(SpanSum* s):
    if s.special:
        return special_of(s.special & SEEN_NAN, s.special & SEEN_POSITIVE_INF, s.special & SEEN_NEGATIVE_INF)
    return span_to_int(s)


cdef inline object product_object(ExactSum* near, SpanSum* far):
    """A total of products from its two parts."""
    a, b = exact_object(near), span_object(far)
    if isinstance(a, int) and isinstance(b, int):
        return (a << 32 * FAR) + b
    return float(a if isinstance(a, float) else 0.0) + float(b if isinstance(b, float) else 0.0)


cdef inline int exact_add_object(ExactSum* s, object total) except -1:
    if isinstance(total, float):
        exact_add_one(s, total)
        return 0
    return exact_add_int(s, total)


cdef inline int span_add_object(SpanSum* s, object total) except -1:
    if isinstance(total, float):
        if span_add(s, total) < 0:
            raise MemoryError
        return 0
    return span_add_int(s, total)


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
