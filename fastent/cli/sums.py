"""What one thread adds up: the accumulator's state and that of the byte counts beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastent.accumulator import Accumulator
from fastent.backends.cython.accumulate.group_ids import row_ids
from fastent.backends.cython.accumulate.state import State
from fastent.backends.cython.engine import prepare
from fastent.cli.errors import nan_error
from fastent.io import InputError
from fastent.io.shards import Piece
from fastent.results import Report

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
    """An accumulator whose row values can be seen, and judged, before they are added.

    Parameters
    ----------
    metrics : list of str
        For the accumulator.
    settings : dict
        Its keywords.
    nan_policy : {"raise", "omit", "propagate"}
        What a row that gives NaN does.
    """

    def __init__(self, metrics: list[str], settings: dict[str, Any], nan_policy: str) -> None:
        self._accumulator = Accumulator(metrics, **settings)
        self._running = {"num_threads": settings["num_threads"]}
        self._numbers = {k: v for k, v in settings.items() if k not in ("task", "bins")}
        self._nan_policy = nan_policy
        self._bytes = State([("bytes", 0, 0, 0, False)])

    def add(self, piece: Piece, whole: bool) -> Added:
        """Add the rows of a piece, some thousand at a time while their values are in the cache.

        Parameters
        ----------
        piece : Piece
        whole : bool
            Whether to give the row values, so that all are made at once.
        """
        acc = self._accumulator
        arrays = piece.arrays
        call = prepare(
            acc._task,
            acc._sources,
            arrays["labels"],
            arrays["predictions"],
            sample_weight=arrays.get("weights"),
            **self._numbers,
        )
        groups, clusters = (self._names(piece, role) for role in ("groups", "clusters"))
        counts = byte_counts(piece) if "bytes" in arrays else None
        steps = 1 if whole else -(-call.rows // (CACHED_ROWS * call.num_threads))
        step = max(1, -(-call.rows // max(1, steps)))
        added = Added(None, None, 0)
        for start in range(0, call.rows, step):
            stop = min(call.rows, start + step)
            values = call.values(start, stop)
            weights = call.weights(start, stop) if call.weighted else None
            if len(values):  # label frequencies alone need none
                bad = np.isnan(values[0])  # NaN in a row is in each of its values
                nans = int(np.count_nonzero(bad))
                if nans and self._nan_policy == "raise":
                    raise nan_error(piece, start + int(np.argmax(bad)))
                if nans and self._nan_policy == "omit":
                    weights = np.where(bad, 0.0, 1.0 if weights is None else weights)
                added.nans += nans
            names = [None if x is None else x[start:stop] for x in (groups, clusters)]
            labels = call.labels(start, stop) if acc._labels else None
            targets = call.labels(start, stop) if acc._targets else None
            acc._state.add(values, weights, None, targets, labels, *names, call.num_threads)
            if counts is not None:
                self._bytes.add(counts[None, start:stop], weights, groups=names[0])
            if whole:
                added.values, added.weights = values, weights
        return added

    @property
    def columns(self) -> tuple[str, ...]:
        return self._accumulator._sources

    @staticmethod
    def _names(piece: Piece, role: str) -> Any:
        if role not in piece.arrays:
            return None
        return row_ids(piece.arrays[role], piece.rows, role)

    def report(self) -> Report:
        """Results of the rows so far; of the sums themselves, as a copy would double them."""
        return Report(self._accumulator._state, self._accumulator._metrics, None)

    def bytes_of(self, group: int | None) -> int | float:
        """Σ w·bytes of all rows, or of those of a group by its code in the report."""
        if group is not None:
            group = self._bytes.groups.code(self._accumulator._state.groups.names[group])
        total: int | float = self._bytes.sums(0, group)[0]
        return total

    def merge(self, other: Sums) -> Sums:
        self._accumulator.merge(other._accumulator)
        self._bytes.merge(other._bytes)
        return self

    def state(self, lazily: bool) -> dict[str, Any]:
        return {
            "accumulator": self._accumulator._described(lazily),
            "bytes": self._bytes.to_dict(lazily),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._accumulator = Accumulator.from_state_dict(state["accumulator"], **self._running)
        self._bytes = self._bytes.empty().load(state["bytes"])


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
