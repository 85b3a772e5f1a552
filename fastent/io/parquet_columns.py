"""Parquet with one column per class and many of them: turned into rows through a temporary file.

A reader of a column holds its dictionary and a page, some 3 MB. A thousand at once do not fit, and
going through the row group again for every few rows takes forever. So a row group is decoded a
few columns at a time into a temporary file, from which rows are then read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastent.io.errors import InputError, first_line
from fastent.io.source import Buffer, Source, as_bytes, read_columns
from fastent.io.temporary import Temporary

READER_BYTES = 3 << 20  # of one column, at most
READERS = 64 << 20  # of all that are open at once
BATCH_ROWS = 1 << 16


def reader_bytes(metadata: Any, group: int, columns: list[int]) -> int:
    """Memory that readers of these columns of a row group may take."""
    chunks = metadata.row_group(group)
    return sum(min(READER_BYTES, 2 * chunks.column(k).total_uncompressed_size) for k in columns)


class SpilledColumns(Source):
    """Rows of many columns; to be asked for in order."""

    sequential = True
    scattered = True

    def __init__(
        self, path: str, name: str, columns: list[str], dtype: np.dtype, groups: list[int]
    ) -> None:
        """``groups`` are the rows of each row group."""
        super().__init__(path, name, sum(groups), len(columns), dtype)
        self._columns = columns
        self._starts = np.concatenate([[0], np.cumsum(groups)]).tolist()
        self._group = -1
        self._file: Temporary | None = None

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        found = buffer.array((len(self._columns), stop - start), self.dtype)
        at = start
        while at < stop:
            group = int(np.searchsorted(self._starts, at, side="right")) - 1
            first, last = self._starts[group], self._starts[group + 1]
            end = min(stop, last)
            if group != self._group:
                self._spill(group)
            assert self._file is not None
            columns = found[:, at - start : end - start]
            read_columns(self._file.fd, 0, last - first, at - first, columns, self.name)
            at = end
        return found.T

    def _spill(self, group: int) -> None:
        """Write all columns of a row group, one after the other."""
        import pyarrow.parquet as parquet

        self.close()
        rows = self._starts[group + 1] - self._starts[group]
        try:
            self._file = Temporary()
            with parquet.ParquetFile(self.path, buffer_size=1 << 16, pre_buffer=False) as file:
                step = max(1, READERS // READER_BYTES)
                for first in range(0, len(self._columns), step):
                    names = self._columns[first : first + step]
                    at = self._starts[group]
                    for batch in file.iter_batches(BATCH_ROWS, [group], names, use_threads=False):
                        for number, name in enumerate(names, first):
                            place = number * rows + at - self._starts[group]
                            data = as_bytes(self._numbers(batch.column(name), at))
                            self._file.put(place * self.dtype.itemsize, data)
                        at += batch.num_rows
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name}: truncated or corrupted: {first_line(error)}") from None
        self._group = group

    def _numbers(self, column: Any, row: int) -> np.ndarray:
        if column.null_count:
            nulls = column.is_null().to_numpy(zero_copy_only=False)
            row += int(np.argmax(nulls))
            raise InputError(f"{self.name}: row {row} is null, expected a value")
        return np.ascontiguousarray(column.to_numpy(zero_copy_only=False), self.dtype)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._group = -1
