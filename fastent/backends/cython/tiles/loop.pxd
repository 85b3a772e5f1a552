"""A call as the loop over tiles needs it: operands, steps, sinks. C structures only."""

from libc.stdint cimport int64_t

from fastent.backends.cython.accumulate.exact_sum cimport ExactSum
from fastent.backends.cython.kernels.interface cimport BadRow, Kernel, Tile
from fastent.backends.cython.kernels.slots cimport MOST_SLOTS
from fastent.backends.cython.tiles.operand cimport View

cdef enum:
    MOST_COLUMNS = 16
    MOST_STEPS = 16

# How a kernel sees the operands of the call.
cdef enum Seen:
    BOTH = 0
    SWAPPED = 1
    PRED_ONLY = 2
    TRUE_AS_PRED = 3

# Beyond the kernels' own codes (kernels.Bad); the numbers are those of fastent._errors.
cdef enum:
    LABEL = 4
    FRACTION = 5
    WEIGHT = 6

# Which argument a bad row is about: 0 true, 1 predicted (as in kernels), or
cdef enum:
    LABELS = 2
    WEIGHTS = 3

ctypedef struct Step:
    Kernel kernel
    int seen
    bint clips                          # eps applies
    bint widens                         # float rows in double arithmetic
    int slot[MOST_SLOTS]                # column of each output of the kernel, −1: not wanted

ctypedef struct Plan:
    Tile tile                           # what all tiles share
    View *true_view                     # NULL where there is none
    View *pred_view
    View *labels
    View *weights
    View *terms
    int stored                          # FLOAT32 or FLOAT64: what tiles are made of
    bint true_in_place, pred_in_place
    bint rescale_true                   # bring row sums near 1 first
    bint rescale_pred
    bint by_blocks                      # rows that are not in place are loaded block by block
    Py_ssize_t classes, tile_rows
    int columns, step_count
    const Step *steps                   # kept for all calls of their form
    double scale[MOST_COLUMNS]          # ln(base) for entropic columns: divided by
    bint ignores
    int64_t ignored
    const double *class_weight          # NULL, or (classes,)
    bint label_weighs                   # the weight of its class is all that a row's loss is weighed by
    int loss_column                     # −1: none
    int target_weight_column
    double eps, temperature
    int true_kind, pred_kind
    bint spread                         # few long rows: threads share the blocks of one row
    int threads
    # this run
    Py_ssize_t start, stop
    double *out                         # (columns, stop − start) row values, or NULL
    Py_ssize_t out_stride
    bint multiply                       # write weighted values
    ExactSum *sums                      # 2 a worker: of weighted values and of weights; or NULL
    BadRow bad
    char *arena                         # scratch of all workers
    Py_ssize_t arena_size               # of one
    bint no_memory
    bint interrupted                    # the handler of a signal has raised: its exception is set

cdef void run_plan(Plan *plan) noexcept nogil

# What other backends need as well
cdef bint load_rows_info(Plan *plan, Py_ssize_t start, Py_ssize_t n, int64_t *labels, double *weights,
                         BadRow *bad) noexcept nogil
cdef void load_term_rows(Plan *plan, Py_ssize_t start, Py_ssize_t n, double *w, BadRow *bad) noexcept nogil
cdef void finish_columns(Plan *plan, Py_ssize_t n, const int64_t *labels, const double *weights, double *values,
                         Py_ssize_t stride) noexcept nogil
cdef void add_weights(Plan *plan, Py_ssize_t n, const int64_t *labels, double *weights, double *values,
                      Py_ssize_t stride, ExactSum *sum) noexcept nogil
