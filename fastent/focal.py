"""Focal cross-entropy: the loss of each row times (1 − q)^γ, so that sure rows count little.

1 − q is not taken from a rounded q: for labels it is −expm1(−loss), for soft targets the sum of the
other classes, so confident rows keep their digits.
"""

from __future__ import annotations

import math
from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

import fastent.backends.cython.derivatives.loop as derivatives
from fastent._errors import (
    as_keepdims,
    as_number,
    as_reduction,
    labels_shape,
    place_of_axis,
    shown,
)
from fastent._keywords import (
    Array,
    BinaryFocalKeywords,
    Each,
    FocalKeywords,
    Kind,
    Reduced,
    Reduction,
    RowSums,
    explained,
)
from fastent._reductions import log_of_base, reduced
from fastent._shapes import full_shape, lead_of_elements, lead_of_labels
from fastent._weights import as_floats, row_and_term_weights, row_weights, whole_labels
from fastent.backends.cython.engine import evaluate
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.views import once
from fastent.divergences import ReadyMade

_SOFT = ReadyMade("focal_cross_entropy", parameter="gamma", nats=True)


@overload
def focal_cross_entropy(
    target_or_labels: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Each = "none",
    gamma: float = ...,
    **keywords: Unpack[FocalKeywords],
) -> Array: ...


@overload
def focal_cross_entropy(
    target_or_labels: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Reduced,
    gamma: float = ...,
    **keywords: Unpack[FocalKeywords],
) -> float: ...


@overload
def focal_cross_entropy(
    target_or_labels: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Reduction,
    gamma: float = ...,
    **keywords: Unpack[FocalKeywords],
) -> Array | float: ...


@explained
@in_default_mode
def focal_cross_entropy(
    target_or_labels: ArrayLike,
    pred: ArrayLike,
    *,
    gamma: float = 2.0,
    kind: Kind = "probs",
    row_sums: RowSums = "check",
    temperature: float = 1.0,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    axis: int | None = -1,
    keepdims: bool = False,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array | float:
    """Focal cross-entropy: −(1 − q)^γ log q of the label, or −Σ t (1 − q)^γ log q of a target.

    Parameters
    ----------
    target_or_labels : array_like
        Class labels of shape (...), with fewer axes than `pred`, or probabilities of shape
        (..., C), with as many or more. Leading axes broadcast.
    pred : array_like, shape (..., C)
        Predicted probabilities, log-probabilities or logits.
    gamma : float
        The focusing exponent, at least 0; 0 gives the cross-entropy.
    class_weight : array_like, shape (C,), optional
        Weighs the terms of the sum over classes; like weights of terms, for labels only.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Nats, unless `base` says otherwise.

    Raises
    ------
    ValueError, TypeError
        As the cross-entropies; a negative `gamma`.

    References
    ----------
    .. [1] Lin et al., "Focal loss for dense object detection", ICCV 2017.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.focal_cross_entropy([0, 1], [[0.5, 0.5], [0.25, 0.75]], base=2).round(6).tolist()
    [0.25, 0.02594]
    >>> f'{fe.focal_cross_entropy(0, [40.0, 0.0, 0.0], kind="logits", gamma=1):.12e}'
    '7.219405551382e-35'
    """
    focus = _exponent(gamma)
    target_or_labels, pred = once(target_or_labels, "target_or_labels"), once(pred, "pred")
    given, _ = derivatives.as_array(target_or_labels, "target_or_labels")
    shape = derivatives.as_array(pred, "pred")[0].shape
    if given.ndim >= len(shape) > 0:
        for name, value in (("class_weight", class_weight), ("ignore_index", ignore_index)):
            if value is not None:
                raise ValueError(f"{name}: applies to labels only, got {shown(value)}")
        return _SOFT(
            target_or_labels,
            pred,
            gamma=focus,
            kind=("probs", kind),
            row_sums=row_sums,
            temperature=temperature,
            sample_weight=sample_weight,
            reduction=reduction,
            base=base,
            axis=axis,
            keepdims=keepdims,
            out=out,
            num_threads=num_threads,
        )
    if keepdims is not False:
        keepdims = as_keepdims(keepdims, as_reduction(reduction))
    unit = log_of_base(base)
    options: dict[str, Any] = {
        "kind": kind,
        "row_sums": row_sums,
        "temperature": temperature,
        "ignore_index": ignore_index,
        "axis": axis,
        "num_threads": num_threads,
    }
    weight, kept = None, None
    if class_weight is None and sample_weight is None and ignore_index is None:
        losses = evaluate(
            "sparse", ("cross_entropy",), target_or_labels, pred, "none", None, **options
        )  # also checks the operands
    else:
        weight = weight_of_labels(
            target_or_labels, shape, axis, class_weight, sample_weight, ignore_index
        )
        counted = (weight != 0).astype(np.float64)
        losses = evaluate(
            "sparse", ("cross_entropy",), target_or_labels, pred, "none", None,
            sample_weight=counted, **options,
        )  # fmt: skip
    values = np.asarray(_focused(np.asarray(losses), focus) / unit)
    if keepdims:
        kept = full_shape(values.shape, 1, axis, len(shape))
    return reduced(values, weight, reduction, out, kept)


@overload
def binary_focal_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Each = "none",
    gamma: float = ...,
    alpha: float | None = ...,
    **keywords: Unpack[BinaryFocalKeywords],
) -> Array: ...


@overload
def binary_focal_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Reduced,
    gamma: float = ...,
    alpha: float | None = ...,
    **keywords: Unpack[BinaryFocalKeywords],
) -> float: ...


@overload
def binary_focal_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Reduction,
    gamma: float = ...,
    alpha: float | None = ...,
    **keywords: Unpack[BinaryFocalKeywords],
) -> Array | float: ...


@explained
@in_default_mode
def binary_focal_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    kind: Kind = "probs",
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array | float:
    """Binary focal cross-entropy: −t (1 − q)^γ log q − (1 − t) q^γ log(1 − q) of each element.

    Parameters
    ----------
    target : array_like, any shape
        Targets in [0, 1], hard or soft.
    pred : array_like, any shape that broadcasts against it
        Predicted probabilities, their logarithms, or logits log(q/(1−q)).
    gamma : float
        The focusing exponent, at least 0.
    alpha : float, optional
        Weight of the positive term, from 0 to 1; the negative one gets 1 − alpha. Neither is
        weighted by default.

    Returns
    -------
    ndarray of float64 of the shape of `pred`, or a scalar
        Nats, unless `base` says otherwise.

    Raises
    ------
    ValueError, TypeError
        As `binary_cross_entropy`; a negative `gamma`; `alpha` outside [0, 1].

    Examples
    --------
    >>> import fastent as fe
    >>> fe.binary_focal_cross_entropy([1, 0], [0.5, 0.25], base=2).round(6).tolist()
    [0.25, 0.02594]
    """
    focus = _exponent(gamma)
    if alpha is not None and not 0 <= as_number(alpha, "alpha") <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1], got {shown(alpha)}")
    target, pred = once(target, "target"), once(pred, "pred")
    unit = log_of_base(base)
    targets, predictions = (
        derivatives.as_array(x, name)[0].shape for x, name in ((target, "target"), (pred, "pred"))
    )
    # where they do not fit the engine says so
    shape = lead_of_elements(targets, predictions) or predictions
    weight = row_weights(sample_weight, shape)
    counted = None if weight is None else (weight != 0).astype(np.float64)

    def losses(hard: Any) -> np.ndarray:
        found = evaluate(
            "binary", ("cross_entropy",), hard, pred, "none", None, kind=kind,
            temperature=temperature, sample_weight=counted, num_threads=num_threads,
        )  # fmt: skip
        return np.asarray(found)

    t = as_floats(target, "target")
    own = losses(target)  # also checks the operands
    positive, negative = (1.0, 1.0) if alpha is None else (float(alpha), 1.0 - float(alpha))
    if counted is not None:
        t = np.where(counted == 0, 0.0, t)
    if np.all((t == 0) | (t == 1)):
        values = _focused(own, focus)
        if alpha is not None:
            values = values * np.where(t == 1, positive, negative)
    else:
        values = np.zeros(shape)
        for share, scale, hard in ((t, positive, 1.0), (1 - t, negative, 0.0)):
            terms = _focused(losses(np.broadcast_to(hard, shape)), focus)
            with np.errstate(all="ignore"):  # 0·inf, of terms that are left out
                values += np.where(share == 0, 0.0, share * scale * terms)
    return reduced(values / unit, weight, reduction, out)


def _exponent(gamma: float) -> float:
    number = as_number(gamma, "gamma")
    if not 0 <= number < math.inf:
        raise ValueError(f"gamma: expected a finite number of at least 0, got {shown(gamma)}")
    return number


def _focused(losses: np.ndarray, gamma: float) -> np.ndarray:
    """loss·(1 − e^−loss)^γ."""
    return losses * (-np.expm1(-losses)) ** gamma


def weight_of_labels(
    given: Any,
    shape: tuple[int, ...],
    axis: int | None,
    class_weight: Any,
    sample_weight: Any,
    ignore_index: int | None,
) -> np.ndarray:
    """W of each row: its weight times that of its label; 0 where it is ignored."""
    at = None if axis is None else place_of_axis(axis, len(shape), "pred")
    lead = () if at is None else shape[:at] + shape[at + 1 :]
    classes = math.prod(shape) if at is None else shape[at]
    labels = derivatives.as_array(given, "labels")[0].shape
    common = lead_of_labels(labels, lead, shape)
    if common is None or (at is None and common != ()):
        raise labels_shape(lead, labels, shape)
    full = shape if at is None else full_shape(common, classes, axis, len(shape))
    at = None if axis is None else place_of_axis(axis, len(full), "pred")
    rows, terms = row_and_term_weights(sample_weight, class_weight, full, at)
    lead = common
    labels = whole_labels(given, lead, classes, ignore_index)
    weight = np.ones(lead) if rows is None else rows
    if terms is not None:
        picked = np.broadcast_to(terms, (*lead, classes))
        picked = np.take_along_axis(picked, np.maximum(labels, 0)[..., None], -1)[..., 0]
        weight = weight * picked
    return np.asarray(np.where(labels < 0, 0.0, weight))
