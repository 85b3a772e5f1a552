"""``--worst``: the rows of highest loss, whatever the order in which blocks come."""

from __future__ import annotations

from typing import Any

import numpy as np


class Worst:
    """The ``size`` highest losses seen; among equal ones the earlier row comes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._losses = np.empty(0)
        self._rows = np.empty(0, dtype=np.int64)

    def add(self, losses: np.ndarray, first_row: int, counted: np.ndarray | None) -> None:
        """Losses of consecutive rows; ``counted`` is False where a row weighs nothing."""
        keep = ~np.isnan(losses)
        if counted is not None:
            keep &= counted
        if self._losses.size == self._size and self._size:
            keep &= losses >= self._losses[-1]
        index = np.flatnonzero(keep)
        if not index.size:
            return
        self._keep(losses[index], first_row + index)

    def _keep(self, losses: np.ndarray, rows: np.ndarray) -> None:
        self._losses = np.concatenate([self._losses, losses])
        self._rows = np.concatenate([self._rows, rows])
        order = np.lexsort((self._rows, -self._losses))[: self._size]
        self._losses, self._rows = self._losses[order], self._rows[order]

    def items(self) -> list[tuple[float, int]]:
        return list(zip(self._losses.tolist(), self._rows.tolist(), strict=True))

    def state(self) -> list[Any]:
        return [[loss.hex(), row] for loss, row in self.items()]

    def restore(self, state: list[Any]) -> None:
        self._losses = np.empty(0)
        self._rows = np.empty(0, dtype=np.int64)
        self.merge(state)

    def merge(self, state: list[Any]) -> None:
        """Add the state of other rows."""
        losses = np.array([float.fromhex(loss) for loss, _ in state])
        self._keep(losses, np.array([row for _, row in state], dtype=np.int64))
