"""Derivatives of the summed losses with respect to logits, as optimisers and boosting want them."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastent.backends.cython.derivatives.loop as derivatives
from fastent import _errors, _settings
from fastent._keywords import ClassGradientKeywords, GradientKeywords, Reduced, explained
from fastent._outputs import check_out, direct
from fastent._row_gradients import cross_entropy_slopes
from fastent._shapes import common_lead
from fastent._weights import as_floats, place, row_and_term_weights, row_weights, whole_labels
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.views import once

Hessian = Literal["diag", "xgboost", "lightgbm"]
Gradient = NDArray[Any]

CURVATURES = {None: 0, "diag": 1, "xgboost": 2, "lightgbm": 3}
HALVES = ("float16", "bfloat16")


@overload
def cross_entropy_gradient(
    target_or_labels: ArrayLike,
    logits: ArrayLike,
    *,
    hessian: None = None,
    **keywords: Unpack[ClassGradientKeywords],
) -> Gradient: ...


@overload
def cross_entropy_gradient(
    target_or_labels: ArrayLike,
    logits: ArrayLike,
    *,
    hessian: Hessian,
    **keywords: Unpack[ClassGradientKeywords],
) -> tuple[Gradient, Gradient]: ...


@explained
@in_default_mode
def cross_entropy_gradient(
    target_or_labels: ArrayLike,
    logits: ArrayLike,
    *,
    hessian: Hessian | None = None,
    sample_weight: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduced = "sum",
    axis: int | None = -1,
    out: Gradient | None = None,
    hessian_out: Gradient | None = None,
    num_threads: int | None = None,
) -> Any:
    """Gradient of the summed cross-entropy with respect to the logits: softmax − target.

    The loss is that of `sparse_cross_entropy` or `categorical_cross_entropy` with
    ``kind="logits"``; both derivatives come from one pass over the logits.

    Parameters
    ----------
    target_or_labels : array_like
        Class labels of shape (...), or probabilities of shape (..., C) that sum to 1. Leading axes
        broadcast: with fewer axes than `logits` they are labels, with as many or more
        probabilities.
    logits : array_like, shape (..., C)
        The predictions. Where they are broadcast the derivatives of all their rows are summed.
    hessian : {"diag", "xgboost", "lightgbm"}, optional
        Also the second derivatives: the diagonal W·q·(1 − q), or what the built-in loss of that
        library takes for it (twice as much and at least 1e-16; C/(C − 1) times as much). With a
        temperature, or where operands are broadcast, it is not to be had.
    ignore_index : int, optional
        Rows with this label have derivatives 0.
    reduction : {"sum", "mean"}
        Of the loss; the mean divides by ΣW as that of the loss does.
    out, hessian_out : ndarray, optional
        Where the results go: the shape and dtype of the logits. `out` may be `logits`.

    Returns
    -------
    ndarray, or a pair (gradient, hessian) of them
        Of the shape and dtype of the logits (float64 for integers, float32 for bfloat16 tensors).

    Raises
    ------
    ValueError, TypeError
        Labels out of range, bad targets, weights below 0, shapes that differ. Logits are then as
        they were, also with ``out=logits``.

    Notes
    -----
    The largest class of a confident row keeps its digits: 1 − q is summed from the other classes.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.cross_entropy_gradient([0], [[0.0, 0.0]]).tolist()
    [[-0.5, 0.5]]
    >>> g, h = fe.cross_entropy_gradient([0], [[40.0, 0.0]], hessian="diag")
    >>> g.tolist()
    [[-4.248354255291589e-18, 4.248354255291589e-18]]
    """
    target_or_labels, logits = once(target_or_labels, "target_or_labels"), once(logits, "logits")
    x, disguised = derivatives.as_array(logits, "logits")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"logits: expected at least one class, got shape {x.shape}")
    given, _ = derivatives.as_array(target_or_labels, "target_or_labels")
    heat = _errors.as_number(temperature, "temperature", "a number above 0")
    mean = _errors.one_of(reduction, "reduction", ("sum", "mean")) == "mean"
    last = axis is not None and _errors.place_of_axis(axis, x.ndim, "logits") == x.ndim - 1
    if mean or heat != 1 or not last or given.shape not in (x.shape, x.shape[:-1]):
        return cross_entropy_slopes(
            cross_entropy_gradient, target_or_labels, logits, hessian, out, hessian_out, heat, axis,
            mean, sample_weight=sample_weight, class_weight=class_weight,
            label_smoothing=label_smoothing, ignore_index=ignore_index, num_threads=num_threads,
        )  # fmt: skip
    lead, classes = x.shape[:-1], x.shape[-1]
    target = labels = None
    if given.shape == x.shape:
        target = target_or_labels
        if ignore_index is not None:
            raise ValueError(
                f"ignore_index: applies to labels only, got {_errors.shown(ignore_index)}"
            )
    elif given.shape == lead:
        labels = whole_labels(target_or_labels, lead, classes, ignore_index)
    else:
        raise ValueError(
            f"target_or_labels: expected shape {lead} or {x.shape}, got shape {given.shape}"
        )
    weight, terms = row_and_term_weights(sample_weight, class_weight, x.shape, -1)
    return _derive(
        (logits, x, disguised), target, labels, weight, terms,
        label_smoothing, hessian, out, hessian_out, num_threads, several=True,
    )  # fmt: skip


@overload
def binary_cross_entropy_gradient(
    target: ArrayLike,
    logits: ArrayLike,
    *,
    hessian: None = None,
    **keywords: Unpack[GradientKeywords],
) -> Gradient: ...


@overload
def binary_cross_entropy_gradient(
    target: ArrayLike, logits: ArrayLike, *, hessian: Hessian, **keywords: Unpack[GradientKeywords]
) -> tuple[Gradient, Gradient]: ...


@explained
@in_default_mode
def binary_cross_entropy_gradient(
    target: ArrayLike,
    logits: ArrayLike,
    *,
    hessian: Hessian | None = None,
    sample_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    out: Gradient | None = None,
    hessian_out: Gradient | None = None,
    num_threads: int | None = None,
) -> Any:
    """Gradient of the summed binary cross-entropy with respect to the logits: σ(x) − t.

    Parameters
    ----------
    target : array_like, any shape
        Targets in [0, 1], hard or soft; they broadcast with the logits.
    logits : array_like
        Logits log(q/(1−q)). Where they are broadcast the derivatives of all their elements are
        summed.
    hessian : {"diag", "xgboost", "lightgbm"}, optional
        Also the second derivatives w·q·(1 − q); for XGBoost q·(1 − q) is at least 1e-16. Where
        logits are broadcast it is not to be had.
    out, hessian_out : ndarray, optional
        Where the results go: the shape and dtype of the logits. `out` may be `logits`.

    Returns
    -------
    ndarray, or a pair (gradient, hessian) of them
        Of the shape and dtype of the logits (float64 for integers, float32 for bfloat16 tensors).

    Raises
    ------
    ValueError, TypeError
        Targets outside [0, 1], weights below 0, shapes that differ.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.binary_cross_entropy_gradient([1, 0], [0.0, 0.0]).tolist()
    [-0.5, 0.5]
    >>> float(fe.binary_cross_entropy_gradient([1.0], [40.0])[0])
    -4.248354255291589e-18
    """
    target, logits = once(target, "target"), once(logits, "logits")
    x, disguised = derivatives.as_array(logits, "logits")
    given, _ = derivatives.as_array(target, "target")
    if given.shape != x.shape:
        lead = common_lead(given.shape, x.shape)
        if lead is None:
            raise ValueError(
                f"target: expected shape {x.shape} as logits, or what broadcasts with it, "
                f"got {given.shape}"
            )
        wide = as_floats(target, "target")  # of bfloat16 tensors too
        target = np.broadcast_to(wide, lead)
        if lead != x.shape:
            if hessian is not None or hessian_out is not None:
                raise ValueError(
                    "hessian: does not apply where logits are broadcast, "
                    f"got {_errors.shown(hessian)}"
                )
            dtype = np.dtype(np.float32 if disguised else x.dtype).newbyteorder("=")
            dtype = np.dtype(np.float64) if dtype.kind in "iub" else dtype
            rows = np.broadcast_to(as_floats(logits, "logits").astype(np.float64), lead)
            found = binary_cross_entropy_gradient(
                target, rows, sample_weight=sample_weight, label_smoothing=label_smoothing,
                num_threads=num_threads,
            )  # fmt: skip
            return _summed(found, x.shape, dtype, out)
    weight = row_weights(sample_weight, x.shape)
    return _derive(
        (logits, x, disguised), target, None, weight, None,
        label_smoothing, hessian, out, hessian_out, num_threads, several=False,
    )  # fmt: skip


def _summed(found: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, out: Any) -> np.ndarray:
    """Derivatives of all the elements that one element was broadcast to."""
    over = found.ndim - len(shape)
    axes = [*range(over), *(k + over for k, n in enumerate(shape) if n == 1)]
    total = found.sum(axis=tuple(axes), dtype=np.longdouble).reshape(shape).astype(dtype)
    if out is None:
        return total
    check_out(out, shape, dtype)[...] = total
    return np.asarray(out)


def _derive(
    predicted: tuple[Any, np.ndarray, bool], target: Any, labels: np.ndarray | None,
    weight: np.ndarray | None, terms: np.ndarray | None, label_smoothing: float,
    hessian: str | None, out: Any, hessian_out: Any, num_threads: int | None, *, several: bool,
) -> Any:  # fmt: skip
    logits, x, disguised = predicted
    if hessian is not None:
        hessian = _errors.one_of(hessian, "hessian", ("diag", "xgboost", "lightgbm"))
    if hessian is None and hessian_out is not None:
        raise ValueError("hessian_out: applies with hessian= only")
    smoothing = _errors.as_number(label_smoothing, "label_smoothing", "a number in [0, 1]")
    if not 0 <= smoothing <= 1:
        raise ValueError(
            f"label_smoothing: expected a number in [0, 1], got {_errors.shown(label_smoothing)}"
        )
    dtype = np.dtype(np.float32 if disguised else x.dtype).newbyteorder("=")
    if dtype.kind in "iub":
        dtype = np.dtype(np.float64)
    narrow = dtype.name in HALVES
    inner = np.dtype(np.float32) if narrow else dtype
    given = None if target is None else derivatives.as_array(target, "target")[0]
    read = [given, labels, weight, terms]
    first, final = _room(out, "out", x, dtype, read)
    second, final_second = None, None
    if hessian is not None:
        second, final_second = _room(
            hessian_out, "hessian_out", x, dtype, [*read, final], in_place=False
        )
    narrow = narrow or disguised or (target is not None and derivatives.is_narrow(logits, target))
    tolerance = 2e-2 if narrow else 1e-3
    threads = _settings.chosen_threads(num_threads)
    gradient = np.empty(x.shape, inner) if first is None else first
    curved = None
    if hessian is not None:
        curved = np.empty(x.shape, inner) if second is None else second
    # a bad target must not leave half of the logits overwritten
    passes = (True, False) if target is not None and np.may_share_memory(gradient, x) else (False,)
    for only_check in passes:
        bad = derivatives.derive(
            several, logits, target, labels, weight, terms, smoothing, tolerance,
            CURVATURES[hessian], gradient, curved, threads, only_check,
        )  # fmt: skip
        if bad is not None:
            row, code, number = bad
            lead = x.shape[:-1] if several else x.shape
            name = "target_or_labels" if several else "target"
            raise _errors.bad_row(code, name, place(row, lead), number, tolerance=tolerance)
    results = [_delivered(gradient, final, dtype)]
    if hessian is None:
        return results[0]
    results.append(_delivered(curved, final_second, dtype))
    return tuple(results)


def _delivered(computed: Any, final: Any, dtype: np.dtype) -> Any:
    if final is None:
        return computed.astype(dtype, copy=False)
    if final is not computed:
        final[...] = computed.astype(dtype, copy=False)
    return final


def _room(
    out: Any, name: str, x: np.ndarray, dtype: np.dtype, others: list, *, in_place: bool = True
) -> tuple[Any, Any]:
    """(where kernels may write, where the caller wants it), either of them None."""
    if out is None:
        return None, None
    check_out(out, x.shape, dtype, name)
    same = in_place and out.ctypes.data == x.ctypes.data and x.flags.c_contiguous
    here = direct(out, others if same else [x, *others])
    usable = here and dtype.name not in HALVES and (not same or x.dtype == dtype)
    return (out if usable else None), out
