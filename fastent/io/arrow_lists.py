"""A list column of an Arrow file, read from where its numbers lie."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastent.io.arrow_batches import BatchRows, BufferStream, first_null
from fastent.io.arrow_messages import Batch, places_of
from fastent.io.errors import InputError
from fastent.io.source import Buffer, as_bytes, open_for_reading

Lists = tuple[int, str | None, int, int]  # rows of a batch, codec, offset and length of its numbers


class ListRows(BatchRows):
    """A column of equally long lists. Where they are compressed they can only be read forward."""

    def __init__(
        self, path: str, name: str, classes: int, dtype: np.dtype, batches: list[Lists]
    ) -> None:
        super().__init__(path, name, [batch[0] for batch in batches], classes, dtype)
        self._batches = batches
        self.sequential = any(batch[1] for batch in batches)
        self._bare = not self.sequential and all(
            batch[2] % self.dtype.itemsize == 0 for batch in batches
        )
        self._stream: BufferStream | None = None
        self._stream_batch = -1
        self._at = 0

    def open(self) -> None:
        self._bytes.open(self.path, self.mapped and self._bare)

    @property
    def in_place(self) -> bool:
        return self._bytes.mapped

    def _place(self, number: int, row: int) -> int:
        """Byte offset of a row of a batch."""
        return self._batches[number][2] + (row - self._starts[number]) * self.row_bytes

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        parts = list(self.parts(start, stop))
        if self._bare and len(parts) == 1:
            where = self._place(parts[0][0], start)
            return self._bytes.rows(where, self.shape(stop - start), self.dtype, buffer)
        rows = buffer.array(self.shape(stop - start), self.dtype)
        for number, first, end in parts:
            view = as_bytes(rows[first - start : end - start])
            if self._batches[number][1] is None:
                self._bytes.read(self._place(number, first), view)
            else:
                self._inflate(number, (first - self._starts[number]) * self.row_bytes, view)
        return rows

    def _inflate(self, number: int, first: int, view: memoryview) -> None:
        _, codec, offset, length = self._batches[number]
        if self._stream is None or number != self._stream_batch or first < self._at:
            self._stream = BufferStream(self._bytes.fd, codec, (offset, length), self.name)
            self._stream_batch, self._at = number, 0
        self._stream.skip(first - self._at)
        self._stream.fill(view)
        self._at = first + len(view)

    def settle(self, start: int, stop: int) -> None:
        for number, first, end in self.parts(start, stop):
            self._bytes.settle(self._place(number, first), (end - first) * self.row_bytes)

    def release(self, start: int, stop: int) -> None:
        for number, first, end in self.parts(start, stop):
            self._bytes.release(self._place(number, first), (end - first) * self.row_bytes)

    def close(self) -> None:
        super().close()
        self._stream, self._stream_batch, self._at = None, -1, 0


def list_rows(path: str, schema: Any, heads: list[Batch], column: str) -> ListRows | None:
    """The rows of a list column; None if its lists hold no numbers, or cannot be found."""
    kind = schema.field(column).type
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    places = places_of(schema, column)
    if dtype.kind not in "fiu" or places is None:
        return None
    array, buffer = places
    classes = fixed = getattr(kind, "list_size", None)
    # A list has validity, offsets unless of fixed size, and its numbers validity and data.
    numbers = buffer + (1 if fixed is not None else 2)
    name = f"{path}:{column}"
    batches: list[Lists] = []
    row = 0
    fd = open_for_reading(path)
    try:
        for head in heads:
            if not head.rows:
                continue
            null = first_null(fd, head, array, buffer, name)
            if null is not None:
                raise InputError(f"{name}: row {row + null} is null, expected a list of numbers")
            if fixed is None:
                classes = _common_length(fd, head, buffer + 1, kind, name, row, classes)
            assert classes is not None
            null = first_null(fd, head, array + 1, numbers, name, head.rows * classes)
            if null is not None:
                raise InputError(
                    f"{name}: row {row + null // classes} holds a null, expected numbers"
                )
            offset, length = head.buffers[numbers + 1]
            if head.codec is None and length < head.rows * classes * dtype.itemsize:
                raise InputError(f"{name}: truncated or corrupted: its numbers are too few")
            batches.append((head.rows, head.codec, offset, length))
            row += head.rows
    finally:
        os.close(fd)
    return ListRows(path, name, classes or 0, dtype, batches)


def _common_length(
    fd: int, head: Batch, buffer: int, kind: Any, name: str, row: int, expected: int | None
) -> int:
    """How many numbers each list of a batch has, from where they begin and the last one ends."""
    import pyarrow.types as types

    ends = np.empty(head.rows + 1, "<i8" if types.is_large_list(kind) else "<i4")
    BufferStream(fd, head.codec, head.buffers[buffer], name).fill(as_bytes(ends))
    lengths = np.diff(ends)
    expected = int(lengths[0]) if expected is None else expected
    if (lengths != expected).any():
        bad = int(np.argmax(lengths != expected))
        raise InputError(
            f"{name}: row {row + bad} has {lengths[bad]} numbers, expected {expected} as in row 0"
        )
    if ends[0]:
        raise InputError(f"{name}: truncated or corrupted: its lists begin at {ends[0]}")
    return expected
