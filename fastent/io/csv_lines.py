"""CSV by the line: files of very many columns, and where in a file a bad value stands.

Arrow takes memory and time for every column of every block, gigabytes for 250,000 of them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastent.io.csv_layout import (
    KINDS,
    LONGEST_FIELD,
    MISSING,
    SPACES,
    Layout,
    fits,
    open_bytes,
    split,
)
from fastent.io.errors import InputError
from fastent.io.parts import choose_columns
from fastent.io.reading import Reading
from fastent.io.references import Reference
from fastent.io.source import Buffer, Forward, Source
from fastent.io.table import NAMED, NULLABLE

TEXT_ROLES = ("groups", "clusters", "id")
DTYPES = {"text": np.dtype(object), "whole": np.dtype(np.int64), "real": np.dtype(np.float64)}
WIDE = 2000  # columns from which on a file is read by the line
STEP = 1 << 20


def kind_of(values: list[str], role: str, how: Reading) -> str:
    """Whether a column whose first values these are is "text", "whole" numbers or "real" ones."""
    given = [value for value in map(str.strip, values) if value not in MISSING]
    numbers = [value for value in given if fits(value)]
    # A column that begins with a number is one of numbers; another value is an error.
    text = bool(values) and (not numbers or (role in NAMED and given[0] not in numbers))
    if role in TEXT_ROLES or text or (role == "labels" and how.classes is not None):
        return "text"
    if role in ("labels", "bytes", "kept") and all(v.lstrip("+-").isdigit() for v in numbers):
        return "whole"
    return "real"


def lines(found: Layout, start: int) -> Iterator[str]:
    """The lines from a byte offset on, blank ones too."""
    with open_bytes(found.path) as stream:
        stream.read(start)
        for line in io.BufferedReader(stream, STEP):
            yield line.decode("utf-8", "replace").removesuffix("\n")


def count_lines(found: Layout) -> int:
    """Rows after the first line."""
    if found.separator == SPACES:
        return sum(1 for line in lines(found, found.after) if line.strip())
    reader = csv.reader(lines(found, found.after), delimiter=found.separator)
    return sum(1 for fields in reader if fields)


def bad_value(
    found: Layout, columns: dict[str, tuple[int, str]], missing: Sequence[str] = ()
) -> tuple[int, str] | None:
    """The first row whose value in one of the columns is not of its kind, and what is wrong.

    ``columns`` have their place and their kind by name.
    """
    csv.field_size_limit(LONGEST_FIELD)
    count = len(found.first)
    try:
        rows = csv.reader(lines(found, found.begin), delimiter=found.separator)
        for row, fields in enumerate(filter(None, rows)):
            if len(fields) != count:
                return row, f"{len(fields)} columns, expected {count}"
            for name, (place, kind) in columns.items():
                value = fields[place]
                if not fits(value, kind) and value not in missing:
                    return row, f"expected {KINDS[kind][1]} in column {name}, got {value!r}"
    except csv.Error as error:
        return 0, str(error)
    return None


class LineRows(Forward):
    """Rows of a file that is read by the line."""

    def __init__(
        self,
        found: Layout,
        name: str,
        rows: int,
        width: int,
        places: np.ndarray | None,
        kind: str,
        role: str,
    ) -> None:
        """``places`` are those of the columns of classes, None for all; one is a single number."""
        classes = width if places is None else len(places)
        single = places is not None and classes == 1
        super().__init__(found.path, name, rows, None if single else classes, DTYPES[kind])
        self._layout = found
        self._width = width
        self._places = places
        self._kind = kind
        self._missing = MISSING if role in NULLABLE else ()
        if role == "kept" and kind == "whole":  # with all digits, also beside missing ones
            self.stands_for, self.dtype = self.dtype, np.dtype(object)

    def _from_the_first(self) -> Iterator[str]:
        return filter(str.strip, lines(self._layout, self._layout.begin))

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        found = buffer.array(self.shape(stop - start), self.dtype)
        for row, line in enumerate(self._items(start, stop)):
            found[row] = self._values(line or "")
        return found

    def _values(self, line: str) -> Any:
        separator = self._layout.separator
        if self.classes is not None and separator != SPACES:
            try:  # without a string for each number
                numbers = np.loadtxt([line], delimiter=separator, comments=None, quotechar='"',
                                     ndmin=1)  # fmt: skip
                if numbers.shape == (self._width,):
                    return numbers if self._places is None else numbers[self._places]
            except ValueError:
                pass
        fields = split(line, separator)
        if len(fields) != self._width:
            raise InputError(
                f"{self.name}: row {self._at}: {len(fields)} columns, expected {self._width}"
            )
        chosen = fields if self._places is None else [fields[place] for place in self._places]
        if self._kind == "text":
            return chosen[0]
        if self.stands_for is not None:
            return None if chosen[0].strip() in MISSING else self._number(chosen[0])
        try:
            numbers = np.array(chosen, dtype=self.dtype)
        except (ValueError, OverflowError):
            numbers = np.array([self._number(field) for field in chosen], self.dtype)
        return numbers if self.classes is not None else numbers[0]

    def _number(self, text: str) -> Any:
        if text.strip() in self._missing:
            return np.nan
        if not fits(text, self._kind):
            what = KINDS[self._kind][1]
            raise InputError(f"{self.name}: row {self._at}: expected {what}, got {text!r}")
        return KINDS[self._kind][0](text)


def open_lines(
    reference: Reference, found: Layout, names: list[str], role: str, how: Reading
) -> Source:
    """The columns that play a role, of a file that is read by the line."""
    path, width = found.path, len(names)
    rows = sum(1 for line in lines(found, found.begin) if line.strip())
    texts = found.rows[0] if found.rows else ["0"] * width
    kinds = dict.fromkeys(names, "text")
    for name, text in zip(names, texts, strict=False):
        if fits(text) or text.strip() in MISSING:
            kinds[name] = "real"
    if len(kinds) < width:
        raise InputError(f"{path}: two columns have the same name")
    # A million strings each: no more of them at a time than must be.
    values_of = [] if role in ("predictions", "targets") else found.rows
    found.first, found.sample, texts = [], [], []
    chosen = choose_columns(path, kinds, reference.part, role, how)
    columns = chosen.names
    part = chosen.shown()
    if chosen.per_class:
        kind = "real" if all(kinds[column] == "real" for column in columns) else "text"
    else:
        place = names.index(columns[0])
        kind = kind_of([row[place] for row in values_of if len(row) == width], role, how)
    if kind == "text" and role not in NAMED:
        raise InputError(f"{path}:{part}: expected numbers for {role}")
    places: np.ndarray | None = None
    if columns != names or len(columns) == 1:
        del kinds
        order = {name: place for place, name in enumerate(names)}
        places = np.array([order[column] for column in columns])
    source = LineRows(found, f"{path}:{part}", rows, width, places, kind, role)
    source.class_names = chosen.classes
    return source
