"""Readers: rows of predictions, labels and names from files, block by block."""

from __future__ import annotations

import os
import stat

from fastent.io.arrow import open_arrow
from fastent.io.csv import open_csv
from fastent.io.errors import InputError, reading
from fastent.io.npy import open_npy, open_npz
from fastent.io.parquet import open_parquet
from fastent.io.paths import SUFFIXES, Reference, expand, is_column_name
from fastent.io.safetensors import open_safetensors
from fastent.io.source import Buffer, Source

OPENERS = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".parquet": open_parquet,
    ".arrow": open_arrow,
    ".feather": open_arrow,
    ".safetensors": open_safetensors,
    ".csv": open_csv,
}


def open_source(reference: Reference, role: str) -> Source:
    """Open what a reference names; ``role`` says which part is meant when it names none.

    Parameters
    ----------
    reference : Reference
        File and part.
    role : {"predictions", "labels", "targets", "groups", "clusters", "weights", "bytes"}
        What the rows are for.

    Returns
    -------
    Source
        Rows of known number, width and dtype; nothing but the head of the file has been read.

    Raises
    ------
    InputError
        One line that names the file.
    """
    suffix = os.path.splitext(reference.path)[1]
    if suffix not in OPENERS:
        raise InputError(f"{reference.path}: expected a file ending in {', '.join(SUFFIXES)}")
    with reading(reference.path):
        mode = os.stat(reference.path).st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "a pipe or device"
            raise InputError(f"{reference.path}: {what}, expected a file")
        source = OPENERS[suffix](reference, role)
        source.mapped = role in ("predictions", "targets")
        return source


__all__ = ["Buffer", "InputError", "Reference", "Source", "expand", "is_column_name", "open_source"]
