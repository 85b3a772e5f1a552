"""CSV files: one column per class, or one column of labels, weights or names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastent.io.errors import InputError
from fastent.io.npy import first_line
from fastent.io.paths import Reference
from fastent.io.source import Source
from fastent.io.table import Table, open_columns, require_pyarrow

BLOCK_BYTES = 8 << 20  # a row must fit: 250,000 numbers of up to 32 characters


class CsvTable(Table):
    """A CSV file; its rows are counted by reading it once.

    Types follow the role and not the first rows: predictions and weights are float64 even if
    they begin with whole numbers, labels are integers, names of groups stay text.
    """

    def __init__(self, path: str, role: str) -> None:
        self._arrow = require_pyarrow(path)
        self.path = path
        self._role = role
        self._header = self._has_header()
        try:
            with self._open({}) as reader:
                names = reader.schema.names
            with self._open({names[0]: self._arrow.string()}) as reader:
                self.rows = sum(batch.num_rows for batch in reader)
        except self._arrow.ArrowException as error:
            raise InputError(f"{path}: not a readable CSV file: {first_line(error)}") from None
        self.schema = self._typed(names)

    def _has_header(self) -> bool:
        """No header when every field of the first line is a number."""
        with open(self.path, encoding="utf-8", errors="replace") as stream:
            fields = stream.readline().strip().split(",")
        try:
            for field in fields:
                float(field.strip('"'))
        except ValueError:
            return True
        return False

    def _typed(self, names: list[str]) -> Any:
        """Which columns can be numbers is seen from the first row of values."""
        arrow = self._arrow
        first = []
        with open(self.path, encoding="utf-8", errors="replace") as stream:
            for _ in range(2 if self._header else 1):
                first = stream.readline().strip().split(",")
        whole = arrow.int64() if self._role in ("labels", "bytes") else arrow.float64()
        fields = []
        for number, name in enumerate(names):
            try:
                float(first[number].strip('"'))
                kind = whole if self._role not in ("groups", "clusters") else arrow.string()
            except (ValueError, IndexError):
                kind = arrow.string()
            fields.append(arrow.field(name, kind))
        return arrow.schema(fields)

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

    def batches(self, columns: list[str], start: int, size: int) -> Iterator[Any]:
        types = {name: self.schema.field(name).type for name in columns}
        with self._open(types) as reader:
            for batch in reader:
                if start >= batch.num_rows:
                    start -= batch.num_rows
                    continue
                yield batch.slice(start)
                start = 0


def open_csv(reference: Reference, role: str) -> Source:
    return open_columns(CsvTable(reference.path, role), reference.part, role)
