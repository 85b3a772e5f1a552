"""Bad usage and bad input: exit 2, one line that names file and row, nothing left behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fastent.cli import main
from fastent.cli.run import Run
from fastent.io.shards import Shards

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
        (["scores"], "invalid choice: 'scores'"),
        (["score"], "PRED"),
        (["score", "x.npy", "--labels", "y.npy"], "--kind"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "odds"], "odds"),
        (["score", "x.npy", "--kind", "logits"], "--labels is required"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--bins", "many"], "many"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--num-threads", "0"], "0"),
        (["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--metrics", "f7"], "f7"),
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


@pytest.mark.slow
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


FULL = "fastent: standard output: cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (">&-", 0, ""),
        ("--json - >&-", 2, "fastent: -: standard output is closed\n"),
        (">/dev/full", 2, FULL),
        ("--json - >/dev/full", 2, FULL),
        ("--labels none.npy 2>&-", 2, ""),
        ("--labels none.npy 2>/dev/full", 2, ""),
        (">&- 2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_closed_and_full_streams(words, code, line):
    command = "-m fastent score x.npy --labels y.npy --kind logits"
    run = subprocess.run(
        f"'{sys.executable}' {command} {words}", shell=True, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (code, "", line)


def test_stderr_closed_the_work_is_done_all_the_same():
    words = "-m fastent score x.npy --labels y.npy --kind logits --json a.json --rows a.parquet"
    subprocess.run(f"'{sys.executable}' {words} 2>&- >/dev/null", shell=True, check=True)
    assert Path("a.json").read_text().startswith("{") and Path("a.parquet").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("words", ["", "info", "--help", "score --help", "--version", "none",
                                   "score x.npy --labels y.npy --kind logits",
                                   "score x.npy --labels y.npy --kind logits --json -",
                                   "compare x.npy x.npy --kind logits"])  # fmt: skip
@pytest.mark.parametrize("rich", [True, False])
def test_nobody_reads_or_the_disk_is_full(words, rich):
    """The reader of a pipe has gone before anything is written; a full device says so."""
    import importlib.util

    if importlib.util.find_spec("rich") is None and rich:
        pytest.skip("rich is not installed")
    hide = "" if rich else "import sys; sys.modules['rich'] = None; "
    program = f"{hide}import sys; from fastent.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *words.split()]
    code = 2 if words == "none" else 0
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert run.returncode == code and run.stderr.count("\n") == (code == 2)
    with open("/dev/full", "wb") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    if code == 2:
        assert run.stderr.startswith("fastent: argument COMMAND")
    else:
        assert (run.returncode, run.stderr) == (2, FULL)
    with open("/dev/full", "wb") as full:
        run = subprocess.run([*command, "--bad"], stdout=subprocess.PIPE, stderr=full)
    assert run.returncode in (2, 0) and run.stdout.count(b"Traceback") == 0


@pytest.mark.parametrize("word", ["\x1b[2J", "a\nb", "\u202e", "\x9b31m", "\udcff\x07"])
def test_names_reach_the_terminal_escaped(word, capsys):
    """Of files, arrays, columns and words of the command line."""
    for words in (
        ["score", word, "--labels", "y.npy", "--kind", "logits"],
        ["score", "x.npy", "--labels", word, "--kind", "logits"],
        ["score", f"x.npz:{word}", "--labels", "y.npy", "--kind", "logits"],
        ["score", "x.npy", "--labels", "y.npy", "--kind", word],
        ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--metrics", word],
        ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--json", f"{word}/a"],
        [word],
    ):
        np.savez("x.npz", a=LOGITS)
        assert main(words) == 2
        line = capsys.readouterr().err
        assert line.endswith("\n") and line[:-1].isprintable() and line.startswith("fastent: ")


def odd(kind):
    def raiser(*args, **keywords):
        raise kind

    return raiser


@pytest.mark.parametrize("kind", [KeyError("x"), ZeroDivisionError("by zero"), IndexError(),
                                  RecursionError("deep"), EOFError(), AttributeError("none"),
                                  RuntimeError("a\nb"), AssertionError(), MemoryError()],
                         ids=lambda kind: type(kind).__name__)  # fmt: skip
@pytest.mark.parametrize("method", ["open", "read"])
def test_whatever_a_library_raises_is_told_of_the_file(kind, method, monkeypatch, capsys):
    from fastent.io import OPENERS, npy

    monkeypatch.setattr(npy.RawRows, method, odd(kind))
    line = complaint(capsys, "score", "x.npy", "--labels", "y.npy", "--kind", "logits")
    assert line.startswith("fastent: x.npy: ") and type(kind).__name__ in line
    monkeypatch.setitem(OPENERS, "npy", odd(kind))
    line = complaint(capsys, "score", "x.npy", "--labels", "y.npy", "--kind", "logits")
    assert line.startswith("fastent: x.npy: ") and type(kind).__name__ in line


def test_an_encrypted_parquet_file_is_refused_and_not_read(capsys):
    import base64

    import pyarrow
    import pyarrow.parquet as parquet

    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):
        def __init__(self, _):
            super().__init__()

        def wrap_key(self, key, _):
            return base64.b64encode(key)

    table = pyarrow.table({"p0": [0.5, 0.5], "p1": [0.5, 0.5], "label": [0, 1]})
    for plain in (True, False):
        how = encryption.EncryptionConfiguration(
            footer_key="f", column_keys={"k": ["p0"]}, plaintext_footer=plain, double_wrapping=False
        )
        made = encryption.CryptoFactory(Keys).file_encryption_properties(
            encryption.KmsConnectionConfig(), how
        )
        with parquet.ParquetWriter("e.parquet", table.schema, encryption_properties=made) as writer:
            writer.write_table(table)
        line = complaint(capsys, "score", "e.parquet", "--kind", "probs")
        assert line.startswith("fastent: e.parquet: ") and "encrypted" in line


@pytest.mark.parametrize("most", [0, 1, 2])
def test_where_no_more_threads_can_be_started(most, monkeypatch, capsys):
    start = threading.Thread.start
    started = []

    def limited(self):
        if len(started) >= most:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--num-threads", "3"]
    assert main([*words, "--json", "a.json"]) == (0 if most else 2)
    found = capsys.readouterr()
    if most:
        assert found.err == "" and Path("a.json").exists()
    else:
        assert found.err == "fastent: no thread could be started: can't start new thread\n"


@pytest.mark.parametrize("kind", [MemoryError("no memory"), RuntimeError("dead")])
def test_a_worker_that_dies_ends_the_run(kind, monkeypatch, capsys):
    """In what hands out the blocks, where no block is to blame; and without a last word."""
    from fastent.io.pipeline import Pipeline

    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits"]
    with monkeypatch.context() as patch:
        patch.setattr(Shards, "blocks", odd(kind))
        assert main(words) == 2
        assert str(kind) in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "_step", odd(kind))
        assert main(words) == 2
        assert str(kind) in capsys.readouterr().err
    monkeypatch.setattr(Pipeline, "_worker", lambda self: None)
    assert main(words) == 2
    assert "have ended" in capsys.readouterr().err
