"""Adding rows to a Store, one column after the other in blocks that stay in cache."""

from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastent.backends.cython.exact cimport ExactSum, exact_add, exact_add_products
from fastent.backends.cython.spans cimport SpanSum, span_add
from fastent.backends.cython.store cimport CROSS, SQUARE, SUM, Column, Rows, Store, widen
from fastent.backends.cython.tally cimport (
    RECENT, TallyEntry, bucket_of, tally_add, tally_add_many, tally_flush, tally_key,
)
from fastent.backends.cython.threads cimport run_parallel

cdef extern from "<math.h>" nogil:
    double fma(double, double, double)

cdef extern from * nogil:
    void __builtin_prefetch(const void*)

cdef enum:
    BLOCK = 512
    WORTH_THREADS = 8192


cdef struct Task:
    Store* store
    Rows* rows
    int bad


cdef void add_part(void* context, Py_ssize_t index, int worker) noexcept nogil:
    """One of the parts of a store that share nothing: columns, weights, bins, labels."""
    cdef Task* task = <Task*> context
    cdef Store* store = task.store
    cdef int bad = 0
    if index == 0:                                 # the longest first, so that no thread waits
        if store.bins:
            bad = add_bins(store, task.rows)
    elif index == 1:
        if store.counts_labels:
            bad = add_labels(store, task.rows)
    elif index < 2 + store.K:
        bad = add_column(store, task.rows, <int> index - 2)
    else:
        bad = add_weights(store, task.rows, <int> index - 2 - store.K)
    if bad < 0:
        task.bad = bad


cdef int add_rows(Store* store, Rows* rows, int threads) noexcept nogil:
    """Add rows to everything that the store keeps; negative when there was no memory."""
    cdef Task task
    cdef Py_ssize_t i, parts = store.K + store.kinds + 2
    task.store = store
    task.rows = rows
    task.bad = 0
    if threads > 1 and rows.count[0] >= WORTH_THREADS:
        run_parallel(add_part, &task, parts, threads)
    else:
        for i in range(parts):
            add_part(&task, i, 0)
    return task.bad


cdef int span_add_product(SpanSum* s, double a, double b) noexcept nogil:
    cdef double p = a * b
    if fabs(p) < INFINITY:
        if span_add(s, fma(a, b, -p)) < 0:
            return -1
    return span_add(s, p)


cdef int add_column(Store* store, Rows* rows, int c) noexcept nogil:
    """One column of all rows, in blocks that stay in the first-level cache."""
    cdef Column column = store.column[c]
    cdef int k = column.kind
    cdef const double* source = rows.targets
    cdef const double* v
    cdef const double* x
    cdef const double* weight = NULL
    cdef const int64_t* keep = NULL
    cdef double value[BLOCK]
    cdef double term[BLOCK]
    cdef double shown[BLOCK]
    cdef ExactSum* total = store.total + 3 * c
    cdef TallyEntry cache[RECENT]
    cdef TallyEntry* recent = NULL
    cdef Py_ssize_t start = 0, i, n
    cdef int bad = 0
    if column.histogram and rows.groups == NULL and rows.count[k] >= 4 * RECENT:
        memset(cache, 0xFF, sizeof(cache))
        recent = cache
    if column.source >= 0:
        source = rows.values + column.source * rows.stride
    while start < rows.count[k]:
        n = rows.count[k] - start
        n = n if n < BLOCK else BLOCK
        v = source + start
        if rows.keep[k] != NULL:
            keep = rows.keep[k] + start
            for i in range(n):
                value[i] = source[keep[i]]
            v = value
        if column.threshold:
            for i in range(n):
                value[i] = v[i] if v[i] != v[i] else 1.0 if v[i] < column.threshold else 0.0
            v = value
        x = v
        if rows.factor[k] != NULL:
            for i in range(n):
                term[i] = rows.factor[k][start + i] * v[i]
            x = term
        exact_add(total + SUM, x, n)
        exact_add_products(total + SQUARE, x, x, n)
        if rows.weight[k] != NULL:
            weight = rows.weight[k] + start
            exact_add_products(total + CROSS, weight, x, n)
        if column.histogram:
            if rows.target[k] != NULL:
                # The value whose weighted mean is reported, without its class weights.
                for i in range(n):
                    shown[i] = v[i] / rows.target[k][start + i]
                v = shown
            bad |= add_histogram(store, rows, c, recent, v, weight, keep, start, n)
        if rows.groups != NULL:
            bad |= add_groups(store, rows, c, x, weight, keep, start, n)
        if rows.clusters != NULL:
            for i in range(n):
                bad |= span_add(
                    store.cluster_sum + c + (store.K + store.kinds)
                    * rows.clusters[keep[i] if keep != NULL else start + i], x[i])
        start += n
    if recent != NULL:
        bad |= tally_flush(&store.tally[c], recent)
    return bad


cdef void widen_by_all(double* least, double* largest, const double* v,
                       Py_ssize_t n) noexcept nogil:
    """`widen` by n > 0 values, four at a time: one comparison need not wait for the one before."""
    cdef double low[4]
    cdef double high[4]
    cdef Py_ssize_t i, k
    cdef int nan = 0
    for k in range(4):
        low[k] = high[k] = v[0]
    for i in range(0, n - 3, 4):
        for k in range(4):
            low[k] = v[i + k] if v[i + k] < low[k] else low[k]
            high[k] = v[i + k] if v[i + k] > high[k] else high[k]
            nan |= v[i + k] != v[i + k]
    for i in range(n & ~<Py_ssize_t> 3, n):
        widen(least, largest, v[i])
    for k in range(4):
        widen(least, largest, low[k])
        widen(least, largest, high[k])
    if nan:
        widen(least, largest, NAN)


cdef int add_histogram(Store* store, Rows* rows, int c, TallyEntry* recent, const double* v,
                       const double* weight, const int64_t* keep, Py_ssize_t start,
                       Py_ssize_t n) noexcept nogil:
    cdef uint64_t key[BLOCK]
    cdef Py_ssize_t i, g
    widen_by_all(store.extreme + 2 * c, store.extreme + 2 * c + 1, v, n)
    for i in range(n):
        key[i] = tally_key(0, bucket_of(v[i]))
    if recent != NULL:
        return tally_add_many(&store.tally[c], recent, key, weight, n)
    if rows.groups != NULL:
        for i in range(n):
            g = rows.groups[keep[i] if keep != NULL else start + i]
            widen(store.group_extreme + 2 * (g * store.K + c),
                  store.group_extreme + 2 * (g * store.K + c) + 1, v[i])
            if g + 1 < store.cell_room:
                key[i] |= tally_key(<uint64_t> g + 1, 0)
    return tally_add(&store.tally[c], key, weight, n)


cdef int add_groups(Store* store, Rows* rows, int c, const double* x, const double* weight,
                    const int64_t* keep, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, width = 3 * store.K + 2 * store.kinds
    cdef SpanSum* place[BLOCK]
    cdef SpanSum* s
    cdef int bad = 0
    for i in range(n):
        place[i] = store.group_sum + 3 * c + width * rows.groups[
            keep[i] if keep != NULL else start + i]
    for i in range(n):
        # With many groups the sums, and then their limbs, come from memory: ask ahead.
        if i + 16 < n:
            __builtin_prefetch(place[i + 16])
        if i + 8 < n:
            __builtin_prefetch(place[i + 8][SUM].limb)
            __builtin_prefetch(place[i + 8][SQUARE].limb)
        s = place[i]
        bad |= span_add(s + SUM, x[i])
        bad |= span_add_product(s + SQUARE, x[i], x[i])
        if weight != NULL:
            bad |= span_add_product(s + CROSS, weight[i], x[i])
    return bad


cdef int add_weights(Store* store, Rows* rows, int k) noexcept nogil:
    cdef ExactSum* total = store.total + 3 * store.K + 2 * k
    cdef const double* weight = rows.weight[k]
    cdef const int64_t* keep = rows.keep[k]
    cdef Py_ssize_t i, place, n = rows.count[k]
    cdef Py_ssize_t width = 3 * store.K + 2 * store.kinds
    cdef SpanSum* s
    cdef int bad = 0
    store.count[k] += n
    if weight != NULL:
        exact_add(total, weight, n)
        exact_add_products(total + 1, weight, weight, n)
    if rows.groups == NULL and rows.clusters == NULL:
        return 0
    for i in range(n):
        place = keep[i] if keep != NULL else i
        if rows.groups != NULL:
            store.group_count[2 * rows.groups[place] + k] += 1
            if weight != NULL:
                s = store.group_sum + rows.groups[place] * width + 3 * store.K + 2 * k
                bad |= span_add(s, weight[i])
                bad |= span_add_product(s + 1, weight[i], weight[i])
        if rows.clusters != NULL:
            bad |= span_add(
                store.cluster_sum + rows.clusters[place] * (store.K + store.kinds) + store.K + k,
                weight[i] if weight != NULL else 1.0)
    return bad


cdef int add_bins(Store* store, Rows* rows) noexcept nogil:
    """Equal-width bins (lo, hi], 0 in the first; NaN goes there too and spoils its sums."""
    cdef const double* confidence = rows.targets
    cdef const double* correct = rows.targets
    cdef Py_ssize_t i, place, b, cell = 0
    cdef double v, t, w = 1.0
    cdef int64_t* counts = NULL                    # rows and correct rows of a bin
    cdef double* edge = <double*> malloc((store.bins + 1) * sizeof(double))
    cdef SpanSum* s
    cdef int bad = 0
    if edge == NULL:
        return -1
    for b in range(store.bins):
        edge[b] = <double> b / store.bins
    edge[store.bins] = INFINITY
    if store.confidence >= 0:
        confidence = rows.values + store.confidence * rows.stride
    if store.correct >= 0:
        correct = rows.values + store.correct * rows.stride
    if rows.groups == NULL and rows.weight[0] == NULL:
        counts = <int64_t*> calloc(2 * store.bins, sizeof(int64_t))
    for i in range(rows.count[0]):
        place = rows.keep[0][i] if rows.keep[0] != NULL else i
        v = confidence[place]
        t = correct[place]
        b = <Py_ssize_t> (v * store.bins) if 0 < v <= 1 else 0
        b = b if b < store.bins else store.bins - 1
        # The product is rounded: one bin off at most.
        b += (v > edge[b + 1]) - (b > 0 and v <= edge[b])
        if counts != NULL:
            s = store.bin_sum + 3 * b
            bad |= span_add(s, v)
            if t == 0 or t == 1:
                counts[2 * b + 1] += <int64_t> t
            else:
                bad |= span_add(s + 1, t)
            counts[2 * b] += 1
            continue
        if rows.groups != NULL:
            cell = rows.groups[place] + 1
            cell = cell if cell < store.cell_room else 0
        if rows.weight[0] != NULL:
            w = rows.weight[0][i]
        s = store.bin_sum + 3 * (cell * store.bins + b)
        bad |= span_add(s, w * v)
        bad |= span_add(s + 1, w * t)
        bad |= span_add(s + 2, w)
    if counts != NULL:
        for b in range(store.bins):
            bad |= span_add(store.bin_sum + 3 * b + 1, <double> counts[2 * b + 1])
            bad |= span_add(store.bin_sum + 3 * b + 2, <double> counts[2 * b])
        free(counts)
    free(edge)
    return bad


cdef int add_labels(Store* store, Rows* rows) noexcept nogil:
    cdef uint64_t key[BLOCK]
    cdef Py_ssize_t start = 0, i, n, place
    cdef uint64_t cell = 0
    cdef int bad = 0
    while start < rows.count[0]:
        n = rows.count[0] - start
        n = n if n < BLOCK else BLOCK
        for i in range(n):
            place = rows.keep[0][start + i] if rows.keep[0] != NULL else start + i
            if rows.groups != NULL:
                cell = <uint64_t> rows.groups[place] + 1
                cell = cell if cell < <uint64_t> store.cell_room else 0
            key[i] = tally_key(cell, <uint64_t> rows.labels[place])
        bad |= tally_add(&store.tally[store.K], key,
                         rows.weight[0] + start if rows.weight[0] != NULL else NULL, n)
        start += n
    return bad
