"""From arguments to row values: one path for functions, accumulators and the command line.

`prepare` settles the operands and options of a call once; the Call then computes row values for any
range of rows, or their exact sums, on the backend asked for.
"""

cimport numpy as cnp
from libc.math cimport isfinite, log

import numpy as np

from fastent import _settings
from fastent.backends.cython.call cimport LONG_ROW, SMALL, Call
from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode
from fastent.backends.cython.arithmetic.scratch cimport CHUNK
from fastent.backends.cython.kernels.interface cimport LOGITS, LOGPROBS, PROBS
from fastent.backends.cython.tiles.operand cimport (
    BFLOAT16, CODES, FLOAT16, FLOAT32, FLOAT64, WHOLE, Operand, View, in_place, lies_across, load_doubles, operand,
    ready_rows, repeats, shape_of, spread,
)
from fastent.backends.cython.columns cimport find_steps
from fastent.backends.cython.tiles.loop cimport Plan

from fastent.backends.cython.columns import IN_NATS
from fastent._errors import (
    as_ignore_index, as_number, as_reduction, as_text, labels_shape, one_of, operand_shape, shown, whole_axis,
)
from fastent._fork import bring
from fastent._shapes import common_lead, lead_of_elements, lead_of_labels, weighs_terms

cnp.import_array()

CHECK = "check"
KINDS = {"probs": PROBS, "logprobs": LOGPROBS, "logits": LOGITS}
NAMES = {
    "sparse": ("labels", "pred"),
    "categorical": ("target", "pred"),
    "binary": ("target", "pred"),
    "divergence": ("p", "q"),
    "entropy": (None, "p"),
    "topk": (None, "pred"),
}
ALONE = ("entropy", "topk")              # tasks of one operand
# e⁻¹⁶ and what may be lost in it: a class that a clipped row raises to its floor adds this much to the sum.
FLOOR = 1.2e-7
cdef str FOCAL = "focal_cross_entropy"   # a divergence of target and prediction
cdef dict kinds = KINDS, names = NAMES   # without a look-up
cdef enum:
    TILE = 1 << 14                      # numbers a tile, about
    COPIED = 1 << 12                    # of all operands, if some are converted: as many lines of memory as
                                        # can be asked for before the kernel of the tile before is run
    LINE = 64                           # bytes
    MOST_TILES = 1 << 21                # numbers in the tiles of all threads: 16 MB of doubles


cdef double number(object given, str name, str expected) except? -1:
    return given if type(given) is float else as_number(given, name, expected)


cdef inline int kind_number(object kind) except -1:
    found = kinds.get(kind) if type(kind) is str else None
    if found is None:
        one_of(kind, "kind", tuple(KINDS))              # refused
    return found


cdef object settle_kinds(Call call, object kind):
    task = call.task
    if isinstance(kind, str):
        if type(kind) is not str:
            kind = as_text(kind)
        pair = (kind, kind) if task == "divergence" else ("probs", kind)
    elif isinstance(kind, (tuple, list)) and len(kind) == 2 and task in ("divergence", "categorical"):
        pair = (as_text(kind[0]), as_text(kind[1]))
    else:
        raise ValueError(f"kind: expected 'probs', 'logprobs' or 'logits', got {shown(kind)}")
    call.plan.true_kind = kind_number(pair[0])
    call.plan.pred_kind = kind_number(pair[1])
    call.kind_true, call.kind_pred = pair


cdef object settle_numbers(Call call, object row_sums, object eps, object temperature, object smoothing, object base):
    cdef Plan *plan = &call.plan
    cdef double given_base
    cdef bint probabilities = plan.pred_kind != LOGITS or (call.task in ("divergence", "categorical") and plan.true_kind != LOGITS)
    task = call.task
    if row_sums is not CHECK:
        row_sums = one_of(row_sums, "row_sums", ("check", "rescale", "as_is"))
    if row_sums != "check" and (task == "binary" or not probabilities):
        raise ValueError(f"row_sums: does not apply to {'binary' if task == 'binary' else 'logits'}, got {shown(row_sums)}")
    call.row_sums = row_sums
    plan.normalise = row_sums != "as_is"
    call.eps = plan.eps = number(eps, "eps", "a number in [0, 0.5)")
    if not 0 <= call.eps < 0.5:
        raise ValueError(f"eps: expected a number in [0, 0.5), got {shown(eps)}")
    if call.eps and task == "entropy":
        raise ValueError(f"eps: does not apply to entropy, got {shown(eps)}")
    call.temperature = plan.temperature = number(temperature, "temperature", "a number above 0")
    if not call.temperature > 0 or not isfinite(call.temperature):
        raise ValueError(f"temperature: expected a finite number above 0, got {shown(temperature)}")
    if call.temperature != 1 and call.kind_pred != "logits" and call.kind_true != "logits":
        raise ValueError(f"temperature: applies to logits only, got {shown(temperature)} with kind {call.kind_pred!r}")
    call.label_smoothing = plan.smoothing = number(smoothing, "label_smoothing", "a number in [0, 1]")
    if not 0 <= call.label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number in [0, 1], got {shown(smoothing)}")
    if call.label_smoothing and task in ("divergence", "entropy"):
        raise ValueError(f"label_smoothing: applies to cross-entropies only, got {shown(smoothing)}")
    call.unit = 1.0
    if base is not None:
        given_base = number(base, "base", "a number above 0 other than 1")
        if not given_base > 0 or given_base == 1 or not isfinite(given_base):
            raise ValueError(f"base: expected a finite number above 0 other than 1, got {shown(base)}")
        call.unit = log(given_base)


cdef object settle_weights(Call call, object sample_weight, object class_weight, object axis):
    cdef Plan *plan = &call.plan
    cdef cnp.ndarray array
    cdef const double *w
    cdef Py_ssize_t c
    cdef Operand given
    task = call.task
    lead = call.pred_operand.lead
    several = task in ("sparse", "categorical")
    if class_weight is not None:
        if not several:
            raise ValueError(f"class_weight: does not apply to {task}")
        given = operand(class_weight, "class_weight", None)
        if given.lead != (call.classes,):
            raise ValueError(f"class_weight: expected shape ({call.classes},), got {given.lead}")
        array = given.array
        if not in_place(&given.view, FLOAT64):
            array = np.empty(call.classes)
            load_doubles(&given.view, 0, call.classes, <double *>cnp.PyArray_DATA(array))
        w = <const double *>cnp.PyArray_DATA(array)
        for c in range(call.classes):
            if not w[c] >= 0:
                raise ValueError(f"class_weight: expected weights of at least 0 that are not NaN, got {float(array[c])!r} for class {c}")
        call.weights_of_classes = array
        plan.class_weight = w
    if sample_weight is None:
        return
    given = operand(sample_weight, "sample_weight", None)
    if weighs_terms(given.lead, lead, call.shape(call.classes) if several else None):
        call.term_operand = operand(given.array, "sample_weight", axis)
        call.term_operand.view.stored = given.view.stored       # bfloat16 may be in disguise
        plan.terms = &call.term_operand.view
        call.class_weight = None
    else:
        call.weight_operand = spread(given, "sample_weight", None, lead)
        plan.weights = &call.weight_operand.view


cdef bint check_codes(View *view, name, kind) except -1:
    """Whether rows are codes; they stand for log-probabilities."""
    if view.stored == CODES and kind != "logprobs":
        raise ValueError(f"kind: expected 'logprobs' for {name}, whose rows are codes of them, got {kind!r}")
    return view.stored == CODES


cdef object broadcast_labels(Call call, object axis):
    """Labels and predictions whose leading shapes differ, broadcast against each other."""
    full = shape_of(call.pred_operand)
    lead = lead_of_labels(call.label_operand.lead, call.pred_operand.lead, full)
    if lead is None or (axis is WHOLE and lead != ()):
        raise labels_shape(call.pred_operand.lead, call.label_operand.lead, full)
    call.label_operand = spread(call.label_operand, "labels", None, lead)
    call.pred_operand = spread(call.pred_operand, call.names[1], axis, lead)


cdef object broadcast_pair(Call call, object axis):
    """The same for two operands with classes, of which they must have as many; or, of an array that
    is one row, the same shape."""
    true, pred = shape_of(call.true_operand), shape_of(call.pred_operand)
    if axis is None:
        lead = lead_of_elements(true, pred)
    else:
        lead = common_lead(call.true_operand.lead, call.pred_operand.lead)
    if lead is None or call.true_operand.classes != call.pred_operand.classes or (axis is WHOLE and true != pred):
        raise operand_shape(call.task, call.names[0], call.names[1], pred, true)
    call.true_operand = spread(call.true_operand, call.names[0], axis, lead)
    call.pred_operand = spread(call.pred_operand, call.names[1], axis, lead)


cdef object settle_operands(Call call, object true, object pred, object axis):
    """Shapes, dtypes, and which operand is read in place."""
    cdef Plan *plan = &call.plan
    cdef View *view
    cdef bint narrow = False, coded
    task = call.task
    call.pred_operand = operand(pred, call.names[1], axis)
    plan.pred_view = view = &call.pred_operand.view
    call.classes = 0 if task == "binary" else call.pred_operand.classes
    plan.classes = call.pred_operand.classes
    plan.stored = FLOAT32 if view.stored in (FLOAT32, FLOAT16, BFLOAT16, CODES) else FLOAT64
    narrow = view.stored in (FLOAT16, BFLOAT16, CODES)
    coded = check_codes(view, call.names[1], call.kind_pred)
    if task == "sparse":
        call.label_operand = operand(true, "labels", None)
        if call.label_operand.lead != call.pred_operand.lead:
            broadcast_labels(call, axis)
        plan.labels = &call.label_operand.view
    elif task not in ALONE:
        call.true_operand = operand(true, call.names[0], axis)
        if call.true_operand.lead != call.pred_operand.lead or call.true_operand.classes != plan.classes or axis is WHOLE:
            broadcast_pair(call, axis)
        plan.true_view = view = &call.true_operand.view
        if view.stored == FLOAT64:
            plan.stored = FLOAT64
        elif view.stored not in (FLOAT32, FLOAT16, BFLOAT16, CODES):
            # targets of an integer type are 0 and 1, and may be float32; counts may not
            if task == "divergence" or call.row_sums != "check":
                plan.stored = FLOAT64
        narrow = narrow or view.stored in (FLOAT16, BFLOAT16, CODES)
        coded = check_codes(view, call.names[0], call.kind_true) or coded
    call.rows = call.pred_operand.rows
    plan.pred_view = &call.pred_operand.view
    call.sum_tolerance = 2e-2 if narrow else 1e-3
    if coded:
        call.sum_tolerance += FLOOR * plan.classes
    plan.tolerance = call.sum_tolerance


cdef inline Py_ssize_t rows_of_line(View *view):
    """How many rows share a cache line; 1 where a row is in one piece."""
    return LINE // view.itemsize if view != NULL and lies_across(view) else 1


cdef inline bint read_once(Plan *plan, View *view, bint ready, bint rescaled) noexcept nogil:
    """Whether tiles need no copy of an operand, or few: it is in place, or rows repeat."""
    if ready or view == NULL or repeats(view):
        return True
    return view.axes > 1 and not rescaled and ready_rows(view, plan.stored)


cdef inline Py_ssize_t numbers_of_tile(Plan *plan, bint across):
    """Tiles of what is copied in the order of the memory are small: they stay in the first-level cache, and
    the next one comes from memory while this one's kernel runs. Cross-entropy of 1000 float16 takes 0.19 ns
    an element from memory, 0.29 with tiles four times as large; KL 0.45 and 0.58."""
    if across or (read_once(plan, plan.pred_view, plan.pred_in_place, plan.rescale_pred)
                  and read_once(plan, plan.true_view, plan.true_in_place, plan.rescale_true)):
        return TILE
    return COPIED if plan.true_view == NULL else COPIED // 2


cdef Py_ssize_t rows_of_tile(Call call):
    """Rows that fill the second-level cache; of operands whose rows lie across the memory, at least
    the rows that share a cache line, as far as there is room for them."""
    cdef Plan *plan = &call.plan
    cdef Py_ssize_t line = max(rows_of_line(plan.pred_view), rows_of_line(plan.true_view)), numbers
    cdef Py_ssize_t rows = numbers_of_tile(plan, line > 1) // plan.classes
    if plan.classes == 1:
        return min(rows, <Py_ssize_t>2048)
    rows = max(<Py_ssize_t>1, min(rows, <Py_ssize_t>1024))
    if plan.classes >= LONG_ROW and call.rows < 2 * call.num_threads:
        return 1                                        # threads share a row: each loads its blocks
    if line > 1:
        rows = (rows + line - 1) & -line
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
        plan.scale[k] = call.unit if call.unit != 1 and name in IN_NATS else 1.0


cdef object settle_options(Call call, str task, tuple columns, kind, row_sums, eps, temperature, label_smoothing, base,
                           axis, rows_module, double order):
    """What does not depend on the operands, of a call that is new."""
    call.task = task
    call.names = names["categorical" if len(columns) == 1 and <str>columns[0] == FOCAL else task]
    call.plan.order = order
    call.columns = columns
    call.rows_module = rows_module
    settle_kinds(call, kind)
    settle_numbers(call, row_sums, eps, temperature, label_smoothing, base)
    if task == "binary":
        axis = None
    elif axis is None:
        axis = WHOLE
    elif type(axis) is not int or not -8 <= axis < 8:
        axis = whole_axis(axis)
    call.axis = axis


cdef object settle_rows(Call call, true, pred, class_weight, sample_weight, ignore_index, num_threads, backend,
                        bint by_weight):
    """The operands, with the options settled: the call can run."""
    cdef Plan *plan = &call.plan
    task = call.task
    call.backend = _settings.chosen_backend(backend)
    settle_operands(call, true, pred, call.axis)
    if class_weight is not None or sample_weight is not None:
        call.class_weight = class_weight
        settle_weights(call, sample_weight, class_weight, call.axis)
        if call.class_weight is not None:
            call.class_weight = call.weights_of_classes
    if ignore_index is not None:
        if task != "sparse":
            raise ValueError(f"ignore_index: applies to sparse only, got {shown(ignore_index)}")
        plan.ignored = as_ignore_index(ignore_index)
        plan.ignores = True
    if by_weight and (plan.terms != NULL or plan.class_weight != NULL
                      or (task == "categorical" and call.row_sums == "as_is")):
        call.columns = (*call.columns, "target_weight")
    if num_threads is not None or call.rows * plan.classes >= 2 * SMALL:
        call.num_threads = _settings.chosen_threads(num_threads)
    else:
        call.num_threads = 1                            # not worth asking the system
    call.weighted = plan.ignores or plan.weights != NULL
    settle_tiles(call)
    if call.backend == "cython":
        find_steps(call)
    else:
        call.spare = []
        plan.target_weight_column = call.columns.index("target_weight") if "target_weight" in call.columns else -1


cdef inline bint maybe_csr(object given):
    return not cnp.PyArray_CheckExact(given) and hasattr(given, "indptr")


cdef object csr_call(str task, tuple columns, true, pred, options, more):
    """The call for CSR rows, or None if neither operand has them."""
    csr = bring("fastent._csr")
    if not (csr.is_csr(true) or csr.is_csr(pred)):
        return None
    return csr.SparseCall(prepare, task, columns, true, pred, options, more)


def prepare(str task, tuple columns, true, pred, *, kind="probs", row_sums="check", eps=0.0, temperature=1.0,
            label_smoothing=0.0, class_weight=None, sample_weight=None, ignore_index=None, base=None, axis=-1,
            num_threads=None, backend=None, bint by_weight=False, rows_module=None, order=0.0):
    """Settle the operands and options of a call: the Call gives its row values.

    Arguments are those of the public functions; `columns` names the row values wanted, out of COLUMNS[task];
    `by_weight` adds "target_weight" if the rows' weights depend on it; the `row_values` of `rows_module` replace
    the backend's; `order` is the α or γ of a column that has one. Raises TypeError and ValueError as they do.
    """
    if maybe_csr(true) or maybe_csr(pred):
        options = dict(kind=kind, row_sums=row_sums, eps=eps, temperature=temperature,
                       label_smoothing=label_smoothing, class_weight=class_weight,
                       sample_weight=sample_weight, ignore_index=ignore_index, base=base, axis=axis,
                       num_threads=num_threads, backend=backend)
        found = csr_call(task, columns, true, pred, options,
                         dict(by_weight=by_weight, rows_module=rows_module, order=order))
        if found is not None:
            return found
    cdef Call call = Call.__new__(Call)
    settle_options(call, task, columns, kind, row_sums, eps, temperature, label_smoothing, base, axis, rows_module, order)
    settle_rows(call, true, pred, class_weight, sample_weight, ignore_index, num_threads, backend, by_weight)
    return call


cdef class Settled:
    """`prepare` for many batches: the options are settled once, a quarter of a small update's time."""
    cdef Call like
    cdef dict options                       # as given, for CSR rows
    cdef object class_weight, ignore_index, num_threads, backend
    cdef bint by_weight

    def __init__(self, str task, tuple columns, *, kind="probs", row_sums="check", eps=0.0, temperature=1.0,
                 label_smoothing=0.0, class_weight=None, ignore_index=None, base=None, axis=-1, num_threads=None,
                 backend=None, bint by_weight=False):
        self.options = dict(kind=kind, row_sums=row_sums, eps=eps, temperature=temperature,
                            label_smoothing=label_smoothing, class_weight=class_weight, ignore_index=ignore_index,
                            base=base, axis=axis, num_threads=num_threads, backend=backend, by_weight=by_weight)
        self.class_weight, self.ignore_index = class_weight, ignore_index
        self.num_threads, self.backend, self.by_weight = num_threads, backend, by_weight
        self.like = Call.__new__(Call)
        cdef FloatMode mode = enter_default_mode()      # the logarithm of the base
        try:
            settle_options(self.like, task, columns, kind, row_sums, eps, temperature, label_smoothing, base, axis, None, 0.0)
        finally:
            restore_mode(mode)

    def call(self, true, pred, sample_weight=None, num_threads=None):
        """The call of a batch; with other threads than what was settled."""
        cdef Call call, like = self.like
        if maybe_csr(true) or maybe_csr(pred):
            options = self.options if num_threads is None else self.options | {"num_threads": num_threads}
            return prepare(like.task, like.columns, true, pred, sample_weight=sample_weight, **options)
        call = Call.__new__(Call)
        call.plan = like.plan
        call.task, call.names, call.columns = like.task, like.names, like.columns
        call.kind_true, call.kind_pred, call.row_sums, call.axis = like.kind_true, like.kind_pred, like.row_sums, like.axis
        call.eps, call.temperature, call.label_smoothing, call.unit = like.eps, like.temperature, like.label_smoothing, like.unit
        settle_rows(call, true, pred, self.class_weight, sample_weight, self.ignore_index,
                    self.num_threads if num_threads is None else num_threads, self.backend, self.by_weight)
        return call


def evaluate(str task, tuple columns, true, pred, reduction, out, kind="probs", row_sums="check", *, eps=0.0, temperature=1.0, label_smoothing=0.0, class_weight=None,
             sample_weight=None, ignore_index=None, base=None, axis=-1, keepdims=False, num_threads=None,
             backend=None):
    """A public function: the values of one column, reduced. Its keywords are spelled out, since a
    dictionary of them costs a small call a third of its time; CPython makes one where positional ones and twice the
    named ones are more than 30, so that `kind` and `row_sums` go by position."""
    cdef FloatMode mode = enter_default_mode()
    cdef Call call
    try:
        if type(reduction) is not str:
            reduction = as_reduction(reduction)
        if maybe_csr(true) or maybe_csr(pred):
            options = dict(kind=kind, row_sums=row_sums, eps=eps, temperature=temperature,
                           label_smoothing=label_smoothing, class_weight=class_weight,
                           sample_weight=sample_weight, ignore_index=ignore_index, base=base, axis=axis,
                           num_threads=num_threads, backend=backend)
            found = csr_call(task, columns, true, pred, options, dict(by_weight=reduction == "mean"))
            if found is not None:
                return found.reduce(reduction, out, keepdims)
        call = Call.__new__(Call)
        settle_options(call, task, columns, kind, row_sums, eps, temperature, label_smoothing, base, axis, None, 0.0)
        settle_rows(call, true, pred, class_weight, sample_weight, ignore_index, num_threads, backend, reduction == "mean")
        return call.reduce(reduction, out, keepdims)
    finally:
        restore_mode(mode)
