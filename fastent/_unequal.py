"""Rows of unequal length: those of one length at a time, so that each has the bits it has alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastent._errors import as_reduction, row_of, shown, with_row
from fastent._reductions import reduced
from fastent._shapes import weighs_terms
from fastent._weights import as_floats
from fastent.backends.cython.engine import evaluate
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.table_columns import ListRows
from fastent.backends.views import as_numpy, once

PIECE = 1 << 20  # numbers that are gathered at a time


def list_rows(pred: Any, lengths: Any, axis: int | None = -1) -> Any:
    """Predictions as they are, or as `ListRows` if they are given so.

    Raises
    ------
    TypeError, ValueError
        Lengths that are none, or do not add up to the predictions.
    """
    if lengths is None:
        return pred if type(pred) is np.ndarray and pred.dtype != object else once(pred, "pred")
    if axis != -1:
        raise ValueError(f"axis: does not apply to rows of unequal length, got {shown(axis)}")
    numbers, disguised = as_numpy(pred, "pred")
    if numbers.ndim != 1:
        raise ValueError(
            f"lengths: expected pred with the values of all rows one after another, which they "
            f"cut, got pred of shape {numbers.shape}"
        )
    given = as_numpy(lengths, "lengths")[0]
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
        raise TypeError(
            f"lengths: expected a whole number for each row, got {given.dtype} of shape "
            f"{given.shape}"
        )
    wrong = given < 0
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"lengths: expected numbers of at least 0, got {given[row]} in row {row}")
    total = sum(given.tolist())
    if total != len(numbers):
        raise ValueError(
            f"lengths: expected to add up to the {len(numbers)} values of pred, got {total}"
        )
    if disguised:  # bfloat16, which a gathered row must be as well
        import torch

        return _Halves(torch.from_numpy(numbers).view(torch.bfloat16), given.astype(np.int64))
    return ListRows(numbers, given.astype(np.int64))


class _Halves(ListRows):
    """Rows of a bfloat16 tensor."""


def width_of(pred: Any, classes: int) -> Widths:
    """What a batch that has rows says of their lengths."""
    if not isinstance(pred, ListRows) or pred.fixed:
        return Widths(classes, 0)
    return Widths(0, SEVERAL if pred.unequal >= 0 else classes)


def several(pred: Any) -> bool:
    """Whether rows are of different lengths."""
    return isinstance(pred, ListRows) and width_of(pred, 1).lists == SEVERAL


SEVERAL = -1


class Widths(NamedTuple):
    """Numbers of classes of the rows so far, the same for any order of the batches.

    Attributes
    ----------
    fixed : int
        Of arrays, which all have one; 0 without any.
    lists : int
        Of columns of lists; 0 without any, SEVERAL where they differ.
    """

    fixed: int = 0
    lists: int = 0

    def joined(self, other: Widths, message: str) -> Widths:
        """Of both; a ValueError if arrays have another number than arrays or lists."""
        fixed = self.fixed or other.fixed
        lists = self.lists or other.lists
        if other.lists not in (0, lists):
            lists = SEVERAL
        for have in (other.fixed, lists):
            if fixed and have and have != fixed:
                got = "several" if have == SEVERAL else have
                raise ValueError(message.format(fixed, got) + " as in the rows before")
        return Widths(fixed, lists)


def by_length(rows: ListRows) -> Iterator[tuple[np.ndarray, Any]]:
    """Numbers of rows of one length, and these rows as a matrix: a million values at a time."""
    lengths = rows.lengths.reshape(-1)
    if rows.numbers.ndim != 1:
        raise ValueError("pred: expected lists of numbers, got lists of lists of unequal length")
    empty = lengths == 0
    if empty.any():
        raise ValueError(
            f"pred: expected at least one class, got none in row {int(empty.argmax())}"
        )
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(lengths, kind="stable")
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    for same in np.split(order, cuts):
        length = int(lengths[same[0]])
        step = max(1, PIECE // length)
        for start in range(0, len(same), step):
            piece = same[start : start + step]
            if isinstance(rows, _Halves):
                places = starts[piece][:, None] + np.arange(length)
                yield piece, rows.numbers[places]
                continue
            windows = np.lib.stride_tricks.sliding_window_view(rows.numbers, length)
            yield piece, windows[starts[piece]]


def each_length(rows: ListRows, work: Callable[[np.ndarray, Any], None]) -> None:
    """Do the work by length; of the rows that are refused, the first is told of."""
    first: ValueError | None = None
    for piece, matrix in by_length(rows):
        try:
            work(piece, matrix)
        except ValueError as error:
            found = row_of(error)
            if found < 0:
                raise
            moved = with_row(error, int(piece[found]))
            if first is None or row_of(moved) < row_of(first):
                first = moved
    if first is not None:
        raise first


def of_rows(given: Any, name: str, rows: int) -> np.ndarray | None:
    """Labels or weights, one for each row."""
    if given is None:
        return None
    array = as_floats(given, name) if name == "sample_weight" else as_numpy(given, name)[0]
    if name == "sample_weight":
        weighs_terms(array.shape, (rows,))
        array = np.broadcast_to(array, (rows,))
    elif array.shape != (rows,):
        raise ValueError(f"{name}: expected shape {(rows,)}, got {array.shape}")
    return array


def refuse_by_class(**options: Any) -> None:
    """What speaks of classes has nothing to say of rows that have their own."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name}: does not apply to rows of unequal length")


def some(ids: Any, piece: np.ndarray) -> Any:
    """Those of some rows, of what `row_ids` made."""
    return (
        ids
        if ids is None
        else ids[piece]
        if isinstance(ids, np.ndarray)
        else [ids[k] for k in piece.tolist()]
    )


@in_default_mode
def cross_entropy(
    labels: Any, rows: ListRows, sample_weight: Any, reduction: Any, out: Any, **options: Any
) -> Any:
    """Sparse cross-entropy of rows of unequal length."""
    reduction = as_reduction(reduction)
    count = rows.lengths.size
    given = of_rows(labels, "labels", count)
    weights = of_rows(sample_weight, "sample_weight", count)
    assert given is not None
    values = np.empty(count)
    counted = np.ones(count)

    def work(piece: np.ndarray, matrix: Any) -> None:
        used = None
        if weights is not None:
            # NaN and negative ones are the engine's to refuse.
            used = np.where(weights[piece] > 0, 1.0, weights[piece])
            counted[piece] = weights[piece]
        values[piece] = evaluate(
            "sparse", ("cross_entropy",), given[piece], matrix, "none", None,
            sample_weight=used, **options,
        )  # fmt: skip
        if options.get("ignore_index") is not None:
            counted[piece[given[piece] == options["ignore_index"]]] = 0.0

    each_length(rows, work)
    plain = weights is None and options.get("ignore_index") is None
    return reduced(values, None if plain else counted, reduction, out)
