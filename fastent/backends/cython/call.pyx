"""A settled call runs: row values of any range of rows, or their exact sums, by any backend."""

cimport numpy as cnp
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

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
from fastent.backends.cython.threads cimport pass_on
from fastent.backends.cython.tiles.operand cimport FLOAT32, WHOLE, Operand, load_doubles, load_labels, load_rows
from fastent.backends.cython.tiles.loop cimport Plan, run_plan

cnp.import_array()

cdef enum:
    # Blocks of the other backends, in numbers: a block costs 20 µs of Python.
    COMPILED = 1 << 17                  # that are worth a thread
    EVEN = 1 << 20                      # that a block has at least, where smaller ones even out
    COPIED = 1 << 18                    # of rows that must be copied first: they stay in cache
    SUMMED = 1 << 17                    # rows whose values wait to be summed


def softmax(rows, threads):
    """Of float64 rows, in place."""
    from fastent.backends.cython.derivatives import loop  # which imports this layer

    loop.softmax("softmax", rows, rows, threads)
    return rows


cdef cnp.ndarray empty(tuple shape):
    """`np.empty` without looking it up: a fifteenth of a small call."""
    cdef cnp.npy_intp sizes[64]         # as many axes as there may be
    cdef int k, axes = <int>len(shape)
    for k in range(axes):
        sizes[k] = shape[k]
    return cnp.PyArray_EMPTY(axes, sizes, cnp.NPY_DOUBLE, 0)


cdef class TwoSums:
    """Σ fl(w·v) and Σ W of some rows."""

    def __cinit__(self):
        exact_clear(&self.of[0])
        exact_clear(&self.of[1])


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
            self.plan.tolerance = self.sum_tolerance

    def values(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t more=0):
        """Unweighted row values of rows [start, stop): float64, one line a column, and so many `more` to
        be filled."""
        out = empty((len(self.columns) + more, stop - start))
        self.fill(start, stop, out, False)
        return out

    def pred_rows(self, Py_ssize_t start, Py_ssize_t stop):
        """Rows [start, stop) of the prediction: contiguous, float32 or float64, to be read only."""
        return self.rows_as_array(self.pred_operand, self.plan.pred_in_place, start, stop)

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
        load_labels(&self.label_operand.view, start, stop - start, <cnp.int64_t *>cnp.PyArray_DATA(out))
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
            return softmax(rows, self.num_threads)
        if self.kind_pred == "logprobs":
            return np.exp(rows)
        return rows if self.row_sums == "as_is" else rows / rows.sum(axis=-1, keepdims=True)

    cdef object fill(self, Py_ssize_t start, Py_ssize_t stop, cnp.ndarray out, bint multiply):
        """Row values into `out`, (columns, rows), perhaps with more lines, or (rows,), C-contiguous float64."""
        if self.backend != "cython":
            self.fill_by_module(start, stop, out[:len(self.columns)] if out.ndim == 2 else out, multiply)
            return None
        self.plan.out = <double *>cnp.PyArray_DATA(out)
        self.plan.out_stride = stop - start
        self.plan.multiply = multiply
        self.plan.sums = NULL
        self.run(start, stop)

    cdef object run(self, Py_ssize_t start, Py_ssize_t stop):
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
            raise self.error(plan.bad.code, plan.bad.operand, plan.bad.row, plan.bad.number)

    cdef object error(self, int code, int which, Py_ssize_t row, double number):
        lead = self.pred_operand.lead
        index = row
        if len(lead) != 1:
            index = tuple(int(i) for i in np.unravel_index(row, lead)) if lead else ()
        if self.pair_starts is not None:
            index = int(index[which]) + self.pair_starts[which]
        name = ("labels", "sample_weight")[which - 2] if which > 1 else self.names[which]
        found = number
        if which == 2:                                  # as it was given: a double is too short for some
            found = np.asarray(self.label_operand.array)[index].item()
        tolerance = self.sum_tolerance if self.row_sums == "check" else -1.0
        kind = self.kind_pred if which else self.kind_true
        padded = code == _errors.ROW_SUM and kind == "logprobs" and number < 1 and self.is_padded(which, row)
        return _errors.bad_row(code, name, index, found, kind=kind, classes=self.classes, tolerance=tolerance,
                               padded=padded)

    def is_padded(self, int which, Py_ssize_t row):
        """Whether a row of log-probabilities has numbers of −infinity."""
        rows = self.rows_as_array(self.pred_operand if which else self.true_operand, False, row, row + 1)
        return bool(np.isneginf(rows).any())

    # --- other backends ---------------------------------------------------------------------------

    cdef object rows_as_array(self, Operand op, bint ready, Py_ssize_t start, Py_ssize_t stop):
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
            with suppress(IndexError):                  # another thread was faster
                flat = self.spare.pop()
        if flat is None or flat.size < size:
            flat = np.empty(size, dtype)
        out = flat[:size].reshape(shape)
        cdef char *room = <char *>cnp.PyArray_DATA(out)
        cdef Py_ssize_t n, row_size = self.plan.classes * dtype().itemsize
        with nogil:                                     # by tiles, as the loaders ask for the next one
            while start < stop:
                n = min(self.plan.tile_rows, stop - start)
                load_rows(&op.view, start, n, self.plan.stored, room)
                start += n
                room += n * row_size
        return out

    cdef object checked_rows(self, Py_ssize_t start, Py_ssize_t stop):
        """(labels or None, weights or None, weights of terms or None, error or None) of a block's rows
        up to the first that is bad, whose error comes last; labels −1 skip a row."""
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t n = stop - start, classes = plan.classes, r = 0, fraction
        cdef cnp.ndarray room
        cdef cnp.int64_t *given
        cdef tuple where
        labels = error = None
        weights = self.weights(start, stop)
        terms = self.term_rows(start, stop)
        if self.label_operand is not None:
            labels = room = np.empty(n, np.int64)
            given = <cnp.int64_t *>cnp.PyArray_DATA(room)
            with nogil:
                fraction = load_labels(plan.labels, start, n, given)
                while r < n and r != fraction:
                    if plan.ignores and given[r] == plan.ignored:
                        given[r] = -1
                    elif given[r] < 0 or given[r] >= classes:
                        break
                    r += 1
            if r < n:
                error = self.error(_errors.FRACTION if r == fraction else _errors.LABEL, 2, start + r, 0)
                n = r
        for given_weights in (weights, terms):
            if given_weights is None:
                continue
            wrong = ~(given_weights[:n] >= 0)
            if wrong.any():
                where = np.unravel_index(wrong.argmax(), wrong.shape)
                n = where[0]
                error = self.error(_errors.WEIGHT, 3, start + n, given_weights[where])
        if weights is not None:
            if labels is None:
                labels = np.zeros(stop - start, np.int64)
            labels[weights == 0] = -1
        if terms is not None and self.plan.class_weight != NULL:
            terms *= np.frombuffer(self.weights_of_classes)
        return *(x if x is None else x[:n] for x in (labels, weights, terms)), error

    cdef object fill_by_module(self, Py_ssize_t start, Py_ssize_t stop, cnp.ndarray out, bint multiply):
        """The same by a backend's row_values."""
        cdef int threads
        cdef Py_ssize_t step = self.block_rows(stop - start, &threads)
        lines = out.reshape(len(self.columns), stop - start)
        share(partial(self._fill_rows, lines, start, multiply), start, stop, step, threads)

    cdef Py_ssize_t block_rows(self, Py_ssize_t rows, int *threads) except -1:
        """How many rows a block has: compiled row values are shared among threads, and rows that
        must be copied first should stay in cache."""
        cdef Py_ssize_t step = rows, classes = max(<Py_ssize_t>1, self.plan.classes)
        threads[0] = 1
        if self.backend == "numba":
            threads[0] = <int>min(<Py_ssize_t>self.num_threads, max(<Py_ssize_t>1, rows * classes // COMPILED))
            step = (rows + threads[0] - 1) // threads[0]
            step = min(step, max(EVEN // classes, rows // (4 * threads[0])))
        if not (self.plan.pred_in_place and (self.true_operand is None or self.plan.true_in_place)
                and self.term_operand is None):
            step = min(step, COPIED // classes)
        return max(<Py_ssize_t>1, step)

    def _fill_rows(self, lines, Py_ssize_t start, bint multiply, Py_ssize_t first, Py_ssize_t last):
        """Row values of one block, to its columns in `lines`, which begin at row `start`."""
        with np.errstate(all="ignore"):                 # inf and 0·inf are values here
            self.fill_block(lines, start, multiply, first, last)

    cdef int fill_block(self, lines, Py_ssize_t start, bint multiply, Py_ssize_t first, Py_ssize_t last) except -1:
        module = self.rows_module or _settings.backend_module(self.backend)
        labels, weights, terms, error = self.checked_rows(first, last)
        if error is not None:                           # rows before it may be bad too
            last = first + len(next(x for x in (labels, weights, terms) if x is not None))
        true = None
        if self.true_operand is not None:
            true = self.rows_as_array(self.true_operand, self.plan.true_in_place, first, last)
        pred = self.rows_as_array(self.pred_operand, self.plan.pred_in_place, first, last)
        block = lines[:, first - start : last - start]
        room = block if block.flags.c_contiguous else np.empty(block.shape)
        bad = module.row_values(self, true, pred, labels, room, terms=terms)
        if true is not None and not self.plan.true_in_place:
            self.spare.append(true.reshape(-1))
        if not self.plan.pred_in_place:
            self.spare.append(pred.reshape(-1))
        if bad is not None:
            row, code, number, which = bad
            raise self.error(_errors.CODES[code], which == "pred", first + row, number)
        if error is not None:
            raise error
        skipped = labels < 0 if labels is not None and (self.plan.ignores or weights is not None) else None
        for k in range(len(self.columns)):
            if self.plan.scale[k] != 1:
                room[k] /= self.plan.scale[k]
            if skipped is not None:
                room[k][skipped] = 0.0
            if multiply and weights is not None:
                room[k] *= weights                      # 0·inf is nan, as in the compiled loops
                room[k][weights == 0] = 0.0
        if room is not block:
            block[...] = room

    cdef object term_rows(self, Py_ssize_t start, Py_ssize_t stop):
        cdef cnp.ndarray out
        if self.term_operand is None:
            return None
        out = np.empty((stop - start, self.classes))
        load_doubles(&self.term_operand.view, start, stop - start, <double *>cnp.PyArray_DATA(out))
        return out

    # --- reductions -------------------------------------------------------------------------------

    cdef tuple totals(self):
        """(Σ fl(w·v), Σ W) of the first column, each correctly rounded."""
        cdef int k, workers = self.num_threads
        cdef ExactSum *sums
        cdef double first, second
        if self.backend != "cython":
            workers = 1
        sums = <ExactSum *>calloc(2 * workers, sizeof(ExactSum))
        if sums == NULL:
            raise MemoryError("fastent: no memory for the exact sums")
        try:
            for k in range(2 * workers):
                exact_clear(&sums[k])
            if self.backend == "cython":
                self.plan.out = NULL
                self.plan.multiply = True
                self.plan.sums = sums
                self.run(0, self.rows)
                for k in range(1, workers):
                    exact_merge(&sums[0], &sums[2 * k])
                    exact_merge(&sums[1], &sums[2 * k + 1])
            else:
                self.total_by_module(sums)
            first = exact_round(&sums[0])
            second = exact_round(&sums[1])
        finally:
            free(sums)
        return first, second

    cdef object total_by_module(self, ExactSum *sums):
        """The same by a backend's row_values."""
        cdef int threads
        cdef Py_ssize_t step = min(<Py_ssize_t>SUMMED, self.block_rows(self.rows, &threads))
        cdef TwoSums totals = TwoSums.__new__(TwoSums)
        share(partial(self._add_rows, totals, Lock()), 0, self.rows, step, threads)
        memcpy(sums, totals.of, sizeof(totals.of))

    cdef bint narrow_values(self) except -1:
        """Whether the row values may be written as floats, without another rounding after."""
        if self.backend != "numba" or self.rows_module is not None or self.plan.stored != FLOAT32:
            return False
        if self.weighted or self.plan.scale[0] != 1:
            return False
        return _settings.backend_module(self.backend).narrow_values(self)

    def _add_rows(self, TwoSums totals, lock, Py_ssize_t start, Py_ssize_t stop):
        """Add the weighted values and the weights of one block."""
        cdef Py_ssize_t n = stop - start
        cdef bint narrow = self.narrow_values()
        cdef cnp.ndarray w = None
        cdef cnp.ndarray block = np.empty((len(self.columns), n), np.float32 if narrow else np.float64)
        cdef const double *values = <const double *>cnp.PyArray_DATA(block)
        cdef const double *weights = NULL
        cdef TwoSums here = TwoSums.__new__(TwoSums)
        self._fill_rows(block, start, True, start, stop)
        if len(self.columns) > 1:
            weights = values + n
        elif self.weighted:
            w = self.weights(start, stop)
            weights = <const double *>cnp.PyArray_DATA(w)
        with nogil:
            if narrow:
                exact_add_floats(&here.of[0], <const float *>values, n)
            else:
                exact_add(&here.of[0], values, n)
            if weights != NULL:
                exact_add(&here.of[1], weights, n)
            else:
                exact_add_one(&here.of[1], <double>n)
        with lock:
            exact_merge(&totals.of[0], &here.of[0])
            exact_merge(&totals.of[1], &here.of[1])

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
                room = out if direct(out, self.inputs()) else np.empty(shape)
            self.fill(0, self.rows, room.reshape(1, -1) if self.backend != "cython" else room, True)
            if out is not None:
                if out is not room:
                    out[...] = room
                return out
            return room if len(shape) else room[()]
        if reduction != "sum" and reduction != "mean":
            _errors.as_reduction(reduction)             # refused
        total, weight = self.totals()
        value = total
        if reduction == "mean":
            value = total / weight if weight != 0 else float("nan")
        if out is None:
            return np.float64(value)
        check_out(out, ())[...] = value
        return out

    cdef list inputs(self):
        """The arrays that are read."""
        cdef Operand op
        found = [] if self.weights_of_classes is None else [self.weights_of_classes]
        for op in (self.true_operand, self.pred_operand, self.label_operand, self.weight_operand, self.term_operand):
            if op is not None:
                found.append(op.array)
        return found
