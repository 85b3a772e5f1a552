"""Labels that are the names of classes, as numbers of columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastent._errors import shown
from fastent.backends.views import as_numpy

NAMES_SHOWN = 8
IGNORED = -1  # stands for the label that does not count


class Classes:
    """Names of classes in the order of the columns.

    Parameters
    ----------
    names : sequence of str or of numbers
        All different.
    """

    def __init__(self, names: Sequence[Any]) -> None:
        self.names = tuple(_plain(name) for name in names)
        self._codes = {name: code for code, name in enumerate(self.names)}
        if len(self._codes) < len(self.names):
            repeated = next(n for k, n in enumerate(self.names) if n in self.names[:k])
            raise ValueError(f"classes: expected different names, got {shown(repeated)} twice")

    def __len__(self) -> int:
        return len(self.names)

    def shown(self, most: int = NAMES_SHOWN) -> str:
        names = ", ".join(map(str, self.names[:most]))
        return names + (", ..." if len(self.names) > most else "")

    def codes(
        self, labels: np.ndarray, ignored: Any = None, by_text: bool = False
    ) -> tuple[np.ndarray, int | None]:
        """Number of the class of each label, and the place of the first that is none of them.

        Parameters
        ----------
        labels : array
        ignored : optional
            The label whose rows do not count; looked up first, and coded as -1.
        by_text : bool
            Whether names and labels may be text that stands for numbers, as in files: a label
            that no class is called is then compared by value.
        """
        flat = labels.reshape(-1)
        if flat.dtype == object or flat.dtype.kind not in "iufbUS":
            given = {_plain(label) for label in flat.tolist()}
            kinds = sorted(given, key=str)
        else:
            unique, inverse = np.unique(flat, return_inverse=True)
            kinds = [_plain(label) for label in unique.tolist()]
        table = {label: self._code(label, ignored, by_text) for label in kinds}
        if flat.dtype == object or flat.dtype.kind not in "iufbUS":
            found = np.array([table.get(_plain(x), IGNORED - 1) for x in flat.tolist()], np.int64)
        else:
            found = np.array([table[label] for label in kinds], np.int64)[inverse.reshape(-1)]
        unknown = found < IGNORED
        first = int(np.argmax(unknown)) if unknown.any() else None
        return found.reshape(labels.shape), first

    def _code(self, label: Any, ignored: Any, by_text: bool) -> int:
        if ignored is not None and _same(label, ignored, by_text):
            return IGNORED
        code = self._codes.get(label)
        if code is None and by_text:
            code = next((k for k, n in enumerate(self.names) if _same(label, n, True)), None)
        return IGNORED - 1 if code is None else code


def _plain(value: Any) -> Any:
    """A name as Python has it, so that equal ones are equal keys."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if isinstance(value, str) else value


def _same(label: Any, name: Any, by_text: bool) -> bool:
    if label == name and isinstance(label, str) == isinstance(name, str):
        return True
    if not by_text:
        return False
    try:
        return float(label) == float(name)
    except (TypeError, ValueError):
        return str(label) == str(name)


def as_codes(
    labels: Any, pred: Any, names: Any, ignored: Any, axis: int | None
) -> tuple[Any, int | None]:
    """Labels that are names as numbers of columns, and the number that does not count.

    Raises
    ------
    TypeError, ValueError
        Names that are none, too few, too many or not different; a label that is none of them.
    """
    classes = names if isinstance(names, Classes) else class_names(names)
    shape = getattr(pred, "shape", None)
    shape = np.shape(pred) if shape is None else tuple(shape)
    try:
        count = math.prod(shape) if axis is None else shape[axis]
    except (IndexError, TypeError):  # which the engine tells of
        count = len(classes)
    if count != len(classes):
        raise ValueError(
            f"classes: expected {count} names, one for each column, got {len(classes)}"
        )
    given = as_numpy(labels, "labels")[0]
    codes, unknown = classes.codes(given, ignored)
    if unknown is not None:
        row = np.unravel_index(unknown, given.shape)
        where = unknown if given.ndim < 2 else tuple(int(k) for k in row)
        raise ValueError(
            f"labels: expected one of {classes.shown()}, got {given.reshape(-1)[unknown]!s} "
            f"in row {where}"
        )
    return codes, None if ignored is None else IGNORED


def class_names(names: Any) -> Classes:
    """Names of classes as they are given; TypeError or ValueError if they are none."""
    if isinstance(names, str | bytes) or not hasattr(names, "__iter__"):
        raise TypeError(f"classes: expected a sequence of names, got {type(names).__name__}")
    listed = names.tolist() if hasattr(names, "tolist") else list(names)
    if not listed:
        raise ValueError("classes: expected at least one name")
    try:
        return Classes(listed)
    except TypeError:
        raise TypeError("classes: expected names or numbers") from None
