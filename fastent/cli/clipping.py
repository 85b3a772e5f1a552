"""What a dump could not hold: rows cut off at a floor, and labels of which only that is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastent.io.llama import DumpRows
from fastent.io.shards import Piece

CLIPS = (16.0, 24.0)  # nats below the largest, by program
STEPS = 65535.0


def at_floor(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of codes were clipped, and in which of these the label has the code of the
    floor."""
    span = rows["scale"].astype(np.float64) * STEPS
    clipped = np.zeros(len(rows), bool)
    for clip in CLIPS:
        clipped |= np.abs(span - clip) < 1e-4
    inside = (labels >= 0) & (labels < rows["codes"].shape[1])
    codes = rows["codes"][np.arange(len(rows)), np.where(inside, labels, 0)]
    return clipped, clipped & inside & (codes == 0)


class Clipping:
    """Counts for each side that is a dump, and which rows have no label at a floor.

    Parameters
    ----------
    sides : dict
        From a role of predictions to what the report calls it.
    """

    def __init__(self, sides: dict[str, str]) -> None:
        self._sides = sides
        self.reset()

    def reset(self) -> None:
        self._counts = {name: [0, 0] for name in self._sides.values()}
        self._seen: set[str] = set()

    def add(self, piece: Piece, counted: np.ndarray | None) -> np.ndarray | None:
        """Take in the rows of a piece; which of them have a label at a floor, None without a
        dump."""
        found = None
        for role, name in self._sides.items():
            rows = piece.arrays[role]
            if not isinstance(piece.shard.sources[role], DumpRows) or "labels" not in piece.arrays:
                continue
            clipped, floor = at_floor(rows, piece.arrays["labels"])
            if counted is not None:
                clipped, floor = clipped & counted, floor & counted
            self._seen.add(name)
            self._counts[name][0] += int(np.count_nonzero(clipped))
            self._counts[name][1] += int(np.count_nonzero(floor))
            found = floor if found is None else found | floor
        return found

    def describe(self) -> dict[str, dict[str, int]]:
        """By side, for the JSON document; empty without dumps."""
        return {
            name: {"rows_clipped": clipped, "targets_at_floor": floor}
            for name, (clipped, floor) in self._counts.items()
            if name in self._seen
        }

    def targets_at_floor(self, name: str) -> int:
        return self._counts[name][1]

    def merge(self, other: Clipping) -> None:
        self.load(other.state())

    def state(self) -> dict[str, Any]:
        return {name: self._counts[name] for name in sorted(self._seen)}

    def load(self, state: dict[str, Any]) -> None:
        """Add the state of other rows."""
        for name, counts in state.items():
            self._seen.add(name)
            self._counts[name] = [
                a + int(b) for a, b in zip(self._counts[name], counts, strict=True)
            ]
