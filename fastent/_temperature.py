"""The temperature that fits logits to labels: Newton's method on the inverse temperature b = 1/T.

The mean loss is convex in b. Of each row it takes g = E[x] − x[label] and the variance of x under
softmax(b·x), both from the gaps to the largest logit, so that sure rows keep their digits.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any, Literal, NamedTuple, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from fastent import functions
from fastent._classes import as_codes
from fastent._errors import place_of_axis
from fastent._keywords import FitKeywords, explained
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


@overload
def fit_temperature(
    labels: ArrayLike, logits: ArrayLike, *, groups: None = None, **keywords: Unpack[FitKeywords]
) -> FittedTemperature: ...


@overload
def fit_temperature(
    labels: ArrayLike, logits: ArrayLike, *, groups: Any, **keywords: Unpack[FitKeywords]
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
    flat = flat_rows(labels, logits, class_weight, sample_weight, ignore_index, axis)
    # refuses what the loss refuses
    functions.sparse_cross_entropy(
        labels, logits, kind="logits", sample_weight=(flat.lead_weight != 0).astype(float),
        axis=flat.axis, ignore_index=ignore_index, num_threads=num_threads, reduction="mean",
    )  # fmt: skip
    if groups is None:
        return _fitted(*flat[:3], threads=threads)
    each: dict[Any, list[int]] = {}
    names = row_ids(groups, flat.lead_weight.shape, "groups")
    for row, name in enumerate(names.tolist() if isinstance(names, np.ndarray) else names):
        each.setdefault(name, []).append(row)
    return {
        name: _fitted(*(part[np.array(chosen)] for part in flat[:3]), threads=threads)
        for name, chosen in each.items()
    }


class FlatRows(NamedTuple):
    """Labels, logits and weights, a row each, and how they came."""

    labels: np.ndarray
    logits: np.ndarray
    weight: np.ndarray
    lead_weight: np.ndarray  # in the leading shape
    axis: int


def flat_rows(
    labels: Any, logits: Any, class_weight: Any, sample_weight: Any, ignore_index: Any, axis: int
) -> FlatRows:
    array, disguised = as_array(logits, "logits")
    if disguised:
        array = as_floats(logits, "logits")
    at = place_of_axis(axis, array.ndim, "logits")
    weight = weight_of_labels(labels, array.shape, at, class_weight, sample_weight, ignore_index)
    codes = whole_labels(labels, weight.shape, array.shape[at], ignore_index)
    rows = np.moveaxis(array, at, -1).reshape(-1, array.shape[at])
    return FlatRows(codes.reshape(-1), rows, weight.reshape(-1), weight, at)


class Ask(NamedTuple):
    """What the search must know next: exact sums over all rows at an inverse temperature.

    "start" wants Σ w, Σ w·(loss at 1), Σ w·(loss as T falls to 0), Σ w·(loss as T grows), how many
    labels have not the largest logit, and the slope at 0; "step" slope, squares and curvature; and
    "end" these and Σ w·loss.
    """

    kind: Literal["start", "step", "end"]
    b: float


SUMS = 6  # at most, of an ask
START = Ask("start", 0.0)
Search = Generator[Ask, Sequence[float], FittedTemperature]


def search() -> Search:
    """Newton's method, which is sent the sums that it asks for: whoever has the rows drives it."""
    weight, at_one, cold, hot, later, slope = (yield START)[:6]
    if not weight:
        return FittedTemperature(math.nan, math.nan, math.nan, math.nan)
    at_one /= weight
    if math.isnan(at_one):
        return FittedTemperature(math.nan, math.nan, math.nan, at_one)
    if not later:
        return FittedTemperature(0.0, math.nan, cold / weight, at_one)
    if at_one == math.inf or slope >= 0:
        return FittedTemperature(
            math.inf, math.nan, at_one if at_one == math.inf else hot / weight, at_one
        )
    low, high, b = 0.0, math.inf, 1.0
    for _ in range(MOST_STEPS):
        slope, _, curvature = (yield Ask("step", b))[:3]
        low, high = (b, high) if slope < 0 else (low, b)
        if slope == 0:
            break
        step = slope / curvature if curvature else math.copysign(math.inf, slope)
        if abs(step) <= 2e-16 * b:
            break
        new = min(max(b - step, b / FAR), b * FAR)
        if not low < new < high:
            new = 0.5 * (low + high)
            if not low < new < high:
                break
        b = new
    _, squares, curvature, loss = (yield Ask("end", b))[:4]
    stderr = math.sqrt(squares) / curvature / b / b if curvature else math.nan
    return FittedTemperature(1.0 / b, stderr, loss / weight, at_one)


def _fitted(
    labels: np.ndarray, rows: np.ndarray, weight: np.ndarray, *, threads: int
) -> FittedTemperature:
    going = search()
    ask = next(going)
    try:
        while True:
            columns = terms(ask, labels, rows, weight, threads)
            ask = going.send([exact_sum(column) for column in columns])
    except StopIteration as done:
        fitted: FittedTemperature = done.value
        return fitted


def terms(
    ask: Ask, labels: np.ndarray, rows: np.ndarray, weight: np.ndarray, threads: int
) -> np.ndarray:
    """What each row adds to the sums of an ask, float64 (sums, rows); a row's are its own alone."""
    found = np.zeros((SUMS, len(rows)))
    counted = weight > 0
    if not counted.all():
        found[:, counted] = terms(ask, labels[counted], rows[counted], weight[counted], threads)
        return found

    def body(part: slice, gaps: np.ndarray) -> None:
        own = np.take_along_axis(gaps, labels[part, None], -1)[:, 0]
        slopes, variances = _derivatives(gaps, own, ask.b)
        slopes *= weight[part]
        if ask.kind == "start":
            found[2, part] = weight[part] * np.log(np.sum(gaps == 0, -1))
            found[3, part] = weight[part] * np.log(np.sum(gaps > -np.inf, -1))
            found[4, part] = own != 0
            found[5, part] = slopes
        else:
            found[0, part] = slopes
            found[1, part] = slopes * slopes
            found[2, part] = weight[part] * variances

    _blocks(rows, threads, body)
    if ask.kind == "step":
        return found
    losses = functions.sparse_cross_entropy(
        labels, rows, kind="logits", num_threads=threads,
        temperature=1.0 if ask.kind == "start" else 1.0 / ask.b,
    )  # fmt: skip
    if ask.kind == "start":
        found[0], found[1] = weight, weight * losses
    else:
        found[3] = weight * losses
    return found


def _derivatives(gaps: np.ndarray, own: np.ndarray, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Slope of each row's loss in b, and the variance of its logits."""
    powers = np.where(gaps == -np.inf, 0.0, np.exp(b * gaps))
    reach = np.where(powers == 0, 0.0, gaps)
    total = powers.sum(-1)
    mean = (powers * reach).sum(-1) / total
    return mean - own, (powers * (reach - mean[:, None]) ** 2).sum(-1) / total


def _blocks(rows: np.ndarray, threads: int, body: Any) -> None:
    """Rows as gaps to their largest logits, in float64 and in one layout."""
    step = max(1, CELLS // rows.shape[-1])

    def block(first: int, last: int) -> None:
        x = rows[first:last].astype(np.float64, order="C")
        largest = x.max(-1, keepdims=True)
        with np.errstate(all="ignore"):
            gaps = np.where(x == largest, 0.0, x - largest)
            body(slice(first, last), gaps)

    share(block, 0, len(rows), step, max(1, min(threads, rows.size // CELLS)))
