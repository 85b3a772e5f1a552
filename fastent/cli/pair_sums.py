"""What ``fastent compare`` adds up: divergences, and with labels the paired losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastent._feed import Feed
from fastent.backends.cython.accumulate.state import State
from fastent.cli.sums import judge_nans
from fastent.io.shards import Piece
from fastent.metrics import Metric, find
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
        numbers: dict[str, Any] = {key: settings[key] for key in ("row_sums", "temperature")}
        self._ignore_index = settings["ignore_index"]
        self._nan_policy = nan_policy
        self._metrics = [find(name, "divergence") for name in DIVERGENCES]
        self._feed = Feed(
            self._metrics, task="divergence", kind=kinds, num_threads=num_threads, **numbers
        )
        self._state = self._feed.state()
        self._loss_feeds = [
            Feed(
                [find("cross_entropy", "sparse")],
                kind=kind,
                ignore_index=self._ignore_index,
                num_threads=num_threads,
                temperature=numbers["temperature"] if kind == "logits" else 1.0,
                row_sums="check" if kind == "logits" else numbers["row_sums"],
            )
            for kind in kinds
        ]
        names = ("cross_entropy_p", "cross_entropy_q", "difference")
        self._losses = State([(name, place, 0, 0, True) for place, name in enumerate(names)])

    def add(self, piece: Piece) -> int:
        """Add the rows of a piece; gives the number of rows with NaN."""
        arrays = piece.arrays
        ids = [arrays.get(role) for role in ("groups", "clusters")]
        batch = self._feed.batch(arrays["predictions"], arrays["other"], self._weights(piece), *ids)
        rows = batch.read(0, batch.rows)
        nans = judge_nans(rows, self._nan_policy, piece, 0)
        losses = None
        if "labels" in arrays:
            losses = replace(rows, values=self._row_losses(piece, rows.weights))
        rows.add_to(self._state)
        if losses is not None:
            losses.add_to(self._losses)
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
        for row, role, feed in zip(found, ("predictions", "other"), self._loss_feeds, strict=False):
            batch = feed.batch(piece.arrays["labels"], piece.arrays[role], weights)
            row[:] = batch.read(0, piece.rows).values[0]
        with np.errstate(invalid="ignore"):  # two infinite losses have no difference
            np.subtract(found[1], found[0], out=found[2])
        return found

    def report(self) -> Report:
        """The divergences."""
        return Report(self._state, self._metrics, None)

    def loss_report(self) -> Report:
        """The paired losses; without rows when there are no labels."""
        return Report(self._losses, LOSSES, None)

    def merge(self, other: PairSums) -> PairSums:
        self._state.merge(other._state)
        self._losses.merge(other._losses)
        return self

    def state(self, lazily: bool) -> dict[str, Any]:
        return {
            "rows": self._state.to_dict(lazily),
            "losses": self._losses.to_dict(lazily),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._state = self._state.empty().load(state["rows"])
        self._losses = self._losses.empty().load(state["losses"])
