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
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from fastent.backends.cython.accumulate.simd_table cimport blocks
from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode
from fastent.backends.cython.accumulate.exact_sum_blocks cimport (
    FAR, NO_GRID, GridSums, add_to_limbs, decided, exponent_of, far_product, special_of,
)
from fastent.backends.cython.accumulate.exact_sum_short cimport SpanSum, int_of, span_add

cdef extern from "standard_error.h" nogil:
    double round_limbs(const int64_t *limb, int size, int low)

cdef enum:
    CARRY_DUE = 1 << 30
    BLOCK = 512
    FLOAT_BLOCK = 2048
    SPARE_OCTAVES = 2     # by which the next block may have a larger value
    SHORT = 24            # below this the limbs are quicker than the set-up of the grids


cdef void exact_clear(ExactSum* s) noexcept nogil:
    memset(s, 0, sizeof(ExactSum))


cdef void exact_carry(ExactSum* s) noexcept nogil:
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
        exact_carry(s)


cdef inline void add_value(ExactSum* s, double v) noexcept nogil:
    cdef uint64_t m, negative
    cdef int e = exponent_of(v, &m, &negative)
    if e == 0x7FF:
        s.special |= special_of(m, negative)
    else:
        add_to_limbs(s.limb, m, negative, e)


cdef void exact_add_one(ExactSum* s, double v) noexcept nogil:
    add_value(s, v)
    count(s, 1)


cdef void add_grids(ExactSum* s, GridSums* sums) noexcept nogil:
    cdef int i
    cdef int64_t k
    cdef uint64_t negative
    for i in range(3):
        k = sums.multiple[i]
        if k:
            negative = <uint64_t> (k >> 63)            # 0 or all ones
            add_to_limbs(s.limb, (<uint64_t> k ^ negative) - negative, negative, sums.grid - 51 * i + 1074)


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
                    bad |= span_add(far, high[i], limbs)
                    bad |= span_add(far, low[i], limbs)
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
        exact_carry(into)
        exact_carry(other)
    for i in range(LIMBS):
        into.limb[i] += other.limb[i]
    into.adds += other.adds + 2
    into.special |= other.special


cdef double exact_round(ExactSum* s) noexcept nogil:
    """The float64 nearest to the sum, ties to even; an overflow is an infinity."""
    if s.special:
        return decided(s.special)
    exact_carry(s)
    return round_limbs(s.limb, LIMBS, 0)


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
        exact_carry(&self.total)
        return int_of(self.total.limb, LIMBS, 0)
