"""Labels and weights as contiguous NumPy arrays, checked, for what does not go by the engine."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastent.backends.cython.derivatives.loop as derivatives
from fastent import _errors


def as_floats(given: Any, name: str) -> np.ndarray:
    array, disguised = derivatives.as_array(given, name)
    if disguised:
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def place(flat: int, lead: tuple[int, ...]) -> Any:
    return flat if len(lead) == 1 else tuple(int(i) for i in np.unravel_index(flat, lead))


def checked(weight: np.ndarray) -> np.ndarray:
    """Weights as contiguous float64, none of them below 0 or NaN."""
    wrong = ~(weight >= 0)
    if wrong.any():
        row = place(int(wrong.argmax()), weight.shape)
        raise _errors.bad_row(_errors.WEIGHT, "sample_weight", row, float(weight[row]))
    return np.ascontiguousarray(weight)


def whole_labels(given: np.ndarray, classes: int, ignore_index: int | None) -> np.ndarray:
    """Labels as contiguous int64, −1 for ignored rows."""
    numbers = given if given.dtype.kind in "iub" else given.astype(np.float64)
    ignored = np.zeros(given.shape, np.bool_)
    if ignore_index is not None:
        ignored = np.equal(numbers, ignore_index.__index__())
    wrong = ~((numbers >= 0) & (numbers < classes)) & ~ignored
    if numbers.dtype.kind == "f":
        wrong |= (numbers != np.floor(numbers)) & ~ignored
    if wrong.any():
        row = place(int(wrong.argmax()), given.shape)
        number = numbers[row].item()
        whole = not isinstance(number, float) or number.is_integer()
        raise _errors.bad_row(
            _errors.LABEL if whole else _errors.FRACTION, "labels", row, number, classes=classes
        )
    if ignore_index is None:
        return np.ascontiguousarray(numbers, np.int64)
    return np.where(ignored, -1, np.where(ignored, 0, numbers).astype(np.int64))


def row_and_term_weights(
    sample_weight: Any, class_weight: Any, shape: tuple[int, ...]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights of rows and of terms; class weights are terms of one row."""
    weight = terms = None
    if class_weight is not None:
        terms = as_floats(class_weight, "class_weight")
        if terms.shape != shape[-1:]:
            raise ValueError(f"class_weight: expected shape {shape[-1:]}, got {terms.shape}")
        if not (terms >= 0).all():
            c = int((~(terms >= 0)).argmax())
            raise ValueError(
                f"class_weight: expected weights of at least 0 that are not NaN, "
                f"got {terms[c].item()!r} for class {c}"
            )
    if sample_weight is not None:
        given = as_floats(sample_weight, "sample_weight")
        for wanted in (shape[:-1], shape):
            try:
                spread = np.broadcast_to(given, wanted)
            except ValueError:
                continue
            if wanted == shape and given.shape != shape[:-1]:
                own = checked(spread)
                terms = own if terms is None else own * terms
            else:
                weight = checked(spread)
            break
        else:
            raise ValueError(
                f"sample_weight: expected shape {shape[:-1]} or {shape}, got {given.shape}"
            )
    return weight, terms
