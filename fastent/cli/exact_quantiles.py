"""Quantiles over rows: exact up to a million rows, whose values are kept for it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

MOST_ROWS = 1_000_000
LEVELS = {
    "p0.1": 0.001, "p1": 0.01, "p5": 0.05, "p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75,
    "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999,
}  # fmt: skip


# From a column to what makes it and the columns that it is made of.
Made = dict[str, tuple[Callable[..., np.ndarray], tuple[str, ...]]]


class KeptRows:
    """Values of the rows that count, and their weights where they have some, in any order.

    Parameters
    ----------
    columns : tuple of str
    made : dict
        Those that are not kept but made when they are asked for: a million rows of 21 columns take
        170 MB, without what labels tell of both sides at once 130.
    """

    def __init__(self, columns: tuple[str, ...], made: Made) -> None:
        self._made = made
        self._columns = tuple(name for name in columns if name not in made)
        self._places = [k for k, name in enumerate(columns) if name not in made]
        self._parts: list[tuple[np.ndarray, np.ndarray | None]] = []

    def empty(self) -> KeptRows:
        found = KeptRows(self._columns, self._made)
        found._places = self._places
        return found

    def add(self, values: np.ndarray, weights: np.ndarray | None) -> None:
        """Row values, (columns, rows)."""
        values = values[self._places]
        if weights is not None:
            kept = weights > 0
            values, weights = values[:, kept], weights[kept]
            if (weights == 1).all():
                weights = None
        self._parts.append((values, weights))

    def _values(self, column: str) -> np.ndarray:
        if column in self._made:
            make, sources = self._made[column]
            return make(*map(self._values, sources))
        place = self._columns.index(column)
        parts = [values[place] for values, _ in self._parts]
        return np.concatenate(parts) if parts else np.empty(0)

    def quantiles(self, column: str) -> dict[str, float]:
        """By name: NumPy's "linear", or with weights that differ the least value at which a share
        of the weight is reached."""
        with np.errstate(all="ignore"):
            values = self._values(column)
        if not values.size or np.isnan(values).any():
            return dict.fromkeys(("min", *LEVELS, "max"), np.nan)
        levels = np.array(list(LEVELS.values()))
        with np.errstate(all="ignore"):
            if self.weighted:
                found = weighted(values, self._weights(), levels)
            else:
                found = np.quantile(values, levels)
        named = dict(zip(LEVELS, found.tolist(), strict=True))
        return {"min": float(values.min()), **named, "max": float(values.max())}

    @property
    def weighted(self) -> bool:
        return any(weights is not None for _, weights in self._parts)

    def _weights(self) -> np.ndarray:
        return np.concatenate(
            [np.ones(values.shape[1]) if w is None else w for values, w in self._parts]
        )

    def merge(self, other: KeptRows) -> None:
        self._parts += other._parts

    def state(self, lazily: bool) -> Any:
        parts = list(self._parts)
        written = ([_text(values), _text(weights)] for values, weights in parts)
        return written if lazily else list(written)

    def load(self, state: Any) -> None:
        """Add the state of other rows."""
        for values, weights in state:
            numbers = _numbers(values)
            self._parts.append((numbers.reshape(len(self._columns), -1),
                                None if weights is None else _numbers(weights)))  # fmt: skip


def weighted(values: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    order = np.lexsort((weights, values))
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, levels * reached[-1])
    return np.asarray(values[order][np.minimum(places, len(values) - 1)])


def _text(numbers: np.ndarray | None) -> str | None:
    if numbers is None:
        return None
    return base64.b64encode(np.ascontiguousarray(numbers, "<f8").tobytes()).decode()


def _numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f8").astype(np.float64)
