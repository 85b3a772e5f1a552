"""The loop over tiles: load, run the kernels, weigh, hand on. One tile is a few rows that stay in
cache; threads claim tiles in order."""

from libc.stdint cimport int64_t, uint64_t

from fastent.backends.cython.accumulate.exact_sum cimport ExactSum, exact_add, exact_add_floats, exact_add_one
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.interface cimport (
    DOUBLE, LOADED, LOGITS, SCRATCH, SINGLE, WIDENED, BadRow, Job, RowLoader, Tile,
)
from fastent.backends.cython.tiles.operand cimport (
    FLOAT32, FLOAT64, View, in_one_run, load_classes, load_doubles, load_labels, load_rows,
    ready_rows, repeats, row_address,
)
from fastent.backends.cython.tiles.rescale cimport find_power, rescale
from fastent.backends.cython.threads cimport exchange, relaxed_load, relaxed_store, run_parallel

# Straight from the system: malloc keeps what is freed, 55 MB after arenas of some different sizes.
cdef extern from "os_memory.h" nogil:
    void *fe_take_memory(size_t size)
    void fe_give_memory(void *, size_t size)

cdef enum:
    SPARE = 1 << 22                     # arenas up to this size are kept for the next call
    LINE = 64                           # every part of an arena begins at a cache line: a vector of
                                        # 64 bytes that straddles two costs two accesses

# The row that fills a worker's tile of an operand, where tiles before had the same: its address and
# how often it stands there. NULL: something else does.
ctypedef struct Repeated:
    const char *row
    Py_ssize_t times

# Where one worker's scratch begins, in bytes; every part has room for sums to read past its end.
ctypedef struct Arena:
    BadRow *bad                         # the first bad row that this worker saw
    Repeated *true_repeated
    Repeated *pred_repeated
    char *kernels
    int64_t *labels
    double *weights
    double *values
    char *true_rows
    char *pred_rows
    double *terms

cdef char *spare = NULL                 # of SPARE bytes


cdef Py_ssize_t padded(Py_ssize_t size) noexcept nogil:
    return ((size + 63) & ~<Py_ssize_t>63) + 256


cdef inline char *part(char *base, Py_ssize_t *at, Py_ssize_t size, bint wanted) noexcept nogil:
    """Where the next part of an arena begins."""
    cdef char *begins = base + at[0]
    at[0] += padded(size) if wanted else 0
    return begins


cdef Py_ssize_t lay_out(Plan *plan, char *base, Arena *arena) noexcept nogil:
    """Place the parts of an arena at base; its size in bytes."""
    cdef Py_ssize_t n = plan.tile_rows, size = n * plan.classes * (4 if plan.stored == FLOAT32 else 8), at = 0
    cdef bint copied = not plan.by_blocks
    arena.bad = <BadRow *>part(base, &at, sizeof(BadRow), True)
    arena.true_repeated = <Repeated *>part(base, &at, 2 * sizeof(Repeated), True)
    arena.pred_repeated = arena.true_repeated + 1
    arena.kernels = part(base, &at, SCRATCH, True)
    arena.labels = <int64_t *>part(base, &at, 8 * n, True)
    arena.weights = <double *>part(base, &at, 8 * n, True)
    arena.values = <double *>part(base, &at, 8 * n * plan.columns, True)
    arena.true_rows = part(base, &at, size, copied and plan.true_view != NULL and not plan.true_in_place)
    arena.pred_rows = part(base, &at, size, copied and not plan.pred_in_place)
    arena.terms = <double *>part(base, &at, 8 * n * plan.classes, copied and plan.terms != NULL)
    return at


# --- the blocks of one long row --------------------------------------------------------------------

ctypedef struct Blocks:
    Plan *plan
    Job job
    void *context
    char *scratch


cdef void one_block(void *context, Py_ssize_t block, int worker) noexcept nogil:
    cdef Blocks *blocks = <Blocks *>context
    blocks.job(blocks.context, block, blocks.scratch + worker * blocks.plan.arena_size)


cdef void run_blocks(void *runner, Job job, void *context, Py_ssize_t count, char *scratch) noexcept nogil:
    """On this worker, or on all of them, each with the scratch in its own arena."""
    cdef Plan *plan = <Plan *>runner
    cdef Blocks blocks = Blocks(plan, job, context, scratch)
    run_parallel(one_block, &blocks, count, plan.threads if plan.spread else 1)


# --- loading --------------------------------------------------------------------------------------

cdef void load_block(const void *given, Py_ssize_t r, Py_ssize_t start, Py_ssize_t n, void *out) noexcept nogil:
    """A block of a float row, for kernels."""
    cdef const RowLoader *source = <const RowLoader *>given
    load_classes(<View *>source.view, source.row + r, start, n, FLOAT32, out)


cdef void load_double_block(const void *given, Py_ssize_t r, Py_ssize_t start, Py_ssize_t n, void *out) noexcept nogil:
    """The same of a double row, rescaled, or of weights, times those of the classes."""
    cdef const RowLoader *source = <const RowLoader *>given
    cdef const double *w = source.class_weight
    cdef double *x = <double *>out
    cdef Py_ssize_t i
    load_classes(<View *>source.view, source.row + r, start, n, FLOAT64, x)
    if source.power != 1 or source.more_power != 1:
        for i in range(n):
            x[i] = x[i] * source.power * source.more_power
    if w != NULL:
        for i in range(n):
            x[i] *= w[start + i]


cdef void load_side(Plan *plan, View *view, bint in_place, bint rescaled, Py_ssize_t start, Py_ssize_t n, char *room,
                    Repeated *repeated, char *scratch, const void **rows, RowLoader *source, RowLoader **used) noexcept nogil:
    """Rows of an operand: where they are, or how to load their blocks."""
    cdef bint ready = not rescaled and ready_rows(view, plan.stored), run, together
    cdef const char *first
    source[0] = RowLoader(load_double_block, view, start, 1, 1, NULL)
    if plan.stored == FLOAT32:
        source.load = load_block
    run = not plan.by_blocks and in_one_run(view, start, n)
    together = run and view.axes > 0 and view.strides[view.axes - 1] == view.classes * view.itemsize
    if in_place or (ready and (n == 1 or together)):
        rows[0] = row_address(view, start)
        return
    first = row_address(view, start) if run and repeats(view) else NULL
    if first != NULL and first == repeated.row and n <= repeated.times:
        rows[0] = room
        return
    repeated.row = first
    repeated.times = n
    if plan.by_blocks:
        if rescaled:
            find_power(source, 0, plan.classes, NULL, <double *>(scratch + LOADED))
        rows[0] = NULL
        used[0] = source
    else:
        load_rows(view, start, n, plan.stored, room)
        if rescaled:                                    # in doubles
            rescale(source, n, plan.classes, <double *>room, <double *>(scratch + LOADED))
        rows[0] = room


cdef bint load_rows_info(Plan *plan, Py_ssize_t start, Py_ssize_t n, int64_t *labels, double *weights,
                         BadRow *bad) noexcept nogil:
    """Labels and weights of rows; True if the kernels need the label array. A row to be skipped has
    label −1."""
    cdef Py_ssize_t r, fraction, whole = n              # rows before the first bad one, which may be bad too
    cdef int64_t beyond = 0
    cdef bint skips = False
    bad.row = -1
    if plan.weights != NULL:
        load_doubles(plan.weights, start, n, weights)
    if plan.labels != NULL:
        fraction = load_labels(plan.labels, start, n, labels)
        if fraction >= 0:
            bad[0] = BadRow(fraction, FRACTION, LABELS, 0)
            whole = fraction
        for r in range(whole):                          # by signs: SSE2 compares no 64-bit integers
            beyond |= labels[r] | <int64_t>(<uint64_t>(plan.classes - 1) - <uint64_t>labels[r])
        for r in range(whole if beyond < 0 or plan.ignores else 0):
            if plan.ignores and labels[r] == plan.ignored:
                labels[r] = -1
            elif labels[r] < 0 or labels[r] >= plan.classes:
                bad[0] = BadRow(r, LABEL, LABELS, 0)
                whole = r
                break
    if plan.weights != NULL:
        check_weights(weights, whole, 1, bad)
        whole = bad.row if bad.row >= 0 else whole
        for r in range(whole):
            skips |= weights[r] == 0
        if skips or plan.labels != NULL:
            for r in range(whole):
                if plan.labels == NULL:
                    labels[r] = 0
                if weights[r] == 0:
                    labels[r] = -1
    return skips or plan.labels != NULL


cdef void check_weights(const double *w, Py_ssize_t rows, Py_ssize_t width, BadRow *bad) noexcept nogil:
    """Weights, so many a row, are at least 0; `bad` is the first row that has one which is not."""
    cdef Py_ssize_t i
    for i in range(rows * width):
        if not w[i] >= 0:
            bad[0] = BadRow(i // width, WEIGHT, WEIGHTS, w[i])
            return


cdef void load_term_rows(Plan *plan, Py_ssize_t start, Py_ssize_t n, double *w, BadRow *bad) noexcept nogil:
    """Weights of the terms of rows, checked, times those of the classes."""
    cdef Py_ssize_t r, c
    load_doubles(plan.terms, start, n, w)
    check_weights(w, n, plan.classes, bad)
    for r in range(n if plan.class_weight != NULL else 0):
        for c in range(plan.classes):
            w[r * plan.classes + c] *= plan.class_weight[c]


cdef void load_terms(Plan *plan, Tile *tile, Arena *arena, Py_ssize_t start, RowLoader *source, BadRow *bad) noexcept nogil:
    """Weights of terms, checked: a copy, or how to load the blocks of a row."""
    cdef Py_ssize_t c = 0, n
    cdef double *block = <double *>(arena.kernels + LOADED)
    if not plan.by_blocks:
        load_term_rows(plan, start, tile.rows, arena.terms, bad)
        tile.terms = arena.terms
        tile.terms_stride = tile.classes
        return
    tile.terms = NULL
    tile.terms_source = source
    source[0] = RowLoader(load_double_block, plan.terms, start, 1, 1, plan.class_weight)
    while c < tile.classes and bad.row < 0:
        n = min(<Py_ssize_t>CHUNK, tile.classes - c)
        load_classes(plan.terms, start, c, n, FLOAT64, block)
        check_weights(block, tile.rows, n, bad)
        c += n


# --- a tile ---------------------------------------------------------------------------------------

cdef void run_steps(Plan *plan, Tile *tile, double *values, Py_ssize_t stride) noexcept nogil:
    cdef const void *true_rows = tile.true_rows
    cdef const void *pred_rows = tile.pred_rows
    cdef RowLoader *true_source = tile.true_source
    cdef RowLoader *pred_source = tile.pred_source
    cdef double *out[MOST_SLOTS]
    cdef const Step *step
    cdef int s, k
    cdef bint swapped, alone
    for s in range(plan.step_count):
        step = &plan.steps[s]
        for k in range(MOST_SLOTS):
            out[k] = values + step.slot[k] * stride if step.slot[k] >= 0 else NULL
        swapped = step.seen == SWAPPED or step.seen == TRUE_AS_PRED
        alone = step.seen == PRED_ONLY or step.seen == TRUE_AS_PRED
        tile.true_rows = pred_rows if swapped else true_rows
        tile.pred_rows = true_rows if swapped else pred_rows
        tile.true_source = pred_source if swapped else true_source
        tile.pred_source = true_source if swapped else pred_source
        if alone:
            tile.true_rows = NULL
            tile.true_source = NULL
        tile.true_kind = plan.pred_kind if swapped else plan.true_kind
        tile.pred_kind = plan.true_kind if swapped else plan.pred_kind
        # logits only: log-probabilities beside them keep theirs
        tile.temperature = 1.0
        if tile.pred_kind == LOGITS or (not alone and tile.true_kind == LOGITS):
            tile.temperature = plan.temperature
        tile.eps = plan.eps if step.clips else 0.0
        tile.precision = DOUBLE
        if plan.stored == FLOAT32:
            tile.precision = WIDENED if step.widens else SINGLE
        k = <int>(tile.bad.row >= 0)
        step.kernel(tile, out)
        if swapped and k == 0 and tile.bad.row >= 0:
            tile.bad.operand = 1 - tile.bad.operand


cdef inline bint skips_rows(Plan *plan, const int64_t *labels) noexcept nogil:
    """Whether some label may be −1."""
    return labels != NULL and (plan.ignores or plan.weights != NULL)


cdef void finish_columns(Plan *plan, Py_ssize_t n, const int64_t *labels, const double *weights, double *values,
                         Py_ssize_t stride) noexcept nogil:
    """Skipped rows, class weights, base and row weights. A label whose class has weight 0 adds 0,
    whatever is in the row."""
    cdef Py_ssize_t r
    cdef int k
    cdef int64_t signs = 0
    cdef double w
    cdef double *column
    if skips_rows(plan, labels):
        for r in range(n):
            signs |= labels[r]
    if plan.label_weighs:
        for r in range(n):
            w = plan.class_weight[labels[r]] if labels[r] >= 0 else 0.0
            if plan.loss_column >= 0:
                column = values + plan.loss_column * stride
                column[r] = w * column[r] if w != 0 else 0.0
            if plan.target_weight_column >= 0:
                values[plan.target_weight_column * stride + r] = w
    for k in range(plan.columns):
        column = values + k * stride
        if plan.scale[k] != 1:
            for r in range(n):
                column[r] = column[r] / plan.scale[k]
        if signs < 0:
            for r in range(n):
                column[r] = 0.0 if labels[r] < 0 else column[r]
        if plan.multiply and plan.weights != NULL:
            for r in range(n):
                column[r] = column[r] * weights[r] if weights[r] != 0 else 0.0


cdef void add_weights(Plan *plan, Py_ssize_t n, const int64_t *labels, double *weights, double *values,
                      Py_ssize_t stride, ExactSum *sum) noexcept nogil:
    """Σ of the rows' weights."""
    cdef Py_ssize_t r
    cdef int64_t skipped = 0
    if plan.target_weight_column >= 0:
        exact_add(sum, values + plan.target_weight_column * stride, n)
        return
    if skips_rows(plan, labels):
        for r in range(n):
            skipped += labels[r] < 0
    if plan.weights == NULL:                            # a count
        exact_add_one(sum, <double>(n - skipped))
        return
    for r in range(n if skipped > 0 else 0):
        weights[r] = 0.0 if labels[r] < 0 else weights[r]
    exact_add(sum, weights, n)


cdef void add_floats(void *sum, const float *values, Py_ssize_t n) noexcept nogil:
    exact_add_floats(<ExactSum *>sum, values, n)


cdef void add_doubles(void *sum, const double *values, Py_ssize_t n) noexcept nogil:
    exact_add(<ExactSum *>sum, values, n)


cdef void run_tile(void *context, Py_ssize_t index, int worker) noexcept nogil:
    cdef Plan *plan = <Plan *>context
    cdef Py_ssize_t start = plan.start + index * plan.tile_rows, stride = plan.tile_rows
    cdef Tile tile = plan.tile
    cdef Arena arena
    cdef BadRow bad
    cdef RowLoader true_source, pred_source, terms_source
    cdef double *values
    cdef Py_ssize_t known = relaxed_load(&plan.bad.row)
    if known >= 0 and known < start:
        return
    lay_out(plan, plan.arena + worker * plan.arena_size, &arena)
    tile.rows = min(plan.tile_rows, plan.stop - start)
    if load_rows_info(plan, start, tile.rows, arena.labels, arena.weights, &bad):
        tile.labels = arena.labels
    if bad.row >= 0:
        tile.rows = bad.row                             # rows before it may be bad too
    if plan.true_view != NULL:
        load_side(plan, plan.true_view, plan.true_in_place, plan.rescale_true, start, tile.rows, arena.true_rows,
                  arena.true_repeated, arena.kernels, &tile.true_rows, &true_source, &tile.true_source)
    load_side(plan, plan.pred_view, plan.pred_in_place, plan.rescale_pred, start, tile.rows, arena.pred_rows,
              arena.pred_repeated, arena.kernels, &tile.pred_rows, &pred_source, &tile.pred_source)
    if plan.terms != NULL:
        load_terms(plan, &tile, &arena, start, &terms_source, &bad)
    # row values are what is summed if nothing changes them
    if plan.sums != NULL and plan.columns == 1 and plan.scale[0] == 1 and plan.weights == NULL and tile.labels == NULL:
        tile.sum = &plan.sums[2 * worker]
    tile.scratch = arena.kernels
    values = arena.values
    if plan.out != NULL:
        values = plan.out + (start - plan.start)
        stride = plan.out_stride
    run_steps(plan, &tile, values, stride)
    if tile.no_memory:
        plan.no_memory = True
        return
    if tile.bad.row >= 0 and (bad.row < 0 or tile.bad.row < bad.row):
        bad = tile.bad
    if bad.row >= 0:
        bad.row += start
        if arena.bad.row < 0 or bad.row < arena.bad.row:
            arena.bad[0] = bad
        relaxed_store(&plan.bad.row, bad.row)           # lets others stop; the first one is found at the end
        return
    finish_columns(plan, tile.rows, tile.labels, arena.weights, values, stride)
    if plan.sums != NULL:
        if not tile.summed:
            exact_add(&plan.sums[2 * worker], values, tile.rows)    # weighted already
        add_weights(plan, tile.rows, tile.labels, arena.weights, values, stride, &plan.sums[2 * worker + 1])


cdef void run_plan(Plan *plan) noexcept nogil:
    """Rows [start, stop) of the call into its sinks; plan.bad tells of a bad row."""
    global spare
    cdef Arena arena
    cdef Py_ssize_t size, tiles = (plan.stop - plan.start + plan.tile_rows - 1) // plan.tile_rows
    cdef int workers = plan.threads, k
    cdef BadRow *found
    plan.bad.row = plan.tile.bad.row = -1
    plan.no_memory = plan.interrupted = False
    plan.tile.classes = plan.classes
    plan.tile.add_floats = add_floats
    plan.tile.add_doubles = add_doubles
    plan.tile.run = run_blocks
    plan.tile.runner = plan
    if not plan.label_weighs:
        plan.tile.terms = plan.class_weight
    if plan.stop <= plan.start:
        return
    if not plan.spread and workers > tiles:
        workers = <int>tiles
    plan.arena_size = padded(lay_out(plan, NULL, &arena))
    size = max(plan.arena_size * workers, <Py_ssize_t>SPARE)
    plan.arena = exchange(&spare, NULL) if size <= SPARE else NULL
    if plan.arena == NULL:
        plan.arena = <char *>fe_take_memory(size)
        if plan.arena == NULL:
            plan.no_memory = True
            return
    for k in range(workers):
        lay_out(plan, plan.arena + k * plan.arena_size, &arena)
        arena.bad.row = -1
        arena.true_repeated.row = arena.pred_repeated.row = NULL
    # few long rows go one by one: all workers share each of them
    plan.interrupted = run_parallel(run_tile, plan, tiles, 1 if plan.spread else workers, True)
    plan.bad.row = -1
    for k in range(workers):
        found = <BadRow *>(plan.arena + k * plan.arena_size)
        if found.row >= 0 and (plan.bad.row < 0 or found.row < plan.bad.row):
            plan.bad = found[0]
    plan.arena = exchange(&spare, plan.arena) if size <= SPARE else plan.arena
    if plan.arena != NULL:
        fe_give_memory(plan.arena, size)
