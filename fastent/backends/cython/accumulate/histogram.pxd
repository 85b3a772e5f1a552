"""Weighted counts by key, exact and free of any order: quantile histograms and label counts.

An open-addressing table from key to a 128-bit sum of weight mantissas. The key ends in the window
of the weight's exponent: 32 exponents share a window, in which a mantissa is shifted into place,
so that weights of one size make one entry a bucket, and 2^43 rows fit.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastent.backends.cython.accumulate.exact_sum_blocks cimport exponent_of
from fastent.backends.cython.arithmetic.functions cimport fe_bits_double

cdef extern from * nogil:
    void __builtin_prefetch(const void*)

cdef enum:
    WINDOW_BITS = 6
    LABEL_BITS = 34           # of bucket or label; the cell (0, or group + 1) is above
    CELL_SHIFT = WINDOW_BITS + LABEL_BITS
    BUCKET_NAN = 1 << 20
    SPARSE = 1 << 12          # entries up to which a table is at most a fifth full
    RECENT = 1 << 10          # entries of the cache of histogram_add_many: 16 octaves of values

cdef struct HistogramEntry:
    uint64_t key, low
    uint64_t high             # of the 128-bit sum

cdef struct Histogram:
    HistogramEntry* entries       # empty: key is all ones
    int64_t capacity          # below 2^32
    int64_t used


cdef inline uint64_t histogram_key(uint64_t cell, uint64_t item) noexcept nogil:
    return ((cell << LABEL_BITS) | item) << WINDOW_BITS


cdef inline uint64_t histogram_item(uint64_t key) noexcept nogil:
    return (key >> WINDOW_BITS) & ((<uint64_t> 1 << LABEL_BITS) - 1)


cdef inline object histogram_total(HistogramEntry* entry):
    """The 128-bit sum."""
    return int(entry.high) << 64 | int(entry.low)


cdef inline HistogramEntry* histogram_next(Histogram* t, int64_t* place, int64_t cell=-1) noexcept nogil:
    """The first entry, of one cell or any, from a place in the table on, which is moved past it; NULL: none."""
    cdef int64_t i
    for i in range(place[0], t.capacity):
        if t.entries[i].key != ~(<uint64_t> 0) and (cell < 0 or t.entries[i].key >> CELL_SHIFT == <uint64_t> cell):
            place[0] = i + 1
            return t.entries + i
    return NULL


cdef inline uint64_t histogram_place(uint64_t key, int64_t capacity) noexcept nogil:
    """Where to look first: the hash as a fraction of the capacity, which may be any number."""
    return (((key * <uint64_t> 0x9E3779B97F4A7C15) >> 32) * <uint64_t> capacity) >> 32


cdef inline HistogramEntry* histogram_probe(HistogramEntry* entries, int64_t capacity, uint64_t key) noexcept nogil:
    cdef uint64_t i = histogram_place(key, capacity)
    while entries[i].key != key and entries[i].key != ~(<uint64_t> 0):
        i += 1
        if i == <uint64_t> capacity:
            i = 0
    return entries + i


cdef inline void histogram_prefetch(Histogram* t, const uint64_t* keys, uint64_t window, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n if t.capacity > SPARSE else 0):
        __builtin_prefetch(t.entries + histogram_place(keys[i] | window, t.capacity))


cdef inline int histogram_grow(Histogram* t, int64_t capacity) noexcept nogil:
    cdef HistogramEntry* entries = <HistogramEntry*> malloc(capacity * sizeof(HistogramEntry))
    cdef int64_t i
    if entries == NULL:
        return -1
    memset(entries, 0xFF, capacity * sizeof(HistogramEntry))
    for i in range(t.capacity):
        if t.entries[i].key != ~(<uint64_t> 0):
            histogram_probe(entries, capacity, t.entries[i].key)[0] = t.entries[i]
    free(t.entries)
    t.entries = entries
    t.capacity = capacity
    return 0


cdef inline bint histogram_is_full(int64_t used, int64_t capacity) noexcept nogil:
    """Small tables are kept sparse, as a collision costs a mispredicted branch; large ones full."""
    return 20 * used >= 17 * capacity if capacity > SPARSE else 5 * used >= capacity


cdef inline int histogram_reserve(Histogram* t, int64_t more) noexcept nogil:
    """Room for as many new keys and a `histogram_put` after them; -1 when there is no memory."""
    cdef int64_t capacity = t.capacity
    while histogram_is_full(t.used + more, capacity):
        capacity = capacity + (capacity >> 2) if capacity > SPARSE else 2 * capacity if capacity else 64
    return histogram_grow(t, capacity) if capacity > t.capacity else 0


cdef inline int histogram_put(Histogram* t, uint64_t key, uint64_t low, uint64_t high) noexcept nogil:
    """Add a 128-bit number to the sum of a key; -1 when there is no memory."""
    cdef HistogramEntry* entry
    if histogram_is_full(t.used, t.capacity) and histogram_reserve(t, 0) < 0:
        return -1
    entry = histogram_probe(t.entries, t.capacity, key)
    if entry.key != key:
        entry.key = key
        entry.low = 0
        entry.high = 0
        t.used += 1
    entry.low += low
    entry.high += high + (entry.low < low)
    return 0


cdef inline uint64_t histogram_weight(double weight, uint64_t* low, uint64_t* high) noexcept nogil:
    """The window of a weight, which is not negative, and its 128-bit mantissa in that window."""
    cdef uint64_t m, negative
    cdef int e = exponent_of(weight, &m, &negative), k = e & 31
    low[0] = m << k
    high[0] = (m >> 1) >> (63 - k)
    return <uint64_t> (e >> 5)


cdef inline int histogram_count(Histogram* t, uint64_t key, uint64_t rows) noexcept nogil:
    """Add as many weights of 1, fewer than 2^32, to the sum of a key from histogram_key."""
    cdef uint64_t low, high
    cdef uint64_t window = histogram_weight(1.0, &low, &high)
    return histogram_put(t, key | window, 0, high * rows)  # low is 0: it is 2^82 in its window


cdef inline int64_t histogram_missing(Histogram* t, const uint64_t* keys, const double* weights,
                                  Py_ssize_t n) noexcept nogil:
    """For how many of what `histogram_add` takes there is no entry."""
    cdef Py_ssize_t i
    cdef uint64_t low, high
    cdef uint64_t window = histogram_weight(1.0, &low, &high)
    cdef int64_t missing = 0
    if t.capacity == 0:
        return n
    histogram_prefetch(t, keys, window, n)
    for i in range(n):
        if weights != NULL:
            window = histogram_weight(weights[i], &low, &high)
        missing += histogram_probe(t.entries, t.capacity, keys[i] | window).key != (keys[i] | window)
    return missing


cdef inline int histogram_add(Histogram* t, const uint64_t* keys, const double* weights, Py_ssize_t n) noexcept nogil:
    """Add weights (NULL: ones), none negative, to the sums of keys from histogram_key."""
    cdef Py_ssize_t i
    cdef uint64_t low, high
    cdef uint64_t window = histogram_weight(1.0, &low, &high)
    cdef int bad = 0
    histogram_prefetch(t, keys, window, n)
    for i in range(n):
        if weights != NULL:
            window = histogram_weight(weights[i], &low, &high)
        bad |= histogram_put(t, keys[i] | window, low, high)
    return bad


cdef inline int histogram_add_many(Histogram* t, HistogramEntry* recent, const uint64_t* keys,
                               const double* weights, Py_ssize_t n) noexcept nogil:
    """`histogram_add` through a small direct-mapped cache, for many rows of few buckets."""
    cdef Py_ssize_t i
    cdef uint64_t low, high, key
    cdef uint64_t window = histogram_weight(1.0, &low, &high)
    cdef HistogramEntry* entry
    cdef int bad = 0
    for i in range(n):
        if weights != NULL:
            window = histogram_weight(weights[i], &low, &high)
        key = keys[i] | window
        entry = recent + ((key >> WINDOW_BITS) & (RECENT - 1))
        if entry.key != key:
            if entry.key != ~(<uint64_t> 0):
                bad |= histogram_put(t, entry.key, entry.low, entry.high)
            entry.key = key
            entry.low = 0
            entry.high = 0
        entry.low += low
        entry.high += high + (entry.low < low)
    return bad


cdef inline int histogram_flush(Histogram* t, HistogramEntry* recent) noexcept nogil:
    cdef int i, bad = 0
    for i in range(RECENT):
        if recent[i].key != ~(<uint64_t> 0):
            bad |= histogram_put(t, recent[i].key, recent[i].low, recent[i].high)
    return bad


cdef inline uint64_t bucket_of(double v) noexcept nogil:
    """Sign, exponent and six leading bits of the mantissa; subnormals get exponents of their own.

    The middle of a bucket is within 1/128 of all its values. Zero is bucket 0.
    """
    cdef uint64_t b = fe_bits_double(v), negative = b >> 63
    b &= <uint64_t> 0x7FFFFFFFFFFFFFFF
    if b > <uint64_t> 0x7FF0000000000000:
        return BUCKET_NAN
    if b == 0:
        return 0
    if b < <uint64_t> 0x0010000000000000:
        b = (fe_bits_double(v * 4503599627370496.0) & <uint64_t> 0x7FFFFFFFFFFFFFFF) >> 46     # by 2^52
    else:
        b = (b >> 46) + (52 << 6)
    return b | (negative << 19)


cdef inline uint64_t histogram_moved(uint64_t key, const int64_t* cells) noexcept nogil:
    """A key whose cell i is cells[i] elsewhere; NULL: the same."""
    cdef uint64_t item = key & ((<uint64_t> 1 << CELL_SHIFT) - 1)
    return item | <uint64_t> cells[key >> CELL_SHIFT] << CELL_SHIFT if cells != NULL else key


cdef inline int histogram_merge(Histogram* into, Histogram* other, const int64_t* cells, bint final) noexcept nogil:
    """Add a histogram whose cell i is cells[i] here, or before the `final` pass make the room
    with which this cannot fail; -1 when there is no memory."""
    cdef int64_t i, more = 0
    cdef uint64_t key
    cdef HistogramEntry* entry
    if final:
        for i in range(other.capacity if other.used else 0):
            entry = other.entries + i
            if entry.key != ~(<uint64_t> 0):
                histogram_put(into, histogram_moved(entry.key, cells), entry.low, entry.high)
        return 0
    # Entries come in the order of their hash: a smaller table would fill up from one end.
    if other.used and into.capacity < other.capacity and histogram_grow(into, other.capacity) < 0:
        return -1
    if other.used == 0 or not histogram_is_full(into.used + other.used, into.capacity):
        return 0                                       # whatever is new among them
    for i in range(other.capacity):
        key = other.entries[i].key
        if key != ~(<uint64_t> 0):
            key = histogram_moved(key, cells)
            more += histogram_probe(into.entries, into.capacity, key).key != key
    return histogram_reserve(into, more)


cdef inline void histogram_clear(Histogram* t) noexcept nogil:
    """Without entries, and with little memory: what as many would need again."""
    if t.capacity > SPARSE or (t.capacity > SPARSE // 4 and 16 * t.used < t.capacity):
        histogram_free(t)
    elif t.used:
        memset(t.entries, 0xFF, t.capacity * sizeof(HistogramEntry))
        t.used = 0


cdef inline void histogram_free(Histogram* t) noexcept nogil:
    free(t.entries)
    memset(t, 0, sizeof(Histogram))
