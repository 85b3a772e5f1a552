"""A file and what is meant in it; the suffixes that say what files hold, and their order."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

FORMATS = {
    "npy": (".npy",),
    "npz": (".npz",),
    "safetensors": (".safetensors",),
    "torch": (".pt", ".pth"),
    "gguf": (".gguf",),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc", ".arrows"),
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".ndjson"),
}
TEXTS = FORMATS["csv"] + FORMATS["jsonl"]
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".br")
KNOWN = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
SUFFIXES = (*KNOWN, *(text + c for text in TEXTS for c in COMPRESSED))
SHOWN = (
    ".npy, .npz, .parquet, .arrow, .feather, .safetensors, .pt, .gguf, .csv, .tsv, .txt or .jsonl"
)


@dataclass(frozen=True)
class Reference:
    """A file and the array, tensor or column in it; an empty path means the prediction file.

    ``constants`` are columns whose one value is in the names of the file's directories.
    """

    path: str
    part: str | None = None
    constants: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return self.path if self.part is None else f"{self.path}:{self.part}"


def suffix_of(path: str) -> str | None:
    """The suffix that says what a file holds, with that of its compression; None if none does."""
    name = os.path.basename(path).lower()
    return max((s for s in SUFFIXES if name.endswith(s)), key=len, default=None)


def format_of(suffix: str | None) -> str | None:
    """The format that a suffix stands for, also compressed."""
    return KNOWN.get("." + (suffix or ".").split(".")[1])


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key under which shard-2 comes before shard-10."""
    pieces = re.split(r"([0-9]+)", text)
    return [(0, int(p)) if k % 2 and len(p) < 4000 else (1, p) for k, p in enumerate(pieces)]
