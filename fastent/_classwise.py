"""Calibration of every class: its probability in all rows, against how often it is the label.

A state sums items, one a bin of a class; errors need squares of what a row adds to a class beside.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastent._calibration import (
    PRODUCT_UNIT,
    UNIT,
    Bin,
    gaps,
    quotient,
    unscaled,
    with_signs,
)
from fastent._confusion import Ratios
from fastent._exact import divides, standard_error
from fastent.backends.cython.accumulate.class_items import (
    BIN_BITS,
    CROSS,
    ITEMS,
    LESS,
    LINE_BITS,
    LOST,
    PLACES,
    SQUARE,
    items_of,
)

NUMBERS = 1 << 14  # probabilities at once: their items stay in the second-level cache


class Items:
    """What the rows of a call add to the items of a state."""

    def __init__(self, call: Any, start: int, stop: int, bins: int) -> None:
        self._call, self._start, self._stop = call, start, stop
        self._edges = np.arange(1, bins) / bins

    def __call__(
        self, weights: np.ndarray | None, here: slice
    ) -> tuple[np.ndarray, np.ndarray] | None:
        first = self._start + here.start
        p = self._call.predictions(first, min(self._stop, self._start + here.stop))
        if not len(p):
            return None
        labels = self._call.labels(first, first + len(p))
        return items_of(np.ascontiguousarray(p, np.float64), labels, weights, self._edges)


def by_class(items: dict[int, int], classes: int, bins: int) -> list[tuple[list[Bin], int]] | None:
    """Bins of each class, and Σ (w·(y − p))² in units of 2^-2162; None if a row has a NaN."""
    up = PRODUCT_UNIT - UNIT
    sums = [[[0] * 5 for _ in range(bins)] for _ in range(classes)]
    squares = [0] * classes
    for item, total in items.items():
        line, place = divmod(item - ITEMS, 1 << LINE_BITS)
        c, b = divmod(place, 1 << BIN_BITS)
        if not 0 <= line <= LOST or c >= classes or b >= bins:  # another metric's, or nobody's
            continue
        if line == LOST:
            return None
        if SQUARE <= line < CROSS:
            k, power = divmod(line - SQUARE, PLACES)
            squares[c] += (1, -2)[k] * unscaled(total, power)
            continue
        found = sums[c][b]
        if line < SQUARE:
            found[(2, 0, 1)[line]] += total
            if line:
                found[2 + line] += total << up
        elif line < LESS:
            k, power = divmod(line - CROSS, PLACES)
            found[3 + k] += unscaled(total, power)
        else:
            found[3 + line - LESS] -= total << up
    found_bins = [[Bin(*one) for one in several] for several in sums]
    for c, several in enumerate(found_bins):
        squares[c] += sum(int(one.correct_cross) for one in several)  # Σ (w·y)² is Σ W·w·y
    return list(zip(found_bins, squares, strict=True))


def errors(
    items: dict[int, int], classes: int, bins: int, weight: Any, squares: Any, rows: int
) -> Ratios:
    """The calibration error of each class and their mean, whose error takes those of classes for
    independent."""
    nan = np.full(classes, math.nan)
    found = by_class(items, classes, bins)
    if found is None or not classes or not weight or not divides(weight):
        error = None if rows < 2 else math.nan
        return Ratios(math.nan, error, nan, None if rows < 2 else nan)
    missed = [sum(map(abs, gaps(several) or [])) for several, _ in found]
    values = np.array([quotient(x, weight) for x in missed])
    mean = quotient(sum(missed), weight * classes)
    if rows < 2:
        return Ratios(mean, None, values, None)
    each = []
    for several, square in found:
        total, cross = with_signs(several)
        each.append(standard_error(total, square, cross, weight, squares, rows))
    spread = np.array(each, np.float64)
    return Ratios(mean, math.hypot(*spread) / classes, values, spread)
