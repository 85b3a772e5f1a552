"""Compressed record batches that are too large for memory, inflated into a temporary file."""

from __future__ import annotations

import struct
from typing import Any

from fastent.io.arrow_messages import Batch
from fastent.io.errors import InputError
from fastent.io.mapping import Mapping
from fastent.io.table import holds, is_list, plain
from fastent.io.temporary import Temporary

STEP = 1 << 20
ALIGNED = 64


def buffer_count(kind: Any) -> int | None:
    """How many buffers a column takes in a batch; None where that is not fixed by its type."""
    import pyarrow
    import pyarrow.types as types

    kind = getattr(kind, "storage_type", kind)
    if types.is_null(kind):
        return 0
    if types.is_union(kind) or types.is_run_end_encoded(kind) or types.is_dictionary(kind):
        return 2 if types.is_dictionary(kind) else None
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return None
    own = len(pyarrow.nulls(0, kind).buffers())
    for k in range(kind.num_fields):
        child = getattr(kind.field(k).type, "storage_type", kind.field(k).type)
        inner = buffer_count(child)
        if inner is None:
            return None
        own += inner - len(pyarrow.nulls(0, child).buffers())
    return own


def bulky(kind: Any) -> bool:
    """Whether a column is what may be too large: numbers, or a list of them."""
    kind = plain(kind)
    inner = kind.value_type if is_list(kind) else kind
    return holds(inner) in ("real", "whole") and not hasattr(kind, "index_type")


def inflated(schema: Any, batch: Batch, columns: list[str], name: str) -> Any:
    """Some columns of a batch, their buffers in a temporary file that is mapped."""
    import pyarrow

    places, at = {}, 0
    for field in schema:
        count = buffer_count(field.type)
        if count is None:
            raise InputError(
                f"{name}: a compressed record batch too large for memory beside columns of "
                f"{field.type} (write smaller batches, or without compression)"
            )
        places[field.name] = batch.buffers[at : at + count]
        at += count
    target = Temporary()
    try:
        found = [[_inflate(batch, place, target, name) for place in places[c]] for c in columns]
        size = max((end for buffers in found for _, end in buffers), default=0)
        if not size:
            return pyarrow.record_batch([], schema=pyarrow.schema([]))
        whole = pyarrow.py_buffer(Mapping(target.fd, size))
    finally:
        target.close()
    arrays = [
        _array(
            plain(schema.field(column).type),
            batch.rows,
            [whole.slice(start, end - start) if end > start else None for start, end in buffers],
        )
        for column, buffers in zip(columns, found, strict=True)
    ]
    result = pyarrow.record_batch(arrays, names=columns)
    result.validate()
    return result


def _inflate(batch: Batch, place: tuple[int, int], target: Temporary, name: str) -> tuple[int, int]:
    """Where a buffer lies in the temporary file; it begins with its length, -1 as it was."""
    import pyarrow

    offset, length = place
    start = target.size + -target.size % ALIGNED
    if length < 8:
        return start, start
    given = batch.body.slice(offset, length)
    (wanted,) = struct.unpack("<q", given.slice(0, 8).to_pybytes())
    stream: Any = pyarrow.BufferReader(given.slice(8))
    if wanted == -1:
        wanted = length - 8
    elif wanted > 0:
        stream = pyarrow.CompressedInputStream(stream, batch.codec)
    at = start
    while at < start + wanted:
        piece = stream.read(min(STEP, start + wanted - at))
        if not piece:
            raise InputError(f"{name}: truncated or corrupted: a buffer ends early")
        target.put(at, memoryview(piece))
        at += len(piece)
    return start, max(start, start + wanted)


def _array(kind: Any, rows: int, buffers: list[Any]) -> Any:
    import pyarrow
    import pyarrow.types as types

    if not is_list(kind):
        return pyarrow.Array.from_buffers(kind, rows, buffers)
    value = plain(kind.value_type)
    own = kind.num_buffers
    inner = buffers[own:]
    if types.is_fixed_size_list(kind):
        count = rows * kind.list_size
    else:
        width = value.bit_width
        count = len(inner[1]) * 8 // width if inner[1] is not None else 0
    child = pyarrow.Array.from_buffers(value, count, inner)
    return pyarrow.Array.from_buffers(kind, rows, buffers[:own], children=[child])
