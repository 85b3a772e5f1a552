"""A settled call runs: row values of any range of rows, or their exact sums, by any backend."""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from contextlib import suppress
from functools import partial
from threading import Lock

import numpy as np

from fastent import _errors, _settings
from fastent._outputs import check_out, direct
from fastent._shapes import full_shape
from fastent.backends.sharing import share
from fastent.backends.cython.accumulate.exact_sum cimport (
    ExactSum, exact_add, exact_add_floats, exact_add_one, exact_clear, exact_merge, exact_round,
)
from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode
from fastent.backends.cython.kernels.interface cimport BadRow
from fastent.backends.cython.threads cimport pass_on
from fastent.backends.cython.tiles.operand cimport FLOAT32, WHOLE, Operand, load_doubles, load_labels, load_rows
from fastent.backends.cython.tiles.loop cimport (
    LABELS, Plan, add_weights, finish_columns, load_rows_info, load_term_rows, run_plan,
)

cnp.import_array()

cdef enum:
    # Blocks of the other backends, in numbers: a block costs 20 µs of Python.
    COMPILED = 1 << 17                  # that are worth a thread
    EVEN = 1 << 20                      # that a block has at least, where smaller ones even out
    COPIED = 1 << 18                    # of rows that must be copied first: they stay in cache
    SUMMED = 1 << 17                    # rows whose values wait to be summed


cdef cnp.ndarray empty(tuple shape):
    """`np.empty` without looking it up: a fifteenth of a small call."""
    cdef cnp.npy_intp sizes[64]         # as many axes as there may be
    cdef int k, axes = <int>len(shape)
    for k in range(axes):
        sizes[k] = shape[k]
    return cnp.PyArray_EMPTY(axes, sizes, cnp.NPY_DOUBLE, 0)


cdef inline void *data_of(cnp.ndarray array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(array)


cdef class Call:
    """The row values of one call, settled by `engine.prepare`."""

    @property
    def lead(self):
        """The leading shape: one row each."""
        return self.pred_operand.lead

    @property
    def tile_rows(self):
        """How many rows the kernels see at once."""
        return self.plan.tile_rows

    def of_pairs(self, first, second):
        """Name rows in messages as those of p and of q, which begin with these, not as pairs."""
        self.names = ("p", "q")
        self.pair_starts = (first, second)

    def judge_like(self, Call other):
        """Take row sums for 1 where that call does: rows of it may come in a wider dtype."""
        self.sum_tolerance = other.sum_tolerance
        if self.row_sums == "check":
            self.plan.tile.tolerance = self.sum_tolerance

    def values(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t more=0):
        """Unweighted row values of rows [start, stop): float64, one line a column, and so many `more` to
        be filled."""
        out = empty((len(self.columns) + more, stop - start))
        fill(self, start, stop, out, False)
        return out

    def pred_rows(self, Py_ssize_t start, Py_ssize_t stop):
        """Rows [start, stop) of the prediction: contiguous, float32 or float64, to be read only."""
        return rows_as_array(self, self.pred_operand, self.plan.pred_in_place, start, stop)

    def weights(self, Py_ssize_t start, Py_ssize_t stop):
        """Row weights, 0 for ignored rows; None where every row counts 1."""
        cdef cnp.ndarray out
        if not self.weighted:
            return None
        out = np.ones(stop - start)
        if self.weight_operand is not None:
            load_doubles(&self.weight_operand.view, start, stop - start, <double *>cnp.PyArray_DATA(out))
        if self.plan.ignores:
            out[self.labels(start, stop) < 0] = 0.0
        return out

    def labels(self, Py_ssize_t start, Py_ssize_t stop):
        """Labels as int64 with −1 for ignored rows; the targets of a binary call."""
        cdef cnp.ndarray out
        if self.label_operand is None:
            out = np.empty(stop - start)
            load_doubles(&self.true_operand.view, start, stop - start, <double *>cnp.PyArray_DATA(out))
            return out
        out = np.empty(stop - start, np.int64)
        load_labels(&self.label_operand.view, start, stop - start, <int64_t *>cnp.PyArray_DATA(out))
        if self.plan.ignores:
            out[np.equal(out, self.plan.ignored)] = -1
        return out

    def predictions(self, Py_ssize_t start, Py_ssize_t stop):
        """Rows [start, stop) of the prediction as float64 probabilities, each with its sum 1, unless they
        are taken as they are."""
        cdef cnp.ndarray rows = np.array(self.pred_rows(start, stop), np.float64)
        if self.kind_pred == "logits" or (self.kind_pred == "logprobs" and self.row_sums != "as_is"):
            if self.kind_pred == "logits" and self.temperature != 1:
                rows /= self.temperature
            from fastent.backends.cython.derivatives.loop import softmax    # which imports this layer

            softmax("softmax", rows, rows, self.num_threads)
            return rows
        if self.kind_pred == "logprobs":
            return np.exp(rows)
        return rows if self.row_sums == "as_is" else rows / rows.sum(axis=-1, keepdims=True)

    def _fill_rows(self, lines, Py_ssize_t start, Py_ssize_t first, Py_ssize_t last):
        """Row values of one block, to its columns in `lines`, which begin at row `start`."""
        fill_block(self, lines[:, first - start : last - start], first, NULL)

    def _add_rows(self, lock, Py_ssize_t first, Py_ssize_t last):
        """Add the weighted values and the weights of one block."""
        cdef ExactSum[2] here
        cdef bint narrow = (                            # another rounding would come after
            self.backend == "numba" and self.rows_module is None and self.plan.stored == FLOAT32
            and not self.weighted and self.plan.scale[0] == 1
            and _settings.backend_module(self.backend).narrow_values(self))
        exact_clear(&here[0])
        exact_clear(&here[1])
        fill_block(self, np.empty((len(self.columns), last - first), np.float32 if narrow else np.float64), first, here)
        with lock:
            exact_merge(&self.plan.sums[0], &here[0])
            exact_merge(&self.plan.sums[1], &here[1])

    cdef tuple shape(self, object length):
        """Of the operands after broadcasting, with this length of the class axis."""
        lead = self.pred_operand.lead
        if self.axis is None:
            return lead
        if self.axis is WHOLE:
            whole = np.shape(self.pred_operand.array)
            return whole if length != 1 else full_shape(lead, 1, None, len(whole))
        return full_shape(lead, length, self.axis, 0)

    def reduce(self, reduction, out, keepdims=False):
        """What a public function returns: row values of the first column, their sum or mean."""
        cdef cnp.ndarray room
        if type(reduction) is not str:
            reduction = _errors.as_reduction(reduction)
        if keepdims is not False:
            keepdims = _errors.as_keepdims(keepdims, reduction)
        if reduction == "none":
            shape = self.shape(1) if keepdims else self.pred_operand.lead
            if out is None:
                room = empty(shape)
            else:
                check_out(out, shape)
                room = out if direct(out, inputs(self)) else np.empty(shape)
            fill(self, 0, self.rows, room.reshape(1, -1) if self.backend != "cython" else room, True)
            if out is not None:
                if out is not room:
                    out[...] = room
                return out
            return room if len(shape) else room[()]
        if reduction != "sum" and reduction != "mean":
            _errors.as_reduction(reduction)             # refused
        total, weight = totals(self)
        value = total
        if reduction == "mean":
            value = total / weight if weight != 0 else float("nan")
        if out is None:
            return np.float64(value)
        check_out(out, ())[...] = value
        return out


cdef object fill(Call self, Py_ssize_t start, Py_ssize_t stop, cnp.ndarray out, bint multiply):
    """Row values into `out`, (columns, rows), perhaps with more lines; C-contiguous float64."""
    self.plan.multiply = multiply
    if self.backend != "cython":
        share_blocks(self, partial(self._fill_rows, out[:len(self.columns)], start), start, stop, stop - start)
        return
    self.plan.out = <double *>cnp.PyArray_DATA(out)
    self.plan.out_stride = stop - start
    self.plan.sums = NULL
    run(self, start, stop)


cdef object run(Call self, Py_ssize_t start, Py_ssize_t stop):
    cdef Plan *plan = &self.plan
    cdef Py_ssize_t numbers = (stop - start) * plan.classes
    cdef FloatMode mode
    plan.start = start
    plan.stop = stop
    plan.threads = self.num_threads
    if numbers < 2 * SMALL or plan.threads > numbers // SMALL:
        plan.threads = <int>max(1, numbers // SMALL)
    plan.spread = plan.threads > 1 and stop - start < 2 * self.num_threads and plan.classes >= LONG_ROW
    with nogil:
        mode = enter_default_mode()
        run_plan(plan)
        restore_mode(mode)
    if plan.interrupted:
        pass_on()
    if plan.no_memory:
        raise MemoryError("fastent: no memory for the scratch buffers")
    if plan.bad.row >= 0:
        raise error_of(self, plan.bad.code, plan.bad.operand, plan.bad.row, plan.bad.number)


cdef object error_of(Call self, int code, int which, Py_ssize_t row, double number):
    lead = self.pred_operand.lead
    index = row
    if len(lead) != 1:
        index = tuple(int(i) for i in np.unravel_index(row, lead)) if lead else ()
    if self.pair_starts is not None:
        index = int(index[which]) + self.pair_starts[which]
    name = ("labels", "sample_weight")[which - 2] if which > 1 else self.names[which]
    found = number
    if which == LABELS:                                 # as it was given: a double is too short for some
        found = np.asarray(self.label_operand.array)[index].item()
    tolerance = self.sum_tolerance if self.row_sums == "check" else -1.0
    kind = self.kind_pred if which else self.kind_true
    padded = False
    if code == _errors.ROW_SUM and kind == "logprobs" and number < 1:
        rows = rows_as_array(self, self.pred_operand if which else self.true_operand, False, row, row + 1)
        padded = bool(np.isneginf(rows).any())
    return _errors.bad_row(code, name, index, found, kind=kind, classes=self.classes, tolerance=tolerance, padded=padded)


cdef tuple totals(Call self):
    """(Σ fl(w·v), Σ W) of the first column, each correctly rounded."""
    cdef bint compiled = self.backend == "cython"
    cdef int k, workers = self.num_threads if compiled else 1
    cdef ExactSum *sums = <ExactSum *>calloc(2 * workers, sizeof(ExactSum))
    if sums == NULL:
        raise MemoryError("fastent: no memory for the exact sums")
    self.plan.out = NULL
    self.plan.multiply = True
    self.plan.sums = sums
    try:
        for k in range(2 * workers):
            exact_clear(&sums[k])
        if compiled:
            run(self, 0, self.rows)
        else:
            share_blocks(self, partial(self._add_rows, Lock()), 0, self.rows, SUMMED)
        for k in range(1, workers):
            exact_merge(&sums[0], &sums[2 * k])
            exact_merge(&sums[1], &sums[2 * k + 1])
        return exact_round(&sums[0]), exact_round(&sums[1])
    finally:
        free(sums)


cdef list inputs(Call self):
    """The arrays that are read."""
    cdef Operand op
    found = [] if self.weights_of_classes is None else [self.weights_of_classes]
    for op in (self.true_operand, self.pred_operand, self.label_operand, self.weight_operand, self.term_operand):
        if op is not None:
            found.append(op.array)
    return found


# --- other backends -------------------------------------------------------------------------------

cdef object rows_as_array(Call self, Operand op, bint ready, Py_ssize_t start, Py_ssize_t stop):
    """Rows [start, stop) as a contiguous float32 or float64 array, in place if they are one, else
    in memory of `spare` if there is some: fresh memory costs 0.3 ns a number."""
    cdef cnp.ndarray out
    shape = [stop - start]
    if self.task != "binary":
        shape.append(self.classes)
    dtype = np.float32 if self.plan.stored == FLOAT32 else np.float64
    if ready and op.array.flags.c_contiguous:
        return op.array.reshape((op.rows, *shape[1:]))[start:stop]
    size = (stop - start) * self.plan.classes
    flat = None
    if self.spare:
        with suppress(IndexError):                      # another thread was faster
            flat = self.spare.pop()
    if flat is None or flat.size < size:
        flat = np.empty(size, dtype)
    out = flat[:size].reshape(shape)
    cdef char *room = <char *>cnp.PyArray_DATA(out)
    cdef Py_ssize_t n, row_size = self.plan.classes * dtype().itemsize
    with nogil:                                         # by tiles, as the loaders ask for the next one
        while start < stop:
            n = min(self.plan.tile_rows, stop - start)
            load_rows(&op.view, start, n, self.plan.stored, room)
            start += n
            room += n * row_size
    return out


cdef object share_blocks(Call self, body, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t step):
    """Call body(first, last) for blocks of at most `step` rows: compiled row values are shared among
    threads, and rows that must be copied first should stay in cache."""
    cdef Py_ssize_t rows = stop - start, classes = max(<Py_ssize_t>1, self.plan.classes)
    cdef int threads = 1
    if self.backend == "numba":
        threads = <int>min(<Py_ssize_t>self.num_threads, max(<Py_ssize_t>1, rows * classes // COMPILED))
        step = min(step, (rows + threads - 1) // threads, max(EVEN // classes, rows // (4 * threads)))
    if not (self.plan.pred_in_place and (self.true_operand is None or self.plan.true_in_place)
            and self.term_operand is None):
        step = min(step, COPIED // classes)
    share(body, start, stop, max(<Py_ssize_t>1, step), threads)


cdef int fill_block(Call self, cnp.ndarray block, Py_ssize_t first, ExactSum *sums) except -1:
    """Values of the rows from `first` on by a backend's row_values, and what they add to the sums."""
    cdef Plan *plan = &self.plan
    cdef Py_ssize_t n = block.shape[1]
    cdef cnp.ndarray room, labels = None, weights = None, terms = None
    cdef int64_t *label
    cdef double *weight
    cdef double *values
    cdef BadRow bad
    cdef bint labelled, narrow = cnp.PyArray_TYPE(block) == cnp.NPY_FLOAT32
    module = self.rows_module or _settings.backend_module(self.backend)
    if plan.labels != NULL or plan.weights != NULL:
        labels = np.empty(n, np.int64)
    if plan.weights != NULL:
        weights = np.empty(n)
    if plan.terms != NULL:
        terms = np.empty((n, self.classes))
    label, weight, values = <int64_t *>data_of(labels), <double *>data_of(weights), <double *>data_of(terms)
    with nogil:
        labelled = load_rows_info(plan, first, n, label, weight, &bad)
        if plan.terms != NULL:
            load_term_rows(plan, first, n if bad.row < 0 else bad.row, values, &bad)
    if not labelled:
        labels, label = None, NULL
    if bad.row >= 0:                                    # rows before it may be bad too
        n = bad.row
        labels, terms = (x if x is None else x[:n] for x in (labels, terms))
        block = block[:, :n]
    true = None
    if self.true_operand is not None:
        true = rows_as_array(self, self.true_operand, plan.true_in_place, first, first + n)
    pred = rows_as_array(self, self.pred_operand, plan.pred_in_place, first, first + n)
    room = block if block.flags.c_contiguous else np.empty((len(self.columns), n))
    with np.errstate(all="ignore"):                     # inf and 0·inf are values here
        found = module.row_values(self, true, pred, labels, room, terms=terms)
    if true is not None and not plan.true_in_place:
        self.spare.append(true.reshape(-1))
    if not plan.pred_in_place:
        self.spare.append(pred.reshape(-1))
    if found is not None:
        row, code, number, which = found
        raise error_of(self, _errors.CODES[code], which == "pred", first + row, number)
    if bad.row >= 0:
        raise error_of(self, bad.code, bad.operand, first + bad.row, bad.number)
    values = <double *>cnp.PyArray_DATA(room)
    with nogil:
        if not narrow:
            finish_columns(plan, n, label, weight, values, n)
        if sums != NULL:
            if narrow:
                exact_add_floats(&sums[0], <float *>values, n)
            else:
                exact_add(&sums[0], values, n)
            add_weights(plan, n, label, weight, values, n, &sums[1])
    if room is not block:
        block[...] = room
    return 0
