"""A row of any kind, read in double: its normaliser first, then block by block as masses or as
surprisals −log q, each to full relative accuracy.

Masses are the probabilities of a row times one constant: the numbers themselves for probabilities,
e^{(x−m)/T} for logits. They come multiplied by a power of two, so that e^−1387 is a normal number.
"""

from libc.math cimport ilogb as c_ilogb, ldexp as c_ldexp, log as c_log, log1p as c_log1p
from libc.string cimport memset

from fastent.backends.cython.kernels.checks cimport check_log_sum, check_sum, report_negatives
from fastent.backends.cython.arithmetic.functions cimport (
    INFINITY, NAN, exp_tail, log1p_of, log_positive, madd, rounding, shift_of, stored, times_power,
)
from fastent.backends.cython.kernels.logits_exp cimport LogitSums, Scale, merge_into, scale_of
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM
from fastent.backends.cython.kernels.interface cimport DOUBLE, LOGITS, LOGPROBS, PROBS, Tile
from fastent.backends.cython.kernels.logits_sums cimport logit_sums, no_ranks
from fastent.backends.cython.kernels.row_blocks cimport (
    PARTS, class_of, classes_of, part_start, parts_of, run_parts, top_in,
)
from fastent.backends.cython.arithmetic.sums cimport row_sum, two_sum_add
from fastent.backends.cython.kernels.careful_exp cimport double_double_exp

cdef enum:
    LIFT = 1000                         # binary exponent to which the masses of a row are raised

cdef enum:                              # sums of a row of probabilities
    REST                                # of all but the largest
    ZEROS, NEGATIVES                    # blocks with some


cdef struct Part:                       # what a pass finds in one part of a row
    double top                          # its largest element,
    Py_ssize_t block                    # and the first block that it stands in
    LogitSums sums
    bint holes


cdef struct RowView:
    Tile *tile                          # the row: where it is, and of which operand
    Py_ssize_t row
    int operand
    Py_ssize_t classes
    int kind
    bint raw                            # "as_is": no normalisation
    Scale scale
    double top                          # largest element (0 where nothing is taken off), first place
    Py_ssize_t where
    double total                        # Σ of the masses; 1 for a raw row
    double rest                         # Σ of all but the largest
    double log_total
    bint nan
    bint certain                        # +inf logits: they share all of the mass
    bint holes                          # a class without any mass
    Part *parts                         # while it is read


cdef struct Bounds:                     # of −log q
    double low, high


cdef struct Sum:
    double total, lost


cdef inline void add(Sum *s, double x) noexcept nogil:
    two_sum_add(&s.total, &s.lost, x)


cdef inline void add_sum(Sum *s, Sum *other) noexcept nogil:
    add(s, other.total)
    s.lost += other.lost


cdef inline double value_of(Sum *s) noexcept nogil:
    return s.total + s.lost if s.lost == s.lost else s.total


# Adds what the classes [start, start + n) of the context's row have to the sums of their part.
ctypedef void (*AddBlock)(void *context, Py_ssize_t start, Py_ssize_t n, double *t, Sum *sums) noexcept nogil

cdef struct Pass:                       # over a row
    AddBlock add_block
    void *context
    Py_ssize_t classes
    int width                           # sums of a part
    Sum *sums


cdef inline void pass_job(void *context, Py_ssize_t k, char *scratch) noexcept nogil:
    cdef Pass *made = <Pass *>context
    cdef Py_ssize_t start = part_start(made.classes, k), stop = part_start(made.classes, k + 1), n
    cdef Sum *sums = made.sums + k * made.width
    memset(sums, 0, made.width * sizeof(Sum))
    while start < stop:
        n = min(<Py_ssize_t>CHUNK, stop - start)
        made.add_block(made.context, start, n, <double *>scratch, sums)
        start += n


cdef inline void sum_row(Tile *tile, AddBlock add_block, void *context, int width, Sum *sums) noexcept nogil:
    """`width` sums of a row; there is room for those of every part."""
    cdef Pass made = Pass(add_block, context, tile.classes, width, sums)
    cdef Py_ssize_t k
    if tile.classes <= CHUNK:           # known to the compiler, which calls nothing then
        memset(sums, 0, width * sizeof(Sum))
        add_block(context, 0, tile.classes, <double *>tile.scratch, sums)
        return
    run_parts(tile, pass_job, &made)
    for k in range(width, width * parts_of(tile.classes)):
        add_sum(sums + k % width, sums + k)


cdef inline double sum_of_row(Tile *tile, AddBlock add_block, void *context) noexcept nogil:
    cdef Sum sums[PARTS]
    sum_row(tile, add_block, context, 1, sums)
    return value_of(sums)


cdef inline Bounds bounds_of(Tile *tile) noexcept nogil:
    """Between which −log q is clipped."""
    if tile.eps > 0:
        return Bounds(-c_log1p(-tile.eps), -c_log(tile.eps))
    return Bounds(0 if tile.normalise else -INFINITY, INFINITY)


cdef inline RowView view_at(Tile *tile, Py_ssize_t r, int operand) noexcept nogil:
    """A row that is taken as it is; nothing is read yet."""
    cdef RowView view
    view.tile = tile
    view.row = r
    view.operand = operand
    view.classes = tile.classes
    view.kind = tile.pred_kind if operand else tile.true_kind
    view.raw = not tile.normalise and view.kind != LOGITS
    view.scale = scale_of(tile.temperature if view.kind == LOGITS else 1.0)
    view.top = view.log_total = 0
    view.where = -1
    view.total = 1
    view.rest = NAN
    view.nan = view.certain = view.holes = False
    return view


cdef inline double element(RowView *view, Py_ssize_t i) noexcept nogil:
    cdef double x
    if view.tile.precision == DOUBLE:
        x = class_of(view.tile, view.operand, view.row, i, <const double *>NULL)
    else:
        x = class_of(view.tile, view.operand, view.row, i, <const float *>NULL)
    if view.certain:
        return 0.0 if x == INFINITY else -INFINITY
    return x


cdef inline void load_block(RowView *view, Py_ssize_t start, Py_ssize_t n, double *x, char *scratch) noexcept nogil:
    cdef Py_ssize_t i
    cdef Tile *tile = view.tile
    cdef const float *single
    cdef const double *wide
    if tile.precision == DOUBLE:
        wide = classes_of(tile, view.operand, view.row, start, n, scratch, <const double *>NULL)
        for i in range(n):
            x[i] = wide[i]
    else:
        single = classes_of(tile, view.operand, view.row, start, n, scratch, <const float *>NULL)
        for i in range(n):
            x[i] = single[i]
    if view.certain:
        for i in range(n):
            x[i] = 0.0 if x[i] == INFINITY else -INFINITY


cdef inline void top_job(void *context, Py_ssize_t k, char *scratch) noexcept nogil:
    cdef RowView *view = <RowView *>context
    cdef Part *part = &view.parts[k]
    cdef Py_ssize_t start = part_start(view.classes, k), stop = part_start(view.classes, k + 1)
    if view.tile.precision == DOUBLE:
        part.top = top_in(view.tile, view.operand, view.row, start, stop, scratch, &part.block, <const double *>NULL)
    else:
        part.top = top_in(view.tile, view.operand, view.row, start, stop, scratch, &part.block, <const float *>NULL)


cdef inline void find_top(RowView *view, const stored *unused) noexcept nogil:
    """The largest element and where it first stands; NaN if there is one."""
    cdef Py_ssize_t k, n, i = 0
    cdef const stored *x
    cdef stored top
    cdef Part *found = &view.parts[0]
    run_parts(view.tile, top_job, view)
    for k in range(1, parts_of(view.classes)):
        if found.top == found.top and not view.parts[k].top <= found.top:
            found = &view.parts[k]
    top = <stored>found.top
    view.top = top
    view.nan = top != top
    if not view.nan:
        n = min(<Py_ssize_t>CHUNK, view.classes - found.block)
        x = classes_of(view.tile, view.operand, view.row, found.block, n, view.tile.scratch, unused)
        while x[i] != top:
            i += 1
    view.where = found.block + i


cdef inline void add_probabilities(void *context, Py_ssize_t start, Py_ssize_t n, double *x, Sum *sums) noexcept nogil:
    cdef RowView *view = <RowView *>context
    cdef Py_ssize_t i
    cdef int zeros = 0, negative = 0
    load_block(view, start, n, x, <char *>x)
    for i in range(n):
        zeros |= x[i] == 0
        negative |= x[i] < 0
    sums[ZEROS].total += zeros
    sums[NEGATIVES].total += negative
    if start <= view.where < start + n:
        x[view.where - start] = 0
    add(&sums[REST], row_sum(x, n))


cdef inline void sum_probabilities(RowView *view) noexcept nogil:
    """Σ of a probability row, its largest element kept apart, and the checks."""
    cdef Sum sums[3 * PARTS]
    sum_row(view.tile, add_probabilities, view, 3, sums)
    view.holes = sums[ZEROS].total > 0
    if sums[NEGATIVES].total > 0:
        report_negatives(view.tile, view.row, 1, view.operand)
    if view.raw:
        return
    view.rest = value_of(&sums[REST])
    view.total = view.rest + view.top
    # near 1 the logarithm of the rounded sum is good enough: it never stands alone
    view.log_total = log_positive(view.total)
    check_sum(view.tile, view.row, view.operand, view.total)


cdef inline void exponential_job(void *context, Py_ssize_t k, char *scratch) noexcept nogil:
    cdef RowView *view = <RowView *>context
    cdef Part *part = &view.parts[k]
    cdef Py_ssize_t start = part_start(view.classes, k), stop = part_start(view.classes, k + 1), n, i
    cdef double *x = <double *>scratch
    cdef LogitSums *sums = &part.sums
    cdef LogitSums block
    cdef int holes = 0
    sums.top = -INFINITY                                # an empty row
    sums.count = sums.rest = sums.moment = sums.square = sums.gap = sums.mass = sums.rank = 0
    while start < stop:
        n = min(<Py_ssize_t>CHUNK, stop - start)
        load_block(view, start, n, x, scratch)
        for i in range(n):
            holes |= x[i] == -INFINITY
        if not view.raw:
            block = logit_sums(x, n, n, view.scale, False, no_ranks(), x + ROOM)
            merge_into(sums, block, view.scale)
        start += n
    part.holes = holes


cdef inline void sum_exponentials(RowView *view) noexcept nogil:
    """Σ e^{(x−m)/T} of a row of logits or log-probabilities, its largest kept apart."""
    cdef LogitSums *sums = &view.parts[0].sums
    cdef Py_ssize_t k
    run_parts(view.tile, exponential_job, view)
    view.holes = view.parts[0].holes
    for k in range(1, parts_of(view.classes)):
        merge_into(sums, view.parts[k].sums, view.scale)
        view.holes |= view.parts[k].holes
    if view.raw:
        view.top = 0
        return
    view.rest = sums.rest + (sums.count - 1)
    view.total = 1 + view.rest
    view.log_total = log1p_of(view.rest)
    if view.kind == LOGPROBS:
        check_log_sum(view.tile, view.row, view.operand, view.top, view.total)
    view.nan = view.top == -INFINITY
    if view.top == INFINITY:
        view.certain = view.holes = True
        view.top = 0


cdef inline void read_view(Tile *tile, Py_ssize_t r, int operand, RowView *view) noexcept nogil:
    """Read a row once for its maximum and normaliser, and check it."""
    cdef Part parts[PARTS]
    view[0] = view_at(tile, r, operand)
    view.parts = &parts[0]
    if tile.precision == DOUBLE:
        find_top(view, <const double *>NULL)
    else:
        find_top(view, <const float *>NULL)
    if view.nan:
        view.total = view.log_total = NAN
    elif view.kind == PROBS:
        sum_probabilities(view)
    else:
        sum_exponentials(view)


cdef inline int lift_of(RowView *view) noexcept nogil:
    """The power of two that brings the mass of the row to 2^LIFT, about; raw numbers stay."""
    return 0 if view.raw else LIFT - c_ilogb(view.total)


cdef inline double lifted_exp(double high, double low, Scale scale, double lift) noexcept nogil:
    """exp((high + low)/T)·2^lift, 0 below the normal range; high > 0 in raw rows only."""
    cdef double shifted = madd(high, 1.4426950408889634074 * scale.inverse, <double>6755399441055744.0)
    cdef double k = shift_of(shifted)
    cdef double r = (madd(-k, scale.high, high) - madd(k, scale.low, -low)) * scale.inverse
    cdef double v = times_power(madd(r * r, exp_tail(r), r) + 1, shifted + lift)
    v = v if high >= (-707.5 - 0.69314718 * lift) * scale.temperature else 0.0
    return v if high < 709.5 * scale.temperature else INFINITY


cdef inline void masses(RowView *view, Py_ssize_t n, double lift, double *x) noexcept nogil:
    """Masses times 2^lift of a block, in place of its elements."""
    cdef Py_ssize_t i
    cdef double h, top = view.top, power = c_ldexp(1.0, <int>lift)
    cdef Scale scale = view.scale
    if view.kind == PROBS:
        for i in range(n):
            x[i] = x[i] * power
        return
    for i in range(n):
        h = x[i] - top
        x[i] = lifted_exp(h, rounding(x[i], top, h), scale, lift)


cdef inline void fine_masses(RowView *view, Py_ssize_t n, double lift, double *x) noexcept nogil:
    """The same as pairs of doubles: what x loses goes to x + ROOM."""
    cdef Py_ssize_t i
    if view.kind != PROBS:
        double_double_exp(x, n, view.top, view.scale, lift)
        return
    masses(view, n, lift, x)
    for i in range(n):
        x[ROOM + i] = 0


cdef inline double surprisal(RowView *view, Py_ssize_t i) noexcept nogil:
    """−log q of class i of the normalised row, or −log of the raw number."""
    cdef double x = element(view, i)
    if view.kind != PROBS:
        return view.log_total + (view.top - x) * view.scale.inverse
    if i == view.where and view.rest < x:
        return log1p_of(view.rest / x)
    return view.log_total - log_positive(x)


cdef inline void surprisals(RowView *view, Py_ssize_t start, Py_ssize_t n, double *x) noexcept nogil:
    """−log q of a block, in place of its elements."""
    cdef Py_ssize_t i
    cdef double top = view.top, inverse = view.scale.inverse, log_total = view.log_total
    if view.kind != PROBS:
        for i in range(n):
            x[i] = log_total + (top - x[i]) * inverse
        return
    for i in range(n):
        x[i] = log_total - log_positive(x[i])
    if start <= view.where < start + n:
        x[view.where - start] = surprisal(view, view.where)
