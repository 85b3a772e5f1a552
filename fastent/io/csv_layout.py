"""Separator, header and kinds of the columns of a text file, from its first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fastent.io.errors import InputError, require_pyarrow, telling
from fastent.io.parts import COUNTERS, PREDICTIONS, SIDES
from fastent.io.reading import Reading
from fastent.io.references import suffix_of

HEAD_BYTES = 1 << 16
SAMPLE = 100  # rows that say what columns hold
SAMPLED_FIELDS = 100_000
LONGEST_FIELD = 1 << 20
SPACES = " "  # between columns: any number of them
MISSING = ("", "NA", "N/A", "NULL", "null", "None")  # and nan, which is a number
DECIMAL_COMMA = re.compile(r'"?[+-]?\d*,\d+(e[+-]?\d+)?"?', re.IGNORECASE)
QUOTED = re.compile(r'"[^"]*"')
MARK = b"\xef\xbb\xbf"  # that spreadsheets put before UTF-8


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


KINDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "text": (unspoilt, "UTF-8 text"),
    "whole": (whole, "a whole number of 64 bits"),
    "real": (real, "a number"),
}


def fits(text: str, kind: str = "real") -> bool:
    try:
        KINDS[kind][0](text)
    except ValueError:
        return False
    return True


@dataclass
class Layout:
    """What the first lines of a file say."""

    path: str
    separator: str
    first: list[str]  # fields of the first line
    sample: list[list[str]]  # fields of some lines after it
    start: int  # byte offset of the first line, once inflated
    after: int  # and of what follows it
    header: bool | None  # whether the first line has names; None where it cannot be told

    def names(self) -> list[str]:
        if self.header:
            return [cleaned(name, k) for k, name in enumerate(self.first)]
        return [f"f{number}" for number in range(len(self.first))]

    @property
    def rows(self) -> list[list[str]]:
        """Some rows of values."""
        return self.sample if self.header else [self.first, *self.sample]

    @property
    def begin(self) -> int:
        """Byte offset of the rows."""
        return self.after if self.header else self.start


def cleaned(name: str, place: int) -> str:
    """A name without the space after its comma, and without the # that NumPy writes."""
    name = name.strip()
    return name[1:].strip() if place == 0 and name.startswith("#") else name


def open_bytes(path: str) -> Any:
    """The bytes of a text file, inflated by the library where they are compressed."""
    arrow = require_pyarrow(path)
    packed = (suffix_of(path) or "").rsplit(".", 1)[-1]
    codec = {"gz": "gzip", "bz2": "bz2", "zst": "zstd", "lz4": "lz4", "br": "brotli"}.get(packed)
    stream = arrow.OSFile(path)
    return stream if codec is None else arrow.CompressedInputStream(stream, codec)


def records(data: bytes, at: int, finished: bool) -> Iterator[tuple[int, int]]:
    """Begin and end of each line that is not blank; a line end inside quotes is none."""
    begin = at
    quoted = False
    while at < len(data):
        end = data.find(b"\n", at)
        if end < 0:
            if not finished:
                return
            end = len(data) - 1
        quoted ^= bool(data.count(b'"', at, end + 1) & 1)
        at = end + 1
        if not quoted or (finished and at == len(data)):
            if data[begin:at].strip():
                yield begin, at
            begin, quoted = at, False


def split(text: str, separator: str) -> list[str]:
    """Fields of a line."""
    if separator == SPACES:
        return text.split()
    if '"' in text:
        csv.field_size_limit(LONGEST_FIELD)
        return next(csv.reader([text.rstrip("\r\n")], delimiter=separator, skipinitialspace=True))
    return text.rstrip("\r\n").split(separator)


def layout(path: str, role: str, how: Reading) -> Layout:
    """Look at the first lines of a file."""
    data = b""
    found: list[tuple[int, int]] = []
    arrow = require_pyarrow(path)
    unreadable = telling(f"{path}: cannot be read", arrow.ArrowException, OSError, EOFError)
    with unreadable, open_bytes(path) as stream:
        while len(found) < 2:
            piece = stream.read(max(HEAD_BYTES, len(data)))
            data += piece
            start = len(MARK) if data.startswith(MARK) else 0
            found = list(islice(records(data, start, not piece), SAMPLE + 1))
            if not piece:
                break
    if not found:
        raise InputError(f"{path}: an empty file, expected rows")

    def line(place: tuple[int, int]) -> str:
        return data[slice(*place)].decode("utf-8", "replace")

    text = line(found[0])
    if "\0" in text[:1000]:
        raise InputError(f"{path}: no UTF-8 text (UTF-16, or not a text file)")
    if "\r" in QUOTED.sub("", text).rstrip("\r\n"):
        raise InputError(f"{path}: lines end in carriage returns alone, expected line feeds")
    separator = _separator(path, text, [line(place) for place in found[1:3]], how)
    fields = split(text, separator)
    few = found[1 : max(2, min(SAMPLE, SAMPLED_FIELDS // len(fields)))]
    sample = [split(line(place), separator) for place in few]
    _demand_points(path, separator, [fields, *sample])
    if sample and len(fields) > SAMPLED_FIELDS:  # what they are like is enough, and takes no memory
        sample = [[_like(field) for field in sample.pop()]]
    header = how.header if how.header is not None else has_header(fields, sample, role)
    return Layout(path, separator, fields, sample, found[0][0], found[0][1], header)


def _like(field: str) -> str:
    """A field that is of the same kind, the same object for each kind of number."""
    if field.lstrip("+-").isdigit():
        return "0"
    return "0.5" if fits(field) else field


def _demand_points(path: str, separator: str, lines: list[list[str]]) -> None:
    """Refuse numbers with decimal commas, which spreadsheets write in many languages."""
    for fields in lines if separator != "," else ():
        commas = sum(map(bool, map(DECIMAL_COMMA.fullmatch, fields)))
        if 2 * commas >= len(fields):
            raise InputError(
                f"{path}: columns seem to be separated by {separator!r}, with decimal commas: "
                "expected commas between columns and points in numbers"
            )


def _separator(path: str, line: str, below: list[str], how: Reading) -> str:
    if how.separator is not None:
        return how.separator
    suffix = how.format or suffix_of(path) or ""
    if suffix.startswith(".tsv"):
        return "\t"
    counts = {mark: line.count(mark) for mark in ",\t;|"}
    if suffix.startswith(".txt"):
        likely = max(counts, key=lambda mark: counts[mark])
        likely = "\t" if counts["\t"] else likely
        return likely if counts[likely] else SPACES
    if not counts[","]:
        for mark, name, shown in (("\t", "tabs", "TAB"), (";", "';'", "';'"), ("|", "'|'", "'|'")):
            if counts[mark]:
                _demand_points(path, mark, [split(line, mark), *(split(b, mark) for b in below)])
                raise InputError(
                    f"{path}: columns seem to be separated by {name}, expected commas, or "
                    f"--separator {shown}"
                )
        fields = line.split()
        if len(fields) > 1 and all(map(fits, fields)):
            raise InputError(
                f"{path}: columns seem to be separated by spaces, expected commas, or "
                "--separator ' '"
            )
    elif counts[";"]:
        _demand_points(path, ";", [split(line, ";")])
    return ","


def has_header(first: list[str], sample: list[list[str]], role: str) -> bool | None:
    """Whether the first line has names; None where it may be a row."""
    names = [cleaned(name, k) for k, name in enumerate(first)]
    numbers = [fits(name) for name in names]
    if all(numbers):
        return None if all(fits(name, "whole") for name in names) else False
    if any(number and not fits(name, "whole") for name, number in zip(names, numbers, strict=True)):
        return None  # a row of numbers and text, or a name that is a number with a point
    usual = {name.lower() for name in names}
    if usual & (SIDES | set(PREDICTIONS) if role != "kept" else SIDES) or not sample:
        return True
    if any(COUNTERS.fullmatch(name) for name in names):
        return True
    below = sample[0]
    if len(below) != len(first):
        return True
    values = zip(numbers, below, strict=True)
    if any(not number and (fits(value) or value in MISSING) for number, value in values):
        return True
    return None
