"""Single rows for other packages written in Cython: tiles of one row, on the kernels in use."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode
from fastent.backends.cython.arithmetic.functions cimport INFINITY, NAN, fe_lane_max
from fastent.backends.cython.kernels.interface cimport (
    DOUBLE, LOGITS, PROBS, SCRATCH, SINGLE, Job, Kernel, Tile, kernel,
)
from fastent.backends.cython.kernels.slots cimport (
    KL_ROWS, MOST_SLOTS, OUT_CROSS_ENTROPY, OUT_ENTROPY, OUT_KL, PROBS_ENTROPY,
)
from fastent.backends.cython.levels cimport LOGITS_CROSS_ENTROPY, PROBS_CROSS_ENTROPY, PROBS_DIVERGENCE

import fastent._settings                                 # puts the kernels of this machine in use


cdef void in_order(void *unused, Job job, void *context, Py_ssize_t count, char *scratch) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(count):
        job(context, block, scratch)


cdef double value_of(Kernel made_by, int slot, Py_ssize_t label, const void *true, const void *pred, Py_ssize_t n,
                     int precision, int kind) noexcept nogil:
    """The first column of a kernel for one row, NaN if it reports the row."""
    cdef Tile tile
    cdef double value = 0
    cdef double *out[MOST_SLOTS]
    cdef int64_t number = label
    cdef FloatMode mode
    memset(&tile, 0, sizeof(Tile))
    memset(out, 0, sizeof(out))
    out[slot] = &value
    tile.true_rows = true
    tile.pred_rows = pred
    tile.precision = precision
    tile.labels = &number
    tile.rows = 1
    tile.classes = n
    tile.tolerance = 1e-3
    tile.normalise = True
    tile.temperature = 1
    tile.true_kind = PROBS
    tile.pred_kind = kind
    tile.run = in_order
    tile.bad.row = -1
    tile.scratch = <char *>malloc(SCRATCH)
    if tile.scratch == NULL:
        return NAN
    mode = enter_default_mode()
    made_by(&tile, out)
    restore_mode(mode)
    free(tile.scratch)
    return value if tile.bad.row < 0 and not tile.no_memory else <double>NAN


cdef inline int precision_of(const row_number *unused) noexcept nogil:
    return SINGLE if row_number is float else DOUBLE


cdef double logsumexp(const row_number *x, Py_ssize_t n) noexcept nogil:
    """log(Σ e^x); −inf for n = 0."""
    cdef Py_ssize_t place = 0
    cdef double top
    if n <= 0:
        return -INFINITY
    top = fe_lane_max(x, n)
    if not (-INFINITY < top < INFINITY):
        return top
    while x[place] != top:
        place += 1
    return top + sparse_cross_entropy(place, x, n)


cdef double entropy(const row_number *p, Py_ssize_t n) noexcept nogil:
    """Entropy of a row of probabilities, in nats."""
    if n <= 0:
        return NAN
    return value_of(kernel(PROBS_CROSS_ENTROPY, PROBS_ENTROPY), OUT_ENTROPY, 0, NULL, p, n, precision_of(p), PROBS)


cdef double kl_divergence(const row_number *p, const row_number *q, Py_ssize_t n) noexcept nogil:
    """KL(p ‖ q) of two rows of probabilities, in nats."""
    if n <= 0:
        return NAN
    return value_of(kernel(PROBS_DIVERGENCE, KL_ROWS), OUT_KL, 0, p, q, n, precision_of(p), PROBS)


cdef double sparse_cross_entropy(Py_ssize_t label, const row_number *logits, Py_ssize_t n) noexcept nogil:
    """Cross-entropy of a class label and a row of logits, in nats."""
    if label < 0 or label >= n:
        return NAN
    return value_of(kernel(LOGITS_CROSS_ENTROPY, 0), OUT_CROSS_ENTROPY, label, NULL, logits, n, precision_of(logits), LOGITS)
