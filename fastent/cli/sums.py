"""What one thread adds up: the metrics of ``fastent score`` and the byte counts beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastent._feed import Feed, Rows
from fastent.backends.cython.accumulate.state import State
from fastent.cli.clipping import Clipping
from fastent.cli.errors import nan_error
from fastent.io import InputError
from fastent.io.llama import DumpRows
from fastent.io.shards import Piece
from fastent.metrics import find
from fastent.reports import Report

CACHED_ROWS = 10_000


@dataclass
class Added:
    """What a piece gave.

    Attributes
    ----------
    values : float64 array, (columns, rows), or None
        Row values in the order of ``columns``, if they were asked for.
    weights : float64 array or None
        Their weights, None when all are 1.
    nans : int
        Rows that gave NaN.
    """

    values: np.ndarray | None
    weights: np.ndarray | None
    nans: int


class Sums:
    """Metrics of rows whose values can be seen, and judged, before they are added.

    Parameters
    ----------
    metrics : list of str
        Their names.
    settings : dict
        Keywords of an accumulator.
    nan_policy : {"raise", "omit", "propagate"}
        What a row that gives NaN does.
    """

    def __init__(self, metrics: list[str], settings: dict[str, Any], nan_policy: str) -> None:
        self._metrics = [find(name, settings["task"]) for name in metrics]
        self._task = settings["task"]
        self._feed = Feed(self._metrics, **settings)
        self._base: float | None = settings.get("base")
        self._state = self._feed.state()
        self._nan_policy = nan_policy
        self._bytes = State([("bytes", 0, 0, 0, False)])
        self._above = State([("cross_entropy", 0, 0, 0, True)])
        self.clipping = Clipping({"predictions": "predictions"})

    def add(self, piece: Piece, whole: bool) -> Added:
        """Add the rows of a piece, some thousand at a time while their values are in the cache.

        Parameters
        ----------
        piece : Piece
        whole : bool
            Whether to give the row values, so that all are made at once.
        """
        arrays = piece.arrays
        sides = [arrays.get(role) for role in ("weights", "groups", "clusters")]
        true = arrays.get("bytes" if self._task == "logprob" else "labels")
        batch = self._feed.batch(true, arrays["predictions"], *sides)
        counts = byte_counts(piece) if "bytes" in arrays else None
        steps = 1 if whole else -(-batch.rows // (CACHED_ROWS * batch.num_threads))
        step = max(1, -(-batch.rows // max(1, steps)))
        added = Added(None, None, 0)
        for start in range(0, batch.rows, step):
            stop = min(batch.rows, start + step)
            rows = batch.read(start, stop)
            added.nans += judge_nans(rows, self._nan_policy, piece, start)
            rows.add_to(self._state)
            self._add_above(rows, piece, start, stop)
            if counts is not None:
                self._bytes.add(counts[None, start:stop], rows.weights, groups=rows.groups)
            if whole:
                added.values, added.weights = rows.values, rows.weights
        return added

    def _add_above(self, rows: Rows, piece: Piece, start: int, stop: int) -> None:
        """Losses of the rows of a dump whose label is not at a floor."""
        if not isinstance(piece.shard.main, DumpRows) or "cross_entropy" not in self.columns:
            return
        part = piece.part(start, stop)
        floor = self.clipping.add(part, None if rows.weights is None else rows.weights > 0)
        if floor is not None:
            loss = rows.values[self.columns.index("cross_entropy")][None]
            weights = np.where(floor, 0.0, 1.0 if rows.weights is None else rows.weights)
            rows = replace(rows, values=loss, weights=weights, labels=None, groups=None, items=())
            rows.add_to(self._above)

    def report_above_floor(self) -> Report:
        """The loss of those."""
        return Report(self._above, [find("cross_entropy", "sparse")], self._base)

    @property
    def columns(self) -> tuple[str, ...]:
        return self._feed.columns

    def report(self, classes: Sequence[Any] | None = None) -> Report:
        """Results of the rows so far; of the sums themselves, as a copy would double them."""
        classes = range(2) if self._task == "binary" else classes
        return Report(self._state, self._metrics, self._base, classes=classes)

    def bytes_of(self, group: int | None) -> int | float:
        """Σ w·bytes of all rows, or of those of a group by its code in the report."""
        if group is not None:
            group = self._bytes.groups.code(self._state.groups.names[group])
        total: int | float = self._bytes.sums(0, group)[0]
        return total

    def merge(self, other: Sums) -> Sums:
        self._state.merge(other._state)
        self._bytes.merge(other._bytes)
        self._above.merge(other._above)
        self.clipping.merge(other.clipping)
        return self

    def state(self, lazily: bool) -> dict[str, Any]:
        return {
            "rows": self._state.to_dict(lazily),
            "bytes": self._bytes.to_dict(lazily),
            "above": self._above.to_dict(lazily),
            "clipping": self.clipping.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._state = self._state.empty().load(state["rows"])
        self._bytes = self._bytes.empty().load(state["bytes"])
        self._above = self._above.empty().load(state["above"])
        self.clipping.reset()
        self.clipping.load(state["clipping"])


def judge_nans(rows: Rows, policy: str, piece: Piece, start: int) -> int:
    """How many rows are NaN; raises, or takes their weights, as the policy says."""
    if not len(rows.values):  # label frequencies alone need none
        return 0
    bad = np.isnan(rows.values[0])  # NaN in a row is in each of its values
    nans = int(np.count_nonzero(bad))
    if nans and policy == "raise":
        raise nan_error(piece, start + int(np.argmax(bad)))
    if nans and policy == "omit":
        rows.weights = np.where(bad, 0.0, 1.0 if rows.weights is None else rows.weights)
    return nans


def byte_counts(piece: Piece) -> np.ndarray:
    """Bytes behind each row, checked."""
    given = piece.arrays["bytes"]
    name = piece.shard.sources["bytes"].name
    if given.dtype.kind not in "iuf":
        raise InputError(f"{name}: dtype {given.dtype}, expected byte counts")
    counts = given.astype(np.float64)
    bad = ~(counts >= 0) | np.isinf(counts)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{name}: row {piece.start + row} is {given[row]}, expected a byte count of 0 or more"
        )
    return counts
