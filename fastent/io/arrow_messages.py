"""Record batches by their heads: how many rows, which bytes are compressed, and these inflated.

The library decodes a compressed batch whole: 65,536 rows of 1000 float32 took it 263 MB (lz4,
pyarrow 26). So those that are too large are inflated into a temporary file, buffer by buffer, and
read where that is mapped. Heads are read by File.fbs and Message.fbs of the format and the rules of
flatbuffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from fastent.io.mapping import Mapping
from fastent.io.temporary import Temporary

CODECS = ("lz4", "zstd")  # CompressionType
# Bytes that one byte can stand for: a length byte of lz4; four of zstd repeat one for 128 KiB
INFLATION = {"lz4": 255, "zstd": 32768}
AS_IT_IS = -1  # in place of the length of a buffer that is not compressed
STEP = 1 << 20
ALIGNED = 4096  # whole pages are written


@dataclass(frozen=True)
class Batch:
    """One record batch."""

    rows: int
    codec: str | None
    buffers: list[tuple[int, int]]  # offset in the body and length of each, column by column
    body: Any
    head: bytes
    length_at: int  # in the head, the length of the body
    buffers_at: int  # and the first of the buffers

    def told(self, offset: int, length: int) -> int:
        """Bytes of a buffer as it says itself, if what it holds can be so much."""
        if not length or self.codec is None:
            return length
        if offset < 0 or length < 8 or offset + length > self.body.size:
            raise EOFError(f"a buffer of {length} bytes at {offset} of {self.body.size}")
        (told,) = struct.unpack("<q", self.body.slice(offset, 8))
        if not AS_IT_IS <= told <= INFLATION[self.codec] * (length - 8):
            raise EOFError(f"{length - 8} bytes of {self.codec} cannot hold {told}")
        return length - 8 if told == AS_IT_IS else int(told)

    def inflated_bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(self.told(*place) for place in self.buffers)

    def inflated(self, schema: Any) -> Any:
        """The library's batch, its buffers in a temporary file that is mapped.

        They lie there as in a message of buffers that are not compressed. Columns of a dictionary
        are their numbers in it.
        """
        import pyarrow
        import pyarrow.ipc as ipc

        kinds = [(f.name, getattr(f.type, "index_type", f.type)) for f in schema]
        head = bytearray(self.head)
        begin = 8 + len(head)
        end = begin
        with closing(Temporary()) as target:
            for number, place in enumerate(self.buffers):
                start = end + -end % ALIGNED + ALIGNED - 8
                end = self._inflate(place, target, start) if place[1] else start
                where = self.buffers_at + 16 * number
                struct.pack_into("<qq", head, where, start - begin, end - start)
            struct.pack_into("<q", head, self.length_at, end - begin)
            target.put(0, memoryview(struct.pack("<ii", -1, len(head)) + head))
            whole = pyarrow.py_buffer(Mapping(target.fd, target.size))
        return ipc.read_record_batch(ipc.read_message(whole), pyarrow.schema(kinds))

    def _inflate(self, place: tuple[int, int], target: Temporary, start: int) -> int:
        """Write a buffer, and where it ends."""
        import pyarrow

        offset, length = place
        given = self.body.slice(offset, length)
        stream: Any = pyarrow.BufferReader(given.slice(8))
        as_it_is = struct.pack("<q", AS_IT_IS)
        target.put(start, memoryview(as_it_is))
        at = start + 8
        end = at + self.told(offset, length)
        if given.slice(0, 8).to_pybytes() != as_it_is and at < end:
            stream = pyarrow.CompressedInputStream(stream, self.codec)
        while at < end:
            piece = stream.read(min(STEP, end - at))
            if not piece:
                raise EOFError("a buffer ends early")
            target.put(at, memoryview(piece))
            at += len(piece)
        return end


def batches_of(whole: Any, is_file: bool) -> Iterator[Batch]:
    """The record batches of a mapped file; their bodies are not touched."""
    import pyarrow.ipc as ipc

    if not is_file:
        for number, message in enumerate(ipc.MessageReader.open_stream(whole)):
            if message.type != ("dictionary" if number else "schema"):
                yield _batch(message)
        return
    (length,) = struct.unpack("<i", whole.slice(whole.size - 10, 4).to_pybytes())
    footer = whole.slice(whole.size - 10 - length, length).to_pybytes()
    place = _field(footer, _table(footer, 0), 3)  # recordBatches of Footer
    for offset, head, body in _structs(footer, place, "<qi4xq") if place else ():
        yield _batch(ipc.read_message(whole.slice(offset, head + body)))


def _batch(message: Any) -> Batch:
    """RecordBatch, the header of Message: length, nodes, buffers, compression."""
    if message.type != "record batch":  # or its rows would be left out without a word
        raise EOFError(f"a message of type {message.type}, expected a record batch")
    data = message.metadata.to_pybytes()
    root = _table(data, 0)
    batch = _table(data, _field(data, root, 2))
    length, nodes, buffers, compression = (_field(data, batch, number) for number in range(4))
    if not (nodes and buffers):  # as the library, or rows of a damaged one would be left out
        raise EOFError("a record batch without its columns")
    rows = struct.unpack_from("<q", data, length)[0] if length else 0
    if rows < 0:
        raise EOFError(f"a batch of {rows} rows")
    codec = None
    if compression:
        place = _field(data, _table(data, compression), 0)
        codec = CODECS[data[place] if place else 0]
    places = [(a, b) for a, b in _structs(data, buffers, "<qq")]
    at = _table(data, buffers) + 4
    return Batch(rows, codec, places, message.body, data, _field(data, root, 3), at)


def _table(data: bytes, place: int) -> int:
    return int(place + struct.unpack_from("<I", data, place)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a table lies; 0 when it is not set."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + place)[0] if place < size else 0
    return table + offset if offset else 0


def _structs(data: bytes, place: int, layout: str) -> Iterator[tuple[int, ...]]:
    """The items of a vector of structs."""
    vector = _table(data, place)
    (count,) = struct.unpack_from("<I", data, vector)
    return struct.iter_unpack(
        layout, data[vector + 4 : vector + 4 + count * struct.calcsize(layout)]
    )
