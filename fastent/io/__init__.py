"""Readers: rows of predictions, labels and names from files, block by block."""

from __future__ import annotations

import os
import stat
from typing import Any

from fastent.io.arrow import ArrowTable, open_arrow
from fastent.io.csv import open_csv
from fastent.io.csv_layout import layout
from fastent.io.csv_lines import count_lines
from fastent.io.errors import InputError, UnclearHeaderError, reading
from fastent.io.gguf import open_gguf
from fastent.io.json_lines import open_jsonl
from fastent.io.llama import is_dump, open_dump
from fastent.io.npy import open_npy, open_npz
from fastent.io.parquet import ParquetTable, open_parquet
from fastent.io.partitions import Constant
from fastent.io.paths import expand, is_column_name
from fastent.io.raw import RawRows
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import SHOWN, Reference, format_of, suffix_of
from fastent.io.safetensors import open_safetensors
from fastent.io.source import Buffer, Source
from fastent.io.torch import TensorRows, open_torch

OPENERS: dict[str | None, Any] = {
    "npy": open_npy,
    "npz": open_npz,
    "safetensors": open_safetensors,
    "torch": open_torch,
    "gguf": open_gguf,
    "parquet": open_parquet,
    "arrow": open_arrow,
    "csv": open_csv,
    "jsonl": open_jsonl,
}
TABLES: dict[str | None, Any] = {"parquet": ParquetTable, "arrow": ArrowTable}


def open_source(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    """Open what a reference names; ``role`` says which part is meant when it names none.

    Roles are predictions, labels, targets, groups, clusters, weights, bytes, id and kept. Nothing
    but the head of the file is read.
    """
    dumped = how.format is None and is_dump(reference.path)
    suffix = how.format or suffix_of(reference.path)
    if suffix is None and not dumped:
        raise InputError(f"{reference.path}: expected a file ending in {SHOWN}")
    with reading(reference.path):
        mode = os.stat(reference.path).st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "a pipe or device"
            raise InputError(f"{reference.path}: {what}, expected a file")
        opener = open_dump if dumped else OPENERS[format_of(suffix)]
        constants, part = dict(reference.constants), reference.part
        if part is not None and part in constants:
            rows = opener(Reference(reference.path), "predictions", how).rows
            source: Source = Constant(reference.path, part, constants[part], rows)
        else:
            source = opener(reference, role, how)
            array = isinstance(source, RawRows | TensorRows)  # whose classes may be any axis
            last = 0 if source.classes is None else 1
            rows_of_classes = role in ("predictions", "targets")
            if rows_of_classes and not array and how.axis not in (-1, last):
                raise InputError(
                    f"{source.name}: --axis {how.axis}: expected its last axis, {last}"
                )
        source.mapped = role in ("predictions", "targets")
        return source


def table_rows(reference: Reference, how: Reading = PLAIN) -> int | None:
    """How many rows a table has, whichever columns are meant; None where that is not clear."""
    format = format_of(how.format or suffix_of(reference.path))
    with reading(reference.path):
        if format == "csv":
            found = layout(reference.path, "predictions", how)
            return None if found.header is None else count_lines(found) + (not found.header)
        return TABLES[format](reference.path).rows if format in TABLES else None


__all__ = [
    "Buffer",
    "InputError",
    "Reading",
    "Reference",
    "Source",
    "UnclearHeaderError",
    "expand",
    "is_column_name",
    "open_source",
    "table_rows",
]
