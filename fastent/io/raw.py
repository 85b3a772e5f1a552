"""Rows that lie in a file as plain numbers."""

from __future__ import annotations

import math
import os

import numpy as np

from fastent.io.fortran import Columns
from fastent.io.source import Buffer, FileBytes, Source, check_length


class RawRows(Source):
    """Rows from a byte offset on (.npy, stored .npz, .safetensors).

    Parameters
    ----------
    by_column : bool
        Whether the array is in Fortran order.
    flat : bool
        Whether every number is a row.
    """

    def __init__(
        self,
        path: str,
        name: str,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        by_column: bool = False,
        flat: bool = False,
    ) -> None:
        leading = shape if flat or len(shape) == 1 else shape[:-1]
        classes = None if leading == shape else shape[-1]
        rows = math.prod(leading)
        super().__init__(path, name, rows, classes, dtype.newbyteorder("="))
        self._stored = dtype
        self._offset = offset
        self._shape = shape
        self._by_column = by_column
        self._columns: Columns | None = None
        if by_column and len(shape) > 1:
            self._columns = Columns(leading, 1 if classes is None else classes, dtype)
            self.scattered = True
        self._bytes = FileBytes(name)
        check_length(name, os.stat(path).st_size, self._place(rows))

    def _place(self, row: int) -> int:
        """Byte offset of a row."""
        return self._offset + row * self.row_bytes

    @property
    def _bare(self) -> bool:
        """Whether the rows lie in the file as they are to be given."""
        return (
            self._columns is None
            and self._stored == self.dtype
            and self._offset % self.dtype.itemsize == 0
        )

    @property
    def axes(self) -> int:
        return len(self._shape)

    @property
    def in_place(self) -> bool:
        return self._bytes.mapped

    def open(self) -> None:
        self._bytes.open(self.path, self.mapped and self._bare, self._place(self.rows))

    def flattened(self) -> Source:
        flat = RawRows(
            self.path, self.name, self._offset, self._shape, self._stored, self._by_column, True
        )
        flat.mapped = self.mapped
        return flat

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        shape = self.shape(stop - start)
        if self._columns is not None:
            rows = self._columns.read(
                self._bytes.fd, self._offset, start, stop, buffer, self.name
            ).reshape(shape)
        else:
            rows = self._bytes.rows(self._place(start), shape, self._stored, buffer)
        if self._stored != self.dtype:
            rows = rows.byteswap(inplace=True).view(self.dtype)
        return rows

    def settle(self, start: int, stop: int) -> None:
        self._bytes.settle(self._place(start), (stop - start) * self.row_bytes)

    def release(self, start: int, stop: int) -> None:
        self._bytes.release(self._place(start), (stop - start) * self.row_bytes)

    def close(self) -> None:
        self._bytes.close()
