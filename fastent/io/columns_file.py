"""Columns of numbers that do not fit into memory, in a temporary file from which rows are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.source import as_bytes, read_exactly
from fastent.io.table import numbers_of, storage
from fastent.io.temporary import Temporary


class ColumnsFile:
    """Equally long columns, one after the other in a file without a name."""

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
