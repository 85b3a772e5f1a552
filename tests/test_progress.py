"""Progress goes to a terminal on stderr, and nowhere else."""

import io
import os
import pty
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastent.cli import progress

COMMAND = [sys.executable, "-m", "fastent", "score", "x.npy", "--labels", "y.npy",
           "--kind", "logits", "--json", "report.json"]  # fmt: skip


def on_a_terminal(words):
    """What a command writes to a terminal that is its stderr."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=follower, env=environment)
    os.close(follower)
    found = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        found += piece
    os.close(leader)
    assert process.wait() == 0
    return found.decode()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.normal(size=(20_000, 500)))
    np.save("y.npy", rng.integers(0, 500, 20_000))


def test_a_terminal_sees_progress():
    found = on_a_terminal(COMMAND)
    for word in ("rows/s", "GB/s", "%"):
        assert word in found


def test_share_rate_and_time_left(monkeypatch):
    """Halfway of 1000 rows of 8 MB, 400 rows done in 2 s; a run that went on began at 100."""
    stream, now = io.StringIO(), iter([0.0, 0.05, 2.0, 2.0, 2.0])
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(now)))
    shown = progress.Progress(1000, 8_000_000_000, 100, quiet=False)
    shown.advance(110)  # too soon to be shown
    assert shown._bar.tasks[0].completed == 100
    shown.advance(500)
    (task,) = shown._bar.tasks
    assert (task.total, task.completed, task.percentage) == (1000, 500, 50)
    assert task.fields["rate"] == "200 rows/s  1.60 GB/s"
    shown.close()
    shown.close()
    assert "50%" in stream.getvalue() and "200 rows/s  1.60 GB/s" in stream.getvalue()


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["closed", "no terminal"])
def test_without_a_terminal_nothing_is_shown(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    shown = progress.Progress(10, 10, 0, quiet=False)
    shown.advance(5)
    shown.close()
    assert stream is None or stream.getvalue() == ""


def test_quiet_says_nothing():
    assert on_a_terminal([*COMMAND, "--quiet"]) == ""


def test_a_pipe_sees_nothing():
    run = subprocess.run(COMMAND, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""
    assert "cross_entropy" in run.stdout


def test_a_notebook_has_a_bar(monkeypatch):
    """As IPython's kernels show it: one display, updated."""
    ipython = pytest.importorskip("IPython")
    display = pytest.importorskip("IPython.display")
    told = []

    class Handle:
        def update(self, shown):
            told.append(shown.data)

    def shown(first, display_id):
        told.append(first.data)
        return Handle()

    monkeypatch.setattr(display, "display", shown)
    monkeypatch.setattr(ipython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    now = iter([0.0, 0.05, 2.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(now)))
    bar = progress.Progress(1000, 8_000_000_000, 0, quiet=False)
    bar.advance(100)  # too soon to be shown
    bar.advance(500)
    bar.close()
    assert len(told) == 3 and all("<progress" in text for text in told)
    assert 'value="0.0"' in told[0] and 'value="50.0"' in told[1]
    assert "50 % 250 rows/s  2.00 GB/s  2 s left" in told[1]
    progress.Progress(1000, 8_000, 0, quiet=True).close()
    assert len(told) == 3
