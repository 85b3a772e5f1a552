"""Everything with options, in double: weighted and smoothed cross-entropy, clipping, "as_is", operands
of two different kinds, and distances.

A row of any kind is a Side: its normaliser is found first, then it is read block by block as
probabilities q or as surprises −log q, each to full relative accuracy.
"""

from fastent.backends.cython.checks cimport check_log_sum, check_sum
from fastent.backends.cython.elementary cimport (
    INFINITY, NAN, c_fabs, c_sqrt, excess, gap_divergence, log1p_of, log_positive,
)
from fastent.backends.cython.exponentials cimport (
    LogitSums, Scale, exp_over, logit_sums, merge_into, scale_of,
)
from fastent.backends.cython.kernels cimport (
    CHUNK, DOUBLE, LOGITS, LOGPROBS, PROBS, Kernel, Tile, report,
)
from fastent.backends.cython.sums cimport row_sum, two_sum_add
from fastent.backends.cython.table cimport Table, capsule_of

cdef extern from "<math.h>" nogil:
    double c_log "log"(double)
    double c_log1p "log1p"(double)
    double c_exp "exp"(double)

ctypedef fused source:
    float
    double

cdef enum:                              # columns of the cross-entropy kernel
    CROSS_ENTROPY
    TARGET_WEIGHT
    SQUARES                             # Σ (q − t)²
    SAME_TOP                            # argmax against argmax

cdef enum:                              # columns of the pair kernel
    KL
    JS
    TOTAL_VARIATION
    HELLINGER
    TOP1


cdef struct Side:
    const float *single                 # the row, as the one or the other
    const double *double_
    Py_ssize_t classes
    int kind
    bint raw                            # "as_is": no normalisation
    Scale scale
    double top                          # largest element, where it stands, how many equal it
    Py_ssize_t where
    double total                        # probabilities: Σ; others: 1 + s
    double rest                         # Σ of all but the largest
    double log_total
    bint nan


cdef struct Sum:
    double total
    double lost


cdef inline void add(Sum *s, double x) noexcept nogil:
    two_sum_add(&s.total, &s.lost, x)


cdef inline double value_of(Sum *s) noexcept nogil:
    return s.total + s.lost if s.lost == s.lost else s.total


cdef inline double element(Side *side, Py_ssize_t i) noexcept nogil:
    return side.single[i] if side.single != NULL else side.double_[i]


cdef Side side_of(Tile *tile, Py_ssize_t r, int operand) noexcept nogil:
    """Read a row once for its maximum and normaliser, and check it."""
    cdef Side side
    cdef const void *rows = tile.pred_rows if operand else tile.true_rows
    cdef Py_ssize_t i, start, n
    cdef double x, total
    cdef Sum sum
    cdef LogitSums sums, block
    cdef double *scratch = <double *>tile.scratch
    side.single = NULL
    side.double_ = NULL
    if tile.precision == DOUBLE:
        side.double_ = <const double *>rows + r * tile.classes
    else:
        side.single = <const float *>rows + r * tile.classes
    side.classes = tile.classes
    side.kind = tile.pred_kind if operand else tile.true_kind
    side.raw = not tile.normalise and side.kind != LOGITS
    side.scale = scale_of(tile.temperature if side.kind == LOGITS else 1.0)
    side.top = -INFINITY
    side.where = 0
    side.nan = False
    for i in range(side.classes):
        x = element(&side, i)
        side.nan |= x != x
        if x > side.top:
            side.top = x
            side.where = i
    side.total = side.rest = side.log_total = NAN
    if side.nan:
        return side
    sum.total = sum.lost = 0
    if side.kind == PROBS:
        for start in range((side.classes + CHUNK - 1) // CHUNK):
            n = min(CHUNK, side.classes - start * CHUNK)
            for i in range(n):
                scratch[i] = element(&side, start * CHUNK + i)
                if scratch[i] < 0:
                    report(tile, r, 2, operand, scratch[i])
            if start == side.where // CHUNK:
                scratch[side.where % CHUNK] = 0
            add(&sum, row_sum(scratch, n))
        side.rest = value_of(&sum)
        side.total = side.rest + side.top
        side.log_total = log_positive(side.total)
        if not side.raw:
            check_sum(tile, r, operand, side.total)
        return side
    for start in range((side.classes + CHUNK - 1) // CHUNK):
        n = min(CHUNK, side.classes - start * CHUNK)
        if side.single != NULL:
            block = logit_sums(side.single + start * CHUNK, n, n, side.scale, False, scratch)
        else:
            block = logit_sums(side.double_ + start * CHUNK, n, n, side.scale, False, scratch)
        if start == 0:
            sums = block
        else:
            merge_into(&sums, block, side.scale)
    side.nan = side.top == -INFINITY and not side.raw
    side.rest = sums.rest + (sums.count - 1)
    side.total = 1 + side.rest
    side.log_total = log1p_of(side.rest)
    if side.kind == LOGPROBS and not side.raw:
        check_log_sum(tile, r, operand, side.top, side.total)
    return side


cdef void probabilities(Side *side, Py_ssize_t start, Py_ssize_t n, double factor, double *out) noexcept nogil:
    """factor·q for the normalised q of a block (a probability row is taken as it is)."""
    cdef Py_ssize_t i
    cdef double x, h, back, low
    if side.kind == PROBS:
        for i in range(n):
            out[i] = element(side, start + i) * factor
        return
    if side.raw:
        for i in range(n):
            out[i] = c_exp(element(side, start + i)) * factor
        return
    factor /= side.total
    for i in range(n):
        x = element(side, start + i)
        h = x - side.top
        back = h - x
        low = (x - (h - back)) + (-side.top - back)
        if side.top == INFINITY:
            out[i] = factor if x == INFINITY else 0.0
        else:
            out[i] = exp_over(h, low, side.scale) * factor
            if out[i] == 0 and h > -INFINITY:
                out[i] = 5e-324                         # only −inf has no mass at all


cdef double surprise(Side *side, Py_ssize_t i) noexcept nogil:
    """−log q of class i of the normalised row, or −log of the raw number."""
    cdef double x = element(side, i)
    if side.kind != PROBS:
        if side.raw:
            return -x
        return side.log_total + (0.0 if x == side.top else (side.top - x) * side.scale.inverse)
    if side.raw:
        return -log_positive(x) if x < 0.5 or x > 2 else -c_log1p(x - 1)
    if i == side.where and side.rest < x:
        return log1p_of(side.rest / x)
    return side.log_total - log_positive(x)


cdef inline double clipped(double x, double low, double high) noexcept nogil:
    x = low if x < low else x
    return high if x > high else x


cdef void weighted_cross_entropy(Tile *tile, Py_ssize_t r, double **out) noexcept nogil:
    """Σ w_c t'_c (−log q_c) and Σ w_c t'_c with the smoothed target t' = (1 − ε)t + ε/C."""
    cdef Side pred, target
    cdef Py_ssize_t c, n = tile.classes, label = tile.labels[r] if tile.labels != NULL else -1
    cdef bint sparse = tile.true_rows == NULL
    cdef const double *w = NULL
    cdef double low = 0, high = INFINITY, t, u, q, factor = 1
    cdef double even = tile.smoothing / n, keep = 1 - tile.smoothing
    cdef Sum value, weight, squares
    if sparse and label < 0:
        return
    if tile.terms != NULL:
        w = tile.terms + r * tile.terms_stride
    if tile.eps > 0:
        low = -c_log1p(-tile.eps)
        high = -c_log(tile.eps)
    elif not tile.normalise:
        low = -INFINITY
    if sparse and not tile.normalise and tile.pred_kind != LOGITS and even == 0:
        # one number a row
        pred.single = <const float *>tile.pred_rows + r * n if tile.precision != DOUBLE else NULL
        pred.double_ = <const double *>tile.pred_rows + r * n
        pred.kind = tile.pred_kind
        pred.raw = True
        u = w[label] if w != NULL else 1.0
        if pred.kind == PROBS and element(&pred, label) < 0:
            report(tile, r, 2, 1, element(&pred, label))
        if out[CROSS_ENTROPY] != NULL:
            out[CROSS_ENTROPY][r] = u * clipped(surprise(&pred, label), low, high) if u != 0 else 0.0
        if out[TARGET_WEIGHT] != NULL:
            out[TARGET_WEIGHT][r] = u
        return
    pred = side_of(tile, r, 1)
    if not sparse:
        target = side_of(tile, r, 0)
        factor = 1 / target.total if target.kind == PROBS and not target.raw else 1.0
    value.total = value.lost = weight.total = weight.lost = squares.total = squares.lost = 0
    for c in range(n):
        if sparse:
            t = 1.0 if c == label else 0.0
        else:
            probabilities(&target, c, 1, factor, &t)
        if out[SQUARES] != NULL:
            probabilities(&pred, c, 1, 1 / pred.total if pred.kind == PROBS and not pred.raw else 1.0, &q)
            add(&squares, (q - t) * (q - t))
        u = (keep * t + even) * (w[c] if w != NULL else 1.0)
        add(&weight, u)
        if u != 0:
            add(&value, u * clipped(surprise(&pred, c), low, high))
    t = value_of(&value)
    if pred.nan or (not sparse and target.nan):
        t = NAN
    if out[CROSS_ENTROPY] != NULL:
        out[CROSS_ENTROPY][r] = t
    if out[TARGET_WEIGHT] != NULL:
        out[TARGET_WEIGHT][r] = value_of(&weight)
    if out[SQUARES] != NULL:
        out[SQUARES][r] = value_of(&squares)
    if out[SAME_TOP] != NULL:
        out[SAME_TOP][r] = pred.where == target.where
        if pred.nan or target.nan:
            out[SAME_TOP][r] = NAN


cdef void pair_values(Tile *tile, Py_ssize_t r, double **out) noexcept nogil:
    """Divergences and distances of two rows, each read as probabilities.

    A probability row stays as it is and a logarithmic one is scaled to its sum, so that the only
    rounding is that of the exponentials. Clipping needs both normalised.
    """
    cdef Side a = side_of(tile, r, 0), b = side_of(tile, r, 1)
    cdef double per_a = 1, per_b = 1, p, q, d, m, root, value, high = 1 - tile.eps
    cdef bint clip = tile.eps > 0, as_is = clip or not tile.normalise
    cdef Py_ssize_t c
    cdef int k
    cdef Sum divergent, first, second, mass, drift, apart, squares
    if a.nan or b.nan:
        for k in range(5):
            if out[k] != NULL:
                out[k][r] = NAN
        return
    if not a.raw and not b.raw:
        if a.kind == PROBS and b.kind != PROBS and not clip:
            per_b = a.total
        elif b.kind == PROBS and a.kind != PROBS and not clip:
            per_a = b.total
        else:
            per_a = 1 / a.total if a.kind == PROBS else 1.0
            per_b = 1 / b.total if b.kind == PROBS else 1.0
    else:
        per_a = 1 / a.total if a.kind == PROBS and not a.raw else 1.0
        per_b = 1 / b.total if b.kind == PROBS and not b.raw else 1.0
    divergent.total = divergent.lost = first.total = first.lost = second.total = second.lost = 0
    mass = drift = apart = squares = divergent
    for c in range(tile.classes):
        probabilities(&a, c, 1, per_a, &p)
        probabilities(&b, c, 1, per_b, &q)
        if clip:
            q = clipped(q, tile.eps, high)
        d = q - p
        m = 0.5 * p + 0.5 * q
        add(&mass, p)
        add(&drift, d)
        add(&divergent, gap_divergence(p, q, d))
        add(&first, gap_divergence(p, m, 0.5 * d))
        add(&second, gap_divergence(q, m, -0.5 * d))
        add(&apart, c_fabs(d))
        root = c_sqrt(p) + c_sqrt(q)
        if root > 0:
            add(&squares, d / root * (d / root))
    p = value_of(&mass)
    d = value_of(&drift)
    if out[KL] != NULL:
        value = value_of(&divergent)
        out[KL][r] = value - d if as_is else largest_zero(value / p - excess(d / p))
    if out[JS] != NULL:
        value = value_of(&first) + value_of(&second)
        if not as_is:
            value = value_of(&first) / p + value_of(&second) / (p + d) - excess(0.5 * d / p) - excess(-0.5 * d / (p + d))
        out[JS][r] = 0.5 * value if as_is else largest_zero(0.5 * value)
    p = 1.0 if as_is else p
    if out[TOTAL_VARIATION] != NULL:
        out[TOTAL_VARIATION][r] = 0.5 * value_of(&apart) / p
    if out[HELLINGER] != NULL:
        out[HELLINGER][r] = c_sqrt(0.5 * value_of(&squares) / p)
    if out[TOP1] != NULL:
        out[TOP1][r] = a.where == b.where


cdef inline double largest_zero(double x) noexcept nogil:
    return x if not x < 0 else 0.0


cdef void raw_entropy(Tile *tile, Py_ssize_t r, double *out) noexcept nogil:
    """−Σ p log p of the numbers as they are."""
    cdef Side side = side_of(tile, r, 1)
    cdef Py_ssize_t c
    cdef double p
    cdef Sum value
    value.total = value.lost = 0
    for c in range(tile.classes):
        probabilities(&side, c, 1, 1, &p)
        if p != 0:
            add(&value, p * surprise(&side, c))
    out[r] = NAN if side.nan else value_of(&value)


cdef void cross_entropy_rows(Tile *tile, double **out) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        weighted_cross_entropy(tile, r, out)


cdef void pair_rows(Tile *tile, double **out) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        pair_values(tile, r, out)


cdef void raw_entropy_rows(Tile *tile, double **out) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(tile.rows):
        raw_entropy(tile, r, out[0])


cdef Table table
table.kernels[0] = cross_entropy_rows
table.kernels[1] = pair_rows
table.kernels[2] = raw_entropy_rows
kernels = capsule_of(&table)
