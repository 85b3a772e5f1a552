"""Rows that lie in a file as plain numbers."""

from __future__ import annotations

import copy
import math
import os

import numpy as np

from fastent.io.errors import InputError
from fastent.io.mapping import Mapping
from fastent.io.reading import Reading
from fastent.io.source import Buffer, FileRows, Source, check_length, ends_early


def axis_of(name: str, shape: tuple[int, ...], role: str, how: Reading) -> int:
    """The class axis of an array of predictions or targets; other arrays have none."""
    if not shape:
        raise InputError(f"{name}: a single number, expected rows")
    if role not in ("predictions", "targets"):
        return -1
    if not -len(shape) <= how.axis < len(shape):
        raise InputError(f"{name}: --axis {how.axis}: expected one of its {len(shape)} axes")
    return how.axis


class RawRows(FileRows):
    """Rows from a byte offset on (.npy, stored .npz, .safetensors), of classes along an axis.

    ``by_column`` says that the array is in Fortran order.
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
        self._bare = (
            not self.scattered and dtype == self.dtype and offset % max(1, dtype.itemsize) == 0
        )
        self._check_size()

    def _check_size(self) -> None:
        check_length(self.name, os.stat(self.path).st_size, self._place(self.rows))

    def _place(self, row: int) -> int:
        return self._offset + row * self.row_bytes

    def flattened(self) -> Source:
        flat = copy.copy(self)
        flat.rows, flat.classes = math.prod(self._shape), None
        return flat

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        if self.scattered:
            if self._array is None:
                self._array = self._mapped()
            rows = self._gathered(self._array, start, stop, buffer)
            rows = rows.reshape(self.shape(stop - start))
            size = os.fstat(self._fd).st_size
            if size < self._place(self.rows):  # what is cut off reads as zeros
                raise ends_early(self.name, size, self._place(self.rows))
        else:
            rows = self._rows(start, stop, self._stored, buffer)
        return self._native(rows)

    def _native(self, rows: np.ndarray) -> np.ndarray:
        """Rows in the machine's byte order, in their place."""
        return rows if self._stored == self.dtype else rows.byteswap(inplace=True).view(self.dtype)

    def _mapped(self) -> np.ndarray:
        """An array whose rows do not lie together, where it is mapped, with the class axis last."""
        shape, dtype = self._shape, self._stored
        count = math.prod(shape)
        try:
            mapping = Mapping(self._fd, self._offset + count * dtype.itemsize)
        except OSError:
            raise InputError(
                f"{self.name}: is on a filesystem that maps no files, expected it in C order"
            ) from None
        numbers = np.frombuffer(mapping, dtype, count, self._offset)
        # Every number as a row keeps the order of the axes.
        axis = -1 if self.classes is None else self._axis
        return np.moveaxis(numbers.reshape(shape, order="F" if self._by_column else "C"), axis, -1)

    def _gathered(self, array: np.ndarray, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        """Rows of such an array, counted in C order of its other axes; copied class by class."""
        whole = array[..., None] if self.classes is None else array
        found = buffer.array((whole.shape[-1], stop - start), array.dtype)
        if whole.ndim == 2:
            found[...] = whole[start:stop].T
        elif stop > start:
            places = np.unravel_index(np.arange(start, stop), whole.shape[:-1])
            for number, column in enumerate(found):
                column[...] = whole[(*places, number)]
        return found.T

    def close(self) -> None:
        self._array = None
        super().close()
