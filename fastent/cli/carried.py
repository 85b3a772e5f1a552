"""What rows carry beside their metrics: file and row, their id, and the columns of ``--keep``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastent.io import Buffer
from fastent.io.llama import as_numbers
from fastent.io.names import as_text
from fastent.io.shards import Piece, Shards
from fastent.io.source import Source

DERIVED = ("label", "predicted")  # what --keep may ask for that is in no column
TYPES = {"i": "int64", "u": "uint64", "f": "double", "b": "bool"}


@dataclass(frozen=True)
class Carried:
    """Columns by name, with the types that they have in Arrow.

    Attributes
    ----------
    types : tuple of (str, str)
        Those after file and row.
    id : str or None
        The column of ids.
    task, kind : str
    class_names : tuple of str or None
        What labels and predicted classes are called.
    """

    types: tuple[tuple[str, str], ...]
    id: str | None
    task: str
    kind: Any
    class_names: tuple[str, ...] | None

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        return (("file", "string"), ("row", "int64"), *self.types)

    def arrays(self, piece: Piece) -> list[Any]:
        """The columns of a piece, as Arrow arrays."""
        import pyarrow

        name = piece.shard.main.name.encode(errors="backslashreplace").decode()
        found = [
            pyarrow.repeat(pyarrow.scalar(name), piece.rows),
            pyarrow.array(np.arange(piece.start, piece.stop)),
        ]
        for column, kind in self.types:
            values = self.values(column, piece.arrays)
            if kind == "string":
                values = _shown(values)
            else:  # a copy: the piece's memory serves the next one
                values = values.astype(np.float64 if kind == "double" else values.dtype)
            found.append(pyarrow.array(values, getattr(pyarrow, ALIASES[kind])()))
        return found

    def values(self, column: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """The rows of a column, of the arrays of a piece by role."""
        role = "id" if column == self.id else f"kept {column}"
        if role in arrays:
            return arrays[role]
        if column == "label":
            return self._named(arrays["labels"])
        predictions = as_numbers(arrays["predictions"]).astype(np.float64)
        if self.task == "binary":
            half = {"probs": 0.5, "logits": 0.0, "logprobs": np.log(0.5)}[self.kind]
            return (predictions >= half).astype(np.int64)
        return self._named(predictions.argmax(axis=-1))

    def _named(self, codes: np.ndarray) -> np.ndarray:
        if self.class_names is None:
            return codes
        names = np.array([*self.class_names, None], dtype=object)
        return np.asarray(names[codes])  # the last, -1, stands for what does not count


ALIASES = {
    "string": "string", "int64": "int64", "uint64": "uint64", "double": "float64", "bool": "bool_",
}  # fmt: skip


def _shown(values: np.ndarray) -> np.ndarray:
    """Values as text; None stays None."""
    if values.dtype != object:
        return as_text(values)
    return np.array([v if v is None else str(v) for v in values], dtype=object)


def _type(source: Source) -> str:
    """What a column of these rows is in Arrow."""
    return TYPES.get((source.stands_for or source.dtype).kind, "string")


def carried(options: argparse.Namespace, shards: Shards) -> Carried:
    """What the rows of a run carry."""
    kinds = options.kind if isinstance(options.kind, str) else options.kind[-1]
    names = shards.class_names if shards.coded else None
    types: list[tuple[str, str]] = []
    for column in ([options.id] if options.id is not None else []) + list(options.keep):
        role = "id" if column == options.id else f"kept {column}"
        if column in DERIVED and role not in shards.items[0].sources:
            label = shards.items[0].sources["labels"].dtype.kind
            kind = "string" if names else "int64"
            if column == "label" and label == "f":
                kind = "double"
        else:
            found = {_type(shard.sources[role]) for shard in shards.items}
            kind = found.pop() if len(found) == 1 else "string"
        if column not in dict(types):
            types.append((column, kind))
    return Carried(tuple(types), options.id, options.task, kinds, names)


def of_rows(carrier: Carried, shards: Shards, rows: list[int]) -> dict[int, dict[str, Any]]:
    """The columns of some rows of the run, read again."""
    found: dict[int, dict[str, Any]] = {}
    for row in sorted(rows) if carrier.types else ():
        shard, place = shards.place(row)
        arrays = {}
        for role, source in shard.sources.items():
            if role.split(" ")[0] in ("id", "kept", "labels", "predictions"):
                source.open()
                arrays[role] = source.read(place, place + 1, Buffer())
        values = {name: carrier.values(name, arrays)[0] for name, _ in carrier.types}
        found[row] = {k: v.item() if hasattr(v, "item") else v for k, v in values.items()}
    for shard in shards.items:
        shard.close()
    return found
