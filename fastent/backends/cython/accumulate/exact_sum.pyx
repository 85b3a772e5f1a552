# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Exact, order-free sums of float64 values.

A sum is kept as one wide integer in units of 2**-1074, cut in 32-bit limbs that sit in
signed 64-bit words, so that 2**30 terms go in before a carry is due.  Integer addition is
associative: any order, any blocks and any merges give the same integer, and the float64 that
is nearest to it is what `math.fsum` returns.

Blocks take a faster way in: three rounding grids, 51 bits apart, hung below the largest
magnitude of the block.  `t = M + r` rounds r to the grid, `bits(t) - bits(M)` is that multiple
as an integer, and `r - (t - M)` is the exact rest for the next grid.  A block whose values do
not fit in the 153 bits leaves a rest, and is added limb by limb instead.
"""
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from fastent.backends.cython.accumulate.simd_table cimport blocks
from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode
from fastent.backends.cython.accumulate.exact_sum_blocks cimport (
    FAR, NO_GRID, GridSums, add_to_limbs, exponent_of, far_product,
)
from fastent.backends.cython.accumulate.exact_sum_short cimport SpanSum, span_add_at

cdef extern from "stderr.h" nogil:
    double round_limbs(const uint64_t *limb, int top)

cdef enum:
    LIMBS = 68
    CARRY_DUE = 1 << 30
    BLOCK = 512
    FLOAT_BLOCK = 2048
    SPARE_OCTAVES = 2     # by which the next block may have a larger value
    SHORT = 24            # below this the limbs are quicker than the set-up of the grids


cdef void exact_clear(ExactSum* s) noexcept nogil:
    memset(s, 0, sizeof(ExactSum))


cdef void carry(ExactSum* s) noexcept nogil:
    """Bring limbs 0 to 66 into [0, 2^32); the sign stays in the top limb."""
    cdef int i
    cdef int64_t c
    for i in range(LIMBS - 1):
        c = s.limb[i] >> 32
        s.limb[i] -= c << 32
        s.limb[i + 1] += c
    s.adds = 1                                         # 0 says that nothing ever was added


cdef inline void count(ExactSum* s, Py_ssize_t n) noexcept nogil:
    """As many terms more."""
    s.adds += n
    if s.adds >= CARRY_DUE:
        carry(s)


cdef inline void add_shifted(ExactSum* s, uint64_t m, uint64_t negative, int shift) noexcept nogil:
    """Add ±m * 2^shift units; the caller keeps `adds`."""
    add_to_limbs(s.limb + (shift >> 5), m, negative, shift & 31)


cdef inline void add_value(ExactSum* s, double v) noexcept nogil:
    cdef uint64_t m, negative
    cdef int e = exponent_of(v, &m, &negative)
    if e != 0x7FF:
        add_shifted(s, m, negative, e)
    elif m:
        s.nans += 1
    elif negative:
        s.negative_infs += 1
    else:
        s.positive_infs += 1


cdef void exact_add_one(ExactSum* s, double v) noexcept nogil:
    add_value(s, v)
    count(s, 1)


cdef inline void add_multiple(ExactSum* s, int64_t k, int e) noexcept nogil:
    """Add k * 2^e."""
    if k < 0:
        add_shifted(s, 0 - <uint64_t> k, ~(<uint64_t> 0), e + 1074)
    else:
        add_shifted(s, <uint64_t> k, 0, e + 1074)


cdef void add_grids(ExactSum* s, GridSums* sums) noexcept nogil:
    cdef int i
    for i in range(3):
        if sums.multiple[i]:
            add_multiple(s, sums.multiple[i], sums.grid - 51 * i)


cdef int add_block(ExactSum* s, const double* v, Py_ssize_t n, int grid) noexcept nogil:
    """Add at most BLOCK values; the grid to be tried for more of their kind, as `grid` is for these."""
    cdef GridSums sums
    cdef Py_ssize_t i
    sums.grid = grid
    if n >= SHORT and blocks().grid_sums(&sums, v, n):
        add_grids(s, &sums)
        grid = grid if sums.grid == grid else sums.grid + SPARE_OCTAVES
    else:
        grid = NO_GRID
        for i in range(n):
            add_value(s, v[i])
    count(s, n + 3)
    return grid


cdef void exact_add(ExactSum* s, const double* v, Py_ssize_t n) noexcept nogil:
    cdef int grid = NO_GRID
    exact_add_like(s, v, n, &grid)


cdef void exact_add_like(ExactSum* s, const double* v, Py_ssize_t n, int* grid) noexcept nogil:
    cdef Py_ssize_t m
    while n > 0:
        m = min(n, <Py_ssize_t> BLOCK)
        grid[0] = add_block(s, v, m, grid[0])
        v += m
        n -= m


cdef void exact_add_floats(ExactSum* s, const float* v, Py_ssize_t n) noexcept nogil:
    cdef double wide[FLOAT_BLOCK]
    cdef GridSums sums
    cdef Py_ssize_t i, m
    while n > 0:
        m = min(n, <Py_ssize_t> FLOAT_BLOCK)
        if blocks().float_grid_sums(&sums, v, m):
            add_grids(s, &sums)
            count(s, 3)
        else:
            for i in range(m):
                wide[i] = v[i]
            exact_add(s, wide, m)
        v += m
        n -= m


cdef int exact_add_products(ExactSum* s, SpanSum* far, const double* a, const double* b,
                            Py_ssize_t n, int* grids) noexcept nogil:
    cdef double[BLOCK] high, low
    cdef Py_ssize_t m, i
    cdef int limbs, bad = 0
    while n > 0:
        m = min(n, <Py_ssize_t> BLOCK)
        if not blocks().products(a, b, high, low, m):
            for i in range(m):
                far_product(a[i], b[i], &high[i], &low[i], &limbs)
                if limbs != FAR:
                    bad |= span_add_at(far, high[i], limbs)
                    bad |= span_add_at(far, low[i], limbs)
                    high[i] = low[i] = 0.0
        grids[0] = add_block(s, high, m, grids[0])
        grids[1] = add_block(s, low, m, grids[1])
        a += m
        b += m
        n -= m
    return bad


cdef void exact_merge(ExactSum* into, ExactSum* other) noexcept nogil:
    cdef int i
    if other.adds == 0:
        return
    # A sum is as large as its adds and the one number that a carry leaves.
    if into.adds + other.adds + 2 >= CARRY_DUE:
        carry(into)
        carry(other)
    for i in range(LIMBS):
        into.limb[i] += other.limb[i]
    into.adds += other.adds + 2
    into.nans += other.nans
    into.positive_infs += other.positive_infs
    into.negative_infs += other.negative_infs


cdef double exact_round(ExactSum* s) noexcept nogil:
    """The float64 nearest to the sum, ties to even; an overflow is an infinity."""
    cdef uint64_t limb[68]
    cdef uint64_t c = 1
    cdef int i, top = LIMBS - 1
    cdef bint negative
    if s.nans or (s.positive_infs and s.negative_infs):
        return NAN
    if s.positive_infs:
        return INFINITY
    if s.negative_infs:
        return -INFINITY
    carry(s)
    negative = s.limb[LIMBS - 1] < 0
    for i in range(LIMBS):
        limb[i] = <uint64_t> s.limb[i]
        if negative:                                   # two's complement, limb by limb
            c += (~limb[i]) & <uint64_t> 0xFFFFFFFF
            limb[i] = c & <uint64_t> 0xFFFFFFFF
            c >>= 32
    while top > 1 and limb[top] == 0:
        top -= 1
    return -round_limbs(limb, top) if negative else round_limbs(limb, top)


cdef object exact_to_int(ExactSum* s):
    """The finite part of the sum as a Python integer in units of 2^-1074."""
    cdef unsigned char raw[8 * 36]
    cdef int i
    cdef uint64_t limb
    carry(s)
    for i in range(LIMBS - 1):
        limb = <uint64_t> s.limb[i]
        memcpy(raw + 4 * i, &limb, 4)                  # little-endian machines only, as ever here
    memcpy(raw + 4 * (LIMBS - 1), &s.limb[LIMBS - 1], 8)
    return int.from_bytes(raw[:4 * LIMBS + 4], "little", signed=True)


cdef int exact_add_int(ExactSum* s, object units) except -1:
    """Add a Python integer in units of 2^-1074."""
    cdef bytes raw = units.to_bytes(4 * LIMBS + 4, "little", signed=True)
    cdef const unsigned char* p = raw
    cdef uint64_t limb
    cdef int i
    carry(s)
    for i in range(LIMBS - 1):
        limb = 0
        memcpy(&limb, p + 4 * i, 4)
        s.limb[i] += <int64_t> limb
    memcpy(&limb, p + 4 * (LIMBS - 1), 8)
    s.limb[LIMBS - 1] += <int64_t> limb
    s.adds = 1
    return 0


cdef class ExactTotal:
    """A correctly rounded running sum: `add` arrays, `merge` others, read `value`.

    Attributes
    ----------
    value : float
        What ``math.fsum`` gives for all terms so far; an infinity if it does not fit.
    units : int
        The finite part as an integer in units of 2**-1074.
    """
    cdef ExactSum total

    def add(self, values):
        """Add all elements of a one-dimensional contiguous float64 or float32 array."""
        cdef const double[::1] wide = None
        cdef const float[::1] narrow = None
        cdef FloatMode mode
        if memoryview(values).format == "f":
            narrow = values
        else:
            wide = values
        with nogil:
            mode = enter_default_mode()
            if narrow is not None and narrow.shape[0]:
                exact_add_floats(&self.total, &narrow[0], narrow.shape[0])
            elif wide is not None and wide.shape[0]:
                exact_add(&self.total, &wide[0], wide.shape[0])
            restore_mode(mode)
        return self

    def merge(self, ExactTotal other not None):
        """Add the terms of another total."""
        exact_merge(&self.total, &other.total)
        return self

    @property
    def value(self):
        cdef FloatMode mode = enter_default_mode()
        cdef double value = exact_round(&self.total)
        restore_mode(mode)
        return value

    @property
    def units(self):
        return exact_to_int(&self.total)
