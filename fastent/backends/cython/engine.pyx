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
    BFLOAT16, CODES, FLOAT16, FLOAT32, FLOAT64, WHOLE, Operand, View, class_weights, in_place, lies_across, load_doubles, operand,
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
    plan.tile.normalise = row_sums != "as_is"
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
    call.label_smoothing = plan.tile.smoothing = number(smoothing, "label_smoothing", "a number in [0, 1]")
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


cdef inline int place_of(str name, tuple columns):
    """Where a column stands; −1: nowhere."""
    cdef int k
    for k in range(len(columns)):
        if <str>columns[k] == name:
            return k
    return -1


cdef object settle_weights(Call call, object sample_weight, object class_weight):
    cdef Plan *plan = &call.plan
    cdef Operand given
    cdef cnp.ndarray array
    task = call.task
    lead = call.pred_operand.lead
    several = task in ("sparse", "categorical")
    if class_weight is not None:
        if not several:
            raise ValueError(f"class_weight: does not apply to {task}")
        call.weights_of_classes = array = class_weights(class_weight, call.classes)
        plan.class_weight = <const double *>cnp.PyArray_DATA(array)
    if sample_weight is not None:
        given = operand(sample_weight, "sample_weight", None)
        if weighs_terms(given.lead, lead, call.shape(call.classes) if several else None):
            call.term_operand = operand(given.array, "sample_weight", call.axis)
            call.term_operand.view.stored = given.view.stored       # bfloat16 may be in disguise
            plan.terms = &call.term_operand.view
        else:
            call.weight_operand = spread(given, "sample_weight", None, lead)
            plan.weights = &call.weight_operand.view
    # The one weight of a hard label needs no kernel.
    plan.label_weighs = task == "sparse" and class_weight is not None and plan.terms == NULL and plan.tile.smoothing == 0
    if plan.terms == NULL and not plan.label_weighs:
        call.class_weight = call.weights_of_classes


cdef bint check_codes(View *view, name, kind) except -1:
    """Whether rows are codes; they stand for log-probabilities."""
    if view.stored == CODES and kind != "logprobs":
        raise ValueError(f"kind: expected 'logprobs' for {name}, whose rows are codes of them, got {kind!r}")
    return view.stored == CODES


cdef object broadcast_labels(Call call):
    """Labels and predictions whose leading shapes differ, broadcast against each other."""
    full = shape_of(call.pred_operand)
    lead = lead_of_labels(call.label_operand.lead, call.pred_operand.lead, full)
    if lead is None or (call.axis is WHOLE and lead != ()):
        raise labels_shape(call.pred_operand.lead, call.label_operand.lead, full)
    call.label_operand = spread(call.label_operand, "labels", None, lead)
    call.pred_operand = spread(call.pred_operand, call.names[1], call.axis, lead)


cdef object broadcast_pair(Call call):
    """The same for two operands with classes, of which they must have as many; or, of an array that
    is one row, the same shape."""
    true, pred = shape_of(call.true_operand), shape_of(call.pred_operand)
    if call.axis is None:
        lead = lead_of_elements(true, pred)
    else:
        lead = common_lead(call.true_operand.lead, call.pred_operand.lead)
    if lead is None or call.true_operand.classes != call.pred_operand.classes or (call.axis is WHOLE and true != pred):
        raise operand_shape(call.task, call.names[0], call.names[1], pred, true)
    call.true_operand = spread(call.true_operand, call.names[0], call.axis, lead)
    call.pred_operand = spread(call.pred_operand, call.names[1], call.axis, lead)


cdef inline bint is_narrow(View *view):
    return view.stored in (FLOAT16, BFLOAT16, CODES)


cdef object settle_operands(Call call, object true, object pred):
    """Shapes, dtypes, and which operand is read in place."""
    cdef Plan *plan = &call.plan
    cdef View *view
    cdef bint narrow, coded
    task = call.task
    call.pred_operand = operand(pred, call.names[1], call.axis)
    view = &call.pred_operand.view
    plan.classes = view.classes
    call.classes = 0 if task == "binary" else plan.classes
    narrow = is_narrow(view)
    plan.stored = FLOAT32 if narrow or view.stored == FLOAT32 else FLOAT64
    coded = check_codes(view, call.names[1], call.kind_pred)
    if task == "sparse":
        call.label_operand = operand(true, "labels", None)
        if call.label_operand.lead != call.pred_operand.lead:
            broadcast_labels(call)
        plan.labels = &call.label_operand.view
    elif task not in ALONE:
        call.true_operand = operand(true, call.names[0], call.axis)
        if call.true_operand.lead != call.pred_operand.lead or call.true_operand.classes != plan.classes or call.axis is WHOLE:
            broadcast_pair(call)
        plan.true_view = view = &call.true_operand.view
        if is_narrow(view):
            narrow = True
        elif view.stored == FLOAT64:
            plan.stored = FLOAT64
        elif view.stored != FLOAT32 and (task == "divergence" or call.row_sums != "check"):
            # targets of an integer type are 0 and 1, and may be float32; counts may not
            plan.stored = FLOAT64
        coded = check_codes(view, call.names[0], call.kind_true) or coded
    call.rows = call.pred_operand.rows
    plan.pred_view = &call.pred_operand.view
    call.sum_tolerance = 2e-2 if narrow else 1e-3
    if coded:
        call.sum_tolerance += FLOOR * plan.classes
    plan.tile.tolerance = call.sum_tolerance


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
        plan.tile.tolerance = -1
        if call.backend == "cython":
            plan.rescale_pred = plan.pred_kind == PROBS
            plan.rescale_true = plan.true_view != NULL and plan.true_kind == PROBS
            plan.stored = FLOAT64 if plan.rescale_pred or plan.rescale_true else plan.stored
    plan.pred_in_place = not plan.rescale_pred and in_place(plan.pred_view, plan.stored)
    plan.true_in_place = plan.true_view != NULL and not plan.rescale_true and in_place(plan.true_view, plan.stored)
    plan.tile_rows = rows_of_tile(call)
    plan.by_blocks = plan.tile_rows == 1 and plan.classes > CHUNK
    plan.columns = <int>len(call.columns)
    for k, name in enumerate(call.columns):
        plan.scale[k] = call.unit if call.unit != 1 and name in IN_NATS else 1.0


cpdef settle_options(Call call, str task, tuple columns, kind="probs", row_sums="check", eps=0.0, temperature=1.0,
                     label_smoothing=0.0, ignore_index=None, base=None, axis=-1):
    """What does not depend on the operands, of a call that is new."""
    call.task = task
    call.names = names["categorical" if len(columns) == 1 and <str>columns[0] == FOCAL else task]
    call.columns = columns
    settle_kinds(call, kind)
    settle_numbers(call, row_sums, eps, temperature, label_smoothing, base)
    if ignore_index is not None:
        if task != "sparse":
            raise ValueError(f"ignore_index: applies to sparse only, got {shown(ignore_index)}")
        call.plan.ignored = as_ignore_index(ignore_index)
        call.plan.ignores = True
    if task == "binary":
        axis = None
    elif axis is None:
        axis = WHOLE
    elif type(axis) is not int or not -8 <= axis < 8:
        axis = whole_axis(axis)
    call.axis = axis


cdef object settle_rows(Call call, true, pred, class_weight, sample_weight, num_threads, backend, bint by_weight):
    """The operands, with the options settled: the call can run."""
    cdef Plan *plan = &call.plan
    task = call.task
    call.backend = _settings.chosen_backend(backend)
    settle_operands(call, true, pred)
    if class_weight is not None or sample_weight is not None:
        settle_weights(call, sample_weight, class_weight)
    if by_weight and (plan.terms != NULL or plan.class_weight != NULL
                      or (task == "categorical" and call.row_sums == "as_is")):
        call.columns = (*call.columns, "target_weight")
    plan.target_weight_column = plan.loss_column = -1
    if len(call.columns) > 1 or plan.label_weighs:
        plan.target_weight_column = place_of("target_weight", call.columns)
        plan.loss_column = place_of("cross_entropy", call.columns)
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


cdef inline bint maybe_csr(object given):
    return not cnp.PyArray_CheckExact(given) and hasattr(given, "indptr")


cpdef prepare(str task, tuple columns, true, pred, kind="probs", row_sums="check", eps=0.0, temperature=1.0,
              label_smoothing=0.0, class_weight=None, sample_weight=None, ignore_index=None, base=None, axis=-1,
              num_threads=None, backend=None, bint by_weight=False, rows_module=None, double order=0.0):
    """Settle the operands and options of a call: the Call gives its row values.

    Arguments are those of the public functions; `columns` names the row values wanted, out of COLUMNS[task];
    `by_weight` adds "target_weight" if the rows' weights depend on it; the `row_values` of `rows_module` replace
    the backend's; `order` is the α or γ of a column that has one. Raises TypeError and ValueError as they do.
    """
    cdef Call call
    if maybe_csr(true) or maybe_csr(pred):
        csr = bring("fastent._csr")
        if csr.is_csr(true) or csr.is_csr(pred):
            options = dict(kind=kind, row_sums=row_sums, eps=eps, temperature=temperature,
                           label_smoothing=label_smoothing, class_weight=class_weight,
                           sample_weight=sample_weight, ignore_index=ignore_index, base=base, axis=axis,
                           num_threads=num_threads, backend=backend)
            more = dict(by_weight=by_weight, rows_module=rows_module, order=order)
            return csr.SparseCall(prepare, task, columns, true, pred, options, more)
    call = Call.__new__(Call)
    call.rows_module = rows_module
    call.plan.tile.order = order
    settle_options(call, task, columns, kind, row_sums, eps, temperature, label_smoothing, ignore_index, base, axis)
    settle_rows(call, true, pred, class_weight, sample_weight, num_threads, backend, by_weight)
    return call


cdef class Settled:
    """`prepare` for many batches: the options are settled once, a quarter of a small update's time."""
    cdef Call like
    cdef dict options                       # as given, for CSR rows
    cdef object class_weight, num_threads, backend
    cdef bint by_weight

    def __init__(self, str task, tuple columns, *, class_weight=None, num_threads=None, backend=None,
                 bint by_weight=False, **numbers):
        self.options = dict(numbers, class_weight=class_weight, num_threads=num_threads, backend=backend,
                            by_weight=by_weight)
        self.class_weight, self.num_threads, self.backend, self.by_weight = class_weight, num_threads, backend, by_weight
        self.like = Call.__new__(Call)
        cdef FloatMode mode = enter_default_mode()      # the logarithm of the base
        try:
            settle_options(self.like, task, columns, **numbers)
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
        settle_rows(call, true, pred, self.class_weight, sample_weight,
                    self.num_threads if num_threads is None else num_threads, self.backend, self.by_weight)
        return call


def evaluate(str task, tuple columns, true, pred, reduction, out, kind="probs", row_sums="check", *, eps=0.0, temperature=1.0, label_smoothing=0.0, class_weight=None,
             sample_weight=None, ignore_index=None, base=None, axis=-1, keepdims=False, num_threads=None,
             backend=None):
    """A public function: the values of one column, reduced. Its keywords are spelled out, since a
    dictionary of them costs a small call a third of its time; CPython makes one where positional ones and twice the
    named ones are more than 30, so that `kind` and `row_sums` go by position."""
    cdef FloatMode mode = enter_default_mode()
    try:
        if type(reduction) is not str:
            reduction = as_reduction(reduction)
        call = prepare(task, columns, true, pred, kind, row_sums, eps, temperature, label_smoothing, class_weight,
                       sample_weight, ignore_index, base, axis, num_threads, backend, reduction == "mean")
        return call.reduce(reduction, out, keepdims)
    finally:
        restore_mode(mode)
