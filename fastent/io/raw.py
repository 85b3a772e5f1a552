"""Rows that lie in a file as plain numbers."""

from __future__ import annotations

import math
import os

import numpy as np

from fastent.io.errors import InputError
from fastent.io.source import Buffer, FileBytes, FileRows, Source, check_length, ends_early
from fastent.io.strided import rows_of, strided


class RawRows(FileRows):
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
        axis: int = -1,
    ) -> None:
        if not -len(shape) <= axis < len(shape):
            raise InputError(f"{name}: --axis {axis}, expected one of its {len(shape)} axes")
        axis %= len(shape)
        leading = shape if flat or len(shape) == 1 else (*shape[:axis], *shape[axis + 1 :])
        classes = None if leading == shape else shape[axis]
        rows = math.prod(leading)
        super().__init__(path, name, rows, classes, dtype.newbyteorder("="))
        self._stored = dtype
        self._offset = offset
        self._shape = shape
        self._by_column = by_column
        self._axis = axis
        self._array: np.ndarray | None = None
        self.scattered = len(shape) > 1 and (by_column or axis != len(shape) - 1)
        self._bytes = FileBytes(name)
        check_length(name, os.stat(path).st_size, self._place(rows))

    def _place(self, row: int) -> int:
        return self._offset + row * self.row_bytes

    @property
    def _bare(self) -> bool:
        """Whether the rows lie in the file as they are to be given."""
        return (
            not self.scattered
            and self._stored == self.dtype
            and self._offset % self.dtype.itemsize == 0
        )

    @property
    def axes(self) -> int:
        return len(self._shape)

    @property
    def layers(self) -> int:
        """Of an array of three axes, how long the middle one is."""
        return self._shape[1] if len(self._shape) == 3 else 1

    def open(self) -> None:
        self._bytes.open(self.path, self.mapped and self._bare, self._place(self.rows))

    def flattened(self) -> Source:
        flat = RawRows(
            self.path, self.name, self._offset, self._shape, self._stored, self._by_column, True,
            self._axis,
        )  # fmt: skip
        flat.mapped = self.mapped
        return flat

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        shape = self.shape(stop - start)
        if self.scattered:
            if self._array is None:
                self._array = self._strided()
            rows = rows_of(self._array, start, stop, buffer, self.classes is None).reshape(shape)
            size = os.fstat(self._bytes.fd).st_size
            if size < self._place(self.rows):  # what is cut off reads as zeros
                raise ends_early(self.name, size, self._place(self.rows))
        else:
            rows = self._bytes.rows(self._place(start), shape, self._stored, buffer)
        if self._stored != self.dtype:
            rows = rows.byteswap(inplace=True).view(self.dtype)
        return rows

    def _strided(self) -> np.ndarray:
        parts = (self._offset, self._shape, self._stored, self._by_column)
        # Every number as a row keeps the order of the axes.
        axis = -1 if self.classes is None else self._axis
        try:
            return strided(self._bytes.fd, *parts, axis)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    def close(self) -> None:
        self._array = None
        super().close()
