"""Adding rows to a Store, one column after the other in blocks that stay in cache.

In two passes, so that rows are added as a whole or, where memory runs out, not at all. The first adds
to a `fresh` Store what is kept of all rows, and makes room for what groups and clusters keep; the
second, which cannot fail, adds to these. Then `fresh` is merged into the whole.
"""

from libc.math cimport INFINITY, ldexp
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastent.backends.cython.accumulate.exact_sum cimport (
    ExactSum, exact_add, exact_add_like, exact_add_one, exact_add_products,
)
from fastent.backends.cython.accumulate.simd_table cimport blocks
from fastent.backends.cython.accumulate.exact_sum_blocks cimport NO_GRID, far_product
from fastent.backends.cython.accumulate.buckets cimport FIRST_PLACE, NEAR_EDGE, PLACES, UNFIT, ZERO_PLACE, in_order
from fastent.backends.cython.accumulate.exact_sum_short cimport SpanSum, span_add, span_enter
from fastent.backends.cython.accumulate.state_data cimport (
    BIN_CROSS, BIN_SUMS, CROSS, SQUARE, SUM, Column, Rows, Store, widen,
)
from fastent.backends.cython.accumulate.histogram cimport (
    RECENT, __builtin_prefetch, Histogram, HistogramEntry, bucket_of, histogram_add, histogram_add_many,
    histogram_count, histogram_flush, histogram_key, histogram_missing, histogram_reserve,
)
from fastent.backends.cython.arithmetic.functions cimport fe_from_bits_double
from fastent.backends.cython.threads cimport run_parallel

cdef enum:
    BLOCK = 512
    WORTH_THREADS = 8192
    # Rows that make up for clearing and emptying an array of counts, and what 32 bits count.
    WORTH_COUNTING = 2048
    MOST_COUNTED = 1 << 30
    MOST_COUNTED_BINS = 128
    FIRST_BUCKET = FIRST_PLACE + (52 << 6)         # of the first place: see bucket_of


cdef struct Task:
    Store* store
    Store* fresh
    Rows* rows
    bint final                                     # the second pass
    int bad


cdef void add_part(void* context, Py_ssize_t index, int worker) noexcept nogil:
    """One of the parts of a store that share nothing: columns, weights, bins, labels, items."""
    cdef Task* task = <Task*> context
    cdef Store* store = task.store
    cdef int bad = 0
    if index >= 3 + store.K:
        bad = add_weights(task, <int> index - 3 - store.K)
    elif index >= 3:
        bad = add_column(task, <int> index - 3)
    elif task.final and task.rows.groups == NULL:
        pass
    elif index == 0 and store.bins:                # the longest first, so that no thread waits
        bad = add_bins(task)
    elif index == 1 and store.counts_labels:
        bad = add_labels(task)
    elif index == 2 and task.rows.item_lines:
        bad = add_items(task)
    if bad < 0:
        task.bad = bad


cdef int add_rows(Store* store, Store* fresh, Rows* rows, bint final, int threads) noexcept nogil:
    """One of the two passes; negative when there was no memory."""
    cdef Task task
    cdef Py_ssize_t i, parts = store.K + store.kinds + 3
    if final and rows.groups == NULL and rows.clusters == NULL:
        return 0
    task.store = store
    task.fresh = fresh
    task.rows = rows
    task.final = final
    task.bad = 0
    if threads > 1 and rows.count[0] >= WORTH_THREADS:
        run_parallel(add_part, &task, parts, threads)
    else:
        for i in range(parts):
            add_part(&task, i, 0)
    return task.bad


cdef int enter_product(SpanSum* s, double a, double b, bint final) noexcept nogil:
    cdef double high, low
    cdef int limbs
    far_product(a, b, &high, &low, &limbs)
    return span_enter(s, low, limbs, final) | span_enter(s, high, limbs, final)


cdef struct Counts:                                # of rows by place, in two arrays by turns: when
    uint32_t rows[2][ZERO_PLACE + 1]               # rows are alike, one need not wait for the other
    int64_t first, stop                            # of the places that may have been counted


cdef inline bint count_places(Counts* counts, const uint32_t* place, Py_ssize_t n) noexcept nogil:
    """Count rows by place; whether there are some without one, which are not counted."""
    cdef Py_ssize_t i
    cdef bint others
    for i in range(0, n - 1, 2):
        counts.rows[0][place[i]] += 1
        counts.rows[1][place[i + 1]] += 1
    if n & 1:
        counts.rows[0][place[n - 1]] += 1
    others = counts.rows[0][PLACES] or counts.rows[1][PLACES]
    counts.rows[0][PLACES] = counts.rows[1][PLACES] = 0
    return others


cdef inline Py_ssize_t left_out(const uint32_t* place, uint64_t* key, Py_ssize_t n) noexcept nogil:
    """The keys of rows without a place move to the front; their number."""
    cdef Py_ssize_t i, left = 0
    for i in range(n):
        key[left] = key[i]
        left += place[i] == <uint32_t> PLACES
    return left


cdef int keep_counts(Histogram* histogram, const Counts* counts, uint64_t first) noexcept nogil:
    """Move counts to the keys that begin at item `first`, those of zeros to item 0."""
    cdef uint64_t p, count, zeros = <uint64_t> counts.rows[0][ZERO_PLACE] + counts.rows[1][ZERO_PLACE]
    cdef int bad = 0
    for p in range(<uint64_t> counts.first, <uint64_t> counts.stop):
        count = <uint64_t> counts.rows[0][p] + counts.rows[1][p]
        if count:
            bad |= histogram_count(histogram, histogram_key(0, first + p), count)
    if zeros:
        bad |= histogram_count(histogram, histogram_key(0, 0), zeros)
    return bad


cdef inline const double* block_of(const double* source, const int64_t* keep, Py_ssize_t start, Py_ssize_t n,
                                   double* room) noexcept nogil:
    """Values of the rows that are kept (NULL: of all), from the place `start` on."""
    cdef Py_ssize_t i
    if keep == NULL:
        return source + start
    for i in range(n):
        room[i] = source[keep[start + i]]
    return room


cdef int add_column(Task* task, int c) noexcept nogil:
    """One column of all rows, in blocks that stay in the first-level cache."""
    cdef Store* store = task.store
    cdef Store* fresh = task.fresh
    cdef Rows* rows = task.rows
    cdef Column column = store.column[c]
    cdef int k = column.kind
    cdef const double* source = rows.targets
    cdef const double* v
    cdef const double* x
    cdef const double* weight = NULL
    cdef const int64_t* keep
    cdef double[BLOCK] value, term, shown
    cdef ExactSum* total = fresh.total + 3 * c
    cdef SpanSum* far = fresh.far.sum + 3 * c
    cdef HistogramEntry cache[RECENT]
    cdef HistogramEntry* recent = NULL
    cdef Counts counted
    cdef Counts* counts = NULL
    # Rows that count 1 and belong to nothing: those of a threshold, and zeros and ones, need only be counted.
    cdef bint plain = (
        not task.final and rows.weight[k] == NULL and rows.groups == NULL and rows.count[k] < MOST_COUNTED
    )
    cdef bint counts_hits = plain and rows.clusters == NULL and rows.factor[k] == NULL and rows.target[k] == NULL
    cdef int64_t hits = 0, misses = 0, missing = 0, found
    cdef Py_ssize_t start = 0, i, n, row
    cdef int[5] grids                              # of Σ x, Σ x² and Σ W·x, whose blocks are alike
    cdef int bad = 0
    for i in range(5):
        grids[i] = NO_GRID
    if plain and column.histogram and not (counts_hits and column.threshold) and rows.count[k] >= WORTH_COUNTING:
        memset(&counted, 0, sizeof(Counts))
        counted.first = PLACES
        counts = &counted
    elif column.histogram and rows.groups == NULL and rows.count[k] >= 4 * RECENT:
        memset(cache, 0xFF, sizeof(cache))
        recent = cache
    if column.source >= 0:
        source = rows.values + column.source * rows.stride
    while start < rows.count[k]:
        n = min(<Py_ssize_t> BLOCK, rows.count[k] - start)
        v = block_of(source, rows.keep[k], start, n, value)
        keep = rows.keep[k] + start if rows.keep[k] != NULL else NULL
        if counts_hits:
            if column.threshold:
                found = blocks().count_below(v, n, <double> column.threshold)
            else:
                found = blocks().count_ones(v, n)
                counts_hits = found >= 0               # it is no column of such values
            if found >= 0:
                hits += found
                misses += n - found
                start += n
                continue
        if column.threshold:
            for i in range(n):
                value[i] = v[i] if v[i] != v[i] else 1.0 if v[i] < column.threshold else 0.0
            v = value
        x = v
        if rows.factor[k] != NULL:
            for i in range(n):
                term[i] = rows.factor[k][start + i] * v[i]
            x = term
        if rows.weight[k] != NULL:
            weight = rows.weight[k] + start
        if not task.final:
            exact_add_like(total + SUM, x, n, grids)
            bad |= exact_add_products(total + SQUARE, far + SQUARE, x, x, n, grids + 1)
            if weight != NULL:
                bad |= exact_add_products(total + CROSS, far + CROSS, weight, x, n, grids + 3)
        if column.histogram:
            if rows.target[k] != NULL:
                # The value whose weighted mean is reported, without its class weights.
                for i in range(n):
                    shown[i] = v[i] / rows.target[k][start + i]
                v = shown
            if not task.final or rows.groups != NULL:
                bad |= add_histogram(task, c, recent, counts, v, weight, keep, start, n, &missing)
        if rows.groups != NULL:
            bad |= add_groups(task, c, x, weight, keep, start, n)
        if rows.clusters != NULL:
            for i in range(n):
                row = keep[i] if keep != NULL else start + i
                bad |= span_enter(store.cluster.sum + c + store.cluster.width * rows.clusters[row], x[i], 0, task.final)
        start += n
    if column.histogram and rows.groups != NULL and not task.final:
        bad |= histogram_reserve(&store.histogram[c], missing)
    if recent != NULL:
        bad |= histogram_flush(&fresh.histogram[c], recent)
    if counts != NULL:
        bad |= keep_counts(&fresh.histogram[c], counts, FIRST_BUCKET)
    if hits:
        exact_add_one(total + SUM, <double> hits)
        exact_add_one(total + SQUARE, <double> hits)
    if column.histogram:
        if hits:
            bad |= add_alike(fresh, c, 1.0, hits)
        if misses:
            bad |= add_alike(fresh, c, 0.0, misses)
    return bad


cdef int add_alike(Store* store, int c, double v, int64_t rows) noexcept nogil:
    """Rows of one value to a histogram."""
    widen(store.extreme + 2 * c, v)
    return histogram_count(&store.histogram[c], histogram_key(0, bucket_of(v)), rows)


cdef inline uint64_t cell_of(Task* task, Py_ssize_t row) noexcept nogil:
    """What counts for the row's group: cell 0 without one, or where groups have no details."""
    cdef int64_t cell = task.rows.groups[row] + 1 if task.rows.groups != NULL else 0
    return <uint64_t> cell if cell < task.store.cell.room else 0


cdef inline uint64_t item_of(uint32_t place, double v) noexcept nogil:
    return place + FIRST_BUCKET if place < <uint32_t> PLACES else bucket_of(v)


cdef inline int64_t place_in_order(int64_t k) noexcept nogil:
    """The place of a value by its bits in order, or the end that it is beyond."""
    return min(<int64_t> PLACES, max(<int64_t> 0, (k >> 46) - <int64_t> FIRST_PLACE))


cdef int add_histogram(Task* task, int c, HistogramEntry* recent, Counts* counts, const double* v, const double* weight,
                       const int64_t* keep, Py_ssize_t start, Py_ssize_t n, int64_t* missing) noexcept nogil:
    """To extremes and histograms: of the whole at once, of groups in the second pass, before which `missing` are
    the entries that these may lack."""
    cdef Store* store = task.store if task.rows.groups != NULL else task.fresh
    cdef Py_ssize_t i, row
    cdef uint64_t key[BLOCK]
    cdef uint32_t place[BLOCK]
    cdef int64_t ends[2]
    blocks().histogram_places(v, n, place, ends)
    if not task.final:
        for i in range(2):                         # NaN of either sign is at an end
            widen(task.fresh.extreme + 2 * c, fe_from_bits_double(<uint64_t> in_order(<uint64_t> ends[i])))
    if counts != NULL:
        counts.first = min(counts.first, place_in_order(ends[0]))
        counts.stop = max(counts.stop, min(<int64_t> PLACES, place_in_order(ends[1]) + 1))
        if not count_places(counts, place, n):
            return 0
    for i in range(n):
        key[i] = histogram_key(0, item_of(place[i], v[i]))
    for i in range(n if task.rows.groups != NULL else 0):
        row = keep[i] if keep != NULL else start + i
        key[i] |= histogram_key(cell_of(task, row), 0)
        if task.final:
            widen(store.group_extreme + 2 * (task.rows.groups[row] * store.K + c), v[i])
    if counts != NULL:
        n = left_out(place, key, n)
    if recent != NULL:
        return histogram_add_many(&store.histogram[c], recent, key, weight, n)
    if task.rows.groups != NULL and not task.final:
        missing[0] += histogram_missing(&store.histogram[c], key, weight, n)
        return 0
    return histogram_add(&store.histogram[c], key, weight, n)


cdef int add_groups(Task* task, int c, const double* x, const double* weight,
                    const int64_t* keep, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    cdef Store* store = task.store
    cdef Rows* rows = task.rows
    cdef Py_ssize_t i
    cdef SpanSum* place[BLOCK]
    cdef SpanSum* s
    cdef int bad = 0
    for i in range(n):
        place[i] = store.group.sum + 3 * c + store.group.width * rows.groups[keep[i] if keep != NULL else start + i]
    for i in range(n):
        # With many groups the sums, and then their limbs, come from memory: ask ahead.
        if i + 16 < n:
            __builtin_prefetch(place[i + 16])
        if task.final and i + 8 < n:
            __builtin_prefetch(place[i + 8][SUM].limb)
            __builtin_prefetch(place[i + 8][SQUARE].limb)
        s = place[i]
        bad |= span_enter(s + SUM, x[i], 0, task.final)
        bad |= enter_product(s + SQUARE, x[i], x[i], task.final)
        if weight != NULL:
            bad |= enter_product(s + CROSS, weight[i], x[i], task.final)
    return bad


cdef int add_weights(Task* task, int k) noexcept nogil:
    cdef Store* store = task.store
    cdef Rows* rows = task.rows
    cdef ExactSum* total = task.fresh.total + 3 * store.K + 2 * k
    cdef const double* weight = rows.weight[k]
    cdef const int64_t* keep = rows.keep[k]
    cdef Py_ssize_t i, place, n = rows.count[k]
    cdef SpanSum* s
    cdef int[2] grids
    cdef int bad = 0
    grids[0] = grids[1] = NO_GRID
    if not task.final:
        task.fresh.count[k] += n
        if weight != NULL:
            exact_add(total, weight, n)
            bad |= exact_add_products(total + 1, task.fresh.far.sum + 3 * store.K + 2 * k + 1, weight, weight, n, grids)
    if rows.groups == NULL and rows.clusters == NULL:
        return bad
    for i in range(n):
        place = keep[i] if keep != NULL else i
        if rows.groups != NULL:
            store.group_count[2 * rows.groups[place] + k] += task.final
            if weight != NULL:
                s = store.group.sum + rows.groups[place] * store.group.width + 3 * store.K + 2 * k
                bad |= span_enter(s, weight[i], 0, task.final)
                bad |= enter_product(s + 1, weight[i], weight[i], task.final)
        if rows.clusters != NULL:
            bad |= span_enter(store.cluster.sum + rows.clusters[place] * store.cluster.width + store.K + k,
                         weight[i] if weight != NULL else 1.0, 0, task.final)
    return bad


cdef int add_bins(Task* task) noexcept nogil:
    """Equal-width bins (lo, hi], 0 in the first; NaN goes there too and spoils its sums."""
    cdef Store* store = task.store
    cdef Rows* rows = task.rows
    cdef const double* confidence = rows.targets
    cdef const double* correct = rows.targets
    cdef const double* v
    cdef const double* hit
    cdef double[BLOCK] value, hits
    cdef uint64_t counts[MOST_COUNTED_BINS][4]
    cdef double edge[MOST_BINS + 1]
    cdef Py_ssize_t start = 0, b, n
    cdef bint counted = (
        rows.groups == NULL and rows.weight[0] == NULL and rows.count[0] < MOST_COUNTED
        and rows.count[0] > 8 * store.bins and store.bins <= MOST_COUNTED_BINS
    )
    cdef int bad = 0
    for b in range(store.bins):
        edge[b] = <double> b / store.bins
    edge[store.bins] = INFINITY
    if store.confidence >= 0:
        confidence = rows.values + store.confidence * rows.stride
    if store.correct >= 0:
        correct = rows.values + store.correct * rows.stride
    if counted:
        memset(counts, 0, store.bins * sizeof(counts[0]))
    while start < rows.count[0]:
        n = min(<Py_ssize_t> BLOCK, rows.count[0] - start)
        v = block_of(confidence, rows.keep[0], start, n, value)
        hit = block_of(correct, rows.keep[0], start, n, hits)
        if not counted or not count_bins(store.bins, edge, counts, v, hit, n):
            bad |= add_to_bins(task, edge, v, hit, start, n)
        start += n
    if counted:
        for b in range(store.bins):
            bad |= keep_bin(task.fresh.cell.sum + BIN_SUMS * b, counts[b])
    return bad


cdef inline Py_ssize_t bin_by_edges(const double* edge, Py_ssize_t b, double v) noexcept nogil:
    """The bin of v, given one that is one off at most, as the product it came from is rounded."""
    return b + (v > edge[b + 1]) - (b > 0 and v <= edge[b])


cdef bint count_bins(int bins, const double* edge, uint64_t (*counts)[4], const double* confidence,
                     const double* correct, Py_ssize_t n) noexcept nogil:
    """Add rows to integers of each bin: three limbs of the confidences, in units of 2^-95, and
    1 + 2^32 * correct. False, and nothing added, if they do not fit."""
    cdef uint32_t place[BLOCK]
    cdef uint64_t[BLOCK] low, high, hits
    cdef uint64_t* into
    cdef Py_ssize_t i
    cdef int found = blocks().bin_places(confidence, correct, n, bins, place, low, high, hits)
    if found & UNFIT:
        return False
    if found & NEAR_EDGE:
        for i in range(n):
            place[i] = <uint32_t> bin_by_edges(edge, place[i], confidence[i])
    for i in range(n):
        into = counts[place[i]]
        into[0] += low[i] & <uint64_t> 0xFFFFFFFF
        into[1] += low[i] >> 32
        into[2] += high[i]
        into[3] += hits[i]
    return True


cdef int keep_bin(SpanSum* s, const uint64_t* counts) noexcept nogil:
    cdef int k, bad = 0
    for k in range(3):
        bad |= span_add(s, ldexp(<double> (counts[k] & <uint64_t> 0xFFFFFFFF), 32 * k - 95), 0)
        bad |= span_add(s, ldexp(<double> (counts[k] >> 32), 32 * k - 63), 0)
    bad |= span_add(s + 1, <double> (counts[3] >> 32), 0)
    bad |= span_add(s + 2, <double> (counts[3] & <uint64_t> 0xFFFFFFFF), 0)
    return bad


cdef int add_to_bins(Task* task, const double* edge, const double* confidence,
                     const double* correct, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """Rows one by one to the exact sums of their bins: those of groups in the second pass."""
    cdef Store* store = task.store
    cdef Rows* rows = task.rows
    cdef SpanSum* bin_sum = store.cell.sum if rows.groups != NULL else task.fresh.cell.sum
    cdef bint final = task.final or rows.groups == NULL
    cdef Py_ssize_t i, b, cell
    cdef double v, w = 1.0
    cdef SpanSum* s
    cdef int bad = 0
    for i in range(n):
        v = confidence[i]
        b = <Py_ssize_t> (v * store.bins) if 0 < v <= 1 else 0
        b = bin_by_edges(edge, b if b < store.bins else store.bins - 1, v)
        cell = <Py_ssize_t> cell_of(task, rows.keep[0][start + i] if rows.keep[0] != NULL else start + i)
        if rows.weight[0] != NULL:
            w = rows.weight[0][start + i]
        s = bin_sum + BIN_SUMS * (cell * store.bins + b)
        bad |= span_enter(s, w * v, 0, final)
        bad |= span_enter(s + 1, w * correct[i], 0, final)
        bad |= span_enter(s + 2, w, 0, final)
        if rows.weight[0] != NULL:
            bad |= enter_product(s + BIN_CROSS, w, w * v, final)
            bad |= enter_product(s + BIN_CROSS + 1, w, w * correct[i], final)
    return bad


cdef int add_labels(Task* task) noexcept nogil:
    cdef Store* store = task.store
    cdef Rows* rows = task.rows
    cdef Histogram* histogram = (task.fresh if rows.groups == NULL else store).histogram + store.K
    cdef const double* weight
    cdef uint64_t key[BLOCK]
    cdef uint32_t place[BLOCK]
    cdef Counts counts
    cdef bint counted = (
        rows.groups == NULL and rows.weight[0] == NULL
        and WORTH_COUNTING <= rows.count[0] < MOST_COUNTED
    )
    cdef Py_ssize_t start = 0, i, n, row
    cdef uint64_t label
    cdef int64_t missing = 0
    cdef int bad = 0
    if counted:
        memset(&counts, 0, sizeof(Counts))
        counts.stop = PLACES
    while start < rows.count[0]:
        n = min(<Py_ssize_t> BLOCK, rows.count[0] - start)
        weight = rows.weight[0] + start if rows.weight[0] != NULL else NULL
        for i in range(n):
            row = rows.keep[0][start + i] if rows.keep[0] != NULL else start + i
            label = <uint64_t> rows.labels[row]
            key[i] = histogram_key(cell_of(task, row), label)
            place[i] = <uint32_t> (label if label < <uint64_t> PLACES else <uint64_t> PLACES)
        start += n
        if counted:
            n = left_out(place, key, n) if count_places(&counts, place, n) else 0
        if rows.groups != NULL and not task.final:
            missing += histogram_missing(histogram, key, weight, n)
        else:
            bad |= histogram_add(histogram, key, weight, n)
    if rows.groups != NULL and not task.final:
        bad |= histogram_reserve(histogram, missing)
    if counted:
        bad |= keep_counts(histogram, &counts, 0)
    return bad


cdef int add_items(Task* task) noexcept nogil:
    """What rows add to the sums of items."""
    cdef Rows* rows = task.rows
    cdef Histogram* histogram = (task.fresh if rows.groups == NULL else task.store).histogram + task.store.K + 1
    cdef uint64_t key[BLOCK]
    cdef double amount[BLOCK]
    cdef const int64_t* items
    cdef const double* amounts
    cdef Py_ssize_t line, start, i, n, left
    cdef int64_t missing = 0
    cdef int bad = 0
    for line in range(rows.item_lines):
        items = rows.items + line * rows.stride
        amounts = rows.amounts + line * rows.stride
        start = 0
        while start < rows.stride:
            n = min(<Py_ssize_t> BLOCK, rows.stride - start)
            left = 0
            for i in range(start, start + n):
                if items[i] < 0 or not amounts[i] > 0:
                    continue
                key[left] = histogram_key(cell_of(task, i), <uint64_t> items[i])
                amount[left] = amounts[i]
                left += 1
            if rows.groups != NULL and not task.final:
                missing += histogram_missing(histogram, key, amount, left)
            else:
                bad |= histogram_add(histogram, key, amount, left)
            start += n
    if rows.groups != NULL and not task.final:
        bad |= histogram_reserve(histogram, missing)
    return bad
