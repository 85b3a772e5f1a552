"""Parquet files, read page by page so that a large row group does not enter memory whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from fastent.io.errors import InputError, require_pyarrow, telling
from fastent.io.parquet_footer import row_groups
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Source, as_bytes, read_exactly
from fastent.io.table import Table, after, numbers_of, open_columns, storage
from fastent.io.temporary import Temporary

FOOTER_BYTES = 1 << 20  # of the row groups that the library knows at one time
BUFFER_BYTES = 1 << 16  # that a reader of a large column chunk reads at a time
DECODED_BYTES = 3 << 20  # of one column, at most: its dictionary and a page
READER_BYTES = 32 << 10  # of one column beside what it decodes
READERS = 64 << 20  # of all that are open at once
TURNED_ROWS = 1 << 16


def list_head(count: int) -> bytes:
    """What comes before so many structs of a list, in Thrift's compact protocol."""
    five = [count >> shift & 127 | 128 for shift in (0, 7, 14, 21)]
    return bytes([15 << 4 | 12, *five, count >> 28])


class ColumnsFile:
    """Columns of a row group that do not fit into memory, one after the other in a temporary file,
    from which rows are read.
    """

    def __init__(self, names: list[str], rows: int, dtype: np.dtype) -> None:
        self._names = names
        self._rows = rows
        self._dtype = dtype
        self._file = Temporary()

    def put(self, number: int, row: int, column: Any) -> None:
        """The numbers of a column from a row on."""
        numbers = np.ascontiguousarray(numbers_of(storage(column)), self._dtype)
        self._file.put(self._place(number, row), as_bytes(numbers))

    def _place(self, number: int, row: int) -> int:
        return (number * self._rows + row) * self._dtype.itemsize

    def batches(self, start: int, size: int) -> Iterator[Any]:
        """Record batches from a row on."""
        import pyarrow

        for first in range(start, self._rows, size):
            stop = min(self._rows, first + size)
            found = np.empty((len(self._names), stop - first), self._dtype)
            for number, column in enumerate(found):
                place = self._place(number, first)
                read_exactly(self._file.fd, as_bytes(column), place, "a temporary file")
            yield pyarrow.record_batch(list(found), names=self._names)

    def close(self) -> None:
        self._file.close()


class ParquetTable(Table):
    def __init__(self, path: str) -> None:
        arrow = require_pyarrow(path)
        self.path = path
        with open(path, "rb") as stream:
            footer = self._footer(stream)
        with telling(f"{path}: not a readable Parquet file", arrow.ArrowException, ValueError):
            self._group_rows, self._places, self._begin, encrypted = row_groups(footer)
            self._end = len(footer)
            del footer
            if encrypted:
                raise InputError(f"{path}: encrypted Parquet, expected it decrypted")
            with self._file(0, 0) as file:
                self.schema = file.schema_arrow
        self._starts = np.concatenate([[0], np.cumsum(self._group_rows)])
        self.rows = int(self._starts[-1])

    def _footer(self, stream: Any) -> bytes:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - 8))
        tail = stream.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] == b"PARE":
            raise InputError(f"{self.path}: encrypted Parquet, expected it decrypted")
        if tail[4:] != b"PAR1" or length > size - 12:
            raise InputError(
                f"{self.path}: not a readable Parquet file: truncated, or of another format"
            )
        self._footer_place = size - 8 - length
        stream.seek(self._footer_place)
        return bytes(stream.read(length))

    def _file(self, first: int, stop: int) -> Any:
        """The file as it would be if it had only some of its row groups."""
        import pyarrow
        import pyarrow.parquet as parquet

        places = self._places.tolist()
        pieces = [(0, self._begin), (places[first], places[stop]), (places[-1], self._end)]
        footer = []
        with open(self.path, "rb") as stream:
            for start, end in pieces:
                stream.seek(self._footer_place + start)
                footer.append(stream.read(end - start))
        footer.insert(1, list_head(stop - first))
        size = sum(map(len, footer))
        whole = b"".join([b"PAR1", *footer, size.to_bytes(4, "little"), b"PAR1"])
        metadata = parquet.read_metadata(pyarrow.BufferReader(whole))
        return parquet.ParquetFile(self.path, metadata=metadata, pre_buffer=False)

    def batches(self, columns: list[str], start: int, size: int, dtype: Any) -> Iterator[Any]:
        group = int(np.searchsorted(self._starts, start, side="right")) - 1
        count = len(self._group_rows)
        while group < count:
            most = np.searchsorted(self._places, self._places[group] + FOOTER_BYTES, "right") - 1
            stop = min(count, max(group + 1, int(most)))
            with self._file(group, stop) as file:
                yield from self._window(file, group, columns, start, size, dtype)
            del file
            group = stop

    def _window(
        self, file: Any, first: int, columns: list[str], start: int, size: int, dtype: Any
    ) -> Iterator[Any]:
        """The rows of the row groups that the library knows now, those after ``start``."""
        import pyarrow.parquet as parquet

        # Not by metadata.schema: the two would hold each other, and all that they know, until
        # Python looks for circles.
        head = file.metadata.row_group(0)
        names = {head.column(k).path_in_schema: k for k in range(file.metadata.num_columns)}
        places = [names[column] for column in columns if column in names]  # lists have others
        buffered: Any = None
        for number in range(file.metadata.num_row_groups):
            drop = max(0, start - int(self._starts[first + number]))
            group = file.metadata.row_group(number)
            chunks = [group.column(k) for k in places]
            # Small chunks are read whole; a buffer for each would take more than they do.
            whole = sum(chunk.total_compressed_size for chunk in chunks) <= READERS // 4
            if not whole and buffered is None:
                buffered = parquet.ParquetFile(
                    self.path,
                    metadata=file.metadata,
                    buffer_size=BUFFER_BYTES,
                    pre_buffer=False,
                )
            reader = file if whole else buffered
            if len(columns) > 1:
                own = READER_BYTES if whole else READER_BYTES + BUFFER_BYTES
                sizes = [2 * chunk.total_uncompressed_size for chunk in chunks]
                wanted = [own + min(DECODED_BYTES, decoded) for decoded in sizes]
                if sum(wanted) > READERS:
                    with closing(ColumnsFile(columns, group.num_rows, dtype)) as turned:
                        self._turn(reader, number, columns, wanted, turned)
                        yield from turned.batches(drop, size)
                    continue
            found = reader.iter_batches(size, [number], columns, use_threads=False)
            yield from (batch.select(columns) for batch in after(found, drop))

    def _turn(
        self, file: Any, number: int, columns: list[str], wanted: list[int], turned: ColumnsFile
    ) -> None:
        """Put a row group of more columns than can be read at once into a temporary file.

        Going through it again for every few rows would take forever.
        """
        first = 0
        while first < len(columns):
            stop = first + 1
            while stop < len(columns) and sum(wanted[first : stop + 1]) <= READERS:
                stop += 1
            at, names = 0, columns[first:stop]
            for batch in file.iter_batches(TURNED_ROWS, [number], names, use_threads=False):
                for place, name in enumerate(names, first):
                    turned.put(place, at, batch.column(name))
                at += batch.num_rows
            first = stop


def open_parquet(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    return open_columns(ParquetTable(reference.path), reference.part, role, how)
