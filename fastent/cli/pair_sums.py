"""What ``fastent compare`` adds up: divergences, and with labels the paired losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastent.accumulator import Accumulator
from fastent.backends.cython.accumulate.group_ids import row_ids
from fastent.backends.cython.accumulate.state import State
from fastent.backends.cython.engine import prepare
from fastent.cli.errors import nan_error
from fastent.io.shards import Piece
from fastent.metrics import Metric
from fastent.results import Report

DIVERGENCES = [
    "kl_divergence", "reverse_kl", "js_divergence", "total_variation", "top1_agreement",
    "entropy_p", "entropy_q",
]  # fmt: skip
TASK = ("compare",)
LOSSES = [
    Metric("cross_entropy_p", TASK, "cross_entropy_p", "mean", "loss of P"),
    Metric("cross_entropy_q", TASK, "cross_entropy_q", "mean", "loss of Q"),
    Metric("cross_entropy_difference", TASK, "difference", "mean", "loss of Q less that of P"),
    Metric("perplexity_ratio", TASK, "difference", "perplexity", "perplexity of Q over that of P"),
]


class PairSums:
    """Divergences of Q from P and, with labels, both losses and their difference by row."""

    def __init__(self, settings: dict[str, Any], nan_policy: str, num_threads: int) -> None:
        kinds = settings["kind"]
        kinds = (kinds, kinds) if isinstance(kinds, str) else kinds
        self._running: dict[str, Any] = {"num_threads": num_threads}
        self._numbers = {key: settings[key] for key in ("row_sums", "temperature")}
        self._kinds = kinds
        self._ignore_index = settings["ignore_index"]
        self._nan_policy = nan_policy
        self._accumulator = Accumulator(
            DIVERGENCES, task="divergence", kind=kinds, **self._numbers, **self._running
        )
        names = ("cross_entropy_p", "cross_entropy_q", "difference")
        self._losses = State([(name, place, 0, 0, True) for place, name in enumerate(names)])

    def add(self, piece: Piece) -> int:
        """Add the rows of a piece; gives the number of rows with NaN."""
        arrays, rows = piece.arrays, slice(0, piece.rows)
        acc = self._accumulator
        weights = self._weights(piece)
        call = prepare(
            "divergence",
            acc._sources,
            arrays["predictions"],
            arrays["other"],
            kind=self._kinds,
            sample_weight=weights,
            **self._numbers,
            **self._running,
        )
        values = call.values(rows.start, rows.stop)
        weights = call.weights(rows.start, rows.stop) if call.weighted else None
        bad = np.isnan(values[0])
        nans = int(np.count_nonzero(bad))
        if nans and self._nan_policy == "raise":
            raise nan_error(piece, int(np.argmax(bad)))
        if nans and self._nan_policy == "omit":
            weights = np.where(bad, 0.0, 1.0 if weights is None else weights)
        groups, clusters = (
            row_ids(arrays[role], piece.rows, role) if role in arrays else None
            for role in ("groups", "clusters")
        )
        losses = self._row_losses(piece, weights) if "labels" in arrays else None
        acc._state.add(values, weights, None, None, None, groups, clusters, call.num_threads)
        if losses is not None:
            self._losses.add(losses, weights, None, None, None, groups, clusters)
        return nans

    def _weights(self, piece: Piece) -> np.ndarray | None:
        """Row weights, 0 where the label is the one to ignore."""
        weights = piece.arrays.get("weights")
        if self._ignore_index is None or "labels" not in piece.arrays:
            return weights
        kept = piece.arrays["labels"] != self._ignore_index
        return kept.astype(np.float64) if weights is None else np.where(kept, weights, 0.0)

    def _row_losses(self, piece: Piece, weights: np.ndarray | None) -> np.ndarray:
        """Loss of P, loss of Q and the second less the first."""
        found = np.empty((3, piece.rows))
        for row, role, kind in zip(found, ("predictions", "other"), self._kinds, strict=False):
            numbers = dict(self._numbers)
            if kind != "logits":
                del numbers["temperature"]
            call = prepare(
                "sparse", ("cross_entropy",), piece.arrays["labels"], piece.arrays[role],
                kind=kind, sample_weight=weights, ignore_index=self._ignore_index,
                **numbers, **self._running,
            )  # fmt: skip
            row[:] = call.values(0, piece.rows)[0]
        with np.errstate(invalid="ignore"):  # two infinite losses have no difference
            np.subtract(found[1], found[0], out=found[2])
        return found

    def report(self) -> Report:
        """The divergences."""
        return Report(self._accumulator._state, self._accumulator._metrics, None)

    def loss_report(self) -> Report:
        """The paired losses; without rows when there are no labels."""
        return Report(self._losses, LOSSES, None)

    def merge(self, other: PairSums) -> PairSums:
        self._accumulator.merge(other._accumulator)
        self._losses.merge(other._losses)
        return self

    def state(self, lazily: bool) -> dict[str, Any]:
        return {
            "accumulator": self._accumulator._described(lazily),
            "losses": self._losses.to_dict(lazily),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._accumulator = Accumulator.from_state_dict(state["accumulator"], **self._running)
        self._losses = self._losses.empty().load(state["losses"])
