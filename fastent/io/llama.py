"""Dumps of llama.cpp's perplexity program: tokens, and log-probabilities of the second half of each
chunk.

Layout, little endian: ``_logits_``, n_ctx, n_vocab, n_chunk, the tokens of all chunks as int32,
then for each chunk n_ctx - 1 - n_ctx // 2 rows of codes (a float32 scale and minimum, a uint16 a
class, two bytes of padding where their number is odd). There is no version and no checksum: the
size is what can be checked.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

import numpy as np

from fastent.backends.cython.tiles.operand import coded_rows, decoded
from fastent.io.errors import InputError
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Buffer, FileRows, FileSource, Source, as_bytes

MAGIC = b"_logits_"
HEAD = struct.Struct("<8siii")
COLUMNS = ("token", "chunk", "position")
COMPARED = 1 << 16  # tokens at once


@dataclass(frozen=True)
class Header:
    """What the head of a dump says, and how much of it is there."""

    path: str
    n_ctx: int
    n_vocab: int
    n_chunk: int
    size: int  # bytes of the file

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk: the tokens of its second half but for the first."""
        return self.n_ctx - 1 - self.n_ctx // 2

    @property
    def chunks(self) -> int:
        """Whole ones in the file; fewer than n_chunk where it was cut off."""
        chunk = self.chunk_rows * self.dtype.itemsize
        there = max(0, self.size - self.rows_at) // chunk if chunk else self.n_chunk
        return min(self.n_chunk, there)

    @property
    def rows(self) -> int:
        return self.chunks * self.chunk_rows

    @property
    def dtype(self) -> np.dtype:
        return coded_rows(self.n_vocab)

    @property
    def rows_at(self) -> int:
        """Byte offset of the first row."""
        return HEAD.size + 4 * self.n_chunk * self.n_ctx

    @property
    def expected_size(self) -> int:
        return self.rows_at + self.n_chunk * self.chunk_rows * self.dtype.itemsize

    @property
    def cut(self) -> str | None:
        """What is wrong with the size; None if nothing is."""
        if self.size == self.expected_size:
            return None
        return (
            f"{self.path}: {self.size} bytes, expected {self.expected_size} ({self.n_chunk} chunks "
            f"of n_ctx {self.n_ctx} and n_vocab {self.n_vocab}); {self.chunks} of {self.n_chunk} "
            "chunks are whole"
        )


def is_dump(path: str) -> bool:
    """Whether an ordinary file begins as dumps do."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def read_header(path: str) -> Header:
    """The header of a dump; InputError if it is none, or holds no rows."""
    with open(path, "rb") as stream:
        head = stream.read(HEAD.size)
        size = os.fstat(stream.fileno()).st_size
    if head[: len(MAGIC)] != MAGIC:
        raise InputError(f"{path}: begins with {head[:8]!r}, expected {MAGIC!r} as dumps do")
    if size == 12:  # n_ctx is written before the text is looked at
        raise InputError(f"{path}: 12 bytes and no rows: the text was too short")
    if len(head) < HEAD.size:
        raise InputError(f"{path}: {size} bytes, expected a header of {HEAD.size}")
    _, n_ctx, n_vocab, n_chunk = HEAD.unpack(head)
    if n_ctx < 2 or n_vocab < 1 or n_chunk < 0:
        raise InputError(
            f"{path}: n_ctx {n_ctx}, n_vocab {n_vocab}, n_chunk {n_chunk} in its header, expected "
            "at least 2, 1 and 0"
        )
    return Header(path, n_ctx, n_vocab, n_chunk, size)


def check_same_text(p: Header, q: Header) -> None:
    """Refuse dumps of different texts: the first chunk and position where they differ."""
    for name in ("n_ctx", "n_vocab", "n_chunk"):
        ours, theirs = getattr(p, name), getattr(q, name)
        if ours != theirs:
            raise InputError(f"{q.path}: {name} {theirs}, expected {ours} as in {p.path}")
    count = p.n_ctx * min(p.chunks, q.chunks)
    for first in range(0, count, COMPARED):
        place, some = HEAD.size + 4 * first, min(COMPARED, count - first)
        ours, theirs = (np.fromfile(h.path, "<i4", some, offset=place) for h in (p, q))
        differ = np.flatnonzero(ours != theirs)
        if differ.size:
            chunk, position = divmod(first + int(differ[0]), p.n_ctx)
            raise InputError(
                f"{q.path}: token {theirs[differ[0]]} in chunk {chunk} at position {position}, "
                f"expected {ours[differ[0]]} as in {p.path}: not the same text"
            )


class DumpRows(FileRows):
    """Rows of codes, where the file is mapped if it can be."""

    def __init__(self, header: Header) -> None:
        super().__init__(header.path, header.path, header.rows, header.n_vocab, header.dtype)
        self.header = header

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize

    @property
    def dtype_name(self) -> str:
        return "uint16 codes"

    def shape(self, rows: int) -> tuple[int, ...]:
        return (rows,)

    def _place(self, row: int) -> int:
        return self.header.rows_at + row * self.row_bytes


class DumpColumn(FileSource):
    """A number for each row of a dump: its label, its chunk, or the position of the label in it."""

    def __init__(self, header: Header, name: str) -> None:
        super().__init__(
            header.path, f"{header.path}:{name}", header.rows, None, np.dtype(np.int64)
        )
        self.header = header
        self.column = name
        self.first_chunk = 0  # the number of the file's first one, where files are one text

    @property
    def most_values(self) -> int:
        return self.header.n_chunk if self.column == "chunk" else self.rows

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        head = self.header
        chunk, row = np.divmod(np.arange(start, stop), max(1, head.chunk_rows))
        if self.column == "chunk":
            return chunk + self.first_chunk
        position = head.n_ctx // 2 + 1 + row
        if self.column == "position" or stop <= start:
            return position
        place = chunk * head.n_ctx + position
        first = int(place[0])
        tokens = buffer.array((int(place[-1]) + 1 - first,), np.dtype("<i4"))
        self.open()
        self._fill(as_bytes(tokens), HEAD.size + 4 * first)
        return tokens[place - first].astype(np.int64)


def open_dump(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    """Rows of a dump, or a column that it has beside them."""
    header = read_header(reference.path)
    if header.cut and not how.whole_chunks:
        raise InputError(f"{header.cut} (--on-error skip takes those)")
    if header.cut and not header.chunks:
        raise InputError(header.cut)
    part = reference.part
    if role == "predictions":
        if part is not None:
            raise InputError(f"{reference.name}: a dump holds one array, expected no ':part'")
        return DumpRows(header)
    if part is None:
        part = "chunk" if role == "clusters" else "token"
    if part not in COLUMNS:
        raise InputError(
            f"{header.path}: no column {part!r}, expected one of: {', '.join(COLUMNS)}"
        )
    return DumpColumn(header, part)


def as_numbers(rows: np.ndarray) -> np.ndarray:
    """Rows of codes decoded; others as they are."""
    return decoded(rows) if rows.dtype.names else rows
