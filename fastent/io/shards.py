"""The files of a run in step: predictions, and what belongs to the same rows, cut into blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from fastent.io.errors import InputError, reading
from fastent.io.references import Reference
from fastent.io.source import Buffer, Source

PIECE_BYTES = 2 << 20  # stays in the cache between being read and being computed
PIECE_ROWS = 1 << 16  # row values take memory too
PIECES = 32  # per block, so that handing out blocks costs nothing
SCATTERED = 8  # times the buffer where a row lies in many places
ALL_BUFFERS = 64 << 20

T = TypeVar("T")


def rows_within(room: int, row_bytes: int) -> int:
    """How many rows a piece has."""
    return max(1, min(PIECE_ROWS, room // max(1, row_bytes)))


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
class Piece:
    """Rows ``start`` to ``stop`` of a shard with their numbers by role."""

    shard: Shard
    start: int
    stop: int
    arrays: dict[str, np.ndarray]

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def first_row(self) -> int:
        """The first row's number through all files."""
        return self.shard.first_row + self.start

    def part(self, start: int, stop: int) -> Piece:
        """Some of its rows, counted from its own first one."""
        arrays = {role: array[start:stop] for role, array in self.arrays.items()}
        return Piece(self.shard, self.start + start, self.start + stop, arrays)

    def give(self, work: Callable[[Piece], T]) -> T:
        """What ``work`` makes of the rows; an error if they went from a file meanwhile."""
        try:
            return work(self)
        finally:
            for source in self.shard.sources.values():
                source.settle(self.start, self.stop)


@dataclass
class Block:
    """Rows ``start`` to ``stop`` of a shard, which one thread reads piece by piece.

    ``room`` is what the buffers of a piece may take.
    """

    shard: Shard
    start: int
    stop: int
    room: int

    @property
    def last(self) -> bool:
        return self.stop == self.shard.rows

    @property
    def end_row(self) -> int:
        """Row after the block, counted through all files."""
        return self.shard.first_row + self.stop

    def open(self, buffers: dict[str, Buffer]) -> dict[str, np.ndarray]:
        """What must happen in order: opening files and reading those that only go forward."""
        read = {}
        for role, source in self.shard.sources.items():
            with reading(source.name):
                source.open()
                if source.sequential:
                    read[role] = source.read(self.start, self.stop, buffers[role])
        return read

    def pieces(self, buffers: dict[str, Buffer], read: dict[str, np.ndarray]) -> Iterator[Piece]:
        """The block's rows, the rest of them read by as many threads at once as there are."""
        # Rows that lie mapped need no buffer, and the kernels take them by the tile.
        buffered = sum(s.row_bytes for s in self.shard.sources.values() if not s.in_place)
        step = rows_within(self.room, buffered)
        for start in range(self.start, self.stop, step):
            stop = min(self.stop, start + step)
            arrays = {}
            for role, source in self.shard.sources.items():
                if source.sequential:
                    arrays[role] = read[role][start - self.start : stop - self.start]
                    continue
                with reading(source.name):
                    arrays[role] = source.read(start, stop, buffers[role])
            check_ids(self.shard, start, arrays)
            yield Piece(self.shard, start, stop, arrays)
        for source in self.shard.sources.values():
            source.release(self.start, self.stop)


def check_ids(shard: Shard, start: int, arrays: dict[str, np.ndarray]) -> None:
    """Rows of several files that go together must have the same id; roles begin with "id of"."""
    for role, other in arrays.items():
        if not role.startswith("id of "):
            continue
        own = arrays["id"]
        if (own.dtype.kind in "iu") != (other.dtype.kind in "iu"):
            own, other = own.astype(str), other.astype(str)
        differ = own != other
        if differ.any():
            row = int(np.argmax(differ))
            raise InputError(
                f"{shard.sources[role].name}: row {start + row} is {other[row]!s}, expected "
                f"{own[row]!s} as in {shard.sources['id'].name}: rows are not in the same order"
            )


def nothing_left(left_out: list[dict[str, str]]) -> InputError:
    """What to say when all files had to be left out."""
    return InputError(f"no file could be used; the first: {left_out[0]['error']}")


@dataclass
class Shards:
    """All files of a run, and those that had to be left out with the reason.

    ``coded`` says that labels were names, which are given as numbers of ``class_names``.
    """

    items: list[Shard]
    left_out: list[dict[str, str]] = field(default_factory=list)
    class_names: tuple[str, ...] | None = None
    coded: bool = False

    def leave_out(self, shard: Shard, why: str) -> None:
        """Go on without a shard; the rows of the others keep their numbers."""
        self.items.remove(shard)
        self.left_out.append({"file": shard.main.name, "error": why})
        if not self.items:
            raise nothing_left(self.left_out)

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.items)

    @property
    def _first(self) -> Source:
        """The predictions of the first file that has rows."""
        return next((shard for shard in self.items if shard.rows), self.items[0]).main

    @property
    def classes(self) -> int | None:
        return self._first.classes

    @property
    def bytes(self) -> int:
        return sum(s.rows * s.row_bytes for one in self.items for s in one.sources.values())

    def most_groups(self) -> tuple[int, int]:
        """How many groups, and clusters of each, there can be."""
        groups, clusters = (
            sum(shard.sources[role].most_values for shard in self.items if role in shard.sources)
            for role in ("groups", "clusters")
        )
        return groups, min(self.rows, clusters * max(1, groups))

    def in_place(self) -> bool:
        """Whether predictions need no buffer, as far as the first file tells."""
        with reading(self._first.name):
            self._first.open()
        return self._first.in_place

    def blocks(self, first_row: int, threads: int, most_rows: int | None = None) -> Iterator[Block]:
        """Blocks from a row on, through all files; none has more than ``most_rows``."""
        budget = max(64 << 10, min(PIECE_BYTES, ALL_BUFFERS // threads))
        end = self.items[-1].first_row + self.items[-1].rows if self.items else 0
        for shard in self.items:
            start = max(0, first_row - shard.first_row)
            row_bytes = sum(source.row_bytes for source in shard.sources.values())
            scattered = any(source.scattered for source in shard.sources.values())
            room = budget * SCATTERED if scattered else budget
            step = rows_within(room, row_bytes)
            block = min(step * PIECES, most_rows or step * PIECES)
            # What only goes forward is read for a whole block: no more of that than one piece.
            ordered = sum(s.row_bytes for s in shard.sources.values() if s.sequential)
            if ordered:
                block = min(block, rows_within(room, ordered))
            while start < shard.rows:
                # Small ones in the end, so that all threads end together.
                left = end - shard.first_row - start
                size = min(block, max(step, left // (2 * threads) // step * step))
                stop = min(shard.rows, start + size)
                yield Block(shard, start, stop, room)
                start = stop

    def place(self, row: int) -> tuple[Shard, int]:
        """The shard that holds a row of the run, and the row's number in it."""
        for shard in self.items:
            if row < shard.first_row + shard.rows:
                return shard, row - shard.first_row
        raise IndexError(row)

    def describe(self, names: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """What the report says of the inputs; ``names`` are what it calls some roles."""
        described = []
        names = names or {}
        for shard in self.items:
            main = shard.main
            named = {names.get(role, role): s.name for role, s in shard.sources.items()}
            classes = {} if main.classes is None else {"classes": main.classes}
            described.append({**named, "rows": shard.rows, **classes, "dtype": main.dtype_name})
        return described

    def identity(self) -> list[list[Any]]:
        """What must be the same for a checkpoint to go on: names, sizes and times of change."""
        return [
            [role, source.name, source.rows, source.classes, source.dtype_name, *source.stamp()]
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
    for sources in sides.values():
        for source, main in zip(sources, predictions, strict=True):
            if source.rows != main.rows:
                raise InputError(
                    f"{source.name}: {source.rows} rows, expected {main.rows} as in {main.name}"
                )
    shards = []
    first_row = 0
    for number, main in enumerate(predictions):
        others = {role: column[number] for role, column in sides.items()}
        shards.append(Shard(first_row, {"predictions": main, **others}))
        first_row += main.rows
    return Shards(shards)


def resolve(references: list[Reference], predictions: list[Reference]) -> list[Reference]:
    """References of a side role, where an empty path means each file of predictions."""
    found = []
    for one in references:
        found += [one] if one.path else [replace(main, part=one.part) for main in predictions]
    return found
