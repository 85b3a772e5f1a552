"""The commands take the same memory whatever the size of the files and the number of classes."""

import json
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fastent.io import Reference, open_source, shards

LIMIT = 300 << 20  # of anonymous memory
# Linux keeps no high-water mark of anonymous memory alone, so the process looks often.
DRIVER = """
import re, sys, threading, time
from fastent.cli import checkpoint, main

checkpoint.FIRST_SECONDS = 0.5
most, done = 0, False
def watch():
    global most
    while not done:
        status = open("/proc/self/status").read()
        most = max(most, int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]))
        time.sleep(0.005)
watcher = threading.Thread(target=watch)
watcher.start()
code = main(sys.argv[1:])
done = True
watcher.join()
print("peak", most)
sys.exit(code)
"""


def sparse_file(path, rows, classes, dtype):
    """Logits of 0, of which the disk holds nothing."""
    with open(path, "wb") as file:
        head = {"descr": dtype, "fortran_order": False, "shape": (rows, classes)}
        np.lib.format.write_array_header_1_0(file, head)
        file.truncate(file.tell() + rows * classes * np.dtype(dtype).itemsize)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc on this system"
)


def peak(words):
    """Of a run, in bytes."""
    run = subprocess.run(
        [sys.executable, "-c", DRIVER, *words, "--quiet"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = int(re.search(r"peak (\d+)", run.stdout)[1]) << 10
    assert found > 0
    return found


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("rows", "classes", "dtype"), [(600, 250_000, "<f8"), (2_000_000, 100, "<f4")]
)
def test_anonymous_memory(rows, classes, dtype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sparse_file("x.npy", rows, classes, dtype)
    np.save("y.npy", np.arange(rows) % classes)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits"]
    found = peak([*words, "--rows", "rows.parquet", "--checkpoint", "progress"])
    assert found < LIMIT < Path("x.npy").stat().st_size


@pytest.mark.slow
@needs_proc
def test_anonymous_memory_with_row_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some = np.random.default_rng(0).normal(size=(1_000_000, 3)).astype(np.float32)
    np.save("x.npy", np.tile(some, (8, 1)))
    np.save("y.npy", np.arange(8_000_000) % 3)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits"]
    found = peak([*words, "--rows", "rows.parquet", "--checkpoint", "progress"])
    assert found < LIMIT


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("groups", [1000, 100_000])
def test_anonymous_memory_with_groups(groups, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(groups)
    np.save("x.npy", rng.normal(size=(3_000_000, 3)).astype(np.float32))
    np.save("y.npy", rng.integers(0, 3, 3_000_000))
    np.save("g.npy", rng.integers(0, groups, 3_000_000))
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--groups", "g.npy"]
    words += ["--json", "found.json", "--checkpoint", "progress"]
    stopped = subprocess.Popen([sys.executable, "-c", DRIVER, *words, "--num-threads", "1"])
    while stopped.poll() is None and not Path("progress").exists():
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 143
    assert peak(words) < LIMIT


def test_what_only_goes_forward_is_read_by_the_piece(tmp_path, monkeypatch):
    """A worker reads it for a whole block, so many rows of it would take memory."""
    monkeypatch.chdir(tmp_path)
    rows = 5 * shards.PIECE_ROWS
    np.save("x.npy", np.zeros((rows, 2), np.float32))
    pyarrow.parquet.write_table(pyarrow.table({"y": np.zeros(rows, int)}), "y.parquet")
    found = shards.align(
        [open_source(Reference("x.npy"), "predictions")],
        {"labels": [open_source(Reference("y.parquet", "y"), "labels")]},
        True,
    )
    blocks = list(found.blocks(0, 1))
    assert max(block.stop - block.start for block in blocks) == shards.PIECE_ROWS
    assert [block.start for block in blocks[1:]] == [block.stop for block in blocks[:-1]]


def sparse_dump(path, n_ctx, n_vocab):
    """A chunk of rows of equal probabilities, of which the disk holds nothing."""
    codes = 2 * ((n_vocab + 1) // 2)
    width, rows = 2 * (codes + 4), n_ctx - 1 - n_ctx // 2
    with open(path, "wb") as file:
        file.write(struct.pack("<8siii", b"_logits_", n_ctx, n_vocab, 1))
        for row in range(rows):  # scale 0
            file.seek(20 + 4 * n_ctx + row * width)
            file.write(struct.pack("<ff", 0.0, -np.log(n_vocab)))
        file.truncate(20 + 4 * n_ctx + rows * width)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("n_ctx", "n_vocab", "more"),
    [(2048, 262_145, ["--rows", "rows.parquet"]), (2_000_000, 101, [])],
)
def test_anonymous_memory_of_dumps(n_ctx, n_vocab, more, tmp_path, monkeypatch):
    """The largest vocabulary, and a context as long as there are, of a million rows kept."""
    monkeypatch.chdir(tmp_path)
    for name in ("p.bin", "q.bin"):
        sparse_dump(name, n_ctx, n_vocab)
    words = ["compare", "p.bin", "q.bin", "--checkpoint", "progress", "--json", "found.json"]
    assert peak([*words, *more]) < LIMIT
    assert json.loads(Path("found.json").read_text())["metrics"]["kl_divergence"]["value"] == 0


@pytest.mark.slow
@needs_proc
def test_anonymous_memory_of_kept_rows(tmp_path, monkeypatch):
    """As many rows as are kept for exact quantiles, with all that labels tell of them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    p = rng.normal(size=(1_000_000, 3)).astype(np.float32)
    np.save("p.npy", p)
    np.save("q.npy", p + rng.normal(0, 0.3, p.shape).astype(np.float32))
    np.save("y.npy", np.arange(1_000_000) % 3)
    words = ["compare", "p.npy", "q.npy", "--labels", "y.npy", "--kind", "logits"]
    assert peak([*words, "--rows", "rows.parquet", "--checkpoint", "progress"]) < LIMIT


def wide_text(path, columns):
    """Logits of 0, with names."""
    with open(path, "w") as stream:
        stream.write(",".join(f"p{k}" for k in range(columns)) + "\n")
        stream.writelines((",".join(["0.0"] * columns) + "\n") * 2)


def tall_table(path, columns, groups, rows):
    """Logits of 0 in row groups of some rows."""
    zeros = np.zeros(rows, np.float32)
    table = pyarrow.table({f"p{k}": zeros for k in range(columns)})
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(groups):
            writer.write_table(table)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("columns", "groups", "rows"), [(1000, 400, 8), (16, 20_000, 2), (10**6, 0, 2)]
)
def test_anonymous_memory_of_tables(columns, groups, rows, tmp_path, monkeypatch):
    """Many columns in many row groups, many row groups, and lines of a million columns."""
    monkeypatch.chdir(tmp_path)
    if groups:
        tall_table("x.parquet", columns, groups, rows)
    else:
        wide_text("x.csv", columns)
    np.save("y.npy", np.zeros(max(1, groups) * rows, np.int64))
    name = "x.parquet" if groups else "x.csv"
    assert peak(["score", name, "--labels", "y.npy", "--kind", "logits"]) < LIMIT
