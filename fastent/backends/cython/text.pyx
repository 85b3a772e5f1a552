"""A Store as text, and back: integers in hexadecimal, in an order that shows no history."""

from libc.stdint cimport int64_t, uint64_t

from fastent.backends.cython.store cimport Store, check
from fastent.backends.cython.tally cimport (
    LABEL_BITS, WINDOW_BITS, Tally, tally_key, tally_put,
)
from fastent.backends.cython.totals cimport (
    exact_add_object, exact_object, packed, span_add_object, span_object, unpacked,
)


cdef dict store_text(Store* store, bint weighted, tuple columns, list groups):
    """All but names, calibration and the sums of groups and clusters; groups in the order given."""
    cdef Py_ssize_t i
    cdef int c
    kept = range(3) if weighted else range(2)
    weights = range(2 * store.kinds if weighted else 0)
    places = {0: 0} | {code + 1: i + 1 for i, code in enumerate(groups)}
    found = {}
    for c, column in enumerate(columns):
        found[column[0]] = {
            "sums": [packed(exact_object(&store.total[3 * c + i])) for i in kept],
            "extremes": [store.extreme[2 * c + i].hex() for i in range(2)],
            "histogram": tally_list(&store.tally[c], places),
        }
    return {
        "rows": [store.count[c] for c in range(store.kinds)],
        "weights": [packed(exact_object(&store.total[3 * store.K + c])) for c in weights],
        "columns": found,
        "labels": tally_list(&store.tally[store.K], places),
    }


cdef list group_text(Store* store, bint weighted, Py_ssize_t g):
    """Rows, sums, weights and extremes of a group by its code."""
    cdef Py_ssize_t i, width = 3 * store.K + 2 * store.kinds
    cdef int c
    kept = range(3) if weighted else range(2)
    weights = range(2 * store.kinds if weighted else 0)
    return [
        [store.group_count[2 * g + i] for i in range(store.kinds)],
        [packed(span_object(&store.group_sum[g * width + 3 * c + i]))
         for c in range(store.K) for i in kept],
        [packed(span_object(&store.group_sum[g * width + 3 * store.K + i])) for i in weights],
        [store.group_extreme[2 * g * store.K + i].hex() for i in range(2 * store.K)],
    ]


cdef list cluster_text(Store* store, Py_ssize_t g):
    cdef Py_ssize_t width = store.K + store.kinds
    cdef int c
    return [packed(span_object(&store.cluster_sum[g * width + c])) for c in range(width)]


cdef int load_store(Store* store, bint weighted, tuple columns, dict data) except -1:
    """Fill an empty store that has room for the groups and clusters of the data."""
    cdef Py_ssize_t i, g, width = 3 * store.K + 2 * store.kinds
    cdef int c
    kept = 3 if weighted else 2
    for c, n in enumerate(data["rows"]):
        store.count[c] = n
    for c, text in enumerate(data["weights"]):
        exact_add_object(&store.total[3 * store.K + c], unpacked(text))
    for c, column in enumerate(columns):
        saved = data["columns"][column[0]]
        for i in range(kept):
            exact_add_object(&store.total[3 * c + i], unpacked(saved["sums"][i]))
        for i in range(2):
            store.extreme[2 * c + i] = float.fromhex(saved["extremes"][i])
        load_tally(&store.tally[c], saved["histogram"])
    load_tally(&store.tally[store.K], data["labels"])
    for g, (counts, sums, weights, extremes) in enumerate(data["groups"]):
        for c, n in enumerate(counts):
            store.group_count[2 * g + c] = n
        for i, text in enumerate(sums):
            span_add_object(&store.group_sum[g * width + 3 * (i // kept) + i % kept],
                            unpacked(text))
        for i, text in enumerate(weights):
            span_add_object(&store.group_sum[g * width + 3 * store.K + i], unpacked(text))
        for i, text in enumerate(extremes):
            store.group_extreme[2 * g * store.K + i] = float.fromhex(text)
    for g, texts in enumerate(data["clusters"]):
        for i, text in enumerate(texts):
            span_add_object(&store.cluster_sum[g * (store.K + store.kinds) + i], unpacked(text))
    for g, cell in enumerate(data["calibration"]):
        for i, text in enumerate([text for b in cell for text in b]):
            span_add_object(&store.bin_sum[3 * g * store.bins + i], unpacked(text))
    return 0


cdef list tally_list(Tally* tally, places):
    cdef int64_t i
    cdef uint64_t key
    found = []
    for i in range(tally.capacity):
        key = tally.entries[i].key
        if key != ~(<uint64_t> 0):
            total = int(tally.entries[i].high) << 64 | int(tally.entries[i].low)
            found.append([places[key >> (LABEL_BITS + WINDOW_BITS)],
                          (key >> WINDOW_BITS) & ((<uint64_t> 1 << LABEL_BITS) - 1),
                          key & 63, hex(total)])
    found.sort()
    return found


cdef int load_tally(Tally* tally, entries) except -1:
    for cell, item, window, text in entries:
        total = int(text, 16)
        check(tally_put(tally, tally_key(cell, item) | <uint64_t> window,
                        total & 0xFFFFFFFFFFFFFFFF, total >> 64))
    return 0
