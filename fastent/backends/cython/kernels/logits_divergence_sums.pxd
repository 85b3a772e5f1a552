"""Sums of the terms of one row, or of a block of it, without an array of terms in between.

Eight vectors of 16 classes (four of doubles) are mapped at once and their terms added by a tree in
registers; what is left is mapped a vector at a time. The sums go on in 16 lanes of double. Terms that are stored and read
again cost KL of float32 a third of its time.

Where all of eight vectors are near, that is where two models agree, what is for the others is left out: the
exponentials of b for KL, the logarithms for JS. The terms are the same.
"""

from libc.stdint cimport uint32_t

from fastent.backends.cython.arithmetic.functions cimport fe_ask, fe_bits_float, kappa, magnitude, real
from fastent.backends.cython.kernels.logits_exp cimport Scale
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, DOUBLE_BLOCK
from fastent.backends.cython.kernels.logits_divergence_terms cimport (
    js_term, kl_terms, log_ratio, mass_of, near_terms, octave_origin, split_centre,
)

cdef enum:
    LANES = 16
    MOST_SUMS = 6
    RETRY = 4                           # groups: after one that is not near, so often is it asked again

cdef enum Sums:                         # what is summed
    PLAIN_KL                            # gap, mass_difference and mass of a: c = 0, octaves in common
    CENTRED_KL
    DISTANCE                            # |mass_difference|, mass_difference and mass of a
    MASSES                              # of a and of b
    JS
    BOTH_KL                             # PLAIN_KL, and after it that of b and a
    JS_DISTANCE                         # JS, |mass_difference| and mass_difference
    TOPS                                # none: a pass for the maxima

cdef struct Constants:                  # of a row
    double octaves_a, octaves_b
    double factor                       # of the masses of b
    double centre                       # a logarithm, in two parts
    double centre_low
    double per_a                        # JS: 1/Σ e_a and 1/Σ e_b
    double per_b


cdef inline int sums_of(Sums what) noexcept nogil:
    return MOST_SUMS if what == BOTH_KL else 3 if what <= DISTANCE or what == JS_DISTANCE else 2 if what == MASSES else 1


cdef inline int room_of(Sums what) noexcept nogil:
    """Of how many sums there are lanes; those that are not asked for are 0."""
    return MOST_SUMS if what == BOTH_KL else 3


cdef inline bint is_plain(Sums what) noexcept nogil:
    return what == PLAIN_KL or what == BOTH_KL


cdef inline void add_class(Sums what, bint near, const real *a, const real *b, Constants row, real c, real c_low,
                           Scale scale, real *sums) noexcept nogil:
    """The terms of one class. `near`, a constant, says that they are."""
    cdef real x = a[0], y = b[0], v, p, q, unused, origin = octave_origin(<real>0)
    cdef real ea = mass_of(x, origin - <real>row.octaves_a, scale)
    cdef real eb = mass_of(y, origin - <real>row.octaves_b, scale)
    if not is_plain(what):
        eb = eb * <real>row.factor
    if what == MASSES:
        sums[0] = ea
        sums[1] = eb
        return
    v = log_ratio(is_plain(what), x, y, c, c_low, scale)
    if what == JS or what == JS_DISTANCE:
        p = ea * <real>row.per_a
        q = eb * <real>row.per_b
        sums[0] = (p + q) * kappa(magnitude(v)) if near else js_term(p, q, v)
    if what == JS:
        return
    if what == JS_DISTANCE:
        either_terms(near, ea, eb, v, &unused, &sums[2])
        sums[1] = magnitude(sums[2])
        return
    either_terms(near, ea, eb, v, &sums[0], &sums[1])
    if what == DISTANCE:
        sums[0] = magnitude(sums[1])
    sums[2] = ea
    if what == BOTH_KL:
        either_terms(near, eb, ea, -v, &sums[3], &sums[4])
        sums[5] = eb


cdef inline void either_terms(bint near, real ea, real eb, real v, real *gap, real *mass_difference) noexcept nogil:
    if near:
        near_terms(ea, v, gap, mass_difference)
    else:
        kl_terms(ea, eb, v, gap, mass_difference)


cdef inline bint all_near(Sums what, const real *a, const real *b, Py_ssize_t n, real c, double octaves) noexcept nogil:
    """Whether n classes of floats are near, each of them and beyond doubt: 1.2 from the centre, and where a has
    mass. By integers: the bits of floats are in order, of negative ones in that of their magnitudes."""
    cdef Py_ssize_t i
    cdef uint32_t most = 0, lowest = 0, bits
    cdef real v, least = <real>((octaves - 120) * 0.6931472)     # see `mass_of`
    if real is float:
        for i in range(n):
            v = b[i] - a[i]
            v = v if is_plain(what) else v - c
            bits = fe_bits_float(magnitude(v))
            most = bits if bits > most else most
            bits = fe_bits_float(a[i])
            lowest = bits if bits > lowest else lowest
        return most <= <uint32_t>0x3f99999a and least < 0 and lowest < fe_bits_float(least)
    else:
        return False


cdef inline void add_two(Sums what, bint near, const real *a, const real *b, Constants row, real c, real c_low,
                         Scale scale, real *sums) noexcept nogil:
    cdef real more[MOST_SUMS]
    cdef int k
    add_class(what, near, a, b, row, c, c_low, scale, sums)
    add_class(what, near, a + LANES, b + LANES, row, c, c_low, scale, &more[0])
    for k in range(sums_of(what)):
        sums[k] = sums[k] + more[k]


cdef inline void add_four(Sums what, bint near, const real *a, const real *b, Constants row, real c, real c_low,
                          Scale scale, real *sums) noexcept nogil:
    cdef real more[MOST_SUMS]
    cdef int k
    add_two(what, near, a, b, row, c, c_low, scale, sums)
    add_two(what, near, a + 2 * LANES, b + 2 * LANES, row, c, c_low, scale, &more[0])
    for k in range(sums_of(what)):
        sums[k] = sums[k] + more[k]


cdef inline void add_group(Sums what, bint near, const real *a, const real *b, Constants row, real c, real c_low,
                           Scale scale, double *lanes) noexcept nogil:
    """Eight vectors of floats, or four of doubles, which are not widened."""
    cdef real[MOST_SUMS] sums, more
    cdef int j, k
    for j in range(LANES):
        add_four(what, near, a + j, b + j, row, c, c_low, scale, &sums[0])
        if real is float:
            add_four(what, near, a + j + 4 * LANES, b + j + 4 * LANES, row, c, c_low, scale, &more[0])
        for k in range(sums_of(what)):
            lanes[k * LANES + j] += sums[k] + more[k] if real is float else sums[k]


cdef inline void last_vector(const real *x, Py_ssize_t n, real *out) noexcept nogil:
    """The n % 16 last classes, filled up with some that have no mass in either row."""
    cdef Py_ssize_t i, left = n % LANES
    if n < LANES:
        for i in range(LANES):
            out[i] = <real>-1e30
        for i in range(n):
            out[i] = x[i]
    else:
        for i in range(LANES):
            out[i] = x[n - LANES + i] if i >= LANES - left else <real>-1e30


cdef inline void lanes_of(Sums what, const real *a, const real *b, Py_ssize_t n, Py_ssize_t ahead, Constants row,
                          Scale scale, double *lanes) noexcept nogil:
    cdef Py_ssize_t group = (8 if real is float else 4) * LANES, start = 0, most
    cdef const real *x
    cdef const real *y
    cdef real c, c_low
    cdef int i, j, k, width = room_of(what) * LANES
    cdef bint near = True
    cdef real sums[MOST_SUMS]
    cdef real some[MOST_SUMS * LANES]
    cdef double held[MOST_SUMS * LANES]     # on the stack: stores to `lanes` might change what is read
    cdef real[LANES] tail_a, tail_b
    split_centre(row.centre, row.centre_low, scale, &c, &c_low)
    for i in range(width):
        some[i] = 0
    start = n - n % group
    if what != MASSES and ahead:
        fe_ask(a + start + ahead, (n - start) * sizeof(real), True)
        fe_ask(b + start + ahead, (n - start) * sizeof(real), True)
    if n % LANES:
        last_vector(a, n, &tail_a[0])
        last_vector(b, n, &tail_b[0])
    while start < n:
        x = a + start if start + LANES <= n else <const real *>tail_a
        y = b + start if start + LANES <= n else <const real *>tail_b
        for j in range(LANES):
            add_class(what, False, x + j, y + j, row, c, c_low, scale, &sums[0])
            for k in range(sums_of(what)):
                some[k * LANES + j] += sums[k]
        start += LANES
    for i in range(width):
        lanes[i] = some[i]
    start = 0
    while start + group <= n:
        for i in range(width):
            held[i] = 0
        most = start + (CHUNK if real is float else DOUBLE_BLOCK)
        while start + group <= n and start < most:
            if what != MASSES and ahead:
                fe_ask(a + start + ahead, group * sizeof(real), True)
                fe_ask(b + start + ahead, group * sizeof(real), True)
            if real is float and what != MASSES:
                if near or start % (RETRY * group) == 0:
                    near = all_near(what, a + start, b + start, group, c, row.octaves_a)
                if near:
                    add_group(what, True, a + start, b + start, row, c, c_low, scale, &held[0])
                else:
                    add_group(what, False, a + start, b + start, row, c, c_low, scale, &held[0])
            else:
                add_group(what, False, a + start, b + start, row, c, c_low, scale, &held[0])
            start += group
        for i in range(width):
            lanes[i] += held[i]


cdef inline void sum_lanes(Sums what, const real *a, const real *b, Py_ssize_t n, Py_ssize_t ahead, Constants row,
                           Scale scale, double *lanes) noexcept nogil:
    """16 lanes for each of `room_of` sums, whose totals are those of n classes. Asks for the classes `ahead`
    of these (0: for none), whose maxima are taken next: KL of 1000 classes from memory 1.22 to 0.95 ns a pair.
    (As a member of `row` it made the structure 64 bytes, which are copied while they are still being written.)"""
    if what == MASSES:
        lanes_of(MASSES, a, b, n, ahead, row, scale, lanes)
    elif what == DISTANCE:
        lanes_of(DISTANCE, a, b, n, ahead, row, scale, lanes)
    elif what == JS:
        lanes_of(JS, a, b, n, ahead, row, scale, lanes)
    elif real is float and what == BOTH_KL:
        lanes_of(BOTH_KL, a, b, n, ahead, row, scale, lanes)
    elif real is float and what == JS_DISTANCE:
        lanes_of(JS_DISTANCE, a, b, n, ahead, row, scale, lanes)
    elif row.centre == 0 and row.centre_low == 0 and row.octaves_a == row.octaves_b:
        lanes_of(PLAIN_KL, a, b, n, ahead, row, scale, lanes)
    else:
        lanes_of(CENTRED_KL, a, b, n, ahead, row, scale, lanes)
