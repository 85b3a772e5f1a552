"""The temperature that fits logits to labels: Newton's method on the inverse temperature b = 1/T.

The mean loss is convex in b. Of each row it takes g = E[x] − x[label] and the variance of x under
softmax(b·x), both from the gaps to the largest logit, so that sure rows keep their digits.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from fastent import functions
from fastent._classes import as_codes
from fastent._errors import place_of_axis
from fastent._keywords import explained
from fastent._orders import CELLS
from fastent._reductions import exact_sum
from fastent._settings import chosen_threads
from fastent._weights import as_floats, whole_labels
from fastent.backends.cython.accumulate.group_ids import row_ids
from fastent.backends.cython.derivatives.loop import as_array
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.sharing import share
from fastent.focal import weight_of_labels

MOST_STEPS = 200
FAR = 16.0  # at most so many times larger or smaller in one step


class FittedTemperature(NamedTuple):
    """A temperature, its standard error, and the mean loss there and at temperature 1."""

    temperature: float
    stderr: float
    loss: float
    loss_at_one: float


class _Sums(NamedTuple):
    slope: float  # Σ w g, of the loss in b
    squares: float  # Σ w² g²
    curvature: float  # Σ w Var x


@overload
def fit_temperature(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    class_weight: ArrayLike | None = ...,
    ignore_index: int | str | None = ...,
    classes: Any = ...,
    groups: None = None,
    axis: int = ...,
    num_threads: int | None = ...,
) -> FittedTemperature: ...


@overload
def fit_temperature(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
    class_weight: ArrayLike | None = ...,
    ignore_index: int | str | None = ...,
    classes: Any = ...,
    groups: Any,
    axis: int = ...,
    num_threads: int | None = ...,
) -> dict[Any, FittedTemperature]: ...


@explained
@in_default_mode
def fit_temperature(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    ignore_index: int | str | None = None,
    classes: Any = None,
    groups: Any = None,
    axis: int = -1,
    num_threads: int | None = None,
) -> Any:
    """The temperature T > 0 at which logits / T have the smallest mean cross-entropy.

    Parameters
    ----------
    labels : array_like of whole numbers, shape (...)
        The class of each row.
    logits : array_like, shape (..., C)
        Logits, of rows that the model was not trained on.
    groups : array_like of int or str, optional
        One name per row: a temperature for each group.

    Returns
    -------
    FittedTemperature, or a dict of them by group
        (temperature, stderr, loss, loss_at_one), a named tuple; the losses are
        ``sparse_cross_entropy(..., reduction="mean")``. Where every label has the largest logit
        the temperature is 0 and the loss its limit; where the loss falls for ever as T grows it is
        inf; both have no standard error (nan).

    Raises
    ------
    ValueError, TypeError
        As `sparse_cross_entropy`.

    Notes
    -----
    Guo et al., "On calibration of modern neural networks", ICML 2017. The standard error is the
    sandwich √(Σ w² s²) / Σ w h of the slopes s and curvatures h of the rows' losses in T.

    Examples
    --------
    >>> import fastent as fe
    >>> found = fe.fit_temperature([0, 0, 0, 1], [[2.0, 0.0]] * 4)
    >>> round(found.temperature, 12), round(found.loss, 12)
    (1.820478453254, 0.562335144619)
    """
    if classes is not None:
        labels, ignore_index = as_codes(labels, logits, classes, ignore_index, axis)
    threads = chosen_threads(num_threads)
    array, disguised = as_array(logits, "logits")
    if disguised:
        array = as_floats(logits, "logits")
    at = place_of_axis(axis, array.ndim, "logits")
    ignored: Any = ignore_index
    weight = weight_of_labels(labels, array.shape, at, class_weight, sample_weight, ignored)
    codes = whole_labels(labels, weight.shape, array.shape[at], ignore_index)
    rows = np.moveaxis(array, at, -1)
    # refuses what the loss refuses
    functions.sparse_cross_entropy(
        labels, logits, kind="logits", sample_weight=(weight != 0).astype(float), axis=at,
        ignore_index=ignore_index, num_threads=num_threads, reduction="mean",
    )  # fmt: skip
    flat = (codes.reshape(-1), rows.reshape(-1, rows.shape[-1]), weight.reshape(-1))
    if groups is None:
        return _fitted(*flat, threads=threads)
    each: dict[Any, list[int]] = {}
    names = row_ids(groups, weight.shape, "groups")
    for row, name in enumerate(names.tolist() if isinstance(names, np.ndarray) else names):
        each.setdefault(name, []).append(row)
    return {
        name: _fitted(*(part[np.array(chosen)] for part in flat), threads=threads)
        for name, chosen in each.items()
    }


def _fitted(
    labels: np.ndarray, rows: np.ndarray, weight: np.ndarray, *, threads: int
) -> FittedTemperature:
    counted = weight > 0
    if not counted.any():
        return FittedTemperature(math.nan, math.nan, math.nan, math.nan)
    if not counted.all():
        labels, rows, weight = labels[counted], rows[counted], weight[counted]

    def loss(temperature: float) -> float:
        return float(
            functions.sparse_cross_entropy(
                labels, rows, kind="logits", temperature=temperature, sample_weight=weight,
                reduction="mean", num_threads=threads,
            )
        )  # fmt: skip

    def sums(b: float) -> _Sums:
        return _sums(labels, rows, weight, b, threads)

    at_one = loss(1.0)
    if math.isnan(at_one):
        return FittedTemperature(math.nan, math.nan, math.nan, at_one)
    ties, sure, finite = _limits(labels, rows, weight, threads)
    if sure:
        return FittedTemperature(0.0, math.nan, ties, at_one)
    if at_one == math.inf or sums(0.0).slope >= 0:
        return FittedTemperature(
            math.inf, math.nan, at_one if at_one == math.inf else finite, at_one
        )
    low, high, b = 0.0, math.inf, 1.0
    for _ in range(MOST_STEPS):
        found = sums(b)
        low, high = (b, high) if found.slope < 0 else (low, b)
        if found.slope == 0:
            break
        step = (
            found.slope / found.curvature
            if found.curvature
            else math.copysign(math.inf, found.slope)
        )
        if abs(step) <= 2e-16 * b:
            break
        new = min(max(b - step, b / FAR), b * FAR)
        if not low < new < high:
            new = 0.5 * (low + high)
            if not low < new < high:
                break
        b = new
    found = sums(b)
    stderr = math.sqrt(found.squares) / found.curvature / b / b if found.curvature else math.nan
    return FittedTemperature(1.0 / b, stderr, loss(1.0 / b), at_one)


def _blocks(rows: np.ndarray, threads: int, body: Any) -> None:
    step = max(1, CELLS // rows.shape[-1])

    def block(first: int, last: int) -> None:
        x = rows[first:last].astype(np.float64)
        largest = x.max(-1, keepdims=True)
        with np.errstate(all="ignore"):
            gaps = np.where(x == largest, 0.0, x - largest)
            body(slice(first, last), gaps)

    share(block, 0, len(rows), step, max(1, min(threads, rows.size // CELLS)))


def _sums(
    labels: np.ndarray, rows: np.ndarray, weight: np.ndarray, b: float, threads: int
) -> _Sums:
    slopes, variances = np.empty(len(rows)), np.empty(len(rows))

    def body(part: slice, gaps: np.ndarray) -> None:
        powers = np.where(gaps == -np.inf, 0.0, np.exp(b * gaps))
        reach = np.where(powers == 0, 0.0, gaps)
        total = powers.sum(-1)
        mean = (powers * reach).sum(-1) / total
        own = np.take_along_axis(gaps, labels[part, None], -1)[:, 0]
        slopes[part] = mean - own
        variances[part] = (powers * (reach - mean[:, None]) ** 2).sum(-1) / total

    _blocks(rows, threads, body)
    weighted = weight * slopes
    return _Sums(exact_sum(weighted), exact_sum(weighted * weighted), exact_sum(weight * variances))


def _limits(
    labels: np.ndarray, rows: np.ndarray, weight: np.ndarray, threads: int
) -> tuple[float, bool, float]:
    """(mean loss as T falls to 0 if labels have the largest logits, whether all do, and as T grows
    for ever)."""
    cold, hot = np.empty(len(rows)), np.empty(len(rows))
    first = np.empty(len(rows), np.bool_)

    def body(part: slice, gaps: np.ndarray) -> None:
        first[part] = np.take_along_axis(gaps, labels[part, None], -1)[:, 0] == 0
        cold[part] = np.log(np.sum(gaps == 0, -1))
        hot[part] = np.log(np.sum(gaps > -np.inf, -1))

    _blocks(rows, threads, body)
    total = exact_sum(weight)
    return exact_sum(weight * cold) / total, bool(first.all()), exact_sum(weight * hot) / total
