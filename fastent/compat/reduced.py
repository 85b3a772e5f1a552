"""The class axes of an array, as other packages name them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastent.backends.table_columns import ListRows
from fastent.backends.views import once

# What an axis argument of NumPy and its relatives can be.
Axis = int | tuple[int, ...] | None


def opened(given: Any, name: str = "argument") -> Any:
    """A column of a dataframe as an array; other things as they are."""
    given = once(given, name)
    return given.as_array(name) if isinstance(given, ListRows) else given


def as_array(given: Any) -> np.ndarray:
    """What NumPy can see of an argument, columns of dataframes too."""
    return np.asarray(opened(given))


def as_floats(given: Any) -> np.ndarray:
    """Float32 and float64 as they are, other real numbers as float64."""
    array = as_array(given)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind == "c":
        raise TypeError(f"expected real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)


def float_dtype(*given: np.ndarray) -> np.dtype:
    """The dtype that arithmetic of these arrays with floats would have."""
    widest = np.result_type(*(array.dtype for array in given))
    return widest if widest.kind == "f" else np.dtype(np.float64)


def normalised(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return np.lib.array_utils.normalize_axis_tuple(axis, ndim)


def as_rows(array: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """(array, its class axis), with the axes merged into a last one if they are several."""
    if len(axes) == 1:
        return array, axes[0]
    array = np.moveaxis(array, axes, range(-len(axes), 0)) if axes else array[..., None]
    kept = array.shape[: array.ndim - max(1, len(axes))]
    classes = int(np.prod(array.shape[len(kept) :]))
    return array.reshape(*kept, classes), len(kept)


def back(rows: Any, axes: tuple[int, ...], keepdims: bool, dtype: np.dtype) -> Any:
    """Row values in the dtype and with the dimensions that the caller expects."""
    rows = np.asarray(rows).astype(dtype, copy=False)
    if keepdims:
        rows = np.expand_dims(rows, axes)
    return rows[()]
