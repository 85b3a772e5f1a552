"""CSV by the line: files of very many columns, and where in a file a bad value stands.

Arrow takes memory and time for every column of every block, gigabytes for 250,000 of them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np

from fastent.io.errors import InputError
from fastent.io.parts import choose_columns
from fastent.io.paths import Reference
from fastent.io.source import Buffer, Source

WIDE = 2000  # columns from which on a file is read by the line
LONGEST_FIELD = 1 << 20


def real(text: str) -> float:
    """A number as CSV has them; Python's own rules allow 1_000 too."""
    if "_" in text:
        raise ValueError
    return float(text)


def whole(text: str) -> int:
    number = int(text)
    if "_" in text or not -(1 << 63) <= number < 1 << 63:
        raise ValueError
    return number


def unspoilt(text: str) -> str:
    """Text that was UTF-8; the reader of lines puts U+FFFD where it was not."""
    if "\ufffd" in text:
        raise ValueError
    return text


KINDS: dict[Callable[[str], object], str] = {
    real: "a number",
    whole: "a whole number of 64 bits",
    unspoilt: "UTF-8 text",
}


def fits(text: str, kind: Callable[[str], object] = real) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def split(line: str) -> list[str]:
    """Fields of a line of numbers and short names."""
    if '"' in line:
        return next(csv.reader([line]))
    return line.rstrip("\r\n").split(",")


def open_lines(path: str) -> IO[str]:
    """The text of a file, without the mark that spreadsheets put before it."""
    return open(path, encoding="utf-8-sig", errors="replace", newline="")


def first_lines(path: str) -> tuple[list[str], list[str]]:
    """Names of the columns, made up where there is no header, and the first row of values."""
    with open_lines(path) as stream:
        lines = filter(str.strip, stream)
        fields = split(next(lines, ""))
        if all(map(fits, fields)):
            return [f"f{number}" for number in range(len(fields))], fields
        line = next(lines, "")
        return fields, split(line) if line else []


def has_header(path: str) -> bool:
    with open_lines(path) as stream:
        return not all(map(fits, split(next(filter(str.strip, stream), ""))))


def bad_value(path: str, columns: dict[str, Callable[[str], object]]) -> tuple[int, str] | None:
    """The first row whose value in one of the columns is not of its kind, and what is wrong."""
    names, _ = first_lines(path)
    places = {names.index(name): (name, kind) for name, kind in columns.items()}
    csv.field_size_limit(LONGEST_FIELD)
    with open_lines(path) as stream:
        lines = filter(None, csv.reader(stream))
        if has_header(path):
            next(lines)
        for row, fields in enumerate(lines):
            if len(fields) != len(names):
                return row, f"{len(fields)} columns, expected {len(names)}"
            for place, (name, kind) in places.items():
                if not fits(fields[place], kind):
                    return row, f"expected {KINDS[kind]} in column {name}, got {fields[place]!r}"
    return None


class LineRows(Source):
    """Rows of a wide CSV file; to be asked for in order."""

    sequential = True

    def __init__(
        self, path: str, name: str, rows: int, places: list[int], columns: int, vector: bool
    ) -> None:
        super().__init__(path, name, rows, len(places) if vector else None, np.dtype(np.float64))
        self._places = places
        self._columns = columns
        self._lines: Iterator[str] | None = None
        self._stream: IO[str] | None = None
        self._at = 0

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        if self._lines is None or start < self._at:
            self.close()
            header = has_header(self.path)
            self._stream = open_lines(self.path)
            self._lines = filter(str.strip, self._stream)
            if header:
                next(self._lines)
        while self._at < start:
            next(self._lines, None)
            self._at += 1
        found = buffer.array((stop - start, len(self._places)), self.dtype)
        for row in found:
            row[:] = self._numbers(split(next(self._lines, "")))
            self._at += 1
        return found.reshape(self.shape(stop - start))

    def _numbers(self, fields: list[str]) -> np.ndarray:
        if len(fields) != self._columns:
            raise InputError(
                f"{self.name}: row {self._at}: {len(fields)} columns, expected {self._columns}"
            )
        if len(self._places) < self._columns:
            fields = [fields[place] for place in self._places]
        try:
            return np.array(fields, dtype=np.float64)
        except ValueError:
            bad = next(field for field in fields if not fits(field))
            raise InputError(
                f"{self.name}: row {self._at}: expected a number, got {bad!r}"
            ) from None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = self._lines = None
        self._at = 0


def open_wide(reference: Reference, role: str, names: list[str], first: list[str]) -> Source:
    """The columns of a wide file that play a role."""
    path = reference.path
    kinds = {
        name: "number" if not first or (k < len(first) and fits(first[k])) else "other"
        for k, name in enumerate(names)
    }
    columns = choose_columns(path, kinds, reference.part, role)
    vector = len(columns) > 1
    part = f"{columns[0]}..{columns[-1]}" if vector else columns[0]
    if any(kinds[column] != "number" for column in columns):
        raise InputError(f"{path}:{part}: expected numbers for {role}")
    numbers = {name: k for k, name in enumerate(names)}
    with open_lines(path) as stream:
        rows = sum(1 for line in stream if line.strip()) - has_header(path)
    places = [numbers[column] for column in columns]
    return LineRows(path, f"{path}:{part}", rows, places, len(names), vector)
