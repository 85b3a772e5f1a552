"""Arrow and Feather files (the IPC format, as a file or as a stream), where they are mapped."""

from __future__ import annotations

import bisect
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.arrow_messages import Batch, batches_of
from fastent.io.errors import require_pyarrow, telling
from fastent.io.mapping import Mapping
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import FileRows, Source, open_for_reading
from fastent.io.table import Table, TableRows, holds, is_list, open_columns, plain, storage

LARGEST_BATCH = 64 << 20  # bytes of a compressed record batch that the library may decode


class ArrowTable(Table):
    """Record batches by the library; what is not compressed is not copied."""

    def __init__(self, path: str) -> None:
        arrow = require_pyarrow(path)
        self.path = path
        self.compressed = False
        wrong = (arrow.ArrowException, OSError, EOFError, struct.error, LookupError)
        with telling(f"{path}: not a readable Arrow file", *wrong):
            whole = self._mapped()
            self.is_file = whole.slice(0, 6).to_pybytes() == b"ARROW1"
            self.schema = self._reader(whole, []).schema
            heads = list(batches_of(whole, self.is_file))
        self.compressed = any(head.codec for head in heads)
        self.rows = sum(head.rows for head in heads)

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

    def _reader(self, whole: Any, columns: list[str]) -> Any:
        import pyarrow.ipc as ipc

        chosen = None
        # It copies what it chooses: that pays where others are not inflated.
        if self.compressed and len(columns) < len(self.schema.names):
            chosen = [self.schema.names.index(column) for column in columns]
        options = ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
        return (ipc.open_file if self.is_file else ipc.open_stream)(whole, options=options)

    def batches(self, columns: list[str], start: int, size: int, dtype: Any) -> Iterator[Any]:
        for place, batch in self.placed(self._mapped(), columns, start):
            yield batch.slice(max(0, start - place))

    def placed(self, whole: Any, columns: list[str], start: int = 0) -> Iterator[tuple[int, Any]]:
        """The batches from the one with a row on, each with its first row."""
        reader = self._reader(whole, columns)
        heads = list(batches_of(whole, self.is_file))
        with telling(f"{self.path}: truncated or corrupted", EOFError):
            large = self.compressed and self._too_large(heads, columns)
            place = 0
            for number, head in enumerate(heads):
                wanted = head.rows and place + head.rows > start
                read = wanted or not self.is_file  # of a stream the library skips none
                batch: Any = None  # or it would stay while the next one is read
                if read:
                    head.inflated_bytes()  # before the library asks for so much
                if wanted and large:
                    batch = head.inflated(self.schema)
                elif read and not large:
                    batch = reader.get_batch(number) if self.is_file else reader.read_next_batch()
                if wanted:
                    batch = batch.select(columns)
                    batch.validate()
                    yield place, batch
                place += head.rows

    def _too_large(self, heads: list[Batch], columns: list[str]) -> bool:
        """Whether columns of numbers, or of lists of them, are better not inflated in memory."""
        kinds = [self.schema.field(column).type for column in columns]
        kinds = [getattr(kind, "storage_type", kind) for kind in kinds]
        values = [kind.value_type if is_list(kind) else kind for kind in kinds]
        if any(hasattr(v, "index_type") or holds(v) not in ("real", "whole") for v in values):
            return False
        if any(str(field.type).find("dictionary<") > 0 for field in self.schema):
            return False  # one within lists is known to the library's reader alone
        if any(is_list(kind) and not hasattr(kind, "list_size") for kind in kinds):
            most = max(head.inflated_bytes() for head in heads)  # lists of a free length: of all
        else:
            pairs = zip(kinds, values, strict=True)
            bits = sum(getattr(k, "list_size", 1) * plain(v).bit_width for k, v in pairs)
            most = max(head.rows for head in heads) * bits // 8
        return most > LARGEST_BATCH


class MappedLists(FileRows):
    """A column of equally long lists whose numbers lie bare in the file."""

    def __init__(
        self, path: str, name: str, classes: int, dtype: np.dtype, places: list[tuple[int, int]]
    ) -> None:
        """``places`` have the rows of each batch and the byte offset of its numbers."""
        super().__init__(path, name, sum(rows for rows, _ in places), classes, dtype)
        self._starts = np.concatenate([[0], np.cumsum([rows for rows, _ in places])]).tolist()
        self._offsets = [offset for _, offset in places]
        self._bare = all(offset % dtype.itemsize == 0 for offset in self._offsets)

    def _end(self) -> int:
        return 0  # the table knows it

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            end = min(stop, self._starts[number + 1])
            if end > start:
                first = self._starts[number]
                offset = self._offsets[number] + (start - first) * self.row_bytes
                yield offset, (end - start) * self.row_bytes, start
            start, number = end, number + 1


def mapped_lists(table: ArrowTable, source: TableRows) -> Source | None:
    """The rows of a list column where they lie; None if they must be put together first."""
    kind = table.schema.field(source.columns[0]).type
    if not is_list(plain(kind)) or source.classes is None:
        return None
    whole = table._mapped()
    places = []
    for _, batch in table.placed(whole, source.columns):
        column = storage(batch.column(0))
        if column.null_count or (column.value_lengths().to_numpy() != source.classes).any():
            return None
        values = column.flatten()
        numbers = values.buffers()[1]
        if values.null_count or values.type.bit_width < 8 or not numbers:
            return None
        offset = numbers.address + values.offset * source.dtype.itemsize - whole.address
        if values.type.to_pandas_dtype() != source.dtype or not 0 <= offset < whole.size:
            return None  # the library copies what views have
        places.append((batch.num_rows, offset))
    return MappedLists(source.path, source.name, source.classes, source.dtype, places)


def open_arrow(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    table = ArrowTable(reference.path)
    source = open_columns(table, reference.part, role, how)
    if table.compressed or len(source.columns) > 1:
        return source
    return mapped_lists(table, source) or source
