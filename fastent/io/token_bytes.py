"""Bytes of rows, from a table of how many bytes of text each token stands for."""

from __future__ import annotations

import os

import numpy as np

from fastent.io.errors import InputError
from fastent.io.names import Wrapped
from fastent.io.source import Buffer, Source


def token_bytes(source: Source) -> np.ndarray:
    """The table: a whole number of bytes for each token id."""
    with source:
        source.open()
        found = np.array(source.read(0, source.rows, Buffer()))
    if found.ndim != 1 or found.dtype.kind not in "iu" or (found < 0).any():
        raise InputError(
            f"{source.name}: expected a whole number of bytes, 0 or more, for each token"
        )
    return found.astype(np.int64)


class OfTokens(Wrapped):
    """Bytes of the label of each row; a label that is none has 0, and is refused elsewhere."""

    def __init__(self, labels: Source, table: np.ndarray, path: str) -> None:
        super().__init__([labels], np.dtype(np.int64))
        self.path, self.name = path, f"{path} of {labels.name}"
        self._table = table

    def stamp(self) -> tuple[int, int]:
        size, time = super().stamp()
        table = os.stat(self.path)
        return size + table.st_size, max(time, table.st_mtime_ns)

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        labels = self.parts[0].read(start, stop, Buffer())
        known = (labels >= 0) & (labels < len(self._table))
        return np.where(known, self._table[np.where(known, labels, 0).astype(np.int64)], 0)
