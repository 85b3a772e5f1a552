"""Parquet files, read page by page so that a large row group does not enter memory whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastent.io.errors import InputError
from fastent.io.npy import first_line
from fastent.io.paths import Reference
from fastent.io.source import Source
from fastent.io.table import Table, open_columns, require_pyarrow


class ParquetTable(Table):
    def __init__(self, path: str) -> None:
        arrow = require_pyarrow(path)
        import pyarrow.parquet as parquet

        self.path = path
        try:
            with parquet.ParquetFile(path) as file:
                self.schema = file.schema_arrow
                self.rows = file.metadata.num_rows
        except arrow.ArrowException as error:
            raise InputError(f"{path}: not a readable Parquet file: {first_line(error)}") from None

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


def open_parquet(reference: Reference, role: str) -> Source:
    return open_columns(ParquetTable(reference.path), reference.part, role)
