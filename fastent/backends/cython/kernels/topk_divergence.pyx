"""A teacher that is known by a list of its largest classes against rows of logits.

S are the k classes of the list, with p_i = e^{a_i} and τ = 1 − Σ p_i left for the other m = V − k, none
of which has more than c; T are those, of which the student has σ = Σ_T q. With n = ⌊τ/c⌋, r = τ − n·c:

    bucket    Σ_S p ln(p/q) + τ ln(τ/σ): the divergence of the k + 1 classes
    low       over all tails x <= c, Σx = τ: x = min(c, λq)
    high      the same, c on the n smallest q and r on the next

Both ends are attained. A divergence is summed as terms p·φ(ln(q/p)), φ(u) = e^u − 1 − u, none of which
is negative: Σp + τ = Σq + σ = 1 makes up for what they add. The sum over T is formed of T alone. Sums of
float rows are formed again in double where the two rows are so near that rounding would show.
"""

from libc.math cimport floor
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, NAN, c_fma, exp_of_sum, fe_ask, fe_bits_double, fe_bits_float, fe_from_bits_double, fe_from_bits_float,
    fe_lane_max, log1p_of, log_positive, phi, real, stored,
)
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, DOUBLE_BLOCK, blocks_of
from fastent.backends.cython.arithmetic.sums cimport row_sum, two_sum_add
from fastent.backends.cython.kernels.logits_exp cimport LogitSums, Scale, exp_over, merged, scale_of
from fastent.backends.cython.kernels.logits_sums_unlisted cimport STRETCH, STRETCHES, stretches_of, sums_of_stretches

cdef extern from "extremes.h" nogil:
    Py_ssize_t fe_ends(const void *x, Py_ssize_t n, double low, double high, void *out)
    Py_ssize_t fe_ends_held(const void *at, const uint64_t *held, double low, double high, void *out)
    Py_ssize_t fe_over(const void *x, Py_ssize_t n, double m)
    Py_ssize_t fe_equal(const void *x, Py_ssize_t n, double m)
    Py_ssize_t fe_within(const void *x, Py_ssize_t n, double low, double high, void *out)

cdef enum:
    HEAD, TAIL_P, TAIL_Q, BUCKET, LOW, HIGH, CE_LOW, CE_HIGH, ENTROPY_LOW, ENTROPY_HIGH, OVERLAP, COUNT
    RANGE = 1, DUPLICATE, MASS, NOT_TOP, ROW_SUM        # what is wrong with a row
    DIGIT = 9                           # bits by which ids are sorted at once; 6 if they are few
    PIECE = 8                           # as many numbers at a time
    SAMPLE = 2048                       # in all say where the ends of a row may begin
    FEW = 16
    MOST = 1 << 30

cdef extern from *:
    """
    /* Relative error of the sums of float rows, and what of it may be seen in a divergence. */
    #define FE_SUM_ERROR 2e-8
    #define FE_SEEN 2e-7
    #define FE_TINY 1e-290              /* below it logarithms of sums come from the terms */
    """
    const double SUM_ERROR "FE_SUM_ERROR"
    const double SEEN "FE_SEEN"
    const double TINY "FE_TINY"


cdef struct Rules:                      # of all rows
    Py_ssize_t classes
    Py_ssize_t listed                   # length of a list, padding included
    Scale scale
    double cap                          # NaN: the smallest listed; above 1: none
    double mass_tolerance
    double tolerance                    # of Σ e^x of log-probabilities; negative: not checked


cdef struct Room:                       # memory of one thread
    int64_t *ids                        # in order
    int64_t *order
    int64_t *spare
    double *p
    double *log_p
    double *log_q
    double *number                      # logits of the listed classes, as doubles
    double *high_log_q                  # of those taken
    double *low_log_q
    double *capped                      # and of these
    LogitSums *parts
    char *copy                          # of a block
    char *ends                          # of a row, as they are stored
    char *high
    char *low
    char *row                           # a copy


cdef struct Teacher:
    Py_ssize_t count                    # classes listed
    Py_ssize_t rest                     # m
    Py_ssize_t whole                    # n
    double tail                         # τ
    double cap                          # c
    double left                         # r
    double entropy                      # Σ_S −p ln p
    double log_cap


cdef struct Student:
    double top                          # m
    double inverse                      # 1/T
    double partition                    # ln Σ e^{(x−m)/T}
    double tail                         # σ
    double log_tail


cdef struct Taken:                      # beside the n smallest or largest of the tail
    double last                         # the number after them, as it is stored
    double log_last                     # its ln q


cdef struct Bad:
    int code
    double number, more


# --- the list -------------------------------------------------------------------------------------

cdef Py_ssize_t sort_ids(const int64_t *ids, Rules *rules, Room *room, Bad *bad) noexcept nogil:
    """The ids in order, and where each stood; padding is left out. Returns how many."""
    cdef Py_ssize_t count[1 << DIGIT]
    cdef Py_ssize_t i, n = 0, at, before, bits = 0, digit = DIGIT if rules.listed > 1000 else 6
    cdef int64_t last = (1 << digit) - 1
    cdef int64_t id
    cdef int64_t *a
    for i in range(rules.listed):
        id = ids[i]
        if id < 0:
            continue
        if id >= rules.classes:
            bad[0] = Bad(RANGE, <double>id, 0)
            return 0
        room.ids[n] = id
        room.order[n] = i
        n += 1
    while (rules.classes - 1) >> bits:
        memset(count, 0, (last + 1) * sizeof(count[0]))
        for i in range(n):
            count[(room.ids[i] >> bits) & last] += 1
        at = 0
        for i in range(last + 1):
            before = count[i]
            count[i] = at
            at += before
        a = room.spare
        for i in range(n):
            id = (room.ids[i] >> bits) & last
            a[2 * count[id]] = room.ids[i]
            a[2 * count[id] + 1] = room.order[i]
            count[id] += 1
        for i in range(n):
            room.ids[i] = a[2 * i]
            room.order[i] = a[2 * i + 1]
        bits += digit
    for i in range(1, n):
        if room.ids[i] == room.ids[i - 1]:
            bad[0] = Bad(DUPLICATE, <double>room.ids[i], 0)
            return 0
    return n


cdef Teacher teacher_of(const int64_t *ids, const double *logprobs, const unsigned char *within, Rules *rules,
                        Room *room, Bad *bad) noexcept nogil:
    """What the list says; `tail` is NaN if it has one."""
    cdef Teacher t
    cdef Py_ssize_t i, k = sort_ids(ids, rules, room, bad)
    cdef double a, p, mass = 0, lost = 0, cap = INFINITY, norm = 1
    memset(&t, 0, sizeof(Teacher))
    t.count = k
    t.rest = rules.classes - k
    if bad.code:
        return t
    for i in range(k):
        room.log_p[i] = logprobs[room.order[i]]
        if room.log_p[i] != room.log_p[i]:              # such rows are not checked
            t.tail = NAN
            return t
    for i in range(k):
        room.p[i] = exp_of_sum(room.log_p[i], 0.0)
    for i in range(k):
        a = room.log_p[i]
        p = room.p[i]
        if a > 1:
            bad[0] = Bad(MASS, INFINITY, 0)
            return t
        two_sum_add(&mass, &lost, p)
        if within == NULL or within[room.order[i]]:
            cap = p if p < cap else cap
    t.tail = (1 - mass) - lost
    mass += lost
    if t.tail < -rules.mass_tolerance:
        bad[0] = Bad(MASS, mass, 0)
        return t
    if rules.cap > 1 or cap > 1:                        # none, or nothing is listed
        cap = max(t.tail, 0.0)
    if rules.cap <= 1:
        cap = rules.cap
    t.cap = cap
    if t.tail < 0:
        norm = mass
        t.tail = 0
    elif t.tail > t.rest * cap:
        if t.tail > t.rest * cap + rules.mass_tolerance:
            bad[0] = Bad(NOT_TOP, t.tail, t.rest * cap)
            return t
        t.tail = t.rest * cap
        norm = mass + t.tail
    if norm != 1:                                       # the list in float: it is taken as normalised
        t.tail /= norm
        t.cap /= norm
        a = log_positive(norm)
        for i in range(k):
            room.p[i] /= norm
            room.log_p[i] -= a
    for i in range(k):
        t.entropy -= room.p[i] * room.log_p[i] if room.p[i] > 0 else 0
    if t.cap > 0 and t.tail > 0:
        t.whole = <Py_ssize_t>min(floor(t.tail / t.cap), <double>t.rest)
        t.left = c_fma(-<double>t.whole, t.cap, t.tail)
        if t.left < 0:
            t.whole -= 1
            t.left += t.cap
        if t.whole >= t.rest:
            t.whole = t.rest
            t.left = 0
        t.log_cap = log_positive(t.cap)
    return t


# --- the row --------------------------------------------------------------------------------------

cdef struct Ends:                       # numbers of the tail that may be its smallest or largest
    Py_ssize_t few                      # how many of the smallest are wanted
    Py_ssize_t many                     # and of the largest
    double low                          # those at most this, and
    double high                         # those at least this
    Py_ssize_t found                    # in room.ends,
    Py_ssize_t none                     # as many of which are none of the tail, but −infinity
    Py_ssize_t lows, highs


cdef LogitSums tail_sums(const stored *x, bint followed, Teacher *t, Rules *rules, Room *room, Ends *ends, real unused) noexcept nogil:
    """Sums of the classes that are not listed, of which there is one at least, and what may be an end
    of them, if `ends` is given: all is done while a block is in the first-level cache. If a row follows,
    its sample is asked for, which comes from all over the memory."""
    cdef Py_ssize_t block, count = blocks_of(rules.classes), start, n, first = 0, listed, i, stretches
    cdef Py_ssize_t step_of = rules.classes // (SAMPLE // PIECE)
    cdef double low = -INFINITY, high = INFINITY
    cdef const stored *at[STRETCHES]
    cdef uint64_t held[2]
    if ends != NULL:
        low = ends.low
        high = ends.high
        ends.none = t.count + (STRETCH - rules.classes % STRETCH) % STRETCH
    for block in range(count):
        start = block * CHUNK
        n = min(<Py_ssize_t>CHUNK, rules.classes - start)
        listed = 0
        while first + listed < t.count and room.ids[first + listed] < start + n:
            listed += 1
        stretches = stretches_of(x, n, start, room.ids + first, listed, <stored *>room.copy, at)
        first += listed
        if followed and step_of > 0:
            for i in range(start // step_of, (start + n) // step_of):
                fe_ask(x + rules.classes + i * step_of, 1, False)
        room.parts[block] = sums_of_stretches(at, stretches, low, high, held, x + start + CHUNK, rules.scale, unused)
        if ends != NULL:
            ends.found += fe_ends_held(at, held, low, high, <stored *>room.ends + ends.found)
    return merged(room.parts, count, rules.scale)


cdef inline double log_q_of(double x, Student s) noexcept nogil:
    """(x − m)/T, 0 for x = m, less the partition."""
    return ((x - s.top) * s.inverse if x != s.top else 0.0) - s.partition


cdef Student student_of(LogitSums tail, double top, Teacher *t, Rules *rules, Room *room) noexcept nogil:
    """The partition of the row, and the logarithms of the probabilities of what is listed, at most `top`."""
    cdef Student s
    cdef Py_ssize_t i
    cdef double others = 0, mass = tail.count + tail.rest if tail.top > -INFINITY else 0
    cdef double *log_q = room.log_q
    cdef bint first = True
    s.inverse = rules.scale.inverse
    s.top = top if top >= tail.top else tail.top
    for i in range(t.count):
        if room.number[i] == s.top and first and top >= tail.top:
            first = False                               # the maximum stays out of the sum
        elif room.number[i] > -INFINITY:
            others += exp_over(room.number[i] - s.top, 0, rules.scale)
    if top >= tail.top:
        others += exp_over(tail.top - s.top, 0, rules.scale) * mass if mass > 0 else 0
    else:
        others += (tail.count - 1) + tail.rest
    s.partition = log1p_of(others)
    s.log_tail = -INFINITY
    if mass > 0:
        s.log_tail = (tail.top - s.top) * s.inverse + (log_positive(mass) - s.partition)
    s.tail = exp_of_sum(s.log_tail, 0.0)
    for i in range(t.count):
        log_q[i] = log_q_of(room.number[i], s)
    return s


cdef inline double excess_and(double x, double log_x, double log_q, double *q) noexcept nogil:
    """x ln(x/q) − x + q >= 0, and q."""
    cdef double u = log_q - log_x, v, near, far
    v = u if u > -1.25 else -1.25
    v = v if v < 1.5 else 1.5
    q[0] = exp_of_sum(log_q, 0.0)
    near = x * phi(v)
    far = q[0] - x * (1 + u)
    near = near if u == v else far
    return near if x > 0 else q[0]


cdef inline double excess(double x, double log_x, double log_q) noexcept nogil:
    cdef double q
    return excess_and(x, log_x, log_q, &q)


cdef inline double excess_of(const double *x, const double *log_x, bint one, const double *log_q, Py_ssize_t n,
                             double *mass) noexcept nogil:
    """The same of many q and as many x, or `one`, a constant; and the sum of the q."""
    cdef double total = 0, lost = 0, total_q = 0, lost_q = 0
    cdef double[DOUBLE_BLOCK + 16] terms, q
    cdef Py_ssize_t start = 0, i, count
    while start < n:
        count = min(<Py_ssize_t>DOUBLE_BLOCK, n - start)
        for i in range(count):
            terms[i] = excess_and(x[0 if one else start + i], log_x[0 if one else start + i], log_q[start + i], q + i)
        two_sum_add(&total, &lost, row_sum(<const double *>terms, count))
        two_sum_add(&total_q, &lost_q, row_sum(<const double *>q, count))
        start += count
    mass[0] = total_q + lost_q
    return total + lost if lost == lost else total


cdef double excess_of_cap(Teacher *t, const double *log_q, Py_ssize_t n, double *mass) noexcept nogil:
    return excess_of(&t.cap, &t.log_cap, True, log_q, n, mass)


cdef double mass_of(const double *log_q, Py_ssize_t n) noexcept nogil:
    """Σ q."""
    cdef double total = 0, lost = 0
    cdef double[DOUBLE_BLOCK + 16] q
    cdef Py_ssize_t start = 0, i, count
    while start < n:
        count = min(<Py_ssize_t>DOUBLE_BLOCK, n - start)
        for i in range(count):
            q[i] = exp_of_sum(log_q[start + i], 0.0)
        two_sum_add(&total, &lost, row_sum(<const double *>q, count))
        start += count
    return total + lost


cdef inline Py_ssize_t count_of(const stored *x, Py_ssize_t n, stored m, bint equal) noexcept nogil:
    """How many numbers are above m, or `equal` to it; of so many at once that 32 bits count them."""
    cdef Py_ssize_t found = 0, start = 0, some
    while start < n:
        some = min(<Py_ssize_t>MOST, n - start)
        found += fe_equal(x + start, some, m) if equal else fe_over(x + start, some, m)
        start += some
    return found


cdef inline int64_t key_of(stored x) noexcept nogil:
    """Whole numbers in the order of the floats."""
    cdef int64_t b = <int32_t>fe_bits_float(x) if stored is float else <int64_t>fe_bits_double(x)
    return b ^ ((b >> 63) & (<int64_t>0x7fffffff if stored is float else <int64_t>0x7fffffffffffffff))


cdef inline stored from_key(int64_t key, stored unused) noexcept nogil:
    if stored is float:
        return fe_from_bits_float(<uint32_t>(key ^ ((key >> 63) & <int64_t>0x7fffffff)))
    else:
        return fe_from_bits_double(<uint64_t>(key ^ ((key >> 63) & <int64_t>0x7fffffffffffffff)))


cdef inline stored next_above(stored m) noexcept nogil:
    m = <stored>0.0 if m == 0 else m                    # −0 is equal to what is next to it
    return from_key(key_of(m) + 1, m)


cdef inline Py_ssize_t larger(const stored *x, Py_ssize_t n, stored m, stored *out) noexcept nogil:
    """The numbers above m."""
    return fe_ends(x, n, NAN, next_above(m), out)


cdef stored largest(const stored *x, Py_ssize_t n, Py_ssize_t rank, stored low) noexcept nogil:
    """The rank-th largest of numbers, from 1, which is at least `low`.

    Of so few, counting is faster than moving them. Two of three steps take the numbers above a bound for
    exponentially distributed and aim just beside the rank; the third halves what numbers there may be."""
    cdef int64_t first = key_of(low), last = key_of(<stored>fe_lane_max(x, n)), middle
    cdef Py_ssize_t count, over = 0, within_n = n, most = -1, i, step = 0
    cdef double a, b, aim
    cdef stored m, bound = low
    cdef stored few[FEW + 64]
    while first < last and within_n > FEW:
        middle = (first & last) + ((first ^ last) >> 1)
        if step % 3 < 2:
            a = from_key(first, low)
            b = from_key(last, low)
            aim = rank + (FEW // 3 if step % 2 else -(FEW // 3))
            aim = min(max(aim, over + 0.5), over + within_n - 0.5)
            aim = (log_positive(<double>(over + within_n)) - log_positive(aim)) / (
                log_positive(<double>(over + within_n)) - log_positive(over + 0.25))
            m = <stored>(a + (b - a) * aim)
            if m > a and m < b:
                middle = key_of(m)
        step += 1
        m = from_key(middle, low)
        count = count_of(x, n, m, False)
        if count < rank:
            within_n -= count - over
            over = count
            last = middle
        else:
            within_n = count - over
            first = middle + 1
    if first >= last:
        return from_key(first, low)
    n = fe_within(x, n, from_key(first, low), from_key(last, low), few)
    for i in range(n):                                  # the least that fewer than `rank` are above
        count = over + fe_over(<const stored *>few, n, few[i])
        if most < count < rank:
            most = count
            bound = few[i]
    return bound


cdef inline Py_ssize_t rank_of(Py_ssize_t wanted, Py_ssize_t n) noexcept nogil:
    """Which of the sample is likely beyond so many of all n numbers."""
    cdef double share = wanted * <double>SAMPLE / n
    return <Py_ssize_t>(share + 2.5 * share ** 0.5 + 3)


cdef stored about(stored *sample, Py_ssize_t rank, stored least) noexcept nogil:
    """The rank-th largest of the sample, or near it: of few, the largest of eight each tell as much."""
    cdef Py_ssize_t i, j, groups = SAMPLE // PIECE
    cdef double share
    if rank > groups // 4:
        return largest(<const stored *>sample, SAMPLE, rank, least)
    for j in range(1, PIECE):
        for i in range(groups):
            sample[i] = sample[i] if sample[i] > sample[j * groups + i] else sample[j * groups + i]
    share = 1 - <double>rank / SAMPLE
    share *= share
    share *= share
    share *= share                                      # PIECE is 8
    return largest(<const stored *>sample, groups, <Py_ssize_t>((1 - share) * groups) + 1, least)


cdef void thresholds(const stored *x, Py_ssize_t n, Py_ssize_t listed, Ends *ends) noexcept nogil:
    """Bounds within which there are likely the numbers that are wanted, and not many more; all if there
    is no sense in looking for some."""
    cdef stored[SAMPLE + 64] sample, some
    cdef Py_ssize_t i, step = n // (SAMPLE // PIECE)
    cdef stored most, least
    ends.low = INFINITY
    ends.high = -INFINITY
    ends.found = ends.lows = ends.highs = 0
    if step < 4 * PIECE or ends.few + ends.many > n // 4:
        return
    for i in range(SAMPLE // PIECE):
        memcpy(sample + i * PIECE, x + i * step, PIECE * sizeof(stored))
    most = <stored>fe_lane_max(<const stored *>sample, SAMPLE)
    if most != most:
        return
    for i in range(SAMPLE):
        some[i] = -sample[i]
    least = -<stored>fe_lane_max(<const stored *>some, SAMPLE)
    ends.high = about(sample, rank_of(ends.many + listed, n), least)
    ends.low = -about(some, rank_of(ends.few, n), -most)
    if ends.low >= ends.high:
        ends.low = INFINITY
        ends.high = -INFINITY


cdef void split_ends(const stored *x, Teacher *t, Rules *rules, Room *room, Ends *ends) noexcept nogil:
    """Smallest and largest numbers of the tail apart, as many as are wanted at least; those of the
    listed classes, which were taken for −infinity, are none of it."""
    cdef stored *found = <stored *>room.ends
    cdef stored *lows = <stored *>room.low
    cdef stored *highs = <stored *>room.high
    cdef Py_ssize_t i, left, start, n
    while True:
        ends.lows = fe_ends(found, ends.found, ends.low, NAN, lows)
        ends.highs = fe_ends(found, ends.found, NAN, ends.high, highs)
        left = larger(lows, ends.lows, <stored>(-INFINITY), lows)
        while left < ends.lows - ends.none:
            lows[left] = <stored>(-INFINITY)
            left += 1
        ends.lows = left
        if ends.high == -INFINITY:
            ends.highs = ends.lows                      # all of them are both
            memcpy(highs, lows, left * sizeof(stored))
        if ends.lows >= ends.few and ends.highs >= ends.many:
            return
        # the sample was misleading: all of the tail
        ends.found = ends.none = start = 0
        for i in range(t.count + 1):
            n = (room.ids[i] if i < t.count else rules.classes) - start
            memcpy(found + ends.found, x + start, n * sizeof(stored))
            ends.found += n
            start += n + 1
        ends.low = INFINITY
        ends.high = -INFINITY


cdef Taken take(stored *x, Py_ssize_t n, Py_ssize_t count, bint next, bint smallest, double low,
                stored *extreme, double *log_q, Student s) noexcept nogil:
    """ln q of the `count` largest (or smallest: then the numbers are turned over), and the next one, if
    that is wanted; all are at least (at most) `low`. `extreme` has room for them."""
    cdef Taken taken
    cdef stored bound
    cdef Py_ssize_t i, found
    cdef double sign = -1 if smallest else 1, last
    if smallest:
        for i in range(n):
            x[i] = -x[i]
        low = -low
    # those above the next one are among the `count` largest, and the others of these are equal to it
    bound = largest(<const stored *>x, n, count + next, <stored>low)
    found = larger(<const stored *>x, n, bound, extreme)
    taken.last = sign * <double>bound
    last = log_q_of(taken.last, s)
    for i in range(found):
        log_q[i] = log_q_of(sign * extreme[i], s)
    for i in range(found, count):
        log_q[i] = last
    taken.log_last = last if next else 0
    return taken


cdef double mass_beyond(const stored *x, Teacher *t, Rules *rules, Room *room, Student s, double bound, bint over,
                        double origin, double *most, Py_ssize_t *equal) noexcept nogil:
    """Σ q·e^−origin of the tail where ln q is above (or below) a bound, the largest ln q of those, and how
    many are equal to the bound."""
    cdef Py_ssize_t i = 0, j, start = 0, stop, n
    cdef double total = 0, lost = 0, log_q
    cdef double terms[DOUBLE_BLOCK + 16]
    cdef bint beyond
    equal[0] = 0
    most[0] = -INFINITY
    while start < rules.classes:
        stop = room.ids[i] if i < t.count else rules.classes
        if start == stop:                               # a listed one
            i += 1
            start += 1
            continue
        n = min(<Py_ssize_t>DOUBLE_BLOCK, stop - start)
        for j in range(n):
            log_q = log_q_of(x[start + j], s)
            beyond = (log_q > bound) if over else (log_q < bound)
            terms[j] = exp_of_sum(log_q - origin, 0.0) if beyond else 0.0
            most[0] = log_q if beyond and log_q > most[0] else most[0]
            equal[0] += log_q == bound
        two_sum_add(&total, &lost, row_sum(<const double *>terms, n))
        start += n
    return total + lost


cdef double overlap_of(const stored *x, Teacher *t, Rules *rules, Room *room, const stored *highs, Py_ssize_t n, double least) noexcept nogil:
    """The share of the listed classes that are among as many largest of the row; of equal numbers those
    before come first. `highs` are those of the tail that are at least `least`."""
    cdef Py_ssize_t i, inside, over, own, tied, slots, place, listed = 0
    cdef stored bound
    cdef stored *all = <stored *>room.ends
    for i in range(t.count):
        all[i] = <stored>room.number[i]
    memcpy(all + t.count, highs, n * sizeof(stored))
    bound = largest(<const stored *>all, t.count + n, t.count, <stored>(least if n >= t.count else -INFINITY))
    inside = count_of(<const stored *>all, t.count, bound, False)
    own = count_of(<const stored *>all, t.count, bound, True)
    over = count_of(<const stored *>all + t.count, n, bound, False)
    tied = count_of(<const stored *>all + t.count, n, bound, True)
    slots = t.count - inside - over
    if own and own + tied > slots:
        i = 0
        for place in range(rules.classes):
            if slots == 0:
                break
            while i < t.count and room.ids[i] < place:
                i += 1
            if x[place] == bound:
                slots -= 1
                listed += i < t.count and room.ids[i] == place
    else:
        listed = own
    return <double>(inside + listed) / t.count


cdef void undefined(double *out, Py_ssize_t stride) noexcept nogil:
    cdef int k
    for k in range(COUNT):
        out[k * stride] = NAN


cdef double low_of(const stored *x, Teacher *t, Rules *rules, Room *room, Student s, double head,
                   double *seen) noexcept nogil:
    """The least divergence: x = min(c, λq), λ by Newton's steps, which only rise. `seen`: how much of a
    relative error of σ it takes."""
    cdef Py_ssize_t i, capped = 0, before, tied, equal = 0
    cdef const double *log_q = room.high_log_q
    cdef double *those = room.capped
    cdef double mass = 0, left = t.tail, rest = s.tail, least = INFINITY, total = head, lost = 0, bound, over = INFINITY
    cdef double next = -INFINITY, log_rest = log_positive(s.tail) if s.tail > TINY else s.log_tail
    seen[0] = 0
    if t.tail == 0:
        return head + s.tail
    if t.whole >= t.rest:
        return head + excess_of_cap(t, log_q, t.whole, &mass)
    while True:
        if log_rest == -INFINITY:
            return INFINITY if left > 0 else total
        bound = t.log_cap - (log_positive(left) - log_rest)
        if bound == log_rest and left > t.cap:          # beside logits of 1e20 the difference is lost
            bound -= 2.3e-16 * (bound if bound > 0 else -bound)
        before = capped
        if bound < over:
            capped += fe_within(log_q, t.whole, next_above(bound), over, those + capped)
            over = bound
        if capped <= before:
            break
        left = c_fma(-<double>capped, t.cap, t.tail)
        mass += mass_of(those + before, capped - before)
        rest = s.tail - mass
        if rest < 0.1 * s.tail or s.tail <= TINY:
            for i in range(capped):
                least = those[i] if those[i] < least else least
            # of the tail where q is less, and of those equal to it that are not among the largest
            rest = mass_beyond(x, t, rules, room, s, least, False, 0.0, &next, &equal)
            for i in range(t.whole):
                equal -= log_q[i] == least
            rest += equal * exp_of_sum(least, 0.0)
        if rest > TINY:
            log_rest = log_positive(rest)
        else:                                           # e^−745 is none in floats, its logarithm is one
            log_rest = least if equal else next
            if log_rest > -INFINITY:
                tied = equal
                rest = mass_beyond(x, t, rules, room, s, least, False, log_rest, &next, &equal)
                log_rest += log_positive(rest + tied)
        if left <= 0:                                   # by rounding: the last one is not quite full
            left = 0
            break
    if rest > TINY:
        seen[0] = s.tail * (1 - left / rest)
        seen[0] = seen[0] if seen[0] > 0 else -seen[0]
    two_sum_add(&total, &lost, excess_of_cap(t, those, capped, &mass))
    two_sum_add(&total, &lost, excess(left, log_positive(left), log_rest))
    return total + lost if lost == lost else total


cdef double high_of(const stored *x, Teacher *t, Rules *rules, Room *room, Student s, double head, Taken *least) noexcept nogil:
    """The greatest divergence: c on the n smallest, r on the next, nothing on the others."""
    cdef Py_ssize_t i, equal, used = t.whole + (t.left > 0)
    cdef const double *log_q = room.low_log_q
    cdef double total = head, lost = 0, mass = 0, rest, last, most
    two_sum_add(&total, &lost, excess_of_cap(t, log_q, t.whole, &mass))
    if t.left > 0:
        two_sum_add(&total, &lost, excess(t.left, log_positive(t.left), least.log_last))
        mass += exp_of_sum(least.log_last, 0.0)
    if used < t.rest:
        rest = s.tail - mass
        if rest < 0.1 * s.tail:
            last = log_q_of(least.last, s)
            rest = mass_beyond(x, t, rules, room, s, last, True, 0.0, &most, &equal)
            for i in range(t.whole):                    # of equal numbers some are used
                equal -= log_q[i] == last
            equal -= t.left > 0
            rest += equal * exp_of_sum(last, 0.0)
        two_sum_add(&total, &lost, rest)
    return total + lost if lost == lost else total


cdef void one_row(const stored *x, bint followed, const int64_t *ids, const double *logprobs, const unsigned char *within,
                  Rules *rules, Room *room, Bad *bad, bint wide, double *out, Py_ssize_t stride) noexcept nogil:
    """`wide`: in double, whatever the row."""
    cdef Teacher t
    cdef Student s
    cdef LogitSums tail
    cdef Taken most, least
    cdef Py_ssize_t i, wanted
    cdef Ends ends
    cdef Ends *looked_for = NULL
    cdef stored *copy
    cdef double head = 0, mass, ce = 0, top = -INFINITY, bottom = INFINITY, tail_term, bucket, total, low, high
    cdef bint behind                    # some of the list is behind some of the tail
    for i in range(rules.listed):
        if 0 <= ids[i] < rules.classes:
            fe_ask(x + ids[i], 1, True)
    t = teacher_of(ids, logprobs, within, rules, room, bad)
    if bad.code:
        return
    for i in range(t.count):
        room.number[i] = x[room.ids[i]]
        if room.number[i] != room.number[i]:
            t.tail = NAN
        top = room.number[i] if room.number[i] > top else top
        bottom = room.number[i] if room.number[i] < bottom else bottom
    if t.tail != t.tail:
        undefined(out, stride)
        return
    wide = wide or stored is double or rules.scale.temperature != 1
    wanted = t.whole + (t.left > 0)
    ends.few = wanted
    ends.many = min(t.rest, max(wanted, t.count))
    if ends.many:
        thresholds(x, rules.classes, t.count, &ends)
        looked_for = &ends
    while True:
        tail.top = -INFINITY
        tail.count = tail.rest = 0
        if t.rest:
            if wide:
                tail = tail_sums(x, followed, &t, rules, room, looked_for, <double>0)
            elif stored is float:
                tail = tail_sums(x, followed, &t, rules, room, looked_for, <float>0)
            looked_for = NULL                           # once is enough
        if tail.top != tail.top or (tail.top == -INFINITY and top == -INFINITY):
            undefined(out, stride)
            return
        if tail.top == INFINITY or top == INFINITY:
            copy = <stored *>room.row                   # certainty, in finite numbers
            for i in range(rules.classes):
                copy[i] = <stored>0 if x[i] == INFINITY else (x[i] if x[i] != x[i] else <stored>(-INFINITY))
            one_row(copy, False, ids, logprobs, within, rules, room, bad, wide, out, stride)
            return
        if not wide and tail.count == 1 and tail.rest < 1.3e-26:
            wide = True                                 # zeros in float
            continue
        s = student_of(tail, top, &t, rules, room)
        head = excess_of(room.p, room.log_p, False, room.log_q, t.count, &mass)
        tail_term = excess(t.tail, log_positive(t.tail), s.log_tail)
        bucket = head + tail_term
        total = s.tail - t.tail
        total = total if total > 0 else -total
        if wide or SUM_ERROR * (total + SUM_ERROR) <= SEEN * bucket:
            break
        wide = True
    if rules.tolerance >= 0:
        total = s.top + s.partition
        low = exp_of_sum(total, 0.0) if total < 1 else INFINITY
        if not (1 - rules.tolerance <= low <= 1 + rules.tolerance):
            bad[0] = Bad(ROW_SUM, low, 0)
            return
    for i in range(t.count):
        ce -= room.p[i] * room.log_q[i] if room.p[i] > 0 else 0
    out[HEAD * stride] = head + (s.tail - t.tail)
    out[TAIL_P * stride] = t.tail
    out[TAIL_Q * stride] = s.tail
    out[BUCKET * stride] = bucket
    out[ENTROPY_LOW * stride] = t.entropy
    out[ENTROPY_HIGH * stride] = t.entropy
    if t.tail > 0:
        out[ENTROPY_HIGH * stride] += t.tail * (log_positive(<double>t.rest) - log_positive(t.tail))
        out[ENTROPY_LOW * stride] -= t.whole * t.cap * t.log_cap
        if t.left > 0:
            out[ENTROPY_LOW * stride] -= t.left * log_positive(t.left)
    out[OVERLAP * stride] = 1
    least.last = NAN
    least.log_last = most.log_last = 0
    behind = bottom < tail.top or (bottom == tail.top and t.rest > 0)
    if wanted or (behind and t.count):
        split_ends(x, &t, rules, room, &ends)
        if behind and t.count:
            out[OVERLAP * stride] = overlap_of(x, &t, rules, room, <stored *>room.high, ends.highs, ends.high)
    if wanted:
        most = take(<stored *>room.high, ends.highs, t.whole, t.left > 0, False, ends.high,
                    <stored *>room.ends, room.high_log_q, s)
        least = take(<stored *>room.low, ends.lows, t.whole, t.left > 0, True, ends.low,
                     <stored *>room.ends, room.low_log_q, s)
    low = low_of(x, &t, rules, room, s, head, &total)
    if not wide and SUM_ERROR * total > SEEN * low:
        one_row(x, followed, ids, logprobs, within, rules, room, bad, True, out, stride)
        return
    high = high_of(x, &t, rules, room, s, head, &least)
    out[LOW * stride] = low = low if low >= bucket else bucket
    out[HIGH * stride] = high if high >= low else low
    low = -t.cap * row_sum(room.high_log_q, t.whole) if t.whole else 0
    high = -t.cap * row_sum(room.low_log_q, t.whole) if t.whole else 0
    if t.left > 0:
        low -= t.left * most.log_last
        high -= t.left * least.log_last
    out[CE_LOW * stride] = ce + low
    out[CE_HIGH * stride] = ce + high


cdef bint make_room(Room *room, Rules *rules, size_t width) noexcept nogil:
    """What rows need at most, in one piece, of which rarely more than a little is ever touched; False if there is
    no memory."""
    cdef Py_ssize_t k = rules.listed + 1, n = rules.classes + STRETCH + 64, blocks = blocks_of(rules.classes) + 1
    cdef size_t size = (8 * k + 3 * n) * sizeof(double) + blocks * sizeof(LogitSums)
    room.ids = <int64_t *>malloc(size + (CHUNK + 64 + 4 * n) * width)
    if room.ids == NULL:
        return False
    room.order = room.ids + k
    room.spare = room.order + k
    room.p = <double *>(room.spare + 2 * k)
    room.log_p = room.p + k
    room.log_q = room.log_p + k
    room.number = room.log_q + k
    room.high_log_q = room.number + k
    room.low_log_q = room.high_log_q + n
    room.capped = room.low_log_q + n
    room.parts = <LogitSums *>(room.capped + n)
    room.copy = <char *>(room.parts + blocks)
    room.ends = room.copy + (CHUNK + 64) * width
    room.high = room.ends + n * width
    room.low = room.high + n * width
    room.row = room.low + n * width
    return True


def row_values(const stored[:, ::1] pred, const int64_t[:, ::1] ids, const double[:, ::1] logprobs,
               const unsigned char[:, ::1] within, const unsigned char[::1] skipped, double cap, double temperature,
               double mass_tolerance, double tolerance, double[:, ::1] out, Py_ssize_t start):
    """The COUNT values of each row of `pred` to columns `start` and on of `out`; returns (row, code, number, more)
    of the first bad row, or None.

    `ids` and `logprobs` are its lists, negative ids are padding; `within` says of each entry whether it
    is one of the largest, which no other class exceeds (None: all are). `cap`: NaN for the smallest of
    these, above 1 for none. Rows that are `skipped` are NaN.
    """
    cdef Rules rules = Rules(pred.shape[1], ids.shape[1], scale_of(temperature), cap, mass_tolerance, tolerance)
    cdef Room room
    cdef Bad bad = Bad(0, 0, 0)
    cdef Py_ssize_t r = 0, rows = ids.shape[0], stride = out.shape[1]
    cdef bint listed = rules.listed > 0
    if not make_room(&room, &rules, sizeof(stored)):
        raise MemoryError("fastent: no memory for the lists of a row")
    with nogil:
        while r < rows and not bad.code:
            if skipped is not None and skipped[r]:
                undefined(&out[0, start + r], stride)
            else:
                one_row(&pred[r, 0], r + 1 < rows, &ids[r, 0] if listed else NULL, &logprobs[r, 0] if listed else NULL,
                        &within[r, 0] if listed and within is not None else NULL, &rules, &room, &bad, False,
                        &out[0, start + r], stride)
            r += 1
    free(room.ids)
    return (r - 1, bad.code, bad.number, bad.more) if bad.code else None
