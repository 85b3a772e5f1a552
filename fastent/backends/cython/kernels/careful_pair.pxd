"""Divergences and distances of two rows of any kinds: p, q and d = q − p, block by block.

The masses of q are multiplied by a constant c of the row so that both rows have the same sum S.
Then, with kl_term(x, y) = x·log(x/y) − x + y >= 0 and m = (p + q)/2,

    KL = Σ kl_term(p, q)/S        JS = ½ Σ (kl_term(p, m) + kl_term(q, m))/S

What decides the accuracy of nearly equal rows is d, so it is never the difference of rounded numbers there. Two
rows of logits: d = p·expm1(v) with v = log(q/p) a difference of logits, as in logits_divergence.pyx. Otherwise:
the exponentials and their product with c are pairs of doubles. The error of c shows in Σ d, which is 0 for the
right one. A class with more than ¾ of the mass has minus the sum of all other differences for its own.
"""

from libc.string cimport memset

from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, c_fabs, c_fma, c_sqrt, kl_term, log1p_of, phi, rounding,
)
from fastent.backends.cython.kernels.logits_exp cimport Scale
from fastent.backends.cython.arithmetic.scratch cimport ROOM
from fastent.backends.cython.kernels.interface cimport DOUBLE, PROBS, Tile
from fastent.backends.cython.kernels.row_blocks cimport PARTS
from fastent.backends.cython.kernels.careful_row cimport (
    AddBlock, Bounds, RowView, Sum, add, c_ldexp, fine_masses, lift_of, lifted_exp, load_block, masses,
    read_view, sum_row, surprisal, surprisals, value_of,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum
from fastent.backends.cython.kernels.slots cimport (
    OUT_AGREEMENT, OUT_BRIER, OUT_HELLINGER, OUT_JS, OUT_KL, OUT_TOTAL_VARIATION, put_nan,
)

cdef enum:                              # sums of every pair,
    DISTANCE                            # Σ |d|
    MASS_DIFFERENCE                     # Σ d without the big class
    FAR                                 # terms whose q is below the smallest number
    MOVED                               # blocks with some d that is more than the rounding of c
    TERMS                               # and those of this file:
    KL = TERMS
    JS, HELLINGER
    SQUARES                             # Σ (q − p)²
    SUM_COUNT

cdef enum:                              # where the arrays of a block stand in scratch memory
    P = 0
    P_LOW = ROOM
    Q = 2 * ROOM
    Q_LOW = 3 * ROOM
    D = 4 * ROOM
    TERM = 5 * ROOM
    OTHER = 6 * ROOM
    SURPRISAL = 7 * ROOM                 # −log p, where q is clipped


cdef struct Pair:
    RowView a, b
    bint raw                            # one of the rows is taken as it is
    bint by_logits                      # both rows are logarithms on one scale
    bint fine                           # nearly equal rows: pairs of doubles
    double lift_a, lift_b
    double mass                         # S
    double factor                       # c, and what its rounding lost
    double factor_low
    double centre                       # log c in units of the logits
    double centre_low
    double eps                          # where q is clipped, and −log q then; these three are of a call
    Bounds bounds
    double **out
    bint alone                          # the big class is added, by itself
    bint big                            # a class has more than ¾ of the mass
    double p                            # of that class
    double q, d


cdef inline void read_pair(Tile *tile, Py_ssize_t r, Pair *pair) noexcept nogil:
    cdef RowView *a = &pair.a
    cdef RowView *b = &pair.b
    cdef double scale
    read_view(tile, r, 0, a)
    read_view(tile, r, 1, b)
    pair.raw = a.raw or b.raw
    pair.by_logits = a.kind != PROBS and b.kind != PROBS and a.scale.temperature == b.scale.temperature
    pair.fine = False
    pair.lift_a = pair.lift_b = 0
    if not pair.raw:
        pair.lift_a = lift_of(a)
        pair.lift_b = lift_of(b)
    pair.mass = c_ldexp(a.total, <int>pair.lift_a)
    pair.factor = pair.mass / c_ldexp(b.total, <int>pair.lift_b)
    pair.factor_low = pair.centre_low = 0
    scale = a.scale.temperature
    pair.centre = (b.log_total - a.log_total) * scale
    if not pair.raw:
        pair.centre = log1p_of((b.rest - a.rest) / a.total) * scale


cdef inline void logit_differences(Pair *pair, Py_ssize_t n, double *t) noexcept nogil:
    """p, q and d from the logits in their places."""
    cdef Py_ssize_t i
    cdef double ah, al, bh, bl, v, p, q
    cdef double top_a = pair.a.top, top_b = pair.b.top, c = pair.factor
    cdef double lift_a = pair.lift_a, lift_b = pair.lift_b
    cdef double centre = pair.centre, centre_low = pair.centre_low
    cdef Scale scale = pair.a.scale
    for i in range(n):
        ah = t[P + i] - top_a
        al = rounding(t[P + i], top_a, ah)
        bh = t[Q + i] - top_b
        bl = rounding(t[Q + i], top_b, bh)
        p = lifted_exp(ah, al, scale, lift_a)
        q = lifted_exp(bh, bl, scale, lift_b) * c
        v = bh - ah
        v = ((v - centre) + ((rounding(bh, ah, v) + (bl - al)) - centre_low)) * scale.inverse
        t[P + i] = p
        t[Q + i] = q
        t[D + i] = p * (v + phi(v)) if (v < 0.7) & (v > -0.7) else q - p


cdef inline void mass_differences(Pair *pair, Py_ssize_t n, double *t) noexcept nogil:
    """p, q and d from the masses in their places."""
    cdef Py_ssize_t i
    cdef double q, x, low, c = pair.factor, c_low = pair.factor_low
    if not pair.fine:
        for i in range(n):
            x = t[Q + i] * c
            t[D + i] = x - t[P + i]
            t[Q + i] = x
        return
    for i in range(n):
        q = t[Q + i]
        x = q * c
        low = c_fma(q, c, -x) + (t[Q_LOW + i] * c + q * c_low)
        t[D + i] = (x - t[P + i]) + (low - t[P_LOW + i])
        t[Q + i] = x


cdef inline void differences(Pair *pair, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    """p, q and d of a block."""
    cdef Py_ssize_t i
    cdef double speck
    cdef int moved = 0
    load_block(&pair.a, start, n, t + P, <char *>t)
    load_block(&pair.b, start, n, t + Q, <char *>t)
    if pair.by_logits:
        logit_differences(pair, n, t)
    elif pair.fine:
        fine_masses(&pair.a, n, pair.lift_a, t + P)
        fine_masses(&pair.b, n, pair.lift_b, t + Q)
        mass_differences(pair, n, t)
    else:
        masses(&pair.a, n, pair.lift_a, t + P)
        masses(&pair.b, n, pair.lift_b, t + Q)
        mass_differences(pair, n, t)
    for i in range(n):
        speck = t[P + i] * 3.2e-30
        moved |= c_fabs(t[D + i]) > speck
    sums[MOVED].total += moved


cdef inline void add_distances(Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        t[TERM + i] = c_fabs(t[D + i])
    add(&sums[DISTANCE], row_sum(t + TERM, n))


cdef inline double far_terms(Pair *pair, Py_ssize_t start, Py_ssize_t n, double *t) noexcept nogil:
    """Terms of KL where q has no mass, or one below the smallest number: p·log(p/q) − p from the
    surprisals. They are taken out of the block."""
    cdef Py_ssize_t i
    cdef double p, own, other, far = 0
    for i in range(n):
        if t[Q + i] != 0:
            continue
        t[TERM + i] = 0
        own = surprisal(&pair.a, start + i)
        other = surprisal(&pair.b, start + i)
        p = t[P + i] / pair.mass
        if own == INFINITY:
            continue
        if other == INFINITY:
            far = INFINITY
        elif p > 0:
            far += p * (other - own) - p
    return far


cdef inline void clipped_kl_terms(Pair *pair, Py_ssize_t n, double *t) noexcept nogil:
    """Where q is clipped: p·log(p/q') + d, which adds up to Σ p·log(p/q') as Σ d = 0."""
    cdef Py_ssize_t i
    cdef double p, d, forced, bound
    cdef double low = pair.eps * pair.mass, high = (1 - pair.eps) * pair.mass
    cdef Bounds bounds = pair.bounds
    for i in range(n):
        p = t[P + i]
        d = t[D + i]
        bound = bounds.high if t[Q + i] < low else bounds.low
        forced = p * (bound - t[SURPRISAL + i])
        forced = d + (forced if p > 0 else 0.0)
        d = kl_term(p, t[Q + i], d)
        t[TERM + i] = forced if (t[Q + i] < low) | (t[Q + i] > high) else d


cdef inline void js_terms(Py_ssize_t n, double *t) noexcept nogil:
    """Both rows against their mean, whose rounding does not matter as d/2 is handed on."""
    cdef Py_ssize_t i
    cdef double p, q, d, m
    for i in range(n):
        p = t[P + i]
        q = t[Q + i]
        d = 0.5 * t[D + i]
        m = 0.5 * p + 0.5 * q
        t[TERM + i] = kl_term(p, m, d)
        t[OTHER + i] = kl_term(q, m, -d)


cdef inline void clip(Pair *pair, Py_ssize_t n, double *t) noexcept nogil:
    """q and d of the clipped row."""
    cdef Py_ssize_t i
    cdef double q, low = pair.eps * pair.mass, high = (1 - pair.eps) * pair.mass
    for i in range(n):
        q = t[Q + i]
        q = low if q < low else q
        q = high if q > high else q
        t[D + i] = t[D + i] if q == t[Q + i] else q - t[P + i]
        t[Q + i] = q


cdef inline void add_pairs(void *context, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil:
    """A block without its big class; or that one alone, whose p, q and d are known."""
    cdef Pair *pair = <Pair *>context
    cdef Py_ssize_t i = pair.a.where - start, gone = -1
    cdef double x, root, per = 1 / pair.mass
    if not pair.alone:
        differences(pair, start, n, t, sums)
        if 0 <= i < n and not pair.raw and t[P + i] > 0.75 * pair.mass:
            gone = i
            pair.big = True
            pair.p = t[P + i]
            pair.q = t[Q + i]
            pair.d = t[D + i]
            t[P + i] = t[Q + i] = t[D + i] = 0
        add(&sums[MASS_DIFFERENCE], row_sum(t + D, n))
    add_distances(n, t, sums)
    if pair.out[OUT_HELLINGER] != NULL:
        for i in range(n):
            root = c_sqrt(t[P + i]) + c_sqrt(t[Q + i])
            x = t[D + i] / (root if root > 0 else 1.0)
            t[TERM + i] = x * x
        add(&sums[HELLINGER], row_sum(t + TERM, n))
    if pair.out[OUT_BRIER] != NULL:
        for i in range(n):
            x = t[D + i] * per
            t[TERM + i] = x * x
        add(&sums[SQUARES], row_sum(t + TERM, n))
    if pair.out[OUT_KL] != NULL:
        if pair.eps > 0:
            load_block(&pair.a, start, n, t + SURPRISAL, <char *>t)
            surprisals(&pair.a, start, n, t + SURPRISAL)
            clipped_kl_terms(pair, n, t)
            x = row_sum(t + TERM, n)
        else:
            for i in range(n):
                t[TERM + i] = kl_term(t[P + i], t[Q + i], t[D + i])
            x = row_sum(t + TERM, n)
            if x == INFINITY or (pair.b.holes and pair.a.kind != PROBS):
                sums[FAR].total += far_terms(pair, start, n, t)
                x = row_sum(t + TERM, n)
        add(&sums[KL], x)
    if pair.out[OUT_JS] != NULL:
        if pair.eps > 0:
            clip(pair, n, t)
            if gone >= 0:
                t[Q + gone] = t[D + gone] = 0
            if pair.alone and t[Q] >= (1 - pair.eps) * pair.mass:
                # 1 − p is the mass of the others, to all its digits
                t[D] = (pair.a.rest / pair.a.total - pair.eps) * pair.mass
        js_terms(n, t)
        add(&sums[JS], row_sum(t + TERM, n) + row_sum(t + OTHER, n))


cdef inline void settle_pair(Tile *tile, Pair *pair, AddBlock add_block, void *context, int width, Sum *sums) noexcept nogil:
    """The sums, from as many passes as the rows are near: Σ|d| decides, so that a column does not
    depend on which others are asked for."""
    cdef double *t = <double *>tile.scratch
    cdef double near = 0.4 if tile.precision == DOUBLE else 2e-7, error
    cdef int again = 0 if pair.raw else 1 if pair.by_logits else 2
    while True:
        pair.alone = False
        pair.big = False
        pair.d = 0
        sum_row(tile, add_block, context, width, sums)
        if pair.big:
            pair.alone = True
            t[P] = pair.p
            t[Q] = pair.q
            t[D] = -value_of(&sums[MASS_DIFFERENCE])
            add_block(context, pair.a.where, 1, t, sums)
        if again == 0 or not (pair.fine or value_of(&sums[DISTANCE]) < near * pair.mass):
            return
        # the common scale of the rows, by what Σ d told: it is 0 for the right one
        error = (value_of(&sums[MASS_DIFFERENCE]) + pair.d) / pair.mass
        pair.fine = True
        pair.factor_low -= error * pair.factor
        pair.centre_low += log1p_of(error) * pair.a.scale.temperature
        if pair.by_logits:
            pair.factor += pair.factor_low
            pair.factor_low = 0
        again -= 1


cdef inline void pair_values(Tile *tile, Py_ssize_t r, Pair *pair) noexcept nogil:
    cdef double **out = pair.out
    cdef Sum sums[SUM_COUNT * PARTS]
    cdef double value
    read_pair(tile, r, pair)
    if pair.a.nan or pair.b.nan:
        put_nan(out, r)
        return
    if out[OUT_AGREEMENT] != NULL:
        out[OUT_AGREEMENT][r] = pair.a.where == pair.b.where
    if (out[OUT_KL] == NULL and out[OUT_JS] == NULL and out[OUT_TOTAL_VARIATION] == NULL
            and out[OUT_HELLINGER] == NULL and out[OUT_BRIER] == NULL):
        return
    settle_pair(tile, pair, add_pairs, pair, SUM_COUNT, sums)
    if sums[MOVED].total == 0 and pair.eps == 0:
        # proportional rows: what is left is the rounding of c
        sums[DISTANCE].total = sums[DISTANCE].lost = 0
        memset(&sums[TERMS], 0, (SUM_COUNT - TERMS) * sizeof(Sum))
    if out[OUT_KL] != NULL:
        value = value_of(&sums[KL])
        if pair.raw:
            value -= value_of(&sums[MASS_DIFFERENCE])
        value = value / pair.mass + sums[FAR].total
        out[OUT_KL][r] = 0.0 if value < 0 and pair.eps == 0 and not pair.raw else value
    if out[OUT_JS] != NULL:
        out[OUT_JS][r] = 0.5 * value_of(&sums[JS]) / pair.mass
    if out[OUT_TOTAL_VARIATION] != NULL:
        out[OUT_TOTAL_VARIATION][r] = 0.5 * value_of(&sums[DISTANCE]) / pair.mass
    if out[OUT_HELLINGER] != NULL:
        out[OUT_HELLINGER][r] = c_sqrt(0.5 * value_of(&sums[HELLINGER])) / c_sqrt(pair.mass)
    if out[OUT_BRIER] != NULL:
        out[OUT_BRIER][r] = value_of(&sums[SQUARES])
