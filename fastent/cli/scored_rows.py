"""What the scorers of all commands keep of the rows that they have added up, and its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastent.cli.accumulators import Lanes
from fastent.cli.worst import Worst
from fastent.io.shards import Block


@dataclass
class Measured:
    """What is kept of a piece once its rows are added."""

    nans: int
    ignored: int
    rows: Any  # Arrow batch of row values, or None
    first_row: int
    ranked: np.ndarray | None  # values that the worst rows are found by
    counted: np.ndarray | None


class Scorer:
    """Sums by lane, the worst rows, and the numbers of rows that do not count.

    Parameters
    ----------
    empty : callable
        Makes sums without rows.
    lanes : int
    worst : int
        How many of the worst rows are wanted.
    """

    def __init__(self, empty: Callable[[], Any], lanes: int, worst: int) -> None:
        self._empty = empty
        self.lanes = Lanes(empty, lanes)
        self.worst = Worst(worst)
        self.nans = 0
        self.ignored = 0

    def collect(self, block: Block, results: list[Measured]) -> list[Any]:
        for found in results:
            self.nans += found.nans
            self.ignored += found.ignored
            if found.ranked is not None:
                self.worst.add(found.ranked, found.first_row, found.counted)
        return [found.rows for found in results if found.rows is not None]

    def state(self, lazily: bool = False) -> dict[str, Any]:
        return {
            "sums": self.lanes.total().state(lazily),
            "worst": self.worst.state(),
            "nans": self.nans,
            "ignored": self.ignored,
        }

    def merge(self, state: dict[str, Any]) -> None:
        """Add the state of other rows."""
        other = self._empty()
        other.load(state["sums"])
        with self.lanes.borrow() as sums:
            sums.merge(other)
        self.worst.merge(state["worst"])
        self.nans += state["nans"]
        self.ignored += state["ignored"]

    def restore(self, state: dict[str, Any]) -> None:
        with self.lanes.borrow() as sums:
            sums.load(state["sums"])
        self.worst.restore(state["worst"])
        self.nans = state["nans"]
        self.ignored = state["ignored"]
