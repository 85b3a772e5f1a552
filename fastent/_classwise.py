"""Calibration of every class: its probability in all rows, against how often it is the label.

A state sums items, one a bin of a class; errors need squares of what a row adds to a class beside.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastent._calibration import (
    PLACES,
    PRODUCT_UNIT,
    UNIT,
    Bin,
    gaps,
    quotient,
    scaled,
    unscaled,
    with_signs,
)
from fastent._confusion import Ratios
from fastent._exact import standard_error

NUMBERS = 1 << 18  # probabilities at once
ITEMS, LINE_BITS, BIN_BITS = 1 << 30, 21, 10
# Lines of items: Σ w, Σ w·p and Σ w·y of a bin; Σ (w·p)² and Σ w·y·w·p of a class, which are scaled
# by powers; of bins Σ W·x of the last two, the same, and the x of weights that are not 1. The last
# line counts rows that have a NaN.
WEIGHT, PROBABILITY, LABEL = 0, 1, 2
SQUARE = 3
BOTH = SQUARE + PLACES
CROSS = BOTH + PLACES
LESS = CROSS + 2 * PLACES
LOST = LESS + 2


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
        w = np.ones(len(p)) if weights is None else weights
        w = np.where(labels < 0, 0.0, w)
        lost = np.isnan(p).any(axis=1)
        p = np.where(lost[:, None], 0.0, p)
        rows, label = np.arange(len(p)), np.maximum(labels, 0)
        places = np.searchsorted(self._edges, p)  # bins (lo, hi]
        places += np.arange(p.shape[1]) << BIN_BITS
        places += ITEMS
        own = places[rows, label]
        found: list[tuple[Any, np.ndarray]] = []

        def add(line: Any, place: np.ndarray, amount: np.ndarray) -> None:
            found.append((place.T + (line << LINE_BITS), amount.T))

        counted = np.where(lost, 0.0, w)
        x = counted[:, None] * p
        add(WEIGHT, places, np.broadcast_to(counted[:, None], p.shape))
        add(PROBABILITY, places, x)
        add(LABEL, own, counted)
        classes = ITEMS + (np.arange(p.shape[1]) << BIN_BITS) + np.zeros_like(places)
        line, squares = scaled(x, x)
        add(SQUARE + line.T, classes, squares)
        line, both = scaled(counted, x[rows, label])
        add(BOTH + line, classes[rows, label], both)
        if weights is not None:
            more = np.where(w == 1, 0.0, counted)
            line, cross = scaled(np.broadcast_to(more[:, None], p.shape), x)
            add(CROSS + line.T, places, cross)
            add(LESS, places, x * (w != 1)[:, None])
            line, cross = scaled(more, counted)
            add(CROSS + PLACES + line, own, cross)
            add(LESS + 1, own, more)
        add(LOST, np.full(len(p), ITEMS), np.where(lost, w, 0.0))
        numbers, amounts = zip(*found, strict=True)
        return (
            np.concatenate([np.atleast_2d(x) for x in numbers]),
            np.concatenate([np.atleast_2d(x) for x in amounts]),
        )


def by_class(items: dict[int, int], classes: int, bins: int) -> list[tuple[list[Bin], int]] | None:
    """Bins of each class, and Σ (w·(y − p))² in units of 2^-2162; None if a row has a NaN."""
    up = PRODUCT_UNIT - UNIT
    sums = [[[0] * 5 for _ in range(bins)] for _ in range(classes)]
    squares = [0] * classes
    for item, total in items.items():
        line, place = divmod(item - ITEMS, 1 << LINE_BITS)
        c, b = divmod(place, 1 << BIN_BITS)
        if not 0 <= line <= LOST:  # another metric's
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
    if found is None or not weight or not classes:
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
