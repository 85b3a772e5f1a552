"""Text files: one column per class, or one column of labels, weights or names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastent.io.csv_layout import (
    MISSING,
    SPACES,
    Layout,
    counted_classes,
    layout,
    open_bytes,
    real,
    unspoilt,
    whole,
)
from fastent.io.csv_lines import WIDE, bad_value, count_lines, kind_of, open_wide
from fastent.io.errors import InputError, UnclearHeaderError, first_line, require_pyarrow
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Source
from fastent.io.table import NULLABLE, Table, after, open_columns

BLOCK_BYTES = 1 << 20


class CsvTable(Table):
    """A CSV file; its rows are counted by reading it once.

    Types follow the role and not the values: predictions and weights are float64 even if they are
    whole numbers, labels are integers unless one of the first has a point or is text, names of
    groups stay text.
    """

    def __init__(self, found: Layout, header: bool, role: str, how: Reading) -> None:
        self.path = found.path
        self.layout = found
        self._header = header
        self._role = role
        self.names = found.names(header)
        self.schema = self._typed(role, how)
        try:
            with self._open({self.names[0]: self._arrow.string()}) as reader:
                self.rows = sum(batch.num_rows for batch in reader)
        except self._arrow.ArrowException as error:
            raise self._bad({}, error) from None

    @property
    def _arrow(self) -> Any:
        return require_pyarrow(self.path)  # not kept: tables travel to other processes

    def _typed(self, role: str, how: Reading) -> Any:
        """Which columns can be numbers is seen from the first rows of values."""
        arrow = self._arrow
        rows = self.layout.rows(self._header)

        types = {"text": arrow.string(), "whole": arrow.int64(), "real": arrow.float64()}

        def kind(place: int) -> Any:
            return types[kind_of([row[place] for row in rows if len(row) > place], role, how)]

        return arrow.schema([(name, kind(k)) for k, name in enumerate(self.names)])

    def _open(self, types: dict[str, Any]) -> Any:
        import pyarrow.csv as csv

        stream = open_bytes(self.path)
        stream.read(self.layout.after if self._header else self.layout.start)
        nulls = self._role in NULLABLE
        try:
            return csv.open_csv(
                stream,
                read_options=csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=self.names
                ),
                parse_options=csv.ParseOptions(
                    delimiter=self.layout.separator, newlines_in_values=True
                ),
                convert_options=csv.ConvertOptions(
                    include_columns=list(types),
                    column_types=types,
                    strings_can_be_null=False,
                    null_values=list(MISSING) if nulls else [],
                ),
            )
        except self._arrow.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                schema = self._arrow.schema(list(types.items()))
                return self._arrow.RecordBatchReader.from_batches(schema, [])
            raise

    def _bad(self, types: dict[str, Any], error: Exception) -> InputError:
        """Arrow does not say in which row a value is bad; looking again does."""
        arrow = self._arrow
        kinds: dict[Any, Callable[[str], object]]
        kinds = {arrow.int64(): whole, arrow.float64(): real, arrow.string(): unspoilt}
        wanted = {self.names.index(name): (name, kinds[kind]) for name, kind in types.items()}
        missing = MISSING if self._role in NULLABLE else ()
        found = bad_value(self.layout, self._header, wanted, missing)
        if found is None:
            return InputError(f"{self.path}: not a readable CSV file: {first_line(error)}")
        return InputError(f"{self.path}: row {found[0]}: {found[1]}")

    def batches(self, columns: list[str], start: int, size: int, dtype: Any) -> Iterator[Any]:
        types = {name: self.schema.field(name).type for name in columns}
        try:
            with self._open(types) as reader:
                yield from after(reader, start)
        except self._arrow.ArrowException as error:
            raise self._bad(types, error) from None


def open_csv(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    path = reference.path
    found = layout(path, role, how)
    header = found.header
    if header is None:
        header = _settled(found, role, how)
    names = found.names(header)
    by_line = len(names) > WIDE or found.separator == SPACES or len(found.separator.encode()) > 1
    if by_line:
        return open_wide(reference, found, header, role, how)
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name")
    table = CsvTable(found, header, role, how)
    return open_columns(table, reference.part, role, how)


def _settled(found: Layout, role: str, how: Reading) -> bool:
    """Whether a first line that may be a header or a row is one, by what else is known."""
    path = found.path
    unclear = UnclearHeaderError(
        f"{path}: is the first line a header or a row? expected --header yes or --header no"
    )
    if how.rows is not None:
        lines = count_lines(found)  # after the first
        if how.rows not in (lines, lines + 1):
            raise InputError(
                f"{path}: {lines} rows after the first line, expected {how.rows} as in the file "
                "that goes with it"
            )
        return how.rows == lines
    if how.certain or role != "predictions" or not counted_classes(found.names(True)):
        raise unclear
    return True
