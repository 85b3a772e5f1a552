"""Number columns of an Arrow file, one per class or a single one, read from where they lie.

The library reads record batches whole; one of a million rows of a thousand columns does not fit.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastent.io.arrow_batches import BatchRows, BufferStream, first_null
from fastent.io.arrow_messages import Batch, places_of
from fastent.io.errors import InputError
from fastent.io.source import Buffer, as_bytes, open_for_reading, read_exactly
from fastent.io.temporary import Temporary


class ColumnRows(BatchRows):
    """Rows gathered from the columns of each batch.

    Compressed columns can only be read forward, each for itself, and many streams at once do not
    fit: those of a batch are inflated one after the other into a temporary file.
    """

    def __init__(
        self,
        path: str,
        name: str,
        batches: list[Batch],
        columns: list[tuple[np.dtype, int]],
        vector: bool,
    ) -> None:
        """``columns`` have their dtypes and the numbers of their buffers in a batch."""
        dtype = np.result_type(*{dtype for dtype, _ in columns})
        rows = [batch.rows for batch in batches]
        super().__init__(path, name, rows, len(columns) if vector else None, dtype)
        self._batches = batches
        self._columns = columns
        self.scattered = len(columns) > 1
        self.sequential = any(batch.codec for batch in batches)
        self._inflated: Temporary | None = None
        self._inflated_batch = -1
        self._inflated_places: list[int] = []

    def open(self) -> None:
        self._bytes.open(self.path, False)

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        found = buffer.array((len(self._columns), stop - start), self.dtype)
        for number, first, end in self.parts(start, stop):
            fd, places = self._places(number)
            piece = found[:, first - start : end - start]
            for column, (dtype, _), place in zip(piece, self._columns, places, strict=True):
                numbers = column if dtype == self.dtype else np.empty(end - first, dtype)
                where = place + (first - self._starts[number]) * dtype.itemsize
                read_exactly(fd, as_bytes(numbers), where, self.name)
                column[:] = numbers
        return found[0] if self.classes is None else found.T

    def _places(self, number: int) -> tuple[int, list[int]]:
        """The file in which the columns of a batch lie bare, and where each begins."""
        batch = self._batches[number]
        if batch.codec is None:
            return self._bytes.fd, [batch.buffers[buffer][0] for _, buffer in self._columns]
        if number != self._inflated_batch:
            self._inflate(number)
        assert self._inflated is not None
        return self._inflated.fd, self._inflated_places

    def _inflate(self, number: int) -> None:
        batch = self._batches[number]
        self._forget()
        self._inflated, self._inflated_places = Temporary(), []
        place = 0
        for dtype, buffer in self._columns:
            self._inflated_places.append(place)
            stream = BufferStream(self._bytes.fd, batch.codec, batch.buffers[buffer], self.name)
            for piece in stream.pieces(batch.rows * dtype.itemsize):
                self._inflated.put(place, memoryview(piece))
                place += len(piece)
        self._inflated_batch = number

    def _forget(self) -> None:
        if self._inflated is not None:
            self._inflated.close()
        self._inflated, self._inflated_batch = None, -1

    def close(self) -> None:
        super().close()
        self._forget()


def column_rows(
    path: str, schema: Any, heads: list[Batch], columns: list[str], name: str, vector: bool
) -> ColumnRows | None:
    """The rows of number columns; None if they cannot be found, or are bits."""
    heads = [head for head in heads if head.rows]
    found = []
    fd = open_for_reading(path)
    try:
        for column in columns:
            places = places_of(schema, column)
            dtype = np.dtype(schema.field(column).type.to_pandas_dtype())
            if places is None or dtype.kind not in "fiu":
                return None
            array, buffer = places
            row = 0
            for head in heads:
                null = first_null(fd, head, array, buffer, name)
                if null is not None:
                    raise InputError(f"{name}: row {row + null} is null, expected a value")
                if head.codec is None and head.buffers[buffer + 1][1] < head.rows * dtype.itemsize:
                    raise InputError(f"{name}: truncated or corrupted: its numbers are too few")
                row += head.rows
            found.append((dtype, buffer + 1))
    finally:
        os.close(fd)
    return ColumnRows(path, name, heads, found, vector)
