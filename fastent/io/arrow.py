"""Arrow and Feather files (the IPC format, as a file or as a stream)."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.arrow_columns import column_rows
from fastent.io.arrow_lists import list_rows
from fastent.io.arrow_messages import read_batches
from fastent.io.errors import InputError, first_line
from fastent.io.parts import choose_columns
from fastent.io.paths import Reference
from fastent.io.source import Source
from fastent.io.table import Table, TableRows, holds, open_columns, require_pyarrow

LARGEST_BATCH = 64 << 20  # bytes of a record batch that may enter memory whole


class ArrowTable(Table):
    """Record batches read into memory one at a time: for what is not found bare, and names."""

    def __init__(self, path: str) -> None:
        arrow = require_pyarrow(path)
        self.path = path
        try:
            with arrow.memory_map(path) as mapped:
                self.is_file = mapped.read(6) == b"ARROW1"
                mapped.seek(0)
                self.schema = self._reader(mapped, None).schema
                self.heads = read_batches(arrow, mapped, self.is_file)
        except (arrow.ArrowException, OSError, EOFError, struct.error, IndexError) as error:
            raise InputError(f"{path}: not a readable Arrow file: {first_line(error)}") from None
        self.rows = sum(head.rows for head in self.heads)

    def _reader(self, stream: Any, columns: list[str] | None) -> Any:
        import pyarrow.ipc as ipc

        chosen = None
        if columns is not None:
            chosen = [self.schema.names.index(column) for column in columns]
        options = ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
        return (ipc.open_file if self.is_file else ipc.open_stream)(stream, options=options)

    def batches(self, columns: list[str], start: int, size: int) -> Iterator[Any]:
        import pyarrow

        starts = np.concatenate([[0], np.cumsum([head.rows for head in self.heads])]).tolist()
        first = max(0, bisect.bisect_right(starts, start) - 1)
        drop = start - starts[first]
        with pyarrow.OSFile(self.path) as stream:
            reader = self._reader(stream, columns)
            for number in range(len(self.heads)):
                if self.is_file:
                    if number < first:
                        continue
                    batch = reader.get_batch(number)
                else:
                    batch = reader.read_next_batch()
                if number >= first:
                    batch = batch.select(columns).slice(drop)
                    yield batch
                    drop = 0
                batch = None  # or it would stay while the next one is read


def open_arrow(reference: Reference, role: str) -> Source:
    table = ArrowTable(reference.path)
    kinds = {field.name: holds(field.type) for field in table.schema}
    columns = choose_columns(table.path, kinds, reference.part, role)
    if len(columns) == 1 and kinds[columns[0]] == "list":
        lists = list_rows(table.path, table.schema, table.heads, columns[0])
        if lists is not None:
            return lists
    source = open_columns(table, reference.part, role)
    assert isinstance(source, TableRows)
    most = max((head.rows for head in table.heads), default=0)
    largest = most * (source.row_bytes if source.dtype != object else 1)
    if largest <= LARGEST_BATCH:
        return source
    if kinds[columns[0]] == "number":
        vector = source.classes is not None
        bare = column_rows(table.path, table.schema, table.heads, columns, source.name, vector)
        if bare is not None:
            return bare
    raise InputError(
        f"{source.name}: a record batch of {largest >> 20} MB, expected at most "
        f"{LARGEST_BATCH >> 20} MB (write smaller batches, or lists)"
    )
