"""Derivatives of cross-entropies, and softmax: from arrays to tiles, and tiles to threads.

Labels, weights and terms come settled (see fastent.gradients); logits and targets are read where
they are, or tile by tile into scratch memory where kernels cannot.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

import numpy as np

from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode
from fastent.backends.cython.derivatives.interface cimport (
    LOGARITHM, PROBABILITY, SCRATCH, TOTAL, Slope, Slopes,
)
from fastent.backends.cython.kernels.interface cimport BadRow
from fastent.backends.cython.levels cimport GRADIENT, SOFTMAX, Module, functions
from fastent.backends.cython.tiles.operand cimport (
    BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Operand, View, in_place, load_doubles, load_labels, load_rows, operand,
)
from fastent.backends.cython.threads cimport pass_on, run_parallel

cnp.import_array()

cdef enum:
    TILE = 1 << 12                      # numbers a tile, about
    SMALL = 1 << 14                     # numbers that one thread does faster than several
    MARGIN = 64                         # sums read past the end of a row

WANTED = {"softmax": PROBABILITY, "log_softmax": LOGARITHM, "logsumexp": TOTAL}

cdef struct Loop:
    Slope slope
    Slopes tile                         # what all tiles share
    View *logits
    View *target                        # NULL for labels
    View *terms                         # NULL if they are class weights, or none
    bint by_row                         # the result is one number a row
    bint ready                          # logits are read where they are
    Py_ssize_t rows, tile_rows, itemsize
    char *arena
    Py_ssize_t arena_size               # of a worker
    BadRow *bad                         # what each worker found wrong


cdef void body(void *context, Py_ssize_t index, int worker) noexcept nogil:
    cdef Loop *loop = <Loop *>context
    cdef Slopes tile = loop.tile
    cdef Py_ssize_t start = index * loop.tile_rows, at = start * tile.classes
    cdef double *free_room = <double *>(loop.arena + worker * loop.arena_size)
    tile.rows = min(loop.tile_rows, loop.rows - start)
    tile.scratch = free_room
    free_room += SCRATCH * tile.room
    if loop.ready:
        tile.x = <const char *>tile.x + at * loop.itemsize
    else:
        tile.x = free_room
        load_rows(loop.logits, start, tile.rows, FLOAT32 if tile.single else FLOAT64, free_room)
    free_room += tile.room
    tile.gradient = <char *>tile.gradient + (start if loop.by_row else at) * loop.itemsize
    if tile.hessian != NULL:
        tile.hessian = <char *>tile.hessian + at * loop.itemsize
    if tile.labels != NULL:
        tile.labels += start
    if tile.weight != NULL:
        tile.weight += start
    if loop.target != NULL:
        load_doubles(loop.target, start, tile.rows, free_room)
        tile.target = free_room
        free_room += tile.room
    if loop.terms != NULL:
        load_doubles(loop.terms, start, tile.rows, free_room)
        tile.terms = free_room
    tile.bad.row = -1
    loop.slope(&tile)
    if tile.bad.row >= 0 and loop.bad[worker].row < 0:
        tile.bad.row += start
        loop.bad[worker] = tile.bad


cdef void begin(Loop *loop, Module module, Operand x, cnp.ndarray out):
    """A loop over the rows of logits whose results go to `out`."""
    memset(loop, 0, sizeof(Loop))
    loop.slope = (<Slope *>functions[<int>module])[0]
    loop.logits = &x.view
    loop.rows = x.rows
    loop.tile.classes = x.classes
    loop.tile.single = out.dtype == np.float32
    loop.itemsize = 4 if loop.tile.single else 8
    loop.ready = in_place(loop.logits, FLOAT32 if loop.tile.single else FLOAT64)
    loop.tile.x = x.view.data
    loop.tile.gradient = cnp.PyArray_DATA(out)


cdef object run_loop(Loop *loop, int threads, int operands):
    """All tiles, with scratch memory for so many operands; (row, code, number) of the first bad row, or None."""
    cdef Py_ssize_t classes = loop.tile.classes, count
    cdef int k
    cdef bint interrupted
    cdef FloatMode mode
    loop.tile_rows = max(<Py_ssize_t>1, TILE // classes)
    loop.tile.room = (min(loop.tile_rows, loop.rows) * classes + MARGIN + 7) & ~<Py_ssize_t>7
    loop.arena_size = (SCRATCH + operands) * loop.tile.room * sizeof(double)
    count = (loop.rows + loop.tile_rows - 1) // loop.tile_rows
    threads = <int>max(1, min(threads, loop.rows * classes // SMALL, count))
    loop.arena = <char *>calloc(threads, loop.arena_size)
    loop.bad = <BadRow *>calloc(threads, sizeof(BadRow))
    if loop.arena == NULL or loop.bad == NULL:
        free(loop.arena)
        free(loop.bad)
        raise MemoryError("fastent: no memory for the scratch buffers")
    for k in range(threads):
        loop.bad[k].row = -1
    with nogil:
        mode = enter_default_mode()
        interrupted = run_parallel(body, loop, count, threads, True)
        restore_mode(mode)
    found = [(loop.bad[k].row, loop.bad[k].code, loop.bad[k].number) for k in range(threads) if loop.bad[k].row >= 0]
    free(loop.arena)
    free(loop.bad)
    if interrupted:
        pass_on()
    return min(found, default=None)


def derive(bint several, logits, target, cnp.ndarray labels, cnp.ndarray weight, terms, double smoothing,
           double tolerance, int curvature, cnp.ndarray gradient, cnp.ndarray hessian, int threads, bint only_check):
    """Write the derivatives; (row, code, number) of the first bad row, or None.

    `gradient` and `hessian` are C-contiguous float32 or float64; `labels` int64 and `weight` float64
    of one number a row, or None; `terms` float64 of the shape of the logits or of one row.
    """
    cdef Loop loop
    cdef Operand x, t, w
    axis = -1 if several else None
    x = operand(logits, "logits", axis)
    begin(&loop, GRADIENT, x, gradient)
    loop.tile.by_number = not several
    if hessian is not None:
        loop.tile.hessian = cnp.PyArray_DATA(hessian)
    loop.tile.curvature = curvature
    if target is not None:
        t = operand(target, "target", axis)
        loop.target = &t.view
    if labels is not None:
        loop.tile.labels = <const int64_t *>cnp.PyArray_DATA(labels)
    if weight is not None:
        loop.tile.weight = <const double *>cnp.PyArray_DATA(weight)
    if terms is not None:
        w = operand(terms, "sample_weight", axis)
        if w.rows == 1:
            loop.tile.terms = <const double *>w.view.data
        else:
            loop.terms = &w.view
            loop.tile.terms_stride = x.classes
    loop.tile.smoothing = smoothing
    loop.tile.tolerance = tolerance
    loop.tile.only_check = only_check
    return run_loop(&loop, threads, 3)


def softmax(str name, x, cnp.ndarray out, int threads, top=None, double rest=0):
    """Softmax, its logarithm or log Σ e^x of rows of logits, into C-contiguous `out`.

    With `top` x are numbers of one long row, which has that maximum: the scale of their softmax, or
    what its logarithm is less by, is `rest`.
    """
    cdef Loop loop
    cdef Operand given = operand(x, "x", -1 if top is None else None)
    begin(&loop, SOFTMAX, given, out)
    loop.tile.by_number = top is not None
    loop.tile.wanted = WANTED[name]
    loop.by_row = loop.tile.wanted == TOTAL
    if top is not None:
        loop.tile.top = top
        loop.tile.rest = rest
    run_loop(&loop, threads, 1)


def is_narrow(logits, target):
    """Whether an operand holds 16-bit floats."""
    cdef Operand x = operand(logits, "logits", None), t = operand(target, "target", None)
    return x.view.stored in (FLOAT16, BFLOAT16) or t.view.stored in (FLOAT16, BFLOAT16)


def as_array(given, str name):
    """What NumPy sees of an argument, and whether that is a bfloat16 in disguise."""
    cdef Operand op = operand(given, name, None)
    return op.array, op.view.stored == BFLOAT16 and op.array.dtype.kind == "i"


def whole_numbers(given, str name):
    """An int64 array of the numbers, each of them read once, and the first that is none, or −1."""
    cdef Operand op = operand(given, name, None)
    cdef cnp.ndarray out = np.zeros(op.lead, np.int64)
    cdef int64_t *into = <int64_t *>cnp.PyArray_DATA(out)
    cdef Py_ssize_t fraction
    with nogil:
        fraction = load_labels(&op.view, 0, op.rows, into)
    return out, fraction
