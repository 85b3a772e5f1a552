"""Columns of tables (Parquet, Arrow, CSV, JSON lines) as rows, one record batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastent.io.errors import InputError, telling
from fastent.io.parts import choose_columns
from fastent.io.reading import PLAIN, Reading
from fastent.io.source import Buffer, Source

BATCH_BYTES = 4 << 20  # what one decoded batch should take
TEXTS = ("string", "large_string", "string_view")
NAMED = ("groups", "clusters", "labels", "id", "kept")  # roles whose rows may be text
NULLABLE = ("predictions", "targets", "kept")  # roles where a null is NaN, or None


class Table:
    """A file of record batches. The formats differ in how they count rows and start late."""

    path: str
    schema: Any
    rows: int

    def batches(self, columns: list[str], start: int, size: int, dtype: Any) -> Iterator[Any]:
        """Record batches of ``columns`` that begin at row ``start`` exactly.

        Columns that are turned round on disk come as numbers of ``dtype``.
        """
        raise NotImplementedError


def after(batches: Iterable[Any], start: int) -> Iterator[Any]:
    """Record batches from a row on."""
    for batch in batches:
        if start < batch.num_rows:
            yield batch.slice(start)
        start = max(0, start - batch.num_rows)


def plain(kind: Any) -> Any:
    """The type under dictionaries and extensions."""
    while hasattr(kind, "storage_type") or (hasattr(kind, "index_type") and kind.value_type):
        kind = kind.storage_type if hasattr(kind, "storage_type") else kind.value_type
    return kind


def is_list(kind: Any) -> bool:
    """Whether a type is one of Arrow's lists: fixed, large, views and the rest."""
    return hasattr(kind, "value_field")


def holds(kind: Any) -> str:
    """What a column holds: a "list" of numbers, a "real" or "whole" number, "text" or "other"."""
    import pyarrow.types as types

    kind = plain(kind)
    if is_list(kind):
        return "list"
    if types.is_integer(kind) or types.is_boolean(kind):
        return "whole"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "real"
    return "text" if str(kind) in TEXTS else "other"


def dtype_of(kind: Any, role: str) -> np.dtype:
    """Dtype of a column's numbers; predictions are floats, so that a null can be NaN."""
    found = np.dtype(plain(kind).to_pandas_dtype())  # objects for decimals
    if found.kind == "O" or (role in NULLABLE and found.kind in "iub"):
        return np.dtype(np.float64)
    return found


def open_columns(table: Table, part: str | None, role: str, how: Reading = PLAIN) -> TableRows:
    """The rows of the column, or of the columns one per class, that play a role."""
    fields = {field.name: field.type for field in table.schema}
    if len(fields) < len(table.schema):
        raise InputError(f"{table.path}: two columns have the same name")
    kinds = {name: holds(kind) for name, kind in fields.items()}
    chosen = choose_columns(table.path, kinds, part, role, how)
    if not chosen.per_class:
        return _one_column(table, chosen.names[0], role)
    name = f"{table.path}:{part or chosen.shown()}"
    dtype = np.result_type(*{dtype_of(fields[c], role) for c in chosen.names})
    source = TableRows(table, name, chosen.names, len(chosen.names), dtype, role)
    source.class_names = chosen.classes
    return source


def _one_column(table: Table, column: str, role: str) -> TableRows:
    name = f"{table.path}:{column}"
    kind = plain(table.schema.field(column).type)
    what = holds(kind)

    def rows(dtype: Any, length: int | None = None) -> TableRows:
        return TableRows(table, name, [column], length, np.dtype(dtype), role)

    if what == "list":
        value = plain(kind.value_type)
        if holds(value) not in ("real", "whole"):
            raise InputError(f"{name}: lists of {value}, expected lists of numbers")
        length = getattr(kind, "list_size", None)
        return rows(dtype_of(value, role), length or _list_length(table, column))
    if role == "kept" and what == "whole":  # with all digits, also beside nulls
        source = rows(kind.to_pandas_dtype())
        source.stands_for = source.dtype
        if _has_null(table, column):
            source.dtype = np.dtype(object)
        return source
    if what in ("real", "whole"):
        text = role in ("groups", "clusters", "id") and (
            what == "real" or kind == "bool" or _has_null(table, column)
        )
        return rows(object if text else dtype_of(kind, role))
    if role in NAMED and (what == "text" or role != "labels"):
        return rows(object)
    if {"indices", "values"} <= {kind.field(k).name for k in range(kind.num_fields)}:
        raise InputError(
            f"{name}: Spark ML vectors, expected lists: write pyspark.ml.functions."
            "vector_to_array of the column"
        )
    raise InputError(f"{name}: holds {kind}, expected numbers for {role}")


def _list_length(table: Table, column: str) -> int:
    for batch in table.batches([column], 0, 1, None):
        lists = storage(batch.column(0)).drop_null()
        if len(lists):
            return len(lists[0].values)
    return 0


def _has_null(table: Table, column: str) -> bool:
    return any(batch.column(0).null_count for batch in table.batches([column], 0, 65536, None))


def storage(column: Any) -> Any:
    """A column without dictionary and extension."""
    while hasattr(column, "storage") or hasattr(column, "dictionary_decode"):
        column = column.storage if hasattr(column, "storage") else column.dictionary_decode()
    return column


def numbers_of(column: Any) -> np.ndarray:
    """Numbers as an array, nulls as NaN."""
    if column.type.to_pandas_dtype() is np.object_:  # decimals
        column = column.cast("float64")
    return np.asarray(column.to_numpy(zero_copy_only=False))


class TableRows(Source):
    """Rows gathered from record batches; rows must be asked for in order."""

    sequential = True

    def __init__(
        self,
        table: Table,
        name: str,
        columns: list[str],
        classes: int | None,
        dtype: np.dtype,
        role: str,
    ) -> None:
        super().__init__(table.path, name, table.rows, classes, dtype)
        self.table = table
        self.columns = columns
        self._role = role
        self._batches: Iterator[Any] | None = None
        self._rest: Any = None  # the rows of the current batch that are to come
        self._at = 0
        self._width = 1 if classes is None else classes

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        if self._batches is None or start != self._at:
            size = max(1, min(65536, BATCH_BYTES // max(1, self.row_bytes)))
            self._batches = self.table.batches(self.columns, start, size, self.dtype)
            self._rest = None
        self._at = start
        if len(self.columns) > 1:  # column by column, as they come; tiles are turned in the cache
            rows = buffer.array((len(self.columns), stop - start), self.dtype).T
        else:
            rows = buffer.array(self.shape(stop - start), self.dtype)
        while self._at < stop:
            piece = self._piece(stop - self._at)
            where, count = self._at - start, piece.num_rows
            there = self._in_place(piece) if count == len(rows) else None
            if there is None:
                self._fill(rows[where : where + count], piece)
            else:
                rows = there
            self._rest = self._rest.slice(count)
            self._at += count
        return rows

    def _piece(self, most: int) -> Any:
        """The next rows of a batch, so many at the most."""
        assert self._batches is not None
        while self._rest is None or not self._rest.num_rows:
            self._rest = None  # or it would stay while the next one is read
            what = f"{self.name}: row {self._at}: truncated or corrupted"
            with telling(what, OSError, ValueError):  # pyarrow's ArrowInvalid is a ValueError
                self._rest = next(self._batches, None)
            if self._rest is None:
                raise InputError(f"{what}: expected {self.rows} rows")
        return self._rest.slice(0, most)

    def _fill(self, rows: np.ndarray, piece: Any) -> None:
        for number, column in enumerate(map(storage, piece.columns)):
            if self.dtype == object:
                rows[:] = self._texts(column)
                continue
            if self._role not in NULLABLE:
                self._refuse_null(column, "is null, expected a value")
            table = rows.reshape(len(rows), self._width)
            if is_list(column.type):
                self._lists(table, column)
            else:
                table[:, number] = numbers_of(column)

    def _refuse_null(self, column: Any, why: str, per_row: int = 1) -> None:
        if column.null_count:
            place = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise InputError(f"{self.name}: row {self._at + place // per_row} {why}")

    def _texts(self, column: Any) -> np.ndarray:
        if self._role == "labels":
            self._refuse_null(column, "is null, expected a label")
        if self._role == "kept" and holds(column.type) == "whole":
            return np.array(column.to_pylist(), dtype=object)
        if holds(column.type) in ("real", "whole"):
            shown = ["null" if value is None else str(value) for value in column.to_pylist()]
            return np.array(shown, dtype=object)
        if holds(column.type) != "text":
            try:
                column = column.cast("string")
            except (ValueError, NotImplementedError):
                raise InputError(
                    f"{self.name}: holds {column.type}, expected text or numbers for {self._role}"
                ) from None
        texts = np.asarray(column.to_numpy(zero_copy_only=False), dtype=object)
        if column.null_count and self._role != "kept":
            texts = np.where(column.is_null().to_numpy(zero_copy_only=False), "null", texts)
        return texts

    def _in_place(self, piece: Any) -> np.ndarray | None:
        """The numbers of a column where the library has them; None if there is something to do."""
        column = storage(piece.column(0))
        if len(self.columns) > 1 or self.dtype == object or column.null_count:
            return None
        found = self._values(column) if is_list(column.type) else numbers_of(column)
        return found.reshape(self.shape(len(column))) if found.dtype == self.dtype else None

    def _values(self, column: Any) -> np.ndarray:
        """The numbers of lists, as rows; lists that are null have none."""
        if not hasattr(column.type, "list_size"):
            lengths = column.value_lengths().fill_null(self._width).to_numpy()
            if (lengths != self._width).any():
                row = int(np.argmax(lengths != self._width))
                raise InputError(
                    f"{self.name}: row {self._at + row} has {lengths[row]} numbers, "
                    f"expected {self._width} as in row 0"
                )
        values = storage(column.flatten())
        if self._role not in NULLABLE:
            self._refuse_null(values, "holds a null, expected numbers", max(1, self._width))
        return numbers_of(values).reshape(len(column) - column.null_count, self._width)

    def _lists(self, rows: np.ndarray, column: Any) -> None:
        given = self._values(column)
        if column.null_count:
            present = column.is_valid().to_numpy(zero_copy_only=False)
            rows[present], rows[~present] = given, np.nan
        else:
            rows[:] = given

    def close(self) -> None:
        self._batches = self._rest = None
        self._at = 0
