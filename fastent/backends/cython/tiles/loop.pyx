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
from fastent.backends.cython.threads cimport exchange, relaxed_load, relaxed_store, run_parallel, run_watched

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


# --- one long row over many threads ---------------------------------------------------------------

ctypedef struct Spread:
    Plan *plan
    Job job
    void *context


cdef void one_block(void *context, Py_ssize_t block, int worker) noexcept nogil:
    cdef Spread *spread = <Spread *>context
    cdef Arena arena
    lay_out(spread.plan, spread.plan.arena + worker * spread.plan.arena_size, &arena)
    spread.job(spread.context, block, arena.kernels)


cdef void run_spread(void *runner, Job job, void *context, Py_ssize_t count, char *scratch) noexcept nogil:
    cdef Spread spread
    spread.plan = <Plan *>runner
    spread.job = job
    spread.context = context
    run_parallel(one_block, &spread, count, spread.plan.threads)


cdef void run_here(void *runner, Job job, void *context, Py_ssize_t count, char *scratch) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(count):
        job(context, block, scratch)


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
    cdef bint ready = not rescaled and ready_rows(view, plan.stored), run
    cdef const char *first
    source.view = view
    source.row = start
    source.power = source.more_power = 1
    source.class_weight = NULL
    if in_place or (ready and n == 1):
        rows[0] = row_address(view, start)
        return
    run = not plan.by_blocks and in_one_run(view, start, n)
    if run and ready and view.axes > 0 and view.strides[view.axes - 1] == view.classes * view.itemsize:
        rows[0] = row_address(view, start)
        return
    first = row_address(view, start) if run and repeats(view) else NULL
    if first != NULL and first == repeated.row and n <= repeated.times:
        rows[0] = room
        return
    repeated.row = first
    repeated.times = n
    if plan.by_blocks:
        source.load = load_block if plan.stored == FLOAT32 else load_double_block
        if rescaled:
            find_power(source, 0, plan.classes, NULL, <double *>(scratch + LOADED))
        rows[0] = NULL
        used[0] = source
    else:
        load_rows(view, start, n, plan.stored, room)
        if rescaled:                                    # in doubles
            rescale(source, n, plan.classes, <double *>room, <double *>(scratch + LOADED))
        rows[0] = room


cdef bint load_rows_info(Plan *plan, Arena *arena, Py_ssize_t start, Py_ssize_t n, BadRow *bad) noexcept nogil:
    """Labels and weights of the tile; True if the kernels need the label array. A row to be skipped
    has label −1."""
    cdef Py_ssize_t r, fraction, whole = n              # rows before the first bad one, which may be bad too
    cdef int64_t label, beyond = 0
    cdef bint skips = False, look = plan.ignores
    bad.row = -1
    if plan.weights != NULL:
        load_doubles(plan.weights, start, n, arena.weights)
    if plan.labels != NULL:
        fraction = load_labels(plan.labels, start, n, arena.labels)
        look |= fraction >= 0
        for r in range(n):                              # by signs: SSE2 compares no 64-bit integers
            label = arena.labels[r]
            beyond |= label | <int64_t>(<uint64_t>(plan.classes - 1) - <uint64_t>label)
        look |= beyond < 0
        for r in range(n if look else 0):
            label = arena.labels[r]
            if fraction >= 0 and r >= fraction:
                bad.code = FRACTION
                load_doubles(plan.labels, start + r, 1, &bad.number)
            elif plan.ignores and label == plan.ignored:
                arena.labels[r] = -1
                continue
            elif label < 0 or label >= plan.classes:
                bad.code = LABEL
                bad.number = <double>label
            else:
                continue
            bad.operand = LABELS
            bad.row = whole = r
            break
    if plan.weights != NULL:
        for r in range(whole):
            if not arena.weights[r] >= 0:
                bad.code = WEIGHT
                bad.operand = WEIGHTS
                bad.number = arena.weights[r]
                bad.row = whole = r
                break
            if arena.weights[r] == 0:
                skips = True
        if skips or plan.labels != NULL:
            for r in range(whole):
                if plan.labels == NULL:
                    arena.labels[r] = 0
                if arena.weights[r] == 0:
                    arena.labels[r] = -1
    return skips or plan.labels != NULL


cdef void load_terms(Plan *plan, Tile *tile, Arena *arena, Py_ssize_t start, RowLoader *source, BadRow *bad) noexcept nogil:
    """Weights of terms, checked: a copy, or how to load their blocks."""
    cdef Py_ssize_t r, c, n, i
    cdef double *w = arena.terms
    source.load = load_double_block
    source.view = plan.terms
    source.row = start
    source.power = source.more_power = 1
    source.class_weight = plan.class_weight
    if plan.by_blocks:
        w = <double *>(arena.kernels + LOADED)
        tile.terms = NULL
        tile.terms_source = source
    else:
        load_doubles(plan.terms, start, tile.rows, w)
        tile.terms = w
        tile.terms_stride = plan.classes
    for r in range(tile.rows):
        c = 0
        while c < plan.classes:
            n = min(<Py_ssize_t>CHUNK, plan.classes - c)
            if plan.by_blocks:
                load_classes(plan.terms, start + r, c, n, FLOAT64, w)
            check_terms(plan, w, n, r, bad)
            if not plan.by_blocks:
                if plan.class_weight != NULL:
                    for i in range(n):
                        w[i] *= plan.class_weight[c + i]
                w += n
            c += n


cdef inline void check_terms(Plan *plan, const double *w, Py_ssize_t n, Py_ssize_t r, BadRow *bad) noexcept nogil:
    """Weights are at least 0; the first row counts that has one which is not."""
    cdef Py_ssize_t i
    if bad.row >= 0 and bad.row <= r:
        return
    for i in range(n):
        if not w[i] >= 0:
            bad.row = r
            bad.code = WEIGHT
            bad.operand = WEIGHTS
            bad.number = w[i]
            return


# --- a tile ---------------------------------------------------------------------------------------

cdef void run_steps(Plan *plan, Tile *tile, double *values, Py_ssize_t stride) noexcept nogil:
    cdef const void *true_rows = tile.true_rows
    cdef const void *pred_rows = tile.pred_rows
    cdef RowLoader *true_source = tile.true_source
    cdef RowLoader *pred_source = tile.pred_source
    cdef double *out[MOST_SLOTS]
    cdef const Step *step
    cdef int s, k
    cdef bint swapped, both
    for s in range(plan.step_count):
        step = &plan.steps[s]
        for k in range(MOST_SLOTS):
            out[k] = values + step.slot[k] * stride if step.slot[k] >= 0 else NULL
        swapped = step.seen == SWAPPED or step.seen == TRUE_AS_PRED
        tile.true_rows = pred_rows if swapped else true_rows
        tile.pred_rows = true_rows if swapped else pred_rows
        tile.true_source = pred_source if swapped else true_source
        tile.pred_source = true_source if swapped else pred_source
        tile.true_kind = plan.pred_kind if swapped else plan.true_kind
        tile.pred_kind = plan.true_kind if swapped else plan.pred_kind
        if step.seen == PRED_ONLY or step.seen == TRUE_AS_PRED:
            tile.true_rows = NULL
            tile.true_source = NULL
        # logits only: log-probabilities beside them keep theirs
        both = step.seen == BOTH or step.seen == SWAPPED
        tile.temperature = 1.0
        if tile.pred_kind == LOGITS or (both and tile.true_kind == LOGITS):
            tile.temperature = plan.temperature
        tile.eps = plan.eps if step.clips else 0.0
        tile.precision = SINGLE if plan.stored == FLOAT32 else DOUBLE
        if step.widens and plan.stored == FLOAT32:
            tile.precision = WIDENED
        k = <int>(tile.bad.row >= 0)
        step.kernel(tile, out)
        if swapped and k == 0 and tile.bad.row >= 0:
            tile.bad.operand = 1 - tile.bad.operand
    tile.true_rows = true_rows
    tile.pred_rows = pred_rows
    tile.true_source = true_source
    tile.pred_source = pred_source


cdef inline bint skips_rows(Plan *plan, Tile *tile) noexcept nogil:
    """Whether some label may be −1."""
    return tile.labels != NULL and (plan.ignores or plan.weights != NULL)


cdef void finish_columns(Plan *plan, Tile *tile, Arena *arena, double *values, Py_ssize_t stride) noexcept nogil:
    """Skipped rows, class weights, base and row weights."""
    cdef Py_ssize_t r, n = tile.rows
    cdef int k
    cdef int64_t signs = 0
    cdef double w
    cdef double *column
    if skips_rows(plan, tile):
        for r in range(n):
            signs |= tile.labels[r]
    if plan.label_weighs:
        for r in range(n):
            w = plan.class_weight[tile.labels[r]] if tile.labels[r] >= 0 else 0.0
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
                column[r] = 0.0 if tile.labels[r] < 0 else column[r]
        if plan.multiply and plan.weights != NULL:
            for r in range(n):
                column[r] = column[r] * arena.weights[r] if arena.weights[r] != 0 else 0.0


cdef void add_to_sums(Plan *plan, Tile *tile, Arena *arena, double *values, ExactSum *sums) noexcept nogil:
    """Σ of the first column (weighted already) and Σ of the row's weights."""
    cdef Py_ssize_t r, n = tile.rows
    cdef int64_t skipped = 0
    cdef double *w = arena.weights
    if not tile.summed:
        exact_add(&sums[0], values, n)
    if plan.target_weight_column >= 0:
        exact_add(&sums[1], values + plan.target_weight_column * plan.tile_rows, n)
        return
    if plan.weights == NULL:                            # a count
        if skips_rows(plan, tile):
            for r in range(n):
                skipped += tile.labels[r] < 0
        exact_add_one(&sums[1], <double>(n - skipped))
        return
    for r in range(n):
        w[r] = 0.0 if tile.labels != NULL and tile.labels[r] < 0 else w[r]
    exact_add(&sums[1], w, n)


cdef void add_floats(void *sum, const float *values, Py_ssize_t n) noexcept nogil:
    exact_add_floats(<ExactSum *>sum, values, n)


cdef void add_doubles(void *sum, const double *values, Py_ssize_t n) noexcept nogil:
    exact_add(<ExactSum *>sum, values, n)


cdef void run_tile(void *context, Py_ssize_t index, int worker) noexcept nogil:
    cdef Plan *plan = <Plan *>context
    cdef Py_ssize_t start = plan.start + index * plan.tile_rows, stride = plan.tile_rows
    cdef Tile tile
    cdef Arena arena
    cdef BadRow bad
    cdef RowLoader true_source, pred_source, terms_source
    cdef double *values
    cdef Py_ssize_t known = relaxed_load(&plan.bad.row)
    if known >= 0 and known < start:
        return
    lay_out(plan, plan.arena + worker * plan.arena_size, &arena)
    tile.rows = min(plan.tile_rows, plan.stop - start)
    tile.labels = arena.labels if load_rows_info(plan, &arena, start, tile.rows, &bad) else NULL
    if bad.row >= 0:
        tile.rows = bad.row                             # rows before it may be bad too
    tile.classes = plan.classes
    tile.true_rows = NULL
    tile.true_source = tile.pred_source = tile.terms_source = NULL
    if plan.true_view != NULL:
        load_side(plan, plan.true_view, plan.true_in_place, plan.rescale_true, start, tile.rows, arena.true_rows,
                  arena.true_repeated, arena.kernels, &tile.true_rows, &true_source, &tile.true_source)
    load_side(plan, plan.pred_view, plan.pred_in_place, plan.rescale_pred, start, tile.rows, arena.pred_rows,
              arena.pred_repeated, arena.kernels, &tile.pred_rows, &pred_source, &tile.pred_source)
    tile.terms = plan.class_weight
    tile.terms_stride = 0
    if plan.terms != NULL:
        load_terms(plan, &tile, &arena, start, &terms_source, &bad)
    tile.tolerance = plan.tolerance
    tile.normalise = plan.normalise
    tile.smoothing = plan.smoothing
    tile.order = plan.order
    tile.sum = NULL                                     # row values are what is summed if nothing changes them
    if plan.sums != NULL and plan.columns == 1 and plan.scale[0] == 1 and plan.weights == NULL and tile.labels == NULL:
        tile.sum = &plan.sums[2 * worker]
    tile.add_floats = add_floats
    tile.add_doubles = add_doubles
    tile.summed = False
    tile.scratch = arena.kernels
    tile.run = run_spread if plan.spread else run_here
    tile.runner = plan
    tile.bad.row = -1
    tile.no_memory = False
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
    finish_columns(plan, &tile, &arena, values, stride)
    if plan.sums != NULL:
        add_to_sums(plan, &tile, &arena, values, plan.sums + 2 * worker)


cdef void run_plan(Plan *plan) noexcept nogil:
    """Rows [start, stop) of the call into its sinks; plan.bad tells of a bad row."""
    global spare
    cdef Arena arena
    cdef Py_ssize_t size, tiles = (plan.stop - plan.start + plan.tile_rows - 1) // plan.tile_rows
    cdef int workers = plan.threads, workers_of_rows, k
    cdef BadRow *found
    plan.bad.row = -1
    plan.no_memory = plan.interrupted = False
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
    workers_of_rows = workers
    if plan.spread:
        workers_of_rows = 1                             # and the others share each row
    plan.interrupted = run_watched(run_tile, plan, tiles, workers_of_rows)
    plan.bad.row = -1
    for k in range(workers):
        found = <BadRow *>(plan.arena + k * plan.arena_size)
        if found.row >= 0 and (plan.bad.row < 0 or found.row < plan.bad.row):
            plan.bad = found[0]
    plan.arena = exchange(&spare, plan.arena) if size <= SPARE else plan.arena
    if plan.arena != NULL:
        fe_give_memory(plan.arena, size)
