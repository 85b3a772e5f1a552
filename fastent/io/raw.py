"""Rows that lie in a file as plain numbers."""

from __future__ import annotations

import copy
import math
import os

import numpy as np

from fastent.io.errors import InputError
from fastent.io.reading import Reading
from fastent.io.source import Buffer, FileRows, Source, check_length, ends_early
from fastent.io.strided import rows_of, strided


def axis_of(name: str, shape: tuple[int, ...], role: str, how: Reading) -> int:
    """The class axis of an array of predictions or targets; other arrays have none."""
    if role not in ("predictions", "targets"):
        return -1
    if not -len(shape) <= how.axis < len(shape):
        raise InputError(f"{name}: --axis {how.axis}: expected one of its {len(shape)} axes")
    return how.axis


class RawRows(FileRows):
    """Rows from a byte offset on (.npy, stored .npz, .safetensors).

    Parameters
    ----------
    by_column : bool
        Whether the array is in Fortran order.
    axis : int
        That of the classes.
    """

    def __init__(
        self,
        path: str,
        name: str,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        by_column: bool = False,
        axis: int = -1,
    ) -> None:
        axis %= len(shape)
        vector = len(shape) == 1
        leading = shape if vector else (*shape[:axis], *shape[axis + 1 :])
        classes = None if vector else shape[axis]
        super().__init__(path, name, math.prod(leading), classes, dtype.newbyteorder("="))
        self._stored = dtype
        self._offset = offset
        self._shape = shape
        self._by_column = by_column
        self._axis = axis
        self._array: np.ndarray | None = None
        self.layers = shape[1] if len(shape) == 3 else 1
        self.scattered = not vector and (by_column or axis != len(shape) - 1)
        self._check_size()

    def _check_size(self) -> None:
        check_length(self.name, os.stat(self.path).st_size, self._place(self.rows))

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

    def open(self) -> None:
        self._bytes.open(self.path, self.mapped and self._bare, self._place(self.rows))

    def flattened(self) -> Source:
        flat = copy.copy(self)
        flat.rows, flat.classes = math.prod(self._shape), None
        flat._bytes = copy.copy(self._bytes)
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
        return self._native(rows)

    def _native(self, rows: np.ndarray) -> np.ndarray:
        """Rows in the machine's byte order, in their place."""
        return rows if self._stored == self.dtype else rows.byteswap(inplace=True).view(self.dtype)

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
