"""The data behind a State: C structures only, so that rows are added without Python."""

from libc.stdint cimport int64_t

from fastent.backends.cython.accumulate.exact_sum cimport ExactSum
from fastent.backends.cython.accumulate.exact_sum_short cimport SpanSum
from fastent.backends.cython.accumulate.histogram cimport Histogram

cdef enum:
    SUM = 0                   # places of the three sums of a column
    SQUARE = 1
    CROSS = 2
    # of a calibration bin: Σ w·confidence, Σ w·correct and Σ w, then, where rows have weights, Σ W·x of
    # the first two
    BIN_SUMS = 5
    BIN_CROSS = 3

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
    const int64_t* items      # (item_lines, stride); negative: none
    const double* amounts     # what is added to the items; 0 in rows of weight 0
    Py_ssize_t item_lines
    Py_ssize_t count[2]       # rows with weight > 0, by weight kind
    const int64_t* keep[2]    # their places, or NULL for all
    const double* factor[2]   # w of the term fl(w·v); NULL for 1
    const double* weight[2]   # W; NULL for 1
    const double* target[2]   # W / w; NULL for 1

cdef struct Lines:            # of short sums, all of one width
    SpanSum* sum
    Py_ssize_t room, width

cdef struct Store:
    int K                     # columns
    int kinds                 # weight kinds
    int bins                  # of the calibration, 0 for none
    Py_ssize_t confidence     # sources of the calibration
    Py_ssize_t correct
    bint counts_labels
    Column* column
    ExactSum* total           # (K, 3), then (2, 2): ΣW, ΣW²
    Lines far                 # one: what products are more than that, and what a loaded state had
    int64_t count[2]
    double* extreme           # (K, 2)
    Histogram* histogram      # K histograms, then the label counts and the sums of items
    Lines group               # (K, 3), then (kinds, 2), with sums of products
    int64_t* group_count      # (groups, 2)
    double* group_extreme     # (groups, K, 2)
    Lines cluster             # K + kinds
    Lines cell                # of the whole and of each group: (bins, BIN_SUMS)


cdef inline void widen(double* pair, double v) noexcept nogil:
    """Least and largest, with NaN once any is seen, and no sign on zero."""
    if not v >= pair[0] and pair[0] == pair[0]:
        pair[0] = v + 0.0
    if not v <= pair[1] and pair[1] == pair[1]:
        pair[1] = v + 0.0


cdef inline int check(int bad) except -1:
    if bad < 0:
        raise MemoryError("fastent: no memory for the state of an accumulator")
    return 0
