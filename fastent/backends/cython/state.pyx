"""The one state behind reductions over time: Accumulator, groups, checkpoints and workers.

A State holds, for each *column* of row values, what its statistics need and nothing that depends
on the order of the rows.  With x = fl(w·v) the term of a row and W its weight:

    S = Σ x,  A = Σ x²,  B = Σ W·x     exact sums; a square or product enters as the rounded
                                       product and its rounding error, so nothing cancels later
    ΣW, ΣW², rows with W > 0           shared by the columns of one weight kind
    least and largest v, and a histogram of v weighted by W

and beside the columns calibration bins and label counts.  Everything can be added, in any order,
to give the same state.  Unit weights keep no B, ΣW, ΣW²: they are S and the count.

Python methods: `add`, `merge`, `copy`, `sums`, `extremes`, `histogram`, `calibration`,
`label_counts`, `cluster_sums`, `to_dict` and `load`; fastent.metrics turns them into results.
"""
import numpy as np

from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from fastent.backends.cython.exact cimport (
    ExactSum, exact_add, exact_add_int, exact_add_one, exact_add_products, exact_merge,
    exact_to_int,
)
from fastent.backends.cython.spans cimport (
    SEEN_NAN, SEEN_NEGATIVE_INF, SEEN_POSITIVE_INF,
    SpanSum, span_add, span_add_int, span_free, span_merge, span_to_int,
)
from fastent.backends.cython.tally cimport (
    BUCKET_NAN, LABEL_BITS, RECENT, WINDOW_BITS,
    Tally, TallyEntry, bucket_of, tally_add, tally_add_many, tally_flush, tally_free, tally_grow,
    tally_key, tally_put,
)

from fastent.backends.cython.keys import Keys

cdef extern from "<math.h>" nogil:
    double fma(double, double, double)

cdef extern from * nogil:
    void __builtin_prefetch(const void*)

cdef enum:
    BLOCK = 512
    # Beyond either, groups keep sums only: no histograms, bins or labels. Both depend on the rows
    # as a whole and are never passed back, so it does not matter who passes them first.
    DETAILED_GROUPS = 1000
    DETAILED_ENTRIES = 7000000                         # of all tallies: about 250 MB
    SUM = 0                   # places of the three sums of a column
    SQUARE = 1
    CROSS = 2

cdef struct Column:
    Py_ssize_t source         # row of the matrix of values; -1: the targets of a binary task
    Py_ssize_t threshold      # k > 0: the column is 1 where the source (a rank, from 0) is below k
    int kind                  # 0: row weights; 1: row weights times those of the target
    bint histogram

cdef struct Rows:             # what one call adds; weights as compacted by `keep`
    const double* values
    Py_ssize_t stride
    const double* targets
    const int64_t* labels
    const int64_t* groups
    const int64_t* clusters
    Py_ssize_t count[2]       # rows with weight > 0, by weight kind
    const int64_t* keep[2]    # their places, or NULL for all
    const double* factor[2]   # w of the term fl(w·v); NULL for 1
    const double* weight[2]   # W; NULL for 1
    const double* target[2]   # W / w; NULL for 1


cdef object special_of(bint nan, bint positive, bint negative):
    if nan or (positive and negative):
        return NAN
    return INFINITY if positive else -INFINITY


cdef object exact_object(ExactSum* s):
    """An integer in units of 2^-1074, or the infinity or NaN that decides the sum."""
    if s.nans or s.positive_infs or s.negative_infs:
        return special_of(s.nans > 0, s.positive_infs > 0, s.negative_infs > 0)
    return exact_to_int(s)


cdef object span_object(SpanSum* s):
    if s.special:
        return special_of(s.special & SEEN_NAN, s.special & SEEN_POSITIVE_INF,
                          s.special & SEEN_NEGATIVE_INF)
    return span_to_int(s)


cdef int exact_add_object(ExactSum* s, object total) except -1:
    if isinstance(total, float):
        exact_add_one(s, total)
        return 0
    return exact_add_int(s, total)


cdef int span_add_object(SpanSum* s, object total) except -1:
    if isinstance(total, float):
        if span_add(s, total) < 0:
            raise MemoryError
        return 0
    return span_add_int(s, total)


cdef str packed(object total):
    """A total as text: `0x<odd>p<exponent of two>`, or inf, -inf, nan."""
    if isinstance(total, float):
        return repr(total)
    if total == 0:
        return "0x0p0"
    zeros = (total & -total).bit_length() - 1
    return f"{total >> zeros:#x}p{zeros - 1074}"


cdef object unpacked(str text):
    if "p" not in text:
        return float(text)
    odd, exponent = text.split("p")
    return int(odd, 16) << (int(exponent) + 1074)


cdef int span_add_product(SpanSum* s, double a, double b) noexcept nogil:
    cdef double p = a * b
    if fabs(p) < INFINITY:
        if span_add(s, fma(a, b, -p)) < 0:
            return -1
    return span_add(s, p)


cdef inline void widen(double* least, double* largest, double v) noexcept nogil:
    """Extremes with NaN once any is seen, and no sign on zero."""
    if not v >= least[0] and least[0] == least[0]:
        least[0] = v + 0.0
    if not v <= largest[0] and largest[0] == largest[0]:
        largest[0] = v + 0.0


cdef class State:
    """Exact, mergeable sums of columns of row values.

    Parameters
    ----------
    columns : sequence of (name, source, threshold, kind, histogram)
        See `Column`.
    bins : int
        Number of calibration bins, 0 for none.
    confidence, correct : int
        Sources of the two columns of the calibration; -1 means the targets.
    labels : bool
        Whether labels are counted.
    """
    cdef readonly tuple columns
    cdef readonly object groups                        # Keys
    cdef readonly object clusters
    cdef readonly bint weighted                        # some weight was not 1: B, ΣW, ΣW² are kept
    cdef readonly bint detailed                        # groups have histograms, bins and labels
    cdef int K, kinds, bins
    cdef Py_ssize_t confidence, correct
    cdef bint counts_labels
    cdef Column* column
    cdef ExactSum* total                               # (K, 3), then (kinds, 2): ΣW, ΣW²
    cdef int64_t count[2]
    cdef double* extreme                               # (K, 2)
    cdef Tally* tally                                  # K histograms, then the label counts
    cdef Py_ssize_t group_room, cluster_room, cell_room
    cdef SpanSum* group_sum                            # (groups, 3 K + 2 kinds)
    cdef int64_t* group_count                          # (groups, 2)
    cdef double* group_extreme                         # (groups, K, 2)
    cdef SpanSum* cluster_sum                          # (clusters, K + kinds)
    cdef SpanSum* bin_sum                              # (1 + groups, bins, 3)

    def __cinit__(self, columns, int bins=0, Py_ssize_t confidence=0, Py_ssize_t correct=0,
                  bint labels=False):
        cdef int c
        self.columns = tuple(columns)
        self.K = len(self.columns)
        self.bins = bins
        self.confidence = confidence
        self.correct = correct
        self.counts_labels = labels
        self.kinds = 1
        self.column = <Column*> calloc(self.K + 1, sizeof(Column))
        self.extreme = <double*> calloc(2 * self.K + 1, sizeof(double))
        self.tally = <Tally*> calloc(self.K + 1, sizeof(Tally))
        self.total = <ExactSum*> calloc(3 * self.K + 4, sizeof(ExactSum))
        if not (self.column and self.extreme and self.tally and self.total):
            raise MemoryError
        for c in range(self.K):
            _, source, threshold, kind, histogram = self.columns[c]
            self.column[c].source = source
            self.column[c].threshold = threshold
            self.column[c].kind = kind
            self.column[c].histogram = histogram
            self.kinds = max(self.kinds, kind + 1)
            self.extreme[2 * c] = INFINITY
            self.extreme[2 * c + 1] = -INFINITY
        self.detailed = True
        self.groups = Keys()
        self.clusters = Keys()
        self.make_cells(1)

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.tally:
            for i in range(self.K + 1):
                tally_free(&self.tally[i])
        for i in range(self.group_room * (3 * self.K + 2 * self.kinds)):
            span_free(&self.group_sum[i])
        for i in range(self.cluster_room * (self.K + self.kinds)):
            span_free(&self.cluster_sum[i])
        for i in range(self.cell_room * 3 * self.bins):
            span_free(&self.bin_sum[i])
        free(self.column)
        free(self.extreme)
        free(self.tally)
        free(self.total)
        free(self.group_sum)
        free(self.group_count)
        free(self.group_extreme)
        free(self.cluster_sum)
        free(self.bin_sum)

    # --- room -----------------------------------------------------------------------------------

    cdef int make_cells(self, Py_ssize_t wanted) except -1:
        cdef Py_ssize_t width = 3 * self.bins
        if wanted > self.cell_room:
            self.bin_sum = <SpanSum*> larger(
                self.bin_sum, self.cell_room, wanted, width * sizeof(SpanSum))
            self.cell_room = wanted
        return 0

    cdef int make_groups(self) except -1:
        """Room for all groups that have a code, and the end of their details past the limit."""
        cdef Py_ssize_t wanted = len(self.groups), old = self.group_room, i
        cdef Py_ssize_t width = 3 * self.K + 2 * self.kinds
        if wanted > old:
            wanted = max(wanted, old + (old >> 2))
            self.group_sum = <SpanSum*> larger(
                self.group_sum, old, wanted, width * sizeof(SpanSum))
            self.group_count = <int64_t*> larger(
                self.group_count, old, wanted, 2 * sizeof(int64_t))
            self.group_extreme = <double*> larger(
                self.group_extreme, old, wanted, 2 * self.K * sizeof(double))
            for i in range(old * self.K, wanted * self.K):
                self.group_extreme[2 * i] = INFINITY
                self.group_extreme[2 * i + 1] = -INFINITY
            self.group_room = wanted
        if len(self.groups) > DETAILED_GROUPS:
            return self.forget_details()
        return self.make_cells(1 + len(self.groups)) if self.detailed else 0

    cdef int make_clusters(self) except -1:
        cdef Py_ssize_t wanted = len(self.clusters), old = self.cluster_room
        cdef Py_ssize_t width = self.K + self.kinds
        if wanted > old:
            wanted = max(wanted, old + (old >> 2))
            self.cluster_sum = <SpanSum*> larger(
                self.cluster_sum, old, wanted, width * sizeof(SpanSum))
            self.cluster_room = wanted
        return 0

    cdef int limit_details(self) except -1:
        cdef int64_t entries = 0
        cdef int c
        if self.detailed and len(self.groups):
            for c in range(self.K + 1):
                entries += self.tally[c].used
            if entries > DETAILED_ENTRIES:
                self.forget_details()
        return 0

    cdef int forget_details(self) except -1:
        """Histograms, bins and labels of single groups become part of the whole, for good."""
        cdef Py_ssize_t i, width = 3 * self.bins
        cdef int c
        cdef Tally old
        self.detailed = False
        if self.cell_room == 1:
            return 0
        for c in range(self.K + 1):
            old = self.tally[c]
            memset(&self.tally[c], 0, sizeof(Tally))
            try:
                merge_tally(&self.tally[c], &old, None)
            finally:
                tally_free(&old)
        for i in range(width, self.cell_room * width):
            check(span_merge(&self.bin_sum[i % width], &self.bin_sum[i]))
            span_free(&self.bin_sum[i])
        self.cell_room = 1
        return 0

    cdef int keep_weights(self) except -1:
        """From unit weights to any: what was implied by S and the counts is written down."""
        cdef Py_ssize_t g, width = 3 * self.K + 2 * self.kinds
        cdef int c, k
        cdef SpanSum* s
        if self.weighted:
            return 0
        self.weighted = True
        for c in range(self.K):
            exact_merge(&self.total[3 * c + CROSS], &self.total[3 * c + SUM])
        for k in range(self.kinds):
            for c in range(2):
                exact_add_int(&self.total[3 * self.K + 2 * k + c], int(self.count[k]) << 1074)
        for g in range(len(self.groups)):
            s = self.group_sum + g * width
            for c in range(self.K):
                check(span_merge(&s[3 * c + CROSS], &s[3 * c + SUM]))
            for k in range(self.kinds):
                for c in range(2):
                    span_add_int(&s[3 * self.K + 2 * k + c],
                                 int(self.group_count[2 * g + k]) << 1074)
        return 0

    # --- adding rows ----------------------------------------------------------------------------

    def add(self, const double[:, ::1] values, weights=None, target_weights=None,
            const double[::1] targets=None, const int64_t[::1] labels=None,
            groups=None, clusters=None):
        """Add rows.

        Parameters
        ----------
        values : float64 array, (sources, rows)
        weights : float64 array (rows,), optional
            Row weights, not negative; rows of weight 0 leave no trace.
        target_weights : float64 array (rows,), optional
            Σ w_c·t_c of the rows' targets, for columns of weight kind 1.
        targets, labels : arrays (rows,), optional
            Targets of a binary task; int64 labels.
        groups, clusters : int64 array or list, optional
            What `keys.row_ids` gives.
        """
        cdef Py_ssize_t n = values.shape[1]
        cdef const int64_t[::1] group_codes, cluster_codes
        cdef Rows rows
        cdef int c, bad = 0
        if n == 0:
            return
        memset(&rows, 0, sizeof(Rows))
        rows.count[0] = rows.count[1] = n
        rows.stride = n
        if values.shape[0]:
            rows.values = &values[0, 0]
        if targets is not None:
            rows.targets = &targets[0]
        if labels is not None:
            rows.labels = &labels[0]
        if groups is not None:
            group_codes = self.groups.codes(groups)
            rows.groups = &group_codes[0]
            self.make_groups()
        if clusters is not None:
            cluster_codes = self.clusters.codes(clusters)
            rows.clusters = &cluster_codes[0]
            self.make_clusters()
        held = None
        if weights is not None or target_weights is not None or self.weighted:
            held = self.set_weights(&rows, n, weights, target_weights)
        with nogil:
            for c in range(self.K):
                bad |= self.add_column(&rows, c)
            for c in range(self.kinds):
                bad |= self.add_weights(&rows, c)
            if self.bins:
                bad |= self.add_bins(&rows)
            if self.counts_labels:
                bad |= self.add_labels(&rows)
        check(bad)
        self.limit_details()

    cdef object set_weights(self, Rows* rows, Py_ssize_t n, weights, target_weights):
        """Point `rows` at weights without zeros; the arrays behind it are returned, to be held."""
        cdef const int64_t[::1] places
        cdef int k
        parts = [compact(weights, target_weights if k else None) for k in range(self.kinds)]
        if any(weight is not None for _, weight, _, _ in parts):
            self.keep_weights()
        for k in range(self.kinds):
            keep, weight, factor, target = parts[k]
            if keep is not None:
                rows.count[k] = len(keep)
                if len(keep):
                    places = keep
                    rows.keep[k] = &places[0]
            if weight is None and self.weighted:
                weight = np.ones(rows.count[k])
                parts.append(weight)
            rows.weight[k] = doubles(weight)
            rows.factor[k] = doubles(factor)
            rows.target[k] = doubles(target)
        return parts

    cdef int add_column(self, Rows* rows, int c) noexcept nogil:
        """One column of all rows, in blocks that stay in the first-level cache."""
        cdef Column column = self.column[c]
        cdef int k = column.kind
        cdef const double* source = rows.targets
        cdef const double* v
        cdef const double* x
        cdef const double* weight = NULL
        cdef const int64_t* keep = NULL
        cdef double value[BLOCK]
        cdef double term[BLOCK]
        cdef double shown[BLOCK]
        cdef ExactSum* total = self.total + 3 * c
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
                bad |= self.add_histogram(rows, c, recent, v, weight, keep, start, n)
            if rows.groups != NULL:
                bad |= self.add_groups(rows, c, x, weight, keep, start, n)
            if rows.clusters != NULL:
                for i in range(n):
                    bad |= span_add(
                        self.cluster_sum + c + (self.K + self.kinds)
                        * rows.clusters[keep[i] if keep != NULL else start + i], x[i])
            start += n
        if recent != NULL:
            bad |= tally_flush(&self.tally[c], recent)
        return bad

    cdef int add_histogram(self, Rows* rows, int c, TallyEntry* recent, const double* v,
                           const double* weight, const int64_t* keep, Py_ssize_t start,
                           Py_ssize_t n) noexcept nogil:
        cdef uint64_t key[BLOCK]
        cdef Py_ssize_t i, g
        cdef double least = self.extreme[2 * c], largest = self.extreme[2 * c + 1]
        for i in range(n):
            widen(&least, &largest, v[i])
        self.extreme[2 * c] = least
        self.extreme[2 * c + 1] = largest
        for i in range(n):
            key[i] = tally_key(0, bucket_of(v[i]))
        if recent != NULL:
            return tally_add_many(&self.tally[c], recent, key, weight, n)
        if rows.groups != NULL:
            for i in range(n):
                g = rows.groups[keep[i] if keep != NULL else start + i]
                widen(self.group_extreme + 2 * (g * self.K + c),
                      self.group_extreme + 2 * (g * self.K + c) + 1, v[i])
                if g + 1 < self.cell_room:
                    key[i] |= tally_key(<uint64_t> g + 1, 0)
        return tally_add(&self.tally[c], key, weight, n)

    cdef int add_groups(self, Rows* rows, int c, const double* x, const double* weight,
                        const int64_t* keep, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i, width = 3 * self.K + 2 * self.kinds
        cdef SpanSum* place[BLOCK]
        cdef SpanSum* s
        cdef int bad = 0
        for i in range(n):
            place[i] = self.group_sum + 3 * c + width * rows.groups[
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

    cdef int add_weights(self, Rows* rows, int k) noexcept nogil:
        cdef ExactSum* total = self.total + 3 * self.K + 2 * k
        cdef const double* weight = rows.weight[k]
        cdef const int64_t* keep = rows.keep[k]
        cdef Py_ssize_t i, place, n = rows.count[k]
        cdef Py_ssize_t width = 3 * self.K + 2 * self.kinds
        cdef SpanSum* s
        cdef int bad = 0
        self.count[k] += n
        if weight != NULL:
            exact_add(total, weight, n)
            exact_add_products(total + 1, weight, weight, n)
        if rows.groups == NULL and rows.clusters == NULL:
            return 0
        for i in range(n):
            place = keep[i] if keep != NULL else i
            if rows.groups != NULL:
                self.group_count[2 * rows.groups[place] + k] += 1
                if weight != NULL:
                    s = self.group_sum + rows.groups[place] * width + 3 * self.K + 2 * k
                    bad |= span_add(s, weight[i])
                    bad |= span_add_product(s + 1, weight[i], weight[i])
            if rows.clusters != NULL:
                bad |= span_add(
                    self.cluster_sum + rows.clusters[place] * (self.K + self.kinds) + self.K + k,
                    weight[i] if weight != NULL else 1.0)
        return bad

    cdef int add_bins(self, Rows* rows) noexcept nogil:
        """Equal-width bins (lo, hi], 0 in the first; NaN goes there too and spoils its sums."""
        cdef const double* confidence = rows.targets
        cdef const double* correct = rows.targets
        cdef Py_ssize_t i, place, b, cell = 0
        cdef double v, t, w = 1.0
        cdef int64_t* counts = NULL                    # rows and correct rows of a bin
        cdef SpanSum* s
        cdef int bad = 0
        if self.confidence >= 0:
            confidence = rows.values + self.confidence * rows.stride
        if self.correct >= 0:
            correct = rows.values + self.correct * rows.stride
        if rows.groups == NULL and rows.weight[0] == NULL:
            counts = <int64_t*> calloc(2 * self.bins, sizeof(int64_t))
        for i in range(rows.count[0]):
            place = rows.keep[0][i] if rows.keep[0] != NULL else i
            v = confidence[place]
            t = correct[place]
            b = <Py_ssize_t> (v * self.bins) if 0 < v <= 1 else 0
            b = b if b < self.bins else self.bins - 1
            if b < self.bins - 1 and v > <double> (b + 1) / self.bins:
                b += 1
            elif b > 0 and v <= <double> b / self.bins:
                b -= 1
            if counts != NULL:
                s = self.bin_sum + 3 * b
                bad |= span_add(s, v)
                if t == 0 or t == 1:
                    counts[2 * b + 1] += <int64_t> t
                else:
                    bad |= span_add(s + 1, t)
                counts[2 * b] += 1
                continue
            if rows.groups != NULL:
                cell = rows.groups[place] + 1
                cell = cell if cell < self.cell_room else 0
            if rows.weight[0] != NULL:
                w = rows.weight[0][i]
            s = self.bin_sum + 3 * (cell * self.bins + b)
            bad |= span_add(s, w * v)
            bad |= span_add(s + 1, w * t)
            bad |= span_add(s + 2, w)
        if counts != NULL:
            for b in range(self.bins):
                bad |= span_add(self.bin_sum + 3 * b + 1, <double> counts[2 * b + 1])
                bad |= span_add(self.bin_sum + 3 * b + 2, <double> counts[2 * b])
            free(counts)
        return bad

    cdef int add_labels(self, Rows* rows) noexcept nogil:
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
                    cell = cell if cell < <uint64_t> self.cell_room else 0
                key[i] = tally_key(cell, <uint64_t> rows.labels[place])
            bad |= tally_add(&self.tally[self.K], key,
                             rows.weight[0] + start if rows.weight[0] != NULL else NULL, n)
            start += n
        return bad

    # --- adding states --------------------------------------------------------------------------

    def empty(self):
        """A state of the same columns without rows."""
        return State(self.columns, self.bins, self.confidence, self.correct, self.counts_labels)

    def copy(self):
        """An independent state with the same content."""
        return self.empty().merge(self)

    def merge(self, State other not None):
        """Add all rows of another state of the same columns."""
        cdef Py_ssize_t i, g, k, width = 3 * self.K + 2 * self.kinds
        cdef Py_ssize_t bins = 3 * self.bins
        cdef int c
        cdef double* extreme
        if other is self or (self.weighted and not other.weighted):
            other = other.copy()
        if other.weighted:
            self.keep_weights()
        elif self.weighted:
            other.keep_weights()
        groups = [self.groups.code(name) for name in other.groups.names]
        clusters = [self.clusters.code(name) for name in other.clusters.names]
        self.make_groups()
        self.make_clusters()
        if not other.detailed:
            self.forget_details()
        for i in range(3 * self.K + 2 * self.kinds):
            exact_merge(&self.total[i], &other.total[i])
        for k in range(2):
            self.count[k] += other.count[k]
        for c in range(self.K):
            self.merge_extremes(
                &self.extreme[2 * c], &other.extreme[2 * c], other.count[self.column[c].kind])
        for g, code in enumerate(groups):
            k = code
            for i in range(width):
                check(span_merge(&self.group_sum[k * width + i], &other.group_sum[g * width + i]))
            for i in range(2):
                self.group_count[2 * k + i] += other.group_count[2 * g + i]
            for c in range(self.K):
                self.merge_extremes(
                    &self.group_extreme[2 * (k * self.K + c)],
                    &other.group_extreme[2 * (g * self.K + c)],
                    other.group_count[2 * g + self.column[c].kind])
        width = self.K + self.kinds
        for g, code in enumerate(clusters):
            k = code
            for i in range(width):
                check(span_merge(
                    &self.cluster_sum[k * width + i], &other.cluster_sum[g * width + i]))
        # Cell 0 is for rows of no group, or of groups that have lost their details.
        cells = [0] + [code + 1 if self.detailed else 0 for code in groups]
        for c in range(self.K + 1):
            merge_tally(&self.tally[c], &other.tally[c], cells)
        for g in range(other.cell_room):
            k = cells[g] if g < len(cells) else 0
            for i in range(bins):
                check(span_merge(&self.bin_sum[k * bins + i], &other.bin_sum[g * bins + i]))
        self.limit_details()
        return self

    cdef void merge_extremes(self, double* into, double* other, int64_t rows) noexcept:
        if rows and not other[0] > other[1]:           # else the column keeps no extremes
            widen(&into[0], &into[1], other[0])
            widen(&into[0], &into[1], other[1])

    # --- reading --------------------------------------------------------------------------------

    def rows(self, int kind=0, group=None):
        """Number of rows with positive weight."""
        return self.count[kind] if group is None else self.group_count[2 * <Py_ssize_t> group + kind]

    def weight(self, int kind=0, group=None):
        """ΣW and ΣW², as `sums` gives totals."""
        cdef ExactSum* total = self.total + 3 * self.K + 2 * kind
        cdef SpanSum* s
        if not self.weighted:
            implied = int(self.rows(kind, group)) << 1074
            return implied, implied
        if group is None:
            return exact_object(total), exact_object(total + 1)
        s = (self.group_sum + <Py_ssize_t> group * (3 * self.K + 2 * self.kinds)
             + 3 * self.K + 2 * kind)
        return span_object(s), span_object(s + 1)

    def sums(self, int c, group=None):
        """S, A, B of a column: integers in units of 2**-1074, or the inf or nan that decides."""
        cdef ExactSum* total = self.total + 3 * c
        cdef SpanSum* s
        if group is None:
            first, square = exact_object(total), exact_object(total + SQUARE)
            return first, square, exact_object(total + CROSS) if self.weighted else first
        s = self.group_sum + <Py_ssize_t> group * (3 * self.K + 2 * self.kinds) + 3 * c
        first, square = span_object(s), span_object(s + SQUARE)
        return first, square, span_object(s + CROSS) if self.weighted else first

    def extremes(self, int c, group=None):
        """Least and largest row value of a column, (inf, -inf) without rows."""
        cdef double* pair = self.extreme + 2 * c
        if group is not None:
            pair = self.group_extreme + 2 * (<Py_ssize_t> group * self.K + c)
        return pair[0], pair[1]

    def histogram(self, int c, group=None):
        """Exact weight by bucket of a column, see `bucket_middle`."""
        return self.counted(c, group)

    def label_counts(self, group=None):
        """Exact weight by label."""
        return self.counted(self.K, group)

    cdef dict counted(self, int t, group):
        cdef Tally* tally = self.tally + t
        cdef TallyEntry* entry
        cdef int64_t i
        cdef int64_t cell = -1 if group is None else <int64_t> group + 1
        found = {}
        for i in range(tally.capacity):
            entry = tally.entries + i
            if entry.key == ~(<uint64_t> 0):
                continue
            if cell >= 0 and <int64_t> (entry.key >> (LABEL_BITS + WINDOW_BITS)) != cell:
                continue
            item = (entry.key >> WINDOW_BITS) & ((<uint64_t> 1 << LABEL_BITS) - 1)
            weight = (int(entry.high) << 64 | int(entry.low)) << 32 * (entry.key & 63)
            found[item] = found.get(item, 0) + weight
        return found

    def calibration(self, group=None):
        """Σ w·confidence, Σ w·correct and Σ w of each bin, as `sums` gives totals."""
        cdef Py_ssize_t first = 0, stop = self.cell_room, b, cell, width = 3 * self.bins
        cdef SpanSum merged
        if group is not None:
            first = <Py_ssize_t> group + 1
            stop = first + 1
        found = []
        for b in range(width):
            memset(&merged, 0, sizeof(SpanSum))
            try:
                for cell in range(first, stop):
                    check(span_merge(&merged, &self.bin_sum[cell * width + b]))
                found.append(span_object(&merged))
            finally:
                span_free(&merged)
        return [tuple(found[b:b + 3]) for b in range(0, width, 3)]

    def cluster_sums(self, int c):
        """S and ΣW of a column in every cluster, as `sums` gives totals."""
        cdef Py_ssize_t i, width = self.K + self.kinds
        return [(span_object(&self.cluster_sum[i * width + c]),
                 span_object(&self.cluster_sum[i * width + self.K + self.column[c].kind]))
                for i in range(len(self.clusters))]

    # --- text -----------------------------------------------------------------------------------

    def to_dict(self):
        """The content as JSON-able data: equal for equal content, however it came together."""
        cdef Py_ssize_t i, g, width = 3 * self.K + 2 * self.kinds
        cdef int c
        order = self.groups.ordered()
        kept = range(3) if self.weighted else range(2)
        places = {0: 0} | {code + 1: i + 1 for i, code in enumerate(order)}
        columns = {}
        for c, column in enumerate(self.columns):
            columns[column[0]] = {
                "sums": [packed(exact_object(&self.total[3 * c + i])) for i in kept],
                "extremes": [float(x).hex() for x in self.extremes(c)],
                "histogram": tally_list(&self.tally[c], places),
            }
        weights = range(2 * self.kinds if self.weighted else 0)
        groups = []
        for code in order:
            g = code
            groups.append([
                [self.group_count[2 * g + i] for i in range(self.kinds)],
                [packed(span_object(&self.group_sum[g * width + 3 * c + i]))
                 for c in range(self.K) for i in kept],
                [packed(span_object(&self.group_sum[g * width + 3 * self.K + i]))
                 for i in weights],
                [float(x).hex() for c in range(self.K) for x in self.extremes(c, g)],
            ])
        i = self.K + self.kinds
        clusters = self.clusters.ordered()
        return {
            "weighted": bool(self.weighted),
            "detailed": bool(self.detailed),
            "rows": [self.count[c] for c in range(self.kinds)],
            "weights": [packed(exact_object(&self.total[3 * self.K + c])) for c in weights],
            "columns": columns,
            "labels": tally_list(&self.tally[self.K], places),
            "calibration": [
                [[packed(x) for x in b] for b in self.calibration(cell - 1)]
                for cell in ([0] + [code + 1 for code in order])[:self.cell_room]
            ] if self.bins else [],
            "groups": [[self.groups.names[code] for code in order], groups],
            "clusters": [
                [self.clusters.names[code] for code in clusters],
                [[packed(span_object(&self.cluster_sum[<Py_ssize_t> code * i + c]))
                  for c in range(i)] for code in clusters],
            ],
        }

    def load(self, data):
        """Fill this empty state with what `to_dict` gave."""
        cdef Py_ssize_t i, g, width = 3 * self.K + 2 * self.kinds
        cdef int c
        if sorted(data["columns"]) != sorted(column[0] for column in self.columns):
            raise ValueError("state: its columns are not those of the settings")
        self.weighted = data["weighted"]
        self.detailed = data["detailed"]
        kept = 3 if self.weighted else 2
        for c, n in enumerate(data["rows"]):
            self.count[c] = n
        for c, text in enumerate(data["weights"]):
            exact_add_object(&self.total[3 * self.K + c], unpacked(text))
        for c, column in enumerate(self.columns):
            saved = data["columns"][column[0]]
            for i in range(kept):
                exact_add_object(&self.total[3 * c + i], unpacked(saved["sums"][i]))
            for i in range(2):
                self.extreme[2 * c + i] = float.fromhex(saved["extremes"][i])
            load_tally(&self.tally[c], saved["histogram"])
        load_tally(&self.tally[self.K], data["labels"])
        for name in data["groups"][0]:
            self.groups.code(name)
        self.make_groups()
        for g, (counts, sums, weights, extremes) in enumerate(data["groups"][1]):
            for c, n in enumerate(counts):
                self.group_count[2 * g + c] = n
            for i, text in enumerate(sums):
                span_add_object(&self.group_sum[g * width + 3 * (i // kept) + i % kept],
                                unpacked(text))
            for i, text in enumerate(weights):
                span_add_object(&self.group_sum[g * width + 3 * self.K + i], unpacked(text))
            for i, text in enumerate(extremes):
                self.group_extreme[2 * g * self.K + i] = float.fromhex(text)
        for g, cell in enumerate(data["calibration"]):
            for i, text in enumerate([text for b in cell for text in b]):
                span_add_object(&self.bin_sum[3 * g * self.bins + i], unpacked(text))
        for name in data["clusters"][0]:
            self.clusters.code(name)
        self.make_clusters()
        for g, texts in enumerate(data["clusters"][1]):
            for i, text in enumerate(texts):
                span_add_object(&self.cluster_sum[g * (self.K + self.kinds) + i], unpacked(text))
        return self


def bucket_middle(bucket):
    """A number within 1 % of all values of a histogram bucket."""
    if bucket == BUCKET_NAN:
        return NAN
    sign = -1.0 if bucket >> 19 else 1.0
    field, leading = divmod(bucket & 0x7FFFF, 64)
    if bucket & 0x7FFFF == 0:
        return 0.0
    if field == 2047 + 52:
        return sign * INFINITY
    return sign * float(np.ldexp(1.0 + (leading + 0.5) / 64, field - 1023 - 52))


def compact(weights, target):
    """Places of rows with weight, W, w and W / w; None for all, and for ones."""
    if target is not None and (target == 1.0).all():
        target = None
    weight = weights if target is None else target if weights is None else weights * target
    keep = None
    if weight is not None and not weight.all():
        keep = np.flatnonzero(weight)
        weight = weight[keep]
        weights = None if weights is None else weights[keep]
        target = None if target is None else target[keep]
    if target is None and weight is not None and (weight == 1.0).all():
        weight = weights = None
    return keep, weight, weights, target


cdef const double* doubles(array):
    cdef const double[::1] view
    if array is None or len(array) == 0:
        return NULL
    view = array
    return &view[0]


cdef int check(int bad) except -1:
    if bad < 0:
        raise MemoryError("fastent: no memory for the state of an accumulator")
    return 0


cdef void* larger(void* old, Py_ssize_t count, Py_ssize_t wanted, size_t size) except NULL:
    """An array of `count` items made longer, the new items zero."""
    cdef void* new = realloc(old, wanted * size + 1)
    if new == NULL:
        check(-1)
    memset(<char*> new + count * size, 0, (wanted - count) * size)
    return new


cdef int merge_tally(Tally* into, Tally* other, cells) except -1:
    """Add a tally whose cell i is cell cells[i] here; without `cells` all are cell 0."""
    cdef int64_t i
    cdef uint64_t key, cell
    cdef uint64_t item_mask = (<uint64_t> 1 << (LABEL_BITS + WINDOW_BITS)) - 1
    # Entries come in the order of their hash: a smaller table would fill up from one end.
    if into.capacity < other.capacity:
        check(tally_grow(into, other.capacity))
    for i in range(other.capacity):
        key = other.entries[i].key
        if key == ~(<uint64_t> 0):
            continue
        cell = key >> (LABEL_BITS + WINDOW_BITS)
        if cell:
            cell = 0 if cells is None else cells[cell]
        key = (key & item_mask) | (cell << (LABEL_BITS + WINDOW_BITS))
        check(tally_put(into, key, other.entries[i].low, other.entries[i].high))
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
