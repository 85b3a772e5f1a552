"""Parquet files, read page by page so that a large row group does not enter memory whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.columns_file import ColumnsFile
from fastent.io.errors import InputError, require_pyarrow, telling
from fastent.io.parquet_footer import row_groups
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Source
from fastent.io.table import Table, after, open_columns

FOOTER_BYTES = 1 << 20  # of the row groups that the library knows at one time
BUFFER_BYTES = 1 << 16  # that a reader of a large column chunk reads at a time
DECODED_BYTES = 3 << 20  # of one column, at most: its dictionary and a page
READER_BYTES = 32 << 10  # of one column beside what it decodes
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
        with open(path, "rb") as stream:
            begin, length = self._footer_place(stream)
            stream.seek(begin)
            footer = stream.read(length)
        with telling(f"{path}: not a readable Parquet file", arrow.ArrowException, ValueError):
            found = row_groups(footer)
            del footer
            self._group_rows, self._places, self._begin, encrypted = found
            if encrypted:
                raise InputError(f"{path}: encrypted Parquet, expected it decrypted")
            with self._file(0, 0) as file:
                self.schema = file.schema_arrow
        self._starts = np.concatenate([[0], np.cumsum(self._group_rows)])
        self.rows = int(self._starts[-1])

    def _footer_place(self, stream: Any) -> tuple[int, int]:
        """Where the footer begins, and how long it is."""
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
        return size - 8 - length, length

    def _file(self, first: int, stop: int, buffer_size: int = 0) -> Any:
        """The file as it would be if it had only some of its row groups."""
        import pyarrow
        import pyarrow.parquet as parquet

        with open(self.path, "rb") as stream:
            begin, length = self._footer_place(stream)

            def part(start: int, end: int) -> bytes:
                stream.seek(begin + start)
                return stream.read(end - start)

            places = self._places.tolist()
            footer = [
                part(0, self._begin),
                list_head(stop - first),
                part(places[first], places[stop]),
                part(places[-1], length),
            ]
        size = sum(map(len, footer))
        whole = b"".join([b"PAR1", *footer, size.to_bytes(4, "little"), b"PAR1"])
        metadata = parquet.read_metadata(pyarrow.BufferReader(whole))
        return parquet.ParquetFile(
            self.path, metadata=metadata, buffer_size=buffer_size, pre_buffer=False
        )

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
        options = {"metadata": file.metadata, "buffer_size": BUFFER_BYTES, "pre_buffer": False}
        buffered: Any = None
        for number in range(file.metadata.num_row_groups):
            drop = max(0, start - int(self._starts[first + number]))
            chunks = file.metadata.row_group(number)
            sizes = [self._sizes(chunks.column(k)) for k in places]
            # Small chunks are read whole; a buffer for each would take more than they do.
            whole = sum(packed for packed, _ in sizes) <= READERS // 4
            if not whole and buffered is None:
                buffered = parquet.ParquetFile(self.path, **options)
            reader = file if whole else buffered
            if len(columns) > 1:
                own = READER_BYTES if whole else READER_BYTES + BUFFER_BYTES
                wanted = [own + decoded for _, decoded in sizes]
                if sum(wanted) > READERS:
                    rows = int(self._group_rows[first + number])
                    turned = (reader, number, rows, columns, wanted, drop, size, dtype)
                    yield from self._turned(*turned)
                    continue
            found = reader.iter_batches(size, [number], columns, use_threads=False)
            yield from (batch.select(columns) for batch in after(found, drop))

    @staticmethod
    def _sizes(chunk: Any) -> tuple[int, int]:
        """Bytes of a column of a row group as stored, and what its reader decodes at one time."""
        return chunk.total_compressed_size, min(DECODED_BYTES, 2 * chunk.total_uncompressed_size)

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
