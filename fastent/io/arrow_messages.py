"""What the heads of record batches say: how many rows, and which bytes are compressed.

The library decodes a compressed batch whole: 65,536 rows of 1000 float32 took it 263 MB (lz4,
pyarrow 26). So those that are too large are inflated into a temporary file, buffer by buffer, and
read where that is mapped. Only heads are read here: File.fbs and Message.fbs of the format, by the
rules of flatbuffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CODECS = ("lz4", "zstd")  # CompressionType
# Bytes that one byte can stand for: a length byte of lz4; four of zstd repeat one for 128 KiB
INFLATION = {"lz4": 255, "zstd": 32768}


@dataclass(frozen=True)
class Batch:
    """One record batch.

    Attributes
    ----------
    rows : int
    codec : str or None
    buffers : list of (int, int)
        Offset in the body and length of each buffer, in the order of the columns.
    body : pyarrow.Buffer
    """

    rows: int
    codec: str | None
    buffers: list[tuple[int, int]]
    body: Any

    def inflated_bytes(self) -> int:
        """Bytes of all buffers as they say themselves, if what they hold can be so much."""
        if self.codec is None:
            return sum(length for _, length in self.buffers)
        total, body = 0, memoryview(self.body)
        for offset, length in self.buffers:
            if not length:
                continue
            if offset < 0 or length < 8 or offset + length > len(body):
                raise EOFError(f"a buffer of {length} bytes at {offset} of {len(body)}")
            (told,) = struct.unpack_from("<q", body, offset)
            if not -1 <= told <= INFLATION[self.codec] * (length - 8):
                raise EOFError(f"{length - 8} bytes of {self.codec} cannot hold {told}")
            total += told if told >= 0 else length - 8
        return total


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
    batch = _table(data, _field(data, _table(data, 0), 2))
    length, nodes, buffers, compression = (_field(data, batch, number) for number in range(4))
    if not (nodes and buffers):  # as the library, or rows of a damaged one would be left out
        raise EOFError("a record batch without its columns")
    codec = None
    if compression:
        place = _field(data, _table(data, compression), 0)
        codec = CODECS[data[place] if place else 0]
    return Batch(
        struct.unpack_from("<q", data, length)[0] if length else 0,
        codec,
        [(a, b) for a, b in _structs(data, buffers, "<qq")],
        message.body,
    )


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
