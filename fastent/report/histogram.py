"""Row values in bars: what the page draws and the JSON holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastent.backends.cython.accumulate.state import bucket_middle
from fastent.results import Part

BARS = 40


@dataclass
class Distribution:
    """Values and the weight at each, sorted."""

    values: np.ndarray
    weights: np.ndarray


@dataclass
class Histogram:
    """The bounds of bars and the weight in each, and the weight of what no bar shows."""

    edges: np.ndarray
    weights: np.ndarray
    logarithmic: bool
    zero: float
    infinite: float

    def columns(self) -> dict[str, np.ndarray]:
        """As a table, a line for each bar."""
        return {"lower": self.edges[:-1], "upper": self.edges[1:], "weight": self.weights}


def row_values(report: Part, name: str) -> Distribution:
    """Row values of a metric and the weight at each, from the histogram behind the quantiles."""
    counts = report.state.histogram(report.layout.place(report[name].metric))
    total = sum(counts.values())
    weight = report[name].weight
    pairs = sorted((bucket_middle(bucket), weight * (n / total)) for bucket, n in counts.items())
    pairs = [pair for pair in pairs if pair[0] == pair[0]]
    return Distribution(
        np.array([value for value, _ in pairs]), np.array([share for _, share in pairs])
    )


def bars(found: Distribution) -> Histogram:
    """Bars of equal width, or of equal ratio where positive values span more than 30 times."""
    finite = np.isfinite(found.values)
    above = found.values[finite & (found.values > 0)]
    logarithmic = bool(
        not (found.values < 0).any() and above.size and above.max() > 30 * above.min()
    )
    drawn = finite & (found.values > 0) if logarithmic else finite
    values, weights = found.values[drawn], found.weights[drawn]
    edges, heights = np.array([0.0]), np.array([])
    if values.size:
        edges = _edges(values, logarithmic)
        heights, _ = np.histogram(np.maximum(values, edges[0]), edges, weights=weights)
    zero = found.weights[(found.values == 0) & ~drawn].sum()
    infinite = found.weights[np.isinf(found.values)].sum()
    return Histogram(edges, heights, logarithmic, float(zero), float(infinite))


def _edges(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Edges around the values; of a single one, some room to both sides."""
    if logarithmic:
        low, high = math.log10(max(values.min(), 1e-12)), math.log10(values.max())
        return np.logspace(low - 1e-9, max(high, low + 0.1) + 1e-9, BARS + 1)
    low, high = values.min(), values.max()
    room = (high - low) / 1e6 or abs(low) / 2 or 0.5
    return np.linspace(low - room, high + room, BARS + 1)
