"""Which kernel makes which column, and the looks at rows that a kernel leaves to others."""

import math

import numpy as np

from fastent.backends.sharing import share

from . import (
    binary_cross_entropy,
    careful,
    careful_divergence,
    careful_pair,
    logits_cross_entropy,
    logits_divergence,
    mixed_divergence,
    probs_cross_entropy,
    probs_divergence,
)
from .constants import (
    AGAIN,
    COLUMNS,
    CROSS_ENTROPY,
    DOUBTFUL,
    FAULTS,
    KINDS,
    LOGPROBS,
    PROBS,
    RULES,
    SKIP,
)
from .functions import reduction_unit
from .sums import APART, FEW, scratch

PAIR_COLUMNS = {
    "kl_divergence": careful_pair.KL,
    "reverse_kl": careful_pair.REVERSE_KL,
    "js_divergence": careful_pair.JS,
    "total_variation": careful_pair.TOTAL_VARIATION,
    "hellinger": careful_pair.HELLINGER,
    "brier": careful_pair.SQUARES,
    "cross_entropy": careful_pair.CROSS,
}
SWAPPED = np.array([0, 2, 1, 4, 3], np.int8)  # fault codes of the swapped operands
# how many of the first classes of p and of q, and of how many their common ones are a share
OVERLAPS = {"top5_overlap": (5, 5), "top10_overlap": (10, 10), "top1_in_top5": (1, 5)}
ONE_SIDED = {"entropy_p": 0, "target_entropy": 0, "entropy": 1, "entropy_q": 1}
NONE = np.empty(0)
NO_LABELS = np.empty(0, np.int64)
NO_PARTS = np.empty((0, 0))
LONG_ROW = 1 << 18  # classes from which the parts of a row are shared among threads
PART = 1 << 14  # classes of a part


def row_values(spec, true, pred, labels, out, terms=None):
    """Fill `out` (columns, rows); None, or (row, code, number, which) of the first bad row."""
    rows = pred.shape[0]
    if rows == 0:
        return None
    faults = np.zeros(rows, np.int8)
    present = NO_LABELS if labels is None else labels
    if spec.task == "binary":
        _binary(spec, true, pred, present, out, faults)
    elif spec.task in ("sparse", "entropy"):
        _single(spec, pred, present, out, terms, faults)
    else:
        _pair(spec, true, pred, present, out, terms, faults)
    if labels is not None:
        out[:, labels < 0] = 0.0
    return _first_fault(spec, true, pred, faults)


def _first_fault(spec, true, pred, faults):
    if not faults.any():
        return None
    row = int((faults != 0).argmax())
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


def _plain_binary(spec):
    """Whether binary cross-entropies have a kernel of their own."""
    has_temperature = _temperature(spec, spec.kind_pred) != 1.0
    return not (spec.kind_pred == "logprobs" or has_temperature or spec.eps or spec.label_smoothing)


def narrow_values(spec):
    """Whether `out` may be float32 for float32 rows, with the same values: their sum costs less."""
    return spec.task == "binary" and spec.columns == ("cross_entropy",) and _plain_binary(spec)


def _binary(spec, true, pred, labels, out, faults):
    columns = np.array([COLUMNS[name] for name in spec.columns])
    kind, temperature = KINDS[spec.kind_pred], _temperature(spec, spec.kind_pred)
    if _plain_binary(spec):
        odd = 0
        for k in np.flatnonzero(columns == CROSS_ENTROPY):
            odd += binary_cross_entropy.LOSSES[kind](true, pred, out[k])
        columns[columns == CROSS_ENTROPY] = -1
        if odd:
            binary_cross_entropy.range_faults(true, pred, kind, faults)
            if labels.size:
                faults[labels < 0] = 0
    if (columns >= 0).any():
        binary_cross_entropy.bernoulli_rows(
            true, pred, labels, columns, kind, temperature, float(spec.eps),
            float(spec.label_smoothing), out, faults,
        )  # fmt: skip


def _temperature(spec, kind):
    return float(spec.temperature) if kind == "logits" else 1.0


def _kinds(spec):
    """Kinds of both operands, the rule, temperatures of both operands."""
    names = (spec.kind_true or "probs", spec.kind_pred)
    kinds = np.array([KINDS[name] for name in names])
    return kinds, RULES[spec.row_sums], np.array([_temperature(spec, name) for name in names])


def _bounds(spec, least=0.5, most=2.0):
    """Row sums that need no other look."""
    if spec.row_sums == "check":
        return 1.0 - spec.sum_tolerance, 1.0 + spec.sum_tolerance
    return least, most


def _any_again(labels, faults, classes, *operands):
    """Whether a row is to be done again: not one that is skipped, nor one that was in doubt because
    of its neighbours."""
    if not faults.any():
        return False
    if labels.size:
        faults[labels < 0] = 0
    if (faults == DOUBTFUL).any():
        for x in operands:
            careful.doubtful_rows(x, classes, faults)
        faults[faults == DOUBTFUL] = 0
    return bool((faults == AGAIN).any())


def _statistics(spec, x, kind, labels, wanted, faults):
    """Columns that need one operand alone: `wanted` has a line of the output for each name."""
    code, rule, temperature = KINDS[kind], RULES[spec.row_sums], _temperature(spec, kind)
    flat, classes = x.reshape(-1), x.shape[1]
    if rule == SKIP and code != KINDS["logits"]:
        faults[faults == 0] = AGAIN
    elif code == PROBS:
        _probability_columns(spec, flat, classes, labels, wanted, faults)
    else:
        _logit_columns(spec, flat, classes, code, temperature, labels, wanted, faults)
    if "target_weight" in wanted:
        wanted["target_weight"][:] = 1.0
    if _any_again(labels, faults, classes, flat):
        columns = np.array([COLUMNS[name] for name in wanted])
        lines = np.empty((len(wanted), len(faults)))
        again = faults == AGAIN
        careful.single_rows(
            flat, classes, labels, columns, code, rule, float(spec.sum_tolerance), temperature,
            lines, faults,
        )  # fmt: skip
        for line, found in zip(wanted.values(), lines, strict=True):
            np.copyto(line, found, where=again)
    if "margin" in wanted:
        careful.margin_rows(
            flat, classes, labels, code, rule, temperature, wanted["margin"], faults
        )


def _probability_columns(spec, x, classes, labels, wanted, faults):
    room, bounds = scratch(x.dtype), _bounds(spec, 0.75, 1.5)
    others = tuple(wanted.get(name, NONE) for name in ("brier", "rank", "accuracy", "confidence"))
    if "entropy" in wanted and classes >= LONG_ROW:
        for i, row in enumerate(x.reshape(-1, classes)):
            place = slice(i, i + 1)
            _long_entropy(spec, row, bounds, wanted["entropy"][place], faults[place])
    elif "entropy" in wanted:
        probs_cross_entropy.ENTROPY[classes <= FEW](
            x, classes, *bounds, *room, wanted["entropy"], NO_PARTS, faults
        )
    loss, more = wanted.get("cross_entropy", NONE), any(line.size for line in others)
    if loss.size or more or not {"entropy", "target_weight"} & wanted.keys():
        probs_cross_entropy.SPARSE[classes <= FEW, more](
            x, classes, labels, *bounds, *room, loss, others, faults
        )


def _long_entropy(spec, x, bounds, out, faults):
    """Entropy of one row of very many classes, whose parts are shared among the threads."""
    rows, size = x.size // PART, x.size // PART * PART
    sums, odd = np.empty((3, rows + 1)), np.zeros(rows + 1, np.int8)

    def part(first, last):
        stop = x.size if first == rows else last * PART
        wide = stop - first * PART if first == rows else PART
        some = np.empty((3, last - first))
        probs_cross_entropy.ENTROPY[False](
            x[first * PART : stop], wide, -math.inf, math.inf, *scratch(x.dtype),
            np.empty(last - first), some, odd[first:last],
        )  # fmt: skip
        sums[:, first:last] = some

    share(part, 0, rows, max(1, rows // (4 * spec.num_threads)), spec.num_threads)
    if size < x.size:
        part(rows, rows + 1)
    else:
        sums[:, rows] = 0.0
    if odd.any():
        faults[:] = AGAIN
        return
    room = scratch(x.dtype)[1]
    room[[0, APART, 2 * APART]] = [math.fsum(line) for line in sums]
    probs_cross_entropy.entropy_of_sums(room, *bounds, out, faults)


def _arithmetic(x, temperature):
    """float32 rows with a temperature are done in float64."""
    return x.dtype if temperature == 1.0 else np.dtype(np.float64)


def _limits(spec, code, dtype, classes):
    """What makes a row of logits odd: see `logits_cross_entropy.loss_value`."""
    # what float32 exponentials below the normal range add should not matter
    least = max(8e-28, 4e-30 * classes) if dtype == np.float32 and classes > 1 else -1.0
    if code == LOGPROBS:
        return (least, True, *_bounds(spec, 0.0, math.inf))
    return least, False, -math.inf, math.inf


def _logit_columns(spec, x, classes, code, temperature, labels, wanted, faults):
    dtype = _arithmetic(x, temperature)
    names = ("entropy", "confidence", "brier", "rank", "accuracy")
    others = tuple(wanted.get(name, NONE) for name in names)
    columns = logits_cross_entropy.HEAT if "entropy" in wanted else logits_cross_entropy.LOSS
    columns = logits_cross_entropy.ALL if any(line.size for line in others[1:]) else columns
    logits_cross_entropy.ROWS[classes <= logits_cross_entropy.FEW, columns](
        x, classes, labels, reduction_unit(temperature), _limits(spec, code, dtype, classes),
        *scratch(dtype), wanted.get("cross_entropy", NONE), others, faults,
    )  # fmt: skip


def _needs_options(spec, terms):
    return bool(
        spec.eps or spec.label_smoothing or spec.class_weight is not None or terms is not None
    )


def _options(
    spec, true, pred, labels, out, terms, faults, names=("cross_entropy", "target_weight")
):
    """Cross-entropy and target weight under eps, smoothing or weights."""
    rows, classes = pred.shape
    if terms is not None:
        weights = terms
    elif spec.class_weight is not None:
        weights = np.ascontiguousarray(spec.class_weight, np.float64).reshape(1, classes)
    else:
        weights = np.empty((0, 0))
    if not set(names) & set(spec.columns):
        return
    values = np.empty((2, rows))
    target = pred[:0].reshape(-1) if true is None else true.reshape(-1)
    careful.option_rows(
        target, pred.reshape(-1),
        classes, labels, *_kinds(spec), float(spec.eps), float(spec.label_smoothing), weights,
        values[0], values[1], faults,
    )  # fmt: skip
    for name, row in zip(spec.columns, out, strict=True):
        if name in names:
            row[:] = values[int(name == "target_weight")]


def _single(spec, pred, labels, out, terms, faults):
    options = _needs_options(spec, terms)
    if spec.row_sums == "as_is" and spec.kind_pred != "logits" and not options:
        if spec.columns == ("cross_entropy",):
            careful.lookup_rows(
                pred.reshape(-1), pred.shape[1], labels, KINDS[spec.kind_pred], out[0], faults
            )
            return
    wanted = dict(zip(spec.columns, out, strict=True))
    _statistics(spec, pred, spec.kind_pred, labels, wanted, faults)
    if options:
        _options(spec, None, pred, labels, out, terms, faults)


def _pair(spec, true, pred, labels, out, terms, faults):
    rows, classes = pred.shape
    operands = (true.reshape(-1), pred.reshape(-1), classes)
    kinds, rule, temperatures = _kinds(spec)
    missing = None
    if not PAIR_COLUMNS.keys() >= set(spec.columns):
        missing = np.zeros(rows, np.bool_)
        careful_divergence.fault_rows(
            *operands, labels, kinds, rule, float(spec.sum_tolerance), missing, faults
        )
    for name, column in zip(spec.columns, out, strict=True):
        if name in ONE_SIDED:
            x, kind = ((true, spec.kind_true), (pred, spec.kind_pred))[ONE_SIDED[name]]
            _statistics(spec, x, kind, labels, {"entropy": column}, np.zeros(rows, np.int8))
        elif name in ("accuracy", "top1_agreement"):
            careful_divergence.agreement_rows(*operands, column)
        elif name in OVERLAPS:
            careful_divergence.overlap_rows(*operands, *OVERLAPS[name], column)
        elif name == "target_weight":
            column[:] = 1.0
        else:
            _divergence(spec, name, operands, labels, kinds, rule, temperatures, column, faults)
        if name != "target_weight" and missing is not None:
            column[missing] = np.nan
    if spec.task == "categorical" and _needs_options(spec, terms):
        _options(spec, true, pred, labels, out, terms, faults)
    elif "target_weight" in spec.columns and rule == SKIP:
        _options(spec, true, pred, labels, out, terms, faults, ("target_weight",))


def _divergence(spec, name, operands, labels, kinds, rule, temperatures, out, faults):
    """One column that needs both operands."""
    what, eps = PAIR_COLUMNS[name], float(spec.eps)
    p, q, classes = operands
    swapped = what == careful_pair.REVERSE_KL
    if swapped:  # never clipped, so it is KL of the swapped rows
        p, q, eps, what = q, p, 0.0, careful_pair.KL
        kinds, temperatures = kinds[::-1].copy(), temperatures[::-1].copy()
    found = np.zeros(out.size, np.int8)
    if eps != 0.0 or rule == SKIP:
        found[:] = AGAIN
    elif (kinds == PROBS).all():
        _prob_pairs(spec, what, p, q, classes, out, found)
    elif PROBS in kinds:
        _mixed_pairs(spec, what, p, q, classes, kinds, temperatures, out, found)
    else:
        _logit_pairs(spec, what, p, q, classes, kinds, temperatures, out, found)
    if _any_again(labels, found, classes, p, q):
        careful_divergence.careful_pair_rows(
            p, q, classes, what, kinds, rule, float(spec.sum_tolerance), temperatures, eps, out,
            found,
        )  # fmt: skip
    if found.any():
        np.copyto(faults, SWAPPED[found] if swapped else found, where=faults == 0)


def _prob_pairs(spec, what, p, q, classes, out, found):
    if what not in probs_divergence.FORMULAS:
        found[:] = AGAIN
        return
    low, high = _bounds(spec)
    limits = probs_divergence.limits(what, low, high, p.dtype == np.float32)
    probs_divergence.ROWS[what, classes <= FEW](
        p, q, classes, *limits, *scratch(p.dtype), out, found
    )


def _mixed_pairs(spec, what, p, q, classes, kinds, temperatures, out, found):
    side = int(kinds[0] == PROBS)  # the logarithmic one
    code, temperature = int(kinds[side]), float(temperatures[side])
    unit, sums = reduction_unit(temperature), _bounds(spec)
    if what == careful_pair.CROSS and side:
        dtype = _arithmetic(q, temperature)
        limits = (*_limits(spec, code, dtype, classes), *sums)
        logits_cross_entropy.target_rows(p, q, classes, unit, limits, *scratch(dtype), out, found)
    elif what in mixed_divergence.COLUMNS:
        x, y = (p, q) if side else (q, p)
        check = code == LOGPROBS and spec.row_sums == "check"
        mixed_divergence.mixed_rows(x, y, classes, what, not side, unit, check, *sums, out, found)
    else:
        found[:] = AGAIN


def _logit_pairs(spec, what, p, q, classes, kinds, temperatures, out, found):
    temperature = float(temperatures[0])
    if temperature != temperatures[1] or what == careful_pair.SQUARES:
        found[:] = AGAIN
        return
    wide = what in logits_divergence.WIDE
    dtype = np.dtype(np.float64) if wide else _arithmetic(p, temperature)
    kernel = (
        mixed_divergence.cross_logit_rows
        if what == careful_pair.CROSS
        else logits_divergence.ROWS[what]
    )
    checks = tuple(bool(k == LOGPROBS) and spec.row_sums == "check" for k in kinds)
    kernel(
        p, q, classes, reduction_unit(temperature), checks, *_bounds(spec), *scratch(dtype), out,
        found,
    )  # fmt: skip
