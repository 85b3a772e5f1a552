"""KL and Jensen-Shannon divergence of two rows of logits or log-probabilities.

With v = (b − a)/T − c for any constant c of the row, masses e_a ∝ exp(a/T) and e_b = e_a·e^v, and
φ(v) = e^v − 1 − v >= 0:

    F = Σ e_a·φ(v),  E = Σ (e_b − e_a),  A = Σ e_a       KL = F/A − h(E/A)    exactly, for every c.

The subtraction is harmless unless c is far from the right centre, c + log1p(E/A); then the pass is
done again. The first c is 0 where the maxima differ little, so that v costs one subtraction; then
the difference of the maxima, which is exact where one class has all of the mass; then the right one.

Short rows are mapped together, as many as fit a piece, and those that need a second pass together
again. What is rare (an infinite or NaN maximum, logits beyond float's reach) is done row by row
afterwards, as are long rows.
"""

from libc.math cimport exp as c_exp
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastent.backends.cython.checks cimport check_log_sum, sum_bounds
from fastent.backends.cython.elementary cimport (
    INFINITY, NAN, c_fabs, c_fma, excess, fe_lane_max_double, fe_lane_max_float, log1p_of,
    nearest_shifted, real, shift_of,
)
from fastent.backends.cython.exponentials cimport Scale, exp_over, scale_of
from fastent.backends.cython.kernels cimport (
    CHUNK, DOUBLE, LOGPROBS, ROOM, SINGLE, WIDENED, Kernel, Tile,
)
from fastent.backends.cython.logit_terms cimport (
    CENTRE, CENTRE_LOW, DRIFT, FACTOR, GAP, MASS_A, MASS_B, PER_A, PER_B, SHIFT_A, SHIFT_B, SPARE,
    centred_js, centred_kl, far_js, far_kl, far_row, masses, octave, octave_origin, plain_kl, source,
)
from fastent.backends.cython.long_rows cimport classes_of
from fastent.backends.cython.sums cimport blocks_of, ordered_sum, row_sum, row_sums, two_sum_add
from fastent.backends.cython.table cimport Table, capsule_of

cdef enum:
    PIECE = 512                         # elements mapped at once: their arrays fit the first cache
    VECTOR = 16                         # a row's constant is written in vectors of this many
    SLIDING = 16                        # classes up to which maxima are taken over sliding windows
    PARTS = 4

cdef enum Form:                         # how v and the masses are computed
    PLAIN
    CENTRED
    FAR

cdef enum Task:                         # what a pass over a row computes
    TOPS
    KL_SUMS
    JS_SUM

cdef struct Pair:                       # one row, alone
    Tile *tile
    Py_ssize_t r
    int precision
    bint certain_a                      # its maximum is +inf: 0 where it is +inf, −inf elsewhere
    bint certain_b
    Scale scale
    Form form
    double top_a
    double top_b
    double octaves_a                    # n of either row
    double octaves_b
    double centre                       # c, a logarithm, in two parts
    double centre_low
    double factor                       # of the masses of b
    double mass_a                       # Σ e_a, Σ e_b
    double mass_b
    Task task
    double *parts

cdef struct Batch:                      # rows together
    double top_a[PIECE]
    double top_b[PIECE]
    double octaves_a[PIECE]
    double octaves_b[PIECE]
    double centre[PIECE]
    double centre_low[PIECE]
    double right[PIECE]                 # the right centre, once settled
    double right_low[PIECE]
    double factor[PIECE]
    double gap[PIECE]                   # F
    double drift[PIECE]                 # E
    double mass_a[PIECE]
    double mass_b[PIECE]                # JS only
    double value[PIECE]
    int again[PIECE]
    int odd[PIECE]                      # to be done alone


cdef inline double reach_of(real unused) noexcept nogil:
    """Maxima up to which whole octaves times ln 2 are exact, with what lies below them."""
    return 256 if real is float else 1024


cdef inline bint in_reach(double a, double b, double reach) noexcept nogil:
    return (c_fabs(a) <= reach) & (c_fabs(b) <= reach) & (c_fabs(b - a) <= 64)


cdef inline bint share_centre(double a, double b) noexcept nogil:
    """Whether rows with these maxima have c = 0 and the octaves of a."""
    return c_fabs(b - a) <= 1.25


cdef inline double octaves_of(double top) noexcept nogil:
    return shift_of(nearest_shifted(top * 1.4426950408889634074))


cdef inline double octaves_factor(double octaves_a, double octaves_b, double centre, double centre_low, Scale unit,
                                  real unused) noexcept nogil:
    """What makes 2^−n_b·exp(b/T) the masses 2^−n_a·exp(b/T − c). The exponent goes in as two parts:
    rounded, it cost 7e-15 where the maxima are 50 apart."""
    cdef double n = octaves_b - octaves_a, c = centre + centre_low, back = c - centre
    cdef double whole = n * octave(unused), low = c_fma(n, octave(unused), -whole)
    cdef double high = whole - c
    low -= (centre - (c - back)) + (centre_low - back)
    back = high - whole
    low += (whole - (high - back)) + (-c - back)
    if real is double:
        low += n * 2.3190468138462995584e-17            # what ln 2 lacks
    return exp_over(high, low, unit)


cdef inline void split_centre(double centre, double centre_low, Scale scale, real *high, real *low) noexcept nogil:
    """c in units of the logits, in two parts."""
    cdef double product = centre * scale.temperature
    high[0] = <real>product
    low[0] = <real>((product - <double>high[0]) + c_fma(centre, scale.temperature, -product)
                    + centre_low * scale.temperature)


cdef inline double kl_value(double gap, double drift, double mass, double threshold, int *again) noexcept nogil:
    cdef double share = gap / mass
    cdef double bend = excess(drift / mass)
    again[0] = (bend > threshold * share) & (share < INFINITY)
    return share - bend


cdef inline double threshold_of(real unused) noexcept nogil:
    return 0.3 if real is float else 0.5


# --- rows together --------------------------------------------------------------------------------

cdef inline void write_constant(real x, Py_ssize_t n, real *out) noexcept nogil:
    """n copies, in whole vectors."""
    cdef Py_ssize_t i = 0
    cdef int k
    while i < n:
        for k in range(VECTOR):
            out[i + k] = x
        i += VECTOR


cdef inline void copies(const real *x, Py_ssize_t rows, Py_ssize_t classes, real *out) noexcept nogil:
    """The same for a small number of classes that is constant where it is called."""
    cdef Py_ssize_t r, c
    for r in range(rows):
        for c in range(classes):
            out[r * classes + c] = x[r]


cdef void write_constants(const real *x, Py_ssize_t rows, Py_ssize_t classes, real *out) noexcept nogil:
    """One number a row, once a class."""
    cdef Py_ssize_t r
    if classes == 2:
        copies(x, rows, 2, out)
    elif classes == 3:
        copies(x, rows, 3, out)
    elif classes == 4:
        copies(x, rows, 4, out)
    else:
        for r in range(rows):
            write_constant(x[r], classes, out + r * classes)


cdef void wider_windows(const source *x, Py_ssize_t n, Py_ssize_t step, source *out) noexcept nogil:
    """Maxima of two windows a step apart, NaN if there is one."""
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x[i + step] if (x[i + step] > x[i]) | (x[i + step] != x[i + step]) else x[i]


cdef void row_tops(const source *x, Py_ssize_t rows, Py_ssize_t classes, source *room, double *out) noexcept nogil:
    """Maxima of consecutive rows, NaN where a row holds one. Rows of few classes lie in windows that
    double in width: a vector at a time, whatever the number of classes."""
    cdef Py_ssize_t r, n = rows * classes, width = 1, step
    cdef source *spare = room + ROOM
    if classes > SLIDING:
        for r in range(rows):
            if source is float:
                out[r] = fe_lane_max_float(x + r * classes, classes)
            else:
                out[r] = fe_lane_max_double(x + r * classes, classes)
        return
    while width < classes:
        step = min(width, classes - width)
        n -= step
        wider_windows(x, n, step, room)
        width += step
        x = room
        room = spare
        spare = <source *>x
    for r in range(rows):
        out[r] = x[r * classes]


cdef bint find_centres(Py_ssize_t rows, Scale scale, Batch *batch, real unused) noexcept nogil:
    """First centres of rows from their maxima; True if all are 0."""
    cdef Py_ssize_t r
    cdef double a, b, octaves_a, octaves_b, c
    cdef Scale unit = scale_of(1)
    cdef int some = 0, fits
    for r in range(rows):
        a = batch.top_a[r] * scale.inverse
        b = batch.top_b[r] * scale.inverse
        fits = in_reach(a, b, reach_of(unused))
        a = a if fits else 0.0
        b = b if fits else 0.0
        octaves_a = octaves_of(a)
        octaves_b = octaves_a if share_centre(a, b) else octaves_of(b)
        c = 0.0 if share_centre(a, b) else b - a
        batch.octaves_a[r] = octaves_a
        batch.octaves_b[r] = octaves_b
        batch.centre[r] = c
        batch.centre_low[r] = 0
        batch.factor[r] = octaves_factor(octaves_a, octaves_b, c, 0, unit, unused)
        batch.odd[r] = 1 - fits
        some |= c != 0
    return not some


cdef inline void write_centres(const double *centre, const double *centre_low, Py_ssize_t rows, Py_ssize_t classes,
                               Scale scale, real *t) noexcept nogil:
    cdef Py_ssize_t r
    cdef real high[PIECE]
    cdef real low[PIECE]
    for r in range(rows):
        split_centre(centre[r], centre_low[r], scale, &high[r], &low[r])
    write_constants(<const real *>high, rows, classes, t + CENTRE)
    write_constants(<const real *>low, rows, classes, t + CENTRE_LOW)


cdef inline void settle_centres(Py_ssize_t rows, Batch *batch) noexcept nogil:
    """The right centres, from the sums of a pass."""
    cdef Py_ssize_t r
    cdef double delta
    for r in range(rows):
        delta = log1p_of(batch.drift[r] / batch.mass_a[r])
        batch.right_low[r] = 0.0 if batch.centre[r] == 0 else batch.centre_low[r] + delta
        batch.right[r] = delta if batch.centre[r] == 0 else batch.centre[r]


cdef void kl_pass(const source *a, const source *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale, bint plain,
                  real *t, Batch *batch) noexcept nogil:
    """Values of KL and whether they need a better centre; masses and sums stay for JS."""
    cdef Py_ssize_t r, n = rows * classes
    cdef real origin = octave_origin(<real>0)
    cdef double threshold = threshold_of(<real>0)
    cdef real x[PIECE]
    for r in range(rows):
        x[r] = origin - <real>batch.octaves_a[r]
    write_constants(<const real *>x, rows, classes, t + SHIFT_A)
    if plain:
        plain_kl(a, b, n, scale, t)
    else:
        for r in range(rows):
            x[r] = origin - <real>batch.octaves_b[r]
        write_constants(<const real *>x, rows, classes, t + SHIFT_B)
        for r in range(rows):
            x[r] = <real>batch.factor[r]
        write_constants(<const real *>x, rows, classes, t + FACTOR)
        write_centres(batch.centre, batch.centre_low, rows, classes, scale, t)
        centred_kl(a, b, n, scale, t)
    row_sums(t + GAP, rows, classes, batch.gap)
    row_sums(t + DRIFT, rows, classes, batch.drift)
    row_sums(t + MASS_A, rows, classes, batch.mass_a)
    for r in range(rows):
        batch.value[r] = kl_value(batch.gap[r], batch.drift[r], batch.mass_a[r], threshold, &batch.again[r])


cdef void js_pass(const source *a, const source *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale,
                  real *t, Batch *batch) noexcept nogil:
    """Values of JS from the masses and sums of `kl_pass`."""
    cdef Py_ssize_t r, n = rows * classes
    cdef real x[PIECE]
    row_sums(t + MASS_B, rows, classes, batch.mass_b)
    settle_centres(rows, batch)
    write_centres(batch.right, batch.right_low, rows, classes, scale, t)
    for r in range(rows):
        x[r] = <real>(1 / batch.mass_a[r])
    write_constants(<const real *>x, rows, classes, t + PER_A)
    for r in range(rows):
        x[r] = <real>(1 / batch.mass_b[r])
    write_constants(<const real *>x, rows, classes, t + PER_B)
    centred_js(a, b, n, scale, t)
    row_sums(t + GAP, rows, classes, batch.value)


cdef void check_sums(Tile *tile, Py_ssize_t start, Py_ssize_t rows, Batch *batch) noexcept nogil:
    """Row sums of log-probabilities, from those of their masses."""
    cdef Py_ssize_t r
    cdef Scale unit = scale_of(1)
    cdef double low, high, a, b, origin
    cdef bint of_a = tile.true_kind == LOGPROBS, of_b = tile.pred_kind == LOGPROBS
    cdef int some = 0
    if not tile.normalise or tile.tolerance < 0 or not (of_a or of_b):
        return
    sum_bounds(tile, &low, &high)
    for r in range(rows):
        origin = batch.octaves_a[r] * 0.69314718055994530942
        a = batch.mass_a[r] * exp_over(origin if origin < 700 else 700.0, 0, unit)
        origin += batch.centre[r]
        b = (batch.mass_a[r] + batch.drift[r]) * exp_over(origin if origin < 700 else 700.0, 0, unit)
        some |= (a < low) | (a > high) | (b < low) | (b > high)
    if not some:
        return
    for r in range(rows):
        if batch.odd[r]:
            continue
        origin = batch.octaves_a[r] * 0.69314718055994530942
        if of_a:
            check_log_sum(tile, start + r, 0, origin, batch.mass_a[r])
        if of_b:
            check_log_sum(tile, start + r, 1, origin + batch.centre[r], batch.mass_a[r] + batch.drift[r])


cdef bint pass_again(const source *a, const source *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale, bint symmetric,
                     real *t, Batch *batch) noexcept nogil:
    """Another pass for the rows that want one, moved together, with their next centre; True if some
    want yet another."""
    cdef source moved_a[PIECE + VECTOR]
    cdef source moved_b[PIECE + VECTOR]
    cdef Py_ssize_t place[PIECE]
    cdef Batch few
    cdef Scale unit = scale_of(1)
    cdef Py_ssize_t r, k = 0
    cdef double apart
    cdef int some = 0
    settle_centres(rows, batch)
    for r in range(rows):
        if not batch.again[r] or batch.odd[r]:
            continue
        memcpy(moved_a + k * classes, a + r * classes, classes * sizeof(source))
        memcpy(moved_b + k * classes, b + r * classes, classes * sizeof(source))
        place[k] = r
        apart = (batch.top_b[r] - batch.top_a[r]) * scale.inverse
        few.octaves_a[k] = batch.octaves_a[r]
        few.octaves_b[k] = batch.octaves_b[r]
        few.centre[k] = batch.right[r]
        few.centre_low[k] = batch.right_low[r]
        if batch.centre[r] == 0 and apart != 0:
            few.octaves_b[k] = octaves_of(batch.top_b[r] * scale.inverse)
            few.centre[k] = apart
        few.factor[k] = octaves_factor(few.octaves_a[k], few.octaves_b[k], few.centre[k], few.centre_low[k],
                                       unit, <real>0)
        k += 1
    kl_pass(<const source *>moved_a, <const source *>moved_b, k, classes, scale, False, t, &few)
    if symmetric:
        js_pass(<const source *>moved_a, <const source *>moved_b, k, classes, scale, t, &few)
    for r in range(k):
        batch.octaves_b[place[r]] = few.octaves_b[r]
        batch.centre[place[r]] = few.centre[r]
        batch.centre_low[place[r]] = few.centre_low[r]
        batch.drift[place[r]] = few.drift[r]
        batch.mass_a[place[r]] = few.mass_a[r]
        batch.value[place[r]] = few.value[r]
        batch.again[place[r]] = few.again[r]
        some |= few.again[r]
    return some


cdef void rows_together(Tile *tile, Py_ssize_t start, Py_ssize_t rows, bint symmetric, Scale scale, real *t, double *out,
                        const source *unused) noexcept nogil:
    cdef Py_ssize_t classes = tile.classes, r
    cdef const source *a = <const source *>tile.true_rows + start * classes
    cdef const source *b = <const source *>tile.pred_rows + start * classes
    cdef Batch batch
    cdef bint plain
    cdef int again = 0, odd = 0
    row_tops(a, rows, classes, <source *>(t + GAP), batch.top_a)
    row_tops(b, rows, classes, <source *>(t + GAP), batch.top_b)
    plain = find_centres(rows, scale, &batch, <real>0)
    kl_pass(a, b, rows, classes, scale, plain, t, &batch)
    for r in range(rows):
        # differences beyond 3.4e38 overflow in float
        batch.odd[r] |= 1 - ((batch.value[r] < INFINITY) | (symmetric & (batch.gap[r] == INFINITY)))
        again |= batch.again[r]
        odd |= batch.odd[r]
    check_sums(tile, start, rows, &batch)
    if symmetric:
        js_pass(a, b, rows, classes, scale, t, &batch)
    if again and pass_again(a, b, rows, classes, scale, symmetric, t, &batch):
        if pass_again(a, b, rows, classes, scale, symmetric, t, &batch):
            for r in range(rows):
                batch.odd[r] |= batch.again[r]
            odd = 1
    for r in range(rows):
        out[start + r] = batch.value[r] if batch.value[r] > 0 else 0.0
    if odd:
        for r in range(rows):
            if batch.odd[r]:
                out[start + r] = row_alone(tile, start + r, symmetric)


# --- a row alone ----------------------------------------------------------------------------------

cdef inline const source *certain_copy(const source *x, Py_ssize_t n, source *out) noexcept nogil:
    """A maximum of +inf is certainty."""
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <source>0 if x[i] == <source>INFINITY else <source>-INFINITY
    return out


cdef inline void pieces_of(Pair *pair, Py_ssize_t block, real *t, const source *unused) noexcept nogil:
    """One block of a row into its parts."""
    cdef Py_ssize_t first = block * CHUNK, whole = min(CHUNK, pair.tile.classes - first), start = 0, n
    cdef const source *a = classes_of(pair.tile, 0, pair.r, first, whole, <char *>t, unused)
    cdef const source *b = classes_of(pair.tile, 1, pair.r, first, whole, <char *>t, unused)
    cdef const source *x
    cdef const source *y
    cdef source *room = <source *>(t + SPARE)
    cdef double *part = pair.parts + PARTS * block
    cdef Scale scale = pair.scale
    cdef real high, low, origin = octave_origin(<real>0)
    cdef double lost[PARTS]
    cdef int k
    if pair.task == TOPS:
        if source is float:
            part[0] = fe_lane_max_float(a, whole)
            part[1] = fe_lane_max_float(b, whole)
        else:
            part[0] = fe_lane_max_double(a, whole)
            part[1] = fe_lane_max_double(b, whole)
        return
    for k in range(PARTS):
        part[k] = lost[k] = 0
    split_centre(pair.centre, pair.centre_low, scale, &high, &low)
    while start < whole:
        n = min(<Py_ssize_t>PIECE, whole - start)
        x = a + start
        y = b + start
        if pair.certain_a:
            x = certain_copy(x, n, room)
        if pair.certain_b:
            y = certain_copy(y, n, room + PIECE)
        if pair.form == FAR:
            if real is double:
                far_row(x, y, n, pair.top_a, pair.top_b, high, low, pair.factor, scale, t, t + CENTRE)
                if pair.task == KL_SUMS:
                    far_kl(n, t + CENTRE, t)
                else:
                    far_js(n, t + CENTRE, 1 / pair.mass_a, 1 / pair.mass_b, t)
        else:
            write_constant(origin - <real>pair.octaves_a, n, t + SHIFT_A)
            if pair.form == PLAIN and pair.task == KL_SUMS:
                plain_kl(x, y, n, scale, t)
            else:
                write_constant(origin - <real>pair.octaves_b, n, t + SHIFT_B)
                write_constant(<real>pair.factor, n, t + FACTOR)
                write_constant(high, n, t + CENTRE)
                write_constant(low, n, t + CENTRE_LOW)
                if pair.task == KL_SUMS:
                    centred_kl(x, y, n, scale, t)
                else:
                    masses(x, y, n, scale, t)
                    write_constant(<real>(1 / pair.mass_a), n, t + PER_A)
                    write_constant(<real>(1 / pair.mass_b), n, t + PER_B)
                    centred_js(x, y, n, scale, t)
        two_sum_add(&part[0], &lost[0], row_sum(t + GAP, n))
        if pair.task == KL_SUMS:
            two_sum_add(&part[1], &lost[1], row_sum(t + DRIFT, n))
            two_sum_add(&part[2], &lost[2], row_sum(t + MASS_A, n))
            two_sum_add(&part[3], &lost[3], row_sum(t + MASS_B, n))
        start += n
    for k in range(PARTS):
        part[k] += lost[k] if lost[k] == lost[k] else 0.0


cdef void block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef Pair *pair = <Pair *>context
    if pair.precision == SINGLE:
        pieces_of(pair, block, <float *>scratch, <const float *>NULL)
    elif pair.precision == DOUBLE:
        pieces_of(pair, block, <double *>scratch, <const double *>NULL)
    else:
        pieces_of(pair, block, <double *>scratch, <const float *>NULL)


cdef inline void one_pass(Tile *tile, Pair *pair, Task task) noexcept nogil:
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


cdef void set_centre(Pair *pair, double centre, double centre_low) noexcept nogil:
    pair.centre = centre
    pair.centre_low = centre_low
    if pair.form == FAR:
        pair.factor = c_exp(-(centre + centre_low))
    else:
        if pair.precision == SINGLE:
            pair.factor = octaves_factor(pair.octaves_a, pair.octaves_b, centre, centre_low, scale_of(1), <float>0)
        else:
            pair.factor = octaves_factor(pair.octaves_a, pair.octaves_b, centre, centre_low, scale_of(1), <double>0)
        pair.form = CENTRED if centre + centre_low != 0 or pair.octaves_b != pair.octaves_a else PLAIN


cdef void first_centre(Pair *pair) noexcept nogil:
    """The form of the passes and their first centre, from the maxima. A far row is centred on its
    maxima, so that its c comes on top of their difference."""
    cdef double a = pair.top_a * pair.scale.inverse, b = pair.top_b * pair.scale.inverse
    cdef bint common = share_centre(a, b)
    pair.octaves_a = pair.octaves_b = 0
    if pair.precision == SINGLE and not in_reach(a, b, reach_of(<float>0)):
        pair.precision = WIDENED
    pair.form = PLAIN if in_reach(a, b, reach_of(<float>0 if pair.precision == SINGLE else <double>0)) else FAR
    if pair.form == FAR:
        set_centre(pair, 0, 0)
        return
    pair.octaves_a = octaves_of(a)
    pair.octaves_b = pair.octaves_a if common else octaves_of(b)
    set_centre(pair, 0.0 if common else b - a, 0)


cdef inline void move_centre(Pair *pair, double delta) noexcept nogil:
    """To the right centre."""
    cdef double factor = pair.factor
    if pair.centre == 0:
        set_centre(pair, delta, 0)
    else:
        set_centre(pair, pair.centre, pair.centre_low + delta)
    pair.mass_b *= pair.factor / factor


cdef double kl_of(Tile *tile, Pair *pair, bint symmetric) noexcept nogil:
    """KL of the pair, and its masses and right centre as a side effect."""
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double gap, drift, value, apart = (pair.top_b - pair.top_a) * pair.scale.inverse
    cdef double threshold = threshold_of(<float>0) if pair.precision == SINGLE else threshold_of(<double>0)
    cdef int attempt, again
    for attempt in range(4):
        one_pass(tile, pair, KL_SUMS)
        gap = ordered_sum(pair.parts, count, PARTS)
        drift = ordered_sum(pair.parts + 1, count, PARTS)
        pair.mass_a = ordered_sum(pair.parts + 2, count, PARTS)
        pair.mass_b = ordered_sum(pair.parts + 3, count, PARTS)
        value = kl_value(gap, drift, pair.mass_a, threshold, &again)
        if not again:
            break
        if pair.form == PLAIN and apart != 0:
            pair.octaves_b = octaves_of(pair.top_b * pair.scale.inverse)
            set_centre(pair, apart, 0)
        else:
            move_centre(pair, log1p_of(drift / pair.mass_a))
    if symmetric and not again and value == value:
        move_centre(pair, log1p_of(drift / pair.mass_a))
    return value if not value < 0 else 0.0


cdef double js_of(Tile *tile, Pair *pair) noexcept nogil:
    cdef double value = kl_of(tile, pair, True)
    if value != value:
        return value
    one_pass(tile, pair, JS_SUM)
    value = ordered_sum(pair.parts, blocks_of(tile.classes), PARTS)
    return value if not value < 0 else 0.0


cdef inline void check_pair(Tile *tile, Py_ssize_t r, Pair *pair) noexcept nogil:
    """Row sums of log-probabilities."""
    cdef double origin_a = pair.octaves_a * 0.69314718055994530942, origin_b = origin_a
    if pair.form == FAR:
        origin_a = pair.top_a
        origin_b = pair.top_b
    if tile.true_kind == LOGPROBS:
        check_log_sum(tile, r, 0, origin_a, pair.mass_a)
    if tile.pred_kind == LOGPROBS:
        check_log_sum(tile, r, 1, origin_b + pair.centre + pair.centre_low, pair.mass_b)


cdef double pair_value(Tile *tile, Py_ssize_t r, Pair *pair, bint symmetric) noexcept nogil:
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double value
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
    pair.certain_a = pair.top_a == INFINITY
    pair.certain_b = pair.top_b == INFINITY
    pair.top_a = 0 if pair.certain_a else pair.top_a
    pair.top_b = 0 if pair.certain_b else pair.top_b
    first_centre(pair)
    value = js_of(tile, pair) if symmetric else kl_of(tile, pair, False)
    if tile.normalise and value == value:
        check_pair(tile, r, pair)
    return value


cdef double row_alone(Tile *tile, Py_ssize_t r, bint symmetric) noexcept nogil:
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double few[PARTS * 64]
    cdef double value
    cdef Pair pair
    pair.parts = &few[0]
    if count > 64:
        pair.parts = <double *>malloc(PARTS * count * sizeof(double))
        if pair.parts == NULL:
            return NAN
    pair.tile = tile
    pair.r = r
    pair.scale = scale_of(tile.temperature)
    pair.precision = tile.precision
    value = pair_value(tile, r, &pair, symmetric)
    if tile.precision == SINGLE and not value < INFINITY:
        # differences beyond 3.4e38 overflow in float
        pair.precision = WIDENED
        value = pair_value(tile, r, &pair, symmetric)
    if count > 64:
        free(pair.parts)
    return value


cdef void rows_of(Tile *tile, double *out, bint symmetric, real *t, const source *unused) noexcept nogil:
    cdef Py_ssize_t r = 0, n
    cdef Scale scale = scale_of(tile.temperature)
    if tile.classes > PIECE:
        for r in range(tile.rows):
            out[r] = row_alone(tile, r, symmetric)
        return
    while r < tile.rows:
        n = min(PIECE // tile.classes, tile.rows - r)
        rows_together(tile, r, n, symmetric, scale, t, out, <const source *>NULL)
        r += n


cdef void divergence_rows(Tile *tile, double *out, bint symmetric) noexcept nogil:
    if tile.precision == SINGLE:
        rows_of(tile, out, symmetric, <float *>tile.scratch, <const float *>NULL)
    elif tile.precision == DOUBLE:
        rows_of(tile, out, symmetric, <double *>tile.scratch, <const double *>NULL)
    else:
        rows_of(tile, out, symmetric, <double *>tile.scratch, <const float *>NULL)


cdef void kl_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[0], False)


cdef void js_rows(Tile *tile, double **out) noexcept nogil:
    divergence_rows(tile, out[0], True)


cdef Table table
table.kernels[0] = kl_rows
table.kernels[1] = js_rows
kernels = capsule_of(&table)
