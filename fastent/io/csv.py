"""CSV files: one column per class, or one column of labels, weights or names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastent.io.csv_lines import (
    WIDE,
    bad_value,
    first_lines,
    fits,
    has_header,
    open_wide,
    real,
    unspoilt,
    whole,
)
from fastent.io.errors import InputError, first_line
from fastent.io.paths import Reference
from fastent.io.source import Source
from fastent.io.table import Table, open_columns, require_pyarrow

BLOCK_BYTES = 1 << 20


class CsvTable(Table):
    """A CSV file; its rows are counted by reading it once.

    Types follow the role and not the first rows: predictions and weights are float64 even if
    they begin with whole numbers, labels are integers unless the first has a point, names of groups
    stay text.
    """

    def __init__(self, path: str, role: str, names: list[str], first: list[str]) -> None:
        self.path = path
        self._header = has_header(path)
        self.schema = self._typed(role, names, first)
        try:
            with self._open({names[0]: self._arrow.string()}) as reader:
                self.rows = sum(batch.num_rows for batch in reader)
        except self._arrow.ArrowException as error:
            raise self._bad({}, error) from None

    @property
    def _arrow(self) -> Any:
        return require_pyarrow(self.path)  # not kept: tables travel to other processes

    def _typed(self, role: str, names: list[str], first: list[str]) -> Any:
        """Which columns can be numbers is seen from the first row of values, if there is one."""
        arrow = self._arrow

        def kind(text: str) -> Any:
            if role in ("groups", "clusters") or not fits(text):
                return arrow.string()
            return (
                arrow.int64()
                if role in ("labels", "bytes") and fits(text, whole)
                else (arrow.float64())
            )

        texts = first or ["0"] * len(names)
        texts += [""] * (len(names) - len(texts))
        return arrow.schema([(name, kind(text)) for name, text in zip(names, texts, strict=False)])

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
        kinds = {arrow.int64(): whole, arrow.float64(): real, arrow.string(): unspoilt}
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
        except self._arrow.ArrowException as error:
            raise self._bad(types, error) from None


def open_csv(reference: Reference, role: str) -> Source:
    names, first = first_lines(reference.path)
    if names == [""]:
        raise InputError(f"{reference.path}: an empty file, expected CSV")
    if len(names) > WIDE:
        return open_wide(reference, role, names, first)
    return open_columns(CsvTable(reference.path, role, names, first), reference.part, role)
