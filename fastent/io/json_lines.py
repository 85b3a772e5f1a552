"""JSON lines: an object a row, as tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

import numpy as np

from fastent.io.csv_layout import open_bytes
from fastent.io.errors import InputError, require_pyarrow, telling
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Source
from fastent.io.table import NULLABLE, Table, after, is_list, open_columns

BLOCK_BYTES = 4 << 20


class JsonTable(Table):
    """A file of JSON lines.

    Its rows are counted as lines where each is an object by its looks, else by reading it once,
    which is as much work again as reading its numbers.
    """

    def __init__(self, path: str, role: str) -> None:
        arrow = require_pyarrow(path)
        self.path = path
        self.schema = None
        wrong = (arrow.ArrowException, OSError, ValueError)
        with telling(f"{path}: not readable JSON lines", *wrong):
            with self._open() as reader:
                found = reader.schema
            lines = count_lines(path) if role != "kept" else None
            if lines is not None:
                self.schema, self.rows = _widened(found, role in NULLABLE), lines
                return
            try:
                self.rows = self._count(_widened(found, role in NULLABLE and role != "kept"))
            except arrow.ArrowInvalid:
                if role != "kept":
                    raise
                self.rows = self._count(_widened(found, True))  # not all of them are whole

    def _count(self, schema: Any) -> int:
        self.schema = schema
        return sum(batch.num_rows for batch in self._open())

    def _open(self) -> Any:
        import pyarrow.json as json

        # The types of the first rows hold for all: 1 may be followed by 1.5, so numbers are wide.
        return json.open_json(
            open_bytes(self.path),
            read_options=json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=json.ParseOptions(
                explicit_schema=self.schema, unexpected_field_behavior="ignore"
            ),
        )

    def batches(self, columns: list[str], start: int, size: int, dtype: Any) -> Iterator[Any]:
        found = 0
        # None goes out before it is known that there are no more rows than lines.
        for batch, following in pairwise(chain(self._open(), [None])):
            found += batch.num_rows
            if found + (0 if following is None else following.num_rows) > self.rows:
                raise InputError(f"{self.path}: more objects than lines, expected an object a line")
            yield from after([batch.select(columns)], start)
            start = max(0, start - batch.num_rows)


def count_lines(path: str) -> int | None:
    """Lines that are not blank; None if one of them is no object of its own by its looks."""
    count, rest = 0, b""
    with open_bytes(path) as stream:
        while data := stream.read(BLOCK_BYTES):
            whole, _, rest = (rest + data).rpartition(b"\n")
            found = _objects(whole)
            if found is None:
                return None
            count += found
    found = _objects(rest)
    return None if found is None else count + found


def _objects(text: bytes) -> int | None:
    """The same of the lines of a text."""
    letters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    # All lines at once where none is blank or has spaces around its object: six times faster.
    if text[:1] == b"{" and text[-1:] == b"}" and (
        (letters[ends - 1] == ord("}")) & (letters[ends + 1] == ord("{"))
    ).all():  # fmt: skip
        return len(ends) + 1
    lines = [stripped for line in text.split(b"\n") if (stripped := line.strip())]
    whole = all(line.startswith(b"{") and line.endswith(b"}") for line in lines)
    return len(lines) if whole else None


def _widened(schema: Any, floats: bool) -> Any:
    """A schema in which whole numbers are floats, those of lists always."""
    import pyarrow

    def wide(kind: Any, inside: bool) -> Any:
        if is_list(kind):
            return pyarrow.list_(wide(kind.value_type, True))
        return pyarrow.float64() if kind in ("int64", "null") and (inside or floats) else kind

    return pyarrow.schema([(field.name, wide(field.type, False)) for field in schema])


def open_jsonl(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    return open_columns(JsonTable(reference.path, role), reference.part, role, how)
