"""Names in files: of groups and clusters as text, and of classes as numbers."""

from __future__ import annotations

import numpy as np

from fastent._classes import NAMES_SHOWN, Classes
from fastent.io.errors import InputError
from fastent.io.source import Buffer, Source

BLOCK = 1 << 16
MOST_LABELS = 100_000


class Wrapped(Source):
    """Rows made of those of other sources."""

    def __init__(self, sources: list[Source], dtype: np.dtype) -> None:
        first = sources[0]
        super().__init__(first.path, first.name, first.rows, None, dtype)
        self.parts = sources
        self.sequential = any(source.sequential for source in sources)
        self.scattered = any(source.scattered for source in sources)

    def open(self) -> None:
        for source in self.parts:
            source.open()

    def stamp(self) -> tuple[int, int]:
        stamps = [source.stamp() for source in self.parts]
        return sum(size for size, _ in stamps), max(time for _, time in stamps)

    def close(self) -> None:
        for source in self.parts:
            source.close()


class AsText(Wrapped):
    """Numbers, dates and the like as text."""

    def __init__(self, values: Source) -> None:
        super().__init__([values], np.dtype(object))

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        return as_text(self.parts[0].read(start, stop, buffer))


class Combined(Wrapped):
    """Names of several groupings, one after the other."""

    def __init__(self, sources: list[Source]) -> None:
        super().__init__(sources, np.dtype(object))
        self.name = ", ".join(source.name for source in sources)

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        columns = [as_text(s.read(start, stop, Buffer())) for s in self.parts]
        return np.array([" / ".join(names) for names in zip(*columns, strict=True)], dtype=object)


def as_text(values: np.ndarray) -> np.ndarray:
    """Values as Python shows them; bytes as UTF-8."""
    if values.dtype == object:
        return values
    if values.dtype.kind == "S":
        texts = [value.decode("utf-8", "replace") for value in values.tolist()]
    elif values.dtype.kind in "mM":
        texts = values.astype(str).tolist()
    else:
        texts = [str(value) for value in values.tolist()]
    return np.array(texts, dtype=object)


class ClassCodes(Wrapped):
    """Labels that are names of classes, as their numbers; those that do not count are -1."""

    def __init__(self, labels: Source, names: tuple[str, ...], ignored: int | str | None) -> None:
        super().__init__([labels], np.dtype(np.int64))
        self._classes = Classes(names)
        self._ignored = ignored

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        labels = self.parts[0].read(start, stop, buffer)
        given = as_text(labels) if labels.dtype.kind == "S" else labels
        codes, unknown = self._classes.codes(given, self._ignored, by_text=True)
        if unknown is not None:
            label = str(labels[unknown])
            raise InputError(
                f"{self.name}: row {start + unknown}: no class is called "
                f"{label[:60]!r}, expected one of: {self._classes.shown(NAMES_SHOWN)}"
            )
        return codes


def is_text(source: Source) -> bool:
    return source.dtype.kind in "OUS"


def distinct(source: Source) -> set[str]:
    """The labels of a file; an empty set where there are very many."""
    found: set[str] = set()
    with source:
        for start in range(0, source.rows, BLOCK):
            labels = source.read(start, min(start + BLOCK, source.rows), Buffer())
            found.update(as_text(labels).tolist())
            if len(found) > MOST_LABELS:
                return set()
    return found
