"""Rows on disk: what every reader offers, and the one for plain bytes at a known offset."""

from __future__ import annotations

import math
import os
from types import TracebackType

import numpy as np

from fastent.io.errors import InputError

READ_LIMIT = 1 << 30  # one preadv call moves at most 2 GB on Linux


class Source:
    """Rows of one part of one file, their number, width and dtype known before any is read.

    Attributes
    ----------
    name : str
        What messages call it.
    rows : int
        Number of rows: all leading axes together.
    classes : int or None
        Numbers per row; None for one scalar per row.
    dtype : numpy.dtype
        Dtype of what ``read`` returns.
    sequential : bool
        Whether rows must be asked for in rising order, by one thread at a time.
    scattered : bool
        Whether a row lies in as many places as it has numbers, so that many are better read at
        once.
    """

    sequential = False
    scattered = False

    def __init__(
        self, path: str, name: str, rows: int, classes: int | None, dtype: np.dtype
    ) -> None:
        self.path = path
        self.name = name
        self.rows = rows
        self.classes = classes
        self.dtype = np.dtype(dtype)

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * (1 if self.classes is None else self.classes)

    def shape(self, rows: int) -> tuple[int, ...]:
        return (rows,) if self.classes is None else (rows, self.classes)

    def open(self) -> None:
        """Make ready to read; called by one thread at a time."""

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        """Rows ``start`` to ``stop``; valid until the buffer is used again."""
        raise NotImplementedError

    def stamp(self) -> tuple[int, int]:
        """Size and time of change of the file, by which a checkpoint knows its inputs."""
        status = os.stat(self.path)
        return status.st_size, status.st_mtime_ns

    def flattened(self) -> Source:
        """The same numbers as one scalar per row (binary tasks: every element is a row)."""
        raise InputError(
            f"{self.name}: rows of {self.classes}, expected one number per row for a binary task"
        )

    def close(self) -> None:
        """Give back what is open; a later ``read`` opens it again."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Buffer:
    """Memory that is reused from block to block, so that reading allocates nothing."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, dtype=np.uint8)

    def take(self, count: int) -> np.ndarray:
        """At least 64-byte aligned view of ``count`` bytes."""
        if self._bytes.size < count:
            raw = np.empty(count + 64, dtype=np.uint8)
            shift = -raw.ctypes.data % 64
            self._bytes = raw[shift : shift + count]
        return self._bytes[:count]

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        count = math.prod(shape) * dtype.itemsize
        return self.take(count).view(dtype).reshape(shape)


def as_bytes(array: np.ndarray) -> memoryview:
    """The memory of a contiguous array; memoryview itself refuses dtypes such as bfloat16."""
    return array.reshape(-1).view(np.uint8).data


def open_for_reading(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def read_exactly(fd: int, view: memoryview, offset: int, name: str) -> None:
    """Fill ``view`` from the file at ``offset``; a file that ends before is an error.

    Reading instead of mapping: a mapped file that shrinks kills the process.
    """
    done = 0
    while done < len(view):
        try:
            got = os.preadv(fd, [view[done : done + READ_LIMIT]], offset + done)
        except OSError as error:
            raise InputError(f"{name}: reading at byte {offset + done}: {error.strerror}") from None
        if got == 0:
            raise InputError(
                f"{name}: file ends at byte {offset + done}, expected {offset + len(view)} or more "
                "(truncated, or shrinking while it is read)"
            )
        done += got


class RawRows(Source):
    """Rows stored as plain numbers from a byte offset on (.npy, stored .npz, .safetensors)."""

    def __init__(
        self,
        path: str,
        name: str,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        by_column: bool = False,
    ) -> None:
        classes = shape[-1] if len(shape) > 1 else None
        rows = math.prod(shape[:-1]) if len(shape) > 1 else shape[0]
        super().__init__(path, name, rows, classes, dtype.newbyteorder("="))
        self._stored = dtype
        self._offset = offset
        self._by_column = self.scattered = by_column and classes is not None
        if self._by_column and len(shape) > 2:
            raise InputError(f"{name}: Fortran order with {len(shape)} axes, expected at most 2")
        self._fd = -1
        self._check_length(os.stat(path).st_size)

    def _check_length(self, size: int) -> None:
        needed = self._offset + self.rows * self.row_bytes
        if size < needed:
            raise InputError(f"{self.name}: truncated file, expected {needed} bytes, got {size}")

    def open(self) -> None:
        if self._fd < 0:
            self._fd = open_for_reading(self.path)
            self._check_length(os.fstat(self._fd).st_size)

    def flattened(self) -> Source:
        if self._by_column and self.classes != 1:
            raise InputError(f"{self.name}: Fortran order, expected C order for a binary task")
        count = self.rows * (1 if self.classes is None else self.classes)
        return RawRows(self.path, self.name, self._offset, (count,), self._stored)

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        shape = self.shape(stop - start)
        if self._by_column:
            rows = self._read_columns(start, stop, buffer)
        else:
            rows = buffer.array(shape, self._stored)
            read_exactly(self._fd, as_bytes(rows), self._offset + start * self.row_bytes, self.name)
        if self._stored != self.dtype:
            rows = rows.byteswap(inplace=True).view(self.dtype)
        return rows

    def _read_columns(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        """Fortran order: the rows are gathered from one piece of every column."""
        assert self.classes is not None
        columns = buffer.array((self.classes, stop - start), self._stored)
        item = self._stored.itemsize
        for number in range(self.classes if stop > start else 0):
            where = self._offset + (number * self.rows + start) * item
            read_exactly(self._fd, as_bytes(columns[number]), where, self.name)
        return columns.T

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
