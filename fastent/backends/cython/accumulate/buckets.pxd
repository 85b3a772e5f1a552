"""Where row values count in histograms and calibration bins: loops worth a SIMD level of their own."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastent.backends.cython.arithmetic.functions cimport fe_bits_double

cdef enum:
    # Histogram buckets of 64 octaves of positive values, from 2^-50 on, are counted in an array;
    # the others have the place after them, but zeros one of their own.
    PLACES = 64 << 6
    ZERO_PLACE = PLACES + 1
    FIRST_PLACE = (1023 - 50) << 6      # of bits >> 46
    # What a block of calibrated rows may need done by the row.
    NEAR_EDGE = 1                       # the bin is to be compared with its edges
    UNFIT = 2                           # a confidence outside [2^-43, 1], or not just right or wrong

cdef inline int64_t in_order(uint64_t b) noexcept nogil:
    """The bits of a double as an integer of the same order (NaN at the ends), and back."""
    return <int64_t> b ^ <int64_t> (<uint64_t> (<int64_t> b >> 63) >> 1)


cdef inline void histogram_places(const double* v, Py_ssize_t n, uint32_t* place, int64_t* ends) noexcept nogil:
    """Places of n > 0 values, and the least and largest of them in_order."""
    cdef int64_t least = in_order(fe_bits_double(v[0])), largest = least, k
    cdef uint64_t b
    cdef uint32_t p
    cdef Py_ssize_t i
    for i in range(n):
        b = fe_bits_double(v[i])
        k = in_order(b)
        least = k if k < least else least
        largest = k if k > largest else largest
        p = <uint32_t> (b >> 46) - <uint32_t> FIRST_PLACE
        p = p if p < <uint32_t> PLACES else <uint32_t> PLACES
        place[i] = p if v[i] != 0 else <uint32_t> ZERO_PLACE
    ends[0] = least
    ends[1] = largest


cdef inline int64_t count_below(const double* v, Py_ssize_t n, double threshold) noexcept nogil:
    """How many of the values are below a threshold; -1 if one is NaN."""
    cdef int64_t below = 0, nans = 0
    cdef Py_ssize_t i
    for i in range(n):
        below += v[i] < threshold
        nans += v[i] != v[i]
    return -1 if nans else below


cdef inline int64_t count_ones(const double* v, Py_ssize_t n) noexcept nogil:
    """How many of the values are 1 where the others are 0; -1 if one is neither."""
    cdef int64_t ones = 0, zeros = 0
    cdef Py_ssize_t i
    for i in range(n):
        ones += v[i] == 1.0
        zeros += v[i] == 0.0
    return ones if ones + zeros == n else -1


cdef inline int bin_places(const double* confidence, const double* correct, Py_ssize_t n, int bins, uint32_t* place,
                           uint64_t* low, uint64_t* high, uint64_t* rows) noexcept nogil:
    """Bins of rows, their confidences in units of 2^-95 and 1 + 2^32 * correct: what is to be added.

    The flags tell what is wrong with the block; nothing of it is to be believed when it is UNFIT.
    """
    cdef uint64_t b, t, m, shift, unfit = 0, near = 0
    cdef uint64_t one = fe_bits_double(1.0), tiny = fe_bits_double(1.1368683772161603e-13)      # 2^-43
    cdef double p, rest
    cdef int k
    cdef Py_ssize_t i
    for i in range(n):
        b = fe_bits_double(confidence[i])
        t = fe_bits_double(correct[i])
        unfit |= (b - tiny > one - tiny) | ((t != 0) & (t != one))
        m = (b & ((<uint64_t> 1 << 52) - 1)) | (<uint64_t> 1 << 52)
        shift = ((b - tiny) >> 52) & 63
        low[i] = m << shift
        high[i] = (m >> 1) >> (63 - shift)
        rows[i] = ((t >> 20) & (<uint64_t> 1 << 32)) | 1
    for i in range(n):
        p = confidence[i] * bins
        k = <int> p
        rest = p - k
        # Product and edges are rounded: by less than this for as many bins as there may be.
        near |= (confidence[i] != 1.0) & ((rest < 1e-11) | (rest > 1.0 - 1e-11))
        place[i] = <uint32_t> (k if k < bins else bins - 1)
    return (<int> NEAR_EDGE if near else 0) | (<int> UNFIT if unfit else 0)
