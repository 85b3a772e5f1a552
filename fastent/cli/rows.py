"""``--rows``: the row values as Parquet, written as they come and complete after a resume.

A Parquet file ends in a footer, so one that is cut off is lost. With a checkpoint the rows are
therefore written in parts, each finished when a checkpoint is, and put together at the end. So are
those of a cluster, whose tasks end in any order.
"""

from __future__ import annotations

import contextlib
import glob
import os
import sys
from typing import Any

from fastent.cli.outputs import (
    create,
    is_direct,
    named_errors,
    partial_name,
    random_word,
    remove_quietly,
)
from fastent.io import InputError

GROUP_ROWS = 1 << 16
PIECE_ROWS = 1 << 13  # read at once where parts are put together
GROUP_BYTES = 8 << 20  # of wide rows: a group is in memory twice, and once as it is written


class RowGroups:
    """A Parquet writer with row groups of one size, whatever the pieces it is given."""

    def __init__(self, sink: Any, schema: Any, own: bool = False) -> None:
        import pyarrow.parquet as parquet

        self._schema = schema
        self._own = sink if own else None  # to be closed here
        try:
            self._writer = parquet.ParquetWriter(sink, schema)
        except BaseException:
            if own:
                sink.close()
            raise
        self._waiting: list[Any] = []
        self._rows = 0
        self._most = max(1, min(GROUP_ROWS, GROUP_BYTES // (8 * len(schema))))

    def write(self, batch: Any) -> None:
        """Row values as an Arrow batch."""
        while batch.num_rows:
            piece = batch.slice(0, self._most - self._rows)
            self._waiting.append(piece)
            self._rows += piece.num_rows
            batch = batch.slice(piece.num_rows)
            if self._rows == self._most:
                self._flush()

    def _flush(self) -> None:
        import pyarrow

        table = pyarrow.Table.from_batches(self._waiting, self._schema).combine_chunks()
        self._waiting, self._rows = [], 0
        self._writer.write_table(table, row_group_size=self._most)

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()
        if self._own is not None:
            self._own.close()

    def abandon(self) -> None:
        """Let go of a file that will be removed."""
        with contextlib.suppress(OSError, ValueError):  # a full disk refuses the footer too
            self._writer.close()
        self._writer.is_open = False  # else it tries again when it is forgotten, and complains
        with contextlib.suppress(OSError, ValueError):
            if self._own is not None:
                self._own.close()


class RowsFile:
    """The Parquet file of row values, in parts until it is whole."""

    def __init__(self, path: str, columns: tuple[tuple[str, str], ...]) -> None:
        """``columns`` have names, and types as Arrow calls them."""
        try:
            import pyarrow
        except ImportError:
            raise InputError(f"{path}: --rows needs the package pyarrow (extra 'cli')") from None
        self._path = path
        self._direct = is_direct(path)
        self._schema = pyarrow.schema(list(columns))
        self._word = random_word()
        self._parts: list[str] = []
        self._synced = 0  # parts of which a loss of power takes nothing
        self._writer: RowGroups | None = None
        self._open_files = contextlib.ExitStack()

    def resume(self, parts: list[str]) -> None:
        """Take up the parts of a checkpoint; what was written after it is dropped."""
        for part in parts:
            stem, _, number = part.rpartition(".part")
            word = stem.rpartition(".")[2]
            usual = number.isdecimal() and part == self._part_name(int(number), word)
            if not usual or not os.path.isfile(part) or os.path.islink(part):
                raise InputError(f"{self._path}: the rows written so far are not there: {part}")
            self._word = word
        self._parts = list(parts)
        self._synced = len(parts)
        stem = self._part_name("", self._word)
        for stray in glob.glob(glob.escape(stem) + "[0-9]*"):
            if stray not in parts:
                remove_quietly(stray)

    def _part_name(self, number: int | str, word: str) -> str:
        return partial_name(self._path, f"part{number}", word)

    def _new_part(self, number: int) -> RowGroups:
        """A writer of a part, which `discard` removes if it comes to nothing."""
        part = self._part_name(number, self._word)
        self._parts.append(part)
        return self._groups(part)

    def _groups(self, partial: str) -> RowGroups:
        return RowGroups(create(partial, self._path), self._schema, own=True)

    def write(self, batch: Any) -> None:
        """Row values as an Arrow batch."""
        with named_errors(self._path):
            self._open().write(batch)

    def write_part(self, number: int, batches: list[Any]) -> None:
        """All rows of a task, whose number says where they belong in the whole."""
        with named_errors(self._path):
            writer = self._new_part(number)
            try:
                for batch in batches:
                    writer.write(batch)
                writer.close()
            except BaseException:
                writer.abandon()
                raise

    def part(self, number: int) -> RowGroups:
        """A writer of the part with a number, to be closed or dropped by who asks for it."""
        return self._new_part(number)

    def drop_part(self, number: int) -> None:
        part = self._part_name(number, self._word)
        self._parts.remove(part)
        remove_quietly(part)

    def _open(self) -> RowGroups:
        if self._writer is None:
            if self._path == "-":
                self._writer = RowGroups(sys.stdout.buffer, self._schema)
            elif self._direct:
                self._open_files.enter_context(contextlib.suppress(OSError))
                sink = self._open_files.enter_context(open(self._path, "wb", buffering=0))
                self._writer = RowGroups(sink, self._schema)
            else:
                self._writer = self._new_part(len(self._parts))
        return self._writer

    def cut(self) -> list[str]:
        """Finish the part that is being written, for a checkpoint to name."""
        with named_errors(self._path):
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            for part in self._parts[self._synced :]:
                descriptor = os.open(part, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
        self._synced = len(self._parts)
        return list(self._parts)

    def finish(self, keep_parts: bool) -> None:
        """Put the whole file where it was asked for; a checkpoint may still need the parts."""
        with named_errors(self._path):
            if self._writer is None and not self._parts:
                self._open()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._direct:
                return
            if len(self._parts) > 1:
                self._join()
            elif keep_parts:
                self._link()
            else:
                os.replace(self._parts[0], os.path.realpath(self._path))
                self._parts.clear()

    def _link(self) -> None:
        """The only part is the file; it stays a part until the checkpoint is gone."""
        whole = partial_name(self._path)
        remove_quietly(whole)
        try:
            os.link(self._parts[0], whole)
        except OSError:  # a filesystem without links
            self._join()
        else:
            os.replace(whole, os.path.realpath(self._path))

    def _join(self) -> None:
        """All parts in one file, with the row groups of an uninterrupted run."""
        import pyarrow.parquet as parquet

        whole = partial_name(self._path)
        joined = None
        try:
            joined = self._groups(whole)
            for part in sorted(self._parts, key=lambda part: int(part.rpartition(".part")[2])):
                with parquet.ParquetFile(part, pre_buffer=False) as file:  # else it is read whole
                    for batch in file.iter_batches(PIECE_ROWS, use_threads=False):
                        joined.write(batch)
            joined.close()
            os.replace(whole, os.path.realpath(self._path))
        except BaseException:
            if joined is not None:
                joined.abandon()
            remove_quietly(whole)
            raise

    def discard(self, keep: tuple[str, ...] = ()) -> None:
        """Remove the parts, except those a checkpoint names."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        self._open_files.close()
        for part in self._parts:
            if part not in keep:
                remove_quietly(part)
