"""Tables and folders that people have: read as their writer meant them, or refused in one line."""

import gzip
import json
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

import fastent as fe
from fastent.cli import main
from fastent.io import Buffer, InputError, Reference, open_source

ROWS, CLASSES = 50, 3
RNG = np.random.default_rng(8)
PROBS = RNG.dirichlet(np.ones(CLASSES), ROWS)
LABELS = RNG.integers(0, CLASSES, ROWS)
LOSS = fe.sparse_cross_entropy(LABELS, PROBS, reduction="mean")
P = {f"p{k}": PROBS[:, k] for k in range(CLASSES)}
LISTS = pyarrow.FixedSizeListArray.from_arrays(PROBS.ravel(), CLASSES)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", PROBS)
    np.save("y.npy", LABELS)


def run(*words, kind="probs"):
    return main(["score", *map(str, words), "--kind", kind, "--quiet", "--json", "report.json"])


def report(*words, **options):
    assert run(*words, **options) == 0
    return json.loads(Path("report.json").read_text())


def loss(*words, **options):
    return report(*words, **options)["metrics"]["cross_entropy"]["value"]


def right(*words, **options):
    assert loss(*words, **options) == pytest.approx(LOSS, rel=1e-14)


@pytest.fixture
def refused(capsys):
    def check(*words, **options):
        assert run(*words, **options) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and len(line) < 600
        return line

    return check


def text(rows, *head, separator=",", path="x.csv"):
    lines = [separator.join(map(str, row)) for row in rows]
    Path(path).write_text("\n".join([*head, *lines]) + "\n")
    return path


# Headers of text files


def test_whole_numbers_as_header():
    text(PROBS, "0,1,2")
    text(LABELS[:, None], "0", path="labels.csv")
    right("x.csv", "--labels", "y.npy")
    right("x.csv", "--labels", "labels.csv")
    right("x.npy", "--labels", "labels.csv")


def test_the_rows_of_other_files_tell_of_a_header():
    text(LABELS[:, None], path="labels.csv")
    right("x.npy", "--labels", "labels.csv")
    names = np.array(["de", "en"])[LABELS % 2]
    for head in ([], ["fr"]):
        text(names[:, None], *head, path="groups.csv")
        found = report("x.npy", "--labels", "y.npy", "--groups", "groups.csv")
        assert set(found["groups"]) == {"de", "en"}
        assert sum(g["accuracy"]["count"] for g in found["groups"].values()) == ROWS


def test_unclear_headers_are_refused(refused):
    text(np.eye(2, dtype=int)[LABELS % 2], "0,1")
    text((LABELS % 2)[:, None], "0", path="labels.csv")
    line = refused("x.csv", "--labels", "labels.csv")
    assert "--header yes or --header no" in line
    found = report("x.csv", "--labels", "labels.csv", "--header", "yes")
    assert found["rows"] == ROWS
    assert report("x.csv", "--labels", "labels.csv", "--header", "no")["rows"] == ROWS + 1


@pytest.mark.parametrize("head", ["# p0,p1,p2", "#p0,p1,p2", "p0, p1, p2", ' p0 ,"p1",p2'])
def test_names_with_marks_and_spaces(head):
    text(PROBS, head)
    right("x.csv", "--labels", "y.npy")


def test_a_line_break_in_a_name():
    rows = [["x", *row, label] for row, label in zip(PROBS, LABELS, strict=True)]
    text(rows, '"a\nnote",p0,p1,p2,label')
    right("x.csv")


def test_separators(refused):
    rows = np.column_stack([PROBS, LABELS.astype(object)])
    for mark, path in ((";", "a.csv"), ("\t", "b.csv"), ("|", "c.csv")):
        text(rows, mark.join(["p0", "p1", "p2", "label"]), separator=mark, path=path)
        assert "--separator" in refused(path)
        right(path, "--separator", "TAB" if mark == "\t" else mark)
    os.rename("b.csv", "b.tsv")
    right("b.tsv")
    np.savetxt("plain.txt", PROBS)
    np.savetxt("labels.txt", LABELS, fmt="%d")
    right("plain.txt", "--labels", "labels.txt")
    np.savetxt("wide.txt", PROBS, fmt="%25.17g")
    right("wide.txt", "--labels", "y.npy")
    np.savetxt("named.csv", PROBS, delimiter=",", header="p0,p1,p2")
    right("named.csv", "--labels", "y.npy")


@pytest.mark.parametrize(
    ("mark", "seen", "word"),
    [("\t", "tabs", "TAB"), (";", "';'", "';'"), ("|", "'|'", "'|'")],
)
def test_another_separator_is_named_with_its_option(mark, seen, word, refused):
    np.savetxt("b.csv", PROBS, delimiter=mark, header="p0 p1 p2".replace(" ", mark), comments="")
    told = refused("b.csv", "--labels", "y.npy")
    expected = f"columns seem to be separated by {seen}, expected commas, or --separator {word}"
    assert told == f"fastent: b.csv: {expected}\n"
    right("b.csv", "--labels", "y.npy", "--separator", word.strip("'"))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_commas_are_refused_by_name(mark, header, refused):
    table = pd.DataFrame({**P, "label": LABELS})
    table.to_csv("x.csv", sep=mark, decimal=",", index=False, header=header)
    told = refused("x.csv", "--labels", "y.npy", "--separator", mark)
    assert "with decimal commas: expected" in told
    assert mark == "\t" or refused("x.csv", "--labels", "y.npy") == told


def test_compressed_text():
    pd.DataFrame({**P, "label": LABELS}).to_csv("x.csv.gz")
    right("x.csv.gz")
    pd.DataFrame({**P, "label": LABELS}).to_csv("x.csv.bz2", index=False)
    right("x.csv.bz2")
    lines = [json.dumps({"probs": p, "label": k}) for p, k in
             zip(PROBS.tolist(), LABELS.tolist(), strict=True)]  # fmt: skip
    Path("x.jsonl").write_text("\n".join(lines) + "\n")
    right("x.jsonl")
    with gzip.open("x.jsonl.gz", "wt") as stream:
        stream.write("\n".join(lines))
    right("x.jsonl.gz")
    pd.DataFrame({**P, "label": LABELS}).to_json("y.jsonl", orient="records", lines=True,
                                                 double_precision=15)  # fmt: skip
    assert loss("y.jsonl") == pytest.approx(LOSS, rel=1e-12)


def test_lines_of_json_with_other_fields():
    more = [{}, {"note": "x"}, {"meta": {"a": [1, None]}}, {"note": None, "p0": 7}]
    rows = enumerate(zip(PROBS.tolist(), LABELS.tolist(), strict=True))
    lines = [json.dumps({**more[i % 4], "probs": p, "label": k}) for i, (p, k) in rows]
    Path("x.jsonl").write_text("\n".join(lines) + "\n")
    right("x.jsonl")


# Which columns


def test_several_parts_of_predictions(refused):
    logits = np.log(PROBS)
    logs = pyarrow.FixedSizeListArray.from_arrays(logits.ravel(), CLASSES)
    columns = {"probs": LISTS, "label": LABELS, "logits": logs}
    for names in (("predictions", "logits", "probs"), ("probs", "predictions", "logits")):
        table = {"predictions": LABELS, "label": LABELS, **columns}
        table = {name: table[name] for name in (*names, "label")}
        pyarrow.parquet.write_table(pyarrow.table(table), "x.parquet")
        right("x.parquet")
        assert loss("x.parquet", kind="logits") == pytest.approx(LOSS, rel=1e-12)
        line = refused("x.parquet", kind="logprobs")
        assert "predictions" in line and "logits" in line and "x.parquet:NAME" in line
    np.savez("x.npz", predictions=LABELS, logits=logits, probs=PROBS, labels=LABELS)
    right("x.npz")
    np.savez("x.npz", probs=PROBS, labels=LABELS, label=LABELS)
    assert "labels, label" in refused("x.npz")


def test_families_beside_another(refused):
    table = {str(k): PROBS[:, k] for k in range(CLASSES)} | {"label": LABELS}
    table |= {f"feature{k}": RNG.random(ROWS) for k in range(4)}
    pyarrow.parquet.write_table(pyarrow.table(table), "x.parquet")
    assert "x.parquet:0..2" in refused("x.parquet")
    right("x.parquet:0..2")
    table = {f"p_{k}": PROBS[:, k] for k in range(CLASSES)} | {"label": LABELS}
    table |= {f"f{k}": RNG.random(ROWS) for k in range(4)}
    pyarrow.parquet.write_table(pyarrow.table(table), "x.parquet")
    for part in ("p_*", "p_", "p_0..p_2", "p_0..2"):
        right(f"x.parquet:{part}")


def test_names_with_colons():
    table = {"a:probs": LISTS, "b": LISTS, "c:label": LABELS}
    pyarrow.parquet.write_table(pyarrow.table(table), "x.parquet")
    os.rename("x.parquet", "x:1.parquet")
    right("x:1.parquet:a:probs", "--labels", ":c:label")
    os.mkdir("d:e")
    os.rename("x:1.parquet", "d:e/part:0.parquet")
    right("d:e:b", "--labels", "d:e:c:label")


def test_indices_of_pandas():
    frame = pd.DataFrame({k: PROBS[:, k] for k in range(CLASSES)} | {"label": LABELS})
    frame.to_csv("x.csv")
    right("x.csv")
    frame.index = frame.index + 1000
    frame.columns = frame.columns.astype(str)
    frame.to_parquet("x.parquet")
    right("x.parquet")


# Folders


def test_hidden_files_are_left_out():
    os.mkdir("d")
    for name in ("part-0.parquet", ".part-1.parquet", "_part-2.parquet", "._part-0.parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"probs": LISTS, "label": LABELS}), f"d/{name}")
    Path("d/_SUCCESS").touch()
    found = report("d")
    assert found["rows"] == ROWS and len(found["inputs"]) == 1


def test_capitals_and_other_suffixes():
    table = pyarrow.table({"probs": LISTS, "label": LABELS})
    os.mkdir("d")
    for name in ("a.PARQUET", "b.pq"):
        pyarrow.parquet.write_table(table, f"d/{name}")
    for name in ("c.ipc", "d.Feather"):
        pyarrow.feather.write_feather(table, f"d/{name}")
    with (
        pyarrow.OSFile("d/e.arrows", "wb") as file,
        pyarrow.ipc.new_stream(file, table.schema) as stream,
    ):
        stream.write_table(table)
    assert report("d")["rows"] == 5 * ROWS


def test_empty_parts_of_spark():
    os.mkdir("d")
    Path("d/part-0.csv").touch()
    text(np.column_stack([PROBS, LABELS.astype(object)]), "p0,p1,p2,label", path="d/part-1.csv")
    right("d")
    right("d/*.csv")


def test_tables_with_a_log_are_refused(refused):
    deltalake = pytest.importorskip("deltalake")
    table = pyarrow.table({"probs": LISTS, "label": LABELS})
    for _ in range(2):
        deltalake.write_deltalake("d", table, mode="overwrite")
    for word in ("d", "d/*.parquet", next(iter(map(str, Path("d").glob("*.parquet"))))):
        assert "a Delta table" in refused(word)


def test_partitioned_folders():
    frame = pl.DataFrame({**P, "label": LABELS, "lang": np.array(["de", "en"])[LABELS % 2]})
    pyarrow.parquet.write_to_dataset(frame.to_arrow(), "d", partition_cols=["lang"])
    Path("d/lang=de/_ignored.parquet").write_text("")
    right("d")
    found = report("d", "--groups", "lang")
    assert set(found["groups"]) == {"de", "en"}
    whole = report("x.npy", "--labels", "y.npy", "--groups", "y.npy")["groups"]
    assert found["groups"]["en"]["accuracy"]["count"] == whole["1"]["accuracy"]["count"]


def test_the_only_matrix_of_an_archive_is_the_predictions():
    np.savez("z.npz", a=np.ones(ROWS), some=PROBS, other=LABELS)
    right("z.npz", "--labels", "z.npz:other")


def test_class_weights_from_a_file():
    Path("w.txt").write_text("1\n2\n0.5\n")
    expected = fe.sparse_cross_entropy(LABELS, PROBS, class_weight=[1, 2, 0.5], reduction="mean")
    for given in ("w.txt", "@w.txt", "1,2,0.5"):
        found = loss("x.npy", "--labels", "y.npy", "--class-weight", given)
        assert found == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_batches_without_rows(codec):
    table = pyarrow.table({"probs": LISTS, "label": LABELS})
    options = pyarrow.ipc.IpcWriteOptions(compression=codec)
    with pyarrow.ipc.new_file("x.arrow", table.schema, options=options) as writer:
        for part in (table[:20], table[:0], table[20:], table[:0]):
            for batch in part.to_batches() or [pyarrow.record_batch(part.to_pydict(), part.schema)]:
                writer.write_batch(batch)
    assert pyarrow.ipc.open_file("x.arrow").num_record_batches == 4
    right("x.arrow")


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("kind", ["list", "large_list", "fixed"])
def test_lists_in_compressed_batches(kind, codec, large, monkeypatch):
    """Also in such as are too large for the library to inflate in memory."""
    if large:
        monkeypatch.setattr("fastent.io.arrow.LARGEST_BATCH", 0)
    lists = {
        "list": lambda: pyarrow.array(PROBS.tolist()),
        "large_list": lambda: pyarrow.array(PROBS.tolist(), pyarrow.large_list(pyarrow.float64())),
        "fixed": lambda: LISTS,
    }[kind]()
    pyarrow.feather.write_feather(
        pyarrow.table({"probs": lists, "label": LABELS}), "x.feather", codec, chunksize=17
    )
    right("x.feather")


@pytest.mark.parametrize("length", [-1, 1])
@pytest.mark.parametrize("codec", ["zstd", "uncompressed"])
def test_lists_of_one_number_are_rows_of_the_binary_task(length, codec):
    kind = pyarrow.list_(pyarrow.float64(), length)
    columns = {"probs": pyarrow.array(PROBS[:, :1].tolist(), kind), "target": LABELS % 2}
    pyarrow.parquet.write_table(pyarrow.table(columns), "x.parquet")
    pyarrow.feather.write_feather(pyarrow.table(columns), "x.feather", codec, chunksize=17)
    expected = fe.binary_cross_entropy(LABELS % 2, PROBS[:, 0], kind="probs", reduction="mean")
    for path in ("x.parquet", "x.feather"):
        words = ["score", path, "--kind", "probs", "--task", "binary", "--quiet"]
        assert main([*words, "--json", "found.json"]) == 0
        found = json.loads(Path("found.json").read_text())["metrics"]
        assert found["cross_entropy"]["value"] == expected


def test_a_row_of_infinities_that_gives_nan_is_told(refused):
    logits = np.log(PROBS)
    logits[7] = -np.inf
    np.save("x.npy", logits)
    told = refused("x.npy", "--labels", "y.npy", kind="logits")
    assert told.startswith("fastent: x.npy: row 7 gives NaN")


def test_folders_of_hugging_face(refused):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"probs": PROBS.tolist(), "label": LABELS.tolist()})
    data.save_to_disk("d", num_shards=3)
    mapped = data.map(lambda row: {"label": 0})
    mapped.save_to_disk("e")
    for name in ("cache-1.arrow", "cache-2.arrow"):
        Path("d", name).write_bytes(Path("e/data-00000-of-00001.arrow").read_bytes())
    right("d")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk("s")
    assert "several splits" in refused("s")
    right("s/test")


def test_addresses_are_refused(refused):
    for word in ("s3://bucket/x.npy", "https://host/x.parquet", "hf://datasets/x"):
        assert f"{word}: an address, expected a file" in refused(word, "--labels", "y.npy")


# Files of other writers


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
@pytest.mark.parametrize("how", ["list", "array", "columns"])
def test_polars(compression, how):
    rows = {
        "list": {"probs": PROBS.tolist()},
        "array": {"probs": pl.Series(PROBS.tolist(), dtype=pl.Array(pl.Float64, CLASSES))},
        "columns": P,
    }[how]
    frame = pl.DataFrame({"text": [str(k) for k in range(ROWS)], **rows, "label": LABELS})
    frame.write_ipc("x.arrow", compression=compression)
    right("x.arrow")
    frame.lazy().sink_ipc("y.arrow", compression=compression)
    right("y.arrow")
    frame.write_parquet("x.parquet", row_group_size=7)
    right("x.parquet")
    frame.write_ipc_stream("z.arrow")
    right("z.arrow")


def test_duckdb():
    duckdb = pytest.importorskip("duckdb")
    rows = pyarrow.table({"probs": LISTS, "label": LABELS, **P})  # noqa: F841
    duckdb.sql("copy (select probs, label from rows) to 'x.parquet'")
    right("x.parquet")
    names = ", ".join(f"{n}::decimal(18, 15) as {n}" for n in P)
    duckdb.sql(f"copy (select {names}, label::hugeint as label from rows) to 'y.parquet'")
    assert loss("y.parquet") == pytest.approx(LOSS, rel=1e-10)
    duckdb.sql("copy (select p0, p1, p2, label from rows) to 'x.csv'")
    right("x.csv")


def test_an_arrow_file_without_an_end_mark():
    pyarrow.feather.write_feather(
        pyarrow.table({"probs": LISTS, "label": LABELS}), "x.arrow", compression="uncompressed"
    )
    data = Path("x.arrow").read_bytes()
    mark = data.rindex(b"\xff\xff\xff\xff\0\0\0\0")
    Path("x.arrow").write_bytes(data[:mark] + data[mark + 8 :])
    right("x.arrow")


def test_types_that_hold_numbers():
    tensors = pyarrow.ExtensionArray.from_storage(
        pyarrow.fixed_shape_tensor(pyarrow.float64(), [CLASSES]), LISTS
    )
    views = pyarrow.array(PROBS.tolist(), pyarrow.list_view(pyarrow.float64()))
    money = {n: pyarrow.array([Decimal(str(v)) for v in c.round(15)]) for n, c in P.items()}
    coded = pyarrow.array(LABELS).dictionary_encode()
    for number, columns in enumerate(({"probs": tensors}, {"probs": views}, money)):
        table = pyarrow.table({**columns, "label": coded})
        pyarrow.feather.write_feather(table, f"{number}.feather")
        assert loss(f"{number}.feather") == pytest.approx(LOSS, rel=1e-12)


def test_spark_vectors_are_refused(refused):
    kind = pyarrow.struct([("type", pyarrow.int8()), ("size", pyarrow.int32()),
                           ("indices", pyarrow.list_(pyarrow.int32())),
                           ("values", pyarrow.list_(pyarrow.float64()))])  # fmt: skip
    rows = [{"type": 1, "size": None, "indices": None, "values": row} for row in PROBS.tolist()]
    table = {"probability": pyarrow.array(rows, kind), "label": LABELS}
    pyarrow.parquet.write_table(pyarrow.table(table), "x.parquet")
    assert "vector_to_array" in refused("x.parquet:probability")
    assert "x.parquet" in refused("x.parquet")


# Missing numbers


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather"])
@pytest.mark.parametrize("policy", ["omit", "propagate", "raise"])
def test_null_is_nan(suffix, policy, capsys):
    holes = PROBS.copy()
    holes[[3, 11], 1] = np.nan
    np.save("holes.npy", holes)
    words = ["--nan-policy", policy]
    write = {".csv": pyarrow.csv.write_csv, ".parquet": pyarrow.parquet.write_table,
             ".feather": pyarrow.feather.write_feather}[suffix]  # fmt: skip
    columns = {n: pyarrow.array(holes[:, k], mask=np.isnan(holes[:, k])) for k, n in enumerate(P)}
    write(pyarrow.table({**columns, "label": LABELS}), f"holes{suffix}")
    code = run("holes.npy", "--labels", "y.npy", *words)
    if policy == "raise":
        assert code == 2 and run(f"holes{suffix}", *words) == 2
        assert "row 3 gives NaN" in capsys.readouterr().err
        return
    expected = json.loads(Path("report.json").read_text())
    found = report(f"holes{suffix}", *words)
    assert found["metrics"] == expected["metrics"] and found["nan_rows"] == 2


@pytest.mark.parametrize(
    "names", [pyarrow.array([0.5, None] * (ROWS // 2)), pyarrow.array([True, False] * (ROWS // 2)),
              pyarrow.array([10, None] * (ROWS // 2), pyarrow.date32()),
              pyarrow.array(["a", None] * (ROWS // 2))],
)  # fmt: skip
def test_groups_of_any_type(names):
    pyarrow.parquet.write_table(pyarrow.table({**P, "label": LABELS, "g": names}), "x.parquet")
    found = report("x.parquet", "--groups", "g")
    assert len(found["groups"]) == 2


def test_groups_in_wide_text(monkeypatch):
    monkeypatch.setattr("fastent.io.csv.WIDE", 2)
    rows = [[*p, k, "ab"[k % 2]] for p, k in zip(PROBS, LABELS, strict=True)]
    text(rows, "p0,p1,p2,label,lang")
    assert set(report("x.csv", "--groups", "lang")["groups"]) == {"a", "b"}
    right("x.csv")


def quoted(values):
    return [f'"{value}"' for value in values]


FIELDS = {
    "label": {
        "numbers": LABELS,
        "names": [f"p{k}" for k in LABELS],
        "names in quotes": quoted(f"p{k}" for k in LABELS),
        "numbers in quotes": quoted(LABELS),
        "reals": LABELS + 0.0,
        "halves": LABELS + 0.5,
        "one is missing": ["", *LABELS[1:]],
        "one is NA": [*LABELS[:-1], "NA"],
        "one is a word": [*LABELS[:-1], "dog"],
        "out of range": [*LABELS[:-1], 3],
    },
    "p0": {
        "numbers in quotes": quoted(P["p0"]),
        "spaces": [f" {p!r} " for p in P["p0"].tolist()],
        "one is missing": ["", *P["p0"][1:]],
        "one is a word": [*P["p0"][:-1], "x"],
        "first is a word": ["x", *P["p0"][1:]],
        "one is NaN": ["nan", *P["p0"][1:]],
    },
    "w": {"text": ["a"] * ROWS, "one is missing": ["", *range(1, ROWS)], "negative": [-1] * ROWS},
    "lang": {
        "numbers": LABELS,
        "numbers with zeros": [f"0{k}" for k in LABELS],
        "some are missing": ["", "NA", *"ab" * (ROWS // 2 - 1)],
        "quotes": quoted("ab" * (ROWS // 2)),
        "separators": quoted(["a,b", "c"] * (ROWS // 2)),
    },
    "id": {"large": [2**53 + 1 + k for k in range(ROWS)], "text": [f"r{k}" for k in range(ROWS)],
           "missing": ["", *range(1, ROWS)], "reals": np.arange(ROWS) / 8},
}  # fmt: skip


REFUSED = {
    "label": ["halves", "one is missing", "one is NA", "one is a word", "out of range"],
    "p0": ["one is missing", "one is a word", "first is a word", "one is NaN"],
    "w": list(FIELDS["w"]),
}


@pytest.mark.parametrize(
    ("column", "case"), [(column, case) for column in FIELDS for case in FIELDS[column]]
)
def test_wide_text_is_read_as_other_text(column, case, monkeypatch, capsys):
    """Files of thousands of columns are read by the line, and say the same, or refuse it."""
    table = {**P, "label": LABELS, "w": LABELS + 1, "lang": list("ab" * (ROWS // 2)),
             "id": range(ROWS)}  # fmt: skip
    table[column] = FIELDS[column][case]
    text(list(zip(*table.values(), strict=True)), ",".join(table))
    words = [
        "x.csv",
        "--weights",
        "w",
        "--groups",
        "lang",
        "--rows",
        "rows.parquet",
        "--keep",
        "id",
    ]
    told = []
    for wide in (2000, 2):
        monkeypatch.setattr("fastent.io.csv.WIDE", wide)
        code = run(*words)
        lines = capsys.readouterr().err.count("\n")
        assert lines == (code == 2)
        told.append([code])
        if code == 0:
            table = pyarrow.parquet.read_table("rows.parquet").to_pydict()
            told[-1] += [Path("report.json").read_text(), repr(table)]
    assert told[0] == told[1]
    assert told[0][0] == (2 if case in REFUSED.get(column, ()) else 0)


def test_several_groups():
    table = pyarrow.table({**P, "label": LABELS, "a": LABELS % 2, "b": ["x", "y"] * (ROWS // 2)})
    pyarrow.parquet.write_table(table, "x.parquet")
    found = report("x.parquet", "--groups", "a", "--groups", "b")
    assert set(found["groups"]) == {"0 / x", "0 / y", "1 / x", "1 / y"}


def test_class_axis():
    first = np.ascontiguousarray(PROBS.T)
    np.save("first.npy", first)
    right("first.npy", "--labels", "y.npy", "--axis", "0")
    np.savez_compressed("first.npz", first)
    right("first.npz", "--labels", "y.npy", "--axis", "0")
    save_file({"probs": first}, "first.safetensors")
    right("first.safetensors", "--labels", "y.npy", "--axis", "0")
    cube = PROBS[:48].reshape(6, 8, CLASSES)
    np.save("cube.npy", np.ascontiguousarray(np.moveaxis(cube, -1, 1)))
    np.save("labels.npy", LABELS[:48].reshape(6, 8))
    expected = loss("cube.npy", "--labels", "labels.npy", "--axis", "1")
    np.save("x48.npy", PROBS[:48])
    np.save("y48.npy", LABELS[:48])
    assert expected == loss("x48.npy", "--labels", "y48.npy")
    np.savez_compressed("cube.npz", cube)
    assert expected == loss("cube.npz", "--labels", "labels.npy", "--axis", "2")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a":1}\n\n \t\n{"a":3}', [1, 3]),
        ('{"a":1}\r\n\r\n{"a":3}\r\n', [1, 3]),
        ('{"a":\n1}\n{"a":3}\n', [1, 3]),  # written for people to read
        ('{"a":1} {"a":2}\n{"a":3}\n', None),
        ('{"a":1}\n{"a":2}{"a":3}', None),
    ],
)
def test_lines_of_json_are_rows(text, values):
    Path("a.jsonl").write_bytes(text.encode())
    source = open_source(Reference("a.jsonl", "a"), "weights")
    if values is not None:
        assert source.read(0, source.rows, Buffer()).tolist() == values
        return
    with pytest.raises(InputError, match=r"^a.jsonl: more objects than lines, expected an object"):
        source.read(0, source.rows, Buffer())
