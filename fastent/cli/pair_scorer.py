"""What ``fastent compare`` keeps of its pieces, on one machine or on the workers of a cluster."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from fastent.cli.accumulators import lane_count
from fastent.cli.carried import Carried
from fastent.cli.errors import located
from fastent.cli.pair_sums import LABELLED, PairSums
from fastent.cli.scored_rows import Measured, Scorer
from fastent.io.shards import Piece

HIDDEN = ("delta_p_squared",)


class CompareScorer(Scorer):
    """Adds pieces of both operands up and keeps what else was asked for."""

    def __init__(
        self,
        options: argparse.Namespace,
        shown: list[str],
        settings: dict[str, Any],
        carrier: Carried,
        with_labels: bool,
        exact: bool,
        groups: tuple[int, int],
        threads: int,
    ) -> None:
        lanes = lane_count(threads, None, *groups)
        self._by: str | None = options.by if options.worst else None
        hidden = [name for name in (self._by,) if name is not None and name not in shown]
        if options.bytes or options.token_bytes:
            hidden.append("cross_entropy_p")
        names = list(dict.fromkeys([*shown, *hidden]))

        def make() -> PairSums:
            return PairSums(
                names, settings, options.nan_policy, threads // lanes, with_labels, exact
            )

        super().__init__(make, lanes, options.worst)
        with self.lanes.borrow() as sums:
            self._columns = sums.columns
        wanted = {LABELLED[name].column if name in LABELLED else name for name in shown}
        self._written = [c for c in self._columns if c in wanted and c not in HIDDEN]
        self.rows_columns: tuple[tuple[str, str], ...] = ()
        if options.rows:
            self.rows_columns = (*carrier.columns, *((name, "double") for name in self._written))
        self._carrier = carrier
        self._ignore_index = settings["ignore_index"]
        self.kept = len(self.rows_columns) + bool(options.worst)

    def work(self, piece: Piece) -> Measured:
        whole = bool(self.kept)
        with self.lanes.borrow() as sums:
            try:
                added = sums.add(piece, whole)
            except (ValueError, TypeError) as error:
                raise located(error, piece) from None
        ignored = 0
        if self._ignore_index is not None:
            ignored = int(np.count_nonzero(piece.arrays["labels"] == self._ignore_index))
        counted = None if added.weights is None else np.asarray(added.weights) > 0
        rows = by = None
        if added.values is not None and self.rows_columns:
            rows = self._batch(piece, added.values, counted)
        if added.values is not None and self._by is not None:
            by = added.values[self._columns.index(self._by)].copy()
        return Measured(added.nans, ignored, rows, piece.first_row, by, counted)

    def _batch(self, piece: Piece, values: np.ndarray, counted: np.ndarray | None) -> Any:
        """The rows of a piece as an Arrow record batch; those that do not count have no values."""
        import pyarrow

        arrays = self._carrier.arrays(piece)
        missing = None if counted is None or counted.all() else ~counted
        for name in self._written:
            row = values[self._columns.index(name)]
            arrays.append(pyarrow.array(row, mask=missing))
        return pyarrow.record_batch(arrays, names=[name for name, _ in self.rows_columns])
