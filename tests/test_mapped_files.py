"""Rows that are scored where a file is mapped: the same bits, and no harm when the file goes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.feather
import pytest
import safetensors.numpy

import fastent
from fastent.cli import main, score
from fastent.io import source

try:
    from fastent.io.mapping import Mapping

    with open(sys.executable, "rb") as program:
        Mapping(program.fileno(), 1)
except OSError:
    pytest.skip("no mappings on this system", allow_module_level=True)

PAGE = os.sysconf("SC_PAGESIZE")
ROWS, CLASSES = 4000, 30
RNG = np.random.default_rng(9)
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", LOGITS)
    np.save("y.npy", RNG.integers(0, CLASSES, ROWS))


def refuse(fd, length):
    raise OSError


def test_mapped_and_read_rows_give_the_same_bytes(monkeypatch):
    safetensors.numpy.save_file({"logits": LOGITS}, "x.safetensors")
    lists = pyarrow.FixedSizeListArray.from_arrays(LOGITS.ravel(), CLASSES)
    table = pyarrow.table({"logits": lists})
    pyarrow.feather.write_feather(table, "x.arrow", compression="uncompressed", chunksize=700)
    np.savez("x.npz", logits=LOGITS)
    for path in ("x.npy", "x.safetensors", "x.arrow", "x.npz"):
        words = ["score", path, "--labels", "y.npy", "--kind", "logits", "--quiet", "--json"]
        assert main([*words, "mapped.json"]) == 0
        with monkeypatch.context() as patch:
            patch.setattr(source, "Mapping", refuse)
            assert main([*words, "read.json"]) == 0
        assert Path("mapped.json").read_bytes() == Path("read.json").read_bytes()


def catches_sigbus():
    caught = re.search(r"SigCgt:\s*(\w+)", Path("/proc/self/status").read_text())[1]
    return bool(int(caught, 16) >> 6 & 1)


def test_what_is_cut_off_reads_as_zeros_and_is_noted():
    before = catches_sigbus()
    Path("pages").write_bytes(b"x" * (3 * PAGE))
    with open("pages", "rb") as stream:
        mapping, other = (Mapping(stream.fileno(), 3 * PAGE) for _ in range(2))
        assert mapping.load(stream.fileno(), 0, 3 * PAGE) and catches_sigbus()
        os.truncate("pages", PAGE)
        seen = np.frombuffer(mapping, np.uint8)
        assert not mapping.broken
        assert (seen[:PAGE] == ord("x")).all() and not seen[PAGE:].any()
        assert mapping.broken and not other.broken
        assert not other.load(stream.fileno(), 0, 3 * PAGE)
        del mapping, other, seen
    assert catches_sigbus() == before


START = """
import ctypes, faulthandler, mmap, os, signal, sys, tempfile
from fastent.io.mapping import Mapping
file = tempfile.TemporaryFile()
file.truncate(1 << 16)
def mapped(): return Mapping(file.fileno(), 1 << 16)
def fault():
    other = tempfile.TemporaryFile()
    other.truncate(1 << 14)
    pages = mmap.mmap(other.fileno(), 1 << 14)
    os.ftruncate(other.fileno(), 0)
    pages[5]
"""
DIES = {
    "sent while mapped": "m = mapped(); os.kill(os.getpid(), signal.SIGBUS)",
    "sent after": "m = mapped(); del m; os.kill(os.getpid(), signal.SIGBUS)",
    "fault elsewhere": "m = mapped(); fault()",
    "a guest that left": "m = mapped(); faulthandler.enable(); del m; faulthandler.disable(); "
    "m = mapped(); fault()",
    "a guest that left, sent": "m = mapped(); faulthandler.enable(); del m; "
    "faulthandler.disable(); m = mapped(); os.kill(os.getpid(), signal.SIGBUS)",
    "ignored": "signal.signal(signal.SIGBUS, signal.SIG_IGN); m = mapped(); fault()",
}


@pytest.mark.parametrize("way", DIES)
def test_a_sigbus_that_is_not_ours_ends_the_process(way):
    run = subprocess.run([sys.executable, "-c", START + DIES[way]], timeout=60)
    assert run.returncode == -signal.SIGBUS


@pytest.mark.parametrize(
    ("way", "out", "err"),
    [
        ("signal.signal(signal.SIGBUS, lambda *_: print('told')); m = mapped(); "
         "os.kill(os.getpid(), signal.SIGBUS); print('goes on')", "told\ngoes on\n", ""),
        ("signal.signal(signal.SIGBUS, signal.SIG_IGN); m = mapped(); "
         "os.kill(os.getpid(), signal.SIGBUS); print('goes on')", "goes on\n", ""),
        ("faulthandler.enable(); m = mapped(); fault()", "", "Fatal Python error: Bus error"),
    ],
)  # fmt: skip
def test_who_was_there_before_is_asked(way, out, err):
    run = subprocess.run(
        [sys.executable, "-c", START + way], timeout=60, capture_output=True, text=True
    )
    assert run.returncode == (-signal.SIGBUS if err else 0)
    assert run.stdout == out and run.stderr.startswith(err)


def test_threads_of_the_pool_may_meet_what_is_cut_off():
    size = 256 * PAGE
    for _ in range(20):
        with open("pages", "wb") as stream:
            stream.truncate(size)
        with open("pages", "rb") as stream:
            mapping = Mapping(stream.fileno(), size)
        os.truncate("pages", size // 2)
        logits = np.frombuffer(mapping, np.float32).reshape(-1, 64)
        entropies = fastent.entropy(logits, kind="logits", num_threads=4)
        np.testing.assert_array_equal(entropies, entropies[0])
        assert mapping.broken


@pytest.mark.parametrize("change", ["a page", "a byte", "all"])
@pytest.mark.parametrize("more", [[], ["--groups", "y.npy", "--num-threads", "4"]])
def test_a_file_that_shrinks_while_its_rows_are_computed(change, more, monkeypatch, capsys):
    size = os.stat("x.npy").st_size
    left = {"a page": size - PAGE, "a byte": size - 1, "all": 0}[change]
    work = score.ScoreScorer.work

    def late(self, piece):
        os.truncate("x.npy", left)
        return work(self, piece)

    monkeypatch.setattr(score.ScoreScorer, "work", late)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--json", "report.json"]
    assert main([*words, *more]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"fastent: x.npy: file ends at byte {left}, expected {size}")
    assert line.count("\n") == 1 and not Path("report.json").exists()
