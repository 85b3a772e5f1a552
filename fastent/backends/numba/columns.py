"""Which kernel makes which column, by the compiled backend's table, and its careful rows."""

import math
from importlib import import_module

import numpy as np

from fastent.backends.cython.columns import COLUMNS, MODULES, SEEN, kernel_of

from . import binary_cross_entropy, codes, slots
from .careful import lookup_rows, option_rows, single_rows
from .careful_pair import fault_rows, pair_rows

# The modules are named as the compiled ones.
RUN = {
    name: import_module(f".{name}", __package__).run
    for name in MODULES.values()
    if name != "careful"
}
# What the table leaves to `careful` and has a kernel here, by how many operands are logarithmic.
MORE = {
    0: {},
    1: dict.fromkeys((slots.KL_DIVERGENCE, slots.JS_DIVERGENCE), "logits_divergence"),
    2: {slots.CROSS_ENTROPY: "logits_cross_entropy", slots.HELLINGER: "logits_divergence"},
}
LOSS = (slots.CROSS_ENTROPY, slots.TARGET_WEIGHT)  # what `careful` makes both of at once
SWAPPED = np.array([0, 2, 1, 4, 3, 6, 5], np.int8)  # fault codes of the swapped operands
NO_LABELS, NO_WEIGHTS = np.empty(0, np.int64), np.empty((0, 0))


class Rows:
    """One operand, or the two that are `seen`, as a kernel sees them: flat, `pred` last."""

    def __init__(self, spec, operands, labels=None, seen=(0, 1)):
        names = [(spec.kind_true or "probs", spec.kind_pred)[k] for k in seen]
        last = operands[seen[-1]]
        self.spec, self.rule = spec, codes.RULES[spec.row_sums]
        self.classes = last.shape[1] if last.ndim > 1 else 1
        self.operands = [operands[k].reshape(-1) for k in seen]
        self.true, self.pred = [None, *self.operands][-2:]
        self.labels = NO_LABELS if labels is None else labels
        self.kinds = np.array([codes.KINDS[name] for name in names])
        hot = float(spec.temperature)
        self.temperatures = np.array([hot if name == "logits" else 1.0 for name in names])
        # what `careful` wants to know of the rows
        self.given = self.kinds, self.rule, float(spec.sum_tolerance), self.temperatures

    def bounds(self, least=0.5, most=2.0):
        """Row sums that need no other look."""
        if self.rule == codes.CHECK:
            return 1.0 - self.spec.sum_tolerance, 1.0 + self.spec.sum_tolerance
        return least, most


def narrow_values(spec):
    """Whether `out` may be float32 for float32 rows, with the same values: their sum costs less."""
    return (
        spec.task == "binary"
        and spec.columns == ("cross_entropy",)
        and binary_cross_entropy.plain(codes.KINDS[spec.kind_pred], spec)
    )


def row_values(spec, true, pred, labels, out, terms=None):
    """Fill `out` (columns, rows); None, or (row, code, number, which) of the first bad row."""
    if labels is None and narrow_values(spec):
        if not binary_cross_entropy.LOSSES[codes.KINDS[spec.kind_pred]](true, pred, out[0]):
            return None  # nothing to look at again
    faults = np.zeros(pred.shape[0], np.int8)
    one_sided, missing, steps = False, slice(0), {}
    for column in COLUMNS[spec.task]:
        if column.name in spec.columns:
            made_by = _made_by(spec, column, terms)
            # pairs one by one: which rows are odd for a column is not another one's business
            group = None if spec.task == "sparse" else column.slot
            if made_by[0] == "careful" and column.slot in LOSS:
                group = "loss"
            step = (*made_by, column.sees, float(spec.eps) if column.options else 0.0, group)
            steps.setdefault(step, {})[column.slot] = out[spec.columns.index(column.name)]
            one_sided |= len(SEEN[column.sees]) == 1 or column.unchecked
    if one_sided and spec.task in ("categorical", "divergence"):
        rows, missing = Rows(spec, (true, pred), labels), np.zeros(len(faults), np.bool_)
        fault_rows(*rows.operands, rows.classes, rows.labels, rows.given, missing, faults)
    for (module, _, sees, eps, group), lines in steps.items():
        rows = Rows(spec, (true, pred), labels, SEEN[sees])
        found = np.zeros(len(faults), np.int8)
        if group == "loss":
            _options(rows, lines, found, terms)
        elif module == "careful":
            found[:] = codes.AGAIN
        else:
            RUN[module](rows, lines, found)
        if found.any():
            found[rows.labels < 0 if rows.labels.size else slice(0)] = 0
            _again(rows, lines, found, eps)
            found = SWAPPED[found] if SEEN[sees][-1] == 0 else found
            np.copyto(faults, found, where=faults == 0)
    if labels is not None:
        out[:, labels < 0] = 0.0
    for name, line in zip(spec.columns, out, strict=True):
        line[missing if name != "target_weight" else slice(0)] = math.nan
    return first_fault(spec, true, pred, faults)


def _made_by(spec, column, terms):
    """The name of the module whose kernel makes a column, and the kernel's place there."""
    clips = spec.eps > 0
    options = clips or spec.label_smoothing or spec.class_weight is not None or terms is not None
    temperature, normalise = float(spec.temperature), spec.row_sums != "as_is"
    kinds = (codes.KINDS[spec.kind_true or "probs"], codes.KINDS[spec.kind_pred])
    seen = [kinds[k] for k in SEEN[column.sees]]
    made_by = kernel_of(column, *kinds, normalise, temperature, True, bool(options), clips)
    module, place = MODULES[made_by[0]], made_by[1]
    raw = not normalise and any(kind != codes.LOGITS for kind in seen)
    if raw and (column.careful is None or MODULES[column.careful[0]] == "careful"):
        return "careful", 0
    logs = sum(kind != codes.PROBS for kind in seen)
    asked = (column.options == "all" and options) or (column.options == "eps" and clips)
    if module == "careful" and len(seen) == 2 and not asked:
        if logs < 2 or kinds[0] == kinds[1] or temperature == 1.0:
            module = MORE[logs].get(column.slot, module)
    return module, place


def _again(rows, lines, faults, eps):
    """The rows that are AGAIN, in the plain loops."""
    again = faults == codes.AGAIN
    if not again.any():
        return
    if rows.true is not None:
        ((slot, line),) = lines.items()
        pair_rows(*rows.operands, rows.classes, slot, rows.given, eps, line, faults)
        return
    wanted, made = np.array([*lines]), np.empty((len(lines), len(faults)))
    single_rows(rows.pred, rows.classes, rows.labels, wanted, rows.given, made, faults)
    for line, found in zip(lines.values(), made, strict=True):
        np.copyto(line, found, where=again)


def _options(rows, lines, faults, terms):
    """Cross-entropy and target weight under eps, smoothing or weights, or of rows as they are."""
    spec, labels, weights = rows.spec, rows.labels, NO_WEIGHTS if terms is None else terms
    loss, mass = (lines.get(slot, np.empty(len(faults))) for slot in LOSS)
    if terms is None and spec.class_weight is not None:
        weights = np.ascontiguousarray(spec.class_weight, np.float64).reshape(1, -1)
    plain, wanted = not (spec.eps or spec.label_smoothing or weights.size), LOSS[0] in lines
    if plain and (spec.task == "sparse" or not (wanted or spec.row_sums == "as_is")):
        mass[:] = 1.0
        if wanted:
            lookup_rows(rows.pred, rows.classes, labels, rows.kinds[-1], loss, faults)
        return
    true = rows.pred[:0] if rows.true is None else rows.true
    option_rows(
        true, rows.pred, rows.classes, labels, rows.given, float(spec.eps),
        float(spec.label_smoothing), weights, loss, mass, faults,
    )  # fmt: skip


def first_fault(spec, true, pred, faults):
    if not faults.any():
        return None
    row = int((faults != 0).argmax())
    code, which = codes.FAULTS[int(faults[row])]
    x, kind = (true, spec.kind_true) if which == "true" else (pred, spec.kind_pred)
    numbers = np.atleast_1d(x[row]).astype(np.float64)
    if code != "row_sum":
        below = numbers[numbers < 0]
        return row, code, float((below if below.size else numbers)[0]), which
    with np.errstate(all="ignore"):
        numbers = np.exp(numbers) if kind == "logprobs" else numbers
    try:
        return row, code, math.fsum(numbers), which
    except OverflowError:
        return row, code, math.inf, which
