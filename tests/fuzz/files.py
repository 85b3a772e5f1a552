"""Damaged files of every format, through the readers and through the command.

Whatever a file holds, a reader gives rows or an InputError of one line, and the command 0 or 2 with
one line on stderr. What a reader takes, the format's own library takes too, and with the same
numbers.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import resource
import sys
import tempfile
import zipfile

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import safetensors.numpy
import watched
from damage import damaged

from fastent.cli import main as command
from fastent.io import InputError, Reading, Reference, open_source
from fastent.io.errors import reading
from fastent.io.source import Buffer

ROOM = 3 << 30  # of addresses: a small file must not ask for more
FOLDER = tempfile.mkdtemp(prefix="fastent-fuzz-")


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


# Whole files: what is in them, by format


def numbers(rng):
    rows, classes = int(pick(rng, [1, 2, 5, 40])), int(pick(rng, [2, 3, 5]))
    return rng.standard_normal((rows, classes)).astype(pick(rng, ["f8", "f4", "f2"]))


def npy(rng, a, path):
    np.save(path, np.asfortranarray(a) if rng.random() < 0.3 else a)


def npz(rng, a, path):
    """Members whose own headers may be damaged, under a right checksum."""
    with zipfile.ZipFile(path, "w", pick(rng, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as found:
        for name in ("logits", "labels"):
            member = io.BytesIO()
            b = a if name == "logits" else np.arange(len(a)) % a.shape[1]
            np.save(member, np.asfortranarray(b) if rng.random() < 0.3 else b)
            data = member.getvalue()
            if rng.random() < 0.3:
                data = damaged(rng, data[:128]) + data[128:]
            found.writestr(f"{name}.npy", data)


def table(rng, a):
    columns = {"labels": pyarrow.array(np.arange(len(a)) % a.shape[1])}
    if rng.random() < 0.5:
        rows = [row.tolist() for row in a]
        kind = pick(rng, [pyarrow.list_, pyarrow.large_list])(pyarrow.from_numpy_dtype(a.dtype))
        if rng.random() < 0.4:
            kind = pyarrow.list_(pyarrow.from_numpy_dtype(a.dtype), a.shape[1])
        columns["logits"] = pyarrow.array(rows, kind)
    else:
        columns |= {f"logit_{k}": pyarrow.array(a[:, k]) for k in range(a.shape[1])}
    return pyarrow.table(columns)


def parquet(rng, a, path):
    pyarrow.parquet.write_table(
        table(rng, a.astype("f8") if a.dtype == "f2" else a), path,
        compression=pick(rng, ["none", "snappy", "zstd", "gzip"]),
        row_group_size=int(pick(rng, [1, 7, 1000])), use_dictionary=bool(rng.random() < 0.5),
        data_page_version=pick(rng, ["1.0", "2.0"]),
    )  # fmt: skip


def arrow(rng, a, path):
    found = table(rng, a)
    options = pyarrow.ipc.IpcWriteOptions(compression=pick(rng, [None, None, "lz4", "zstd"]))
    make = pick(rng, [pyarrow.ipc.new_file, pyarrow.ipc.new_stream])
    with pyarrow.OSFile(path, "wb") as stream, make(stream, found.schema, options=options) as out:
        out.write_table(found, max_chunksize=int(pick(rng, [1, 7, 1000])))


def tensors(rng, a, path):
    found = {"logits": a, "labels": np.arange(len(a)) % a.shape[1]}
    safetensors.numpy.save_file(found, path)


def text(rng, a, path):
    names = [f"logit_{k}" for k in range(a.shape[1])]
    lines = [",".join(map(repr, row)) for row in a.astype("f8").tolist()]
    ends = "\r\n" if rng.random() < 0.2 else "\n"
    data = ends.join([",".join(names), *lines, ""]).encode()
    if path.endswith(".gz"):
        data = pyarrow.compress(data, "gzip", asbytes=True)
    with open(path, "wb") as stream:
        stream.write(data)


def json_lines(rng, a, path):
    with open(path, "w") as stream:
        for k, row in enumerate(a.astype("f8").tolist()):
            print(json.dumps({"labels": k % a.shape[1], "logits": row}), file=stream)


# The same rows by the format's own library: of a part, or of some columns


def by_numpy(path, columns):
    return np.load(path, allow_pickle=False)


def by_zip(path, columns):
    """By the members, as NumPy itself looks at an archive's very first bytes too."""
    with zipfile.ZipFile(path) as found:
        name = columns[0] if columns[0] in found.namelist() else f"{columns[0]}.npy"
        return np.load(io.BytesIO(found.read(name)), allow_pickle=False)


def by_safetensors(path, columns):
    return safetensors.numpy.load_file(path)[columns[0]]


def rows_of(found, columns):
    """Nulls as NaN, as numbers and as lists."""
    found = found.select(columns)
    found.validate(full=True)
    given = [c.to_pylist() for c in found.columns]
    if len(columns) > 1:
        given = [list(row) for row in zip(*given, strict=True)]
    else:
        width = max((len(x) for x in given[0] if isinstance(x, list)), default=None)
        given = [[None] * width if x is None and width else x for x in given[0]]
    return np.array(given, float)


def by_parquet(path, columns):
    return rows_of(pyarrow.parquet.ParquetFile(path).read(columns, use_threads=False), columns)


def by_arrow(path, columns):
    with open(path, "rb") as stream:
        data = pyarrow.py_buffer(stream.read())
    is_file = data[:6].to_pybytes() == b"ARROW1"
    opener = pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream
    names = opener(data).schema.names
    options = pyarrow.ipc.IpcReadOptions(included_fields=[names.index(c) for c in columns])
    return rows_of(opener(data, options=options).read_all(), columns)


def by_csv(path, columns):
    data = pyarrow.input_stream(path).read().decode("utf-8-sig", "replace")
    rows = [row for row in csv.reader(io.StringIO(data, newline="")) if row]
    names = [name.strip() for name in rows[0]]
    names[0] = names[0].removeprefix("#").strip()  # as NumPy's savetxt marks a header
    if not {*columns} <= {*names}:  # the damage took the header: the first line is a row
        names = [f"f{k}" for k in range(len(names))]
        rows.insert(0, names)
    missing = ("", "NA", "N/A", "NULL", "null", "None")
    values = [["nan" if x.strip() in missing else x for x in row] for row in rows[1:]]
    return np.array([[float(row[names.index(c)]) for c in columns] for row in values])


def by_json(path, columns):
    with open(path) as stream:
        rows = [json.loads(line) for line in stream if line.strip()]
    found = [
        [row.get(c) for c in columns] if len(columns) > 1 else row.get(columns[0]) for row in rows
    ]
    width = max((len(x) for x in found if isinstance(x, list)), default=0)
    return np.array([[None] * width if x is None else x for x in found], float)


# suffix: (writer, the library, whether what matters is at the ends, whether it is text)
FORMATS = {
    ".npy": (npy, by_numpy, True, False),
    ".npz": (npz, by_zip, True, False),
    ".parquet": (parquet, by_parquet, True, False),
    ".arrow": (arrow, by_arrow, True, False),
    ".feather": (arrow, by_arrow, False, False),
    ".safetensors": (tensors, by_safetensors, True, False),
    ".csv": (text, by_csv, False, True),
    ".csv.gz": (text, by_csv, True, False),
    ".jsonl": (json_lines, by_json, False, True),
}


def read(path, role, rng):
    """All rows, in pieces, and their columns; None if they are refused."""
    try:
        with open_source(Reference(path), role, Reading(kind="logits")) as source:
            if source.rows * source.row_bytes > 1 << 26:
                return None  # right, and too much to hold against the library
            step = int(pick(rng, [1, 3, 1000]))
            rows = []
            for start in range(0, source.rows, step):
                stop = min(source.rows, start + step)
                with reading(source.name):
                    source.open()
                    rows.append(np.array(source.read(start, stop, Buffer())))
                    source.settle(start, stop)
                assert rows[-1].shape == source.shape(stop - start), "another shape than promised"
            part = source.name.removeprefix(path).removeprefix(":")
            columns = getattr(source, "columns", [part])
            return columns, np.concatenate(rows) if rows else np.empty(source.shape(0))
    except InputError as error:
        assert "\n" not in str(error) and path in str(error), repr(error)
        assert modest(str(error)), repr(error)
        return None


def modest(message):
    """Whether it does not tell of memory that was there to be asked for."""
    asked = re.search(r"malloc of size (\d+)", message)
    return int(asked[1]) > 1 << 47 if asked else "MemoryError" not in message


def held_against(library, path, found):
    """What a reader took is what the library takes."""
    columns, rows = found
    if rows.dtype.kind not in "fiub":
        return
    try:
        want = np.asarray(library(path, columns))
    except zipfile.BadZipFile as error:
        assert "CRC" in str(error)  # of members that are mapped none is computed
        return
    with np.errstate(all="ignore"):
        if rows.dtype.kind == "f" and want.dtype.kind == "f":
            rows = rows.astype(np.float64)
        np.testing.assert_array_equal(rows.reshape(-1), want.reshape(-1).astype(rows.dtype))


def run(words):
    """The command in this process: its code and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(words)
    return code, err.getvalue()


def case(rng):
    suffix = pick(rng, list(FORMATS))
    writer, library, ends, is_text = FORMATS[suffix]
    path = os.path.join(FOLDER, f"case{suffix}")
    a = numbers(rng)
    writer(rng, a, path)
    with open(path, "rb") as stream:
        data = stream.read()
    with open(path, "wb") as stream:
        stream.write(damaged(rng, data, ends, is_text) if rng.random() < 0.97 else data)
    role = pick(rng, ["predictions"] * 5 + ["labels", "groups", "weights", "targets", "kept"])
    raised = []
    sys.unraisablehook = lambda told: raised.append(told.exc_value)
    found = read(path, role, rng)
    if found is not None and role == "predictions":
        held_against(library, path, found)
    labels = os.path.join(FOLDER, "labels.npy")
    np.save(labels, np.zeros(len(a), int))
    more = pick(rng, [[], ["--on-error", "skip"], ["--groups", labels], ["--rows", os.devnull]])
    role = pick(rng, [["--labels", labels], ["--labels", path], []])
    code, told = run(["score", path, *role, "--kind", "logits", "--quiet", *more])
    assert code in (0, 2), (code, told)
    assert told.count("\n") == (code == 2), f"code {code}, told {told!r}"
    assert modest(told), told
    assert not raised, raised


def main():
    if "san.so" not in os.environ.get("LD_PRELOAD", ""):  # sanitizers take all addresses
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    return watched.main(case, __doc__)


if __name__ == "__main__":
    sys.exit(main())
