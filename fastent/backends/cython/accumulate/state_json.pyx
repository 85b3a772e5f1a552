"""A Store as text, and back: integers in hexadecimal, in an order that shows no history."""

from libc.stdint cimport int64_t, uint64_t

from fastent.backends.cython.accumulate.state_data cimport BIN_CROSS, BIN_SUMS, Store, check
from fastent.backends.cython.accumulate.histogram cimport (
    LABEL_BITS, Histogram, histogram_grow, histogram_key, histogram_put,
)
from fastent.backends.cython.accumulate.exact_sum_int cimport (
    exact_object, packed, span_add_object, span_object, unpacked,
)
from fastent.backends.cython.accumulate.exact_sum_blocks cimport PRODUCT_UNIT, decided
from fastent._errors import shown


cdef int unit_of(Store* store, Py_ssize_t i) except -1:
    """Of a sum by its place in a line: all but the first of a column and of a kind of weights are sums of products."""
    return PRODUCT_UNIT if (i % 3 if i < 3 * store.K else (i - 3 * store.K) % 2) else 1074


cdef object sum_object(Store* store, Py_ssize_t i, Py_ssize_t g):
    """A sum by its place in the line of a group, or for g < 0 in that of all rows."""
    cdef int special
    if g >= 0:
        return span_object(&store.group.sum[g * store.group.width + i])
    special = store.total[i].special | store.far.sum[i].special
    if special:
        return decided(special)
    return (exact_object(&store.total[i]) << unit_of(store, i) - 1074) + span_object(&store.far.sum[i])


cdef tuple kept_sums(Store* store, bint weighted):
    """Places of what a line keeps: sums of columns and of weights. Unit weights have no Σ W·x, ΣW and ΣW²."""
    cdef int K = store.K
    return ([3 * c + i for c in range(K) for i in range(3 if weighted else 2)],
            [*range(3 * K, 3 * K + 2 * store.kinds)] if weighted else [])


cdef list line_text(Store* store, bint weighted, Py_ssize_t g):
    """Rows, sums, weights and extremes of a group by its code, or for g < 0 of all rows."""
    cdef const int64_t* count = &store.count[0] if g < 0 else store.group_count + 2 * g
    cdef const double* extreme = store.extreme if g < 0 else store.group_extreme + 2 * g * store.K
    sums, weights = [[packed(sum_object(store, i, g), unit_of(store, i)) for i in places]
                     for places in kept_sums(store, weighted)]
    return [[count[i] for i in range(store.kinds)], sums, weights, [extreme[i].hex() for i in range(2 * store.K)]]


cdef dict store_text(Store* store, bint weighted, tuple columns):
    """All but names, histograms, calibration and the sums of groups and clusters."""
    kept = 3 if weighted else 2
    rows, sums, weights, extremes = line_text(store, weighted, -1)
    return {
        "rows": rows,
        "weights": weights,
        "columns": {
            column[0]: {"sums": sums[kept * c:kept * (c + 1)], "extremes": extremes[2 * c:2 * (c + 1)]}
            for c, column in enumerate(columns)
        },
    }


cdef list cluster_text(Store* store, Py_ssize_t g):
    cdef Py_ssize_t width = store.cluster.width
    cdef int c
    return [packed(span_object(&store.cluster.sum[g * width + c])) for c in range(width)]


cdef int load_line(Store* store, tuple kept, Py_ssize_t g, rows, sums, weights, extremes) except -1:
    """What `line_text` gives."""
    cdef int64_t* count = &store.count[0] if g < 0 else store.group_count + 2 * g
    cdef double* extreme = store.extreme if g < 0 else store.group_extreme + 2 * g * store.K
    cdef Py_ssize_t i
    cdef str text
    for i, n in enumerate(sized(rows, store.kinds)):
        if type(n) is not int or n < 0:
            raise ValueError(f"expected a number of rows, got {shown(n)}")
        count[i] = n
    for places, texts in zip(kept, (sums, weights)):
        for text, i in zip(sized(texts, len(places)), places):
            if i >= 3 * store.K and text.startswith("-"):
                raise ValueError(f"expected a weight, got {text}")
            span_add_object(&store.far.sum[i] if g < 0 else &store.group.sum[g * store.group.width + i],
                            unpacked(text, unit_of(store, i)))
    for i, text in enumerate(sized(extremes, 2 * store.K)):
        extreme[i] = float.fromhex(text)
    return 0


cdef int load_store(Store* store, bint weighted, tuple columns, list room, dict data) except -1:
    """Fill an empty store that has room for so many groups, clusters and calibrated cells."""
    cdef Py_ssize_t i, g
    cdef int c
    groups, clusters, cells = room
    kept = kept_sums(store, weighted)
    saved = [data["columns"][column[0]] for column in columns]
    sums = [text for column in saved for text in sized(column["sums"], 3 if weighted else 2)]
    extremes = [text for column in saved for text in sized(column["extremes"], 2)]
    load_line(store, kept, -1, data["rows"], sums, data["weights"], extremes)
    histograms = [*(column["histogram"] for column in saved), data["labels"], data["items"]]
    for c, entries in enumerate(histograms):
        load_histogram(&store.histogram[c], entries, store.cell.room)
    for g, (rows, sums, weights, extremes) in enumerate(sized(data["groups"], groups)):
        load_line(store, kept, g, rows, sums, weights, extremes)
    for g, texts in enumerate(sized(data["clusters"], clusters)):
        for i, text in enumerate(sized(texts, store.cluster.width)):
            span_add_object(&store.cluster.sum[g * store.cluster.width + i], unpacked(text))
    for g, cell in enumerate(sized(data["calibration"], cells)):
        for c, texts in enumerate(sized(cell, store.bins)):
            for i, text in enumerate(sized(texts, BIN_SUMS if weighted else BIN_CROSS)):
                span_add_object(&store.cell.sum[BIN_SUMS * (g * store.bins + c) + i],
                                unpacked(text, PRODUCT_UNIT if i >= BIN_CROSS else 1074))
    return 0


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
