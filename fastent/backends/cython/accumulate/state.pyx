"""The one state behind reductions over time: Accumulator, groups, checkpoints and workers.

A State holds, for each *column* of row values, what its statistics need and nothing that depends
on the order of the rows.  With x = fl(w·v) the term of a row and W its weight:

    S = Σ x,  A = Σ x²,  B = Σ W·x     exact sums; a square or product enters as the rounded
                                       product and its rounding error, so nothing cancels later,
                                       and scaled where it would leave the range of float64
    ΣW, ΣW², rows with W > 0           shared by the columns of one weight kind
    least and largest v, and a histogram of v weighted by W

and beside the columns calibration bins, label counts and sums of items.  Everything can be added, in any order,
to give the same state.  Unit weights keep no B, ΣW, ΣW²: they are S and the count.

fastent.results makes metrics of what a State gives.
"""
cimport cython
cimport numpy as cnp
import numpy as np

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from fastent.backends.cython.accumulate.exact_sum cimport ExactSum, exact_clear, exact_merge
from fastent.backends.cython.accumulate.add_rows cimport MOST_BINS, add_rows
from fastent.backends.cython.accumulate.exact_sum_short cimport (
    SpanSum, span_carry, span_clear, span_enter, span_free, span_merge, span_reserve_merge,
)
from fastent.backends.cython.accumulate.state_data cimport (
    BIN_CROSS, BIN_SUMS, CROSS, SQUARE, SUM, Column, Lines, Rows, Store, check, widen,
)
from fastent.backends.cython.accumulate.histogram cimport (
    BUCKET_NAN, CELL_SHIFT, Histogram, HistogramEntry, histogram_clear, histogram_free, histogram_item,
    histogram_merge, histogram_next, histogram_total, histogram_weight,
)
from fastent.backends.cython.accumulate.state_json cimport (
    cluster_text, line_text, load_store, store_text, sum_object,
)
from fastent.backends.cython.accumulate.exact_sum_int cimport packed, span_object
from fastent.backends.cython.accumulate.exact_sum_blocks cimport FAR, PRODUCT_UNIT, decided

from fastent._errors import shown
from fastent.backends.cython.accumulate.group_ids import Keys
from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode

cnp.import_array()

cdef extern from "standard_error.h" nogil:
    double unit_error(const int64_t *s_limb, int s_size, int s_low, const int64_t *a_limb, int a_size,
                      int a_low, int64_t rows)
    double round_limbs(const int64_t *limb, int size, int low)

cdef enum:
    # Beyond either, groups keep sums only: no histograms, bins or labels. Both depend on the rows
    # as a whole and are never passed back, so it does not matter who passes them first.
    DETAILED_GROUPS = 1000
    DETAILED_ENTRIES = 7000000                         # of all histograms: about 250 MB

cdef struct Places:                                    # of what another store holds; NULL: the same
    const int64_t* columns                             # where it has the columns and histograms of this one
    const int64_t* sums                                # and the sums of a line
    const int64_t* cluster_sums
    const int64_t* cells                               # where this one has its cells, groups and clusters
    const int64_t* groups
    const int64_t* clusters
    Py_ssize_t group_count, cluster_count


cdef class State:
    """Exact, mergeable sums of columns of row values.

    `columns` are (name, source, threshold, kind, histogram), see `Column`; `bins` is the number of calibration
    bins, 0 for none; `confidence` and `correct` are sources of its two columns, −1 for the targets.
    """
    cdef readonly tuple columns
    cdef tuple made                                    # what another of the same columns is made of
    cdef readonly object groups                        # Keys
    cdef readonly object clusters
    cdef readonly bint weighted                        # some weight was not 1: B, ΣW, ΣW² are kept
    cdef readonly bint detailed                        # groups have histograms, bins and labels
    cdef Store store
    cdef Store fresh                                   # rows on their way into the store

    def __cinit__(self, columns, int bins=0, Py_ssize_t confidence=0, Py_ssize_t correct=0, bint labels=False):
        cdef int c
        if not 0 <= bins <= MOST_BINS:
            raise ValueError(f"bins: expected 0 to {MOST_BINS}, got {bins}")
        self.columns = tuple(columns)
        self.made = self.columns, bins, confidence, correct, labels
        make_totals(&self.store, len(self.columns))
        make_totals(&self.fresh, len(self.columns))
        self.store.bins = bins
        self.store.confidence = confidence
        self.store.correct = correct
        self.store.counts_labels = labels
        self.store.kinds = 1
        self.store.cell.width = self.fresh.cell.width = BIN_SUMS * bins
        self.store.column = <Column*> calloc(self.store.K + 1, sizeof(Column))
        check(0 if self.store.column else -1)
        for c in range(self.store.K):
            _, source, threshold, kind, histogram = self.columns[c]
            self.store.column[c] = Column(source, threshold, kind, histogram)
            self.store.kinds = max(self.store.kinds, kind + 1)
        no_extremes(self.store.extreme, self.store.K)
        self.store.group.width = 3 * self.store.K + 2 * self.store.kinds
        self.store.cluster.width = self.store.K + self.store.kinds
        self.detailed = True
        self.groups = Keys()
        self.clusters = Keys()
        grow_lines(&self.store.cell, 1)
        grow_lines(&self.fresh.cell, 1)
        self.clear()

    def __dealloc__(self):
        free_totals(&self.store)
        free_totals(&self.fresh)
        free(self.store.column)
        free(self.store.group_count)
        free(self.store.group_extreme)

    cdef void clear(self) noexcept:
        """Nothing in `fresh`."""
        cdef Py_ssize_t i
        for i in range(self.fresh.cell.width):
            span_clear(&self.fresh.cell.sum[i])
        for i in range(self.fresh.far.width):
            span_clear(&self.fresh.far.sum[i])
            if self.fresh.total[i].adds:
                exact_clear(&self.fresh.total[i])
        self.fresh.count[0] = self.fresh.count[1] = 0
        no_extremes(self.fresh.extreme, self.store.K)
        for i in range(self.store.K + 2):
            histogram_clear(&self.fresh.histogram[i])

    cdef int give_up(self, Py_ssize_t groups, Py_ssize_t clusters) except -1:
        """As before what could not be added: so many groups and clusters."""
        self.clear()
        self.groups.forget(groups)
        self.clusters.forget(clusters)
        return 0

    # --- room -----------------------------------------------------------------------------------

    cdef int make_groups(self) except -1:
        """Room for all groups that have a code, and the end of their details past the limit."""
        cdef Py_ssize_t old = self.store.group.room, wanted = roomy(old, len(self.groups))
        if wanted > old:
            self.store.group_count = <int64_t*> larger(self.store.group_count, old, wanted, 2 * sizeof(int64_t))
            self.store.group_extreme = <double*> larger(
                self.store.group_extreme, old, wanted, 2 * self.store.K * sizeof(double))
            no_extremes(self.store.group_extreme + 2 * old * self.store.K, (wanted - old) * self.store.K)
            grow_lines(&self.store.group, wanted)
        # Past the limit rows count in the whole at once.
        detailed = self.detailed and len(self.groups) <= DETAILED_GROUPS
        return grow_lines(&self.store.cell, 1 + len(self.groups)) if detailed else 0

    cdef void limit_details(self):
        cdef int64_t entries = 0
        cdef int c
        if self.detailed and len(self.groups):
            for c in range(self.store.K + 2):
                entries += self.store.histogram[c].used
            self.detailed = len(self.groups) <= DETAILED_GROUPS and entries <= DETAILED_ENTRIES
        if not self.detailed and self.store.cell.room > 1:
            self.forget_details()

    cdef void forget_details(self) noexcept:
        """Histograms, bins and labels of single groups become part of the whole, for good; what there is
        no memory for now does so later."""
        cdef Py_ssize_t i, width = self.store.cell.width
        cdef int c, bad = 0
        cdef Histogram whole
        cdef int64_t* nowhere = <int64_t*> calloc(self.store.cell.room, sizeof(int64_t))
        if nowhere == NULL:
            return
        for c in range(self.store.K + 2):
            memset(&whole, 0, sizeof(Histogram))
            if histogram_merge(&whole, &self.store.histogram[c], nowhere, False) < 0:
                bad = -1
                histogram_free(&whole)
                continue
            histogram_merge(&whole, &self.store.histogram[c], nowhere, True)
            histogram_free(&self.store.histogram[c])
            self.store.histogram[c] = whole
        for i in range(width, self.store.cell.room * width):
            if span_merge(&self.store.cell.sum[i % width], &self.store.cell.sum[i]) < 0:
                bad = -1
            else:
                span_free(&self.store.cell.sum[i])
        free(nowhere)
        if bad == 0:
            self.store.cell.room = 1

    cdef int keep_weights(self, bint final) except -1:
        """From unit weights to any: what was implied by S and the counts is written down. The first of two passes
        makes room for it, and only that can fail."""
        cdef Py_ssize_t g
        cdef int c, k, K = self.store.K
        cdef SpanSum* s
        cdef const int64_t* count
        for g in range(-1, <Py_ssize_t> len(self.groups)):
            s = self.store.far.sum if g < 0 else self.store.group.sum + g * self.store.group.width
            count = &self.store.count[0] if g < 0 else self.store.group_count + 2 * g
            for c in range(K):
                check(enter_far(&s[3 * c + CROSS], &s[3 * c + SUM], final))
            for k in range(2 * self.store.kinds):
                check(span_enter(&s[3 * K + k], <double> count[k // 2], FAR if k % 2 else 0, final))
        for g in range(self.store.cell.room * self.store.bins):
            s = self.store.cell.sum + BIN_SUMS * g
            for k in range(BIN_SUMS - BIN_CROSS):
                check(enter_far(&s[BIN_CROSS + k], &s[k], final))
        if final:
            for c in range(K):
                exact_merge(&self.store.total[3 * c + CROSS], &self.store.total[3 * c + SUM])
            self.weighted = True
        return 0

    # --- adding rows ----------------------------------------------------------------------------

    def add(self, given, weights=None, target_weights=None, const double[::1] targets=None,
            const int64_t[::1] labels=None, groups=None, clusters=None, int num_threads=1, items=None):
        """Add rows: `given` is a float64 array (sources, rows), the others have one entry a row.

        `weights` are those of rows, not negative; rows of weight 0 leave no trace. `target_weights`: Σ w_c·t_c of
        the rows' targets, for columns of weight kind 1. `groups` and `clusters`: what `group_ids.row_ids` gives.
        `items`: two arrays (lines, rows), int64 numbers below 2^34, negative for none, and what is added to their
        sums, not negative and not NaN, 0 in rows of weight 0.
        """
        # a memory view costs a small batch a fifteenth of its time
        cdef cnp.ndarray values = cnp.PyArray_FROMANY(given, cnp.NPY_DOUBLE, 2, 2, cnp.NPY_ARRAY_IN_ARRAY)
        cdef Py_ssize_t n = cnp.PyArray_DIM(values, 1), groups_before, clusters_before
        cdef const int64_t[::1] group_codes, cluster_codes
        cdef const int64_t[:, ::1] numbers
        cdef const double[:, ::1] amounts
        cdef Rows rows
        cdef Places same
        cdef FloatMode mode
        cdef bint weighted = self.weighted
        cdef int bad
        if n == 0:
            return
        memset(&rows, 0, sizeof(Rows))
        memset(&same, 0, sizeof(Places))
        rows.count[0] = rows.count[1] = n
        rows.stride = n
        if cnp.PyArray_DIM(values, 0):
            rows.values = <const double *> cnp.PyArray_DATA(values)
        if targets is not None:
            rows.targets = &targets[0]
        if labels is not None:
            rows.labels = &labels[0]
        if items is not None:
            numbers, amounts = items
            rows.items = &numbers[0, 0]
            rows.amounts = &amounts[0, 0]
            rows.item_lines = numbers.shape[0]
        groups_before, clusters_before = len(self.groups), len(self.clusters)
        try:
            if groups is not None:
                group_codes = self.groups.codes(groups)
                rows.groups = &group_codes[0]
                self.make_groups()
            if clusters is not None:
                cluster_codes = self.clusters.codes(clusters)
                rows.clusters = &cluster_codes[0]
                grow_lines(&self.store.cluster, roomy(self.store.cluster.room, len(self.clusters)))
            held = None
            if weights is not None or target_weights is not None or weighted:
                held = self.set_weights(&rows, n, weights, target_weights, &weighted)
            with nogil:
                mode = enter_default_mode()
                bad = add_rows(&self.store, &self.fresh, &rows, False, num_threads)
                if bad == 0:
                    bad = merge(&self.store, &self.fresh, &same, False)
                restore_mode(mode)
            check(bad)
            if weighted and not self.weighted:
                self.keep_weights(False)
        except BaseException:
            self.give_up(groups_before, clusters_before)
            raise
        # Nothing fails from here on.
        if weighted and not self.weighted:
            self.keep_weights(True)
        with nogil:
            mode = enter_default_mode()
            add_rows(&self.store, &self.fresh, &rows, True, num_threads)
            merge(&self.store, &self.fresh, &same, True)
            restore_mode(mode)
        self.clear()
        self.limit_details()

    cdef object set_weights(self, Rows* rows, Py_ssize_t n, weights, target_weights, bint* weighted):
        """Point `rows` at weights without zeros; the arrays behind it are returned, to be held."""
        cdef const int64_t[::1] places
        cdef int k
        parts = [compact(weights, target_weights if k else None) for k in range(self.store.kinds)]
        weighted[0] |= any(weight is not None for _, weight, _, _ in parts)
        for k in range(self.store.kinds):
            keep, weight, factor, target = parts[k]
            if keep is not None:
                rows.count[k] = len(keep)
                places = keep
                rows.keep[k] = &places[0]
            if weight is None and weighted[0]:
                weight = np.ones(rows.count[k])
                parts.append(weight)
            rows.weight[k] = doubles(weight)
            rows.factor[k] = doubles(factor)
            rows.target[k] = doubles(target)
        return parts

    # --- adding states --------------------------------------------------------------------------

    def empty(self):
        """A state of the same columns without rows."""
        return State(*self.made)

    def copy(self):
        """An independent state with the same content."""
        return self.empty().merge(self)

    def __reduce__(self):
        return loaded, (self.made, self.to_dict())

    cdef list columns_in(self, State other):
        """The place in `other` of each column here; refuses what holds other things."""
        theirs = {name: rest for name, _, *rest in other.columns}
        ours = {name: rest for name, _, *rest in self.columns}
        if (self.made[1], self.made[4], ours) != (other.made[1], other.made[4], theirs):
            raise ValueError("merge: these sums are not of the same metrics")
        places = {column[0]: place for place, column in enumerate(other.columns)}
        return [places[column[0]] for column in self.columns]

    def merge(self, State other not None):
        """Add all rows of another state of the same columns, whatever their order."""
        with cython.critical_section(self, other):
            self.add_state(other)
        return self

    cdef int add_state(self, State other) except -1:
        cdef Py_ssize_t groups_before = len(self.groups), clusters_before = len(self.clusters)
        cdef Py_ssize_t g
        cdef Places at
        cdef FloatMode mode
        cdef int K = self.store.K
        places = self.columns_in(other)
        # What is not of one column keeps its place.
        cdef const int64_t[::1] columns = np.array([*places, K, K + 1], np.int64)
        cdef const int64_t[::1] sums = np.array(
            [*(3 * p + part for p in places for part in range(3)), *range(3 * K, self.store.far.width)], np.int64)
        cdef const int64_t[::1] cluster_sums = np.array([*places, *range(K, self.store.cluster.width)], np.int64)
        cdef const int64_t[::1] groups, clusters
        cdef int64_t[::1] cells
        if other is self or (self.weighted and not other.weighted):
            other = other.copy()
        if self.weighted and not other.weighted:
            other.keep_weights(False)
            other.keep_weights(True)
        try:
            groups = self.groups.codes(other.groups.names[:])
            clusters = self.clusters.codes(other.clusters.names[:])
            self.make_groups()
            grow_lines(&self.store.cluster, roomy(self.store.cluster.room, len(self.clusters)))
            # Cell 0 is for rows of no group, or of groups that have lost their details.
            cells = np.zeros(other.store.cell.room, np.int64)
            for g in range(min(other.store.cell.room - 1, groups.shape[0])):  # there may be spare cells
                if self.detailed and groups[g] + 1 < self.store.cell.room:
                    cells[g + 1] = groups[g] + 1
            at = Places(&columns[0], &sums[0], &cluster_sums[0], &cells[0], &groups[0], &clusters[0],
                        groups.shape[0], clusters.shape[0])
            check(merge(&self.store, &other.store, &at, False))
            if other.weighted and not self.weighted:
                self.keep_weights(False)
        except BaseException:
            self.give_up(groups_before, clusters_before)
            raise
        # Nothing fails from here on.
        mode = enter_default_mode()
        if other.weighted and not self.weighted:
            self.keep_weights(True)
        merge(&self.store, &other.store, &at, True)
        restore_mode(mode)
        if not other.detailed:
            self.detailed = False
        self.limit_details()
        return 0

    # --- reading --------------------------------------------------------------------------------
    #
    # Reading a sum carries in it first, so without a GIL one thread at a time reads a state, be it for a
    # report or to merge it into another.

    def rows(self, int kind=0, group=None):
        """Number of rows with positive weight."""
        return self.store.count[kind] if group is None else self.store.group_count[2 * <Py_ssize_t> group + kind]

    def weight(self, int kind=0, group=None):
        """ΣW and ΣW², as `sums` gives totals."""
        cdef Py_ssize_t g = -1 if group is None else group, i = 3 * self.store.K + 2 * kind
        if not self.weighted:
            implied = int(self.rows(kind, group)) << 1074
            return implied, as_product(implied)
        with cython.critical_section(self):
            return sum_object(&self.store, i, g), sum_object(&self.store, i + 1, g)

    @cython.critical_section
    def sums(self, int c, group=None):
        """S, A, B of a column: integers in units of 2**-1074, of products in units of 2**-2162, or
        the inf or nan that decides."""
        cdef Py_ssize_t g = -1 if group is None else group
        first, square = sum_object(&self.store, 3 * c + SUM, g), sum_object(&self.store, 3 * c + SQUARE, g)
        return first, square, sum_object(&self.store, 3 * c + CROSS, g) if self.weighted else as_product(first)

    @cython.critical_section
    def total(self, int c, Py_ssize_t group):
        """S of a column in a group as the nearest float."""
        cdef SpanSum* s = self.store.group.sum + group * self.store.group.width + 3 * c
        cdef FloatMode mode
        if s.special:
            return decided(s.special)
        check(span_carry(s))
        mode = enter_default_mode()
        total = round_limbs(s.limb, s.size, s.low)
        restore_mode(mode)
        return total

    @cython.critical_section
    def unit_error(self, int c, Py_ssize_t group):
        """Standard error of a column's mean in a group, for weights of 1; None where it takes
        larger integers than usual."""
        cdef SpanSum* s = self.store.group.sum + group * self.store.group.width + 3 * c
        cdef SpanSum* a = s + SQUARE
        cdef FloatMode mode
        cdef double error
        if self.weighted or s.special or a.special:
            return None
        check(span_carry(s))
        check(span_carry(a))
        mode = enter_default_mode()
        error = unit_error(s.limb, s.size, s.low, a.limb, a.size, <int> a.low - FAR,
                           self.store.group_count[2 * group + self.store.column[c].kind])
        restore_mode(mode)
        return None if error < 0 else error

    def extremes(self, int c, group=None):
        """Least and largest row value of a column, (inf, -inf) without rows."""
        cdef double* pair = self.store.extreme + 2 * c
        if group is not None:
            pair = self.store.group_extreme + 2 * (<Py_ssize_t> group * self.store.K + c)
        return pair[0], pair[1]

    def histogram(self, int c, group=None):
        """Exact weight by bucket of a column, see `bucket_middle`."""
        return self.counted(c, group)

    def label_counts(self, group=None):
        """Exact weight by label."""
        return self.counted(self.store.K, group)

    def unit_counts(self, group=None):
        """(labels, rows) as int64 arrays, in no order; None unless all weights are 1."""
        cdef Histogram* histogram = self.store.histogram + self.store.K
        cdef HistogramEntry* entry
        cdef uint64_t low, high
        cdef int64_t i = 0, cell = -1 if group is None else <int64_t> group + 1
        cdef int64_t[::1] label, rows
        cdef Py_ssize_t n = 0
        if self.weighted:
            return None
        histogram_weight(1.0, &low, &high)
        labels, counts = np.empty(histogram.used, np.int64), np.empty(histogram.used, np.int64)
        label, rows = labels, counts
        while (entry := histogram_next(histogram, &i, cell)) != NULL:
            label[n] = <int64_t> histogram_item(entry.key)
            rows[n] = <int64_t> (entry.high // high)
            n += 1
        return labels[:n], counts[:n]

    def item_sums(self, group=None):
        """Exact sum by item, as integers in units of 2^-1074."""
        return self.counted(self.store.K + 1, group)

    cdef dict counted(self, int t, group):
        cdef HistogramEntry* entry
        cdef int64_t i = 0, cell = -1 if group is None else <int64_t> group + 1
        found = {}
        while (entry := histogram_next(self.store.histogram + t, &i, cell)) != NULL:
            item = histogram_item(entry.key)
            found[item] = found.get(item, 0) + (histogram_total(entry) << 32 * (entry.key & 63))
        return found

    @cython.critical_section
    def bin_sums(self, group=None):
        """Σ w·confidence, Σ w·correct, Σ w, and Σ W·x of the first two, of each bin, as `sums` gives totals."""
        cdef Py_ssize_t first = 0, stop = self.store.cell.room, b, cell, width = self.store.cell.width
        cdef SpanSum merged
        if group is not None:
            first = <Py_ssize_t> group + 1
            stop = min(first + 1, self.store.cell.room)
        found = []
        for b in range(width):
            memset(&merged, 0, sizeof(SpanSum))
            try:
                for cell in range(first, stop):
                    check(span_merge(&merged, &self.store.cell.sum[cell * width + b]))
                found.append(span_object(&merged))
            finally:
                span_free(&merged)
        if not self.weighted:
            for b in range(0, width, BIN_SUMS):
                found[b + BIN_CROSS:b + BIN_SUMS] = map(as_product, found[b:b + BIN_SUMS - BIN_CROSS])
        return [tuple(found[b:b + BIN_SUMS]) for b in range(0, width, BIN_SUMS)]

    @cython.critical_section
    def cluster_sums(self, int c):
        """S and ΣW of a column in every cluster, as `sums` gives totals."""
        cdef Py_ssize_t i, width = self.store.cluster.width
        return [(span_object(&self.store.cluster.sum[i * width + c]),
                 span_object(&self.store.cluster.sum[i * width + self.store.K + self.store.column[c].kind]))
                for i in range(len(self.clusters))]

    # --- text -----------------------------------------------------------------------------------

    def to_dict(self, bint lazily=False):
        """The content as JSON-able data: equal for equal content, however it came together.

        `lazily`, the lists that may be long are iterators, to be used before the state changes.
        """
        groups, clusters = self.groups.ordered(), self.clusters.ordered()
        cells = [-1, *groups] if self.store.bins else []
        if not self.detailed:
            del cells[1:]
        places = {0: 0} | {code + 1: i + 1 for i, code in enumerate(groups)}
        whole, ordered = (iter, iter) if lazily else (list, sorted)
        with cython.critical_section(self):
            text = store_text(&self.store, self.weighted, self.columns)
        for c, column in enumerate(self.columns):
            text["columns"][column[0]]["histogram"] = ordered(self.histogram_text(c, places))
        return {
            "weighted": bool(self.weighted),
            "detailed": bool(self.detailed),
            "names": {
                "groups": [self.groups.names[code] for code in groups],
                "clusters": [self.clusters.names[code] for code in clusters],
            },
            **text,
            "labels": ordered(self.histogram_text(self.store.K, places)),
            "items": ordered(self.histogram_text(self.store.K + 1, places)),
            "groups": whole(map(self.group_text, groups)),
            "clusters": whole(map(self.cluster_text, clusters)),
            "calibration": whole(map(self.calibration_text, cells)),
        }

    def histogram_text(self, int t, dict places):
        """Entries (place of the cell, item, window, weight) in no order, so that only the one at hand is in memory."""
        cdef int64_t i = 0
        cdef HistogramEntry* entry
        while (entry := histogram_next(self.store.histogram + t, &i)) != NULL:
            yield [places[entry.key >> CELL_SHIFT], histogram_item(entry.key), entry.key & 63,
                   hex(histogram_total(entry))]

    @cython.critical_section
    def group_text(self, group):
        return line_text(&self.store, self.weighted, group)

    @cython.critical_section
    def cluster_text(self, cluster):
        return cluster_text(&self.store, cluster)

    def calibration_text(self, group):
        units = [1074] * BIN_CROSS + [PRODUCT_UNIT] * (BIN_SUMS - BIN_CROSS if self.weighted else 0)
        return [[packed(x, unit) for x, unit in zip(sums, units)] for sums in self.bin_sums(group)]

    def load(self, data):
        """Fill this empty state with what `to_dict` gave."""
        if sorted(data["columns"]) != sorted(column[0] for column in self.columns):
            raise ValueError("state: its columns are not those of the settings")
        for name in ("weighted", "detailed"):
            if type(data[name]) is not bool:
                raise ValueError(f"{name}: expected true or false, got {shown(data[name])}")
        self.weighted = data["weighted"]
        for name in data["names"]["groups"]:
            self.groups.code(name)
        for name in data["names"]["clusters"]:
            self.clusters.code(name)
        self.detailed = data["detailed"] and len(self.groups) <= DETAILED_GROUPS
        self.make_groups()
        grow_lines(&self.store.cluster, roomy(self.store.cluster.room, len(self.clusters)))
        cells = 0 if not self.store.bins else 1 + len(self.groups) if self.detailed else 1
        room = [len(self.groups), len(self.clusters), cells]
        load_store(&self.store, self.weighted, self.columns, room, data)
        return self


cdef int make_totals(Store* store, Py_ssize_t columns) except -1:
    """Memory for what is kept of all rows."""
    store.K = <int> columns
    store.extreme = <double*> calloc(2 * columns + 1, sizeof(double))
    store.histogram = <Histogram*> calloc(columns + 2, sizeof(Histogram))
    store.total = <ExactSum*> calloc(3 * columns + 4, sizeof(ExactSum))
    check(0 if store.extreme and store.histogram and store.total else -1)
    store.far.width = 3 * columns + 4
    return grow_lines(&store.far, 1)


cdef void free_totals(Store* store) noexcept:
    cdef Py_ssize_t i
    for i in range(store.K + 2 if store.histogram else 0):
        histogram_free(&store.histogram[i])
    free_lines(&store.far)
    free_lines(&store.group)
    free_lines(&store.cluster)
    free_lines(&store.cell)
    free(store.extreme)
    free(store.histogram)
    free(store.total)


cdef void free_lines(Lines* lines) noexcept:
    cdef Py_ssize_t i
    for i in range(lines.room * lines.width):
        span_free(&lines.sum[i])
    free(lines.sum)


cdef int grow_lines(Lines* lines, Py_ssize_t wanted) except -1:
    """Room for as many lines."""
    if wanted > lines.room:
        lines.sum = <SpanSum*> larger(lines.sum, lines.room, wanted, lines.width * sizeof(SpanSum))
        lines.room = wanted
    return 0


cdef inline Py_ssize_t roomy(Py_ssize_t room, Py_ssize_t wanted) noexcept:
    """Room for as many, and for more if it is not there."""
    return max(wanted, room + (room >> 2)) if wanted > room else room


cdef void no_extremes(double* pairs, Py_ssize_t count) noexcept:
    cdef Py_ssize_t i
    for i in range(count):
        pairs[2 * i] = INFINITY
        pairs[2 * i + 1] = -INFINITY


cdef inline int enter_far(SpanSum* into, SpanSum* other, bint final) noexcept nogil:
    """Sums of numbers to those of products: room for them, or themselves."""
    return span_merge(into, other, FAR) if final else span_reserve_merge(into, other, True, FAR)


# --- adding one store to another: first room for it, which may fail, then sums, which cannot ---

cdef int merge_lines(Lines* into, Lines* other, const int64_t* lines, Py_ssize_t count, const int64_t* places,
                     bint several, bint final) noexcept nogil:
    """Lines of sums to those here, to which `several` may go, each sum from its place in the line."""
    cdef Py_ssize_t g, i
    cdef int bad = 0
    cdef SpanSum* s
    cdef SpanSum* t
    for g in range(count):
        for i in range(into.width):
            s = into.sum + (lines[g] if lines != NULL else g) * into.width + i
            t = other.sum + g * into.width + (places[i] if places != NULL else i)
            bad |= span_merge(s, t) if final else span_reserve_merge(s, t, several)
    return bad


cdef void merge_rows(Store* into, int64_t* count, double* extreme, const int64_t* other_count,
                     const double* other_extreme, const int64_t* columns) noexcept nogil:
    """Numbers of rows and extremes of a line."""
    cdef const double* pair
    cdef Py_ssize_t c
    for c in range(into.K):
        pair = other_extreme + 2 * (columns[c] if columns != NULL else c)
        if other_count[into.column[c].kind] and not pair[0] > pair[1]:       # else the column keeps no extremes
            widen(extreme + 2 * c, pair[0])
            widen(extreme + 2 * c, pair[1])
    for c in range(2):
        count[c] += other_count[c]


cdef int merge(Store* into, Store* other, const Places* at, bint final) noexcept nogil:
    """Add another store, or before the `final` pass make the room with which this cannot fail; negative when
    there is no memory."""
    cdef Py_ssize_t g, c
    cdef int bad = 0
    bad |= merge_lines(&into.group, &other.group, at.groups, at.group_count, at.sums, False, final)
    bad |= merge_lines(&into.cluster, &other.cluster, at.clusters, at.cluster_count, at.cluster_sums, False, final)
    bad |= merge_lines(&into.far, &other.far, NULL, 1, at.sums, False, final)
    bad |= merge_lines(&into.cell, &other.cell, at.cells, other.cell.room, NULL, True, final)
    for c in range(into.K + 2):
        g = at.columns[c] if at.columns != NULL else c
        bad |= histogram_merge(&into.histogram[c], &other.histogram[g], at.cells, final)
    if not final:
        return bad
    for c in range(into.far.width):
        exact_merge(&into.total[c], &other.total[at.sums[c] if at.sums != NULL else c])
    merge_rows(into, into.count, into.extreme, other.count, other.extreme, at.columns)
    for g in range(at.group_count):
        merge_rows(into, into.group_count + 2 * at.groups[g], into.group_extreme + 2 * at.groups[g] * into.K,
                   other.group_count + 2 * g, other.group_extreme + 2 * g * into.K, at.columns)
    return 0


cdef object as_product(total):
    """A total of x as one of 1·x."""
    return total << 32 * FAR if isinstance(total, int) else total


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
    if array is None:
        return NULL
    view = array
    return &view[0]


cdef void* larger(void* old, Py_ssize_t count, Py_ssize_t wanted, size_t size) except NULL:
    """An array of `count` items made longer, the new items zero."""
    cdef void* new = realloc(old, wanted * size + 1)
    if new == NULL:
        check(-1)
    memset(<char*> new + count * size, 0, (wanted - count) * size)
    return new


def loaded(made, data):
    """The state that was pickled."""
    state = State(*made)
    state.load(data)
    return state
