"""The arithmetic of llama.cpp's perplexity program on rows of logits, to the bit: floats, libm's expf,
sums of exponentials in double, in order."""

from libc.math cimport expf, log
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

import numpy as np

cdef enum:
    CODES_AT = 8                        # bytes of a row before its codes


cdef float top_of(const float *x, Py_ssize_t n, Py_ssize_t *where) noexcept nogil:
    cdef float top = x[0]
    cdef Py_ssize_t i
    where[0] = 0
    for i in range(1, n):
        if x[i] > top:
            top = x[i]
            where[0] = i
    return top


cdef float log_sum(const float *x, Py_ssize_t n, float top) noexcept nogil:
    """ln Σ e^(x − top)"""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += expf(x[i] - top)
    return <float>log(total)


cdef inline uint16_t nearest(float x) noexcept nogil:
    """x rounded to even, by what a float keeps beside 1.5·2^23."""
    cdef float shifted = x + <float>12582912.0
    cdef uint32_t bits
    memcpy(&bits, &shifted, 4)
    return <uint16_t>((bits & 0x007fffff) - 0x00400000)


cdef void encode_row(const float *x, Py_ssize_t n, float clip, char *out) noexcept nogil:
    cdef Py_ssize_t i, where
    cdef float top = top_of(x, n, &where), low = x[0], floor, sum, scale, least, inverse, shifted
    cdef uint16_t code
    for i in range(1, n):
        low = x[i] if x[i] < low else low
    floor = top - clip
    low = floor if low < floor else low
    sum = log_sum(x, n, top)
    least = low - top
    least = least - sum
    scale = (top - low) / <float>65535.0
    memcpy(out, &scale, 4)
    memcpy(out + 4, &least, 4)
    out += CODES_AT
    if scale == 0:
        memset(out, 0, 2 * n)
        return
    inverse = <float>1.0 / scale
    for i in range(n):
        code = 0
        if x[i] > low:
            shifted = x[i] - low
            code = nearest(inverse * shifted)
        memcpy(out + 2 * i, &code, 2)


def encode(const float[:, ::1] logits not None, float clip):
    """Rows as the program writes them: bytes, (rows, bytes of a row)."""
    cdef Py_ssize_t r, n = logits.shape[1], width = CODES_AT + 4 * ((n + 1) // 2)
    found = np.zeros((logits.shape[0], width), np.uint8)
    cdef unsigned char[:, ::1] out = found
    with nogil:
        for r in range(logits.shape[0]):
            encode_row(&logits[r, 0], n, clip, <char *>&out[r, 0])
    return found


cdef double divergence(const float *x, const float *base, Py_ssize_t n, float norm) noexcept nogil:
    """Σ p (ln p − ln q) over the classes whose ln p, of the base, is above −16."""
    cdef double total = 0
    cdef float p, gap
    cdef Py_ssize_t i
    for i in range(n):
        if base[i] > <float>-16.0:
            p = expf(base[i])
            gap = base[i] - x[i]
            gap = gap + norm
            gap = p * gap
            total += gap
    return total


def row_statistics(const float[:, ::1] logits not None, const float[:, ::1] base not None,
                   const int64_t[::1] labels not None):
    """What the program has of each row of logits beside decoded log-probabilities of a base.

    Five columns of float64: −ln q and −ln p of the label, KL divergence, q − p of the label, and
    whether the first maxima are the same.
    """
    cdef Py_ssize_t r, n = logits.shape[1], where, where_base
    cdef float top, sum, nll, nll_base
    cdef const float *x
    cdef const float *b
    found = np.empty((5, logits.shape[0]))
    cdef double[:, ::1] out = found
    for r in range(logits.shape[0]):
        if not 0 <= labels[r] < n:
            raise ValueError(f"labels: row {r} is {labels[r]}, expected 0 to {n - 1}")
    with nogil:
        for r in range(logits.shape[0]):
            x = &logits[r, 0]
            b = &base[r, 0]
            top = top_of(x, n, &where)
            top_of(b, n, &where_base)
            sum = log_sum(x, n, top)
            top = top + sum
            nll = top - x[labels[r]]
            nll_base = -b[labels[r]]
            out[0, r] = nll
            out[1, r] = nll_base
            out[2, r] = divergence(x, b, n, top)
            out[3, r] = expf(-nll) - expf(-nll_base)
            out[4, r] = where == where_base
    return found
