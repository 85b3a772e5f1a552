"""Compressed .npz members whose rows do not lie together, through a temporary file.

A member can only be read forward, and no row is whole before its last column is reached.
"""

from __future__ import annotations

import math
import zipfile
import zlib

import numpy as np

from fastent.io.errors import InputError, first_line
from fastent.io.source import Buffer, Source
from fastent.io.strided import rows_of, strided
from fastent.io.temporary import Temporary

STEP = 1 << 20


class CompressedColumns(Source):
    """Rows of such a member."""

    sequential = True
    scattered = True

    def __init__(
        self,
        path: str,
        name: str,
        member: str,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        by_column: bool,
        flat: bool = False,
        axis: int = -1,
    ) -> None:
        axis %= len(shape)
        leading = shape if flat else (*shape[:axis], *shape[axis + 1 :])
        classes = None if flat else shape[axis]
        super().__init__(path, name, math.prod(leading), classes, dtype.newbyteorder("="))
        self._by_column = by_column
        self._axis = axis
        self._array: np.ndarray | None = None
        self._shape = shape
        self._stored = dtype
        self._member = member
        self._offset = offset
        self._inflated: Temporary | None = None

    def flattened(self) -> Source:
        return CompressedColumns(
            self.path, self.name, self._member, self._offset, self._shape, self._stored,
            self._by_column, True, self._axis,
        )  # fmt: skip

    @property
    def axes(self) -> int:
        return len(self._shape)

    def open(self) -> None:
        if self._inflated is None:
            self._inflated = Temporary()
            self._inflate(self._inflated)

    def _inflate(self, target: Temporary) -> None:
        done, needed = 0, self.rows * self.row_bytes
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as stream:
                stream.read(self._offset)
                while piece := stream.read(STEP):
                    target.put(done, memoryview(piece))
                    done += len(piece)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise InputError(f"{self.name}: corrupted or truncated: {first_line(error)}") from None
        if done < needed:
            raise InputError(f"{self.name}: truncated, expected {needed} bytes, got {done}")

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        assert self._inflated is not None
        if self._array is None:
            parts = (0, self._shape, self._stored, self._by_column)
            axis = -1 if self.classes is None else self._axis
            self._array = strided(self._inflated.fd, *parts, axis)
        flat = self.classes is None
        rows = rows_of(self._array, start, stop, buffer, flat).reshape(self.shape(stop - start))
        return rows if self._stored == self.dtype else rows.byteswap(inplace=True).view(self.dtype)

    def close(self) -> None:
        self._array = None
        if self._inflated is not None:
            self._inflated.close()
            self._inflated = None
