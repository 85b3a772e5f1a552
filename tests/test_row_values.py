"""`--rows`: the metrics of every row, whatever its weight, and null where it is ignored."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from test_score_command import score

import fastent as fe
from fastent.cli import main, rows
from fastent.io import shards

ROWS, CLASSES = 100, 7
RNG = np.random.default_rng(8)
LOGITS = RNG.normal(0, 2, (ROWS, CLASSES))
LABELS = RNG.integers(0, CLASSES, ROWS)
WEIGHTS = np.where(np.arange(ROWS) % 3 == 1, 0.0, RNG.random(ROWS))
NAMES = ["cross_entropy", "perplexity", "bits", "accuracy", "top2_accuracy", "brier", "entropy",
         "confidence"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards, "PIECE_ROWS", 7)
    monkeypatch.setattr(rows, "GROUP_ROWS", 11)


def written(*words):
    score(*words, "--metrics", ",".join(NAMES), "--rows", "rows.parquet")
    table = pyarrow.parquet.read_table("rows.parquet")
    groups = pyarrow.parquet.ParquetFile("rows.parquet")
    assert groups.num_row_groups == -(-ROWS // 11)
    assert table.column_names == ["file", "row", *NAMES] and table.num_rows == ROWS
    return {name: table[name].combine_chunks() for name in NAMES}


def expected(labels, logits):
    """Of every row alone, by an accumulator of just this row."""
    found = {name: [] for name in NAMES}
    for label, row in zip(labels, logits, strict=True):
        report = fe.Accumulator(NAMES, kind="logits").update([label], row[None]).compute()
        for name in NAMES:
            found[name].append(report[name].value)
    return found


def test_groups_of_wide_rows_are_smaller(monkeypatch):
    sink, schema = io.BytesIO(), pyarrow.schema([(f"c{k}", "double") for k in range(40)])
    monkeypatch.setattr(rows, "GROUP_ROWS", 1000)
    monkeypatch.setattr(rows, "GROUP_BYTES", 40 * 8 * 6)
    writer = rows.RowGroups(sink, schema)
    for count in (5, 0, 13, 1):
        numbers = np.arange(count, dtype=float)
        writer.write(pyarrow.record_batch([numbers] * 40, schema=schema))
    writer.close()
    written = pyarrow.parquet.ParquetFile(sink)
    groups = [written.metadata.row_group(k).num_rows for k in range(written.num_row_groups)]
    assert groups == [6, 6, 6, 1]


@pytest.mark.parametrize("given", ["no weights", "weights"])
@pytest.mark.parametrize("ignores", [False, True])
def test_weights_do_not_show_and_ignored_rows_are_null(given, ignores):
    labels = LABELS.copy()
    if ignores:
        labels[[0, 1, 30, 31, 99]] = -100
    np.save("x.npy", LOGITS)
    np.save("y.npy", labels)
    np.save("w.npy", WEIGHTS)
    words = ["x.npy", "--labels", "y.npy", "--kind", "logits"]
    words += ["--weights", "w.npy"] if given == "weights" else []
    words += ["--ignore-index", "-100"] if ignores else []
    found = written(*words)
    wanted = expected(LABELS, LOGITS)
    for name in NAMES:
        nulls = found[name].is_null().to_numpy(zero_copy_only=False)
        np.testing.assert_array_equal(nulls, labels < 0)
        values = found[name].to_numpy(zero_copy_only=False)
        digits = 1e-15 if name == "perplexity" else 0  # exp has several authors
        np.testing.assert_allclose(values[~nulls], np.array(wanted[name])[~nulls], rtol=digits)


def test_a_row_of_weight_0_by_hand():
    """ln(2 + e) for label 1 of [1, 1, 2]."""
    np.save("x.npy", [[1.0, 1.0, 2.0]] * ROWS)
    np.save("y.npy", [1] * ROWS)
    np.save("w.npy", [0.0] * ROWS)
    found = written("x.npy", "--labels", "y.npy", "--kind", "logits", "--weights", "w.npy")
    loss, p = np.log(2 + np.e), np.array([1, 1, np.e]) / (2 + np.e)
    assert loss == pytest.approx(1.5514, abs=1e-4)
    assert found["cross_entropy"][3].as_py() == pytest.approx(loss, rel=1e-15)
    assert found["brier"][3].as_py() == pytest.approx(((p - [0, 1, 0]) ** 2).sum(), rel=1e-14)
    assert found["accuracy"][3].as_py() == 0 and found["top2_accuracy"][3].as_py() == 0


def test_what_only_its_weight_let_pass_is_null():
    probs = np.full((ROWS, CLASSES), 1 / CLASSES)
    probs[[5, 6, 40]] *= 2
    weights = np.ones(ROWS)
    weights[[4, 5, 6, 40]] = 0
    np.save("x.npy", probs)
    np.save("y.npy", LABELS)
    np.save("w.npy", weights)
    found = written("x.npy", "--labels", "y.npy", "--kind", "probs", "--weights", "w.npy")
    for name in ("cross_entropy", "brier"):
        nulls = found[name].is_null().to_numpy(zero_copy_only=False)
        assert np.flatnonzero(nulls).tolist() == [5, 6, 40]
    assert found["cross_entropy"][4].as_py() == pytest.approx(np.log(CLASSES), rel=1e-15)


@pytest.mark.parametrize("policy", ["omit", "propagate"])
def test_rows_with_nan_are_nan_in_every_column(policy):
    logits = LOGITS.copy()
    logits[[8, 50], 3] = np.nan
    np.save("x.npy", logits)
    np.save("y.npy", LABELS)
    found = written("x.npy", "--labels", "y.npy", "--kind", "logits", "--nan-policy", policy)
    for name in NAMES:
        assert found[name].null_count == 0
        assert np.flatnonzero(np.isnan(found[name].to_numpy())).tolist() == [8, 50]


@pytest.mark.parametrize("path", ["rows.csv", "rows.parquet.gz", "rows.npy"])
def test_another_format_is_refused_before_the_work(path, capsys, tmp_path):
    np.save("x.npy", LOGITS)
    np.save("y.npy", LABELS)
    before = sorted(tmp_path.iterdir())
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--rows", path]
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"fastent: --rows {path}: it is Parquet, expected .parquet, got .")
    assert line.count("\n") == 1 and sorted(tmp_path.iterdir()) == before


def test_a_pipe_is_written_directly(tmp_path):
    np.save("x.npy", LOGITS)
    np.save("y.npy", LABELS)
    os.mkfifo("rows.parquet")
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(Path("rows.parquet").read_bytes)
        score("x.npy", "--labels", "y.npy", "--kind", "logits", "--rows", "rows.parquet")
        table = pyarrow.parquet.read_table(pyarrow.py_buffer(heard.result(20)))
    assert table["row"].to_pylist() == list(range(ROWS))
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".parquet") == ["rows.parquet"]
