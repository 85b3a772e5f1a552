"""What the engine hands to a kernel and gets back: C structures only, shared by every level."""

from libc.stdint cimport int64_t

from fastent.backends.cython.arithmetic.scratch cimport ROOM
from fastent.backends.cython.levels cimport Module, functions

cdef enum:
    LOADED = 8 * 8 * ROOM               # bytes: eight arrays of doubles, each with room to over-read,
    SCRATCH = LOADED + 3 * 8 * ROOM     # then a block of each operand and of the weights of terms

cdef enum Bad:
    ROW_SUM = 1
    NEGATIVE = 2
    RANGE = 3                           # a binary value outside [0, 1]

ctypedef struct BadRow:
    Py_ssize_t row                      # −1: none
    int code
    int operand                         # 0: the true one, 1: the predicted one
    double number

# Blocks of one long row: run(runner, job, context, count) calls job(context, b, scratch) for every
# b in [0, count), on one thread or on many; results are combined in the order of b.
ctypedef void (*Job)(void *context, Py_ssize_t block, char *scratch) noexcept nogil
ctypedef void (*Runner)(void *runner, Job job, void *context, Py_ssize_t count, char *scratch) noexcept nogil

# Rows that are not in memory as the kernels need them: load(source, r, start, n, out) writes classes
# [start, start + n) of row r of the tile to `out`, as float or double. See row_blocks.pxd.
ctypedef void (*Load)(const void *source, Py_ssize_t r, Py_ssize_t start, Py_ssize_t n, void *out) noexcept nogil

ctypedef struct RowLoader:
    Load load
    void *view
    Py_ssize_t row                      # the first one of the tile
    double power                        # what its numbers are multiplied by, and then by,
    double more_power
    const double *class_weight          # for weights of terms, or NULL

# Exact sums of row values, for kernels that need not keep them.
ctypedef void (*AddFloats)(void *sum, const float *values, Py_ssize_t n) noexcept nogil
ctypedef void (*AddDoubles)(void *sum, const double *values, Py_ssize_t n) noexcept nogil

ctypedef struct Tile:
    const void *true_rows               # (rows, classes), contiguous; NULL: there is none, or
    const void *pred_rows
    RowLoader *true_source                 # it is loaded block by block, as long rows are
    RowLoader *pred_source
    int precision                       # Precision
    const int64_t *labels               # sparse: the label; < 0: the row is skipped; NULL: none are
    Py_ssize_t rows, classes
    double tolerance                    # of row sums; negative: not checked
    bint normalise                      # False: row_sums="as_is"
    double eps, temperature
    double order                        # α of a power divergence, γ of a focal loss
    int true_kind                       # Kind
    int pred_kind
    const double *terms                 # weights of terms, (rows or 1, classes), or NULL
    Py_ssize_t terms_stride             # classes, or 0 for class weights
    RowLoader *terms_source                # or these, loaded block by block
    double smoothing
    void *sum                           # where only the exact sum of the first column is wanted, or NULL;
    AddFloats add_floats                # kernels may add to it instead of writing row values,
    AddDoubles add_doubles
    bint summed                         # and say so
    char *scratch
    Runner run
    void *runner
    BadRow bad
    bint no_memory                      # a kernel had none for a long row: the tile is to be given up

# What the elementwise arithmetic is done in, and what the rows are stored as.
cdef enum Precision:
    SINGLE = 0                          # float rows, float arithmetic
    DOUBLE = 1                          # double rows, double arithmetic
    WIDENED = 2                         # float rows, double arithmetic

cdef enum Kind:
    PROBS = 0
    LOGPROBS = 1
    LOGITS = 2

# Writes one value per row into each column of `out` that it serves; a NULL column is not wanted.
ctypedef void (*Kernel)(Tile *tile, double **out) noexcept nogil


cdef inline Kernel kernel(Module module, int number) noexcept nogil:
    """One of a module's kernels at the level in use."""
    return (<Kernel *>functions[<int>module])[number]


cdef inline void report(Tile *tile, Py_ssize_t row, int code, int operand, double number) noexcept nogil:
    """Keep the first bad row of the tile; of one row the first operand, and a negative number before the sum
    that it spoils, whichever was looked at first."""
    cdef BadRow *bad = &tile.bad
    if tile.labels != NULL and tile.labels[row] < 0:
        return
    if bad.row < 0 or row < bad.row or (row == bad.row and 4 * operand - code < 4 * bad.operand - bad.code):
        bad[0] = BadRow(row, code, operand, number)
