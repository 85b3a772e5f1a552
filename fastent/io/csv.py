"""CSV files: one column per class, or one column of labels, weights or names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastent.io.csv_lines import WIDE, bad_value, first_lines, has_header, is_number, open_wide
from fastent.io.errors import InputError
from fastent.io.npy import first_line
from fastent.io.paths import Reference
from fastent.io.source import Source
from fastent.io.table import Table, open_columns, require_pyarrow

BLOCK_BYTES = 1 << 20


class CsvTable(Table):
    """A CSV file; its rows are counted by reading it once.

    Types follow the role and not the first rows: predictions and weights are float64 even if
    they begin with whole numbers, labels are integers, names of groups stay text.
    """

    def __init__(self, path: str, role: str, names: list[str], first: list[str]) -> None:
        self.path = path
        self._header = has_header(path)
        self.schema = self._typed(role, names, first)
        try:
            with self._open({names[0]: self._arrow.string()}) as reader:
                self.rows = sum(batch.num_rows for batch in reader)
        except self._arrow.ArrowInvalid as error:
            raise self._bad({}, error) from None

    @property
    def _arrow(self) -> Any:
        return require_pyarrow(self.path)  # not kept: tables travel to other processes

    def _typed(self, role: str, names: list[str], first: list[str]) -> Any:
        """Which columns can be numbers is seen from the first row of values."""
        arrow = self._arrow
        kind = arrow.int64() if role in ("labels", "bytes") else arrow.float64()
        if role in ("groups", "clusters"):
            kind = arrow.string()
        numbers = {name for name, text in zip(names, first, strict=False) if is_number(text)}
        return arrow.schema(
            [arrow.field(name, kind if name in numbers else arrow.string()) for name in names]
        )

    def _open(self, types: dict[str, Any]) -> Any:
        import pyarrow.csv as csv

        return csv.open_csv(
            self.path,
            read_options=csv.ReadOptions(
                use_threads=False,
                block_size=BLOCK_BYTES,
                autogenerate_column_names=not self._header,
            ),
            convert_options=csv.ConvertOptions(
                include_columns=list(types),
                column_types=types,
                strings_can_be_null=False,
                null_values=[],
            ),
        )

    def _bad(self, types: dict[str, Any], error: Exception) -> InputError:
        """Arrow does not say in which row a value is bad; looking again does."""
        arrow = self._arrow
        kinds = {arrow.int64(): int, arrow.float64(): float, arrow.string(): str}
        found = bad_value(self.path, {name: kinds[kind] for name, kind in types.items()})
        if found is None:
            return InputError(f"{self.path}: not a readable CSV file: {first_line(error)}")
        return InputError(f"{self.path}: row {found[0]}: {found[1]}")

    def batches(self, columns: list[str], start: int, size: int) -> Iterator[Any]:
        types = {name: self.schema.field(name).type for name in columns}
        try:
            with self._open(types) as reader:
                for batch in reader:
                    if start >= batch.num_rows:
                        start -= batch.num_rows
                        continue
                    yield batch.slice(start)
                    start = 0
        except self._arrow.ArrowInvalid as error:
            raise self._bad(types, error) from None


def open_csv(reference: Reference, role: str) -> Source:
    names, first = first_lines(reference.path)
    if names == [""]:
        raise InputError(f"{reference.path}: an empty file, expected CSV")
    if len(names) > WIDE:
        return open_wide(reference, role, names, first)
    return open_columns(CsvTable(reference.path, role, names, first), reference.part, role)
