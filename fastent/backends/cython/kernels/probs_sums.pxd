"""Sums over rows of probabilities, taken while the terms are mapped: KL and JS divergence, entropy and
cross-entropy.

Rows of few classes are mapped together into term arrays in one flat loop, and summed after. Longer
rows are unrolled, one after the other: the terms of eight vectors are added in registers by a
tree, and only that sum is stored, for the sums of terms are else a third of the cost. The last numbers
of a row are read with those before them, which are masked.

Eight vectors are mapped carelessly first: unless numbers are tiny, nothing needs to be scaled up, and unless
a class exceeds ¾, none needs to be kept out of the sums of an entropy. Where that fails, they are
mapped again with care, and so are those after them. A row that needs no care gets the same bits either
way: powers of two change none, nor does what is not left out.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastent.backends.cython.arithmetic.bits cimport (
    at_most, below_zero, both, either, highest, least, less, mask_of, most, other_of,
)
from fastent.backends.cython.arithmetic.functions cimport (
    FE_FUSED, INFINITY, far_gap, fe_ask_two, fe_bits_double, fe_bits_float, fe_from_bits_double, fe_from_bits_float,
    lifted, near_gap, nearest_octaves, positive_gap, real, scale_up, speck, step, stored, surprisal_of,
    without_octaves,
)
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, MOST_ROWS, ROOM, rows_of_chunk
from fastent.backends.cython.arithmetic.sums cimport row_sums
from fastent.backends.cython.kernels.interface cimport Job, Tile
from fastent.backends.cython.kernels.row_blocks cimport sum_blocks

cdef enum:
    KL, JS, ENTROPY, CROSS              # what is summed

cdef enum:
    FIRST = 0                           # kl_term(p, q); JS: kl_term(2p, p + q); −p log q, in steps
    MASS = 1                            # p; of CROSS and ENTROPY, where q is not above ¾
    MASS_DIFFERENCE = 2                 # q − p; CROSS: q up to ¾
    BIG = 3                             # p where q is above ¾
    SECOND = 4                          # JS: kl_term(2q, p + q); CROSS: q above ¾
    PARTS = 5                           # sums of a row
    TERM = FIRST                        # of entropies they are called so
    REST = MASS
    PRED_REST = MASS_DIFFERENCE
    PRED_BIG = SECOND
    LEAST = 5                           # the least number whose size matters
    SIGNS = 6                           # the signs that do
    ALL = 7
    LANES = 16                          # of float: a vector
    AHEAD = 8192                        # bytes: what is asked for. The hardware follows one row, not two: KL of
                                        # 1000 doubles from memory took 1.27 ns a pair, now 0.77, from cache 0.70
    PIECE = 1024                        # bytes of flat loops for which that is done at once: 2048 win half


cdef struct ProbsBatch:                 # sums of consecutive rows
    double of[PARTS][MOST_ROWS]
    double own[MOST_ROWS]               # sparse: the label's probability


cdef struct LongProbsRow:               # one row that is summed in blocks
    Tile *tile
    Py_ssize_t r, label
    int kind
    double rescale                      # of q in a second pass; 0: first pass
    double *parts
    bint negative


cdef inline bint sum_long_row(LongProbsRow *row, Py_ssize_t r, Job job, ProbsBatch *batch) noexcept nogil:
    """The sums of row r as those of the first of a batch; whether a number is negative."""
    cdef double[PARTS] sums
    cdef int k
    row.r = r
    row.negative = False
    sum_blocks(row.tile, job, row, &row.parts, PARTS, sums)
    for k in range(PARTS):
        batch.of[k][0] = sums[k]
    return row.negative


cdef inline void sums_at(double *out, Py_ssize_t apart, double **sums) noexcept nogil:
    cdef int k
    for k in range(PARTS):
        sums[k] = out + k * apart


cdef inline int lanes_of(real unused) noexcept nogil:
    """Numbers of 64 bytes."""
    return 16 if real is float else 8


cdef inline bint is_unrolled(Py_ssize_t n, int kind, const real *unused) noexcept nogil:
    """Whether rows of n classes are unrolled. In shorter ones what is masked costs as much as
    it saves, and classes above ¾, for which an entropy is mapped twice, are not rare."""
    return n >= (96 if kind >= ENTROPY else 4 * lanes_of(<real>0))


cdef inline real small(real unused) noexcept nogil:
    """Down to it no number needs to be scaled up: x·s² is normal for any s = d/(x + y) but 0."""
    return <real>8.470329472543003e-22 if real is float else <real>1.1830521861667747e-271  # 2^-70, 2^-900


cdef inline void kl_pair(real p, real q, bint lift, real *t) noexcept nogil:
    cdef real x = lifted(p) if lift else p, y = lifted(q) if lift else q
    t[FIRST] = positive_gap(x, y)
    t[MASS] = x
    t[MASS_DIFFERENCE] = y - x
    t[LEAST] = y if lift else least(x, y)
    t[SIGNS] = x if lift else <real>0


cdef inline void js_pair(real p, real q, bint lift, real *t) noexcept nogil:
    """Twice both rows against their sum m, whose rounding does not matter because the differences
    m − 2p = q − p and m − 2q are handed on. The greater of p and q is within a factor 2 of the mean,
    so that only the lesser one has octaves."""
    cdef real x = lifted(p) if lift else p, y = lifted(q) if lift else q
    cdef real low = least(x, y), high = most(x, y), m = x + y, d = high - low, twice = low + low
    cdef real octaves, near, of_low, of_high
    if FE_FUSED:
        near = nearest_octaves(m, twice, &octaves)
    else:
        near = without_octaves(m, twice, True, &octaves)
    of_low = near_gap(twice, near, d if octaves == 0 else near - twice, far_gap(twice, m, near, octaves), FE_FUSED)
    of_high = near_gap(high + high, m, -d, <real>0, False)
    t[FIRST] = of_high if x > y else of_low
    t[SECOND] = other_of(of_high, of_low, t[FIRST])     # a second comparison is not made
    t[MASS] = x
    t[MASS_DIFFERENCE] = y - x
    t[LEAST] = low
    t[SIGNS] = 0


cdef inline void cross_pair(real p, real q, bint whole, bint lift, bint careful, real *t) noexcept nogil:
    """`whole`: of entropy, where p is q. 0 and subnormal numbers have a finite logarithm here, and a
    product below 1e-35 or 0."""
    cdef real three_quarters = <real>0.75
    cdef real surprisal = surprisal_of(lifted(q) if lift else q, lift)
    cdef real x = p, y = q
    if careful:
        x = p if q <= three_quarters else <real>0           # NaN is big too
        y = q if q <= three_quarters else <real>0
        t[BIG] = <real>0 if q <= three_quarters else p
        t[SECOND] = <real>0 if q <= three_quarters else q
    t[FIRST] = x * surprisal
    t[MASS] = x
    t[MASS_DIFFERENCE] = y
    t[LEAST] = highest(q) if whole else lifted(q) if lift else q
    t[SIGNS] = either(p, q if careful else either(q, less(three_quarters, q)))


cdef inline void pair(real p, real q, int kind, bint careful, real *t) noexcept nogil:
    t[SECOND] = t[BIG] = 0
    if kind == KL:
        kl_pair(p, q, careful, t)
    elif kind == JS:
        js_pair(p, q, careful, t)
    elif kind == CROSS:
        cross_pair(p, q, False, careful, careful, t)
    else:
        cross_pair(q, q, True, False, careful, t)


cdef inline void join(real *t, const real *u) noexcept nogil:
    cdef int k
    for k in range(PARTS):
        t[k] += u[k]
    t[LEAST] = least(t[LEAST], u[LEAST])
    t[SIGNS] = either(t[SIGNS], u[SIGNS])


cdef inline void two(const stored *p, const stored *q, int kind, bint careful, real *t) noexcept nogil:
    cdef int wide = lanes_of(<real>0)
    cdef real u[ALL]
    pair(<real>p[0], <real>q[0], kind, careful, t)
    pair(<real>p[wide], <real>q[wide], kind, careful, u)
    join(t, u)


cdef inline void four(const stored *p, const stored *q, int kind, bint careful, real *t) noexcept nogil:
    cdef int wide = lanes_of(<real>0)
    cdef real u[ALL]
    two(p, q, kind, careful, t)
    two(p + 2 * wide, q + 2 * wide, kind, careful, u)
    join(t, u)


cdef inline bint has(int part, int kind, bint careful) noexcept nogil:
    """Whether a sum is wanted: of constants, a constant."""
    if part == SECOND:
        return kind == JS or (kind == CROSS and careful)
    if part == MASS_DIFFERENCE:
        return kind != ENTROPY
    if part == BIG:
        return kind >= ENTROPY and careful
    return True


cdef inline void write(real *at, real x) noexcept nogil:
    """*at = x, as an integer: no compiler takes it for a number of the rows, which might be in the same
    place for all it knows, and the loop is vectorised."""
    if real is float:
        (<uint32_t *>at)[0] = fe_bits_float(x)
    else:
        (<uint64_t *>at)[0] = fe_bits_double(x)


cdef inline void put(const real *t, int kind, bint careful, int j, real *terms, real *seen) noexcept nogil:
    cdef int wide = lanes_of(<real>0), k
    for k in range(PARTS):
        if has(k, kind, careful):
            write(terms + k * ROOM + j, t[k])
    seen[j] = least(seen[j], t[LEAST])
    seen[wide + j] = either(seen[wide + j], t[SIGNS])


cdef inline void mask(real *t, real chosen) noexcept nogil:
    cdef int k
    for k in range(PARTS):
        t[k] = both(t[k], chosen)


cdef inline void unrolled_terms(const stored *p, const stored *q, bint half, int kind, bint careful, real *terms, real *seen) noexcept nogil:
    """The added terms of eight vectors of a row, or of four."""
    cdef int wide = lanes_of(<real>0)
    cdef int j
    cdef real[ALL] t, u
    for j in range(wide):
        four(p + j, q + j, kind, careful, t)
        if not half:
            four(p + 4 * wide + j, q + 4 * wide + j, kind, careful, u)
            join(t, u)
        put(t, kind, careful, j, terms, seen)


cdef inline void last_terms(const stored *p, const stored *q, Py_ssize_t n, int full, int kind, bint careful,
                            const real *chosen, const real *other, real *terms, real *seen) noexcept nogil:
    """The same of the n numbers that are left: `full` < 4 vectors, a constant, and a masked one: a
    half, which needs no care, stands for what it has not."""
    cdef int wide = lanes_of(<real>0)
    cdef int j
    cdef real[ALL] t, u
    for j in range(wide):
        pair(either(both(<real>p[n - wide + j], chosen[j]), other[j]),
             either(both(<real>q[n - wide + j], chosen[j]), other[j]), kind, careful, t)
        mask(t, chosen[j])
        if full & 1:
            pair(<real>p[j], <real>q[j], kind, careful, u)
            join(t, u)
        if full & 2:
            two(p + (full & 1) * wide + j, q + (full & 1) * wide + j, kind, careful, u)
            join(t, u)
        put(t, kind, careful, j, terms, seen)


cdef inline Py_ssize_t width_of(Py_ssize_t n, real unused) noexcept nogil:
    """Numbers that the sums of unrolled terms of a row take."""
    cdef Py_ssize_t full = (n - 1) // lanes_of(unused)
    return (full // 8 + (full // 4) % 2 + 1) * lanes_of(unused)


cdef inline void strip_terms(const stored *p, const stored *q, Py_ssize_t rows, Py_ssize_t n, int kind, bint careful,
                             real *least_of_all, real *signs, real *terms) noexcept nogil:
    """Rows of n >= 16 numbers as width_of(n) terms each."""
    cdef int wide = lanes_of(<real>0)
    cdef Py_ssize_t r, left, over = (-n) & (wide - 1)
    cdef int j, full = (n - 1) // wide % 4
    cdef real[LANES] chosen, other
    cdef real seen[2 * LANES]
    for j in range(wide):
        chosen[j] = mask_of(j >= over, <real>0)
        other[j] = <real>0 if j >= over else <real>0.5
        seen[j] = highest(<real>0)
        seen[wide + j] = 0
    for r in range(rows):
        left = n
        while left > 8 * wide:
            if kind != ENTROPY:
                fe_ask_two(p, q, AHEAD, 8 * wide * sizeof(stored))
            unrolled_terms(p, q, False, kind, careful, terms, seen)
            p += 8 * wide
            q += 8 * wide
            terms += wide
            left -= 8 * wide
        if left > 4 * wide:
            if kind != ENTROPY:
                fe_ask_two(p, q, AHEAD, 4 * wide * sizeof(stored))
            unrolled_terms(p, q, True, kind, careful, terms, seen)
            p += 4 * wide
            q += 4 * wide
            terms += wide
            left -= 4 * wide
        if kind != ENTROPY:
            fe_ask_two(p, q, AHEAD, 4 * wide * sizeof(stored))
        if full == 0:
            last_terms(p, q, left, 0, kind, careful, chosen, other, terms, seen)
        elif full == 1:
            last_terms(p, q, left, 1, kind, careful, chosen, other, terms, seen)
        elif full == 2:
            last_terms(p, q, left, 2, kind, careful, chosen, other, terms, seen)
        else:
            last_terms(p, q, left, 3, kind, careful, chosen, other, terms, seen)
        p += left
        q += left
        terms += wide
    for j in range(wide):
        least_of_all[0] = least(least_of_all[0], seen[j])
        signs[0] = either(signs[0], seen[wide + j])


cdef inline void flat_terms(const stored *p, const stored *q, Py_ssize_t n, int kind,
                            real *least_of_all, real *signs, real *terms) noexcept nogil:
    """Terms of n pairs, whichever rows they belong to, with care."""
    cdef Py_ssize_t i
    cdef int k
    cdef real t[ALL]
    cdef int32_t least32 = 0x7fffffff, signs32 = 0
    cdef int64_t least64 = 0x7fffffffffffffff, signs64 = 0
    for i in range(n):
        pair(<real>p[i], <real>q[i], kind, True, t)
        for k in range(PARTS):
            if has(k, kind, True):
                terms[k * ROOM + i] = t[k]
        if real is float:
            least32 = min(least32, <int32_t>fe_bits_float(t[LEAST]))
            signs32 |= <int32_t>fe_bits_float(t[SIGNS])
        else:
            least64 = min(least64, <int64_t>fe_bits_double(t[LEAST]))
            signs64 |= <int64_t>fe_bits_double(t[SIGNS])
    if real is float:
        least_of_all[0] = least(least_of_all[0], fe_from_bits_float(least32))
        signs[0] = either(signs[0], fe_from_bits_float(signs32))
    else:
        least_of_all[0] = least(least_of_all[0], fe_from_bits_double(least64))
        signs[0] = either(signs[0], fe_from_bits_double(signs64))


cdef inline void add_endless(const stored *p, const stored *q, Py_ssize_t rows, Py_ssize_t n, double *sums) noexcept nogil:
    """KL and cross-entropy are infinite where q has no mass and p has."""
    cdef Py_ssize_t r, i
    cdef bint found
    for r in range(rows):
        found = False
        for i in range(n):
            found |= (q[i] == 0) & (p[i] > 0)
        sums[r] += INFINITY if found else 0.0
        p += n
        q += n


cdef inline void scale(double *sums, Py_ssize_t rows, double factor) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(rows):
        sums[r] *= factor


cdef inline Py_ssize_t rows_at_once(Py_ssize_t n, int kind, const real *unused) noexcept nogil:
    """How many rows are summed together: a tile has several times as many, so that little is lost
    where they must be mapped again; eights are folded together."""
    cdef Py_ssize_t rows = CHUNK // n
    if not is_unrolled(n, kind, unused):
        return rows_of_chunk(n, sizeof(real))
    return rows & -8 if rows >= 8 else rows


cdef inline void sum_parts(int kind, bint careful, Py_ssize_t rows, Py_ssize_t width, const real *terms, double **sums) noexcept nogil:
    """KL and JS leave sums that they have not as they are."""
    cdef int k
    for k in range(PARTS):
        if has(k, kind, careful):
            row_sums(terms + k * ROOM, rows, width, sums[k])
        elif kind >= ENTROPY:
            memset(sums[k], 0, rows * sizeof(double))


cdef inline bint mapped_sums(const stored *p, const stored *q, Py_ssize_t rows, Py_ssize_t n, int kind, bint *careful,
                             real *terms, double **sums) noexcept nogil:
    """Sums of consecutive rows of many classes, of KL and JS scaled up; whether a number is
    negative. A NaN in a row stays one. `careful`: whether rows like those before need care."""
    cdef Py_ssize_t r, width = width_of(n, <real>0)
    cdef int k
    cdef real least_of_all = highest(<real>0), signs = 0
    if not careful[0]:
        strip_terms(p, q, rows, n, kind, False, &least_of_all, &signs, terms)
        careful[0] = below_zero(signs) or not at_most(small(<real>0), least_of_all)
        if not careful[0]:
            sum_parts(kind, False, rows, width, terms, sums)
            if kind >= ENTROPY:
                scale(sums[FIRST], rows, step(<real>0))
                return False
            for k in range(PARTS):
                if has(k, kind, False):
                    scale(sums[k], rows, scale_up(<real>0))
            return False
        least_of_all = highest(<real>0)
        signs = 0
    strip_terms(p, q, rows, n, kind, True, &least_of_all, &signs, terms)
    sum_parts(kind, True, rows, width, terms, sums)
    if kind >= ENTROPY:
        scale(sums[FIRST], rows, step(<real>0))
        careful[0] = kind == CROSS and at_most(least_of_all, lifted(small(<real>0)))
        for r in range(rows):
            careful[0] |= not sums[BIG][r] == 0
    if kind != ENTROPY and kind != JS and at_most(least_of_all, speck(<real>0)):
        add_endless(p, q, rows, n, sums[FIRST])
    return below_zero(either(least_of_all, signs))


cdef inline bint flat_sums(const stored *p, const stored *q, Py_ssize_t rows, Py_ssize_t n, int kind, real *terms, double **sums) noexcept nogil:
    """The same of KL and JS of fewer classes."""
    cdef real least_of_all = highest(<real>0), signs = 0
    cdef Py_ssize_t start = 0, some
    while start < rows * n:
        some = min(rows * n - start, <Py_ssize_t>(PIECE // sizeof(stored)))
        fe_ask_two(p + start, q + start, AHEAD, PIECE)
        flat_terms(p + start, q + start, some, kind, &least_of_all, &signs, terms + start)
        start += some
    sum_parts(kind, True, rows, n, terms, sums)
    if kind == KL and at_most(least_of_all, speck(<real>0)):
        add_endless(p, q, rows, n, sums[FIRST])
    return below_zero(either(least_of_all, signs))
