"""Row values compiled by Numba at first use: the same formulas as the other backends."""

import math

import numpy as np

from . import careful, divergence, logit_divergence, mixed, pairs, prob_divergence
from .bernoulli import bernoulli_rows, loss_rows
from .elementary import reduction_unit
from .logits import logit_rows
from .plan import AGAIN, COLUMNS, CROSS_ENTROPY, FAULTS, KINDS, LOGPROBS, PROBS, RULES
from .probabilities import prob_rows

PAIR_COLUMNS = {
    "kl_divergence": pairs.KL,
    "reverse_kl": pairs.REVERSE_KL,
    "js_divergence": pairs.JS,
    "total_variation": pairs.TOTAL_VARIATION,
    "hellinger": pairs.HELLINGER,
    "brier": pairs.SQUARES,
    "cross_entropy": pairs.CROSS,
}
SWAPPED = np.array([0, 2, 1, 4, 3], np.int8)  # fault codes of the swapped operands
ONE_SIDED = {"entropy_p": 0, "target_entropy": 0, "entropy": 1, "entropy_q": 1}


def row_values(spec, true, pred, labels, out, terms=None):
    """Fill `out` (columns, rows); None, or (row, code, number, which) of the first bad row."""
    rows = pred.shape[0]
    if rows == 0:
        return None
    faults = np.zeros(rows, np.int8)
    if spec.task == "binary":
        _binary(spec, true, pred, labels, out, faults)
    else:
        present = np.zeros(rows, np.int64) if labels is None else labels
        if spec.task in ("sparse", "entropy"):
            _single(spec, pred, present, out, terms, faults)
        else:
            _pair(spec, true, pred, present, out, terms, faults)
    return _first_fault(spec, true, pred, faults)


def _first_fault(spec, true, pred, faults):
    row = int((faults != 0).argmax())
    if not faults[row]:
        return None
    code, which = FAULTS[int(faults[row])]
    numbers = np.atleast_1d((true if which == "true" else pred)[row]).astype(np.float64)
    if code == "row_sum":
        if (spec.kind_true if which == "true" else spec.kind_pred) == "logprobs":
            with np.errstate(all="ignore"):
                numbers = np.exp(numbers)
        try:
            number = math.fsum(numbers)
        except OverflowError:
            number = math.inf
    else:
        number = float(numbers[numbers < 0][0] if (numbers < 0).any() else numbers[0])
    return row, code, number, which


def _binary(spec, true, pred, labels, out, faults):
    columns = np.array([COLUMNS[name] for name in spec.columns])
    present = np.empty(0, np.int64) if labels is None else labels
    kind, temperature = KINDS[spec.kind_pred], _temperature(spec, spec.kind_pred)
    if kind != LOGPROBS and not (spec.eps or spec.label_smoothing):
        for k in np.flatnonzero(columns == CROSS_ENTROPY):
            loss_rows(
                0, pred.size, true, pred, present, kind,
                reduction_unit(temperature), out[k], faults,
            )  # fmt: skip
        columns[columns == CROSS_ENTROPY] = -1
    if (columns >= 0).any():
        bernoulli_rows(
                0, pred.size, true, pred, present,
            columns, kind, temperature, float(spec.eps), float(spec.label_smoothing), out, faults,
        )  # fmt: skip


def _temperature(spec, kind):
    return float(spec.temperature) if kind == "logits" else 1.0


def _kinds(spec):
    """Kinds of both operands, the rule, temperatures of both operands."""
    names = (spec.kind_true or "probs", spec.kind_pred)
    kinds = np.array([KINDS[name] for name in names])
    return kinds, RULES[spec.row_sums], np.array([_temperature(spec, name) for name in names])


def _statistics(spec, x, kind, labels, columns, out, faults):
    """Columns that need one operand alone."""
    rows, classes = x.shape
    rule = RULES[spec.row_sums]
    arguments = [x.reshape(-1), classes, labels, columns]
    if kind == "probs" or (kind == "logprobs" and spec.row_sums == "as_is"):
        kernel = prob_rows if kind == "probs" else careful.plain_log_rows
        arguments += [rule, float(spec.sum_tolerance)]
    else:
        kernel = logit_rows
        unit = reduction_unit(_temperature(spec, kind))
        arguments += [KINDS[kind], rule, unit, float(spec.sum_tolerance)]
    kernel(0, rows, *arguments, out, faults)


def _needs_options(spec, terms):
    return bool(
        spec.eps or spec.label_smoothing or spec.class_weight is not None or terms is not None
    )


def _options(spec, true, pred, labels, out, terms, faults):
    """Cross-entropy and target weight under eps, smoothing or weights."""
    rows, classes = pred.shape
    if terms is not None:
        weights = terms
    elif spec.class_weight is not None:
        weights = np.ascontiguousarray(spec.class_weight, np.float64).reshape(1, classes)
    else:
        weights = np.empty((0, 0))
    if not {"cross_entropy", "target_weight"} & set(spec.columns):
        return
    values = np.empty((2, rows))
    target = pred[:0].reshape(-1) if true is None else true.reshape(-1)
    careful.option_rows(
                0, rows, target, pred.reshape(-1),
        classes, labels, *_kinds(spec), float(spec.eps), float(spec.label_smoothing), weights,
        values[0], values[1], faults,
    )  # fmt: skip
    for name, row in zip(spec.columns, out, strict=True):
        if name in ("cross_entropy", "target_weight"):
            row[:] = values[int(name == "target_weight")]


def _single(spec, pred, labels, out, terms, faults):
    columns = np.array([COLUMNS[name] for name in spec.columns])
    if spec.row_sums == "as_is" and spec.kind_pred != "logits" and not _needs_options(spec, terms):
        if spec.columns == ("cross_entropy",):
            careful.lookup_rows(
                0, len(pred), pred.reshape(-1),
                pred.shape[1], labels, KINDS[spec.kind_pred], out[0], faults,
            )  # fmt: skip
            return
    _statistics(spec, pred, spec.kind_pred, labels, columns, out, faults)
    if _needs_options(spec, terms):
        _options(spec, None, pred, labels, out, terms, faults)


def _pair(spec, true, pred, labels, out, terms, faults):
    rows, classes = pred.shape
    operands = (true.reshape(-1), pred.reshape(-1), classes, labels)
    kinds, rule, temperatures = _kinds(spec)
    missing = np.zeros(rows, np.bool_)
    if not PAIR_COLUMNS.keys() >= set(spec.columns):
        divergence.fault_rows(
                0, rows, *operands, kinds, rule,
            float(spec.sum_tolerance), missing, faults,
        )  # fmt: skip
    for name, column in zip(spec.columns, out, strict=True):
        if name in ONE_SIDED:
            x, kind = ((true, spec.kind_true), (pred, spec.kind_pred))[ONE_SIDED[name]]
            codes = np.array([COLUMNS["entropy"]])
            checked = np.zeros(rows, np.int8)
            _statistics(spec, x, kind, np.minimum(labels, 0), codes, column[None], checked)
        elif name in ("accuracy", "top1_agreement"):
            divergence.agreement_rows(0, rows, *operands, column)
        elif name == "target_weight":
            column[:] = labels >= 0
        else:
            _divergence(spec, name, operands, kinds, rule, temperatures, column, faults)
        if name != "target_weight":
            column[missing] = np.nan
    if spec.task == "categorical" and _needs_options(spec, terms):
        _options(spec, true, pred, labels, out, terms, faults)


def _divergence(spec, name, operands, kinds, rule, temperatures, out, faults):
    """One column that needs both operands."""
    what, eps = PAIR_COLUMNS[name], float(spec.eps)
    p, q, classes, labels = operands
    swapped = what == pairs.REVERSE_KL
    if swapped:  # never clipped, so it is KL of the swapped rows
        p, q, eps, what = q, p, 0.0, pairs.KL
        kinds, temperatures = kinds[::-1].copy(), temperatures[::-1].copy()
    tolerance = float(spec.sum_tolerance)
    plain = eps == 0.0 and spec.row_sums != "as_is"
    found = np.zeros(out.size, np.int8)
    out[:] = 0.0
    arguments = (p, q, classes, labels)
    units = tuple(reduction_unit(float(t)) for t in temperatures)
    tail = (rule, tolerance)
    if not plain:
        kernel = None
    elif (kinds == PROBS).all():
        kernel = prob_divergence.prob_pair_rows if what in prob_divergence.COLUMNS else None
        arguments += (what, *tail)
    elif what == pairs.CROSS:
        kernel = mixed.cross_logit_rows if kinds[1] != PROBS else None
        arguments += (kinds, *tail, *units)
    elif PROBS not in kinds:
        known = what in logit_divergence.COLUMNS and temperatures[0] == temperatures[1]
        kernel = logit_divergence.logit_pair_rows if known else None
        arguments += (what, kinds, *tail, units[0])
    else:
        kernel = mixed.mixed_rows if what in mixed.COLUMNS else None
        log_side = int(kinds[0] == PROBS)
        if not log_side:
            arguments = (q, p, classes, labels)
        arguments += (what, not log_side, kinds[log_side], *tail, units[log_side])
    if kernel:
        kernel(0, out.size, *arguments, out, found)
    else:
        found[labels >= 0] = AGAIN
    labels = np.where(found == AGAIN, 0, -1)
    found[found == AGAIN] = 0
    if labels.max() >= 0:
        divergence.careful_pair_rows(
                0, out.size, p, q, classes,
            labels, what, kinds, rule, tolerance, temperatures, eps, out, found,
        )  # fmt: skip
    if swapped:
        found = SWAPPED[found]
    np.copyto(faults, found, where=faults == 0)
