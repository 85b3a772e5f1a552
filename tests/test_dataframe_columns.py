"""Columns of dataframes: the same numbers as the array, without a copy, or refused in a line."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fastent as fe
from fastent.backends.views import as_numpy

RNG = np.random.default_rng(4)
ROWS, CLASSES = 40, 5
P, Q = RNG.dirichlet(np.ones(CLASSES), (2, ROWS))
LABELS = RNG.integers(0, CLASSES, ROWS)
WEIGHTS = RNG.random(ROWS)
FLOATS = {np.dtype(np.float64): pa.float64(), np.dtype(np.float32): pa.float32()}


def arrow(kind, chunks=1):
    def make(x):
        kinds = {
            "list": pa.list_(FLOATS[x.dtype]),
            "large": pa.large_list(FLOATS[x.dtype]),
            "view": pa.list_view(FLOATS[x.dtype]),
            "large view": pa.large_list_view(FLOATS[x.dtype]),
            "fixed": pa.list_(FLOATS[x.dtype], x.shape[1]),
        }
        parts = [pa.array(part.tolist(), kinds[kind]) for part in np.array_split(x, chunks)]
        return parts[0] if chunks == 1 else pa.chunked_array(parts)

    return make


class Capsule:
    """What offers nothing but Arrow's interface."""

    def __init__(self, column, stream):
        self.column = column
        name = "__arrow_c_stream__" if stream else "__arrow_c_array__"
        setattr(type(self), name, lambda self, schema=None: getattr(self.column, name)(schema))


class StreamOnly(Capsule):
    def __init__(self, column):
        super().__init__(column, True)


class ArrayOnly(Capsule):
    def __init__(self, column):
        super().__init__(column, False)


def from_duckdb(x):
    frame = pd.DataFrame({"i": range(len(x)), "x": list(x)})  # noqa: F841
    return duckdb.connect().sql("select x from frame order by i")


LISTS = {
    "polars List": lambda x: pl.Series(x.tolist()),
    "polars Array": lambda x: pl.Series(x),
    "polars List in chunks": lambda x: pl.concat(
        [pl.Series(x[:7].tolist()), pl.Series(x[7:].tolist())], rechunk=False
    ),
    "an expression's result": lambda x: pl.DataFrame({"x": x.tolist()}).select(
        pl.col("x").list.eval(pl.element() * 1)
    )["x"],
    "polars frame of lists": lambda x: pl.DataFrame({"x": x.tolist()}),
    "polars frame of arrays": lambda x: pl.DataFrame({"x": x}),
    "polars frame": lambda x: pl.DataFrame(x),
    "pandas objects": lambda x: pd.Series(list(x)),
    "pandas lists": lambda x: pd.Series(x.tolist()),
    "pandas frame of objects": lambda x: pd.DataFrame({"x": list(x)}),
    "pandas ArrowDtype": lambda x: pd.Series(list(x), dtype=pd.ArrowDtype(pa.list_(pa.float64()))),
    "pandas Float64": lambda x: pd.DataFrame(x).astype("Float64"),
    "pandas pyarrow": lambda x: pd.DataFrame(x).astype("double[pyarrow]"),
    "array of arrays": lambda x: np.array([None, *list(x)], object)[1:],
    "arrow list": arrow("list"),
    "arrow large list": arrow("large"),
    "arrow list view": arrow("view"),
    "arrow large list view": arrow("large view"),
    "arrow fixed list": arrow("fixed"),
    "arrow lists in chunks": arrow("list", 3),
    "arrow fixed lists in chunks": arrow("fixed", 3),
    "arrow table of lists": lambda x: pa.table({"x": arrow("list")(x)}),
    "arrow table": lambda x: pa.table({f"c{k}": x[:, k] for k in range(x.shape[1])}),
    "arrow reader": lambda x: pa.table({"x": arrow("list", 3)(x)}).to_reader(),
    "duckdb": from_duckdb,
    "duckdb's NumPy": lambda x: from_duckdb(x).fetchnumpy()["x"],
    "duckdb's Arrow": lambda x: from_duckdb(x).to_arrow_table(),
    "arrow stream": lambda x: StreamOnly(pl.Series(x.tolist())),
    "arrow array": lambda x: ArrayOnly(arrow("large")(x)),
}
PLAIN = {
    "polars": pl.Series,
    "pandas nullable": lambda x: pd.Series(x).convert_dtypes(),
    "pandas pyarrow": lambda x: pd.Series(
        pd.array(x, dtype=f"{pa.from_numpy_dtype(x.dtype)}[pyarrow]")
    ),
    "arrow": pa.array,
    "arrow stream": lambda x: StreamOnly(pl.Series(x)),
    "arrow array": lambda x: ArrayOnly(pa.array(x)),
}


def same(found, expected):
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS)
def test_rows(make, engine):
    on = {"backend": engine}
    same(fe.entropy(make(P), **on), fe.entropy(P, **on))
    same(fe.kl_divergence(make(P), make(Q), **on), fe.kl_divergence(P, Q, **on))
    same(fe.sparse_cross_entropy(LABELS, make(Q), sample_weight=make(P), **on),
         fe.sparse_cross_entropy(LABELS, Q, sample_weight=P, **on))  # fmt: skip
    acc = fe.Accumulator(["kl_divergence", "js_divergence", "renyi_divergence(alpha=2.0)"],
                         task="divergence")  # fmt: skip
    found, expected = (acc.copy().update(p, q).compute() for p, q in ((make(P), make(Q)), (P, Q)))
    assert [found[m].value for m in found] == [expected[m].value for m in expected]


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS)
def test_rows_of_what_does_not_go_by_the_engine(make):
    from fastent.compat import scipy as drop_in

    logits = np.log(Q)
    same(fe.cross_entropy_gradient(LABELS, make(logits)), fe.cross_entropy_gradient(LABELS, logits))
    same(fe.focal_cross_entropy(LABELS, make(Q)), fe.focal_cross_entropy(LABELS, Q))
    same(fe.renyi_divergence(make(P), make(Q), 2.0), fe.renyi_divergence(P, Q, 2.0))
    same(drop_in.entropy(make(P), make(Q), axis=1), drop_in.entropy(P, Q, axis=1))
    same(drop_in.softmax(make(logits), axis=1), drop_in.softmax(logits, axis=1))


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS)
def test_rows_in_dask(make):
    import fastent.dask as fd

    same(fd.kl_divergence(make(P), make(Q)).compute(), fe.kl_divergence(P, Q))


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64"])
def test_labels_and_weights(make, dtype):
    labels, weights = make(LABELS.astype(dtype)), make(WEIGHTS)
    same(fe.sparse_cross_entropy(labels, Q, sample_weight=weights),
         fe.sparse_cross_entropy(LABELS, Q, sample_weight=WEIGHTS))  # fmt: skip
    names = [f"c{k}" for k in range(CLASSES)]
    texts = np.array(names)[LABELS]
    same(fe.sparse_cross_entropy(pl.Series(texts), pl.Series(list(Q)), classes=names),
         fe.sparse_cross_entropy(LABELS, Q))  # fmt: skip


def test_groups():
    texts = np.array(["de", "en"])[LABELS % 2]
    expected = None
    for groups in (texts, pl.Series(texts), pl.Series(texts, dtype=pl.Categorical),
                   pd.Series(texts), pd.Series(texts).astype("category"), pa.array(texts),
                   pa.array(texts).dictionary_encode(),
                   pd.array(texts, dtype="string")):  # fmt: skip
        acc = fe.Accumulator("cross_entropy").update(LABELS, Q, groups=groups)
        found = {name: part["cross_entropy"].value for name, part in acc.compute().groups.items()}
        expected = expected or found
        assert list(found) == ["de", "en"] and found == expected


def address(array):
    return array.__array_interface__["data"][0]


def test_no_copies():
    """Where the numbers of a column lie in one piece, they are read there."""
    numbers = pa.array(P.reshape(-1))
    begin = numbers.buffers()[1].address
    offsets = pa.array(np.arange(0, P.size + 1, CLASSES, dtype=np.int32))
    fixed = pa.FixedSizeListArray.from_arrays(numbers, CLASSES)
    for column in (
        fixed,
        pa.ListArray.from_arrays(offsets, numbers),
        pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), numbers),
        pa.ListViewArray.from_arrays(offsets[:-1], pa.array([CLASSES] * ROWS, pa.int32()), numbers),
        pa.chunked_array([fixed]),
        pa.table({"x": fixed}),
        pl.from_arrow(pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), numbers)),
        pl.from_arrow(fixed),
        pd.Series(fixed, dtype=pd.ArrowDtype(fixed.type)),
        StreamOnly(pa.chunked_array([fixed])),
        ArrayOnly(fixed),
    ):
        found = as_numpy(column, "p")[0]
        assert found.shape == P.shape and address(found) == begin, type(column)
        assert (
            address(as_numpy(column[2:], "p")[0]) == begin + 2 * CLASSES * 8
            if hasattr(column, "__getitem__") and not isinstance(column, pa.Table)
            else True
        )
    for column in (pa.array(WEIGHTS), pl.Series(WEIGHTS), pd.Series(pd.array(WEIGHTS))):
        found = as_numpy(column, "w")[0]
        same(found, WEIGHTS)
    masked = pd.arrays.FloatingArray(WEIGHTS, np.zeros(ROWS, bool))
    assert address(as_numpy(pd.Series(masked, copy=False), "w")[0]) == address(WEIGHTS)
    assert address(as_numpy(pa.array(WEIGHTS), "w")[0]) == address(WEIGHTS)


def test_list_views_in_another_order():
    views = pa.ListViewArray.from_arrays(
        pa.array([3, 0, 1], pa.int32()), pa.array([2, 2, 2], pa.int32()),
        pa.array([0.5, 0.5, 0.25, 0.75, 0.25]),
    )  # fmt: skip
    same(as_numpy(views, "p")[0], [[0.75, 0.25], [0.5, 0.5], [0.5, 0.25]])


def test_missing_numbers():
    """NaN where a number is missing in a row; a missing label or row is refused with its row."""
    rows = [[0.5, 0.5], [None, 1.0]]
    for column in (
        pl.Series(rows),
        pa.array(rows),
        pd.Series(rows),
        pd.DataFrame(rows).astype("Float64"),
        pa.array(rows, pa.list_(pa.float32())),
    ):
        same(np.isnan(fe.entropy(column)), [False, True])
    labels = [0, None, 1]
    for column in (pd.Series(labels, dtype="Int64"), pl.Series(labels), pa.array(labels),
                   pd.Series(labels, dtype="int64[pyarrow]")):  # fmt: skip
        for call in (fe.sparse_cross_entropy, fe.Accumulator("accuracy").update):
            with pytest.raises(
                ValueError, match=r"^labels: expected whole numbers, got nan in row 1"
            ):
                call(column, P[:3])
    rows = [[0.5, 0.5], [0.5, 0.5], None]
    for column in (pl.Series(rows), pa.array(rows), pd.Series(rows), pd.Series([*rows[:2], np.nan]),
                   pa.chunked_array([rows[:2], rows[2:]]),
                   pl.Series(rows, dtype=pl.Array(pl.Float64, 2)),
                   pd.Series(rows, dtype=pd.ArrowDtype(pa.list_(pa.float64())))):  # fmt: skip
        with pytest.raises(
            ValueError, match=r"^p: expected a list in every row, got null in row 2$"
        ):
            fe.entropy(column)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pl.LazyFrame({"x": [1.0]}), "expected a column, got LazyFrame; collect() it first"),
        (pd.Series([[1.0], "x"]), "expected a list, got str in row 1"),
        (pl.Series(["x"]), "expected float64, float32, float16, bfloat16 or integers, got dtype"),
        (pa.array([[1.0], [0.5, 0.5]]), "expected rows of equal length, got 1 in row 0 and 2 in"),
        (pa.array([{"a": "x"}]), "expected float64, float32, float16, bfloat16 or integers"),
        (pa.array([[]], pa.list_(pa.float64())), "expected at least one class, got shape (1, 0)"),
    ],
)
def test_refused(given, said):
    with pytest.raises((ValueError, TypeError)) as caught:
        fe.entropy(given)
    assert str(caught.value).startswith(f"p: {said}") and "\n" not in str(caught.value)


def test_no_rows():
    empty = pa.array([], pa.list_(pa.float64()))
    assert fe.entropy(empty).shape == (0,)
    acc = fe.Accumulator("accuracy").update([], empty).update(LABELS, Q).update([], empty)
    assert acc.compute()["accuracy"].count == ROWS
