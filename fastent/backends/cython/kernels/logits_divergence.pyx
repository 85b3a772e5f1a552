"""KL and Jensen-Shannon divergence, and total variation, of two rows of logits or log-probabilities.

With v = (b − a)/T − c for any constant c of the row, masses e_a ∝ exp(a/T) and e_b = e_a·e^v, and
φ(v) = e^v − 1 − v >= 0:

    F = Σ e_a·φ(v),  E = Σ (e_b − e_a),  A = Σ e_a       KL = F/A − h(E/A)    exactly, for every c.

The subtraction is harmless unless c is far from the right centre, c + log1p(E/A); then the pass is
done again. The first c is 0 where the maxima differ little, so that v costs one subtraction; then
the difference of the maxima, which is exact where one class has all of the mass; then the right one.

Short rows are mapped together, as many as fit a piece, and those that need a second pass together
again; rows of a few classes in one flat loop (logits_divergence_terms.pxd), others one by one (logits_divergence_sums.pxd).
Long rows, and what is rare, are done alone (logits_divergence_long.pxd).

JS takes the right centre from the sums of the masses alone, which leaves an error of their rounding,
and the one of KL where the rows are so near that this would show. Total variation, of floats only, is
half of Σ |e_b − e_a| per mass at the right centre of KL, to which it returns until Σ (e_b − e_a) is 0.
"""

from libc.string cimport memcpy

from fastent.backends.cython.kernels.checks cimport check_log_sum, sum_bounds
from fastent.backends.cython.arithmetic.functions cimport INFINITY, fe_lane_max, fe_row_sums, log1p_of, magnitude, real
from fastent.backends.cython.kernels.logits_exp cimport Scale, exp_over, scale_of
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM
from fastent.backends.cython.kernels.interface cimport DOUBLE, LOADED, LOGPROBS, SINGLE, Kernel, Tile, report
from fastent.backends.cython.kernels.logits_divergence_long cimport (
    WANT_DISTANCE, WANT_JS, WANT_KL, WANT_REVERSE, PairValues, in_reach, kl_value, least_js, most_drift,
    octaves_factor, octaves_of, row_alone, share_centre, widen,
)
from fastent.backends.cython.kernels.logits_divergence_sums cimport (
    CENTRED_KL, Constants, DISTANCE, JS, LANES, MASSES, Sums, sum_lanes,
)
from fastent.backends.cython.kernels.logits_divergence_terms cimport (
    CENTRE, CENTRE_LOW, MASS_DIFFERENCE, FACTOR, GAP, MASS_A, MASS_B, PER_A, PER_B, SHIFT_A, SHIFT_B, js_of_classes,
    kl_of_classes, masses, octave_origin, split_centre,
)
from fastent.backends.cython.kernels.logits_divergence_few cimport MOST_FEW, PIECE, VECTOR, PairBatch, few_pairs_kl
from fastent.backends.cython.kernels.logits_across cimport ACROSS, FEW_LOGIT_PAIRS, lay_across
from fastent.backends.cython.arithmetic.sums cimport row_sums
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.slots cimport JS_ROWS, KL_ROWS, OUT_DIVERGENCE, OUT_JS, OUT_KL, OUT_TOTAL_VARIATION

cdef enum:
    FEW_DOUBLE = 128                    # doubles: classes up to which rows are mapped in one flat loop
    SLIDING = 16                        # and maxima taken over sliding windows
    CONSTANTS = 16                      # a row's constant is written in vectors of this many
    MOST = 32                           # rows of more classes that are taken together

cdef enum Written:                      # of a number
    OCTAVES                             # what takes them off
    ROUNDED
    INVERSE


# --- rows of a few classes ------------------------------------------------------------------------

cdef inline void write_constant(real x, Py_ssize_t n, real *out) noexcept nogil:
    """n copies, in whole vectors."""
    cdef Py_ssize_t i = 0
    cdef int k
    while i < n:
        for k in range(CONSTANTS):
            out[i + k] = x
        i += CONSTANTS


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


cdef void wider_windows(const real *x, Py_ssize_t n, Py_ssize_t step, real *out) noexcept nogil:
    """Maxima of two windows a step apart, NaN if there is one."""
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x[i + step] if (x[i + step] > x[i]) | (x[i + step] != x[i + step]) else x[i]


cdef void few_tops(const real *x, Py_ssize_t rows, Py_ssize_t classes, real *room, double *out) noexcept nogil:
    """Maxima of consecutive rows, NaN where a row holds one, over windows that double in width: a
    vector at a time, whatever the number of classes."""
    cdef Py_ssize_t r, n = rows * classes, width = 1, step
    cdef real *spare = room + ROOM
    while width < classes:
        step = min(width, classes - width)
        n -= step
        wider_windows(x, n, step, room)
        width += step
        x = room
        room = spare
        spare = <real *>x
    for r in range(rows):
        out[r] = x[r * classes]


cdef inline void write_centres(const double *centre, const double *centre_low, Py_ssize_t rows, Py_ssize_t classes,
                               Scale scale, real *t) noexcept nogil:
    cdef Py_ssize_t r
    cdef real[PIECE] high, low
    for r in range(rows):
        split_centre(centre[r], centre_low[r], scale, &high[r], &low[r])
    write_constants(<const real *>high, rows, classes, t + CENTRE)
    write_constants(<const real *>low, rows, classes, t + CENTRE_LOW)


cdef inline void write_numbers(Written form, const double *numbers, Py_ssize_t rows, Py_ssize_t classes, real *out) noexcept nogil:
    cdef Py_ssize_t r
    cdef real x[PIECE]
    for r in range(rows):
        if form == OCTAVES:
            x[r] = octave_origin(<real>0) - <real>numbers[r]
        else:
            x[r] = <real>(1 / numbers[r] if form == INVERSE else numbers[r])
    write_constants(<const real *>x, rows, classes, out)


# --- rows of more classes -------------------------------------------------------------------------

cdef void rows_in_turn(Sums what, const real *a, const real *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale,
                       PairBatch *batch, double *first, double *second, double *third) noexcept nogil:
    """Up to three sums of each row, those of JS and distances at the right centre."""
    cdef double lanes[3 * MOST * LANES + LANES]
    cdef double sums[3 * MOST]
    cdef Py_ssize_t start = 0, n, r, at, ahead = 0 if what == DISTANCE else rows * classes
    cdef bint right = what == JS or what == DISTANCE
    cdef Constants row
    while start < rows:
        n = min(<Py_ssize_t>MOST, rows - start)
        for r in range(n):
            at = start + r
            row.octaves_a = batch.octaves_a[at]
            row.octaves_b = batch.octaves_b[at]
            row.factor = batch.factor[at]
            row.centre = batch.right[at] if right else batch.centre[at]
            row.centre_low = batch.right_low[at] if right else batch.centre_low[at]
            row.per_a = 1 / batch.mass_a[at] if what == JS else 0.0
            row.per_b = 1 / batch.mass_b[at] if what == JS else 0.0
            sum_lanes(what, a + at * classes, b + at * classes, classes, ahead, row, scale, lanes + 3 * r * LANES)
        fe_row_sums(&lanes[0], 3 * n, LANES, &sums[0])
        for r in range(n):
            first[start + r] = sums[3 * r]
            if what != JS:
                second[start + r] = sums[3 * r + 1]
            if what == CENTRED_KL or what == DISTANCE:
                third[start + r] = sums[3 * r + 2]
        start += n


# --- either ---------------------------------------------------------------------------------------

cdef inline bint few(Py_ssize_t classes, bint single) noexcept nogil:
    return classes <= (FEW_LOGIT_PAIRS if single else FEW_DOUBLE)


cdef void row_tops(const real *x, Py_ssize_t rows, Py_ssize_t classes, real *room, double *out) noexcept nogil:
    """Maxima of consecutive rows, NaN where a row holds one."""
    cdef Py_ssize_t r
    if classes <= SLIDING:
        few_tops(x, rows, classes, room, out)
        return
    for r in range(rows):
        out[r] = fe_lane_max(x + r * classes, classes)


cdef bint find_centres(Py_ssize_t rows, Scale scale, PairBatch *batch, real unused) noexcept nogil:
    """First centres of rows from their maxima; True if all are 0."""
    cdef Py_ssize_t r
    cdef double a, b, octaves_a, octaves_b, c
    cdef int some = 0, fits
    for r in range(rows):
        a = batch.top_a[r] * scale.inverse
        b = batch.top_b[r] * scale.inverse
        fits = in_reach(a, b, real is float)
        a = a if fits else 0.0
        b = b if fits else 0.0
        octaves_a = octaves_of(a)
        octaves_b = octaves_a if share_centre(a, b) else octaves_of(b)
        c = 0.0 if share_centre(a, b) else b - a
        batch.octaves_a[r] = octaves_a
        batch.octaves_b[r] = octaves_b
        batch.centre[r] = c
        batch.centre_low[r] = 0
        batch.factor[r] = octaves_factor(octaves_a, octaves_b, c, 0, real is float)
        batch.nonfinite[r] = 1 - fits
        some |= c != 0
    return not some


cdef inline void settle_centres(Py_ssize_t rows, PairBatch *batch) noexcept nogil:
    """The right centres, from the sums of a pass."""
    cdef Py_ssize_t r
    cdef double delta
    for r in range(rows):
        delta = log1p_of(batch.mass_difference[r] / batch.mass_a[r])
        batch.right_low[r] = 0.0 if batch.centre[r] == 0 else batch.centre_low[r] + delta
        batch.right[r] = delta if batch.centre[r] == 0 else batch.centre[r]


cdef void kl_pass(const real *a, const real *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale, bint plain,
                  real *t, PairBatch *batch) noexcept nogil:
    """Values of KL and whether they need a better centre; the sums stay for JS."""
    cdef Py_ssize_t r, n = rows * classes
    if few(classes, real is float):
        write_numbers(OCTAVES, batch.octaves_a, rows, classes, t + SHIFT_A)
        if plain:
            kl_of_classes(True, a, b, n, scale, t)
        else:
            write_numbers(OCTAVES, batch.octaves_b, rows, classes, t + SHIFT_B)
            write_numbers(ROUNDED, batch.factor, rows, classes, t + FACTOR)
            write_centres(batch.centre, batch.centre_low, rows, classes, scale, t)
            kl_of_classes(False, a, b, n, scale, t)
        row_sums(t + GAP, rows, classes, batch.gap)
        row_sums(t + MASS_DIFFERENCE, rows, classes, batch.mass_difference)
        row_sums(t + MASS_A, rows, classes, batch.mass_a)
    else:
        rows_in_turn(CENTRED_KL, a, b, rows, classes, scale, batch, batch.gap, batch.mass_difference, batch.mass_a)
    for r in range(rows):
        batch.value[r] = kl_value(batch.gap[r], batch.mass_difference[r], batch.mass_a[r], real is float, &batch.again[r])


cdef void mass_pass(const real *a, const real *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale, real *t,
                    PairBatch *batch) noexcept nogil:
    """The masses and their sums."""
    if few(classes, real is float):
        write_numbers(OCTAVES, batch.octaves_a, rows, classes, t + SHIFT_A)
        write_numbers(OCTAVES, batch.octaves_b, rows, classes, t + SHIFT_B)
        write_numbers(ROUNDED, batch.factor, rows, classes, t + FACTOR)
        masses(a, b, rows * classes, scale, t)
        row_sums(t + MASS_A, rows, classes, batch.mass_a)
        row_sums(t + MASS_B, rows, classes, batch.mass_b)
    else:
        rows_in_turn(MASSES, a, b, rows, classes, scale, batch, batch.mass_a, batch.mass_b, NULL)


cdef void js_pass(const real *a, const real *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale, real *t,
                  PairBatch *batch) noexcept nogil:
    """Values of JS from the masses of `mass_pass` and the right centres."""
    if few(classes, real is float):
        write_centres(batch.right, batch.right_low, rows, classes, scale, t)
        write_numbers(INVERSE, batch.mass_a, rows, classes, t + PER_A)
        write_numbers(INVERSE, batch.mass_b, rows, classes, t + PER_B)
        js_of_classes(a, b, rows * classes, scale, t)
        row_sums(t + GAP, rows, classes, batch.value)
    else:
        rows_in_turn(JS, a, b, rows, classes, scale, batch, batch.value, NULL, NULL)


cdef void first_js(const real *a, const real *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale, real *t,
                   PairBatch *batch) noexcept nogil:
    """Values of JS and whether they need a better centre than the sums of the masses give."""
    cdef Py_ssize_t r
    cdef double least = least_js(real is float)
    mass_pass(a, b, rows, classes, scale, t, batch)
    for r in range(rows):
        batch.mass_difference[r] = batch.mass_b[r] - batch.mass_a[r]
    settle_centres(rows, batch)
    js_pass(a, b, rows, classes, scale, t, batch)
    for r in range(rows):
        batch.again[r] = batch.value[r] < least


cdef void check_sums(Tile *tile, Py_ssize_t start, Py_ssize_t rows, PairBatch *batch) noexcept nogil:
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
        b = (batch.mass_a[r] + batch.mass_difference[r]) * exp_over(origin if origin < 700 else 700.0, 0, unit)
        some |= (a < low) | (a > high) | (b < low) | (b > high)
    if not some:
        return
    for r in range(rows):
        if batch.nonfinite[r]:
            continue
        origin = batch.octaves_a[r] * 0.69314718055994530942
        if of_a:
            check_log_sum(tile, start + r, 0, origin, batch.mass_a[r])
        if of_b:
            check_log_sum(tile, start + r, 1, origin + batch.centre[r], batch.mass_a[r] + batch.mass_difference[r])


cdef bint pass_again(const real *a, const real *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale, bint symmetric,
                     bint by_masses, real *t, PairBatch *batch) noexcept nogil:
    """Another pass for the rows that want one, moved together, with their next centre; True if some
    want yet another. What the masses gave (`by_masses`) is no centre to go on from: its rounding stays
    where the difference of the maxima is exact."""
    cdef real[CHUNK + CONSTANTS] moved_a, moved_b
    cdef Py_ssize_t place[PIECE]
    cdef PairBatch some
    cdef Py_ssize_t r, k = 0
    cdef double apart
    cdef int more = 0
    settle_centres(rows, batch)
    for r in range(rows):
        if not batch.again[r] or batch.nonfinite[r]:
            continue
        memcpy(moved_a + k * classes, a + r * classes, classes * sizeof(real))
        memcpy(moved_b + k * classes, b + r * classes, classes * sizeof(real))
        place[k] = r
        apart = (batch.top_b[r] - batch.top_a[r]) * scale.inverse
        some.octaves_a[k] = batch.octaves_a[r]
        some.octaves_b[k] = batch.octaves_b[r]
        some.centre[k] = batch.right[r]
        some.centre_low[k] = batch.right_low[r]
        if by_masses or batch.centre[r] == 0 and apart != 0:
            some.centre_low[k] = 0
            some.octaves_b[k] = octaves_of(batch.top_b[r] * scale.inverse)
            some.centre[k] = apart
        some.factor[k] = octaves_factor(some.octaves_a[k], some.octaves_b[k], some.centre[k],
                                        some.centre_low[k], real is float)
        k += 1
    a = <const real *>moved_a
    b = <const real *>moved_b
    kl_pass(a, b, k, classes, scale, False, t, &some)
    if symmetric:
        settle_centres(k, &some)
        mass_pass(a, b, k, classes, scale, t, &some)
        js_pass(a, b, k, classes, scale, t, &some)
    for r in range(k):
        batch.octaves_b[place[r]] = some.octaves_b[r]
        batch.centre[place[r]] = some.centre[r]
        batch.centre_low[place[r]] = some.centre_low[r]
        batch.mass_difference[place[r]] = some.mass_difference[r]
        batch.mass_a[place[r]] = some.mass_a[r]
        batch.value[place[r]] = some.value[r]
        batch.again[place[r]] = some.again[r]
        more |= some.again[r]
    return more


cdef void distances(const real *a, const real *b, Py_ssize_t rows, Py_ssize_t classes, Scale scale, PairBatch *batch,
                    double *out) noexcept nogil:
    """Total variations of rows whose KL is known, by passes at the right centre, until their masses are the same
    as far as floats can tell; −1 where they do not become so."""
    cdef double apart[PIECE]
    cdef double limit = most_drift(real is float)
    cdef Py_ssize_t r
    cdef int attempt, left
    for r in range(rows):
        out[r] = -1
    for attempt in range(4):
        settle_centres(rows, batch)
        for r in range(rows):
            batch.factor[r] = octaves_factor(batch.octaves_a[r], batch.octaves_b[r], batch.right[r],
                                             batch.right_low[r], real is float)
        rows_in_turn(DISTANCE, a, b, rows, classes, scale, batch, apart, batch.mass_difference, batch.mass_a)
        left = 0
        for r in range(rows):
            batch.centre[r] = batch.right[r]
            batch.centre_low[r] = batch.right_low[r]
            if out[r] < 0 and not batch.nonfinite[r]:
                if magnitude(batch.mass_difference[r]) <= limit * apart[r]:
                    out[r] = 0.5 * apart[r] / batch.mass_a[r]
                else:
                    left = 1
        if not left:
            break


cdef void few_kl_rows(const real *a, const real *b, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t readable,
                      Scale scale, real *t, PairBatch *batch) noexcept nogil:
    """Values of up to MOST_FEW rows of a few classes; `readable` elements of both operands may be read."""
    cdef Py_ssize_t r = 0
    cdef real[MOST_FEW] top_a, top_b
    lay_across(a, rows, classes, readable, t, top_a)
    lay_across(b, rows, classes, readable, t + ACROSS, top_b)
    while r < rows:
        few_pairs_kl(t + r, t + ACROSS + r, classes, scale, top_a + r, top_b + r, r, batch)
        r += VECTOR


cdef void rows_together(Tile *tile, const real *a, const real *b, Py_ssize_t start, Py_ssize_t rows, Py_ssize_t readable,
                        bint symmetric, Scale scale, real *t, double *out, double *distance) noexcept nogil:
    cdef Py_ssize_t classes = tile.classes, r
    cdef PairBatch batch
    cdef bint plain
    cdef int again = 0, nonfinite = 0, k, wanted = (WANT_JS if symmetric else WANT_KL) if out != NULL else 0
    cdef PairValues alone
    if classes <= FEW_LOGIT_PAIRS and not symmetric:
        few_kl_rows(a, b, rows, classes, readable, scale, t, &batch)
    else:
        row_tops(a, rows, classes, t + GAP, batch.top_a)
        row_tops(b, rows, classes, t + GAP, batch.top_b)
        plain = find_centres(rows, scale, &batch, <real>0)
        if symmetric:
            first_js(a, b, rows, classes, scale, t, &batch)
        else:
            kl_pass(a, b, rows, classes, scale, plain, t, &batch)
    for r in range(rows):
        # differences beyond 3.4e38 overflow in float
        batch.nonfinite[r] |= 1 - (batch.value[r] < INFINITY)
        again |= batch.again[r]
        nonfinite |= batch.nonfinite[r]
    check_sums(tile, start, rows, &batch)
    for k in range(3):
        again = again and pass_again(a, b, rows, classes, scale, symmetric, symmetric and k == 0, t, &batch)
    if again:
        for r in range(rows):
            batch.nonfinite[r] |= batch.again[r]
        nonfinite = 1
    if out != NULL:
        for r in range(rows):
            out[start + r] = batch.value[r] if batch.value[r] > 0 else 0.0
    if nonfinite:
        for r in range(rows):
            if batch.nonfinite[r]:
                alone = row_alone(tile, start + r, wanted)
                if out != NULL:
                    out[start + r] = alone.js if symmetric else alone.kl
    if distance != NULL:
        distances(a, b, rows, classes, scale, &batch, distance + start)
        for r in range(rows):
            if distance[start + r] < 0:
                alone = row_alone(tile, start + r, WANT_DISTANCE)
                distance[start + r] = alone.distance


cdef void long_rows(Tile *tile, double *kl, double *reverse, double *js, double *distance) noexcept nogil:
    """Values of pairs that are done alone, those that are not wanted NULL."""
    cdef int wanted = (WANT_KL if kl != NULL else 0) | (WANT_REVERSE if reverse != NULL else 0)
    cdef PairValues found
    cdef Py_ssize_t r
    wanted |= (WANT_JS if js != NULL else 0) | (WANT_DISTANCE if distance != NULL else 0)
    for r in range(tile.rows):
        found = row_alone(tile, r, wanted)
        if kl != NULL:
            kl[r] = found.kl
        if reverse != NULL:
            reverse[r] = found.reverse
        if js != NULL:
            js[r] = found.js
        if distance != NULL:
            distance[r] = found.distance


cdef void divergence_rows(Tile *tile, double *out, double *distance, bint symmetric) noexcept nogil:
    cdef Py_ssize_t classes = tile.classes, r = 0, n, most
    cdef Scale scale = scale_of(tile.temperature)
    cdef float *t = <float *>tile.scratch
    cdef double *wide = <double *>tile.scratch
    cdef double *wide_a = <double *>(tile.scratch + LOADED)
    cdef double *wide_b = wide_a + ROOM
    cdef const void *a = tile.true_rows
    cdef const void *b = tile.pred_rows
    most = min(<Py_ssize_t>MOST, CHUNK // classes)
    if classes <= FEW_LOGIT_PAIRS and not symmetric:
        most = MOST_FEW if classes * MOST_FEW <= CHUNK else MOST_FEW // 2
    elif few(classes, tile.precision == SINGLE):
        most = PIECE // classes
    while r < tile.rows:
        n = min(most, tile.rows - r)
        if tile.precision == SINGLE:
            rows_together(tile, <const float *>a + r * classes, <const float *>b + r * classes, r, n,
                          (tile.rows - r) * classes, symmetric, scale, t, out, distance)
        elif tile.precision == DOUBLE:
            rows_together(tile, <const double *>a + r * classes, <const double *>b + r * classes, r, n,
                          (tile.rows - r) * classes, symmetric, scale, wide, out, distance)
        else:
            widen(<const float *>a + r * classes, n * classes, wide_a)
            widen(<const float *>b + r * classes, n * classes, wide_b)
            rows_together(tile, <const double *>wide_a, <const double *>wide_b, r, n, n * classes, symmetric, scale, wide,
                          out, distance)
        r += n


cdef void pair_rows(Tile *tile, double **out) noexcept nogil:
    """All that there is: KL and total variation, KL of the operands in the other order, JS. Where nothing is
    wanted the row sums are looked at."""
    cdef double *kl = out[OUT_KL]
    cdef double *reverse = out[OUT_DIVERGENCE]
    cdef double *js = out[OUT_JS]
    cdef double *distance = out[OUT_TOTAL_VARIATION]
    cdef bint forward = kl != NULL or distance != NULL or (js == NULL and reverse == NULL)
    cdef Tile other
    if tile.classes > CHUNK and (forward or js != NULL):
        long_rows(tile, kl, reverse, js, distance)
        return
    if forward:
        divergence_rows(tile, kl, distance, False)
    if js != NULL:
        divergence_rows(tile, js, NULL, True)
    if reverse != NULL:
        other = tile[0]                 # with its operands in the other order
        other.true_rows, other.pred_rows = tile.pred_rows, tile.true_rows
        other.true_source, other.pred_source = tile.pred_source, tile.true_source
        other.true_kind, other.pred_kind = tile.pred_kind, tile.true_kind
        other.bad.row = -1
        if tile.classes > CHUNK:
            long_rows(&other, reverse, NULL, NULL, NULL)
        else:
            divergence_rows(&other, reverse, NULL, False)
        if other.bad.row >= 0:
            report(tile, other.bad.row, other.bad.code, 1 - other.bad.operand, other.bad.number)
        tile.no_memory |= other.no_memory


cdef Kernel table[2]
table[<int>KL_ROWS] = pair_rows
table[<int>JS_ROWS] = pair_rows         # one step makes all of them
functions = exported(&table)
