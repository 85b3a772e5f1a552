"""Lists of the largest classes of each row: two arrays, two list columns, or what a server wrote.

A row is one element of a structured array with `ids`, `logprobs` and `within`, which says of each
entry whether it is one of the largest; −1 is padding.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np

from fastent._topk import Lists, lists_of
from fastent.io.arrow import ArrowTable
from fastent.io.errors import InputError, reading
from fastent.io.json_lines import JsonTable
from fastent.io.parquet import ParquetTable
from fastent.io.reading import Reading
from fastent.io.references import Reference, suffix_of
from fastent.io.servers import SERVERS, ServerRows, row_dtype
from fastent.io.source import Buffer, Source
from fastent.io.table import is_list

NAMES = ("ids", "logprobs")
RANKS = "ranks"
TABLES = {
    **dict.fromkeys((".parquet", ".pq"), ParquetTable),
    **dict.fromkeys((".arrow", ".feather", ".ipc", ".arrows"), ArrowTable),
}


def holds_lists(reference: Reference, format: str | None) -> str | None:
    """How a file has lists: "arrays", "columns" or the name of a server; None if it has none."""
    if reference.part is not None or not os.path.isfile(reference.path):
        return None
    suffix = suffix_of(reference.path)
    if format in SERVERS:
        return format if suffix is None or suffix.startswith((".jsonl", ".ndjson")) else None
    names: dict[str, bool] = {}
    with reading(reference.path):
        if suffix == ".npz":
            try:
                with zipfile.ZipFile(reference.path) as archive:
                    names = {name.removesuffix(".npy"): True for name in archive.namelist()}
            except zipfile.BadZipFile:
                return None
        elif suffix in TABLES and format is None:
            table = TABLES[suffix](reference.path)
            names = {field.name: is_list(field.type) for field in table.schema}
        elif suffix is not None and suffix.startswith((".jsonl", ".ndjson")):
            try:
                schema = JsonTable(reference.path, "kept").schema
            except InputError:
                return None
            names = {field.name: is_list(field.type) for field in schema or ()}
    if not all(names.get(name) for name in NAMES):
        return None
    return "arrays" if suffix == ".npz" else "columns"


class ListRows(Source):
    """Rows of lists that are parts of a file, read side by side."""

    def __init__(self, reference: Reference, how: Reading) -> None:
        from fastent.io import open_source

        plain = replace(how, axis=-1, lists=None, other=frozenset())

        def part(name: str) -> Source:
            return open_source(replace(reference, part=name), "predictions", plain)

        self._parts = [part(name) for name in NAMES]
        if self._has_ranks(reference):
            self._parts.append(part(RANKS))
        ids = self._parts[0]
        for other in self._parts[1:]:
            if (other.rows, other.classes) != (ids.rows, ids.classes):
                raise InputError(
                    f"{other.name}: {other.rows} rows of {other.classes} numbers, expected "
                    f"{ids.rows} of {ids.classes} as in {ids.name}"
                )
        width = 1 if ids.classes is None else ids.classes
        super().__init__(reference.path, reference.path, ids.rows, None, row_dtype(width))
        self.sequential = any(part.sequential for part in self._parts)
        self.scattered = any(part.scattered for part in self._parts)

    @staticmethod
    def _has_ranks(reference: Reference) -> bool:
        suffix = suffix_of(reference.path) or ""
        if suffix == ".npz":
            with zipfile.ZipFile(reference.path) as archive:
                return f"{RANKS}.npy" in archive.namelist()
        if suffix in TABLES:
            return RANKS in TABLES[suffix](reference.path).schema.names
        return False

    @property
    def dtype_name(self) -> str:
        return f"lists of {self.dtype['ids'].shape[0]}"

    def open(self) -> None:
        for part in self._parts:
            part.open()

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        found = buffer.array((stop - start,), self.dtype)
        rows = [part.read(start, stop, Buffer()) for part in self._parts]
        shape = found["ids"].shape
        ids = rows[0].reshape(shape)
        if ids.dtype.kind == "f":
            bad = ~(ids == np.floor(ids))
            if bad.any():
                row = start + int(np.argmax(bad.any(axis=1)))
                raise InputError(f"{self._parts[0].name}: row {row}: expected whole numbers")
        elif ids.dtype.kind not in "iu":
            raise InputError(f"{self._parts[0].name}: dtype {ids.dtype}, expected whole numbers")
        found["ids"] = ids
        found["logprobs"] = rows[1].reshape(shape)
        found["within"] = 1
        if len(rows) > 2:
            given = rows[2].reshape(shape)
            within = lists_of(found["ids"], found["logprobs"], given).within
            assert within is not None
            found["within"] = within
        return found

    def close(self) -> None:
        for part in self._parts:
            part.close()


def open_lists(reference: Reference, role: str, how: Reading) -> Source:
    """The lists of a file."""
    if how.lists in SERVERS:
        return ServerRows(reference.path, str(how.lists), how.tokens)
    with reading(reference.path):
        return ListRows(reference, how)


def is_lists(rows: np.ndarray) -> bool:
    """Whether rows are lists."""
    return rows.dtype.names is not None and "within" in rows.dtype.names


def as_lists(rows: np.ndarray) -> Any:
    """What a batch takes for rows of lists; others as they are."""
    if not is_lists(rows):
        return rows
    ids, logprobs = (np.ascontiguousarray(rows[name]) for name in NAMES)
    return Lists(ids, logprobs, rows["within"] != 0, False)
