"""Derivatives of divergences, entropy and focal losses in logits.

They are computed with more digits than the logits have: in float64 for narrower ones, in the long
double of the C compiler for float64 (64 bits of mantissa on x86; elsewhere it may be float64
itself). A component loses digits only where it is a difference of nearly equal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastent.backends.cython.derivatives.loop as derivatives
from fastent import functions
from fastent._errors import as_number, as_text, one_of, place_of_axis, shown
from fastent._feed import rows_of
from fastent._keywords import Kinds, Reduced, explained
from fastent._outputs import check_out
from fastent._reductions import exact_sum
from fastent._settings import chosen_threads
from fastent._shapes import Shape, common_lead, full_shape, lead_of_labels
from fastent._weights import as_floats, row_and_term_weights, row_weights, whole_labels
from fastent.backends.cython.engine import prepare
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.sharing import share

BLOCK = 1 << 14  # numbers in one block of rows


class Side:
    """Rows of a distribution, of logits over a temperature: probabilities, and their logarithms
    where they are asked for."""

    def __init__(self, p: np.ndarray, logarithms: Callable[[], np.ndarray]) -> None:
        self.p = p
        self._logarithms = logarithms

    @cached_property
    def log(self) -> np.ndarray:
        return self._logarithms()


@explained
@in_default_mode
def kl_divergence_gradient(
    p: ArrayLike,
    q: ArrayLike,
    *,
    wrt: Literal["p", "q"] = "q",
    kind: Kinds = "logits",
    temperature: float | tuple[float, float] = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduced = "sum",
    axis: int | None = -1,
    out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Gradient of the summed KL(p ‖ q) in the logits of one operand.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions; leading axes broadcast.
    wrt : {"p", "q"}
        The operand whose logits are meant.
    kind : {"probs", "logprobs", "logits"} or a pair of them
        What the operands hold; that of `wrt` holds logits.
    temperature : float, or a pair of them
        Logits are divided by it: those of both operands, or of each by its own.
    sample_weight : array_like, optional
        Of the leading shape: weighs rows.
    reduction : {"sum", "mean"}
        Of the loss; the mean divides by the sum of the weights.
    out : ndarray, optional
        Where the result goes: the shape and dtype of the logits.

    Returns
    -------
    ndarray
        Of the shape and dtype of the logits (float64 for integers, float32 for bfloat16 tensors).
        Of an operand that was broadcast the derivatives of all its rows are summed.

    Raises
    ------
    ValueError, TypeError
        As `kl_divergence`; an operand `wrt` that holds no logits.

    Notes
    -----
    (q − p)/T in the logits of q, and p·(log(p/q) − KL)/T in those of p. With x the larger of p and
    q in a class, a component is right to 1e-14 of itself and 1e-18·x/T (of float32: 1e-6 of itself
    and 1e-14·x/T), times the largest of −log p and −log q where that is above 1.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.kl_divergence_gradient([0.75, 0.25], [0.0, 0.0], kind=("probs", "logits")).tolist()
    [-0.25, 0.25]
    """
    return _pair(
        functions.kl_divergence, _kl, p, q, wrt, kind, temperature, sample_weight, reduction,
        axis, out, num_threads,
    )  # fmt: skip


@explained
@in_default_mode
def js_divergence_gradient(
    p: ArrayLike,
    q: ArrayLike,
    *,
    wrt: Literal["p", "q"] = "q",
    kind: Kinds = "logits",
    temperature: float | tuple[float, float] = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduced = "sum",
    axis: int | None = -1,
    out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Gradient of the summed Jensen-Shannon divergence in the logits of one operand.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions; leading axes broadcast.
    wrt : {"p", "q"}
        The operand whose logits are meant.
    kind : {"probs", "logprobs", "logits"} or a pair of them
        What the operands hold; that of `wrt` holds logits.
    temperature : float, or a pair of them
        Logits are divided by it: those of both operands, or of each by its own.
    sample_weight : array_like, optional
        Of the leading shape: weighs rows.
    reduction : {"sum", "mean"}
        Of the loss; the mean divides by the sum of the weights.
    out : ndarray, optional
        Where the result goes: the shape and dtype of the logits.

    Returns
    -------
    ndarray
        As `kl_divergence_gradient`, with its accuracy.

    Raises
    ------
    ValueError, TypeError
        As `js_divergence`; an operand `wrt` that holds no logits.

    Notes
    -----
    ½·q·(log(q/m) − KL(q ‖ m))/T with m = (p + q)/2.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.js_divergence_gradient([0.5, 0.5], [0.0, 0.0], kind=("probs", "logits")).tolist()
    [0.0, 0.0]
    """
    return _pair(
        functions.js_divergence, _js, p, q, wrt, kind, temperature, sample_weight, reduction,
        axis, out, num_threads,
    )  # fmt: skip


@explained
@in_default_mode
def entropy_gradient(
    logits: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduced = "sum",
    axis: int | None = -1,
    out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Gradient of the summed entropy in the logits: −p·(log p + H)/T.

    Parameters
    ----------
    logits : array_like, shape (..., C)
        The distribution.
    sample_weight : array_like, optional
        Of the leading shape: weighs rows.
    reduction : {"sum", "mean"}
        Of the entropies; the mean divides by the sum of the weights.
    out : ndarray, optional
        Where the result goes: the shape and dtype of the logits.

    Returns
    -------
    ndarray
        As `kl_divergence_gradient`, with its accuracy.

    Raises
    ------
    ValueError, TypeError
        As `entropy`.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.entropy_gradient([0.0, 0.0]).tolist()
    [0.0, 0.0]
    >>> fe.entropy_gradient([1.0, 0.0]).round(6).tolist()
    [-0.196612, 0.196612]
    """
    heat = _heat(temperature)
    operand = _Operand(logits, "logits", "logits", axis)
    functions.entropy(logits, kind="logits", axis=axis, num_threads=num_threads)  # checks them
    weight = row_weights(sample_weight, operand.lead)
    scale = _scale(weight, operand.lead, reduction)

    def of_rows(rows: np.ndarray) -> np.ndarray:
        side = operand.side(rows, heat)
        return -side.p * (_times(side.p, side.log)[1] + _entropy(side)) / heat

    return operand.derive(of_rows, operand.lead, scale, out, num_threads)


@explained
@in_default_mode
def focal_cross_entropy_gradient(
    target_or_labels: ArrayLike,
    logits: ArrayLike,
    *,
    gamma: float = 2.0,
    temperature: float = 1.0,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    reduction: Reduced = "sum",
    axis: int | None = -1,
    out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Gradient of the summed focal cross-entropy in the logits.

    Parameters
    ----------
    target_or_labels : array_like
        Class labels of shape (...), with fewer axes than `logits`, or probabilities of shape
        (..., C), with as many or more.
    logits : array_like, shape (..., C)
        The predictions.
    gamma : float
        The focusing exponent, at least 0.
    class_weight : array_like, shape (C,), optional
        Weighs the terms of the sum over classes; like weights of terms, for labels only.
    ignore_index : int, optional
        Rows with this label have derivatives 0.
    reduction : {"sum", "mean"}
        Of the loss; the mean divides by the sum of the weights.
    out : ndarray, optional
        Where the result goes: the shape and dtype of the logits.

    Returns
    -------
    ndarray
        As `kl_divergence_gradient`, with its accuracy.

    Raises
    ------
    ValueError, TypeError
        As `focal_cross_entropy`.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.focal_cross_entropy_gradient([0], [[0.0, 0.0]], gamma=0).tolist()
    [[-0.5, 0.5]]
    """
    focus = as_number(gamma, "gamma")
    if not 0 <= focus < math.inf:
        raise ValueError(f"gamma: expected a finite number of at least 0, got {shown(gamma)}")
    heat = _heat(temperature)
    operand = _Operand(logits, "logits", "logits", axis)
    given = derivatives.as_array(target_or_labels, "target_or_labels")[0]
    if given.ndim >= operand.ndim:
        for name, value in (("class_weight", class_weight), ("ignore_index", ignore_index)):
            if value is not None:
                raise ValueError(f"{name}: applies to labels only, got {shown(value)}")
        functions.categorical_cross_entropy(  # checks the operands
            target_or_labels, logits, kind="logits", axis=axis, num_threads=num_threads
        )
        target = _Operand(target_or_labels, "target_or_labels", "probs", axis)
        lead = common_lead(target.lead, operand.lead)
        assert lead is not None
        weight = row_weights(sample_weight, lead)

        def of_target(rows: np.ndarray) -> np.ndarray:
            side = operand.side(operand.places(rows, lead), heat)
            t = target.side(target.places(rows, lead), 1.0, side.p.dtype).p
            rest = _others(side.p)
            g = t * _focus(side.p, side.log, rest, focus)
            return (g * rest - side.p * _others(g)) / heat

        scale = _scale(weight, lead, reduction)
        return operand.derive(of_target, lead, scale, out, num_threads)
    own_lead, classes = operand.lead, operand.classes
    common = lead_of_labels(given.shape, own_lead, operand.shape)
    if common is None:
        raise ValueError(
            f"target_or_labels: expected shape {own_lead}, or what broadcasts with it, as logits "
            f"have shape {operand.shape}, got {given.shape}"
        )
    labels_lead: Shape = common
    at = None if axis is None else place_of_axis(axis, len(labels_lead) + 1, "logits")
    full = operand.shape if at is None else full_shape(labels_lead, classes, axis, 0)
    weight, terms = row_and_term_weights(sample_weight, class_weight, full, at)
    labels = whole_labels(target_or_labels, labels_lead, classes, ignore_index).reshape(-1)
    total = np.where(labels < 0, 0.0, 1.0 if weight is None else weight.reshape(-1))
    if terms is not None:
        table = np.broadcast_to(terms, (*labels_lead, classes)).reshape(-1, classes)
        total = total * table[np.arange(len(labels)), np.maximum(labels, 0)]

    def of_labels(rows: np.ndarray) -> np.ndarray:
        side = operand.side(operand.places(rows, labels_lead), heat)
        here = np.maximum(labels[rows], 0)[:, None]
        own = np.take_along_axis(side.p, here, -1)
        slope = side.p.copy()
        np.put_along_axis(slope, here, 0, -1)
        rest = slope.sum(-1, keepdims=True)  # also right where the label has almost all
        log = np.where(own > 0.5, np.log1p(-rest), np.log(own))
        factor = _focus(own, log, rest, focus)
        slope *= -factor
        np.put_along_axis(slope, here, rest * factor, -1)
        return slope if heat == 1 else slope / heat

    scale = _scale(total.reshape(labels_lead), labels_lead, reduction)
    return operand.derive(of_labels, labels_lead, scale, out, num_threads)


def cross_entropy_slopes(
    plain: Any, given: Any, logits: Any, hessian: Any, out: Any, hessian_out: Any, heat: float,
    axis: int | None, mean: bool, *, sample_weight: Any, class_weight: Any, label_smoothing: float,
    ignore_index: Any, num_threads: int | None,
) -> Any:  # fmt: skip
    """Gradients of cross-entropies that the compiled loop has not: of means, with a temperature,
    along other axes, of operands that are broadcast. `plain` is what it has."""
    operand = _Operand(logits, "logits", "logits", axis)
    target = derivatives.as_array(given, "target_or_labels")[0]
    soft = target.ndim >= operand.ndim
    if soft and ignore_index is not None:
        raise ValueError(f"ignore_index: applies to labels only, got {shown(ignore_index)}")
    try:
        call = prepare(  # settles and checks the operands
            "categorical" if soft else "sparse", ("cross_entropy",), given, logits, kind="logits",
            temperature=heat, label_smoothing=label_smoothing, class_weight=class_weight, axis=axis,
            sample_weight=sample_weight, ignore_index=ignore_index, num_threads=num_threads,
            by_weight=True,
        )  # fmt: skip
        rows = rows_of(call, 0, call.rows)
    except ValueError as error:
        raise ValueError(_renamed(str(error))) from None
    weights = np.ones(call.rows) if rows.weights is None else rows.weights
    divisor = 1.0
    if mean:
        own = weights if rows.target_weights is None else weights * rows.target_weights
        divisor = exact_sum(own) or math.nan
    lead: Shape = call.lead
    if heat == 1 and lead == operand.lead and (not soft or target.shape == operand.shape):
        options = {
            "class_weight": class_weight, "label_smoothing": label_smoothing, "hessian": hessian,
            "ignore_index": ignore_index, "num_threads": num_threads,
            "sample_weight": _with_classes_last(sample_weight, operand),
        }  # fmt: skip
        labels = _with_classes_last(given, operand) if soft else np.broadcast_to(target, lead)
        found = plain(labels, operand.rows, **options)
        several = found if hessian is not None else (found,)
        placed = [operand.placed(x / x.dtype.type(divisor)) for x in several]
        if hessian is None and hessian_out is not None:
            raise ValueError("hessian_out: applies with hessian= only")
        outs = (out, hessian_out)[: len(placed)]
        done = [
            x.astype(operand.dtype, copy=False) if o is None
            else _into(o, x, operand, name)
            for x, o, name in zip(placed, outs, ("out", "hessian_out"), strict=False)
        ]  # fmt: skip
        return tuple(done) if hessian is not None else done[0]
    if hessian is not None or hessian_out is not None:
        raise ValueError(
            "hessian: does not apply with a temperature or where operands are broadcast, "
            f"got {shown(hessian)}"
        )
    at = None if axis is None else place_of_axis(axis, len(lead) + 1, "logits")
    full = operand.shape if at is None else full_shape(lead, operand.classes, axis, 0)
    weight, terms = row_and_term_weights(sample_weight, class_weight, full, at)
    scale = (np.ones(call.rows) if weight is None else weight.reshape(-1)) / divisor
    labels = None
    soft_rows: Any = None
    if soft:
        soft_rows = _Operand(given, "target_or_labels", "probs", axis)
    else:
        labels = whole_labels(given, lead, operand.classes, ignore_index).reshape(-1)
        scale = np.where(labels < 0, 0.0, scale)

    def of_rows(places: np.ndarray) -> np.ndarray:
        q = operand.side(operand.places(places, lead), heat).p
        if labels is not None and not label_smoothing:
            here = np.maximum(labels[places], 0)[:, None]
            slope = q.copy()
            np.put_along_axis(slope, here, 0, -1)
            np.put_along_axis(slope, here, -slope.sum(-1, keepdims=True), -1)
            if terms is not None:
                several = terms.reshape(-1, operand.classes)
                slope *= several[places[:, None] if len(several) > 1 else 0, here]
            return slope if heat == 1 else slope / heat
        if labels is None:
            t = soft_rows.side(soft_rows.places(places, lead), 1.0, q.dtype).p
        else:
            t = np.zeros_like(q)
            np.put_along_axis(t, np.maximum(labels[places], 0)[:, None], 1, -1)
        u = t if not label_smoothing else t * (1 - label_smoothing) + label_smoothing / q.shape[-1]
        if terms is not None:
            several = terms.reshape(-1, operand.classes)
            u = u * (several if len(several) == 1 else several[places])
        return np.asarray((q * _others(u) - u * _others(q)) / heat)

    return operand.derive(of_rows, lead, scale, out, num_threads)


def _renamed(text: str) -> str:
    """A message with the names that the arguments have here."""
    for theirs, ours in (("labels: ", "target_or_labels: "), ("target: ", "target_or_labels: "),
                         ("pred: ", "logits: ")):  # fmt: skip
        if text.startswith(theirs):
            return (ours + text.removeprefix(theirs)).replace(" pred", " logits")
    return text


def _with_classes_last(given: Any, operand: _Operand) -> Any:
    """What has the axes of the logits, or fewer, in which case it is as it was."""
    if given is None:
        return None
    array, disguised = derivatives.as_array(given, "sample_weight")
    rows = as_floats(given, "sample_weight") if disguised else array
    if rows.ndim != operand.ndim:
        return rows
    return rows.reshape(-1) if operand.at is None else np.moveaxis(rows, operand.at, -1)


def _into(out: Any, found: np.ndarray, operand: _Operand, name: str) -> np.ndarray:
    check_out(out, operand.shape, operand.dtype, name)[...] = found
    return np.asarray(out)


class _Operand:
    """Rows with their classes last, whatever the axis."""

    def __init__(self, given: Any, name: str, kind: str, axis: int | None) -> None:
        array, disguised = derivatives.as_array(given, name)
        if array.ndim == 0 or (axis is None and array.size == 0):
            raise ValueError(f"{name}: expected at least one class, got shape {array.shape}")
        self.kind = kind
        self.dtype = np.dtype(np.float32 if disguised else array.dtype).newbyteorder("=")
        if self.dtype.kind in "iub":
            self.dtype = np.dtype(np.float64)
        self.shape: Shape = array.shape
        self.ndim = array.ndim
        self.at = None if axis is None else place_of_axis(axis, array.ndim, name)
        rows = as_floats(given, name) if disguised else array
        rows = rows.reshape(-1) if self.at is None else np.moveaxis(rows, self.at, -1)
        self.rows, self.lead, self.classes = rows, rows.shape[:-1], rows.shape[-1]
        if self.classes == 0:
            raise ValueError(f"{name}: expected at least one class, got shape {array.shape}")
        wide = self.dtype == np.float64
        self.working: Any = np.longdouble if wide else np.float64

    def places(self, rows: np.ndarray, lead: Shape) -> np.ndarray:
        """Which rows of this operand are those of the common leading shape."""
        if lead == self.lead:
            return rows
        own = np.broadcast_to(np.arange(math.prod(self.lead)).reshape(self.lead), lead)
        return np.asarray(own[np.unravel_index(rows, lead)])

    def side(self, rows: np.ndarray, heat: float, dtype: Any = None) -> Side:
        where = np.unravel_index(rows, self.lead) if self.lead else ()
        x = self.rows[where] if self.lead else self.rows[None]
        x = x.astype(self.working if dtype is None else dtype)
        if self.kind == "probs":
            p = x / np.sum(x, axis=-1, keepdims=True)
            return Side(p, lambda: np.log(p))
        heat = heat if self.kind == "logits" else 1.0
        narrow = x.dtype == np.float64
        if heat == 1 and narrow:
            t = x
        else:
            top = np.max(x, axis=-1, keepdims=True)
            sure = np.isposinf(top)
            if sure.any():
                x = np.where(sure, np.where(np.isposinf(x), 0.0, -np.inf), x)
                top = np.where(sure, 0.0, top)
            t = (x - top) / heat
        if narrow:

            def of(name: str) -> np.ndarray:
                found = np.empty(t.shape)
                derivatives.softmax(name, t, found, 1)
                return found

            return Side(of("softmax"), lambda: of("log_softmax"))
        e = np.exp(t)
        rest = e.copy()  # without the maximum, whose logarithm would lose its digits
        np.put_along_axis(rest, np.argmax(x, -1)[:, None], 0, -1)
        others = np.sum(rest, axis=-1, keepdims=True)
        return Side(e / (1 + others), lambda: t - np.log1p(others))

    def placed(self, found: np.ndarray) -> np.ndarray:
        """Rows of derivatives in the axes of the logits."""
        if self.at is None:
            return found.reshape(self.shape)
        return np.moveaxis(found.reshape((*self.lead, self.classes)), -1, self.at)

    def derive(
        self, of_rows: Callable[[np.ndarray], np.ndarray], lead: Shape, scale: np.ndarray, out: Any,
        num_threads: int | None,
    ) -> np.ndarray:  # fmt: skip
        """All rows' derivatives times their scale; those of rows that were broadcast are summed."""
        if out is not None:
            check_out(out, self.shape, self.dtype)
        threads = chosen_threads(num_threads)
        count = math.prod(lead)
        same = lead == self.lead
        found = np.zeros((math.prod(self.lead), self.classes), self.dtype if same else self.working)
        step = max(1, BLOCK // self.classes)

        def block(start: int, stop: int) -> None:
            rows = np.arange(start, stop)
            with np.errstate(all="ignore"):
                weight = scale[start:stop, None]
                slopes = of_rows(rows)
                if (weight != 1).any():
                    slopes = slopes * weight
                    slopes[weight[:, 0] == 0] = 0
                slopes += 0.0  # -0.0, where terms cancel, is 0.0
                if same:
                    found[start:stop] = slopes
                else:
                    np.add.at(found, self.places(rows, lead), slopes)

        if same:
            share(block, 0, count, step, threads)
        else:  # rows are added to one another, in their order
            for start in range(0, count, step):
                block(start, min(count, start + step))
        result = self.placed(found.astype(self.dtype, copy=False))
        if out is None:
            return result
        out[...] = result  # computed apart, whatever `out` overlaps
        return np.asarray(out)


def _pair(
    loss: Any, formula: Any, p: Any, q: Any, wrt: str, kind: Any, temperature: Any,
    sample_weight: Any, reduction: str, axis: int | None, out: Any, num_threads: int | None,
) -> np.ndarray:  # fmt: skip
    wrt = one_of(wrt, "wrt", ("p", "q"))
    kinds = (kind, kind) if isinstance(kind, str) else tuple(kind)
    loss(p, q, kind=kind, axis=axis, num_threads=num_threads)  # checks the operands
    kinds = tuple(map(as_text, kinds))
    if kinds["pq".index(wrt)] != "logits":
        raise ValueError(f"kind: expected 'logits' for {wrt}, got {shown(kind)}")
    heats = temperature if isinstance(temperature, tuple | list) else (temperature, temperature)
    if len(heats) != 2:
        raise ValueError(f"temperature: expected a number or a pair, got {shown(temperature)}")
    heat_p, heat_q = map(_heat, heats)
    if isinstance(temperature, tuple | list):
        for one, name, heat in zip(kinds, "pq", (heat_p, heat_q), strict=True):
            if one != "logits" and heat != 1:
                raise ValueError(f"temperature: applies to logits only, got {heat!r} for {name}")
    first, second = (_Operand(x, n, k, axis) for x, n, k in zip((p, q), "pq", kinds, strict=True))
    lead = common_lead(first.lead, second.lead)
    assert lead is not None
    scale = _scale(row_weights(sample_weight, lead), lead, reduction)
    chosen, heat = (first, heat_p) if wrt == "p" else (second, heat_q)
    working = np.result_type(first.working, second.working)

    def of_rows(rows: np.ndarray) -> np.ndarray:
        a = first.side(first.places(rows, lead), heat_p, working)
        b = second.side(second.places(rows, lead), heat_q, working)
        found = formula(a, b, wrt)
        return np.asarray(found if heat == 1 else found / heat)

    return chosen.derive(of_rows, lead, scale, out, num_threads)


def _kl(a: Side, b: Side, wrt: str) -> np.ndarray:
    if wrt == "q":
        return b.p - a.p
    ratio = a.log - b.log
    both, ratio = _times(a.p, ratio)
    return a.p * (ratio - both.sum(-1, keepdims=True))


def _js(a: Side, b: Side, wrt: str) -> np.ndarray:
    if wrt == "p":
        a, b = b, a
    ratio = -np.log1p((a.p - b.p) / (2 * b.p))  # log(q/m)
    both, ratio = _times(b.p, ratio)
    return b.p * (ratio - both.sum(-1, keepdims=True)) / 2


def _times(p: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p·x, x), both 0 where p is."""
    x = np.where(p == 0, 0, x)
    return p * x, x


def _entropy(side: Side) -> np.ndarray:
    return -_times(side.p, side.log)[0].sum(-1, keepdims=True)


def _others(p: np.ndarray) -> np.ndarray:
    """The sum of the other classes of a row; that of a large class is not taken from the whole."""
    whole = p.sum(-1, keepdims=True)
    found = whole - p
    big = np.argmax(np.abs(p), -1)[:, None]
    rest = p.copy()
    np.put_along_axis(rest, big, 0, -1)
    np.put_along_axis(found, big, rest.sum(-1, keepdims=True), -1)
    return found


def _focus(p: np.ndarray, log: np.ndarray, rest: np.ndarray, gamma: float) -> np.ndarray:
    """The derivative of −(1 − q)^γ log q in log q, of p = q, its logarithm and 1 − q."""
    steep = np.zeros_like(rest)
    if gamma:
        with np.errstate(all="ignore"):
            steep = gamma * rest ** (gamma - 1) * _times(p, log)[0]
        steep = np.where((rest == 0) | (p == 0), 0, steep)
    return np.asarray(steep - rest**gamma)


def _heat(temperature: Any) -> float:
    heat = as_number(temperature, "temperature", "a number above 0")
    if not 0 < heat < math.inf:
        raise ValueError(f"temperature: expected a finite number above 0, got {shown(temperature)}")
    return heat


def _scale(weight: np.ndarray | None, lead: Shape, reduction: str) -> np.ndarray:
    """What multiplies each row's derivatives."""
    reduction = one_of(reduction, "reduction", ("sum", "mean"))
    rows = np.ones(math.prod(lead)) if weight is None else weight.reshape(-1)
    if reduction == "sum":
        return rows
    total = float(rows.size) if weight is None else exact_sum(rows)
    return rows / total if total else np.full(rows.shape, np.nan)
