"""From arguments to row values: one path for functions, accumulators and the command line.

`prepare` settles the operands and options of a call once; the Call then computes row values for any
range of rows, or their exact sums, on the backend asked for.
"""

cimport numpy as cnp
from libc.math cimport isfinite, log
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from functools import partial
from threading import Lock

import numpy as np

from fastent import errors, settings
from fastent.backends.sharing import share
from fastent.backends.cython import levels
from fastent.backends.cython.exact cimport (
    ExactSum, exact_add, exact_add_one, exact_clear, exact_merge, exact_round,
)
from fastent.backends.cython.kernels cimport CHUNK, LOGITS, LOGPROBS, PROBS, Kernel
from fastent.backends.cython.levels cimport (
    BERNOULLI, DIVERGENCE, GENERAL, LOGIT_DIVERGENCE, LOGIT_ROWS, PROBABILITIES, kernels,
)
from fastent.backends.cython.operand cimport (
    BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Operand, View, in_place, lies_across, load_doubles,
    load_floats, load_labels, operand,
)
from fastent.backends.cython.tiles cimport (
    BOTH, MOST_SLOTS, MOST_STEPS, PRED_ONLY, SWAPPED, TRUE_AS_PRED, Plan, Step, run_plan,
)

cnp.import_array()

CHECK = "check"
KINDS = {"probs": PROBS, "logprobs": LOGPROBS, "logits": LOGITS}
NAMES = {
    "sparse": ("labels", "pred"),
    "categorical": ("target", "pred"),
    "binary": ("target", "pred"),
    "divergence": ("p", "q"),
    "entropy": (None, "p"),
}
COLUMNS = {
    "sparse": ("cross_entropy", "accuracy", "rank", "brier", "entropy", "confidence", "target_weight"),
    "categorical": ("cross_entropy", "kl_divergence", "entropy", "target_entropy", "brier", "accuracy",
                    "target_weight"),
    "binary": ("cross_entropy", "accuracy", "brier", "entropy", "probability"),
    "divergence": ("kl_divergence", "reverse_kl", "js_divergence", "cross_entropy", "entropy_p",
                   "entropy_q", "total_variation", "hellinger", "top1_agreement"),
    "entropy": ("entropy",),
}
# what `base` applies to
IN_NATS = frozenset(("cross_entropy", "kl_divergence", "reverse_kl", "js_divergence", "entropy",
                     "target_entropy", "entropy_p", "entropy_q"))

cdef enum:
    SMALL = 1 << 15                     # numbers that one thread does faster than several
    TILE = 1 << 14                      # numbers a tile, about
    LONG_ROW = 1 << 16                  # classes from which a row is shared among threads
    LINE = 16                           # numbers in a cache line, at most
    MOST_TILES = 1 << 21                # numbers in the tiles of all threads: 16 MB of doubles
    # Blocks of the other backends, in numbers: a block costs 50 µs of Python.
    COMPILED = 1 << 17                  # that are worth a thread
    COPIED = 1 << 19                    # of rows that must be copied first: they stay in cache
    SUMMED = 1 << 18                    # rows whose values wait to be summed


cdef class TwoSums:
    """Σ fl(w·v) and Σ W of some rows."""

    cdef ExactSum of[2]

    def __cinit__(self):
        exact_clear(&self.of[0])
        exact_clear(&self.of[1])


cdef class Call:
    """The row values of one call; see `prepare`."""

    cdef Plan plan
    cdef Operand true_operand, pred_operand, label_operand, weight_operand, term_operand
    cdef readonly str task, row_sums, backend, kind_true, kind_pred
    cdef readonly tuple columns, names
    cdef readonly double eps, temperature, label_smoothing, sum_tolerance
    cdef readonly object class_weight
    cdef readonly int num_threads
    cdef readonly Py_ssize_t rows, classes
    cdef readonly bint weighted
    cdef double unit                    # ln(base)

    def values(self, Py_ssize_t start, Py_ssize_t stop):
        """Unweighted row values of rows [start, stop): float64, one line a column."""
        out = np.empty((len(self.columns), stop - start))
        self.fill(start, stop, out, False)
        return out

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

    cdef object fill(self, Py_ssize_t start, Py_ssize_t stop, cnp.ndarray out, bint multiply):
        """Row values into `out`, (columns, rows) or (rows,), C-contiguous float64."""
        if self.backend != "cython":
            self.fill_by_module(start, stop, out, multiply)
            return None
        self.plan.out = <double *>cnp.PyArray_DATA(out)
        self.plan.out_stride = stop - start
        self.plan.multiply = multiply
        self.plan.sums = NULL
        self.run(start, stop)

    cdef object run(self, Py_ssize_t start, Py_ssize_t stop):
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t numbers = (stop - start) * plan.classes
        plan.start = start
        plan.stop = stop
        plan.threads = self.num_threads
        if numbers < 2 * SMALL or plan.threads > numbers // SMALL:
            plan.threads = <int>max(1, numbers // SMALL)
        plan.spread = plan.threads > 1 and stop - start < 2 * self.num_threads and plan.classes >= LONG_ROW
        with nogil:
            run_plan(plan)
        if plan.no_memory:
            raise MemoryError("fastent: no memory for the scratch buffers")
        if plan.bad.row >= 0:
            raise self.error(plan.bad.code, plan.bad.operand, plan.bad.row, plan.bad.number)

    cdef object error(self, int code, int which, Py_ssize_t row, double number):
        lead = self.pred_operand.lead
        index = row
        if len(lead) != 1:
            index = tuple(int(i) for i in np.unravel_index(row, lead)) if lead else ()
        name = ("labels", "sample_weight")[which - 2] if which > 1 else self.names[which]
        found = number
        if which == 2:                                  # as it was given: a double is too short for some
            found = np.asarray(self.label_operand.array)[index].item()
        tolerance = self.sum_tolerance if self.row_sums == "check" else -1.0
        kind = self.kind_pred if which else self.kind_true
        return errors.bad_row(code, name, index, found, kind=kind, classes=self.classes, tolerance=tolerance)

    # --- other backends ---------------------------------------------------------------------------

    cdef object rows_as_array(self, Operand op, bint ready, Py_ssize_t start, Py_ssize_t stop):
        """Rows [start, stop) as a contiguous float32 or float64 array, in place if they are one."""
        cdef cnp.ndarray out
        shape = [stop - start]
        if self.task != "binary":
            shape.append(self.classes)
        dtype = np.float32 if self.plan.stored == FLOAT32 else np.float64
        if ready and op.array.flags.c_contiguous:
            return op.array.reshape((op.rows, *shape[1:]))[start:stop]
        out = np.empty(shape, dtype)
        cdef void *room = cnp.PyArray_DATA(out)
        with nogil:
            if self.plan.stored == FLOAT32:
                load_floats(&op.view, start, stop - start, <float *>room)
            else:
                load_doubles(&op.view, start, stop - start, <double *>room)
        return out

    cdef object checked_rows(self, Py_ssize_t start, Py_ssize_t stop):
        """(labels or None, weights or None) of a block; labels −1 skip a row."""
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t n = stop - start, classes = plan.classes, r = 0, fraction
        cdef cnp.ndarray room
        cdef cnp.int64_t *given
        labels = None
        weights = self.weights(start, stop)
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
                raise self.error(errors.FRACTION if r == fraction else errors.LABEL, 2, start + r, 0)
        if weights is not None:
            wrong = ~(weights >= 0)
            if wrong.any():
                row = int(wrong.argmax())
                raise self.error(errors.WEIGHT, 3, start + row, weights[row])
            if labels is None:
                labels = np.zeros(stop - start, np.int64)
            labels[weights == 0] = -1
        return labels, weights

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
        if not (self.plan.pred_in_place and (self.true_operand is None or self.plan.true_in_place)
                and self.term_operand is None):
            step = min(step, COPIED // classes)
        return max(<Py_ssize_t>1, step)

    def _fill_rows(self, lines, Py_ssize_t start, bint multiply, Py_ssize_t first, Py_ssize_t last):
        """Row values of one block, to its columns in `lines`, which begin at row `start`."""
        module = self.rows_module or settings.backend_module(self.backend)
        labels, weights = self.checked_rows(first, last)
        true = None
        if self.true_operand is not None:
            true = self.rows_as_array(self.true_operand, self.plan.true_in_place, first, last)
        pred = self.rows_as_array(self.pred_operand, self.plan.pred_in_place, first, last)
        block = lines[:, first - start : last - start]
        room = block if block.flags.c_contiguous else np.empty(block.shape)
        bad = module.row_values(self, true, pred, labels, room, terms=self.term_rows(first, last))
        if bad is not None:
            row, code, number, which = bad
            raise self.error(errors.CODES[code], which == "pred", first + row, number)
        skipped = labels < 0 if labels is not None and (self.plan.ignores or weights is not None) else None
        for k, name in enumerate(self.columns):
            if name in IN_NATS and self.unit != 1:
                room[k] /= self.unit
            if skipped is not None:
                room[k][skipped] = 0.0
            if multiply and weights is not None:
                room[k] *= weights
                room[k][weights == 0] = 0.0
        if room is not block:
            block[...] = room

    cdef object term_rows(self, Py_ssize_t start, Py_ssize_t stop):
        cdef cnp.ndarray out
        if self.term_operand is None:
            return None
        out = np.empty((stop - start, self.classes))
        load_doubles(&self.term_operand.view, start, stop - start, <double *>cnp.PyArray_DATA(out))
        wrong = ~(out >= 0)
        if wrong.any():
            row, column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
            raise self.error(errors.WEIGHT, 3, start + row, out[row, column])
        if self.plan.class_weight != NULL:
            out *= np.frombuffer(self.weights_of_classes)
        return out

    cdef object weights_of_classes
    cdef object rows_module                 # gives the row values instead of the backend, or None

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

    def _add_rows(self, TwoSums totals, lock, Py_ssize_t start, Py_ssize_t stop):
        """Add the weighted values and the weights of one block."""
        cdef Py_ssize_t n = stop - start
        cdef cnp.ndarray block = np.empty((len(self.columns), n)), w = None
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
            exact_add(&here.of[0], values, n)
            if weights != NULL:
                exact_add(&here.of[1], weights, n)
            else:
                exact_add_one(&here.of[1], <double>n)
        with lock:
            exact_merge(&totals.of[0], &here.of[0])
            exact_merge(&totals.of[1], &here.of[1])

    def reduce(self, str reduction, out):
        """What a public function returns: row values of the first column, their sum or mean."""
        cdef cnp.ndarray room
        cdef Py_ssize_t lead
        if reduction == "none":
            shape = self.pred_operand.lead
            if out is None:
                room = np.empty(shape)
            else:
                self.check_out(out, shape)
                room = out if out.flags.c_contiguous else np.empty(shape)
            self.fill(0, self.rows, room.reshape(1, -1) if self.backend != "cython" else room, True)
            if out is not None:
                if out is not room:
                    out[...] = room
                return out
            return room if len(shape) else room[()]
        if reduction != "sum" and reduction != "mean":
            raise ValueError(f"reduction: expected 'none', 'sum' or 'mean', got {reduction!r}")
        total, weight = self.totals()
        value = total
        if reduction == "mean":
            value = total / weight if weight != 0 else float("nan")
        if out is None:
            return np.float64(value)
        self.check_out(out, ())
        out[...] = value
        return out

    cdef object check_out(self, out, shape):
        if not isinstance(out, np.ndarray) or out.dtype != np.float64:
            raise TypeError(f"out: expected a float64 array, got {getattr(out, 'dtype', type(out).__name__)}")
        if out.shape != shape:
            raise ValueError(f"out: expected shape {shape}, got {out.shape}")
        if not out.flags.writeable:
            raise ValueError("out: expected a writeable array, got a read-only one")


# --- settling a call ------------------------------------------------------------------------------

cdef inline void step(Plan *plan, Kernel kernel, int seen, int first, int slot, bint clips, bint widens):
    """Add a kernel whose output number `slot` goes to column `first`; join the step before if it is
    the same kernel on the same operands."""
    cdef Step *s
    cdef int k
    if first < 0:
        return
    for k in range(plan.step_count):
        s = &plan.steps[k]
        if s.kernel == kernel and s.seen == seen and s.clips == clips and s.slot[slot] < 0:
            s.slot[slot] = first
            return
    s = &plan.steps[plan.step_count]
    plan.step_count += 1
    s.kernel = kernel
    s.seen = seen
    s.clips = clips
    s.widens = widens
    for k in range(MOST_SLOTS):
        s.slot[k] = -1
    s.slot[slot] = first


cdef class Steps:
    """Steps settled once for calls of one form; small calls live on it (0.7 µs of 3)."""

    cdef Step steps[MOST_STEPS]
    cdef int count, loss_column, target_weight_column
    cdef bint label_weighs


# Steps never change once they are here: without a GIL threads at worst settle the same ones twice.
cdef dict settled = {}


cdef object find_steps(Call call):
    """The steps of a call, from those of an earlier call of the same form if there was one."""
    cdef Plan *plan = &call.plan
    cdef Steps kept
    cdef long form = (plan.true_kind + 4 * plan.pred_kind + 16 * plan.normalise + 32 * (plan.eps > 0)
                      + 64 * (plan.smoothing != 0) + 128 * (plan.terms != NULL)
                      + 256 * (plan.class_weight != NULL) + 512 * (plan.temperature != 1))
    key = (call.task, call.columns, form, levels.active)
    kept = settled.get(key)
    if kept is None:
        settle_steps(call)
        kept = Steps.__new__(Steps)
        memcpy(kept.steps, plan.steps, sizeof(plan.steps))
        kept.count = plan.step_count
        kept.loss_column = plan.loss_column
        kept.target_weight_column = plan.target_weight_column
        kept.label_weighs = plan.label_weighs
        settled[key] = kept
        return
    memcpy(plan.steps, kept.steps, kept.count * sizeof(Step))
    plan.step_count = kept.count
    plan.loss_column = kept.loss_column
    plan.target_weight_column = kept.target_weight_column
    plan.label_weighs = kept.label_weighs


cdef object settle_steps(Call call):
    """Which kernel makes which column."""
    cdef Plan *plan = &call.plan
    cdef bint raw = not plan.normalise, clips = plan.eps > 0
    cdef bint true_logs = plan.true_kind != PROBS, pred_logs = plan.pred_kind != PROBS
    cdef bint raw_true = raw and plan.true_kind != LOGITS, raw_pred = raw and plan.pred_kind != LOGITS
    cdef bint hot = plan.temperature != 1   # float rows with a temperature are done in double
    cdef bint options = clips or plan.smoothing != 0 or plan.terms != NULL
    cdef bint same = true_logs == pred_logs and (plan.true_kind == plan.pred_kind or not hot)
    cdef int slot, k
    task = call.task
    plan.step_count = 0
    plan.loss_column = plan.target_weight_column = -1
    plan.label_weighs = False
    column = {name: k for k, name in enumerate(call.columns)}
    find = column.get
    if task == "entropy":
        entropy_step(plan, PRED_ONLY, plan.pred_kind, raw_pred, find("entropy", -1), hot)
        return
    if task == "binary":
        for slot, name in enumerate(COLUMNS["binary"]):
            step(plan, kernels[BERNOULLI][0], BOTH, find(name, -1), slot, True, hot)
        return
    if task == "sparse":
        plan.label_weighs = plan.class_weight != NULL and not options and not raw_pred
        plan.loss_column = find("cross_entropy", -1)
        plan.target_weight_column = find("target_weight", -1)
        if options or raw_pred:
            step(plan, kernels[GENERAL][0], PRED_ONLY, plan.loss_column, 0, True, False)
            column.pop("cross_entropy", None)
        if not plan.label_weighs:
            step(plan, kernels[GENERAL][0], PRED_ONLY, plan.target_weight_column, 1, True, False)
        for slot, name in enumerate(("cross_entropy", "accuracy", "rank", "brier", "entropy", "confidence")):
            k = find(name, -1)
            if name == "entropy":
                entropy_step(plan, PRED_ONLY, plan.pred_kind, raw_pred, k, hot)
            elif pred_logs:
                step(plan, kernels[LOGIT_ROWS][0], PRED_ONLY, k, slot, False, hot)
            else:
                step(plan, kernels[PROBABILITIES][0], PRED_ONLY, k, slot, False, False)
        return
    plan.target_weight_column = find("target_weight", -1)
    k = find("cross_entropy", -1)
    step(plan, kernels[GENERAL][0], BOTH, plan.target_weight_column, 1, True, False)
    if options or raw or true_logs or plan.class_weight != NULL:
        step(plan, kernels[GENERAL][0], BOTH, k, 0, True, False)
    elif pred_logs:
        step(plan, kernels[LOGIT_ROWS][0], BOTH, k, 0, False, hot)
    else:
        step(plan, kernels[PROBABILITIES][2], BOTH, k, 0, False, False)
    entropy_step(plan, PRED_ONLY, plan.pred_kind, raw_pred, find("entropy", find("entropy_q", -1)), hot)
    entropy_step(plan, TRUE_AS_PRED, plan.true_kind, raw_true,
                 find("target_entropy", find("entropy_p", -1)), hot)
    for slot, name, seen in ((0, "kl_divergence", BOTH), (0, "reverse_kl", SWAPPED), (1, "js_divergence", BOTH)):
        k = find(name, -1)
        if not same or (clips and seen == BOTH) or (raw and true_logs and (raw_true or raw_pred)):
            step(plan, kernels[GENERAL][1], seen, k, slot, seen == BOTH, False)
        elif true_logs:
            step(plan, kernels[LOGIT_DIVERGENCE][slot], seen, k, 0, False, hot)
        else:
            step(plan, kernels[DIVERGENCE][slot], seen, k, 0, False, False)
    for slot, name in ((2, "total_variation"), (3, "hellinger"), (4, "top1_agreement"), (4, "accuracy"), (5, "brier")):
        step(plan, kernels[GENERAL][1], BOTH, find(name, -1), slot, False, False)


cdef void entropy_step(Plan *plan, int seen, int kind, bint raw, int column, bint hot):
    if raw:
        step(plan, kernels[GENERAL][2], seen, column, 0, False, False)
    elif kind == PROBS:
        step(plan, kernels[PROBABILITIES][1], seen, column, 0, False, False)
    else:
        step(plan, kernels[LOGIT_ROWS][0], seen, column, 4, False, hot)


cdef double number(object given, str name, str expected) except? -1:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected {expected}, got {given!r}") from None


cdef object settle_kinds(Call call, object kind):
    task = call.task
    if isinstance(kind, str):
        pair = (kind, kind) if task == "divergence" else ("probs", kind)
    elif isinstance(kind, (tuple, list)) and len(kind) == 2 and task in ("divergence", "categorical"):
        pair = tuple(kind)
    else:
        raise ValueError(f"kind: expected 'probs', 'logprobs' or 'logits', got {kind!r}")
    for one in pair:
        if not isinstance(one, str) or one not in KINDS:
            raise ValueError(f"kind: expected 'probs', 'logprobs' or 'logits', got {one!r}")
    call.kind_true, call.kind_pred = pair
    call.plan.true_kind = KINDS[pair[0]]
    call.plan.pred_kind = KINDS[pair[1]]


cdef object settle_numbers(Call call, object row_sums, object eps, object temperature, object smoothing, object base):
    cdef Plan *plan = &call.plan
    cdef bint probabilities = plan.pred_kind != LOGITS or (call.task in ("divergence", "categorical") and plan.true_kind != LOGITS)
    task = call.task
    if row_sums is not CHECK and row_sums not in ("check", "rescale", "as_is"):
        raise ValueError(f"row_sums: expected 'check', 'rescale' or 'as_is', got {row_sums!r}")
    if row_sums != "check" and (task == "binary" or not probabilities):
        raise ValueError(f"row_sums: does not apply to {'binary' if task == 'binary' else 'logits'}, got {row_sums!r}")
    call.row_sums = row_sums
    plan.normalise = row_sums != "as_is"
    call.eps = plan.eps = number(eps, "eps", "a number in [0, 0.5)")
    if not 0 <= call.eps < 0.5:
        raise ValueError(f"eps: expected a number in [0, 0.5), got {eps!r}")
    if call.eps and task == "entropy":
        raise ValueError(f"eps: does not apply to entropy, got {eps!r}")
    call.temperature = plan.temperature = number(temperature, "temperature", "a number above 0")
    if not call.temperature > 0 or not isfinite(call.temperature):
        raise ValueError(f"temperature: expected a finite number above 0, got {temperature!r}")
    if call.temperature != 1 and call.kind_pred != "logits" and call.kind_true != "logits":
        raise ValueError(f"temperature: applies to logits only, got {temperature!r} with kind {call.kind_pred!r}")
    call.label_smoothing = plan.smoothing = number(smoothing, "label_smoothing", "a number in [0, 1]")
    if not 0 <= call.label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number in [0, 1], got {smoothing!r}")
    if call.label_smoothing and task in ("divergence", "entropy"):
        raise ValueError(f"label_smoothing: applies to cross-entropies only, got {smoothing!r}")
    call.unit = 1.0
    if base is not None:
        if not number(base, "base", "a number above 0 other than 1") > 0 or base == 1 or not isfinite(base):
            raise ValueError(f"base: expected a finite number above 0 other than 1, got {base!r}")
        call.unit = log(base)


cdef object settle_weights(Call call, object sample_weight, object class_weight, object full_shape, object axis):
    cdef Plan *plan = &call.plan
    cdef cnp.ndarray array
    cdef Operand given
    task = call.task
    lead = call.pred_operand.lead
    if class_weight is not None:
        if task not in ("sparse", "categorical"):
            raise ValueError(f"class_weight: does not apply to {task}")
        given = operand(class_weight, "class_weight", None)
        if given.lead != (call.classes,):
            raise ValueError(f"class_weight: expected shape ({call.classes},), got {given.lead}")
        array = np.empty(call.classes)
        load_doubles(&given.view, 0, call.classes, <double *>cnp.PyArray_DATA(array))
        wrong = ~(array >= 0)
        if wrong.any():
            c = int(wrong.argmax())
            raise ValueError(f"class_weight: expected weights of at least 0 that are not NaN, got {array[c]!r} for class {c}")
        call.weights_of_classes = array
        plan.class_weight = <const double *>cnp.PyArray_DATA(array)
    if sample_weight is None:
        return
    weight = operand(sample_weight, "sample_weight", None).array
    shape = weight.shape
    terms = False
    if shape != lead:
        if task in ("sparse", "categorical") and shape == full_shape:
            terms = True
        else:
            try:
                weight = np.broadcast_to(weight, lead)
            except ValueError:
                if task not in ("sparse", "categorical"):
                    raise ValueError(f"sample_weight: expected shape {lead}, got {shape}") from None
                terms = True
                try:
                    weight = np.broadcast_to(weight, full_shape)
                except ValueError:
                    raise ValueError(f"sample_weight: expected shape {lead} or {full_shape}, got {shape}") from None
    if terms:
        call.term_operand = operand(weight, "sample_weight", axis)
        plan.terms = &call.term_operand.view
        call.class_weight = None
    else:
        call.weight_operand = operand(weight, "sample_weight", None)
        plan.weights = &call.weight_operand.view


cdef object settle_operands(Call call, object true, object pred, object axis):
    """Shapes, dtypes, and which operand is read in place."""
    cdef Plan *plan = &call.plan
    cdef View *view
    cdef bint narrow = False
    task = call.task
    call.pred_operand = operand(pred, call.names[1], axis)
    plan.pred_view = view = &call.pred_operand.view
    call.classes = 0 if task == "binary" else call.pred_operand.classes
    call.rows = call.pred_operand.rows
    plan.classes = call.pred_operand.classes
    plan.stored = FLOAT32 if view.stored in (FLOAT32, FLOAT16, BFLOAT16) else FLOAT64
    narrow = view.stored in (FLOAT16, BFLOAT16)
    if task == "sparse":
        call.label_operand = operand(true, "labels", None)
        if call.label_operand.lead != call.pred_operand.lead:
            raise ValueError(f"labels: expected shape {call.pred_operand.lead}, got {call.label_operand.lead}")
        plan.labels = &call.label_operand.view
    elif task != "entropy":
        call.true_operand = operand(true, call.names[0], axis)
        if call.true_operand.lead != call.pred_operand.lead or call.true_operand.classes != plan.classes:
            raise ValueError(
                f"{call.names[0]}: expected the shape of {call.names[1]}, {np.shape(call.pred_operand.array)}, "
                f"got {np.shape(call.true_operand.array)}")
        plan.true_view = view = &call.true_operand.view
        if view.stored == FLOAT64:
            plan.stored = FLOAT64
        elif view.stored not in (FLOAT32, FLOAT16, BFLOAT16):
            # targets of an integer type are 0 and 1, and may be float32; counts may not
            if task == "divergence" or call.row_sums != "check":
                plan.stored = FLOAT64
        narrow = narrow or view.stored in (FLOAT16, BFLOAT16)
    call.sum_tolerance = 2e-2 if narrow else 1e-3
    plan.tolerance = call.sum_tolerance


cdef Py_ssize_t rows_of_tile(Call call):
    """Rows that fill the second-level cache; of operands whose rows lie across the memory, at least
    the rows that share a cache line, as far as there is room for them."""
    cdef Plan *plan = &call.plan
    cdef Py_ssize_t rows = TILE // plan.classes, numbers
    if plan.classes == 1:
        return min(rows, <Py_ssize_t>2048)
    rows = max(<Py_ssize_t>1, min(rows, <Py_ssize_t>1024))
    if plan.classes >= LONG_ROW and call.rows < 2 * call.num_threads:
        return 1                                        # threads share a row: each loads its blocks
    if lies_across(plan.pred_view) or (plan.true_view != NULL and lies_across(plan.true_view)):
        rows = (rows + LINE - 1) & -LINE
        numbers = plan.classes * call.num_threads * (2 if plan.true_view != NULL else 1)
        while rows > 1 and rows * numbers > MOST_TILES:
            rows //= 2
    return rows


cdef object settle_tiles(Call call):
    cdef Plan *plan = &call.plan
    if call.row_sums == "rescale":
        plan.tolerance = -1
        plan.rescale_pred = plan.pred_kind == PROBS
        plan.rescale_true = plan.true_view != NULL and plan.true_kind == PROBS
        if call.backend == "cython" and (plan.rescale_pred or plan.rescale_true):
            plan.stored = FLOAT64
    plan.pred_in_place = not (plan.rescale_pred and call.backend == "cython") and in_place(plan.pred_view, plan.stored)
    plan.true_in_place = plan.true_view != NULL and not (plan.rescale_true and call.backend == "cython") and in_place(plan.true_view, plan.stored)
    plan.tile_rows = rows_of_tile(call)
    plan.by_blocks = plan.tile_rows == 1 and plan.classes > CHUNK
    plan.columns = <int>len(call.columns)
    for k, name in enumerate(call.columns):
        plan.scale[k] = call.unit if name in IN_NATS else 1.0


def prepare(str task, tuple columns, true, pred, *, kind="probs", row_sums="check", eps=0.0,
            temperature=1.0, label_smoothing=0.0, class_weight=None, sample_weight=None,
            ignore_index=None, base=None, axis=-1, num_threads=None, backend=None,
            bint by_weight=False, rows_module=None):
    """Settle the operands and options of a call: the Call gives its row values.

    Arguments are those of the public functions; `columns` names the row values wanted, out of
    COLUMNS[task]; `by_weight` adds "target_weight" if the rows' weights depend on it; the
    `row_values` of `rows_module` replace the backend's. Raises TypeError and ValueError as they do.
    """
    cdef Call call = Call.__new__(Call)
    cdef Plan *plan = &call.plan
    memset(plan, 0, sizeof(Plan))
    call.task = task
    call.names = NAMES[task]
    call.columns = columns
    call.rows_module = rows_module
    call.backend = settings.chosen_backend(backend)
    settle_kinds(call, kind)
    settle_numbers(call, row_sums, eps, temperature, label_smoothing, base)
    if task == "binary":
        axis = None
    elif type(axis) is not int:
        try:
            axis = axis.__index__()
        except AttributeError:
            raise TypeError(f"axis: expected an integer, got {axis!r}") from None
    settle_operands(call, true, pred, axis)
    if class_weight is not None or sample_weight is not None:
        call.class_weight = class_weight
        settle_weights(call, sample_weight, class_weight, np.shape(call.pred_operand.array), axis)
        if call.class_weight is not None:
            call.class_weight = call.weights_of_classes
    if ignore_index is not None:
        if task != "sparse":
            raise ValueError(f"ignore_index: applies to sparse only, got {ignore_index!r}")
        try:
            plan.ignored = ignore_index.__index__()
        except (AttributeError, TypeError):
            raise TypeError(f"ignore_index: expected an integer, got {ignore_index!r}") from None
        plan.ignores = True
    if by_weight and (plan.terms != NULL or plan.class_weight != NULL
                      or (task == "categorical" and row_sums == "as_is")):
        call.columns = (*columns, "target_weight")
    if num_threads is not None or call.rows * plan.classes >= 2 * SMALL:
        call.num_threads = settings.chosen_threads(num_threads)
    else:
        call.num_threads = 1                            # not worth asking the system
    call.weighted = plan.ignores or plan.weights != NULL
    settle_tiles(call)
    if call.backend == "cython":
        find_steps(call)
    else:
        plan.target_weight_column = call.columns.index("target_weight") if "target_weight" in call.columns else -1
    return call


def evaluate(str task, tuple columns, true, pred, str reduction, out, **options):
    """A public function: the values of one column, reduced."""
    cdef Call call = prepare(task, columns, true, pred, by_weight=reduction == "mean", **options)
    return call.reduce(reduction, out)
