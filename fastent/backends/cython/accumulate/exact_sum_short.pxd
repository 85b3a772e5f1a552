"""Exact sums that take only the limbs they need: one for each group, cluster and calibration bin.

The same integer as ExactSum, in units of 2^-1074, but only limbs low .. low + size - 1 exist.
Losses of usual size need 3 to 7 of the 68, so 100,000 groups stay small, and any float64 fits. Sums
of products, see `far_product`, are in units of 2^-2162, so that any product of two float64 fits.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove, memset

from fastent.backends.cython.accumulate.exact_sum_blocks cimport add_to_limbs, exponent_of, special_of

cdef struct SpanSum:
    int64_t* limb
    uint32_t adds             # since the last carry
    uint8_t low, size
    uint8_t special           # flags of Special


cdef inline int span_cover(SpanSum* s, int first, int stop) noexcept nogil:
    """Make limbs first .. stop - 1 exist; -1 when there is no memory."""
    cdef int low = s.low if s.size else first
    cdef int end = s.low + s.size if s.size else first
    cdef int64_t* limb
    if first >= low and stop <= end:
        return 0
    low = first if first < low else low
    end = stop if stop > end else end
    limb = <int64_t*> realloc(s.limb, (end - low) * sizeof(int64_t))
    if limb == NULL:
        return -1
    if s.size:
        memmove(limb + (s.low - low), limb, s.size * sizeof(int64_t))
        memset(limb, 0, (s.low - low) * sizeof(int64_t))
        memset(limb + (s.low - low) + s.size, 0, (end - s.low - s.size) * sizeof(int64_t))
    else:
        memset(limb, 0, (end - low) * sizeof(int64_t))
    s.limb = limb
    s.low = <uint8_t> low
    s.size = <uint8_t> (end - low)
    return 0


cdef inline int span_carry(SpanSum* s) noexcept nogil:
    """Bring all limbs but the last into [0, 2^32), and the last within 2^31 of 0."""
    cdef int i = 0
    cdef int64_t c
    while i < s.size:
        c = s.limb[i] >> 32
        if i == s.size - 1:
            if s.limb[i] == <int64_t> (<int> s.limb[i]):
                break
            if span_cover(s, s.low, s.low + s.size + 1) < 0:
                return -1
        s.limb[i] -= c << 32
        s.limb[i + 1] += c
        i += 1
    s.adds = 0
    return 0


cdef inline int span_add(SpanSum* s, double v, int limbs) noexcept nogil:
    """Add v·2^(32 limbs); -1 when there is no memory."""
    cdef uint64_t m, negative
    cdef int e = exponent_of(v, &m, &negative), first = (e >> 5) + limbs
    if e == 0x7FF:
        s.special |= special_of(m, negative)
        return 0
    if m == 0:
        return 0
    if (first < s.low or first + 3 > s.low + s.size) and span_cover(s, first, first + 3) < 0:
        return -1
    add_to_limbs(s.limb + (first - s.low), m, negative, e & 31)
    s.adds += 1
    if s.adds >= <uint32_t> 1 << 30 and span_carry(s) < 0:
        return -(s.adds >> 31)                         # without memory it can wait
    return 0


cdef inline int span_reserve(SpanSum* s, double v, int limbs) noexcept nogil:
    """Have the limbs that `span_add` of this value needs, so that it cannot fail."""
    cdef uint64_t m, negative
    cdef int e = exponent_of(v, &m, &negative), first = (e >> 5) + limbs
    return span_cover(s, first, first + 3) if e != 0x7FF and m else 0


cdef inline int span_enter(SpanSum* s, double v, int limbs, bint final) noexcept nogil:
    """The first of two passes makes room, the `final` one adds."""
    return span_add(s, v, limbs) if final else span_reserve(s, v, limbs)


cdef inline int span_end(SpanSum* s) noexcept nogil:
    """The limb after the last that says more than the sign."""
    cdef int i = s.size
    if i > 0 and s.limb[i - 1] == -1:
        while i > 1 and s.limb[i - 2] == <int64_t> 0xFFFFFFFF:
            i -= 1
    while i > 0 and s.limb[i - 1] == 0:
        i -= 1
    return s.low + i


cdef inline int span_reserve_merge(SpanSum* into, SpanSum* other, bint several, int limbs=0) noexcept nogil:
    """Have the limbs that `span_merge` needs, so that it cannot fail; nor `several` into one sum."""
    if other.size == 0:
        return 0
    if span_carry(into) < 0 or span_carry(other) < 0:
        return -1
    if span_cover(into, other.low + limbs, other.low + limbs + other.size) < 0:
        return -1
    if not several:
        return 0
    return span_cover(into, other.low + limbs, max(span_end(into), span_end(other) + limbs) + 1)


cdef inline int span_merge(SpanSum* into, SpanSum* other, int limbs=0) noexcept nogil:
    """Add a sum times 2^(32 limbs); -1 when there is no memory."""
    cdef int i
    into.special |= other.special
    if span_reserve_merge(into, other, False, limbs) < 0:
        return -1
    for i in range(other.size):
        into.limb[other.low + limbs - into.low + i] += other.limb[i]
    into.adds += other.size != 0
    return 0


cdef inline void span_clear(SpanSum* s) noexcept nogil:
    """0, with the memory that it has."""
    if s.size:
        memset(s.limb, 0, s.size * sizeof(int64_t))
    s.adds = 0
    s.special = 0


cdef inline object int_of(const int64_t* limb, int size, int low):
    """The integer of carried limbs of 32 bits, of which the last has the sign."""
    cdef uint32_t raw[160]
    cdef int i
    for i in range(size):
        raw[i] = <uint32_t> limb[i]
    return int.from_bytes((<unsigned char*> raw)[:4 * size], "little", signed=True) << 32 * low


cdef inline void span_free(SpanSum* s) noexcept nogil:
    free(s.limb)
    memset(s, 0, sizeof(SpanSum))
