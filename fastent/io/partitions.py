"""Hive-partitioned directories: lang=de/part-0.parquet, where each file has one value of lang."""

from __future__ import annotations

import os

import numpy as np

from fastent.io.errors import InputError, require_pyarrow, telling
from fastent.io.references import Reference, format_of, natural_key, suffix_of
from fastent.io.source import Buffer, Source


def partitioned(path: str) -> list[Reference]:
    """The files of such a directory with what the names of their directories say."""
    arrow = require_pyarrow(path)
    import pyarrow.dataset as dataset

    inside = [
        os.path.join(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if suffix_of(name) and not name.startswith((".", "_"))
    ]
    if not inside:
        raise InputError(f"{path}: a directory of directories without files to read")
    kind = format_of(suffix_of(min(inside)))
    kind = {"arrow": "ipc", "jsonl": "json"}.get(str(kind), kind)
    wrong = (arrow.ArrowException, OSError, ValueError)
    with telling(f"{path}: not a partitioned directory", *wrong):
        found = dataset.dataset(path, format=kind, partitioning="hive")
        references = []
        for fragment in found.get_fragments():
            keys = dataset.get_partition_keys(fragment.partition_expression)
            constants = tuple((name, str(value)) for name, value in keys.items())
            references.append(Reference(fragment.path, None, constants))
    return sorted(references, key=lambda reference: natural_key(reference.path))


class Constant(Source):
    """One value for all rows of a file."""

    def __init__(self, path: str, column: str, value: str, rows: int) -> None:
        number = value.lstrip("-").isdigit() and str(int(value)) == value
        dtype = np.dtype(np.int64 if number else object)
        super().__init__(path, f"{path}:{column}", rows, None, dtype)
        self._value = int(value) if number else value

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        return np.full(stop - start, self._value, self.dtype)
