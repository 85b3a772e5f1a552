"""Bad usage and bad input: exit 2, one line that names file and row, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastent.cli import main
from fastent.cli.run import Run

ROWS, CLASSES = 300, 5
RNG = np.random.default_rng(1)
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", LOGITS)
    np.save("y.npy", LABELS)
    return tmp_path


def shrink(path):
    os.truncate(path, os.stat(path).st_size - 1)


def complaint(capsys, *words):
    """The one line of a command that fails."""
    before = sorted(os.listdir())
    assert main(list(words)) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1 and found.err.endswith("\n")
    assert sorted(os.listdir()) == before
    return found.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "COMMAND"),
        (["scores"], "invalid choice: 'scores'"),
        (["score"], "PRED"),
        (["score", "x.npy", "--labels", "y.npy"], "--kind"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "odds"], "odds"),
        (["score", "x.npy", "--kind", "logits"], "--labels is required"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--bins", "many"], "many"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--num-threads", "0"], "0"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--metrics", "f1"], "f1"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "probs", "--temperature", "2"],
         "temperature"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--temperature", "0"],
         "temperature"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--bins", "0"], "bins"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--worst", "-1"], "worst"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--verbose"], "--verbose"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--metrics", "ece", "--rows",
          "r.parquet"], "--rows: ece have no row values"),
        (["compare", "x.npy", "--kind", "logits"], "Q"),
        (["demo", "extra"], "extra"),
    ],
)  # fmt: skip
def test_usage(words, expected, capsys):
    assert expected in complaint(capsys, *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["none.npy", "--labels", "y.npy"], "none.npy: no such file"),
        (["none-*.npy", "--labels", "y.npy"], "none-*.npy: no file matches"),
        (["x.npy", "--labels", "none.npy"], "none.npy: no such file"),
        (["x.npy", "x.npy", "--labels", "y.npy"], "1 files, expected 2"),
        (["x.npy:logits", "--labels", "y.npy"], "x.npy:logits"),
        (["y.npy", "--labels", "y.npy"], "y.npy"),
        (["x.txt", "--labels", "y.npy"], "x.txt"),
        (["empty.npy", "--labels", "y.npy"], "empty.npy"),
        (["objects.npy", "--labels", "y.npy"], "objects.npy"),
        (["x.npy", "--labels", "short.npy"], "short.npy: 299 rows, expected 300 as in x.npy"),
        (["x.npy", "wide.npy", "--labels", "y.npy", "y.npy"], "wide.npy: 6 classes, expected 5"),
        (["x.npy", "--labels", "y.npy", "--groups", "short.npy"], "short.npy: 299 rows"),
        (["x.npy", "--labels", "y.npy", "--json", "no/where.json"], "no/where.json"),
        (["x.npy", "--labels", "y.npy", "--rows", "."], ".: a directory"),
    ],
)
def test_files(words, expected, capsys):
    np.save("short.npy", LABELS[1:])
    np.save("wide.npy", np.zeros((ROWS, 6)))
    np.save("objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    for name in ("empty.npy", "x.txt"):
        Path(name).touch()
    assert expected in complaint(capsys, "score", *words, "--kind", "logits")


def bad_label(logits, labels):
    labels[7] = CLASSES


def negative_label(logits, labels):
    labels[7] = -1


def nan(logits, labels):
    logits[7, 2] = np.nan


@pytest.mark.parametrize("damage", [bad_label, negative_label, nan])
def test_bad_rows_are_named_by_file_and_row(damage, capsys):
    logits, labels = LOGITS.copy(), LABELS.copy()
    damage(logits, labels)
    np.save("x-2.npy", logits)
    np.save("y-2.npy", labels)
    line = complaint(
        capsys, "score", "x.npy", "x-2.npy", "--labels", "y.npy", "y-2.npy", "--kind", "logits",
        "--rows", "rows.parquet", "--json", "report.json", "--html", "page.html",
        "--checkpoint", "progress",
    )  # fmt: skip
    assert ("x-2.npy" if damage is nan else "y-2.npy") in line
    assert "row 7" in line


@pytest.mark.parametrize(("row", "expected"), [([0.5, 0.6], "row 1"), ([-0.5, 1.5], "row 1")])
def test_bad_probabilities(row, expected, capsys):
    np.save("p.npy", np.array([[0.5, 0.5], row]))
    np.save("t.npy", np.array([0, 1]))
    line = complaint(capsys, "score", "p.npy", "--labels", "t.npy", "--kind", "probs")
    assert "p.npy" in line and expected in line


@pytest.mark.parametrize("weight", [-1.0, np.nan])
def test_bad_weights(weight, capsys):
    weights = np.ones(ROWS)
    weights[250] = weight
    np.save("w.npy", weights)
    line = complaint(
        capsys, "score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--weights", "w.npy"
    )
    assert "w.npy" in line and "row 250" in line


@pytest.mark.parametrize("option", ["--json", "--rows", "--html"])
def test_a_full_device(option, capsys):
    line = complaint(
        capsys, "score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--quiet",
        option, "/dev/full",
    )  # fmt: skip
    assert "/dev/full" in line and "No space left on device" in line


DRIVER = """
import resource, sys
from fastent.cli import checkpoint, main
from fastent.io import shards

checkpoint.FIRST_SECONDS = checkpoint.LONGEST_SECONDS = 0
shards.PIECE_ROWS, shards.PIECES = 10, 1
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("option", ["--json", "--rows", "--html", "--checkpoint"])
def test_a_disk_that_fills_up_leaves_nothing_half_written(option):
    """Under a limit on the size of files, which fails as a full disk does."""
    before = sorted(os.listdir())
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--quiet"]
    run = subprocess.run(
        [sys.executable, "-c", DRIVER, *words, option, "target"], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr == "fastent: target: cannot be written: File too large\n"
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(("change", "expected"), [(os.unlink, "No such file"), (shrink, "trunc")])
def test_a_file_that_changes_after_it_was_opened(change, expected, capsys, monkeypatch):
    resume = Run._resume

    def late(self):
        change("x.npy")
        resume(self)

    monkeypatch.setattr(Run, "_resume", late)
    assert main(["score", "x.npy", "--labels", "y.npy", "--kind", "logits"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("fastent: x.npy: ") and expected in line and line.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (">&-", 0, ""),
        ("--json - >&-", 2, "fastent: -: standard output is closed\n"),
        (">/dev/full", 2, "fastent: standard output: cannot be written: No space left on device\n"),
        ("--labels none.npy 2>&-", 2, ""),
    ],
)
def test_closed_and_full_streams(words, code, line):
    command = "-m fastent score x.npy --labels y.npy --kind logits"
    run = subprocess.run(
        f"'{sys.executable}' {command} {words}", shell=True, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (code, "", line)
