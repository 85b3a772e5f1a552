"""Every file format gives the numbers that were written, in blocks of any size, from any row."""

import errno
import os
import struct
from itertools import product

import ml_dtypes
import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
import safetensors.numpy

from fastent.io import Buffer, InputError, expand, open_source
from fastent.io.parquet import ColumnsFile

ROWS, CLASSES = 500, 7
RNG = np.random.default_rng(5)
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)
LANGUAGES = np.array(["de", "en", "fr"])[LABELS % 3]


def table(layout):
    """Logits as one list column or one column per class, with labels and languages beside."""
    if layout == "fixed":
        logits = {"logits": pyarrow.FixedSizeListArray.from_arrays(LOGITS.ravel(), CLASSES)}
    elif layout == "variable":
        logits = {"logits": pyarrow.array(list(LOGITS))}
    else:
        logits = {f"class_{k}": LOGITS[:, k] for k in reversed(range(CLASSES))}
    names = pyarrow.array(LANGUAGES).dictionary_encode()
    return pyarrow.table({**logits, "label": LABELS, "lang": names})


def write_stream(found, path):
    with pyarrow.OSFile(path, "wb") as file, pyarrow.ipc.new_stream(file, found.schema) as stream:
        stream.write_table(found, max_chunksize=150)


MAGIC = {"lz4": b"\x04\x22\x4d\x18", "zstd": b"\x28\xb5\x2f\xfd"}
TABLES = {
    ".parquet": lambda t, path: pyarrow.parquet.write_table(t, path, row_group_size=150),
    ".feather": lambda t, path: pyarrow.feather.write_feather(t, path, chunksize=150),
    ".plain.feather": lambda t, path: pyarrow.feather.write_feather(
        t, path, compression="uncompressed", chunksize=150
    ),
    ".arrow": write_stream,
}
ARRAYS = {
    "c.npy": lambda path: np.save(path, LOGITS),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(LOGITS)),
    "big-endian.npy": lambda path: np.save(path, LOGITS.astype(">f4")),
    "fortran-axes.npy": lambda path: np.save(
        path, np.asfortranarray(LOGITS.astype(">f4").reshape(5, 4, 25, CLASSES))
    ),
    "fortran-axes.npz": lambda path: np.savez_compressed(
        path, logits=np.asfortranarray(LOGITS.reshape(50, 10, CLASSES))
    ),
    "axes.npz": lambda path: np.savez_compressed(path, logits=LOGITS.reshape(5, 100, CLASSES)),
    "axes.safetensors": lambda path: safetensors.numpy.save_file(
        {"logits": LOGITS.reshape(2, 5, 50, CLASSES)}, path
    ),
    "axes.npy": lambda path: np.save(path, LOGITS.reshape(5, 100, CLASSES)),
    "stored.npz": lambda path: np.savez(path, logits=LOGITS, labels=LABELS),
    "deflated.npz": lambda path: np.savez_compressed(path, logits=LOGITS, labels=LABELS),
    "fortran.npz": lambda path: np.savez(path, logits=np.asfortranarray(LOGITS)),
    "deflated-fortran.npz": lambda path: np.savez_compressed(
        path, logits=np.asfortranarray(LOGITS.astype(">f4"))
    ),
    "tensors.safetensors": lambda path: safetensors.numpy.save_file(
        {"logits": LOGITS, "labels": LABELS}, path
    ),
    "header.csv": lambda path: pyarrow.csv.write_csv(table("prefix").drop(["lang"]), path),
    "bare.csv": lambda path: np.savetxt(path, LOGITS, delimiter=","),
}


def read(name, role="predictions", step=130):
    """All rows in blocks of ``step``, then a block from the middle once more."""
    (reference,) = expand([str(name)])
    buffer = Buffer()
    with open_source(reference, role) as source:
        blocks = [
            source.read(start, min(start + step, source.rows), buffer).copy()
            for start in range(0, source.rows, step)
        ]
        found = np.concatenate(blocks)
        np.testing.assert_array_equal(source.read(211, 389, buffer), found[211:389])
    return found


@pytest.mark.parametrize("name", ARRAYS)
def test_array_files(name, tmp_path):
    ARRAYS[name](tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name).astype(np.float32), LOGITS)


@pytest.mark.parametrize("name", [n for n in ARRAYS if "axes" in n])
def test_every_number_of_an_array_as_a_row(name, tmp_path):
    ARRAYS[name](tmp_path / name)
    (reference,) = expand([str(tmp_path / name)])
    buffer = Buffer()
    with open_source(reference, "predictions") as whole, whole.flattened() as source:
        assert (source.rows, source.classes) == (LOGITS.size, None)
        steps = range(0, LOGITS.size, 37)
        found = [source.read(k, min(k + 37, LOGITS.size), buffer).copy() for k in steps]
    np.testing.assert_array_equal(np.concatenate(found), LOGITS.reshape(-1))


@pytest.mark.parametrize("layout", ["fixed", "variable", "prefix"])
@pytest.mark.parametrize("suffix", TABLES)
def test_tables(suffix, layout, tmp_path):
    path = f"{tmp_path}/table{suffix}"
    TABLES[suffix](table(layout), path)
    np.testing.assert_array_equal(read(path), LOGITS)
    np.testing.assert_array_equal(read(path, step=1), LOGITS)
    np.testing.assert_array_equal(read(path, "labels"), LABELS)
    np.testing.assert_array_equal(read(f"{path}:lang", "groups"), LANGUAGES)


FLOATS = [np.float64, np.float32, np.float16]
HALVES = [(suffix, ml_dtypes.bfloat16) for suffix in (".npy", ".safetensors")]  # not in Arrow


MIXED = {
    "null": pyarrow.nulls(ROWS),
    "flag": LABELS > 3,
    "text": pyarrow.array(LANGUAGES),
    "code": pyarrow.array(LANGUAGES).dictionary_encode(),
    "words": pyarrow.array([["a", "b"][: k % 3] for k in LABELS]),
    "pair": pyarrow.array([{"a": 1, "b": [2.0]}] * ROWS),
    "money": pyarrow.array(LABELS).cast(pyarrow.decimal128(30, 2)),
    "blob": pyarrow.array([b"12"] * ROWS, pyarrow.binary(2)),
    "large": pyarrow.array([[1.0]] * ROWS, pyarrow.large_list(pyarrow.float64())),
    "some": pyarrow.array([None, 1] * (ROWS // 2)),
}


@pytest.mark.parametrize("layout", ["fixed", "variable"])
@pytest.mark.parametrize("suffix", TABLES)
def test_a_column_among_others_of_any_type(suffix, layout, tmp_path):
    path = f"{tmp_path}/mixed{suffix}"
    found = table(layout)
    columns = {**MIXED, "logits": found["logits"], "label": found["label"]}
    TABLES[suffix](pyarrow.table(columns), path)
    np.testing.assert_array_equal(read(f"{path}:logits"), LOGITS)


def test_many_columns_go_through_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr("fastent.io.parquet.READERS", 1000)
    used = []
    put = ColumnsFile.put
    monkeypatch.setattr(ColumnsFile, "put", lambda *words: used.append(put(*words)))
    path = f"{tmp_path}/columns.parquet"
    TABLES[".parquet"](table("prefix"), path)
    np.testing.assert_array_equal(read(path), LOGITS)
    assert used
    np.testing.assert_array_equal(read(path, step=1), LOGITS)


def test_a_footer_is_read_by_some_row_groups_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("fastent.io.parquet.FOOTER_BYTES", 1)
    for group in (1, 7, 150):
        path = f"{tmp_path}/groups-{group}.parquet"
        pyarrow.parquet.write_table(table("prefix"), path, row_group_size=group)
        np.testing.assert_array_equal(read(path), LOGITS)
        np.testing.assert_array_equal(read(path, "labels"), LABELS)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [*product([".npy", ".safetensors", ".parquet", ".arrow"], FLOATS), *HALVES],
)
def test_dtypes_are_kept(suffix, dtype, tmp_path):
    numbers = LOGITS.astype(dtype)
    path = f"{tmp_path}/numbers{suffix}"
    if suffix == ".npy":
        np.save(path, numbers)
    elif suffix == ".safetensors":
        safetensors.numpy.save_file({"logits": numbers}, path)
    else:
        values = pyarrow.array(numbers.ravel())
        lists = pyarrow.FixedSizeListArray.from_arrays(values, CLASSES)
        TABLES[suffix](pyarrow.table({"logits": lists}), path)
    found = read(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize(
    ("name", "part", "role", "expected"),
    [
        ("stored.npz", ":labels", "predictions", LABELS),
        ("deflated.npz", "", "labels", LABELS),
        ("tensors.safetensors", "", "labels", LABELS),
        ("header.csv", ":label", "labels", LABELS),
        ("header.csv", ":class_3", "weights", LOGITS[:, 3].astype(str).astype(float)),
        ("header.csv", ":label", "groups", LABELS.astype(str)),
    ],
)
def test_parts(name, part, role, expected, tmp_path):
    ARRAYS[name](tmp_path / name)
    np.testing.assert_array_equal(read(f"{tmp_path / name}{part}", role), expected)


def test_a_glob_is_sorted_naturally_and_a_list_keeps_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (10, 9, 1):
        np.save(f"shard-{number}.npy", LOGITS)
    assert [r.path for r in expand(["shard-*.npy"])] == [
        "shard-1.npy",
        "shard-9.npy",
        "shard-10.npy",
    ]
    assert [r.path for r in expand(["."])] == ["./shard-1.npy", "./shard-9.npy", "./shard-10.npy"]
    listed = expand(["shard-9.npy", "shard-1.npy:x"])
    assert [(r.path, r.part) for r in listed] == [("shard-9.npy", None), ("shard-1.npy", "x")]


def cut_off(path):
    with open(path, "r+b") as file:
        file.truncate(file.seek(0, 2) * 2 // 3)


def garbage(path):
    with open(path, "r+b") as file:
        file.write(b"\0not what it says")


@pytest.mark.parametrize("damage", [cut_off, garbage])
@pytest.mark.parametrize("name", [n for n in [*ARRAYS, *TABLES] if not n.endswith(".csv")])
def test_damaged_files_are_named(name, damage, tmp_path):
    path = tmp_path / (name if name in ARRAYS else f"table{name}")
    if name in ARRAYS:
        ARRAYS[name](path)
    else:
        TABLES[name](table("fixed"), str(path))
    damage(path)
    with pytest.raises(InputError, match=path.name) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "shrinking.npy"
    np.save(path, LOGITS)
    (reference,) = expand([str(path)])
    with open_source(reference, "predictions") as source:
        source.read(0, 10, Buffer())
        cut_off(path)
        with pytest.raises(InputError, match=r"shrinking.npy.*truncated, or shrinking"):
            source.read(10, ROWS, Buffer())


def test_a_full_disk_under_a_temporary_file(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.pwrite", full)
    ARRAYS["deflated-fortran.npz"](tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"^a temporary file in .*: No space left on device"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("suffix", [suffix for suffix in TABLES if suffix != ".parquet"])
def test_columns_of_batches_that_do_not_fit(suffix, tmp_path, monkeypatch):
    """Read in pieces; columns of several dtypes, among others, and a single one."""
    monkeypatch.setattr("fastent.io.arrow.LARGEST_BATCH", -1)
    path = f"{tmp_path}/columns{suffix}"
    found = table("prefix")
    doubled = found["class_1"].cast(pyarrow.float64())
    found = found.set_column(found.column_names.index("class_1"), "class_1", doubled)
    TABLES[suffix](pyarrow.table({**MIXED, **{n: found[n] for n in found.column_names}}), path)
    for step in (130, 1):
        np.testing.assert_array_equal(read(f"{path}:class_", step=step), LOGITS)
    np.testing.assert_array_equal(read(f"{path}:label", "labels"), LABELS)
    for place in (3, 170, ROWS - 1):
        holes = pyarrow.array(LABELS, mask=np.arange(ROWS) == place)
        TABLES[suffix](pyarrow.table({"class_0": LABELS, "class_1": holes}), path)
        assert np.flatnonzero(np.isnan(read(path)).any(1)).tolist() == [place]
        with pytest.raises(InputError, match=f"row {place} is null"):
            read(f"{path}:class_1", "labels")
    TABLES[suffix](pyarrow.table({"flag_0": LABELS > 1, "flag_1": LABELS > 2}), path)
    np.testing.assert_array_equal(read(path), np.stack([LABELS > 1, LABELS > 2], 1))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_large_compressed_batch_has_columns_of_any_type(codec, tmp_path, monkeypatch):
    """Numbers of a dictionary too, which are no indices of it."""
    monkeypatch.setattr("fastent.io.arrow.LARGEST_BATCH", 0)
    coded = pyarrow.array(LABELS * 10).dictionary_encode()
    others = {
        "view": pyarrow.array(LANGUAGES, pyarrow.string_view()),
        "runs": pyarrow.compute.run_end_encode(pyarrow.array(LABELS)),
        "one of two": pyarrow.UnionArray.from_sparse(
            pyarrow.array([0] * ROWS, pyarrow.int8()), [pyarrow.array(LABELS)]
        ),
        "coded": coded,
    }
    found = table("fixed")
    columns = {**MIXED, **others, "logits": found["logits"]}
    path = f"{tmp_path}/large.arrow"
    pyarrow.feather.write_feather(pyarrow.table(columns), path, codec, chunksize=150)
    np.testing.assert_array_equal(read(f"{path}:logits"), LOGITS)
    np.testing.assert_array_equal(read(f"{path}:coded", "labels"), LABELS * 10)
    within = pyarrow.ListArray.from_arrays(np.arange(ROWS + 1, dtype=np.int32), coded)
    columns = {"within": within, "logits": found["logits"]}
    pyarrow.feather.write_feather(pyarrow.table(columns), path, codec, chunksize=150)
    np.testing.assert_array_equal(read(f"{path}:logits"), LOGITS)


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("told", [11 << 40, -2])
def test_damaged_length_of_a_compressed_buffer(kind, codec, told, tmp_path):
    """Refused before anything is allocated, for numbers and for text."""
    words = [f"{k} of {ROWS}" for k in LABELS]
    found = pyarrow.table({"logits": LOGITS[:, 0], "words": words})
    options = pyarrow.ipc.IpcWriteOptions(compression=codec)
    sink = pyarrow.BufferOutputStream()
    make = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
    with make(sink, found.schema, options=options) as out:
        out.write_table(found)
    data = sink.getvalue().to_pybytes()
    path = tmp_path / "x.arrow"
    for column, role in (("logits", "predictions"), ("words", "groups")):
        size = found[column].chunk(0).buffers()[-1].size
        length = struct.pack("<q", size)
        at = data.rindex(length + MAGIC[codec])
        path.write_bytes(data[:at] + struct.pack("<q", told) + data[at + 8 :])
        with pytest.raises(InputError, match=f"cannot hold {told}"):
            read(f"{path}:{column}", role)


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_an_arrow_message_of_another_type(kind, tmp_path):
    """It may have been a batch: its rows are not left out without a word."""
    found = pyarrow.table({"logits": LOGITS[:, 0]})
    sink = pyarrow.BufferOutputStream()
    make = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
    with make(sink, found.schema) as out:
        out.write_table(found)
    data = sink.getvalue().to_pybytes()
    start = data.index(b"\xff" * 4, data.index(b"\xff" * 4) + 4) + 8  # of the second message
    (root,) = struct.unpack_from("<I", data, start)
    (back,) = struct.unpack_from("<i", data, start + root)
    (place,) = struct.unpack_from("<H", data, start + root - back + 6)  # header_type
    at = start + root + place
    assert data[at] == 3
    path = tmp_path / "x.arrow"
    for other in (0, 1, 4):
        path.write_bytes(data[:at] + bytes([other]) + data[at + 1 :])
        with pytest.raises(InputError, match=r"^.*x\.arrow: "):
            read(path)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], "row 1 has 3 numbers, expected 2 as in row 0"),
        ([["a"], ["b"]], "lists of string"),
    ],
)
@pytest.mark.parametrize("suffix", TABLES)
def test_rows_that_are_not_rows(suffix, column, message, tmp_path):
    path = f"{tmp_path}/bad{suffix}"
    TABLES[suffix](pyarrow.table({"logits": column}), path)
    (reference,) = expand([path])
    with pytest.raises(InputError, match=message):
        with open_source(reference, "predictions") as source:
            source.read(0, source.rows, Buffer())


def test_csv_of_very_many_columns(tmp_path, monkeypatch):
    for name in ("header.csv", "bare.csv"):
        ARRAYS[name](tmp_path / name)
        expected = read(tmp_path / name)
        with monkeypatch.context() as patch:
            patch.setattr("fastent.io.csv.WIDE", 2)
            np.testing.assert_array_equal(read(tmp_path / name), expected)
    monkeypatch.setattr("fastent.io.csv.WIDE", 2)
    np.testing.assert_array_equal(read(tmp_path / "header.csv", "labels"), LABELS)


@pytest.mark.parametrize("wide", [2, 2000])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,x", "row 2: expected a number.*'x'"),
        ("1,2", "row 2: 2 columns, expected 3"),
        ("1,2,3,4", "row 2: 4 columns, expected 3"),
    ],
)
def test_bad_values_in_csv_are_named(line, message, wide, tmp_path, monkeypatch):
    monkeypatch.setattr("fastent.io.csv.WIDE", wide)
    path = tmp_path / "bad.csv"
    path.write_text(f"a0,a1,a2\n1,2,3\n4,5,6\n{line}\n7,8,9\n")
    (reference,) = expand([str(path)])
    with pytest.raises(InputError, match=message):
        with open_source(reference, "predictions") as source:
            source.read(0, source.rows, Buffer())


def test_an_empty_csv_file(tmp_path):
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError, match=r"empty.csv: an empty file"):
        read(tmp_path / "empty.csv")
