"""Arrow record batches: their buffers as streams, compressed or not, and rows that lie in them."""

from __future__ import annotations

import bisect
import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.arrow_messages import Batch
from fastent.io.errors import InputError, first_line
from fastent.io.source import FileBytes, Source, read_exactly

STEP = 1 << 20


class Region(io.RawIOBase):
    """A stretch of a file as a stream."""

    def __init__(self, fd: int, offset: int, length: int, name: str) -> None:
        self._fd = fd
        self._offset = offset
        self._left = length
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: self._left]
        read_exactly(self._fd, view, self._offset, self._name)
        self._offset += len(view)
        self._left -= len(view)
        return len(view)


class BufferStream:
    """The numbers of one buffer of a batch from its beginning, inflated where compressed.

    A compressed buffer begins with 8 bytes of length, -1 where it stayed as it was.
    """

    def __init__(self, fd: int, codec: str | None, place: tuple[int, int], name: str) -> None:
        self._name = name
        offset, length = place
        if codec is not None:
            head = bytearray(8)
            read_exactly(fd, memoryview(head), offset, name)
            offset, length = offset + 8, length - 8
            codec = None if struct.unpack("<q", head)[0] == -1 else codec
        self._stream: Any = Region(fd, offset, length, name)
        if codec is not None:
            import pyarrow

            self._stream = pyarrow.CompressedInputStream(
                pyarrow.PythonFile(self._stream, "r"), codec
            )

    def pieces(self, count: int) -> Iterator[bytes]:
        """The next ``count`` bytes; InputError where the buffer ends before."""
        while count:
            try:
                piece: bytes = self._stream.read(min(count, STEP))
            except (OSError, ValueError) as error:
                raise self._corrupt(first_line(error)) from None
            if not piece:
                raise self._corrupt("a buffer ends early")
            yield piece
            count -= len(piece)

    def _corrupt(self, why: str) -> InputError:
        return InputError(f"{self._name}: truncated or corrupted: {why}")

    def fill(self, view: memoryview) -> None:
        done = 0
        for piece in self.pieces(len(view)):
            view[done : done + len(piece)] = piece
            done += len(piece)

    def skip(self, count: int) -> None:
        for _ in self.pieces(count):
            pass


def first_null(
    fd: int, head: Batch, array: int, buffer: int, name: str, length: int | None = None
) -> int | None:
    """Place of the first null in an array of a batch, by its bitmap."""
    if not head.nulls[array]:
        return None
    bits = BufferStream(fd, head.codec, head.buffers[buffer], name)
    length = head.rows if length is None else length
    place = 0
    for piece in bits.pieces((length + 7) // 8):
        present = np.frombuffer(piece, np.uint8)
        some = np.flatnonzero(present != 255)
        if some.size:
            byte = int(some[0])
            bit = int(np.argmin(np.unpackbits(present[byte : byte + 1], bitorder="little")))
            return min(place + 8 * byte + bit, length - 1)
        place += 8 * len(piece)
    return None


class BatchRows(Source):
    """Rows of a file that lie in its record batches."""

    def __init__(
        self, path: str, name: str, rows: list[int], classes: int | None, dtype: np.dtype
    ) -> None:
        """``rows`` of each batch."""
        super().__init__(path, name, sum(rows), classes, dtype)
        self._starts = np.concatenate([[0], np.cumsum(rows)]).astype(int).tolist()
        self._bytes = FileBytes(name)

    def parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The batches that hold rows: number, and the first and the end of the rows."""
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            end = min(stop, self._starts[number + 1])
            if end > start:
                yield number, start, end
            start = end
            number += 1

    def close(self) -> None:
        self._bytes.close()
