"""What ``fastent score`` keeps of its pieces, on one machine or on the workers of a cluster."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from fastent import metrics as registry
from fastent.cli.accumulators import lane_count
from fastent.cli.carried import Carried
from fastent.cli.errors import located
from fastent.cli.row_values import RowValues
from fastent.cli.scored_rows import Measured, Scorer
from fastent.cli.sums import Sums
from fastent.io.shards import Piece
from fastent.report.table import MATRIX_CLASSES

# What the page draws, asked for or not.
DRAWN = {
    "sparse": ["cross_entropy", "ece", "label_entropy"],
    "categorical": ["cross_entropy"],
    "binary": ["cross_entropy", "ece", "label_entropy"],
    "logprob": ["cross_entropy"],
}
BY_CLASS = ["confusion", "precision", "recall", "f1"]


class ScoreScorer(Scorer):
    """Adds pieces up and keeps what else was asked for."""

    def __init__(
        self,
        options: argparse.Namespace,
        shown: list[str],
        settings: dict[str, Any],
        classes: int | None,
        carrier: Carried,
        groups: tuple[int, int],
        threads: int,
    ) -> None:
        hidden = DRAWN[options.task] if options.html else []
        self.by_class = bool(options.html) and (
            options.task == "binary"
            or (options.task == "sparse" and classes is not None and classes <= MATRIX_CLASSES)
        )
        if self.by_class:
            hidden = [*hidden, *BY_CLASS]
        # Where bytes are given or the worst rows wanted, their loss is needed.
        if options.bytes or options.token_bytes or options.worst:
            hidden = [*hidden, "cross_entropy"]
        names = list(dict.fromkeys([*shown, *hidden]))
        self._ignore_index = settings["ignore_index"]
        lanes = lane_count(threads, classes, *groups)
        numbers = {**settings, "num_threads": threads // lanes}
        super().__init__(lambda: Sums(names, numbers, options.nan_policy), lanes, options.worst)
        metrics = [registry.find(name, options.task) for name in shown]
        self._row_values = RowValues(metrics, numbers, carrier)
        self.rows_columns: tuple[tuple[str, str], ...] = ()
        if options.rows and self._row_values.names:
            values = [(name, "double") for name in self._row_values.names]
            self.rows_columns = (*carrier.columns, *values)
        self._wants_losses = options.worst > 0
        self.kept = len(self.rows_columns) + self._wants_losses

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
