"""From the words of the command line to an ordered list of files and the parts in them."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from dataclasses import dataclass

from fastent.io.errors import InputError

SUFFIXES = (".npy", ".npz", ".parquet", ".arrow", ".feather", ".safetensors", ".csv")


@dataclass(frozen=True)
class Reference:
    """A file and the array, tensor or column in it; an empty path means the prediction file."""

    path: str
    part: str | None = None

    @property
    def name(self) -> str:
        return self.path if self.part is None else f"{self.path}:{self.part}"


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key under which shard-2 comes before shard-10."""
    pieces = re.split(r"(\d+)", text)  # every other one is digits, which ² is not
    return [(0, int(p)) if k % 2 and len(p) < 4000 else (1, p) for k, p in enumerate(pieces)]


def expand(words: list[str]) -> list[Reference]:
    """Files named by paths, globs and directories.

    Lists keep their order; what one glob or directory holds is sorted naturally.
    """
    found: list[Reference] = []
    for word in words:
        found.extend(_expand_one(word))
    return found


def _expand_one(word: str) -> list[Reference]:
    path, part = word, None
    if not word:
        raise InputError("'': expected the name of a file")
    if not os.path.lexists(word) and ":" in word and not _matches(word):
        path, part = word.rsplit(":", 1)
        if not part:
            raise InputError(f"{word}: nothing after the colon, expected file:column")
    if not path:
        return [Reference("", part)]
    if os.path.isdir(path):
        inside = [os.path.join(path, name) for name in os.listdir(path)]
        files = [name for name in inside if name.endswith(SUFFIXES) and os.path.isfile(name)]
        if not files:
            raise InputError(f"{path}: no {', '.join(SUFFIXES)} file in this directory")
    elif os.path.lexists(path):
        files = [path]
    else:
        files = _matches(path)
        if not files:
            raise InputError(f"{word}: {_why_none(path)}")
    return [Reference(name, part) for name in sorted(files, key=natural_key)]


def _why_none(path: str) -> str:
    if glob.has_magic(path):
        return "no file matches"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            os.lstat(path)
        except (PermissionError, ValueError) as error:  # a directory's, or a null byte
            return getattr(error, "strerror", None) or str(error)
    return "no such file"


def _matches(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True) if glob.has_magic(pattern) else []


def is_column_name(word: str) -> bool:
    """Whether a word can only be a column of the prediction files, as in ``--groups lang``."""
    return not (
        os.path.lexists(word) or glob.has_magic(word) or ":" in word or word.endswith(SUFFIXES)
    )
