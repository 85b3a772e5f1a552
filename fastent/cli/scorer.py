"""What ``fastent score`` keeps of its pieces, on one machine or on the workers of a cluster."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastent import metrics as registry
from fastent.cli.accumulators import Lanes, lane_count
from fastent.cli.carried import Carried
from fastent.cli.errors import located
from fastent.cli.row_values import RowValues
from fastent.cli.sums import Sums
from fastent.cli.worst import Worst
from fastent.io.shards import Block, Piece

# What the page draws, asked for or not.
DRAWN = {
    "sparse": ["cross_entropy", "ece", "label_entropy"],
    "categorical": ["cross_entropy"],
    "binary": ["cross_entropy", "ece", "label_entropy"],
    "logprob": ["cross_entropy"],
}


@dataclass
class Measured:
    """What is kept of a piece once its rows are added."""

    nans: int
    ignored: int
    rows: Any  # Arrow batch of row values, or None
    first_row: int
    losses: np.ndarray | None
    counted: np.ndarray | None


class ScoreScorer:
    """Adds pieces up and keeps what else was asked for."""

    def __init__(
        self,
        options: argparse.Namespace,
        shown: list[str],
        settings: dict[str, Any],
        classes: int | None,
        carrier: Carried,
        threads: int,
    ) -> None:
        hidden = DRAWN[options.task] if options.html else []
        # Where bytes are given or the worst rows wanted, their loss is needed.
        if options.bytes or options.token_bytes or options.worst:
            hidden = [*hidden, "cross_entropy"]
        names = list(dict.fromkeys([*shown, *hidden]))
        self._ignore_index = settings["ignore_index"]
        lanes = lane_count(threads, classes, bool(options.groups or options.clusters))
        numbers = {**settings, "num_threads": threads // lanes}
        self._empty = lambda: Sums(names, numbers, options.nan_policy)
        self.lanes = Lanes(self._empty, lanes)
        metrics = [registry.find(name, options.task) for name in shown]
        self._row_values = RowValues(metrics, numbers, carrier)
        self.rows_columns: tuple[tuple[str, str], ...] = ()
        if options.rows and self._row_values.names:
            values = [(name, "double") for name in self._row_values.names]
            self.rows_columns = (*carrier.columns, *values)
        self.worst = Worst(options.worst)
        self._wants_losses = options.worst > 0
        self.kept = len(self.rows_columns) + self._wants_losses
        self.nans = 0
        self.ignored = 0

    def work(self, piece: Piece) -> Measured:
        whole = bool(self.rows_columns) or self._wants_losses
        with self.lanes.borrow() as sums:
            try:
                added = sums.add(piece, whole)
            except (ValueError, TypeError) as error:
                raise located(error, piece) from None
            columns = sums.columns
        ignored = None
        if self._ignore_index is not None:
            ignored = piece.arrays["labels"] == self._ignore_index
        rows = losses = counted = None
        if added.values is not None and self.rows_columns:
            rows = self._row_values.batch(piece, added.values, columns, ignored)
        if added.values is not None and self._wants_losses:
            # A copy, so that the other columns are not kept until the block has its turn.
            losses = added.values[columns.index("cross_entropy")].copy()
            counted = None if added.weights is None else added.weights > 0
        count = 0 if ignored is None else int(np.count_nonzero(ignored))
        return Measured(added.nans, count, rows, piece.first_row, losses, counted)

    def collect(self, block: Block, results: list[Measured]) -> list[Any]:
        for found in results:
            self.nans += found.nans
            self.ignored += found.ignored
            if found.losses is not None:
                self.worst.add(found.losses, found.first_row, found.counted)
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
