"""Rows say whose they are: file, row, ids and kept columns; files that fail are left out."""

import fcntl
import json
import os
import signal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow
import pyarrow.parquet
import pytest

import fastent as fe
from fastent.cli import long_lists, main, skipping

ROWS = 40
NAMES = np.array(["cat", "dog", "bird"])
RNG = np.random.default_rng(12)
PROBS = RNG.dirichlet(np.ones(3), 2 * ROWS)
CODES = RNG.integers(0, 3, 2 * ROWS)
IDS = np.array([f"doc-{k}" for k in range(2 * ROWS)])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k in range(2):
        part = slice(k * ROWS, (k + 1) * ROWS)
        columns = {"id": IDS[part], **{n: PROBS[part, c] for c, n in enumerate(NAMES)},
                   "label": NAMES[CODES[part]], "split": np.arange(ROWS) + k,
                   "g": CODES[part] % 2}  # fmt: skip
        pyarrow.parquet.write_table(pyarrow.table(columns), f"p{k}.parquet")


def score(*words):
    command = ["score", "p0.parquet", "p1.parquet", "--kind", "probs", "--quiet"]
    return main([*command, "--json", "report.json", *words])


def test_a_column_of_two_kinds_is_kept_as_text():
    table = pyarrow.parquet.read_table("p1.parquet")
    words = pyarrow.array([f"s{k}" for k in range(ROWS)])
    place = table.column_names.index("split")
    pyarrow.parquet.write_table(table.set_column(place, "split", words), "p1.parquet")
    assert score("--rows", "rows.parquet", "--keep", "split") == 0
    kept = pyarrow.parquet.read_table("rows.parquet")["split"].to_pylist()
    assert kept == [str(k) for k in range(ROWS)] + words.to_pylist()


@pytest.mark.parametrize("suffix", ["parquet", "feather", "csv", "jsonl"])
@pytest.mark.parametrize("dtype", ["int64", "uint64", "int8", "bool"])
def test_whole_numbers_are_kept_with_all_digits(suffix, dtype):
    last = {"int64": -(2**63) + 1, "uint64": 2**64 - 1, "int8": -128, "bool": True}[dtype]
    if suffix in ("csv", "jsonl") and dtype in ("uint64", "bool"):
        dtype, last = "int64", 2**53 + 1
    values = [0, None, *([1] * (ROWS - 3)), last]
    if dtype == "bool":
        values = [None if value is None else bool(value) for value in values]
    full = [values[0] if value is None else value for value in values]
    types = {"int64": pl.Int64, "uint64": pl.UInt64, "int8": pl.Int8, "bool": pl.Boolean}
    frame = pl.DataFrame({f"p{k}": PROBS[:ROWS, k] for k in range(3)}).with_columns(
        label=CODES[:ROWS],
        some=pl.Series(values, dtype=types[dtype]),
        full=pl.Series(full, dtype=types[dtype]),
    )
    write = {"parquet": frame.write_parquet, "feather": frame.write_ipc, "csv": frame.write_csv,
             "jsonl": frame.write_ndjson}[suffix]  # fmt: skip
    write(f"x.{suffix}")
    command = ["score", f"x.{suffix}", "--kind", "probs", "--rows", "rows.parquet", "--quiet"]
    assert main([*command, "--keep", "some,full", "--worst", "40", "--json", "report.json"]) == 0
    kept = pyarrow.parquet.read_table("rows.parquet")
    assert kept["some"].to_pylist() == values and kept["full"].to_pylist() == full
    worst = json.loads(Path("report.json").read_text())["worst"]
    assert {row["row"]: row["some"] for row in worst} == dict(enumerate(values))


@pytest.mark.parametrize("threads", ["1", "3"])
def test_rows_and_the_worst(threads, monkeypatch):
    monkeypatch.setattr("fastent.io.shards.PIECE_ROWS", 7)
    keep = ["--id", "id", "--keep", "split,label,predicted"]
    assert score("--rows", "rows.parquet", "--worst", "3", *keep, "--num-threads", threads) == 0
    table = pyarrow.parquet.read_table("rows.parquet")
    losses = fe.sparse_cross_entropy(CODES, PROBS)
    assert table.column_names[:6] == ["file", "row", "id", "split", "label", "predicted"]
    assert (
        table["file"].to_pylist()
        == ["p0.parquet:cat..bird"] * ROWS + ["p1.parquet:cat..bird"] * ROWS
    )
    assert table["row"].to_pylist() == list(range(ROWS)) * 2
    assert table["id"].to_pylist() == IDS.tolist()
    assert table["split"].to_pylist() == [k + j for j in range(2) for k in range(ROWS)]
    assert table["label"].to_pylist() == NAMES[CODES].tolist()
    assert table["predicted"].to_pylist() == NAMES[PROBS.argmax(1)].tolist()
    np.testing.assert_array_equal(table["cross_entropy"], losses)
    worst = json.loads(Path("report.json").read_text())["worst"]
    for found, row in zip(worst, np.argsort(-losses)[:3], strict=True):
        assert found == {
            "file": f"p{row // ROWS}.parquet:cat..bird", "row": row % ROWS, "id": IDS[row],
            "split": row % ROWS + row // ROWS, "label": NAMES[CODES[row]],
            "predicted": NAMES[PROBS[row].argmax()], "cross_entropy": losses[row],
        }  # fmt: skip


def damage(path):
    data = bytearray(Path(path).read_bytes())
    data[200:400] = b"\0" * 200
    Path(path).write_bytes(data)


@pytest.mark.parametrize("how", ["damaged", "bad row", "no such column"])
def test_files_that_fail_are_left_out(how, capsys):
    table = pyarrow.parquet.read_table("p0.parquet")
    if how == "bad row":
        holes = np.where(np.arange(ROWS) == 30, 5.0, PROBS[:ROWS, 0])
        table = table.set_column(1, "cat", pyarrow.array(holes))
    elif how == "no such column":
        table = table.drop(["dog"])
    pyarrow.parquet.write_table(table, "p0.parquet")
    if how == "damaged":
        damage("p0.parquet")
    words = ["--classes", "cat,dog,bird", "--groups", "g", "--rows", "rows.parquet"]
    assert score(*words) == 2
    assert "p0.parquet" in capsys.readouterr().err and not Path("rows.parquet").exists()
    assert score(*words, "--on-error", "skip", "--checkpoint", "progress") == 0
    found = json.loads(Path("report.json").read_text())
    assert [entry["file"].split(":")[0] for entry in found["left_out"]] == ["p0.parquet"]
    assert found["metrics"]["cross_entropy"]["count"] == ROWS
    rows = pyarrow.parquet.read_table("rows.parquet")
    assert rows.num_rows == ROWS
    expected = fe.Accumulator("cross_entropy").update(CODES[ROWS:], PROBS[ROWS:]).compute()
    assert found["metrics"]["cross_entropy"]["value"] == expected["cross_entropy"].value
    assert sorted(os.listdir()) == ["p0.parquet", "p1.parquet", "report.json", "rows.parquet"]


def test_two_runs_do_not_share_a_checkpoint(capsys):
    with open(".progress.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert score("--checkpoint", "progress", "--rows", "rows.parquet") == 2
        line = capsys.readouterr().err
        assert line == "fastent: progress: another run is writing this checkpoint\n"
        assert not Path("rows.parquet").exists()
    assert score("--checkpoint", "progress") == 0
    assert not Path(".progress.lock").exists()


def test_options_reach_the_numbers():
    numbers = {"eps": 0.05, "label_smoothing": 0.1, "base": 2.0}
    words = ["--eps", "0.05", "--label-smoothing", "0.1", "--base", "2"]
    assert score(*words, "--class-weight", "1,2,0.5", "--rows", "rows.parquet") == 0
    metrics = ["cross_entropy", "perplexity", "bits", "accuracy"]
    acc = fe.Accumulator(metrics, class_weight=[1, 2, 0.5], **numbers)
    report = acc.update(CODES, PROBS).compute()
    found = json.loads(Path("report.json").read_text())
    for name in metrics:
        assert found["metrics"][name]["value"] == report[name].value
    rows = pyarrow.parquet.read_table("rows.parquet")
    np.testing.assert_allclose(rows["bits"], rows["cross_entropy"], rtol=1e-15)
    np.testing.assert_allclose(rows["perplexity"], np.exp2(rows["cross_entropy"]), rtol=1e-14)


def test_metrics_and_help(capsys):
    assert main(["metrics"]) == 0
    shown = capsys.readouterr().out
    for record in fe.metrics.RECORDS:
        assert f"{record.name}: " in shown and record.description in shown
        assert len(record.description or "") > 8
    for command in ("score", "compare"):
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        for title in ("inputs:", "what to compute:", "outputs:", "running:", "examples:"):
            assert f"\n{title}\n" in text


@pytest.mark.parametrize("more", [[], ["--checkpoint", "progress"]])
def test_when_all_files_are_left_out(more, capsys):
    for k in range(2):
        np.save(f"x-{k}.npy", PROBS[:ROWS] + (np.arange(ROWS) == 7)[:, None])
        np.save(f"y-{k}.npy", CODES[:ROWS])
    command = ["score", "x-*.npy", "--labels", "y-*.npy", "--kind", "probs", "--on-error", "skip"]
    for _ in range(2):
        assert main([*command, *more]) == 2
        told = capsys.readouterr().err
        assert told.startswith("fastent: no file could be used; the first: x-0.npy: expected rows")


def test_no_thread_is_the_fault_of_no_file(monkeypatch, capsys):
    def start(thread):
        raise RuntimeError("can't start new thread")

    words = ["--on-error", "skip", "--checkpoint", "progress"]
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", start)
        assert score(*words) == 2
        assert "no thread could be started" in capsys.readouterr().err
    assert score(*words) == 0
    assert json.loads(Path("report.json").read_text())["rows"] == 2 * ROWS


def test_asked_to_leave_between_files(monkeypatch):
    words = ["--on-error", "skip", "--checkpoint", "progress"]
    own = skipping.SkippingRun._score

    def then_stop(run, number, shard):
        own(run, number, shard)
        os.kill(os.getpid(), signal.SIGTERM)

    assert score(*words) == 0
    expected = Path("report.json").read_bytes()
    Path("report.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(skipping.SkippingRun, "_score", then_stop)
        assert score(*words) == 143
    assert not Path("report.json").exists()
    assert long_lists.read("progress")["state"]["done"] == [0]
    assert score(*words) == 0
    assert Path("report.json").read_bytes() == expected
