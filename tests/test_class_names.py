"""Columns named after classes, with labels that are their names: the same numbers as by codes."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

import fastent as fe
from fastent._classes import Classes
from fastent.cli import main

ROWS = 60
NAMES = ("cat", "dog", "bird", "newt")  # no row is a newt
RNG = np.random.default_rng(3)
PROBS = RNG.dirichlet(np.ones(4), ROWS)
CODES = RNG.integers(0, 3, ROWS)
LABELS = np.array(NAMES)[CODES]
LOSS = fe.sparse_cross_entropy(CODES, PROBS, reduction="mean")
WRITE = {
    ".csv": pyarrow.csv.write_csv,
    ".parquet": pyarrow.parquet.write_table,
    ".feather": pyarrow.feather.write_feather,
}
every_format = pytest.mark.parametrize("suffix", WRITE)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("labels.npy", LABELS)
    np.save("codes.npy", CODES)
    np.save("probs.npy", PROBS)


def score(*words, kind="probs"):
    command = ["score", *words, "--kind", kind, "--quiet", "--json", "report.json"]
    assert main(command) == 0
    return json.loads(Path("report.json").read_text())


def loss(*words, **options):
    return score(*words, **options)["metrics"]["cross_entropy"]["value"]


def complaint(capsys, *words, kind="probs"):
    assert main(["score", *words, "--kind", kind, "--quiet"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def columns(prefix="", order=(0, 1, 2, 3)):
    return {prefix + NAMES[k]: PROBS[:, k] for k in order}


@every_format
@pytest.mark.parametrize("prefix", ["", "Probability:Class=", "class_", "proba_", "p("])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_columns_after_labels(suffix, prefix, order, capsys):
    table = {"id": np.arange(ROWS), **columns(prefix, order), "label": LABELS}
    WRITE[suffix](pyarrow.table(table), f"x{suffix}")
    assert loss(f"x{suffix}") == pytest.approx(LOSS, rel=1e-15)
    assert loss(f"x{suffix}", "--classes", ",".join(NAMES)) == pytest.approx(LOSS, rel=1e-15)
    assert loss(f"x{suffix}", "--labels", "labels.npy") == pytest.approx(LOSS, rel=1e-15)
    logits = {n: np.log(c) if c.dtype == float else c for n, c in table.items()}
    WRITE[suffix](pyarrow.table(logits), f"y{suffix}")
    if prefix:
        assert loss(f"y{suffix}", kind="logits") == pytest.approx(LOSS, rel=1e-12)
    else:  # is it a class, or another number?
        assert "no label is called newt" in complaint(capsys, f"y{suffix}", kind="logits")
    words = ["--classes", ",".join(NAMES)]
    assert loss(f"y{suffix}", *words, kind="logits") == pytest.approx(LOSS, rel=1e-12)


@every_format
def test_labels_in_another_file(suffix, capsys):
    WRITE[suffix](pyarrow.table({"Id": np.arange(ROWS), **columns()}), f"submission{suffix}")
    WRITE[suffix](pyarrow.table({"Id": np.arange(ROWS), "Class": LABELS}), f"truth{suffix}")
    words = [f"submission{suffix}", "--labels", f"truth{suffix}"]
    assert loss(*words) == pytest.approx(LOSS, rel=1e-15)
    assert loss(*words, "--id", "Id") == pytest.approx(LOSS, rel=1e-15)
    ids = np.arange(ROWS)
    ids[[4, 5]] = 5, 4
    WRITE[suffix](pyarrow.table({"Id": ids, "Class": LABELS}), f"truth{suffix}")
    line = complaint(capsys, *words, "--id", "Id")
    assert f"truth{suffix}:Id: row 4 is 5, expected 4 as in submission{suffix}:Id" in line


@pytest.mark.parametrize("head", ["species\n", ""])
def test_a_single_column_of_labels(head):
    """Whether its first line is a name, the rows of the predictions tell."""
    pyarrow.csv.write_csv(pyarrow.table(columns()), "x.csv")
    Path("labels.csv").write_text(head + "".join(f"{label}\n" for label in LABELS))
    for words in (["--labels", "labels.csv"], ["--labels", "labels.csv", "--classes",
                                               ",".join(NAMES)]):  # fmt: skip
        assert loss("x.csv", *words) == pytest.approx(LOSS, rel=1e-15)


def test_submissions_of_one_number():
    clicked = (CODES == 0) * 1
    for name, target in (("submission", PROBS[:, 0]), ("truth", clicked)):
        table = pyarrow.table({"id": np.arange(ROWS), "target": target})
        pyarrow.csv.write_csv(table, f"{name}.csv")
    expected = fe.binary_cross_entropy(clicked, PROBS[:, 0], reduction="mean")
    words = ["submission.csv", "--labels", "truth.csv", "--task", "binary", "--id", "id"]
    assert loss(*words) == pytest.approx(expected, rel=1e-14)


def test_targets_in_columns():
    np.savetxt("onehot.csv", np.eye(4)[CODES], delimiter=",", fmt="%.1f")
    words = ["probs.npy", "--labels", "onehot.csv", "--task", "categorical"]
    assert loss(*words) == pytest.approx(LOSS, rel=1e-14)


def test_a_class_that_has_no_column_or_no_name(capsys):
    table = {**columns(order=(0, 1, 2)), "label": LABELS}
    pyarrow.parquet.write_table(pyarrow.table(table), "x.parquet")
    line = complaint(capsys, "x.parquet", "--classes", "cat,dog,bird,newt")
    assert "x.parquet: no column for the class 'newt' of --classes" in line
    labels = LABELS.astype(object)
    labels[7] = "emu"
    pyarrow.parquet.write_table(pyarrow.table({**columns(), "label": labels}), "x.parquet")
    line = complaint(capsys, "x.parquet", "--classes", "cat,dog,bird,newt")
    assert "x.parquet:label: row 7: no class is called 'emu'" in line
    np.save("emu.npy", labels.astype(str))
    line = complaint(capsys, "probs.npy", "--labels", "emu.npy", "--classes", "cat,dog,bird,newt")
    assert "emu.npy: row 7: no class is called 'emu'" in line


def test_arrays_are_named_by_classes(capsys):
    words = ["probs.npy", "--labels", "labels.npy"]
    assert "--classes" in complaint(capsys, *words)
    found = score(*words, "--classes", "cat,dog,bird,newt")
    plain = score("probs.npy", "--labels", "codes.npy")
    assert found["metrics"] == plain["metrics"]
    Path("names.txt").write_text("cat\ndog\nbird\nnewt\n")
    assert score(*words, "--classes", "@names.txt")["metrics"] == plain["metrics"]
    line = complaint(capsys, *words, "--classes", "cat,dog,bird")
    assert "probs.npy: 4 classes, expected the 3 of --classes" in line


@every_format
def test_numbers_that_name_classes(suffix, capsys):
    table = {f"class_{k + 1}": PROBS[:, k] for k in range(4)} | {"label": CODES + 1}
    WRITE[suffix](pyarrow.table(table), f"x{suffix}")
    assert "--classes 1,2,3,..." in complaint(capsys, f"x{suffix}")
    assert loss(f"x{suffix}", "--classes", "1,2,3,4") == pytest.approx(LOSS, rel=1e-15)
    table = {f"V{k + 1}": PROBS[:, k] for k in range(4)} | {"label": CODES + 1}
    WRITE[suffix](pyarrow.table(table), f"x{suffix}")
    assert "do not begin at 0" in complaint(capsys, f"x{suffix}")
    table = {f"class_{k - 1}": PROBS[:, k] for k in range(4)} | {"label": CODES - 1}
    WRITE[suffix](pyarrow.table(table), f"x{suffix}")
    complaint(capsys, f"x{suffix}")
    assert loss(f"x{suffix}", "--classes", "-1,0,1,2") == pytest.approx(LOSS, rel=1e-15)


def test_ignored_names():
    labels = LABELS.copy()
    labels[::7] = "?"
    np.save("some.npy", labels)
    words = ["probs.npy", "--labels", "some.npy", "--classes", "cat,dog,bird,newt"]
    found = score(*words, "--ignore-index", "?")
    codes = CODES.copy()
    codes[::7] = -100
    expected = fe.sparse_cross_entropy(codes, PROBS, ignore_index=-100, reduction="mean")
    assert found["metrics"]["cross_entropy"]["value"] == pytest.approx(expected, rel=1e-15)
    assert found["ignored_rows"] == len(labels[::7])


def test_files_whose_columns_stand_in_another_order():
    half = ROWS // 2
    for k, order in enumerate([(0, 1, 2, 3), (2, 0, 3, 1)]):
        rows = slice(k * half, (k + 1) * half)
        table = {n: c[rows] for n, c in columns(order=order).items()} | {"label": LABELS[rows]}
        pyarrow.parquet.write_table(pyarrow.table(table), f"part-{k}.parquet")
    found = score("part-*.parquet")["metrics"]
    plain = score("probs.npy", "--labels", "codes.npy")["metrics"]
    assert found == plain


@every_format
def test_other_numbers_are_no_classes(suffix, capsys):
    table = {**columns(), "score": RNG.random(ROWS), "label": LABELS}
    WRITE[suffix](pyarrow.table(table), f"x{suffix}")
    assert f"x{suffix}" in complaint(capsys, f"x{suffix}")
    assert "called" in complaint(capsys, f"x{suffix}", "--row-sums", "rescale")
    words = ["--classes", ",".join(NAMES)]
    assert loss(f"x{suffix}", *words) == pytest.approx(LOSS, rel=1e-15)
    two = {**columns("prob_"), **columns("logit_"), "label": LABELS}
    WRITE[suffix](pyarrow.table(two), f"x{suffix}")
    assert "PREFIX*" in complaint(capsys, f"x{suffix}")
    assert loss(f"x{suffix}:prob_*", *words) == pytest.approx(LOSS, rel=1e-15)


# In Python


@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist(), LABELS.astype(object)])
@pytest.mark.parametrize("engine_name", ["cython", "numba", "numpy"])
def test_functions_and_accumulators(labels, engine_name):
    expected = fe.sparse_cross_entropy(CODES, PROBS, backend=engine_name)
    found = fe.sparse_cross_entropy(labels, PROBS, classes=NAMES, backend=engine_name)
    np.testing.assert_array_equal(found, expected)
    plain = fe.Accumulator(["cross_entropy", "skill"]).update(CODES, PROBS)
    named = fe.Accumulator(["cross_entropy", "skill"], classes=NAMES)
    named.update(labels[:20], PROBS[:20])
    other = named.copy().reset().update(labels[20:], PROBS[20:])
    named = fe.Accumulator.from_state_dict(json.loads(json.dumps((named + other).state_dict())))
    for metric in ("cross_entropy", "skill"):
        assert named.compute()[metric].value == plain.compute()[metric].value
    assert named.update(labels, PROBS).compute()["cross_entropy"].count == 2 * ROWS


def test_numbers_as_names():
    names = [30, 10, 40, 20]
    labels = np.array(names)[CODES]
    expected = fe.sparse_cross_entropy(CODES, PROBS)
    for given in (labels, labels.astype(np.uint8), labels.astype(float), labels.tolist()):
        np.testing.assert_array_equal(
            fe.sparse_cross_entropy(given, PROBS, classes=names), expected
        )
    cube = labels.reshape(6, 10)
    found = fe.sparse_cross_entropy(
        cube, np.moveaxis(PROBS.reshape(6, 10, 4), -1, 0), classes=names, axis=0
    )
    np.testing.assert_array_equal(found, expected.reshape(6, 10))
    assert float(fe.sparse_cross_entropy(10, PROBS[0], classes=names)) == -np.log(PROBS[0, 1])
    found = fe.sparse_cross_entropy(labels.tolist(), PROBS.tolist(), classes=names)
    np.testing.assert_array_equal(found, expected)


def test_numbers_in_files_are_compared_by_value():
    classes = Classes(["1", "02", "1e3", "other"])
    labels = np.array(["other", "1.0", "2", "1000", "1e3"])
    codes, unknown = classes.codes(labels, by_text=True)
    assert codes.tolist() == [3, 0, 1, 2, 2] and unknown is None
    assert classes.codes(labels)[1] == 1
    with pytest.raises(ValueError, match="got 3 twice"):
        Classes([np.int64(3), np.uint8(3)])


def test_ignored_in_python():
    labels = LABELS.astype(object)
    labels[3] = None
    labels[5] = "?"
    with pytest.raises(ValueError, match=r"^labels: expected one of cat, .* got None in row 3$"):
        fe.sparse_cross_entropy(labels, PROBS, classes=NAMES, ignore_index="?")
    labels[3] = "?"
    found = fe.sparse_cross_entropy(labels, PROBS, classes=NAMES, ignore_index="?")
    assert found[3] == found[5] == 0 and np.count_nonzero(found) == ROWS - 2
    acc = fe.Accumulator("cross_entropy", classes=NAMES, ignore_index="?")
    assert acc.update(labels, PROBS).compute()["cross_entropy"].weight == ROWS - 2


@pytest.mark.parametrize(
    ("classes", "error"),
    [
        ("cat", TypeError), (7, TypeError), ([], ValueError), (NAMES[:3], ValueError),
        (["a", "a", "b", "c"], ValueError), ([["a"], "b", "c", "d"], TypeError),
        (["1", "2", "3", "4"], ValueError),
    ],
)  # fmt: skip
def test_names_that_are_none(classes, error):
    with pytest.raises(error, match=r"^(classes|labels): [^\n]+$"):
        fe.sparse_cross_entropy(CODES + 1, PROBS, classes=classes)
    with pytest.raises(ValueError, match=r"^classes: "):
        fe.Accumulator("cross_entropy", task="binary", classes=NAMES)
    first, second = (fe.Accumulator("accuracy", classes=c) for c in (NAMES, NAMES[::-1]))
    with pytest.raises(ValueError, match="classes differs"):
        first.merge(second)
