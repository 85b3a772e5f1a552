"""Dumps of llama.cpp's perplexity program (``--kl-divergence-base``): read, and written bit for
bit.

>>> import numpy as np, tempfile, os
>>> from fastent import llama
>>> path = os.path.join(tempfile.mkdtemp(), "base.bin")
>>> logits = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
>>> llama.write(path, np.arange(16), [logits], n_ctx=8)
>>> dump = llama.open(path)
>>> dump.n_chunk, len(dump), dump.labels.tolist()
(2, 6, [5, 6, 7, 13, 14, 15])
>>> dump.decode(0, 2).shape
(2, 50)
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np

from fastent.backends.cython.tiles.operand import decoded
from fastent.io.errors import InputError
from fastent.io.llama import HEAD, MAGIC, DumpColumn, DumpRows, Header, read_header
from fastent.io.llama_codec import encode
from fastent.io.source import Buffer

__all__ = ["Dump", "open", "write"]


class Dump:
    """An open dump; what `open` returns.

    Attributes
    ----------
    n_ctx, n_vocab, n_chunk : int
        Tokens of a chunk, classes, and whole chunks that the file holds.
    tokens : ndarray of int32, (n_chunk, n_ctx)
    labels, chunk, position : ndarray of int64
        For each row the token that it predicts, the chunk that it is of, and the label's place
        there.
    rows : ndarray
        The rows where the file is mapped, as codes: operands of ``kind="logprobs"`` for every
        function of the package, which decode them by the tile. The file must not shrink meanwhile.
    """

    def __init__(self, header: Header) -> None:
        self._header = header
        self.n_ctx, self.n_vocab, self.n_chunk = header.n_ctx, header.n_vocab, header.chunks

    def __len__(self) -> int:
        return self._header.rows

    @cached_property
    def tokens(self) -> np.ndarray:
        count = self.n_chunk * self.n_ctx
        found = np.fromfile(self._header.path, "<i4", count, offset=HEAD.size)
        return found.reshape(self.n_chunk, self.n_ctx)

    def _column(self, name: str) -> np.ndarray:
        with DumpColumn(self._header, name) as column:
            return column.read(0, len(self), Buffer())

    @cached_property
    def labels(self) -> np.ndarray:
        return self._column("token")

    @cached_property
    def chunk(self) -> np.ndarray:
        return self._column("chunk")

    @cached_property
    def position(self) -> np.ndarray:
        return self._column("position")

    @cached_property
    def rows(self) -> np.ndarray:
        head = self._header
        if not len(self):
            return np.empty(0, head.dtype)
        return np.memmap(head.path, head.dtype, "r", head.rows_at, (len(self),))

    def decode(self, start: int, stop: int) -> np.ndarray:
        """Log-probabilities of rows [start, stop): float32, (rows, n_vocab), as the program decodes
        them.

        Rows are as they were written, and so sum to 1 only as far as codes can say; a class at the
        floor of a clipped row is known to be no more likely than this.
        """
        if not 0 <= start <= stop <= len(self):
            raise ValueError(
                f"rows: expected 0 <= start <= stop <= {len(self)}, got {start}, {stop}"
            )
        with DumpRows(self._header) as source:
            return np.asarray(decoded(source.read(start, stop, Buffer())))

    def __repr__(self) -> str:
        size = f"n_ctx {self.n_ctx}, n_vocab {self.n_vocab}, {self.n_chunk} chunks"
        return f"<Dump {self._header.path!r}: {size}>"


def open(path: str | os.PathLike[str], *, whole_chunks: bool = False) -> Dump:
    """Open a dump.

    Parameters
    ----------
    path : str or path-like
    whole_chunks : bool, optional
        Take the whole chunks of a file that was cut off, which is refused otherwise.

    Returns
    -------
    Dump

    Raises
    ------
    ValueError
        No dump, one without rows, or one whose size is not what its header says.
    """
    header = read_header(os.fspath(path))
    if header.cut and not whole_chunks:
        raise InputError(header.cut)
    return Dump(header)


def write(
    path: str | os.PathLike[str], tokens: Any, blocks: Iterable[Any], n_ctx: int, clip: float = 16
) -> None:
    """Write logits as the program does, bit for bit.

    Parameters
    ----------
    path : str or path-like
    tokens : array of int
        Of all chunks: n_ctx times a whole number.
    blocks : iterable of float32 arrays, (rows, n_vocab)
        Logits of the rows that predict the second half of each chunk but for its first token, in
        order, cut anywhere.
    n_ctx : int
        Tokens of a chunk.
    clip : float, optional
        Nats below the largest logit at which a row is cut off; some programs have 24.

    Raises
    ------
    ValueError
        Blocks of different widths, or another number of rows than the tokens have.
    """
    n_ctx, found = int(n_ctx), np.asarray(tokens)
    if n_ctx < 2:
        raise ValueError(f"n_ctx: expected at least 2, got {n_ctx}")
    if found.dtype.kind not in "iu":
        raise TypeError(f"tokens: expected integers, got dtype {found.dtype}")
    if found.size % n_ctx:
        raise ValueError(f"tokens: expected a multiple of n_ctx {n_ctx}, got {found.size}")
    n_chunk = found.size // n_ctx
    expected = n_chunk * (n_ctx - 1 - n_ctx // 2)
    if not found.size:
        raise ValueError("tokens: expected at least one chunk, got none")
    partial = f"{os.fspath(path)}.partial"
    try:
        with builtins.open(partial, "wb") as stream:
            rows = _write_rows(stream, found, blocks, n_ctx, n_chunk, clip)
        if rows != expected:
            raise ValueError(f"blocks: expected {expected} rows for these tokens, got {rows}")
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _write_rows(
    stream: BinaryIO,
    tokens: np.ndarray,
    blocks: Iterable[Any],
    n_ctx: int,
    n_chunk: int,
    clip: float,
) -> int:
    rows = width = 0
    for block in blocks:
        logits = np.ascontiguousarray(block)
        if logits.ndim != 2 or logits.dtype != np.float32 or not logits.shape[1]:
            raise ValueError(
                f"blocks: expected float32 rows of logits, got {logits.dtype} of shape "
                f"{logits.shape}"
            )
        if not width:
            width = logits.shape[1]
            stream.write(HEAD.pack(MAGIC, n_ctx, width, n_chunk))
            stream.write(tokens.astype("<i4").tobytes())
        if logits.shape[1] != width:
            raise ValueError(f"blocks: expected {width} classes throughout, got {logits.shape[1]}")
        rows += len(logits)
        stream.write(encode(logits, clip).tobytes())
    return rows
