"""Parquet files, read page by page so that a large row group does not enter memory whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.columns_file import ColumnsFile
from fastent.io.errors import InputError, first_line
from fastent.io.parquet_footer import row_groups
from fastent.io.paths import Reference
from fastent.io.reading import PLAIN, Reading
from fastent.io.source import Source
from fastent.io.table import Table, open_columns, require_pyarrow

FOOTER_BYTES = 2 << 20  # of the row groups that the library knows at one time
READER_BYTES = 3 << 20  # of one column, at most: its dictionary and a page
READERS = 64 << 20  # of all that are open at once
TURNED_ROWS = 1 << 16


def list_head(count: int) -> bytes:
    """What comes before so many structs of a list, in Thrift's compact protocol."""
    if count < 15:
        return bytes([count << 4 | 12])
    digits = [count >> shift & 127 for shift in range(0, max(1, count.bit_length()), 7)]
    return bytes([15 << 4 | 12, *(digit | 128 for digit in digits[:-1]), digits[-1]])


class ParquetTable(Table):
    def __init__(self, path: str) -> None:
        arrow = require_pyarrow(path)
        self.path = path
        footer = self._footer()
        try:
            found = row_groups(footer)
            self._group_rows, self._places, self._begin, encrypted = found
            if encrypted:
                raise InputError(f"{path}: encrypted Parquet, expected it decrypted")
            with self._file(footer, 0, 0) as file:
                self.schema = file.schema_arrow
        except (arrow.ArrowException, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a readable Parquet file: {first_line(error)}") from None
        self._starts = np.concatenate([[0], np.cumsum(self._group_rows)])
        self.rows = int(self._starts[-1])

    def _footer(self) -> bytes:
        with open(self.path, "rb") as stream:
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
            stream.seek(size - 8 - length)
            return stream.read(length)

    def _file(self, footer: bytes, first: int, stop: int) -> Any:
        """The file as it would be if it had only some of its row groups."""
        import pyarrow
        import pyarrow.parquet as parquet

        groups = footer[self._places[first] : self._places[stop]]
        before, after = footer[: self._begin], footer[self._places[-1] :]
        part = b"".join([before, list_head(stop - first), groups, after])
        whole = b"".join([b"PAR1", part, len(part).to_bytes(4, "little"), b"PAR1"])
        metadata = parquet.read_metadata(pyarrow.BufferReader(whole))
        return parquet.ParquetFile(
            self.path, metadata=metadata, buffer_size=1 << 16, pre_buffer=False
        )

    def batches(self, columns: list[str], start: int, size: int, dtype: Any) -> Iterator[Any]:
        footer = self._footer()
        group = int(np.searchsorted(self._starts, start, side="right")) - 1
        count = len(self._group_rows)
        while group < count:
            most = np.searchsorted(self._places, self._places[group] + FOOTER_BYTES, "right") - 1
            stop = min(count, max(group + 1, int(most)))
            with self._file(footer, group, stop) as file:
                yield from self._window(file, group, columns, start, size, dtype)
            group = stop

    def _window(
        self, file: Any, first: int, columns: list[str], start: int, size: int, dtype: Any
    ) -> Iterator[Any]:
        """The rows of the row groups that the library knows now, those after ``start``."""
        names = {file.metadata.schema.column(k).path: k for k in range(file.metadata.num_columns)}
        places = [names.get(column) for column in columns]
        for number in range(file.metadata.num_row_groups):
            begin = int(self._starts[first + number])
            drop = max(0, start - begin)
            wanted = [1] * len(columns)
            if len(columns) > 1:
                wanted = self._reader_bytes(file.metadata.row_group(number), places)
            if sum(wanted) > READERS:
                rows = int(self._group_rows[first + number])
                yield from self._turned(file, number, rows, columns, wanted, drop, size, dtype)
                continue
            for batch in file.iter_batches(size, [number], columns, use_threads=False):
                if drop >= batch.num_rows:
                    drop -= batch.num_rows
                    continue
                yield batch.select(columns).slice(drop)
                drop = 0

    @staticmethod
    def _reader_bytes(chunks: Any, places: list[Any]) -> list[int]:
        """Memory that readers of the columns of a row group may take."""
        return [min(READER_BYTES, 2 * chunks.column(k).total_uncompressed_size) for k in places]

    def _turned(
        self,
        file: Any,
        number: int,
        rows: int,
        columns: list[str],
        wanted: list[int],
        drop: int,
        size: int,
        dtype: Any,
    ) -> Iterator[Any]:
        """A row group of more columns than can be read at once, by way of a temporary file.

        Going through it again for every few rows would take forever.
        """
        with ColumnsFile(columns, rows, dtype) as turned:
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
            yield from turned.batches(drop, size)


def open_parquet(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    return open_columns(ParquetTable(reference.path), reference.part, role, how)
