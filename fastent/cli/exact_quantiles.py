"""Quantiles over rows: exact up to a million rows, whose values are kept for it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_ROWS = 1_000_000
LEVELS = {
    "p0.1": 0.001, "p1": 0.01, "p5": 0.05, "p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75,
    "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999,
}  # fmt: skip


# From a column to what makes it and the columns that it is made of.
Made = dict[str, tuple[Callable[..., np.ndarray], tuple[str, ...]]]


@dataclass(slots=True)
class Part:
    """The columns of some rows.

    Attributes
    ----------
    columns : list of array
        Of float64, or of uint8: the places of a column's few different values.
    different : list of array or None
        Those values, by column.
    weights : array or None
    """

    columns: list[np.ndarray]
    different: list[np.ndarray | None]
    weights: np.ndarray | None

    @classmethod
    def of(cls, columns: Iterable[np.ndarray], weights: np.ndarray | None) -> Part:
        found = [packed(column) for column in columns]
        return cls([x for x, _ in found], [x for _, x in found], weights)

    @property
    def rows(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, place: int) -> np.ndarray:
        different = self.different[place]
        return self.columns[place] if different is None else different[self.columns[place]]


TOGETHER = 4096  # rows that are packed at once, as there may be few in a piece
FEW = 64  # different values of a column that are kept as places among them
SAMPLE = 1024


def packed(column: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A column with few different values (whether labels are hit, shares of ten classes) in an
    eighth of its bytes: places, and the values themselves, bit for bit; others as they are."""
    bits = np.ascontiguousarray(column).view(np.int64)
    known = np.unique(bits[:SAMPLE])
    if len(known) <= FEW < len(bits):
        places = np.minimum(np.searchsorted(known, bits), len(known) - 1).astype(np.uint8)
        if np.array_equal(known[places], bits):
            return places, known.view(np.float64)
    return column.copy(), None  # and not all of what it is a row of


class KeptRows:
    """Values of the rows that count, and their weights where they have some, in any order.

    Parameters
    ----------
    columns : tuple of str
    made : dict
        Those that are not kept but made when they are asked for: a million rows of 21 columns take
        170 MB, without what labels tell of both sides at once 130, packed 90.
    """

    def __init__(self, columns: tuple[str, ...], made: Made) -> None:
        self._made = made
        self._columns = tuple(name for name in columns if name not in made)
        self._places = [k for k, name in enumerate(columns) if name not in made]
        self._parts: list[Part] = []
        self._waiting: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._waiting_rows = 0

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
        self._waiting.append((values, weights))
        self._waiting_rows += values.shape[1]
        if self._waiting_rows >= TOGETHER:
            self._pack()

    def _pack(self) -> None:
        if not self._waiting:
            return
        weights = None
        if any(w is not None for _, w in self._waiting):
            weights = np.concatenate([np.ones(v.shape[1]) if w is None else w
                                      for v, w in self._waiting])  # fmt: skip
        values = [v for v, _ in self._waiting]
        self._parts.append(Part.of(values[0] if len(values) == 1 else np.hstack(values), weights))
        self._waiting, self._waiting_rows = [], 0

    def _values(self, column: str) -> np.ndarray:
        self._pack()
        parts = [self._of_part(part, column) for part in self._parts]
        return np.concatenate(parts) if parts else np.empty(0)

    def _of_part(self, part: Part, column: str) -> np.ndarray:
        if column in self._made:
            make, sources = self._made[column]
            return make(*(self._of_part(part, source) for source in sources))
        return part[self._columns.index(column)]

    def quantiles(self, column: str) -> dict[str, float]:
        """By name: NumPy's "linear", or with weights that differ the least value at which a share
        of the weight is reached."""
        with np.errstate(all="ignore"):
            values = self._values(column)
        if not values.size or np.isnan(values).any():
            return dict.fromkeys(("min", *LEVELS, "max"), np.nan)
        levels = np.array(list(LEVELS.values()))
        with np.errstate(all="ignore"):
            least, most = float(values.min()), float(values.max())
            if self.weighted:
                found = weighted(values, self._weights(), levels)
            else:
                found = np.quantile(values, levels, overwrite_input=True)
        return {"min": least, **dict(zip(LEVELS, found.tolist(), strict=True)), "max": most}

    @property
    def weighted(self) -> bool:
        self._pack()
        return any(part.weights is not None for part in self._parts)

    def _weights(self) -> np.ndarray:
        return np.concatenate(
            [np.ones(part.rows) if part.weights is None else part.weights for part in self._parts]
        )

    def merge(self, other: KeptRows) -> None:
        other._pack()
        self._parts += other._parts

    def state(self, lazily: bool) -> Any:
        self._pack()
        parts = list(self._parts)
        places = range(len(self._columns))
        written = ([_text(np.stack([p[k] for k in places])), _text(p.weights)] for p in parts)
        return written if lazily else list(written)

    def load(self, state: Any) -> None:
        """Add the state of other rows."""
        for values, weights in state:
            numbers = _numbers(values).reshape(len(self._columns), -1)
            self._parts.append(Part.of(numbers, None if weights is None else _numbers(weights)))


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
