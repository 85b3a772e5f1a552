"""Names of groups and clusters."""

from __future__ import annotations

import numpy as np

from fastent.io.source import Buffer, Source


class AsText(Source):
    """Integers as text."""

    def __init__(self, numbers: Source) -> None:
        super().__init__(numbers.path, numbers.name, numbers.rows, None, np.dtype("<U21"))
        self._numbers = numbers
        self.sequential = numbers.sequential

    def open(self) -> None:
        self._numbers.open()

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        return self._numbers.read(start, stop, buffer).astype(self.dtype)

    def stamp(self) -> tuple[int, int]:
        return self._numbers.stamp()

    def close(self) -> None:
        self._numbers.close()
