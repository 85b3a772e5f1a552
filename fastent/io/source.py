"""Rows on disk: what every reader offers, and the one for plain bytes at a known offset."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastent.io.errors import InputError, telling
from fastent.io.mapping import Mapping

READ_LIMIT = 1 << 30  # one preadv call moves at most 2 GB on Linux


class Source:
    """Rows of one part of one file, their number, width and dtype known before any is read."""

    # What the classes are called, where the columns of a table are called after them.
    class_names: tuple[str, ...] | None = None
    # Dtype of the whole numbers in rows of objects, beside which None stands for a null.
    stands_for: np.dtype | None = None
    # Rows must be asked for in rising order, by one thread at a time.
    sequential = False
    # A row lies in as many places as it has numbers, so that many are better read at once.
    scattered = False
    # Rows may be given where the file is mapped into memory, if it can be. Numbers there may change
    # between one look and the next: not for labels, which are checked first and used later.
    mapped = False
    layers = 1  # of arrays of three axes, how long the middle one is

    def __init__(
        self, path: str, name: str, rows: int, classes: int | None, dtype: np.dtype
    ) -> None:
        self.path = path
        self.name = name  # what messages call it
        self.rows = rows  # all leading axes together
        self.classes = classes  # numbers per row; None for one scalar per row
        self.dtype = np.dtype(dtype)  # of what `read` returns

    @property
    def most_values(self) -> int:
        """How many different numbers there can be, of one a row."""
        return self.rows

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * (1 if self.classes is None else self.classes)

    @property
    def dtype_name(self) -> str:
        """What the report calls the dtype."""
        return self.dtype.name

    def shape(self, rows: int) -> tuple[int, ...]:
        return (rows,) if self.classes is None else (rows, self.classes)

    def open(self) -> None:
        """Make ready to read; called by one thread at a time."""

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        """Rows ``start`` to ``stop``; valid until the buffer is used again."""
        raise NotImplementedError

    @property
    def in_place(self) -> bool:
        """Whether ``read`` gives rows without a buffer; known once it is open."""
        return False

    def settle(self, start: int, stop: int) -> None:
        """Raise if rows that ``read`` gave have gone from the file while they were used."""

    def release(self, start: int, stop: int) -> None:
        """Rows that will not be used again."""

    def stamp(self) -> tuple[int, int]:
        """Size and time of change of the file, by which a checkpoint knows its inputs."""
        status = os.stat(self.path)
        return status.st_size, status.st_mtime_ns

    def flattened(self) -> Source:
        """The same numbers as one scalar per row (binary tasks: every element is a row)."""
        if self.classes != 1:
            raise InputError(
                f"{self.name}: rows of {self.classes} numbers, expected one number per row"
            )
        flat = copy.copy(self)
        flat.classes = None
        return flat

    def close(self) -> None:
        """Give back what is open; a later ``read`` opens it again."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *error: object) -> None:
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
        if dtype.kind == "O":
            return np.empty(shape, dtype)
        count = math.prod(shape) * dtype.itemsize
        return self.take(count).view(dtype).reshape(shape)


def as_bytes(array: np.ndarray) -> memoryview:
    """The memory of a contiguous array; memoryview itself refuses dtypes such as bfloat16."""
    return array.reshape(-1).view(np.uint8).data


def open_for_reading(path: str) -> int:
    with telling(path, OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


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
            raise ends_early(name, offset + done, offset + len(view))
        done += got


def ends_early(name: str, size: int, needed: int) -> InputError:
    return InputError(
        f"{name}: file ends at byte {size}, expected {needed} or more "
        "(truncated, or shrinking while it is read)"
    )


def check_length(name: str, size: int, needed: int) -> None:
    if size < needed:
        raise InputError(f"{name}: truncated file, expected {needed} bytes, got {size}")


class Forward(Source):
    """Rows that are made in order, one by one, of what an iterator gives."""

    sequential = True
    _given: Iterator[Any] | None = None
    _at = 0  # the row that comes next

    def _from_the_first(self) -> Iterator[Any]:
        raise NotImplementedError

    def _items(self, start: int, stop: int) -> Iterator[Any]:
        """What is given for rows ``start`` to ``stop``; None where there is no more."""
        if self._given is None or start < self._at:
            self._given, self._at = self._from_the_first(), 0
        while self._at < stop:
            one = next(self._given, None)
            if self._at >= start:
                yield one
            self._at += 1

    def close(self) -> None:
        self._given, self._at = None, 0


class FileSource(Source):
    """Rows made of numbers of a file."""

    _fd = -1
    _size = 0  # of the file when it was opened

    def open(self) -> None:
        if self._fd < 0:
            self._fd = open_for_reading(self.path)
            self._size = os.fstat(self._fd).st_size

    def _fill(self, view: memoryview, offset: int) -> None:
        read_exactly(self._fd, view, offset, self.name)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FileRows(FileSource):
    """Rows that lie in a file as numbers, one after the other in each of its parts.

    Where it is mapped they are given in their place: that saves the copy, a third of the time of
    scoring a file in the page cache.
    """

    _bare = True  # they lie there as they are to be given
    _mapping: Mapping | None = None

    def _place(self, row: int) -> int:
        """Byte offset of a row."""
        raise NotImplementedError

    def _parts(self, start: int, stop: int) -> Iterable[tuple[int, int, int]]:
        """Byte offset, length in bytes and first row of what lies together."""
        return ((self._place(start), (stop - start) * self.row_bytes, start),)

    def _end(self) -> int:
        """How many bytes the file must have."""
        return self._place(self.rows)

    def open(self) -> None:
        if self._fd >= 0:
            return
        super().open()
        check_length(self.name, self._size, self._end())
        if self.mapped and self._bare:
            with contextlib.suppress(OSError):  # a filesystem without mappings: it is read
                self._mapping = Mapping(self._fd, self._size)

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        return self._rows(start, stop, self.dtype, buffer)

    def _rows(self, start: int, stop: int, dtype: np.dtype, buffer: Buffer) -> np.ndarray:
        shape = self.shape(stop - start)
        parts = list(self._parts(start, stop))
        if self._mapping is not None and len(parts) == 1:
            offset, length, _ = parts[0]
            if self._mapping.load(self._fd, offset, length):
                count = math.prod(shape)
                return np.frombuffer(self._mapping, dtype, count, offset).reshape(shape)
        rows = buffer.array(shape, dtype)
        view = as_bytes(rows)
        for offset, length, first in parts:
            at = (first - start) * self.row_bytes
            self._fill(view[at : at + length], offset)
        return rows

    @property
    def in_place(self) -> bool:
        return self._mapping is not None

    def settle(self, start: int, stop: int) -> None:
        if self._mapping is None:
            return
        size = os.fstat(self._fd).st_size
        for offset, length, _ in self._parts(start, stop):
            needed = self._size if self._mapping.broken else offset + length
            if size < needed:
                raise ends_early(self.name, size, needed)
        if self._mapping.broken:
            raise InputError(f"{self.name}: reading it failed (a bad disk, or cut off meanwhile)")

    def release(self, start: int, stop: int) -> None:
        if self._mapping is not None:
            for offset, length, _ in self._parts(start, stop):
                self._mapping.drop(offset, length)

    def close(self) -> None:
        self._mapping = None  # it lasts as long as arrays of it do
        super().close()
