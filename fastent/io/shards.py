"""The files of a run in step: predictions, and what belongs to the same rows, cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastent.io.errors import InputError
from fastent.io.paths import Reference
from fastent.io.source import Buffer, Source

# A block should stay in the cache between being read and being computed.
BLOCK_BYTES = 4 << 20
ALL_BUFFERS = 64 << 20


@dataclass
class Shard:
    """One file of predictions with the parts that go with its rows, by role."""

    first_row: int
    sources: dict[str, Source]

    @property
    def main(self) -> Source:
        return self.sources["predictions"]

    @property
    def rows(self) -> int:
        return self.main.rows

    def close(self) -> None:
        for source in self.sources.values():
            source.close()


@dataclass
class Block:
    """Rows ``start`` to ``stop`` of a shard, and once read, their numbers by role."""

    shard: Shard
    start: int
    stop: int
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def last(self) -> bool:
        return self.stop == self.shard.rows

    @property
    def end_row(self) -> int:
        """Row after the block, counted through all files."""
        return self.shard.first_row + self.stop

    def open(self, buffers: dict[str, Buffer]) -> None:
        """What must happen in order: opening files and reading those that only go forward."""
        for role, source in self.shard.sources.items():
            source.open()
            if source.sequential:
                self._read(role, source, buffers)

    def load(self, buffers: dict[str, Buffer]) -> None:
        """What any number of threads may do at once: reading rows from where they lie."""
        for role, source in self.shard.sources.items():
            if not source.sequential:
                self._read(role, source, buffers)

    def _read(self, role: str, source: Source, buffers: dict[str, Buffer]) -> None:
        buffer = buffers.setdefault(role, Buffer())
        self.arrays[role] = source.read(self.start, self.stop, buffer)


@dataclass
class Shards:
    """All files of a run."""

    items: list[Shard]

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.items)

    @property
    def classes(self) -> int | None:
        for shard in self.items:
            if shard.rows:
                return shard.main.classes
        return self.items[0].main.classes

    @property
    def bytes(self) -> int:
        return sum(
            source.rows * source.row_bytes
            for shard in self.items
            for source in shard.sources.values()
        )

    def blocks(self, first_row: int, threads: int) -> Iterator[Block]:
        """Blocks from a row on, through all files."""
        budget = max(64 << 10, min(BLOCK_BYTES, ALL_BUFFERS // threads))
        for shard in self.items:
            start = max(0, first_row - shard.first_row)
            row_bytes = sum(source.row_bytes for source in shard.sources.values())
            step = max(1, budget // max(1, row_bytes))
            while start < shard.rows:
                stop = min(shard.rows, start + step)
                yield Block(shard, start, stop)
                start = stop

    def place(self, row: int) -> tuple[Shard, int]:
        """The shard that holds a row of the run, and the row's number in it."""
        for shard in self.items:
            if row < shard.first_row + shard.rows:
                return shard, row - shard.first_row
        raise IndexError(row)

    def describe(self) -> list[dict[str, Any]]:
        """What the report says of the inputs."""
        described = []
        for shard in self.items:
            entry: dict[str, Any] = {role: s.name for role, s in shard.sources.items()}
            entry["rows"] = shard.rows
            if shard.main.classes is not None:
                entry["classes"] = shard.main.classes
            entry["dtype"] = shard.main.dtype.name
            described.append(entry)
        return described

    def identity(self) -> list[list[Any]]:
        """What must be the same for a checkpoint to go on: names, sizes and times of change."""
        return [
            [role, source.name, source.rows, source.classes, source.dtype.name, *source.stamp()]
            for shard in self.items
            for role, source in shard.sources.items()
        ]

    def close(self) -> None:
        for shard in self.items:
            shard.close()


def align(predictions: list[Source], sides: dict[str, list[Source]], need_classes: bool) -> Shards:
    """Shards whose parts agree in rows pair by pair and whose class counts agree throughout."""
    widths = [source for source in predictions if source.rows]
    for source in widths:
        if need_classes and source.classes is None:
            raise InputError(f"{source.name}: one number per row, expected one per class")
        if source.classes != widths[0].classes:
            raise InputError(
                f"{source.name}: {source.classes} classes, expected {widths[0].classes} "
                f"as in {widths[0].name}"
            )
    for role, sources in sides.items():
        if len(sources) != len(predictions):
            raise InputError(
                f"{role}: {len(sources)} files, expected {len(predictions)}, one for each file "
                "of predictions"
            )
        for source, main in zip(sources, predictions, strict=True):
            if source.rows != main.rows:
                raise InputError(
                    f"{source.name}: {source.rows} rows, expected {main.rows} as in {main.name}"
                )
    shards = []
    first_row = 0
    for number, main in enumerate(predictions):
        sources = {"predictions": main}
        sources.update({role: column[number] for role, column in sides.items()})
        shards.append(Shard(first_row, sources))
        first_row += main.rows
    return Shards(shards)


def resolve(references: list[Reference], predictions: list[Reference]) -> list[Reference]:
    """References of a side role, where an empty path means each file of predictions."""
    found = []
    for reference in references:
        if reference.path:
            found.append(reference)
        else:
            found.extend(Reference(main.path, reference.part) for main in predictions)
    return found
