"""A Store as text, and back: integers in hexadecimal, in an order that shows no history."""

from libc.stdint cimport int64_t, uint64_t

from fastent.backends.cython.accumulate.state_data cimport BIN_CROSS, BIN_SUMS, Store, check
from fastent.backends.cython.accumulate.histogram cimport (
    LABEL_BITS, WINDOW_BITS, Histogram, HistogramEntry, histogram_grow, histogram_key, histogram_put,
)
from fastent.backends.cython.accumulate.exact_sum_int cimport (
    exact_add_object, exact_object, packed, product_object, span_add_object, span_object, unpacked,
)
from fastent.backends.cython.accumulate.exact_sum_blocks cimport PRODUCT_UNIT
from fastent._errors import shown

UNITS = (1074, PRODUCT_UNIT, PRODUCT_UNIT)             # of the three sums of a column: see `packed`


cdef dict store_text(Store* store, bint weighted, tuple columns):
    """All but names, histograms, calibration and the sums of groups and clusters."""
    cdef Py_ssize_t i
    cdef int c
    kept = range(3) if weighted else range(2)
    weights = range(2 * store.kinds if weighted else 0)
    found = {}
    for c, column in enumerate(columns):
        found[column[0]] = {
            "sums": [total_text(store, 3 * c + i, i) for i in kept],
            "extremes": [store.extreme[2 * c + i].hex() for i in range(2)],
        }
    return {
        "rows": [store.count[c] for c in range(store.kinds)],
        "weights": [total_text(store, 3 * store.K + c, c % 2) for c in weights],
        "columns": found,
    }


cdef str total_text(Store* store, Py_ssize_t place, int product):
    """A total over all rows: the first of each column and kind of weights is one of single numbers."""
    if product:
        return packed(product_object(&store.total[place], &store.far[place]), UNITS[1])
    return packed(exact_object(&store.total[place]))


cdef int load_total(Store* store, Py_ssize_t place, int product, str text) except -1:
    if product:
        return span_add_object(&store.far[place], unpacked(text, UNITS[1]))
    return exact_add_object(&store.total[place], unpacked(text))


cdef list group_text(Store* store, bint weighted, Py_ssize_t g):
    """Rows, sums, weights and extremes of a group by its code."""
    cdef Py_ssize_t i, width = store.group_width
    cdef int c
    kept = range(3) if weighted else range(2)
    weights = range(2 * store.kinds if weighted else 0)
    return [
        [store.group_count[2 * g + i] for i in range(store.kinds)],
        [packed(span_object(&store.group_sum[g * width + 3 * c + i]), UNITS[i])
         for c in range(store.K) for i in kept],
        [packed(span_object(&store.group_sum[g * width + 3 * store.K + i]), UNITS[i % 2]) for i in weights],
        [store.group_extreme[2 * g * store.K + i].hex() for i in range(2 * store.K)],
    ]


cdef list cluster_text(Store* store, Py_ssize_t g):
    cdef Py_ssize_t width = store.cluster_width
    cdef int c
    return [packed(span_object(&store.cluster_sum[g * width + c])) for c in range(width)]


cdef int load_store(Store* store, bint weighted, tuple columns, list room, dict data) except -1:
    """Fill an empty store that has room for so many groups, clusters and calibrated cells."""
    cdef Py_ssize_t i, g, K = store.K, kinds = store.kinds, width = store.group_width
    cdef int c
    kept = 3 if weighted else 2
    weights_kept = 2 * kinds if weighted else 0
    groups, clusters, cells = room
    for c, n in enumerate(sized(data["rows"], kinds)):
        store.count[c] = row_count(n)
    for c, text in enumerate(sized(data["weights"], weights_kept)):
        load_total(store, 3 * K + c, c % 2, weight(text))
    for c, column in enumerate(columns):
        saved = data["columns"][column[0]]
        for i, text in enumerate(sized(saved["sums"], kept)):
            load_total(store, 3 * c + i, i, text)
        for i, text in enumerate(sized(saved["extremes"], 2)):
            store.extreme[2 * c + i] = float.fromhex(text)
        load_histogram(&store.histogram[c], saved["histogram"], store.cell_room)
    load_histogram(&store.histogram[K], data["labels"], store.cell_room)
    load_histogram(&store.histogram[K + 1], data["items"], store.cell_room)
    for g, part in enumerate(sized(data["groups"], groups)):
        counts, sums, weights, extremes = part
        for c, n in enumerate(sized(counts, kinds)):
            store.group_count[2 * g + c] = row_count(n)
        for i, text in enumerate(sized(sums, kept * K)):
            span_add_object(&store.group_sum[g * width + 3 * (i // kept) + i % kept], unpacked(text, UNITS[i % kept]))
        for i, text in enumerate(sized(weights, weights_kept)):
            span_add_object(&store.group_sum[g * width + 3 * K + i], unpacked(weight(text), UNITS[i % 2]))
        for i, text in enumerate(sized(extremes, 2 * K)):
            store.group_extreme[2 * g * K + i] = float.fromhex(text)
    for g, texts in enumerate(sized(data["clusters"], clusters)):
        for i, text in enumerate(sized(texts, K + kinds)):
            span_add_object(&store.cluster_sum[g * (K + kinds) + i], unpacked(text))
    for g, cell in enumerate(sized(data["calibration"], cells)):
        for c, sums in enumerate(sized(cell, store.bins)):
            for i, text in enumerate(sized(sums, BIN_SUMS if weighted else BIN_CROSS)):
                span_add_object(&store.bin_sum[BIN_SUMS * (g * store.bins + c) + i],
                                unpacked(text, UNITS[i // BIN_CROSS]))
    return 0


cdef int64_t row_count(object n) except -1:
    if type(n) is not int or n < 0:
        raise ValueError(f"expected a number of rows, got {shown(n)}")
    return n


cdef object weight(str text):
    if text.startswith("-"):
        raise ValueError(f"expected a weight, got {text}")
    return text


cdef object sized(parts, Py_ssize_t count):
    """The parts, which go to as many places in memory."""
    if isinstance(parts, (str, dict)) or len(parts) != count:
        raise ValueError(f"expected {count} parts")
    return parts if isinstance(parts, (list, tuple)) else counted(parts, count)


def counted(parts, count):
    """The parts of a list that is read as it is gone through, and may not be as long as it says."""
    found = 0
    for part in parts:
        found += 1
        if found > count:
            break
        yield part
    if found != count:
        raise ValueError(f"expected {count} parts")


cdef list histogram_entry(HistogramEntry* entry, places):
    """Place of the cell, item, window and weight."""
    cdef uint64_t key = entry.key
    return [places[key >> (LABEL_BITS + WINDOW_BITS)],
            (key >> WINDOW_BITS) & ((<uint64_t> 1 << LABEL_BITS) - 1),
            key & 63, hex(int(entry.high) << 64 | int(entry.low))]


cdef int load_histogram(Histogram* histogram, entries, Py_ssize_t cells) except -1:
    # In the order of their hash they would fill up a growing table from one end.
    if len(entries):
        check(histogram_grow(histogram, len(entries) + (len(entries) >> 2) + 64))
    for cell, item, window, text in entries:
        total = int(text, 16)
        if not (0 <= cell < cells and 0 <= item < <int64_t>1 << LABEL_BITS and 0 <= window < 64 and total >> 128 == 0):
            raise ValueError("a count out of range")
        check(histogram_put(histogram, histogram_key(cell, item) | <uint64_t> window,
                        total & 0xFFFFFFFFFFFFFFFF, total >> 64))
    return 0
