"""The row values that ``--rows`` writes: of every metric that has one per row, as Arrow columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastent.backends.cython.engine import prepare
from fastent.cli.carried import Carried
from fastent.io.shards import Piece
from fastent.metrics import Metric


class RowValues:
    """From the columns behind the metrics to what a row has of each.

    Parameters
    ----------
    metrics : list of Metric
        Those that were asked for; what has no row values is left out.
    settings : dict
        Of the run: the engine's keywords, and the task.
    carrier : Carried
        What rows have beside their metrics.
    """

    def __init__(self, metrics: list[Metric], settings: dict[str, Any], carrier: Carried) -> None:
        self._carrier = carrier
        self._metrics = [metric for metric in metrics if metric.by_row]
        self._task = settings["task"]
        self._numbers = {k: v for k, v in settings.items() if k not in ("task", "bins")}
        self.names = tuple(metric.name for metric in self._metrics)

    def batch(
        self, piece: Piece, values: np.ndarray, columns: Sequence[str], ignored: np.ndarray | None
    ) -> Any:
        """The rows of a piece as an Arrow record batch.

        ``values`` are those of ``columns``, row by row. Rows that are ignored have none; what rows
        of weight 0 would have given with another weight they have too, unless it is refused.
        """
        import pyarrow

        missing = np.zeros(piece.rows, bool) if ignored is None else ignored.copy()
        weightless = np.zeros(piece.rows, bool)
        if "weights" in piece.arrays:
            weightless = ~missing & (piece.arrays["weights"] == 0)
        if weightless.any() and self._task != "logprob":
            values = values.copy()
            for rows, found in self._unweighted(piece, columns, np.flatnonzero(weightless)):
                if found is None:
                    missing[rows] = True
                else:
                    values[: len(columns), rows] = found
        arrays = self._carrier.arrays(piece)
        for metric in self._metrics:
            column = values[list(columns).index(metric.column)]
            row = of_metric(metric, column, self._numbers.get("base"))
            arrays.append(pyarrow.array(row, mask=missing if missing.any() else None))
        names = [name for name, _ in self._carrier.columns]
        return pyarrow.record_batch(arrays, names=[*names, *self.names])

    def _unweighted(
        self, piece: Piece, columns: Sequence[str], rows: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Values of some rows without their weights, None of those that are refused."""
        labels, predictions = (piece.arrays[name][rows] for name in ("labels", "predictions"))
        try:
            call = prepare(self._task, tuple(columns), labels, predictions, **self._numbers)
            return [(rows, call.values(0, len(rows)))]
        except ValueError:
            if len(rows) == 1:
                return [(rows, None)]
        halves = np.array_split(rows, 2)
        return [found for half in halves for found in self._unweighted(piece, columns, half)]


def of_metric(metric: Metric, column: np.ndarray, base: float | None = None) -> np.ndarray:
    """What a metric is in each row, from its column."""
    row = column.copy()
    if metric.threshold:
        row[:] = np.where(np.isnan(row), row, row < metric.threshold)
    elif metric.statistic == "bits":
        if base is None:
            row /= math.log(2)
        elif base != 2:
            row *= math.log(base) / math.log(2)
    elif metric.statistic == "perplexity":
        with np.errstate(over="ignore"):
            row[:] = np.exp(row) if base is None else np.power(base, row)
    return row
