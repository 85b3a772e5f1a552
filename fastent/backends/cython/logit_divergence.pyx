"""KL and Jensen-Shannon divergence of two rows of logits or log-probabilities.

With each row centred on its own maximum, v = (b − m_b) − (a − m_a) − c for any constant c of the
row, and φ(v) = e^v − 1 − v >= 0:

    F = Σ e_a·φ(v),  E = Σ (e_b·e^−c − e_a),  A = Σ e_a       KL = F/A − h(E/A)    exactly, for every c.

The subtraction is harmless unless c is far from the right centre log1p(E/A); then the pass is done
again with that one. The differences b − m_b and a − m_a enter in two parts each, so that a common
offset of a row costs nothing.
"""

from libc.math cimport exp as c_exp
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastent.backends.cython.checks cimport check_log_sum
from fastent.backends.cython.elementary cimport (
    INFINITY, NAN, c_fma, excess, exp_of_sum, fe_lane_max_double, fe_lane_max_float, kappa,
    log1p_of, log1p_unit, lost_by, magnitude, phi, real,
)
from fastent.backends.cython.exponentials cimport Scale, exp_over, scale_of
from fastent.backends.cython.kernels cimport (
    CHUNK, DOUBLE, LOGPROBS, ROOM, SINGLE, WIDENED, Kernel, Tile,
)
from fastent.backends.cython.long_rows cimport classes_of
from fastent.backends.cython.sums cimport blocks_of, ordered_sum, row_sum
from fastent.backends.cython.table cimport Table, capsule_of

ctypedef fused source:
    float
    double

cdef enum:
    TOPS, CENTRE, SHANNON               # what a pass over the row computes
    PARTS = 4

cdef struct Pair:                       # two rows and what is known of them so far
    Tile *tile
    Py_ssize_t r
    Py_ssize_t readable                 # elements from the start of the row to the end of the tile
    int precision
    bint certain_a                      # its maximum is +inf: 0 where it is +inf, −inf elsewhere
    bint certain_b
    Scale scale
    double top_a
    double top_b
    double centre                       # c, in two parts, in units of probabilities' logarithms
    double centre_low
    double mass_a                       # Σ e_a, Σ e_b
    double mass_b
    int task
    double *parts


cdef inline void centre_terms(const source *a, const source *b, Py_ssize_t n, Pair *pair, real *terms) noexcept nogil:
    cdef Py_ssize_t i
    cdef real ma = <real>pair.top_a, mb = <real>pair.top_b
    cdef real ah, al, bh, bl, v, ea, eb, w, far
    cdef bint near
    cdef Scale scale = pair.scale           # a copy: a store to terms cannot touch it
    cdef double product = pair.centre * scale.temperature
    cdef real c = <real>product
    cdef real c_low = <real>((product - <double>c) + c_fma(pair.centre, scale.temperature, -product)
                             + pair.centre_low * scale.temperature)
    cdef real inverse = <real>scale.inverse
    cdef real factor = <real>c_exp(-pair.centre)
    for i in range(n):
        ah = <real>a[i] - ma
        al = lost_by(<real>a[i], ma, ah)
        bh = <real>b[i] - mb
        bl = lost_by(<real>b[i], mb, bh)
        if real is float:
            ea = exp_of_sum(ah, al)
            eb = exp_of_sum(bh, bl) * factor
            v = ((bh - ah) - c) + ((bl - al) - c_low)
        else:
            ea = exp_over(ah, al, scale)
            eb = exp_over(bh, bl, scale) * factor
            v = (((bh - ah) - c) + ((bl - al) - c_low)) * inverse
        w = ea * phi(v)
        terms[2 * ROOM + i] = ea
        terms[3 * ROOM + i] = eb
        near = magnitude(v) <= 2
        far = (eb - ea) - ea * v if ea > 0 else eb
        far = <real>INFINITY if (bh == <real>-INFINITY) & (ah > <real>-INFINITY) else far  # ea may underflow
        terms[i] = w if near else far
        terms[ROOM + i] = w + ea * v if near else eb - ea


cdef inline void shannon_terms(const source *a, const source *b, Py_ssize_t n, Pair *pair, real *terms) noexcept nogil:
    cdef Py_ssize_t i
    cdef real ma = <real>pair.top_a, mb = <real>pair.top_b
    cdef real ah, al, bh, bl, u, p, q, low, high, far
    cdef Scale scale = pair.scale           # a copy: a store to terms cannot touch it
    cdef double product = pair.centre * scale.temperature
    cdef real c = <real>product
    cdef real c_low = <real>((product - <double>c) + c_fma(pair.centre, scale.temperature, -product)
                             + pair.centre_low * scale.temperature)
    cdef real inverse = <real>scale.inverse
    cdef real per_a = <real>(1 / pair.mass_a), per_b = <real>(1 / pair.mass_b)
    for i in range(n):
        ah = <real>a[i] - ma
        al = lost_by(<real>a[i], ma, ah)
        bh = <real>b[i] - mb
        bl = lost_by(<real>b[i], mb, bh)
        if real is float:
            p = exp_of_sum(ah, al) * per_a
            q = exp_of_sum(bh, bl) * per_b
            u = ((bh - ah) - c) + ((bl - al) - c_low)
        else:
            p = exp_over(ah, al, scale) * per_a
            q = exp_over(bh, bl, scale) * per_b
            u = (((bh - ah) - c) + ((bl - al) - c_low)) * inverse
        low = p if p < q else q
        high = q if p < q else p
        far = <real>0.5 * (p + q) * (<real>0.69314718055994530942 - log1p_unit(low / high))
        far = far - <real>0.5 * magnitude(u) * low if low > 0 else <real>0.34657359027997265471 * (p + q)
        terms[i] = (p + q) * kappa(u) if magnitude(u) <= 2 else far


cdef inline double top_of(const source *x, Py_ssize_t n) noexcept nogil:
    if source is float:
        return fe_lane_max_float(x, n)
    else:
        return fe_lane_max_double(x, n)


cdef inline void make_certain(source *x, Py_ssize_t n) noexcept nogil:
    """A maximum of +inf is certainty."""
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = <source>0 if x[i] == <source>INFINITY else <source>-INFINITY


cdef void block_of(Pair *pair, Py_ssize_t block, real *scratch, const source *unused) noexcept nogil:
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, pair.tile.classes - start)
    cdef const source *a = classes_of(pair.tile, 0, pair.r, start, n, <char *>scratch, unused)
    cdef const source *b = classes_of(pair.tile, 1, pair.r, start, n, <char *>scratch, unused)
    cdef double *part = pair.parts + PARTS * block
    cdef Py_ssize_t room = (n + 15) & ~<Py_ssize_t>15
    cdef source *copy = <source *>(scratch + 4 * ROOM)
    cdef int k
    if pair.task == TOPS:
        part[0] = top_of(a, n)
        part[1] = top_of(b, n)
        return
    # whole vectors: past the end of a row lies the next one, or, at the end of the tile, a copy
    if start + room > pair.readable or pair.certain_a or pair.certain_b:
        memcpy(copy, a, n * sizeof(source))
        memcpy(copy + ROOM, b, n * sizeof(source))
        a = copy
        b = copy + ROOM
        if pair.certain_a:
            make_certain(copy, n)
        if pair.certain_b:
            make_certain(copy + ROOM, n)
    if pair.task == CENTRE:
        centre_terms(a, b, room, pair, scratch)
        for k in range(4):
            part[k] = row_sum(scratch + k * ROOM, n)
    else:
        shannon_terms(a, b, room, pair, scratch)
        part[0] = row_sum(scratch, n)


cdef void block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef Pair *pair = <Pair *>context
    if pair.precision == SINGLE:
        block_of(pair, block, <float *>scratch, <const float *>NULL)
    elif pair.precision == DOUBLE:
        block_of(pair, block, <double *>scratch, <const double *>NULL)
    else:
        block_of(pair, block, <double *>scratch, <const float *>NULL)


cdef inline void one_pass(Tile *tile, Pair *pair, int task) noexcept nogil:
    pair.task = task
    tile.run(tile.runner, block_job, pair, blocks_of(tile.classes), tile.scratch)


cdef inline double top_in(const double *parts, Py_ssize_t count) noexcept nogil:
    cdef double top = -INFINITY
    cdef Py_ssize_t b
    for b in range(count):
        if parts[PARTS * b] != parts[PARTS * b]:
            return NAN
        top = parts[PARTS * b] if parts[PARTS * b] > top else top
    return top


cdef double kl_of(Tile *tile, Pair *pair, bint settle) noexcept nogil:
    """KL of the pair, and its right centre as a side effect; `settle` asks for the low part too."""
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double divergent, drift, gap, bend, value, threshold, delta
    cdef int attempt
    threshold = 0.3 if pair.precision == SINGLE else 0.5
    for attempt in range(3):
        one_pass(tile, pair, CENTRE)
        divergent = ordered_sum(pair.parts, count, PARTS)
        drift = ordered_sum(pair.parts + 1, count, PARTS)
        pair.mass_a = ordered_sum(pair.parts + 2, count, PARTS)
        pair.mass_b = ordered_sum(pair.parts + 3, count, PARTS) * c_exp(pair.centre)
        gap = divergent / pair.mass_a
        bend = excess(drift / pair.mass_a)
        value = gap - bend
        if not (gap < INFINITY and bend > threshold * gap):
            break
        delta = log1p_of(drift / pair.mass_a)
        if attempt == 0:
            pair.centre = delta
        else:
            pair.centre_low += delta
    if settle and gap < INFINITY:
        delta = log1p_of(drift / pair.mass_a)
        if pair.centre == 0:
            pair.centre = delta
        else:
            pair.centre_low += delta
    return value if not value < 0 else 0.0


cdef double js_of(Tile *tile, Pair *pair) noexcept nogil:
    cdef double value = kl_of(tile, pair, True), drift
    if value != value:
        return value
    if not value < INFINITY:
        # disjoint somewhere: the centre is what the masses say
        pair.centre = log1p_of(pair.mass_b / pair.mass_a - 1)
        pair.centre_low = 0
    one_pass(tile, pair, SHANNON)
    value = ordered_sum(pair.parts, blocks_of(tile.classes), PARTS)
    return value if not value < 0 else 0.0


cdef double pair_value(Tile *tile, Py_ssize_t r, Pair *pair, bint symmetric) noexcept nogil:
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double value
    pair.centre = pair.centre_low = 0
    pair.certain_a = pair.certain_b = False
    one_pass(tile, pair, TOPS)
    pair.top_a = top_in(pair.parts, count)
    pair.top_b = top_in(pair.parts + 1, count)
    if not (pair.top_a > -INFINITY and pair.top_b > -INFINITY):
        if pair.top_a == pair.top_a and pair.top_b == pair.top_b and tile.normalise:
            if tile.true_kind == LOGPROBS:
                check_log_sum(tile, r, 0, pair.top_a, 1)
            if tile.pred_kind == LOGPROBS:
                check_log_sum(tile, r, 1, pair.top_b, 1)
        return NAN
    if pair.top_a == INFINITY or pair.top_b == INFINITY:
        if pair.precision == SINGLE:
            pair.precision = WIDENED
        pair.certain_a = pair.top_a == INFINITY
        pair.certain_b = pair.top_b == INFINITY
        pair.top_a = 0 if pair.certain_a else pair.top_a
        pair.top_b = 0 if pair.certain_b else pair.top_b
    value = js_of(tile, pair) if symmetric else kl_of(tile, pair, False)
    if tile.normalise and value == value:
        if tile.true_kind == LOGPROBS:
            check_log_sum(tile, r, 0, pair.top_a, pair.mass_a)
        if tile.pred_kind == LOGPROBS:
            check_log_sum(tile, r, 1, pair.top_b, pair.mass_b)
    return value


cdef void rows_of(Tile *tile, double *out, bint symmetric, const source *unused) noexcept nogil:
    cdef Py_ssize_t count = blocks_of(tile.classes), r
    cdef double few[PARTS * 64]
    cdef Pair pair
    pair.parts = &few[0]
    if count > 64:
        pair.parts = <double *>malloc(PARTS * count * sizeof(double))
    pair.tile = tile
    pair.scale = scale_of(tile.temperature)
    for r in range(tile.rows):
        if pair.parts == NULL:
            out[r] = NAN
            continue
        pair.r = r
        pair.precision = tile.precision
        pair.readable = (tile.rows - r) * tile.classes
        out[r] = pair_value(tile, r, &pair, symmetric)
        if tile.precision == SINGLE and not out[r] < INFINITY:
            # differences beyond 3.4e38 overflow in float
            pair.precision = WIDENED
            out[r] = pair_value(tile, r, &pair, symmetric)
    if count > 64:
        free(pair.parts)


cdef void divergence_rows(Tile *tile, double *out, bint symmetric) noexcept nogil:
    if tile.precision == DOUBLE:
        rows_of(tile, out, symmetric, <const double *>NULL)
    else:
        rows_of(tile, out, symmetric, <const float *>NULL)


cdef void kl_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[0], False)


cdef void js_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[0], True)


cdef Table table
table.kernels[0] = kl_rows
table.kernels[1] = js_rows
kernels = capsule_of(&table)
