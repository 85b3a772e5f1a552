"""From the words of the command line to an ordered list of files and the parts in them."""

from __future__ import annotations

import glob
import json
import os
import re

from fastent.io.errors import InputError, first_line
from fastent.io.llama import is_dump
from fastent.io.references import SHOWN, TEXTS, Reference, natural_key, suffix_of


def expand(words: list[str]) -> list[Reference]:
    """Files named by paths, globs and directories.

    Lists keep their order; what one glob or directory holds is sorted naturally.
    """
    found: list[Reference] = []
    for word in words:
        found.extend(_expand_one(word))
    return found


def _expand_one(word: str) -> list[Reference]:
    if not word:
        raise InputError("'': expected the name of a file")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", word):
        raise InputError(f"{word}: an address, expected a file: download or mount it first")
    path, part = _split(word)
    if not path:
        return [Reference("", part)]
    if os.path.isdir(path):
        return [Reference(r.path, part, r.constants) for r in _in_directory(path)]
    if os.path.lexists(path):
        _refuse_log(os.path.dirname(path))
        return [Reference(path, part)]
    files = _matches(path)
    if not files:
        raise InputError(f"{word}: {_why_none(path)}")
    for folder in dict.fromkeys(map(os.path.dirname, files)):
        _refuse_log(folder)
    return [Reference(name, part) for name in _with_rows(files)]


def _split(word: str) -> tuple[str, str | None]:
    """A file and a part of it; either may have colons in its name."""
    if os.path.lexists(word) or ":" not in word or _matches(word):
        return word, None
    colons = [k for k, letter in enumerate(word) if letter == ":"]
    there = [k for k in colons if os.path.lexists(word[:k]) or _matches(word[:k])]
    likely = [k for k in colons if suffix_of(word[:k])]
    at = 0 if colons[0] == 0 else (there[-1:] or likely[:1] or colons[-1:])[0]
    if not word[at + 1 :]:
        raise InputError(f"{word}: nothing after the colon, expected file:column")
    return word[:at], word[at + 1 :]


def _in_directory(path: str) -> list[Reference]:
    """The files of a directory whose writer meant them to be read."""
    _refuse_log(path)
    state = os.path.join(path, "state.json")
    if os.path.isfile(os.path.join(path, "dataset_dict.json")):
        raise InputError(f"{path}: several splits, expected the directory of one of them")
    if os.path.isfile(state) and os.path.isfile(os.path.join(path, "dataset_info.json")):
        return [Reference(os.path.join(path, name)) for name in _saved_files(state)]
    names = [name for name in os.listdir(path) if not name.startswith((".", "_"))]
    inside = [os.path.join(path, name) for name in names]
    files = _with_rows([f for f in inside if (suffix_of(f) and os.path.isfile(f)) or is_dump(f)])
    if files:
        return [Reference(name) for name in files]
    if any("=" in name and os.path.isdir(os.path.join(path, name)) for name in names):
        from fastent.io.partitions import partitioned

        return partitioned(path)
    raise InputError(f"{path}: no {SHOWN} file in this directory")


def _saved_files(state: str) -> list[str]:
    """The files that a folder of Hugging Face's save_to_disk says to be its data."""
    try:
        with open(state, encoding="utf-8") as stream:
            names = [str(entry["filename"]) for entry in json.load(stream)["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError):
        raise InputError(f"{state}: does not say which files are data") from None
    if not names:
        raise InputError(f"{state}: names no files")
    return names


LOGS = {
    "_delta_log/": "a Delta table, whose log says which files count: write its rows as Parquet "
    "first (with deltalake: DeltaTable(path).to_pyarrow_dataset())",
    ".hoodie/": "a Hudi table, whose log says which files count: write its rows as Parquet first",
    "metadata/*.metadata.json": "an Iceberg table, whose metadata says which files count: write "
    "its rows as Parquet first",
}


def _refuse_log(folder: str) -> None:
    """Tables whose files count or not as a log of theirs says."""
    for pattern, what in LOGS.items():
        if glob.glob(os.path.join(glob.escape(folder), pattern)):
            raise InputError(f"{folder or '.'}: {what}")


def _with_rows(files: list[str]) -> list[str]:
    """Files in natural order, without the empty ones that Spark writes for parts without rows."""
    files = sorted(files, key=natural_key)
    texts = [name for name in files if (suffix_of(name) or "").startswith(TEXTS)]
    empty = {name for name in texts if os.path.isfile(name) and not os.path.getsize(name)}
    return files if len(empty) == len(files) else [name for name in files if name not in empty]


def _why_none(path: str) -> str:
    if glob.has_magic(path):
        return "no file matches"
    try:
        os.lstat(path)
    except (PermissionError, ValueError) as error:  # a directory's, or a null byte
        return first_line(error)
    except OSError:
        pass
    return "no such file"


def _matches(pattern: str) -> list[str]:
    """What a glob matches, without the files that macOS puts beside others."""
    if not glob.has_magic(pattern):
        return []
    found = glob.glob(pattern, recursive=True)
    return [name for name in found if not os.path.basename(name).startswith("._")]


def is_column_name(word: str) -> bool:
    """Whether a word can only be a column of the prediction files, as in ``--groups lang``."""
    return not (
        os.path.lexists(word)
        or glob.has_magic(word)
        or word.startswith(":")
        or any(suffix_of(word[:k]) for k, letter in enumerate(word + ":") if letter == ":")
    )
