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
from fastent.io import TABLES, open_source
from fastent.io.errors import InputError, reading
from fastent.io.json_lines import JsonTable
from fastent.io.names import Wrapped
from fastent.io.reading import Reading
from fastent.io.references import Reference, format_of, suffix_of
from fastent.io.servers import SERVERS, ServerRows, row_dtype
from fastent.io.source import Buffer, Source
from fastent.io.table import is_list

NAMES = ("ids", "logprobs")
RANKS = "ranks"


def holds_lists(reference: Reference, format: str | None) -> str | None:
    """How a file has lists: "arrays", "columns" or the name of a server; None if it has none."""
    if reference.part is not None or not os.path.isfile(reference.path):
        return None
    own = format_of(suffix_of(reference.path))
    if format in SERVERS:
        return format if own in (None, "jsonl") else None
    if format is not None and own in TABLES:
        return None
    with reading(reference.path):
        try:
            names = _names(reference.path)
        except (zipfile.BadZipFile, InputError):
            if own in TABLES:
                raise
            return None
    if not all(names.get(name) for name in NAMES):
        return None
    return "arrays" if own == "npz" else "columns"


def _names(path: str) -> dict[str, bool]:
    """The arrays or columns of a file, and whether they may hold lists."""
    format = format_of(suffix_of(path))
    if format == "npz":
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): True for name in archive.namelist()}
    if format in TABLES:
        schema = TABLES[format](path).schema
    elif format == "jsonl":
        schema = JsonTable(path, "kept").schema
    else:
        return {}
    return {field.name: is_list(field.type) for field in schema or ()}


class ListRows(Wrapped):
    """Rows of lists that are parts of a file, read side by side."""

    def __init__(self, reference: Reference, how: Reading) -> None:
        plain = replace(how, axis=-1, lists=None, other=frozenset())
        names: tuple[str, ...] = NAMES
        jsonl = format_of(suffix_of(reference.path)) == "jsonl"
        if not jsonl and RANKS in _names(reference.path):
            names = (*NAMES, RANKS)
        parts = [open_source(replace(reference, part=n), "predictions", plain) for n in names]
        ids = parts[0]
        for other in parts[1:]:
            if (other.rows, other.classes) != (ids.rows, ids.classes):
                raise InputError(
                    f"{other.name}: {other.rows} rows of {other.classes} numbers, expected "
                    f"{ids.rows} of {ids.classes} as in {ids.name}"
                )
        super().__init__(parts, row_dtype(1 if ids.classes is None else ids.classes))
        self.name = reference.path

    stamp = Source.stamp

    @property
    def dtype_name(self) -> str:
        return f"lists of {self.dtype['ids'].shape[0]}"

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        found = buffer.array((stop - start,), self.dtype)
        rows = [part.read(start, stop, Buffer()) for part in self.parts]
        shape = found["ids"].shape
        ids = rows[0].reshape(shape)
        if ids.dtype.kind == "f":
            bad = ~(ids == np.floor(ids))
            if bad.any():
                row = start + int(np.argmax(bad.any(axis=1)))
                raise InputError(f"{self.parts[0].name}: row {row}: expected whole numbers")
        elif ids.dtype.kind not in "iu":
            raise InputError(f"{self.parts[0].name}: dtype {ids.dtype}, expected whole numbers")
        found["ids"] = ids
        found["logprobs"] = rows[1].reshape(shape)
        found["within"] = 1
        if len(rows) > 2:
            given = rows[2].reshape(shape)
            within = lists_of(found["ids"], found["logprobs"], given).within
            assert within is not None
            found["within"] = within
        return found


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
