"""Files that look odd and are right score as plain ones do; those that are wrong are told of."""

import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from fastent.cli import main
from fastent.io.arrow_messages import _field, _structs, _table

ROWS, CLASSES = 40, 3
RNG = np.random.default_rng(11)
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)
HEAD = "label,p0,p1,p2\n"
LINES = [
    f"{label},{','.join(map(repr, row))}\n"
    for label, row in zip(LABELS, LOGITS.astype(float).tolist(), strict=True)
]
CSV = HEAD + "".join(LINES)
OWN = ["--labels", "y.npy"]
COLUMNS = {f"p{k}": LOGITS[:, k] for k in range(CLASSES)}


def write(data):
    return lambda path: Path(path).write_bytes(data if isinstance(data, bytes) else data.encode())


def parquet(**columns):
    return lambda path: pyarrow.parquet.write_table(pyarrow.table(columns), path)


def npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def npy(array):
    return lambda path: np.save(path, array)


def edited_npy(old, new):
    def edit(path):
        np.save(path, LOGITS)
        Path(path).write_bytes(Path(path).read_bytes().replace(old, new))

    return edit


def tensors(path):
    """A tensor that does not begin where its numbers could be read in place."""
    entries, body = {}, b""
    parts = [("a", "U8", [1], b"1"), ("labels", "I64", [ROWS], LABELS.tobytes())]
    for name, kind, shape, data in [*parts, ("logits", "F32", [ROWS, CLASSES], LOGITS.tobytes())]:
        offsets = [len(body), len(body) + len(data)]
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        body += data
    head = json.dumps(entries).encode()
    Path(path).write_bytes(struct.pack("<Q", len(head)) + head + body)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", LOGITS)
    np.save("y.npy", LABELS)


def score(path, *words):
    command = ["score", path, *words, "--kind", "logits", "--quiet", "--json", "report.json"]
    return main(command)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("mark.csv", write("\ufeff" + CSV)),
        ("dos.csv", write(CSV.replace("\n", "\r\n"))),
        ("blank.csv", write("\n\n" + HEAD + "\n".join(LINES) + "\n\n")),
        ("quoted.csv", write(CSV.replace(",", '","').replace("\n", '"\n"')[:-1].join('""')[:-1])),
        ("no-end.csv", write(CSV[:-1])),
        ("points.csv", write(HEAD + "".join(line.replace(",", ".0,", 1) for line in LINES))),
        ("others.npz", npz(logits=LOGITS, labels=LABELS, n=np.array(3), about=np.array([{}]))),
        ("big-endian.npz", npz(logits=LOGITS.astype(">f8"), labels=LABELS.astype(">i2"))),
        ("odd.safetensors", tensors),
        ("columns.parquet", parquet(**COLUMNS, label=LABELS.astype(np.uint8))),
        ("with:colon.npz", npz(logits=LOGITS, labels=LABELS)),
        ("[1] ☃ \udcff.npz", npz(logits=LOGITS, labels=LABELS)),
    ],
)  # fmt: skip
def test_odd_and_right(name, make, capsys):
    assert score("x.npy", "--labels", "y.npy") == 0
    expected = json.loads(Path("report.json").read_text())["metrics"]
    make(name)
    assert score(name, "--html", "page.html") == 0
    report = json.loads(Path("report.json").read_text())
    assert report["inputs"][0]["predictions"].startswith(name)
    for metric in ("accuracy", "cross_entropy"):
        assert report["metrics"][metric]["value"] == pytest.approx(expected[metric]["value"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("none.npy", npy(LOGITS[:0]), ["--labels", "zero.npy"]),
        ("none.csv", write(HEAD), []),
        ("none.parquet", parquet(**{n: c[:0] for n, c in COLUMNS.items()}, label=LABELS[:0]), []),
        ("none.npz", npz(logits=LOGITS[:0], labels=LABELS[:0]), []),
    ],
)
def test_no_rows(name, make, words):
    np.save("zero.npy", LABELS[:0])
    make(name)
    assert score(name, *words, "--html", "page.html", "--rows", "rows.parquet") == 0
    report = json.loads(Path("report.json").read_text())
    assert report["rows"] == 0 and report["metrics"]["cross_entropy"]["value"] == "nan"
    assert pyarrow.parquet.read_table("rows.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("name", "make", "words", "expected"),
    [
        ("a.csv", write(CSV.encode("utf-16")), [], "a.csv: "),
        ("old.csv", write(CSV.replace("\n", "\r")), [], "lines end in carriage returns alone"),
        ("old.csv", write("logit_0,logit_1,label,x\r0,1,2\r0,1,2\r"), [], "lines end in carriage"),
        ("a.csv", write(b"\x1f\x8b\x08\x00zipped,\nx"), [], "a.csv: "),
        ("a.csv", write(CSV + "1_0,1,2,3\n"), [], "row 40: expected a whole number of 64 bits"),
        ("a.csv", write(CSV + f"{1 << 63},1,2,3\n"), [], "row 40: expected a whole number"),
        ("a.csv", write("label,g,p0,p1\n0,a,1,2\n0,\xe9,1,2\n".encode("latin-1")),
         ["--groups", "g"], "row 1: expected UTF-8 text in column g"),
        ("a.rds", write(b""), [], "a.rds: expected a file ending in"),
        ("a.csv.gz", write(CSV), [], "a.csv.gz: cannot be read"),
        ("nine.parquet",
         parquet(**{f"c{k + 9:02}": LOGITS[:, k] for k in range(3)}, label=LABELS), [],
         "columns c09 to c11 do not begin at 0: name the classes as the labels do with --classes"),
        ("gap.parquet", parquet(p0=LOGITS[:, 0], p2=LOGITS[:, 2], label=LABELS), [],
         "gap.parquet: p2 comes after p0"),
        ("list.parquet", parquet(logits=[[1.0, 2.0]], label=[[0, 1]]), [],
         "list.parquet:label: 2 numbers a row, expected one label"),
        ("minus.npy", edited_npy(b"(40, 3)", b"(-4, 3)"), OWN, "shape is (-4, 3)"),
        ("huge.npy", edited_npy(b"(40, 3), ", b"(4" + b"0" * 22 + b", 3), "),
         OWN, "huge.npy: "),
        ("number.npy", npy(np.float32(1)), OWN, "number.npy: a single number"),
        ("complex.npy", npy(LOGITS.astype(complex)), OWN, "got dtype complex128"),
        ("pickled.npy", write(pickle.dumps(LOGITS)), OWN, "not a .npy array"),
        ("some.npz", npz(about=np.array([{}])), OWN, "some.npz:about: holds Python"),
        ("pipe.npy", os.mkfifo, OWN, "pipe.npy: a pipe or device"),
        ("loop.npy", lambda path: os.symlink(path, path), OWN, "loop.npy: Too many"),
        ("gone.npy", lambda path: os.symlink("nowhere", path), OWN, "gone.npy: No"),
    ],
)  # fmt: skip
def test_wrong(name, make, words, expected, capsys):
    make(name)
    assert score(name, *words) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"fastent: {name}") and expected in line
    assert line.count("\n") == 1 and not Path("report.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["", "--labels", "y.npy"], "'': expected the name of a file"),
        ([":p", "--labels", "y.npy"], ":p: expected a file before the colon"),
        (["s3://bucket/x.npy", "--labels", "y.npy"], "s3://bucket/x.npy: an address"),
        (["x.npy", "--labels", "y.npy", "--task", "categorical"],
         "y.npy: one number per row, expected one target per class"),
        (["x.npy", "--labels", "y.npy", "--ignore-index", "9" * 30], "--ignore-index: expected"),
        (["x.npy", "--labels", "y.npy", "--num-threads", "9" * 30], "--num-threads: expected"),
        (["x.npy", "--labels", "y.npy", "--html", ""], "'': expected the name of a file to write"),
        (["x.npy", "--labels", "y.npy", "--html", "page/"], "page/: expected the name of a file"),
        (["x.npy", "--labels", "y.npy", "--rows", "./y.npy"], "--rows ./y.npy: would overwrite"),
        (["x.npy", "--labels", "y.npy", "--html", "report.json"], "--html report.json: --json"),
        (["x.npy", "--labels", "y.npy", "--html", "-", "--rows", "-"], "--rows -: --html writes"),
    ],
)  # fmt: skip
def test_wrong_words(words, expected, capsys):
    before = Path("y.npy").read_bytes()
    assert score(*words) == 2
    line = capsys.readouterr().err
    assert expected in line and line.count("\n") == 1
    assert Path("y.npy").read_bytes() == before and not Path("report.json").exists()


def test_integers_and_text_name_the_same_groups():
    Path("text.csv").write_text("".join(f"{label}\n" for label in LABELS))
    reports = []
    for one, two in (("y.npy", "text.csv"), ("y.npy", "y.npy")):
        words = ["--labels", "y.npy", "y.npy", "--groups", one, two, "--clusters", two, one]
        assert score("x.npy", "x.npy", *words) == 0
        reports.append(json.loads(Path("report.json").read_text()))
    mixed, same = reports
    assert mixed["groups"] == same["groups"] and mixed["metrics"] == same["metrics"]


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"format": 1}',
                b'{"format": 1, "state": {}, "identity": [1], "digest": ""}'],
)  # fmt: skip
def test_a_file_that_is_no_checkpoint_is_left_alone(content, capsys):
    Path("progress").write_bytes(content)
    assert score("x.npy", "--labels", "y.npy", "--checkpoint", "progress") == 2
    line = capsys.readouterr().err
    assert line == "fastent: progress: not a checkpoint of this version of fastent\n"
    assert Path("progress").read_bytes() == content


DAMAGE = """
import numpy as np
from fastent.io import Buffer, InputError, expand, open_source
data = open("x.parquet", "rb").read()
length = int.from_bytes(data[-8:-4], "little")
rng = np.random.default_rng(2)
refused = 0
for at in range(len(data) - 8 - length, len(data) - 8):
    for value in (data[at] ^ 1, int(rng.integers(256))):
        damaged = bytearray(data)
        damaged[at] = value
        open("damaged.parquet", "wb").write(damaged)
        for role in ("labels", "predictions"):
            try:
                with open_source(expand(["damaged.parquet"])[0], role) as source:
                    source.open()
                    source.read(0, source.rows, Buffer())
            except InputError as error:
                refused += 1
print(refused)
"""


@pytest.mark.slow
def test_no_byte_of_a_footer_ends_the_process():
    """As the library does for counts of levels that do not fit its schema."""
    table = pyarrow.table({"label": [1, None], "p": pyarrow.array([[0.5, 0.5], None])})
    pyarrow.parquet.write_table(table, "x.parquet")
    words = [sys.executable, "-P", "-c", DAMAGE]
    told = subprocess.run(words, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) > 300


@pytest.mark.parametrize("lists", [False, True])
def test_a_damaged_arrow_batch_is_not_one_without_rows(lists, capsys):
    columns = {"p": [[0.5, 0.5]] * 8} if lists else {"p0": [0.5] * 8, "p1": [0.5] * 8}
    rows = pyarrow.table(columns)
    pyarrow.feather.write_feather(rows, "x.arrow", "uncompressed", chunksize=4)
    data = bytearray(Path("x.arrow").read_bytes())
    (length,) = struct.unpack("<i", data[-10:-6])
    footer = bytes(data[-10 - length : -10])
    _, (offset, *_) = _structs(footer, _field(footer, _table(footer, 0), 3), "<qi4xq")
    head = bytes(data[offset + 8 :])
    batch = _table(head, _field(head, _table(head, 0), 2))
    fields = offset + 8 + batch - struct.unpack_from("<i", head, batch)[0] + 4
    data[fields : fields + 4] = bytes(4)  # neither a length nor nodes
    Path("x.arrow").write_bytes(data)
    np.save("y.npy", np.zeros(4, int))
    assert main(["score", "x.arrow", "--labels", "y.npy", "--kind", "probs"]) == 2
    assert "x.arrow: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["map", "struct", "lists of lists", "required"])
def test_footers_of_nested_columns(name):
    kinds = {
        "map": pyarrow.array([[("a", 1)], [], None], pyarrow.map_(pyarrow.string(), "int32")),
        "struct": pyarrow.array([{"a": 1, "b": [2]}, None, {"a": None, "b": None}]),
        "lists of lists": pyarrow.array([[[1], []], None, []]),
        "required": pyarrow.array([1, 2, 3]),
    }
    field = pyarrow.field("more", kinds[name].type, nullable=name != "required")
    probs = pyarrow.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    schema = pyarrow.schema([field, ("probs", probs.type), ("label", "int64")])
    table = pyarrow.table([kinds[name], probs, [0, 1, 0]], schema=schema)
    pyarrow.parquet.write_table(table, "x.parquet", row_group_size=2)
    words = ["score", "x.parquet:probs", "--labels", "x.parquet:label", "--kind", "probs"]
    assert main([*words, "--quiet"]) == 0
