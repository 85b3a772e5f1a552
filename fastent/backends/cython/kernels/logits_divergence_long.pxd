"""KL, JS and total variation of one pair of rows of logits alone: long rows, by blocks that threads may
share, and whatever is rare: maxima that are infinite or NaN, logits beyond float's reach.

A long row is not read for its maxima first: those of its first block give octaves and centre, and each
block sees to it that its own are no larger than floats can hold. Else the maxima are taken after all.

What is wanted of a pair shares passes, and has the same bits alone: the first pass has the sums of KL, and
of KL of b and a where c is 0; its sums are the masses, and give the right centre for a second one, that of JS
and of total variation.
"""

from libc.math cimport exp as c_exp
from libc.stdlib cimport free, malloc

from fastent.backends.cython.kernels.checks cimport check_log_sum
from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, NAN, c_fabs, c_fma, excess, fe_lane_max, fe_row_sums, log1p_of, lost_by, nearest_shifted, real, rounding,
    shift_of,
)
from fastent.backends.cython.kernels.logits_exp cimport Scale, exp_over, scale_of
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, DOUBLE_BLOCK, blocks_of
from fastent.backends.cython.kernels.interface cimport DOUBLE, LOGPROBS, SINGLE, WIDENED, Tile
from fastent.backends.cython.kernels.logits_divergence_sums cimport (
    BOTH_KL, CENTRED_KL, Constants, DISTANCE, JS, JS_DISTANCE, LANES, MOST_SUMS, Sums, TOPS, room_of, sum_lanes,
)
from fastent.backends.cython.kernels.logits_divergence_terms cimport (
    CENTRE, MASS_DIFFERENCE, FACTOR, GAP, MASS_A, MASS_B, SPARE, end_of_mass, js_term, kl_terms, octave, split_centre,
)
from fastent.backends.cython.kernels.row_blocks cimport classes_of
from fastent.backends.cython.arithmetic.sums cimport ordered_sum, row_sum, two_sum_add

cdef enum:
    TOP_A = MOST_SUMS                   # of a block: its sums, and its maxima
    TOP_B, PARTS
    MOST_PASSES = 4                     # for one value
    MANY = 128                          # blocks whose parts fit the stack

cdef enum Wanted:                       # of a pair, together
    WANT_KL = 1
    WANT_REVERSE = 2                    # KL of b and a
    WANT_JS = 4
    WANT_DISTANCE = 8
    WANT_CHECK = 16                     # of the row sums, in any case

cdef struct PairValues:
    double kl, reverse, js, distance

cdef enum Form:                         # how v and the masses are computed
    PLAIN, CENTRED, FAR

cdef struct Pair:
    Tile *tile
    Py_ssize_t r
    int precision
    bint swapped                        # b is the true operand
    bint certain_a                      # its maximum is +inf: 0 where it is +inf, −inf elsewhere
    bint certain_b
    bint guessed                        # the maxima are those of the first block
    Scale scale
    Form form
    double top_a, top_b
    Constants row
    double gap                          # F
    double mass_a                       # Σ e_a, Σ e_b
    double mass_b
    double mass_difference              # Σ (e_b − e_a)
    int passes                          # with these sums
    Sums what                           # a pass computes
    double *parts


cdef inline bint in_reach(double a, double b, bint single) noexcept nogil:
    """Whether with these maxima whole octaves times ln 2 are exact, with what lies below them."""
    cdef double reach = 256 if single else 1024
    return (c_fabs(a) <= reach) & (c_fabs(b) <= reach) & (c_fabs(b - a) <= 64)


cdef inline bint share_centre(double a, double b) noexcept nogil:
    """Whether rows with these maxima have c = 0 and the octaves of a."""
    return c_fabs(b - a) <= 1.25


cdef inline double octaves_of(double top) noexcept nogil:
    return shift_of(nearest_shifted(top * 1.4426950408889634074))


cdef inline double octaves_factor(double octaves_a, double octaves_b, double centre, double centre_low,
                                  bint single) noexcept nogil:
    """What makes 2^−n_b·exp(b/T) the masses 2^−n_a·exp(b/T − c). The exponent goes in as two parts:
    rounded, it cost 7e-15 where the maxima are 50 apart."""
    cdef double n = octaves_b - octaves_a, c = centre + centre_low
    cdef double whole = n * octave(single), low = c_fma(n, octave(single), -whole)
    cdef double high = whole - c
    low -= rounding(centre, -centre_low, c)
    low += rounding(whole, c, high)
    if not single:
        low += n * 2.3190468138462995584e-17            # what ln 2 lacks
    return exp_over(high, low, scale_of(1))


cdef inline double threshold_of(bint single) noexcept nogil:
    return 0.3 if single else 0.5


cdef inline double kl_value(double gap, double mass_difference, double mass, bint single, int *again) noexcept nogil:
    """KL, and whether a better centre is needed: also where A + E = Σ e_b has lost a digit of a double, as where a
    flat row meets a peaked one."""
    cdef double share = gap / mass, least = -1 if single else -0.9
    cdef double second_order = excess(mass_difference / mass)
    again[0] = ((second_order > threshold_of(single) * c_fabs(share)) | (mass_difference < least * mass)) & (share < INFINITY)
    return share - second_order


cdef inline double least_js(bint single) noexcept nogil:
    """JS for which a centre from the sums of the masses, or of the first pass for KL, will do: its error, η,
    adds η²/8."""
    return 1e-6 if single else 1e-13


cdef inline const real *ready(const real *x, Py_ssize_t n, bint certain, real *out) noexcept nogil:
    """A maximum of +inf is certainty."""
    cdef Py_ssize_t i
    if not certain:
        return x
    for i in range(n):
        out[i] = <real>0 if x[i] == <real>INFINITY else <real>-INFINITY
    return out


cdef inline void widen(const float *x, Py_ssize_t n, double *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x[i]


cdef inline void far_sums(Pair *pair, const double *a, const double *b, Py_ssize_t n, double *t, double *sums) noexcept nogil:
    """The sums of n logits beyond the reach of the others: each operand is taken from its own maximum first,
    in two parts, as the low parts of b − a would be rounded in units of its size."""
    cdef double c, c_low, ah, al, bh, bl, ea, eb, top_a = pair.top_a, top_b = pair.top_b
    cdef double least = end_of_mass(top_a)
    cdef double *v = t + CENTRE
    cdef Constants row = pair.row
    cdef Scale scale = pair.scale
    cdef Py_ssize_t i
    split_centre(row.centre, row.centre_low, scale, &c, &c_low)
    for i in range(n):
        ah = a[i] - top_a
        al = lost_by(a[i], top_a, ah)
        bh = b[i] - top_b
        bl = lost_by(b[i], top_b, bh)
        ea = exp_over(ah, al, scale)
        eb = exp_over(bh, bl, scale) * row.factor
        t[MASS_A + i] = ea if ea > least else least
        t[MASS_B + i] = eb if eb > least else least
        v[i] = (((bh - ah) - c) + ((bl - al) - c_low)) * scale.inverse
    if pair.what == JS:
        for i in range(n):
            t[GAP + i] = js_term(t[MASS_A + i] * row.per_a, t[MASS_B + i] * row.per_b, v[i])
        sums[0] = row_sum(t + GAP, n)
        return
    for i in range(n):
        kl_terms(t[MASS_A + i], t[MASS_B + i], v[i], t + GAP + i, t + MASS_DIFFERENCE + i)
    if pair.what == DISTANCE:
        for i in range(n):
            t[GAP + i] = c_fabs(t[MASS_DIFFERENCE + i])
    sums[0] = row_sum(t + GAP, n)
    sums[1] = row_sum(t + MASS_DIFFERENCE, n)
    sums[2] = row_sum(t + MASS_A, n)


cdef inline void near_sums(Pair *pair, const real *a, const real *b, Py_ssize_t n, double *sums) noexcept nogil:
    cdef double lanes[(MOST_SUMS + 1) * LANES]
    # the next block, where it is in memory as this one is
    cdef Py_ssize_t ahead = n if pair.tile.true_source == NULL and pair.tile.pred_source == NULL else 0
    sum_lanes(pair.what, a, b, n, ahead, pair.row, pair.scale, &lanes[0])
    fe_row_sums(&lanes[0], room_of(pair.what), LANES, sums)


cdef inline bint as_guessed(Pair *pair, const double *part) noexcept nogil:
    """Whether the maxima of a block are at most 40 above those of the first one: floats hold their
    exponentials and the sums of them."""
    cdef double most = 40 * pair.scale.temperature
    return (part[TOP_A] - pair.top_a <= most) & (part[TOP_B] - pair.top_b <= most)


cdef inline void sums_of_block(Pair *pair, const real *a, const real *b, Py_ssize_t whole, real *t, double *part) noexcept nogil:
    """One block of a row into its part."""
    cdef Py_ssize_t most = CHUNK if real is float else DOUBLE_BLOCK, start = 0, n
    cdef const real *x
    cdef const real *y
    cdef double[TOP_A] lost, sums
    cdef int k
    if pair.what == TOPS or pair.guessed:
        part[TOP_A] = fe_lane_max(a, whole)
        part[TOP_B] = fe_lane_max(b, whole)
        if pair.what == TOPS:
            return
    for k in range(TOP_A):
        part[k] = lost[k] = sums[k] = 0
    if pair.guessed and not as_guessed(pair, part):
        for k in range(TOP_A):
            part[k] = NAN
        return
    while start < whole:
        n = min(most, whole - start)
        x = ready(a + start, n, pair.certain_a, t + FACTOR)
        y = ready(b + start, n, pair.certain_b, t + SPARE)
        if pair.form == FAR:
            if real is double:
                far_sums(pair, x, y, n, t, &sums[0])
        else:
            near_sums(pair, x, y, n, &sums[0])
        for k in range(TOP_A):
            two_sum_add(&part[k], &lost[k], sums[k])
        start += n
    for k in range(TOP_A):
        part[k] += lost[k] if lost[k] == lost[k] else 0.0


cdef inline void logits_pair_block_job(void *context, Py_ssize_t block, char *scratch) noexcept nogil:
    cdef Pair *pair = <Pair *>context
    cdef Tile *tile = pair.tile
    cdef double *part = pair.parts + PARTS * block
    cdef Py_ssize_t start = block * CHUNK, n = min(CHUNK, tile.classes - start), r = pair.r
    cdef int a = pair.swapped, b = 1 - a
    cdef double *wide = <double *>scratch
    if pair.precision == SINGLE:
        sums_of_block(pair, classes_of(tile, a, r, start, n, scratch, <const float *>NULL),
                      classes_of(tile, b, r, start, n, scratch, <const float *>NULL), n, <float *>scratch, part)
    elif pair.precision == DOUBLE:
        sums_of_block(pair, classes_of(tile, a, r, start, n, scratch, <const double *>NULL),
                      classes_of(tile, b, r, start, n, scratch, <const double *>NULL), n, wide, part)
    else:
        widen(classes_of(tile, a, r, start, n, scratch, <const float *>NULL), n, wide + FACTOR)
        widen(classes_of(tile, b, r, start, n, scratch, <const float *>NULL), n, wide + SPARE)
        sums_of_block(pair, <const double *>(wide + FACTOR), <const double *>(wide + SPARE), n, wide, part)


cdef inline void one_pass(Pair *pair, Sums what) noexcept nogil:
    cdef Tile *tile = pair.tile
    pair.what = what
    pair.row.per_a = 1 / pair.mass_a
    pair.row.per_b = 1 / pair.mass_b
    tile.run(tile.runner, logits_pair_block_job, pair, blocks_of(tile.classes), tile.scratch)


cdef inline double total(Pair *pair, int k) noexcept nogil:
    return ordered_sum(pair.parts + k, blocks_of(pair.tile.classes), PARTS)


cdef inline double top_of(Pair *pair, int k) noexcept nogil:
    cdef double top = -INFINITY, found
    cdef Py_ssize_t b
    for b in range(blocks_of(pair.tile.classes)):
        found = pair.parts[PARTS * b + k]
        if found != found:
            return NAN
        top = found if found > top else top
    return top


cdef inline void take_tops(Pair *pair) noexcept nogil:
    pair.top_a = top_of(pair, TOP_A)
    pair.top_b = top_of(pair, TOP_B)


cdef inline bint misled(Pair *pair) noexcept nogil:
    """Whether the maxima of the rows are apart from each other otherwise than the guessed ones: where
    one row has far less mass than the other, A + E = Σ e_b cancels."""
    if not pair.guessed:
        return False
    take_tops(pair)
    return not c_fabs((pair.top_b - pair.top_a) * pair.scale.inverse - pair.row.centre) <= 3


cdef inline void set_centre(Pair *pair, double centre, double centre_low) noexcept nogil:
    cdef Constants *row = &pair.row
    row.centre = centre
    row.centre_low = centre_low
    if pair.form == FAR:
        row.factor = c_exp(-(centre + centre_low))
        return
    row.factor = octaves_factor(row.octaves_a, row.octaves_b, centre, centre_low, pair.precision == SINGLE)
    pair.form = CENTRED if centre + centre_low != 0 or row.octaves_b != row.octaves_a else PLAIN


cdef inline void first_centre(Pair *pair) noexcept nogil:
    """The form of the passes and their first centre, from the maxima. A far row is centred on its
    maxima, so that its c comes on top of their difference."""
    cdef double a = pair.top_a * pair.scale.inverse, b = pair.top_b * pair.scale.inverse
    cdef bint common = share_centre(a, b)
    cdef Constants *row = &pair.row
    row.octaves_a = row.octaves_b = 0
    if pair.precision == SINGLE and not in_reach(a, b, True):
        pair.precision = WIDENED
    pair.form = PLAIN if in_reach(a, b, pair.precision == SINGLE) else FAR
    if pair.form == FAR:
        set_centre(pair, 0, 0)
        return
    row.octaves_a = octaves_of(a)
    row.octaves_b = octaves_of(b)
    if common:                          # the same in both orders of the rows
        row.octaves_a = row.octaves_b = max(row.octaves_a, row.octaves_b)
    set_centre(pair, 0.0 if common else b - a, 0)


cdef inline void move_centre(Pair *pair) noexcept nogil:
    """To the right centre."""
    cdef double factor = pair.row.factor, delta = log1p_of(pair.mass_difference / pair.mass_a)
    if pair.row.centre == 0:
        set_centre(pair, delta, 0)
    else:
        set_centre(pair, pair.row.centre, pair.row.centre_low + delta)
    pair.mass_b *= pair.row.factor / factor


cdef inline void take_sums(Pair *pair, int first) noexcept nogil:
    """The sums of a pass for KL: those of b and a after the others."""
    pair.gap = total(pair, first)
    pair.mass_difference = total(pair, first + 1)
    pair.mass_a = total(pair, first + 2)
    pair.mass_b = pair.mass_a + pair.mass_difference
    pair.passes += 1


cdef inline double kl_of(Pair *pair) noexcept nogil:
    """KL of a pair from the sums of its first pass, with passes at better centres if it needs them; masses and
    right centre as a side effect."""
    cdef double value, apart = (pair.top_b - pair.top_a) * pair.scale.inverse
    cdef int again
    while True:
        value = kl_value(pair.gap, pair.mass_difference, pair.mass_a, pair.precision == SINGLE, &again)
        if not again:
            break
        if pair.form == PLAIN and apart != 0:
            pair.row.octaves_b = octaves_of(pair.top_b * pair.scale.inverse)
            set_centre(pair, apart, 0)
        else:
            move_centre(pair)
        if pair.passes == MOST_PASSES:
            break
        one_pass(pair, CENTRED_KL)
        take_sums(pair, 0)
    return value if not value < 0 else 0.0


cdef inline void find_masses(Pair *pair) noexcept nogil:
    """Both masses of a pair and its right centre, from the sums of its first pass: once more at a better centre
    where that of b has lost a digit."""
    while pair.mass_difference < -0.9 * pair.mass_a and pair.passes < MOST_PASSES:
        move_centre(pair)
        one_pass(pair, CENTRED_KL)
        take_sums(pair, 0)
    pair.guessed = False
    move_centre(pair)


cdef inline double most_drift(bint single) noexcept nogil:
    """Σ (e_b − e_a), which is 0 at the right centre, over Σ |e_b − e_a|: as far as their half may be off."""
    return 4e-7 if single else 1e-9


cdef inline double distance_of(Pair *pair, double apart) noexcept nogil:
    """Total variation of a pair whose KL is known: half of Σ |e_b − e_a| per mass at the right centre. That sum is
    `apart` if a pass there has been made, which is not negative. NaN if floats do not come near it."""
    cdef bint single = pair.precision == SINGLE
    cdef int attempt
    pair.guessed = False
    for attempt in range(MOST_PASSES):
        if attempt or apart < 0:
            move_centre(pair)
            one_pass(pair, DISTANCE)
            apart = total(pair, 0)
            pair.mass_difference = total(pair, 1)
            pair.mass_a = total(pair, 2)
        if c_fabs(pair.mass_difference) <= most_drift(single) * apart:
            return 0.5 * apart / pair.mass_a
    return NAN if single else 0.5 * apart / pair.mass_a


cdef inline void check_pair(Pair *pair) noexcept nogil:
    """Row sums of log-probabilities."""
    cdef Tile *tile = pair.tile
    cdef bint far = pair.form == FAR
    cdef double origin = pair.row.octaves_a * 0.69314718055994530942
    if not tile.normalise or pair.mass_b != pair.mass_b:
        return
    if tile.true_kind == LOGPROBS:
        check_log_sum(tile, pair.r, 0, pair.top_a if far else origin, pair.mass_a)
    if tile.pred_kind == LOGPROBS:
        check_log_sum(tile, pair.r, 1, (pair.top_b if far else origin) + pair.row.centre + pair.row.centre_low, pair.mass_b)


cdef inline double js_of(Pair *pair, double *apart) noexcept nogil:
    """JS of a pair at its right centre, and what `distance_of` wants of that pass unless `apart` is NULL."""
    cdef double value
    one_pass(pair, JS_DISTANCE if apart != NULL else JS)
    value = total(pair, 0)
    if apart != NULL:
        apart[0] = total(pair, 1)
        pair.mass_difference = total(pair, 2)
    return value if not value < 0 else 0.0


cdef inline int values_of_pair(Pair *pair, int wanted, PairValues *out) noexcept nogil:
    """The values from the maxima in `pair`; which of them are missing, since those are others than guessed or
    float does not reach."""
    cdef Pair back, forward, even
    cdef double apart = -1, kl = NAN
    cdef int missing = 0
    cdef bint by_kl = wanted & (WANT_KL | WANT_DISTANCE), both, shared
    pair.passes = 0
    first_centre(pair)
    if pair.guessed and pair.form == FAR:
        return wanted
    if wanted & WANT_REVERSE:
        back = pair[0]
        back.swapped = True
        back.certain_a, back.certain_b = pair.certain_b, pair.certain_a
        back.top_a, back.top_b = pair.top_b, pair.top_a
    both = pair.precision == SINGLE and pair.form == PLAIN and wanted & WANT_REVERSE
    one_pass(pair, BOTH_KL if both else CENTRED_KL)
    if misled(pair):
        return wanted
    if both:
        back.top_a, back.top_b = pair.top_b, pair.top_a
        take_sums(&back, 3)
    take_sums(pair, 0)
    forward = even = pair[0]
    if by_kl:
        kl = kl_of(&forward)
    if wanted & WANT_JS or not by_kl:
        find_masses(&even)
    check_pair(&forward if by_kl else &even)
    if wanted & WANT_JS:
        shared = (wanted & WANT_DISTANCE and pair.precision == SINGLE and kl == kl
                  and even.passes == 1 and forward.passes == 1)
        out.js = js_of(&even, &apart if shared else NULL)
        if shared:
            forward = even
        elif out.js < least_js(pair.precision == SINGLE):
            if not by_kl:
                kl_of(&forward)
            if forward.passes > 1:
                even = forward
                even.guessed = False
                move_centre(&even)
                out.js = js_of(&even, NULL)
        missing |= WANT_JS if out.js != out.js else 0
    if wanted & WANT_DISTANCE and kl == kl:
        out.distance = distance_of(&forward, apart)
    if wanted & WANT_REVERSE:
        if not both:
            first_centre(&back)
            one_pass(&back, CENTRED_KL)
            misled(&back)                               # it is not, as the pair is not: for the maxima
            take_sums(&back, 0)
        out.reverse = kl_of(&back)
        missing |= WANT_REVERSE if out.reverse != out.reverse else 0
    if wanted & WANT_KL:
        out.kl = kl
    if kl != kl:
        missing |= wanted & (WANT_KL | WANT_DISTANCE)
    return missing | (WANT_CHECK if pair.mass_b != pair.mass_b else 0)


cdef inline int pair_values(Pair *pair, int wanted, PairValues *out) noexcept nogil:
    """What is wanted, and which of it is missing because float does not reach."""
    cdef Tile *tile = pair.tile
    cdef int precision = pair.precision
    pair.certain_a = pair.certain_b = False
    if tile.classes > CHUNK:
        pair.guessed = False
        pair.what = TOPS
        logits_pair_block_job(pair, 0, tile.scratch)
        pair.guessed = True
        pair.top_a = pair.parts[TOP_A]
        pair.top_b = pair.parts[TOP_B]
        wanted = values_of_pair(pair, wanted, out)
        if not wanted:
            return 0
        pair.precision = precision
    pair.guessed = False
    one_pass(pair, TOPS)
    take_tops(pair)
    if pair.top_a != pair.top_a or pair.top_b != pair.top_b:
        return 0
    if tile.normalise and (c_fabs(pair.top_a) == INFINITY or c_fabs(pair.top_b) == INFINITY):
        # the sums of a pass say nothing then
        if tile.true_kind == LOGPROBS:
            check_log_sum(tile, pair.r, 0, pair.top_a, 1 if c_fabs(pair.top_a) == INFINITY else NAN)
        if tile.pred_kind == LOGPROBS:
            check_log_sum(tile, pair.r, 1, pair.top_b, 1 if c_fabs(pair.top_b) == INFINITY else NAN)
    if pair.top_a == -INFINITY or pair.top_b == -INFINITY:
        return 0
    pair.certain_a = pair.top_a == INFINITY
    pair.certain_b = pair.top_b == INFINITY
    pair.top_a = 0 if pair.certain_a else pair.top_a
    pair.top_b = 0 if pair.certain_b else pair.top_b
    return values_of_pair(pair, wanted, out)


cdef inline PairValues row_alone(Tile *tile, Py_ssize_t r, int wanted) noexcept nogil:
    """What is wanted of a pair; its row sums are looked at in any case."""
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double few[PARTS * MANY]
    cdef PairValues out
    cdef Pair pair
    cdef int again
    out.kl = out.reverse = out.js = out.distance = NAN
    pair.parts = &few[0]
    if count > MANY:
        pair.parts = <double *>malloc(PARTS * count * sizeof(double))
        if pair.parts == NULL:
            tile.no_memory = True
            return out
    pair.tile = tile
    pair.r = r
    pair.scale = scale_of(tile.temperature)
    pair.precision = tile.precision
    pair.swapped = False
    pair.mass_a = pair.mass_b = 1
    again = pair_values(&pair, wanted | WANT_CHECK, &out)
    if tile.precision == SINGLE:
        # differences beyond 3.4e38 overflow in float
        again |= WANT_KL if out.kl == INFINITY else 0
        again |= WANT_REVERSE if out.reverse == INFINITY else 0
        again |= WANT_JS if out.js == INFINITY else 0
        again |= wanted & WANT_DISTANCE if out.distance != out.distance else 0
        if again:
            pair.precision = WIDENED
            pair_values(&pair, again, &out)
    if count > MANY:
        free(pair.parts)
    return out
