"""Parquet files, read page by page so that a large row group does not enter memory whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from fastent.io.errors import InputError, first_line
from fastent.io.parquet_columns import READERS, SpilledColumns, reader_bytes
from fastent.io.paths import Reference
from fastent.io.source import Source
from fastent.io.table import Table, TableRows, open_columns, require_pyarrow


class ParquetTable(Table):
    def __init__(self, path: str) -> None:
        arrow = require_pyarrow(path)
        import pyarrow.parquet as parquet

        self.path = path
        try:
            with parquet.ParquetFile(path) as file:
                self.schema = file.schema_arrow
                self.metadata = file.metadata
                refuse_encrypted(path, self.metadata)
        except arrow.ArrowException as error:
            raise InputError(f"{path}: not a readable Parquet file: {first_line(error)}") from None
        self.rows = self.metadata.num_rows

    def batches(self, columns: list[str], start: int, size: int) -> Iterator[Any]:
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
            skipped, group = 0, 0
            while group < file.num_row_groups:
                count = file.metadata.row_group(group).num_rows
                if skipped + count > start:
                    break
                skipped += count
                group += 1
            drop = start - skipped
            groups = list(range(group, file.num_row_groups))
            for batch in file.iter_batches(size, groups, columns, use_threads=False):
                batch = batch.select(columns)
                if drop >= batch.num_rows:
                    drop -= batch.num_rows
                    continue
                yield batch.slice(drop)
                drop = 0


def refuse_encrypted(path: str, metadata: Any) -> None:
    """Refuse what the library ends the process over: encrypted columns under a plain footer.

    Such a footer is followed by its signature, which is not part of the metadata.
    """
    with open(path, "rb") as stream:
        stream.seek(-8, os.SEEK_END)
        length = int.from_bytes(stream.read(4), "little")
    if length != metadata.serialized_size:
        raise InputError(f"{path}: encrypted Parquet, expected it decrypted")


def open_parquet(reference: Reference, role: str) -> Source:
    table = ParquetTable(reference.path)
    source = open_columns(table, reference.part, role)
    if isinstance(source, TableRows) and len(source.columns) > 1:
        groups = range(table.metadata.num_row_groups)
        leaves = table.metadata.schema
        numbers = {leaves.column(k).path: k for k in range(table.metadata.num_columns)}
        places = [numbers[column] for column in source.columns]
        if max((reader_bytes(table.metadata, g, places) for g in groups), default=0) > READERS:
            rows = [table.metadata.row_group(g).num_rows for g in groups]
            return SpilledColumns(table.path, source.name, source.columns, source.dtype, rows)
    return source
