"""Arrow and Feather files (the IPC format, as a file or as a stream), where they are mapped."""

from __future__ import annotations

import bisect
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.arrow_compressed import bulky, inflated
from fastent.io.arrow_messages import Batch, batches_of
from fastent.io.errors import InputError, require_pyarrow, telling
from fastent.io.mapping import Mapping
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Buffer, FileSource, Source, as_bytes, open_for_reading
from fastent.io.table import Table, TableRows, is_list, open_columns, plain, storage

LARGEST_BATCH = 64 << 20  # bytes of a compressed record batch that the library may decode


class ArrowTable(Table):
    """Record batches by the library; what is not compressed is not copied."""

    def __init__(self, path: str) -> None:
        arrow = require_pyarrow(path)
        self.path = path
        self.compressed = False
        wrong = (arrow.ArrowException, OSError, EOFError, struct.error, LookupError)
        with telling(f"{path}: not a readable Arrow file", *wrong):
            with open(path, "rb") as stream:
                self.is_file = stream.read(6) == b"ARROW1"
            whole = self._mapped()
            self.schema = self._reader(whole, None).schema
            heads = list(batches_of(whole, self.is_file))
        self.batch_rows = [head.rows for head in heads]
        if min(self.batch_rows, default=0) < 0:
            raise InputError(
                f"{path}: not a readable Arrow file: a batch of {min(self.batch_rows)} rows"
            )
        self.compressed = any(head.codec for head in heads)
        self.rows = sum(self.batch_rows)

    def _mapped(self) -> Any:
        """The file as a buffer; where it is cut off meanwhile it reads as zeros."""
        import pyarrow

        fd = open_for_reading(self.path)
        try:
            return pyarrow.py_buffer(Mapping(fd, os.fstat(fd).st_size))
        except OSError:  # a filesystem without mappings, or an empty file
            with pyarrow.OSFile(self.path) as file:
                return file.read_buffer()
        finally:
            os.close(fd)

    def _reader(self, whole: Any, columns: list[str] | None) -> Any:
        import pyarrow.ipc as ipc

        chosen = None
        # It copies what it chooses: that pays where others are not inflated.
        if columns is not None and self.compressed and len(columns) < len(self.schema.names):
            chosen = [self.schema.names.index(column) for column in columns]
        options = ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
        return (ipc.open_file if self.is_file else ipc.open_stream)(whole, options=options)

    def batches(self, columns: list[str], start: int, size: int, dtype: Any) -> Iterator[Any]:
        for place, batch in self.placed(columns, start):
            yield batch.slice(max(0, start - place))

    def placed(
        self, columns: list[str], start: int = 0, whole: Any = None
    ) -> Iterator[tuple[int, Any]]:
        """The batches from the one with a row on, each with its first row."""
        whole = self._mapped() if whole is None else whole
        reader = self._reader(whole, columns)
        heads: list[Batch] = []
        large: list[bool] = []
        if self.compressed:
            heads = list(batches_of(whole, self.is_file))
        if heads and all(bulky(self.schema.field(name).type) for name in columns):
            large = [self._decoded(head, columns) > LARGEST_BATCH for head in heads]
        if any(large) and not self.is_file:  # of a stream the library skips none
            large = [True] * len(large)
        place = 0
        for number, rows in enumerate(self.batch_rows):
            wanted = rows and place + rows > start
            if heads and (wanted or not self.is_file):
                self._inflated_bytes(heads[number])  # before the library asks for so much
            if large and large[number]:
                if wanted:
                    yield place, inflated(self.schema, heads[number], columns, self.path)
            elif wanted or not self.is_file:
                batch = reader.get_batch(number) if self.is_file else reader.read_next_batch()
                batch = batch.select(columns)
                batch.validate()
                if wanted:
                    yield place, batch
                batch = None  # or it would stay while the next one is read
            place += rows

    def _inflated_bytes(self, head: Batch) -> int:
        with telling(f"{self.path}: truncated or corrupted", EOFError):
            return head.inflated_bytes()

    def _decoded(self, head: Batch, columns: list[str]) -> int:
        """Bytes of some columns of a batch; of lists of a free length, all that it has."""
        total = 0
        for column in columns:
            kind = plain(self.schema.field(column).type)
            if is_list(kind) and not hasattr(kind, "list_size"):
                total += self._inflated_bytes(head)
            else:
                value = plain(kind.value_type) if is_list(kind) else kind
                total += head.rows * getattr(kind, "list_size", 1) * value.bit_width // 8
        return total


class MappedLists(FileSource):
    """A column of equally long lists whose numbers lie bare in the file."""

    def __init__(
        self, path: str, name: str, classes: int, dtype: np.dtype, places: list[tuple[int, int]]
    ) -> None:
        """``places`` have the rows of each batch and the byte offset of its numbers."""
        super().__init__(path, name, sum(rows for rows, _ in places), classes, dtype)
        self._starts = np.concatenate([[0], np.cumsum([rows for rows, _ in places])]).tolist()
        self._offsets = [offset for _, offset in places]
        self._aligned = all(offset % dtype.itemsize == 0 for offset in self._offsets)

    def open(self) -> None:
        self._bytes.open(self.path, self.mapped and self._aligned)

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            end = min(stop, self._starts[number + 1])
            if end > start:
                first = self._starts[number]
                yield self._offsets[number] + (start - first) * self.row_bytes, start, end
            start, number = end, number + 1

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        parts = list(self._parts(start, stop))
        if len(parts) == 1 and self._aligned:
            return self._bytes.rows(parts[0][0], self.shape(stop - start), self.dtype, buffer)
        rows = buffer.array(self.shape(stop - start), self.dtype)
        for offset, first, end in parts:
            self._bytes.read(offset, as_bytes(rows[first - start : end - start]))
        return rows


def mapped_lists(table: ArrowTable, source: TableRows) -> Source | None:
    """The rows of a list column where they lie; None if they must be put together first."""
    kind = table.schema.field(source.columns[0]).type
    if not is_list(plain(kind)) or source.classes is None:
        return None
    whole = table._mapped()
    places = []
    for _, batch in table.placed(source.columns, 0, whole):
        column = storage(batch.column(0))
        if column.null_count or column.values.null_count or column.values.type.bit_width < 8:
            return None
        if not hasattr(column.type, "list_size"):
            ends = np.asarray(column.offsets) if hasattr(column, "offsets") else np.zeros(1)
            if (np.diff(ends) != source.classes).any() or len(ends) != len(column) + 1:
                return None
        values = column.flatten()
        numbers = values.buffers()[1]
        if values.type.to_pandas_dtype() != source.dtype or not numbers:
            return None
        offset = numbers.address + values.offset * source.dtype.itemsize - whole.address
        places.append((batch.num_rows, offset))
    return MappedLists(source.path, source.name, source.classes, source.dtype, places)


def open_arrow(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    table = ArrowTable(reference.path)
    source = open_columns(table, reference.part, role, how)
    lists = None
    if isinstance(source, TableRows) and len(source.columns) == 1 and not table.compressed:
        lists = mapped_lists(table, source)
    return lists or source
