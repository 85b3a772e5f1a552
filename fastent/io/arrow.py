"""Arrow and Feather files (the IPC format, as a file or as a stream)."""

from __future__ import annotations

import bisect
import io
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.arrow_messages import Batch, places_of, read_batches
from fastent.io.errors import InputError
from fastent.io.npy import first_line
from fastent.io.parts import choose_columns
from fastent.io.paths import Reference
from fastent.io.source import (
    Buffer,
    FileBytes,
    Source,
    as_bytes,
    open_for_reading,
    read_exactly,
)
from fastent.io.table import Table, holds, open_columns, require_pyarrow

LARGEST_BATCH = 64 << 20  # bytes of one column in a record batch that may enter memory whole


class ArrowTable(Table):
    """Record batches read into memory one at a time: for all but lists of numbers."""

    def __init__(self, path: str) -> None:
        self._arrow = require_pyarrow(path)
        self.path = path
        try:
            with self._arrow.memory_map(path) as mapped:
                self.is_file = mapped.read(6) == b"ARROW1"
                mapped.seek(0)
                self.schema = self._reader(mapped, None).schema
                self.heads = read_batches(self._arrow, mapped, self.is_file)
        except (self._arrow.ArrowException, OSError, EOFError, struct.error, IndexError) as error:
            raise InputError(f"{path}: not a readable Arrow file: {first_line(error)}") from None
        self.rows = sum(head.rows for head in self.heads)

    def _reader(self, stream: Any, columns: list[str] | None) -> Any:
        ipc = self._arrow.ipc
        chosen = None
        if columns is not None:
            chosen = [self.schema.names.index(column) for column in columns]
        options = ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
        return (ipc.open_file if self.is_file else ipc.open_stream)(stream, options=options)

    def batches(self, columns: list[str], start: int, size: int) -> Iterator[Any]:
        starts = np.concatenate([[0], np.cumsum([head.rows for head in self.heads])]).tolist()
        first = max(0, bisect.bisect_right(starts, start) - 1)
        drop = start - starts[first]
        with self._arrow.OSFile(self.path) as stream:
            reader = self._reader(stream, columns)
            for number in range(len(self.heads)):
                if self.is_file:
                    if number < first:
                        continue
                    batch = reader.get_batch(number)
                else:
                    batch = reader.read_next_batch()
                if number >= first:
                    batch = batch.select(columns).slice(drop)
                    yield batch
                    drop = 0
                batch = None  # or it would stay while the next one is read


class ListRows(Source):
    """A column of equally long lists, read from where its numbers lie in the file.

    Where they are compressed they can only be read forward.
    """

    def __init__(
        self,
        path: str,
        name: str,
        classes: int,
        dtype: np.dtype,
        batches: list[tuple[int, str | None, int, int]],
    ) -> None:
        """``batches`` are rows, codec, byte offset and length of the numbers of each."""
        super().__init__(path, name, sum(batch[0] for batch in batches), classes, dtype)
        self._batches = batches
        self._starts = np.concatenate([[0], np.cumsum([b[0] for b in batches])]).tolist()
        self.sequential = any(batch[1] for batch in batches)
        self._bytes = FileBytes(name)
        self._bare = all(
            batch[1] is None and batch[2] % self.dtype.itemsize == 0 for batch in batches
        )
        self._stream: Any = None
        self._stream_batch = -1
        self._at = 0

    def open(self) -> None:
        self._bytes.open(self.path, self.mapped and self._bare)

    @property
    def in_place(self) -> bool:
        return self._bytes.mapped

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The batches that hold rows: number, and the first and last of the rows."""
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            end = min(stop, self._starts[number + 1])
            if end > start:
                yield number, start, end
            start = end
            number += 1

    def _place(self, number: int, row: int) -> int:
        """Byte offset of a row of a batch."""
        return self._batches[number][2] + (row - self._starts[number]) * self.row_bytes

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        parts = list(self._parts(start, stop))
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

    def settle(self, start: int, stop: int) -> None:
        for number, first, end in self._parts(start, stop):
            self._bytes.settle(self._place(number, first), (end - first) * self.row_bytes)

    def release(self, start: int, stop: int) -> None:
        for number, first, end in self._parts(start, stop):
            self._bytes.release(self._place(number, first), (end - first) * self.row_bytes)

    def _inflate(self, number: int, first: int, view: memoryview) -> None:
        _, codec, offset, length = self._batches[number]
        assert codec is not None
        if number != self._stream_batch or first < self._at:
            self._stream = inflated(self._bytes.fd, codec, offset, length, self.name)
            self._stream_batch, self._at = number, 0
        try:
            while self._at < first:
                self._at += len(self._take(min(first - self._at, 1 << 20)))
            done = 0
            while done < len(view):
                piece = self._take(min(len(view) - done, 1 << 20))
                view[done : done + len(piece)] = piece
                done += len(piece)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{self.name}: truncated or corrupted: {first_line(error)}") from None
        self._at += done

    def _take(self, count: int) -> bytes:
        piece: bytes = self._stream.read(count)
        if not piece:
            raise EOFError("the compressed numbers end early")
        return piece

    def close(self) -> None:
        self._stream, self._stream_batch, self._at = None, -1, 0
        self._bytes.close()


class Region(io.RawIOBase):
    """A stretch of a file as a stream."""

    def __init__(self, fd: int, offset: int, length: int, name: str) -> None:
        self._fd = fd
        self._offset = offset
        self._left = length
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: self._left]
        read_exactly(self._fd, view, self._offset, self._name)
        self._offset += len(view)
        self._left -= len(view)
        return len(view)


def inflated(fd: int, codec: str, offset: int, length: int, name: str) -> Any:
    """A compressed buffer as a stream: 8 bytes of length, -1 where it stayed as it was."""
    import pyarrow

    head = bytearray(8)
    read_exactly(fd, memoryview(head), offset, name)
    region = Region(fd, offset + 8, length - 8, name)
    if struct.unpack("<q", head)[0] == -1:
        return region
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(region, "r"), codec)


def open_arrow(reference: Reference, role: str) -> Source:
    table = ArrowTable(reference.path)
    kinds = {field.name: holds(field.type) for field in table.schema}
    columns = choose_columns(table.path, kinds, reference.part, role)
    if len(columns) == 1 and kinds[columns[0]] == "list":
        rows = _list_rows(table, columns[0])
        if rows is not None:
            return rows
    source = open_columns(table, reference.part, role)
    most = max((head.rows for head in table.heads), default=0)
    largest = most * (source.row_bytes if source.dtype != object else 1)
    if largest > LARGEST_BATCH:
        raise InputError(
            f"{source.name}: a record batch of {largest >> 20} MB, expected at most "
            f"{LARGEST_BATCH >> 20} MB (write smaller batches, or lists)"
        )
    return source


def _list_rows(table: ArrowTable, column: str) -> Source | None:
    """The rows of a list column if all lists are equally long and none has a null."""
    kind = table.schema.field(column).type
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    places = places_of(table.schema, column)
    if dtype.kind not in "fiu" or places is None:
        return None
    array, buffer = places
    fixed = getattr(kind, "list_size", None)
    classes = fixed
    batches = []
    fd = open_for_reading(table.path)
    try:
        for head in table.heads:
            if not head.rows:
                continue
            if head.nulls[array] or head.nulls[array + 1]:
                return None
            # A list has validity, offsets unless of fixed size, and its numbers validity and data.
            offset, length = head.buffers[buffer + (2 if fixed is not None else 3)]
            if fixed is None:
                ends = _offsets(fd, head, head.buffers[buffer + 1], kind, table.path)
                lengths = np.diff(ends)
                classes = int(lengths[0]) if classes is None else classes
                if (lengths != classes).any() or ends[0]:
                    return None
            if head.codec is None and length < head.rows * (classes or 0) * dtype.itemsize:
                raise InputError(f"{table.path}: truncated or corrupted: column {column} too short")
            batches.append((head.rows, head.codec, offset, length))
    finally:
        os.close(fd)
    return ListRows(table.path, f"{table.path}:{column}", classes or 0, dtype, batches)


def _offsets(fd: int, head: Batch, place: tuple[int, int], kind: Any, name: str) -> np.ndarray:
    """Where each list of a batch begins, and the last one ends."""
    import pyarrow.types as types

    dtype = np.dtype("<i8" if types.is_large_list(kind) else "<i4")
    found = np.empty(head.rows + 1, dtype)
    view = as_bytes(found)
    if head.codec is None:
        read_exactly(fd, view, place[0], name)
        return found
    stream = inflated(fd, head.codec, *place, name)
    done = 0
    while done < len(view):
        piece = stream.read(len(view) - done)
        if not piece:
            raise InputError(f"{name}: truncated or corrupted: the offsets of lists end early")
        view[done : done + len(piece)] = piece
        done += len(piece)
    return found
