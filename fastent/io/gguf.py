"""GGUF files of llama.cpp's program ``llama-results``: the tokens of a text, and logits after each.

Only the head is read here, every length in it checked against the file. The tensor ``logits`` is
declared as (n_vocab, n_tokens), but its bytes are the rows of tokens one after another.
"""

from __future__ import annotations

import math
import os
import struct
from typing import IO, Any

import numpy as np

from fastent.io.errors import InputError
from fastent.io.raw import RawRows, axis_of
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Buffer, FileSource, Source, as_bytes, check_length

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = "general.alignment"
# Of numbers among the metadata, by their number there: how many bytes; 8 is a text, 9 an array.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
TEXT, ARRAY, UINT32 = 8, 9, 4
MOST = 1 << 20  # entries of a head; the vocabulary of a model is one of them
MOST_TEXT = 1 << 16  # bytes of a name
FLOAT32, INT32 = 0, 26  # types of tensors
LAST = -100  # in place of the token after the last one, which nobody knows


class _Head:
    """What comes next in the head of a file."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self.stream = stream
        self._path = path
        self._size = os.fstat(stream.fileno()).st_size

    def take(self, count: int) -> bytes:
        found = self.stream.read(count)
        if len(found) < count:
            raise InputError(f"{self._path}: its head ends at byte {self._size}: cut off")
        return found

    def number(self, form: str) -> int:
        (found,) = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))
        return int(found)

    def count(self, what: str, most: int) -> int:
        found = self.number("Q")
        if found > most:
            raise InputError(f"{self._path}: {found} {what} in its head, expected at most {most}")
        return found

    def text(self) -> str:
        return self.take(self.count("bytes of a name", MOST_TEXT)).decode(errors="replace")

    def skip(self, count: int) -> None:
        self.stream.seek(count, os.SEEK_CUR)
        if self.stream.tell() > self._size:
            self.take(1)  # refused

    def skip_value(self, kind: int, nested: bool = False) -> None:
        """Go past a value of the metadata."""
        if kind in SIZES:
            self.skip(SIZES[kind])
        elif kind == TEXT:
            self.skip(self.number("Q"))
        elif kind == ARRAY and not nested:
            inner, count = self.number("I"), self.count("items of a list", MOST)
            if inner in SIZES:
                self.skip(SIZES[inner] * count)
            else:
                for _ in range(count):
                    self.skip_value(inner, True)
        else:
            raise InputError(f"{self._path}: metadata of type {kind}, expected one of GGUF's")


def read_tensors(path: str) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Lengths as declared, type, and offset in the file of each tensor."""
    with open(path, "rb") as stream:
        head = _Head(stream, path)
        if (magic := head.take(4)) != MAGIC:
            raise InputError(f"{path}: begins with {magic!r}, expected {MAGIC!r}")
        if (version := head.number("I")) not in VERSIONS:
            raise InputError(f"{path}: version {version} of GGUF, expected 2 or 3, little-endian")
        count, entries = head.count("tensors", MOST), head.count("entries", MOST)
        alignment = 32
        for _ in range(entries):
            name, kind = head.text(), head.number("I")
            if name == ALIGNMENT and kind == UINT32:
                alignment = head.number("I")
            else:
                head.skip_value(kind)
        found = {}
        for _ in range(count):
            name, axes = head.text(), head.number("I")
            if axes > 4:
                raise InputError(f"{path}: tensor {name!r} of {axes} axes, expected at most 4")
            lengths = tuple(head.number("Q") for _ in range(axes))
            found[name] = lengths, head.number("I"), head.number("Q")
        if alignment < 1 or alignment & (alignment - 1):
            raise InputError(f"{path}: alignment {alignment}, expected a power of 2")
        begin = -(-head.stream.tell() // alignment) * alignment
    return {name: (lengths, kind, begin + at) for name, (lengths, kind, at) in found.items()}


def open_gguf(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    """The logits, or the column of the tokens that they are of."""
    path, part = reference.path, reference.part
    tensors = read_tensors(path)
    if not {"tokens", "logits"} <= tensors.keys():
        raise InputError(
            f"{path}: no results (its tensors are not tokens and logits), expected a file of "
            "llama-results; a model has no predictions until it is run"
        )
    expected: Any = (("tokens", INT32, "int32"), ("logits", FLOAT32, "float32"))
    for name, kind, called in expected:
        if tensors[name][1] != kind:
            raise InputError(f"{path}:{name}: type {tensors[name][1]} of GGUF, expected {called}")
    (lengths, _, at), (declared, _, begin) = tensors["tokens"], tensors["logits"]
    rows, numbers = math.prod(lengths), math.prod(declared)
    if len(declared) != 2 or rows not in declared or not numbers:
        raise InputError(
            f"{path}: logits of lengths {declared}, expected {rows}, the number of its tokens, and "
            "the number of classes"
        )
    check_length(path, os.stat(path).st_size, max(at + 4 * rows, begin + 4 * numbers))
    if part is None:
        part = "logits" if role in ("predictions", "targets") else "token"
    if part == "logits":
        name, shape = f"{path}:logits", (rows, numbers // rows)
        axis = axis_of(name, shape, role, how)
        return RawRows(path, name, begin, shape, np.dtype("<f4"), axis=axis)
    if part != "token":
        raise InputError(
            f"{path}: no column {part!r}, expected logits, or token, which comes after each row: "
            f"the last row has {LAST} there (--ignore-index {LAST})"
        )
    return NextTokens(path, at, rows)


class NextTokens(FileSource):
    """For each row of logits the token that came next."""

    def __init__(self, path: str, offset: int, rows: int) -> None:
        super().__init__(path, f"{path}:token", rows, None, np.dtype(np.int64))
        self._offset = offset

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        known = min(stop, self.rows - 1)
        found = np.full(stop - start, LAST, np.int64)
        if known > start:
            tokens = buffer.array((known - start,), np.dtype("<i4"))
            self._fill(as_bytes(tokens), self._offset + 4 * (start + 1))
            found[: known - start] = tokens
        return found
