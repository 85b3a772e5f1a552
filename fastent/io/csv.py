"""Text files: one column per class, or one column of labels, weights or names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastent.io.csv_layout import MISSING, SPACES, Layout, layout, open_bytes
from fastent.io.csv_lines import WIDE, bad_value, count_lines, kind_of, open_lines
from fastent.io.errors import InputError, UnclearHeaderError, first_line, require_pyarrow
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Source
from fastent.io.table import NULLABLE, Table, after, open_columns

BLOCK_BYTES = 1 << 20
TYPES = {"text": "string", "whole": "int64", "real": "float64"}


class CsvTable(Table):
    """A CSV file; its rows are counted by reading it once.

    Types follow the role and not the values: predictions and weights are float64 even if they are
    whole numbers, labels are integers unless one of the first has a point or is text, names of
    groups stay text.
    """

    def __init__(self, found: Layout, names: list[str], role: str, how: Reading) -> None:
        self.path = found.path
        self.layout = found
        self._names = names
        self._missing = MISSING if role in NULLABLE else ()

        def kind(place: int) -> str:
            return kind_of([row[place] for row in found.rows if len(row) > place], role, how)

        self._kinds = {name: kind(place) for place, name in enumerate(names)}
        self.schema = self._schema(self._kinds)
        try:
            with self._open({names[0]: "text"}) as reader:
                self.rows = sum(batch.num_rows for batch in reader)
        except self._arrow.ArrowException as error:
            raise self._bad({}, error) from None

    @property
    def _arrow(self) -> Any:
        return require_pyarrow(self.path)  # not kept: tables travel to other processes

    def _schema(self, kinds: dict[str, str]) -> Any:
        return self._arrow.schema([(name, TYPES[kind]) for name, kind in kinds.items()])

    def _open(self, kinds: dict[str, str]) -> Any:
        import pyarrow.csv as csv

        stream = open_bytes(self.path)
        stream.read(self.layout.begin)
        schema = self._schema(kinds)
        try:
            return csv.open_csv(
                stream,
                read_options=csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=self._names
                ),
                parse_options=csv.ParseOptions(
                    delimiter=self.layout.separator, newlines_in_values=True
                ),
                convert_options=csv.ConvertOptions(
                    include_columns=schema.names,
                    column_types=schema,
                    strings_can_be_null=False,
                    null_values=list(self._missing),
                ),
            )
        except self._arrow.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return self._arrow.RecordBatchReader.from_batches(schema, [])
            raise

    def _bad(self, kinds: dict[str, str], error: Exception) -> InputError:
        """Arrow does not say in which row a value is bad; looking again does."""
        wanted = {name: (self._names.index(name), kind) for name, kind in kinds.items()}
        found = bad_value(self.layout, wanted, self._missing)
        if found is None:
            return InputError(f"{self.path}: not a readable CSV file: {first_line(error)}")
        return InputError(f"{self.path}: row {found[0]}: {found[1]}")

    def batches(self, columns: list[str], start: int, size: int, dtype: Any) -> Iterator[Any]:
        kinds = {name: self._kinds[name] for name in columns}
        try:
            with self._open(kinds) as reader:
                yield from after(reader, start)
        except self._arrow.ArrowException as error:
            raise self._bad(kinds, error) from None


def open_csv(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    path = reference.path
    found = layout(path, role, how)
    if found.header is None:
        found.header = _settled(found, role, how)
    names = found.names()
    if len(names) > WIDE or found.separator == SPACES or len(found.separator.encode()) > 1:
        return open_lines(reference, found, names, role, how)
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name")
    return open_columns(CsvTable(found, names, role, how), reference.part, role, how)


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
    names = replace(found, header=True).names()
    counted = len(names) >= 3 and names == [str(number) for number in range(len(names))]
    if how.certain or role != "predictions" or not counted:  # of classes by their numbers
        raise unclear
    return True
