"""Arrow and Feather files (the IPC format, as a file or as a stream)."""

from __future__ import annotations

import bisect
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.errors import InputError
from fastent.io.npy import first_line
from fastent.io.parts import choose_columns
from fastent.io.paths import Reference
from fastent.io.source import Buffer, Source, as_bytes, open_for_reading, read_exactly
from fastent.io.table import Table, holds, open_columns, require_pyarrow

LARGEST_BATCH = 96 << 20  # bytes of one column in one record batch that may enter memory


class ArrowTable(Table):
    """Record batches read into memory one at a time; used where rows do not lie bare on disk."""

    def __init__(self, path: str) -> None:
        self._arrow = require_pyarrow(path)
        self.path = path
        try:
            with self._arrow.memory_map(path) as mapped:
                self.is_file = mapped.read(6) == b"ARROW1"
                mapped.seek(0)
                self.schema = self._reader(mapped, None).schema
                heads = list(self._batch_heads(mapped))
        except (self._arrow.ArrowException, OSError, EOFError, struct.error) as error:
            raise InputError(f"{path}: not a readable Arrow file: {first_line(error)}") from None
        self.lengths = [length for length, _ in heads]
        self.compressed = any(compressed for _, compressed in heads)
        self.rows = sum(self.lengths)

    def _reader(self, stream: Any, columns: list[str] | None) -> Any:
        ipc = self._arrow.ipc
        chosen = None
        if columns is not None:
            chosen = [self.schema.names.index(column) for column in columns]
        options = ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
        return (ipc.open_file if self.is_file else ipc.open_stream)(stream, options=options)

    def _batch_heads(self, mapped: Any) -> Iterator[tuple[int, bool]]:
        """Rows and compression of each batch, from its head, so that its body stays as it is."""
        mapped.seek(8 if self.is_file else 0)
        messages = self._arrow.ipc.MessageReader.open_stream(mapped)
        while True:
            try:
                message = messages.read_next_message()
            except StopIteration:
                return
            if message.type == "record batch":
                yield _batch_head(message.metadata.to_pybytes())

    def iterate(self, stream: Any, columns: list[str] | None, first: int) -> Iterator[Any]:
        """Record batches from number ``first`` on."""
        reader = self._reader(stream, columns)
        if self.is_file:
            for number in range(first, len(self.lengths)):
                yield reader.get_batch(number)
        else:
            for number, batch in enumerate(reader):
                if number >= first:
                    yield batch

    def batches(self, columns: list[str], start: int, size: int) -> Iterator[Any]:
        starts = np.concatenate([[0], np.cumsum(self.lengths)]).tolist()
        first = max(0, bisect.bisect_right(starts, start) - 1)
        drop = start - starts[first]
        with self._arrow.OSFile(self.path) as stream:
            for batch in self.iterate(stream, columns, first):
                yield batch.select(columns).slice(drop)
                drop = 0


def _batch_head(metadata: bytes) -> tuple[int, bool]:
    """RecordBatch.length and whether .compression is set, from a flatbuffer Message.

    Message.fbs: in Message the header is field 2; in RecordBatch length is 0, compression 3.
    """
    root = struct.unpack_from("<I", metadata, 0)[0]
    header = _field(metadata, root, 2)
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    length = _field(metadata, batch, 0)
    rows = struct.unpack_from("<q", metadata, length)[0] if length else 0
    return rows, _field(metadata, batch, 3) != 0


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffer table lies; 0 when it has its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + place)[0] if place < size else 0
    return table + offset if offset else 0


class BareRows(Source):
    """List columns whose values lie uncompressed in the file: read in place, batch by batch."""

    def __init__(
        self, path: str, name: str, classes: int, dtype: np.dtype, pieces: list[tuple[int, int]]
    ) -> None:
        """``pieces`` are (rows, byte offset) of each record batch."""
        super().__init__(path, name, sum(rows for rows, _ in pieces), classes, dtype)
        self._starts = np.concatenate([[0], np.cumsum([r for r, _ in pieces])]).tolist()
        self._offsets = [offset for _, offset in pieces]
        self._fd = -1

    def open(self) -> None:
        if self._fd < 0:
            self._fd = open_for_reading(self.path)

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        rows = buffer.array(self.shape(stop - start), self.dtype)
        number = bisect.bisect_right(self._starts, start) - 1
        at = start
        while at < stop:
            end = min(stop, self._starts[number + 1])
            if end > at:
                where = self._offsets[number] + (at - self._starts[number]) * self.row_bytes
                read_exactly(self._fd, as_bytes(rows[at - start : end - start]), where, self.name)
            at = end
            number += 1
        return rows

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_arrow(reference: Reference, role: str) -> Source:
    table = ArrowTable(reference.path)
    kinds = {field.name: holds(field.type) for field in table.schema}
    columns = choose_columns(table.path, kinds, reference.part, role)
    if len(columns) == 1 and kinds[columns[0]] == "list" and not table.compressed:
        bare = _bare_rows(table, columns[0])
        if bare is not None:
            return bare
    source = open_columns(table, reference.part, role)
    largest = max(table.lengths, default=0) * (source.row_bytes if source.dtype != object else 1)
    if largest > LARGEST_BATCH:
        raise InputError(
            f"{source.name}: a compressed or columnwise record batch of {largest >> 20} MB, "
            f"at most {LARGEST_BATCH >> 20} MB fit (write smaller batches, or lists uncompressed)"
        )
    return source


def _bare_rows(table: ArrowTable, column: str) -> Source | None:
    """The rows of a list column if every batch holds them uncompressed, equally long, no null.

    The file is mapped only to learn where the values lie; they are read with preadv, because a
    mapped file that shrinks kills the process.
    """
    import pyarrow

    classes = 0
    dtype = np.dtype(table.schema.field(column).type.value_type.to_pandas_dtype())
    if dtype.kind not in "fiu":
        return None
    pieces = []
    with pyarrow.memory_map(table.path) as mapped:
        base = mapped.read_buffer(1).address
        mapped.seek(0)
        for batch in table.iterate(mapped, None, 0):  # a choice of columns would copy them
            lists = batch.column(batch.schema.names.index(column))
            values = lists.values
            data = values.buffers()[1]
            if not len(lists):
                pieces.append((0, 0))
                continue
            if data is None or lists.null_count or values.null_count:
                return None
            lengths = _lengths(lists)
            if classes == 0:
                classes = int(lengths[0])
            if (lengths != classes).any():
                return None
            skipped = (
                lists.offsets[0].as_py() if hasattr(lists, "offsets") else lists.offset * classes
            )
            pieces.append((len(lists), data.address - base + skipped * dtype.itemsize))
    return BareRows(table.path, f"{table.path}:{column}", classes, dtype, pieces)


def _lengths(lists: Any) -> np.ndarray:
    import pyarrow.compute as compute

    return np.asarray(compute.list_value_length(lists).to_numpy(zero_copy_only=False))
