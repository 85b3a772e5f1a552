"""Calibration bins as a table: bounds, weights, what was predicted and what was observed."""

from __future__ import annotations

import math

import numpy as np

from fastent._exact import divides
from fastent.report.plots import Bins
from fastent.results import PRODUCT_UNIT, Part, rounded


def table(part: Part, equal_mass: bool = False) -> dict[str, np.ndarray] | None:
    """Columns of the bins of a report or of a group; None where it has none.

    Parameters
    ----------
    part : Part
    equal_mass : bool
        Which bins.

    Returns
    -------
    dict of ndarray
        `lower`, `upper`, `weight`, `confidence`, `frequency`, `low` and `high`.
    """
    if part.group is not None and not part.state.detailed:
        return None
    bounds, found = part.bins(equal_mass)
    if not found:
        return None
    sums = np.array([[rounded(x) for x in one[:3]] for one in found])
    confidence, hits, weight = sums.T
    upper = np.array(bounds) if equal_mass else None
    return Bins(weight, confidence, hits, effective(part), upper).table()


def effective(part: Part) -> float:
    """How many rows a weight of 1 stands for: Kish's ΣW / ΣW²."""
    if not part.state.weighted:
        return 1.0
    total, squares = part.state.weight(0, part.group)
    if not (divides(total) and divides(squares)) or not squares:
        return math.nan
    try:
        return (total << PRODUCT_UNIT - 1074) / squares
    except OverflowError:
        return math.inf
