"""Where the numbers of an Arrow file lie: the heads of its record batches.

The library hands out record batches whole, and a batch of 65,536 rows of 50,000 classes does not
fit. The heads say where each buffer begins, so rows can be read, or decompressed, piece by piece.
Only the heads are read here: Message.fbs and Schema.fbs of the format, by the rules of flatbuffers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

CODECS = ("lz4", "zstd")  # CompressionType


@dataclass(frozen=True)
class Batch:
    """One record batch: its rows, and place, length and null counts of what it holds.

    Attributes
    ----------
    rows : int
    codec : str or None
        How its buffers are compressed.
    nulls : list of int
        Null count of each array, children after their parents.
    buffers : list of (int, int)
        Byte offset in the file and length of each buffer.
    """

    rows: int
    codec: str | None
    nulls: list[int]
    buffers: list[tuple[int, int]]


def read_batches(pyarrow: Any, mapped: Any, is_file: bool) -> list[Batch]:
    """The record batches of a mapped file; their bodies are not touched."""
    mapped.seek(8 if is_file else 0)
    messages = pyarrow.ipc.MessageReader.open_stream(mapped)
    found: list[Batch] = []
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return found
        if message.type == "record batch":
            found.append(_batch(message.metadata.to_pybytes(), mapped.tell()))


def _batch(data: bytes, end: int) -> Batch:
    """Message has header as field 2, bodyLength as 3; RecordBatch length, nodes, buffers, codec."""
    root = struct.unpack_from("<I", data, 0)[0]
    (body,) = struct.unpack_from("<q", data, _field(data, root, 3))
    batch = _table(data, _field(data, root, 2))
    length = _field(data, batch, 0)
    compression = _field(data, batch, 3)
    codec = None
    if compression:
        place = _field(data, _table(data, compression), 0)
        codec = CODECS[data[place] if place else 0]
    return Batch(
        struct.unpack_from("<q", data, length)[0] if length else 0,
        codec,
        [nulls for _, nulls in _pairs(data, _field(data, batch, 1))],
        [(end - body + offset, size) for offset, size in _pairs(data, _field(data, batch, 2))],
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


def _pairs(data: bytes, place: int) -> list[tuple[int, int]]:
    """A vector of structs of two 64-bit integers."""
    if not place:
        return []
    vector = _table(data, place)
    (count,) = struct.unpack_from("<I", data, vector)
    return [struct.unpack_from("<qq", data, vector + 4 + 16 * k) for k in range(count)]


def places_of(schema: Any, name: str) -> tuple[int, int] | None:
    """Numbers of the first array and the first buffer of a column; None if they cannot be told."""
    arrays = buffers = 0
    for field in schema:
        if field.name == name:
            return arrays, buffers
        counted = _counts(field.type)
        if counted is None:
            return None
        arrays += counted[0]
        buffers += counted[1]
    return None


def _counts(kind: Any) -> tuple[int, int] | None:
    """Arrays and buffers that a column of a type takes."""
    import pyarrow.types as types

    if types.is_null(kind):
        return 1, 0
    if types.is_dictionary(kind) or types.is_primitive(kind) or types.is_fixed_size_binary(kind):
        return 1, 2
    if types.is_decimal(kind):
        return 1, 2
    if any(
        is_kind(kind)
        for is_kind in (types.is_string, types.is_large_string, types.is_binary,
                        types.is_large_binary)
    ):  # fmt: skip
        return 1, 3
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _counts(kind.value_type)
        own = 1 if types.is_fixed_size_list(kind) else 2
        return None if inner is None else (1 + inner[0], own + inner[1])
    if types.is_struct(kind):
        arrays = buffers = 1
        for k in range(kind.num_fields):
            counted = _counts(kind.field(k).type)
            if counted is None:
                return None
            arrays += counted[0]
            buffers += counted[1]
        return arrays, buffers
    return None
