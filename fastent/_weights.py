"""Labels and weights as contiguous NumPy arrays, checked, for what does not go by the engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastent.backends.cython.derivatives.loop as derivatives
from fastent import _errors
from fastent._shapes import Shape, weighs_terms
from fastent.backends.cython.tiles.operand import class_weights


def as_floats(given: Any, name: str) -> np.ndarray:
    array, disguised = derivatives.as_array(given, name)
    if disguised:
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def place(flat: int, lead: Shape) -> Any:
    if not lead:
        return ()
    return flat if len(lead) == 1 else tuple(int(i) for i in np.unravel_index(flat, lead))


def whole_labels(given: Any, lead: Shape, classes: int, ignore_index: Any) -> np.ndarray:
    """Labels as contiguous int64, broadcast to the leading shape, −1 for ignored rows; what is
    checked is what is returned."""
    array, disguised = derivatives.as_array(given, "labels")
    if array.shape != lead:
        given = np.broadcast_to(as_floats(given, "labels") if disguised else array, lead)
    labels, fraction = derivatives.whole_numbers(given, "labels")
    index = _errors.as_ignore_index(ignore_index)
    ignored = np.zeros(lead, np.bool_) if index is None else labels == index
    wrong = np.asarray(((labels < 0) | (labels >= classes)) & ~ignored).reshape(-1)
    first = int(wrong.argmax()) if wrong.any() else -1
    if fraction >= 0 and not 0 <= first < fraction:
        first = fraction
    if first >= 0:
        row = place(first, lead)
        number = derivatives.as_array(given, "labels")[0][row].item()
        code = _errors.FRACTION if first == fraction else _errors.LABEL
        raise _errors.bad_row(code, "labels", row, number, classes=classes)
    labels[ignored] = -1
    return labels


def row_weights(sample_weight: Any, lead: Shape) -> np.ndarray | None:
    """Weights of rows as contiguous float64, where terms have none."""
    return row_and_term_weights(sample_weight, None, (*lead, 1), -1, several=False)[0]


def row_and_term_weights(
    sample_weight: Any, class_weight: Any, shape: Shape, at: int | None, *, several: bool = True
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights of rows and of terms, whose classes are the last axis; class weights are terms of one
    row. `at` is where predictions of that shape have their classes, None if they are one row."""
    weight = terms = None
    lead = () if at is None else tuple(np.delete(shape, at).tolist())
    classes = math.prod(shape) if at is None else shape[at]
    if class_weight is not None:
        terms = class_weights(class_weight, classes)
    if sample_weight is not None:
        given = as_floats(sample_weight, "sample_weight")
        if weighs_terms(given.shape, lead, shape if several else None):
            rows = given.reshape(-1) if at is None else np.moveaxis(given, at, -1)
            own = _checked(rows, lead, classes)
            terms = own if terms is None else own * terms
        else:
            weight = _checked(np.broadcast_to(given, lead), lead, 1)
    return weight, terms


def _checked(weights: np.ndarray, lead: Shape, classes: int) -> np.ndarray:
    """Weights in the order of the rows, none of them below 0 or NaN."""
    weights = np.array(weights, order="C")
    flat = weights.reshape(-1)
    wrong = ~(flat >= 0)
    if wrong.any():
        first = int(wrong.argmax())
        row = place(first // classes, lead)
        raise _errors.bad_row(_errors.WEIGHT, "sample_weight", row, float(flat[first]))
    return weights
