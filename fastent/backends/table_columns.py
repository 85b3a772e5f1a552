"""Columns of dataframes as NumPy arrays: Arrow's, pandas', Polars', DuckDB's, and lists in objects.

A column of lists is its numbers one after another with the length of each row; where they lie in
one piece, they are a view of it. Missing numbers are NaN, a missing row is refused.
"""

import sys
from itertools import accumulate

import numpy as np

from fastent._extras import missing
from fastent._fork import bring


class ListRows:
    """Rows of a column of lists.

    Attributes
    ----------
    numbers : array
        Those of all rows, one after another; rows of lists have further axes.
    lengths : int64 array
        Of each row, of any shape that the column may have.
    fixed : bool
        Whether the column's type, and not only its rows, has one length.
    """

    def __init__(self, numbers, lengths, fixed=False):
        self.numbers = numbers
        self.lengths = lengths
        self.fixed = fixed

    @property
    def shape(self):
        """Of the array that they make; nan for the length of rows that differ."""
        flat = self.lengths.reshape(-1)
        length = np.nan if self.unequal >= 0 else int(flat[0]) if len(flat) else 1
        return (*self.lengths.shape, length, *self.numbers.shape[1:])

    @property
    def unequal(self):
        """The first row that has not the length of the first one; −1 if there is none."""
        flat = self.lengths.reshape(-1)
        differs = flat != flat[:1] if not self.fixed else flat[:0]
        return int(differs.argmax()) if differs.any() else -1

    def as_array(self, name):
        """Rows of one length as an array; a ValueError that names the first of another."""
        row = self.unequal
        flat = self.lengths.reshape(-1)
        if row >= 0:
            raise ValueError(
                f"{name}: expected rows of equal length, got {flat[0]} in row 0 and {flat[row]} in "
                f"row {row}; only sparse cross-entropy and the sparse task take such rows"
            )
        return self.numbers.reshape(self.shape)


def opened(given, name):
    """What a column of a dataframe holds: an array, or the `ListRows` of lists; what is no such
    column, but NumPy can see by itself, as it is."""
    if type(given) is np.ndarray:
        return _of_objects(given, name)
    if isinstance(given, (list, tuple, float, int, np.ndarray)):
        return given
    if isinstance(given, types_of("pandas", "Series", "Index", "DataFrame")):
        return _of_pandas(given, name)
    if isinstance(given, types_of("polars", "Series", "DataFrame")):
        return _of_polars(given, name)
    if isinstance(given, types_of("pyarrow", "Array", "ChunkedArray", "Table", "RecordBatch")):
        return _of_arrow(given, name)
    if hasattr(given, "__arrow_c_stream__"):
        return _of_arrow(_pyarrow(name).chunked_array(given), name)
    if hasattr(given, "__arrow_c_array__"):
        return _of_arrow(_pyarrow(name).array(given), name)
    if hasattr(given, "collect") and not hasattr(given, "__array__"):
        raise TypeError(
            f"{name}: expected a column, got {type(given).__name__}; collect() it first"
        )
    return given


def types_of(library, *names):
    """Its types; none while nobody has imported it, or while another thread is about to."""
    module = sys.modules.get(library)
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


def _missing(name, row):
    return ValueError(f"{name}: expected a list in every row, got null in row {row}")


# --- objects


def _of_objects(array, name):
    """Rows of an array of lists, tuples or arrays; an array that holds anything else as it is."""
    rows = array.reshape(-1).tolist() if array.dtype == object else []
    if not any(isinstance(row, (list, tuple, np.ndarray)) for row in rows):
        return array
    for number, row in enumerate(rows):
        if row is None or (isinstance(row, float) and row != row):
            raise _missing(name, number)
        if not isinstance(row, (list, tuple, np.ndarray)):
            raise TypeError(f"{name}: expected a list, got {type(row).__name__} in row {number}")
    lists = []
    for number, row in enumerate(rows):
        one = _plain(_of_objects(np.asarray(row), name), name)
        if one.dtype == object:
            one = one.astype(np.float64)
        if one.ndim == 0:
            raise TypeError(f"{name}: expected a list, got {one.dtype} in row {number}")
        lists.append(one)
    lengths = np.fromiter(map(len, lists), np.int64, len(lists)).reshape(array.shape)
    return ListRows(np.concatenate(lists), lengths)


# --- pandas


def _of_pandas(given, name):
    if given.ndim == 2:
        if given.shape[1] != 1 and all(isinstance(dtype, np.dtype) for dtype in given.dtypes):
            return np.asarray(given)
        columns = [_of_pandas(given.iloc[:, k], name) for k in range(given.shape[1])]
        if len(columns) == 1:  # of lists it is these
            return columns[0] if isinstance(columns[0], ListRows) else columns[0].reshape(-1, 1)
        return np.column_stack([_plain(one, name) for one in columns])
    dtype = given.dtype
    if isinstance(dtype, types_of("pandas", "ArrowDtype")):
        return _of_arrow(_pyarrow(name).array(given.array), name)
    if hasattr(dtype, "numpy_dtype") and hasattr(dtype, "na_value"):  # Int64, Float32, boolean
        if not given.isna().any():
            return given.to_numpy(dtype=dtype.numpy_dtype)
        wide = dtype.numpy_dtype if dtype.numpy_dtype.kind == "f" else np.dtype(np.float64)
        return given.to_numpy(dtype=wide, na_value=np.nan)
    return _of_objects(np.asarray(given), name)


def _plain(found, name):
    return found.as_array(name) if isinstance(found, ListRows) else found


# --- Polars


def _of_polars(given, name):
    polars = sys.modules["polars"]
    if isinstance(given, polars.DataFrame):
        if given.width != 1:
            return given.to_numpy()
        found = _of_polars(given.to_series(), name)
        return found if isinstance(found, ListRows) or found.ndim > 1 else found.reshape(-1, 1)
    if given.dtype == polars.Array and not given.null_count():
        return given.to_numpy()
    if given.dtype in (polars.List, polars.Array):
        return _of_arrow(_pyarrow(name).chunked_array(given), name)
    if given.null_count() and (given.dtype.is_numeric() or given.dtype == polars.Boolean):
        return given.cast(polars.Float64).to_numpy()
    return given.to_numpy()


# --- Arrow


def _pyarrow(name):
    try:
        return bring("pyarrow")
    except ModuleNotFoundError as error:
        raise missing(error, "pyarrow", f"{name}: a column of lists") from None


def _of_arrow(given, name):
    """Numbers, or lists; a table of one column is this column, others have one for each class."""
    import pyarrow

    if isinstance(given, (pyarrow.Table, pyarrow.RecordBatch)):
        columns = [_of_arrow(one, name) for one in given.columns]
        if len(columns) == 1:
            return columns[0]
        return np.column_stack([_plain(one, name) for one in columns])
    if pyarrow.types.is_struct(given.type):
        return _of_arrow(pyarrow.Table.from_struct_array(given), name)
    chunks = [given]
    if isinstance(given, pyarrow.ChunkedArray):
        chunks = given.chunks or [pyarrow.array([], given.type)]
    starts = accumulate(map(len, chunks), initial=0)
    found = [_of_chunk(chunk, name, row) for chunk, row in zip(chunks, starts, strict=False)]
    if len(found) == 1:
        return found[0]
    if not isinstance(found[0], ListRows):
        return np.concatenate(found)
    numbers = [rows.numbers for rows in found if len(rows.lengths)] or [found[0].numbers]
    lengths = np.concatenate([rows.lengths for rows in found])
    return ListRows(np.concatenate(numbers), lengths, found[0].fixed)


def _of_chunk(chunk, name, first):
    """The same of one array in one piece, whose first row has the number `first`."""
    import pyarrow
    import pyarrow.compute

    types, kind = pyarrow.types, chunk.type
    if isinstance(chunk, pyarrow.FixedShapeTensorArray):
        rows = chunk.to_numpy_ndarray()
        return rows if chunk.null_count == 0 else _refuse_null(chunk, name, first)
    if isinstance(chunk, pyarrow.ExtensionArray):
        return _of_chunk(chunk.storage, name, first)
    if types.is_dictionary(kind):
        chunk = chunk.dictionary_decode()
        kind = chunk.type
    fixed = types.is_fixed_size_list(kind)
    view = types.is_list_view(kind) or types.is_large_list_view(kind)
    if not (fixed or view or types.is_list(kind) or types.is_large_list(kind)):
        return _numbers(chunk)
    if chunk.null_count:
        return _refuse_null(chunk, name, first)
    if fixed:
        lengths = np.broadcast_to(np.int64(kind.list_size), len(chunk))
    else:
        lengths = np.asarray(pyarrow.compute.list_value_length(chunk)).astype(np.int64)
    numbers = chunk.flatten()
    if view:
        starts = np.asarray(chunk.offsets)[: len(chunk)].astype(np.int64)
        if np.array_equal(starts[1:], (starts + lengths)[:-1]):  # in one piece, in their order
            begin = int(starts[0]) if len(starts) else 0
            numbers = chunk.values.slice(begin, int(lengths.sum()))
    return ListRows(_plain(_of_chunk(numbers, name, 0), name), lengths, fixed)


def _refuse_null(chunk, name, first):
    raise _missing(name, first + int(np.asarray(chunk.is_null()).argmax()))


def _numbers(chunk):
    """An array of numbers, text or dates as NumPy has it."""
    import pyarrow

    types, kind = pyarrow.types, chunk.type
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    if types.is_decimal(kind) or types.is_null(kind) or (number and chunk.null_count):
        chunk = chunk.cast(kind if types.is_floating(kind) else pyarrow.float64())
    return chunk.to_numpy(zero_copy_only=False)
