"""Columns of tables (Parquet, Arrow, Feather, CSV) as rows, one record batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.errors import InputError, first_line
from fastent.io.parts import choose_columns
from fastent.io.source import Buffer, Source

BATCH_BYTES = 4 << 20  # what one decoded batch should take


def require_pyarrow(path: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        suffix = path[path.rfind(".") :]
        raise InputError(f"{path}: {suffix} needs the package pyarrow (extra 'cli')") from None
    return pyarrow


class Table:
    """A file of record batches. The formats differ in how they count rows and start late."""

    path: str
    schema: Any
    rows: int

    def batches(self, columns: list[str], start: int, size: int) -> Iterator[Any]:
        """Record batches of ``columns`` that begin at row ``start`` exactly."""
        raise NotImplementedError


def holds(kind: Any) -> str:
    """What a column holds: a "list" of numbers per row, a "number", or something "other"."""
    import pyarrow.types as types

    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        return "list"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "number"
    return "other"


def open_columns(table: Table, part: str | None, role: str) -> Source:
    """The rows of the column, or of the columns one per class, that play a role."""
    fields = {field.name: field.type for field in table.schema}
    if len(fields) < len(table.schema):
        raise InputError(f"{table.path}: two columns have the same name")
    columns = choose_columns(table.path, {n: holds(k) for n, k in fields.items()}, part, role)
    if len(columns) > 1 or (part is not None and columns != [part]):
        name = f"{table.path}:{part or columns[0] + '..' + columns[-1]}"
        dtype = np.result_type(*{np.dtype(fields[c].to_pandas_dtype()) for c in columns})
        return TableRows(table, name, columns, len(columns), dtype)
    (column,) = columns
    name = f"{table.path}:{column}"
    kind = fields[column]
    if holds(kind) == "list":
        dtype = np.dtype(kind.value_type.to_pandas_dtype())
        if dtype.kind not in "fiu":
            raise InputError(f"{name}: lists of {kind.value_type}, expected lists of numbers")
        return TableRows(table, name, columns, _list_length(table, column, name), dtype)
    if holds(kind) == "number":
        return TableRows(table, name, columns, None, np.dtype(kind.to_pandas_dtype()))
    if role in ("groups", "clusters"):
        return TableRows(table, name, columns, None, np.dtype(object))
    raise InputError(f"{name}: holds {kind}, expected numbers for {role}")


def _list_length(table: Table, column: str, name: str) -> int:
    kind = table.schema.field(column).type
    if getattr(kind, "list_size", None) is not None:
        return int(kind.list_size)
    for batch in table.batches([column], 0, 1):
        if batch.num_rows:
            length = batch.column(0)[0].values
            if length is None:
                raise InputError(f"{name}: row 0 is null, expected a list of numbers")
            return len(length)
    return 0


class TableRows(Source):
    """Rows gathered from record batches; rows must be asked for in order."""

    sequential = True

    def __init__(
        self, table: Table, name: str, columns: list[str], classes: int | None, dtype: np.dtype
    ) -> None:
        super().__init__(table.path, name, table.rows, classes, dtype)
        self._table = table
        self.columns = columns
        self._batches: Iterator[Any] | None = None
        self._batch: Any = None
        self._used = 0
        self._at = 0

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        if self._batches is None or start != self._at:
            size = max(1, min(65536, BATCH_BYTES // max(1, self.row_bytes)))
            self._batches = self._table.batches(self.columns, start, size)
            self._batch, self._used = None, 0
        if self.dtype == object:
            rows = np.empty(stop - start, dtype=object)
        else:
            rows = buffer.array(self.shape(stop - start), self.dtype)
        self._at = start
        while self._at < stop:
            self._advance()
            count = min(stop - self._at, self._batch.num_rows - self._used)
            piece = self._batch.slice(self._used, count)
            where = self._at - start
            self._fill(rows[where : where + count], piece)
            self._used += count
            self._at += count
        return rows

    def _advance(self) -> None:
        """Make the current batch one that has rows left."""
        assert self._batches is not None
        while self._batch is None or self._used == self._batch.num_rows:
            self._batch = None  # or it would stay while the next one is read
            try:
                self._batch = next(self._batches, None)
            except InputError:
                raise
            except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
                raise self._corrupt(first_line(error)) from None
            self._used = 0
            if self._batch is None:
                raise self._corrupt(f"expected {self.rows} rows")

    def _corrupt(self, why: str) -> InputError:
        return InputError(f"{self.name}: row {self._at}: truncated or corrupted: {why}")

    def _fill(self, rows: np.ndarray, piece: Any) -> None:
        for number, column in enumerate(piece.columns):
            if column.null_count:
                nulls = column.is_null().to_numpy(zero_copy_only=False)
                row = self._at + int(np.argmax(nulls))
                raise InputError(f"{self.name}: row {row} is null, expected a value")
            if hasattr(column, "dictionary_decode"):
                column = column.dictionary_decode()
            if self.classes is None:
                rows[:] = column.to_numpy(zero_copy_only=False)
            elif holds(column.type) == "list":
                rows[:] = self._lists(column)
            else:
                rows[:, number] = column.to_numpy(zero_copy_only=False)

    def _lists(self, column: Any) -> np.ndarray:
        import pyarrow.compute as compute

        assert self.classes is not None
        if getattr(column.type, "list_size", None) is None:
            lengths = compute.list_value_length(column).to_numpy()
            if (lengths != self.classes).any():
                row = int(np.argmax(lengths != self.classes))
                raise InputError(
                    f"{self.name}: row {self._at + row} has {lengths[row]} numbers, "
                    f"expected {self.classes} as in row 0"
                )
        values = column.flatten()
        if values.null_count:
            nulls = values.is_null().to_numpy(zero_copy_only=False)
            row = self._at + int(np.argmax(nulls)) // self.classes
            raise InputError(f"{self.name}: row {row} holds a null, expected numbers")
        return np.asarray(values.to_numpy()).reshape(len(column), self.classes)

    def close(self) -> None:
        self._batches = self._batch = None
        self._used = self._at = 0
