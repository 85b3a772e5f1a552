"""Calibration: bins of equal width and of equal mass, what they miss by, and with what error."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastent.backends.cython.accumulate.class_items import ORIGIN, PLACES, SCALE

Total = int | float

# Items of a state, by the cell of a row's confidence: sums of w, of w·confidence and of w·correct,
# then of the products of w with the last two, as m·2^(SCALE·(k − ORIGIN)).
CELLS, CELL_BITS = 1 << 28, 21
PRODUCTS = 3
LESS = PRODUCTS + 2 * PLACES  # weights of 1 have no products: the x of rows that have one
CELL_NAN = 1 << 20
UNIT, PRODUCT_UNIT = 1074, 2162


class Bin(NamedTuple):
    """Exact sums of a bin, in units of 2^-1074, of products 2^-2162.

    Attributes
    ----------
    confidence, correct, weight : int or float
        Σ w·confidence, Σ w·correct and Σ w.
    confidence_cross, correct_cross : int or float
        Σ W·x of the first two.
    """

    confidence: Total
    correct: Total
    weight: Total
    confidence_cross: Total
    correct_cross: Total


def gaps(bins: list[Bin]) -> list[int] | None:
    """Σ w·correct − Σ w·confidence of bins; None where some sum is no number."""
    if not all(isinstance(x, int) for one in bins for x in one):
        return None
    return [int(one.correct) - int(one.confidence) for one in bins]


def quotient(a: Total, b: Total) -> float:
    """Of exact sums; of those of a crafted state it may be beyond any float."""
    try:
        return a / b
    except OverflowError:
        return math.inf


def expected_error(bins: list[Bin]) -> float:
    """Σ |gap| over the bins, per weight."""
    found = gaps(bins)
    weight = 0 if found is None else sum(one.weight for one in bins)
    return quotient(sum(map(abs, found)), weight) if found and weight else math.nan


def largest_error(bins: list[Bin]) -> float:
    found = gaps([one for one in bins if one.weight])
    if not found:
        return math.nan
    weights = (one.weight for one in bins if one.weight)
    return max(quotient(abs(gap), weight) for gap, weight in zip(found, weights, strict=True))


def with_signs(bins: list[Bin]) -> tuple[Total, Total]:
    """Σ x and Σ W·x of rows that count as the gap of their bin: x = ±w·(correct − confidence)."""
    found = gaps(bins)
    if found is None:
        return math.nan, math.nan
    crosses = (int(one.correct_cross) - int(one.confidence_cross) for one in bins)
    signed = (x if gap > 0 else -x for gap, x in zip(found, crosses, strict=True))
    return sum(map(abs, found)), sum(signed)


def cells_of(values: np.ndarray) -> np.ndarray:
    """Cells of confidences, the buckets of the histogram of a row metric."""
    values = values + 0.0  # −0 is 0
    bits = np.ascontiguousarray(values).view(np.int64)
    subnormal = np.ascontiguousarray(values * 2.0**52).view(np.int64) >> 46
    found = np.where(bits < 1 << 52, subnormal, (bits >> 46) + (52 << 6))
    return np.where(np.isnan(values), CELL_NAN, found)


def items_of(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray | None, here: slice
) -> tuple[np.ndarray, np.ndarray]:
    """What rows add to a state's items."""
    confidence, correct = confidence[here], correct[here]
    w = np.ones(len(confidence)) if weights is None else weights
    lost = np.isnan(confidence) | np.isnan(correct)
    cells = CELLS + np.where(lost, CELL_NAN, cells_of(np.where(lost, 0.0, confidence)))
    terms = [w, *(np.where(lost, 0.0, w * x) for x in (confidence, correct))]
    items = [(cells + (line << CELL_BITS), x) for line, x in enumerate(terms)]
    if weights is not None:
        more = w != 1
        for k, x in enumerate(terms[1:]):
            line, product = scaled(w, x)
            items.append((cells + (PRODUCTS + PLACES * k + line << CELL_BITS), more * product))
            items.append((cells + (LESS + k << CELL_BITS), more * x))
    places, amounts = zip(*items, strict=True)
    return np.stack(places), np.stack(amounts)


def scaled(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, m) with a·b = m·2^(SCALE·(k − ORIGIN)), rounded once, where a·b is out of range too."""
    (a, a_exponent), (b, b_exponent) = np.frexp(a), np.frexp(b)
    k, rest = np.divmod(a_exponent.astype(np.int64) + b_exponent, SCALE)
    return k + ORIGIN, np.ldexp(a * b, rest)


def unscaled(total: int, k: int) -> int:
    """A sum of such m, in units of 2^-2162."""
    shift = PRODUCT_UNIT - UNIT + SCALE * (k - ORIGIN)
    return total << shift if shift >= 0 else total >> -shift


def cells(items: dict[int, int]) -> dict[int, Bin]:
    """Exact sums by cell, in order."""
    found: dict[int, list[int]] = {}
    for item, total in items.items():
        line, cell = divmod(item - CELLS, 1 << CELL_BITS)
        if not 0 <= line < LESS + 2:  # another metric's
            continue
        sums = found.setdefault(cell, [0] * 5)
        if line < PRODUCTS:
            sums[(2, 0, 1)[line]] += total
            if line:
                sums[2 + line] += total << PRODUCT_UNIT - UNIT
        elif line < LESS:
            k, place = divmod(line - PRODUCTS, PLACES)
            sums[3 + k] += unscaled(total, place)
        else:
            sums[3 + line - LESS] -= total << PRODUCT_UNIT - UNIT
    return {cell: Bin(*found[cell]) for cell in sorted(found)}


def equal_mass(cells: dict[int, Bin], count: int) -> tuple[list[float], list[Bin]]:
    """Upper bounds and sums of the runs of cells that are cut where k/count of the weight is
    reached; the last bound is 1."""
    if CELL_NAN in cells or gaps(list(cells.values())) is None:
        return [1.0], [Bin(*[math.nan] * 5)]
    total = sum(one.weight for one in cells.values())
    bounds: list[float] = []
    bins: list[Bin] = []
    run: list[Total] = [0] * 5
    reached: Total = 0
    k: Total = 1
    for cell, one in cells.items():
        run = [a + b for a, b in zip(run, one, strict=True)]
        reached += one.weight
        if reached * count >= k * total:
            bins.append(Bin(*run))
            bounds.append(upper_edge(cell) if reached < total else 1.0)
            run, k = [0] * 5, reached * count // total + 1
    return bounds, bins


def upper_edge(cell: int) -> float:
    field, leading = divmod(cell, 64)
    return math.ldexp(1.0 + (leading + 1) / 64, field - 1023 - 52) if cell else 0.0
