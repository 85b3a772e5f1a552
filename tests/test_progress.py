"""Progress goes to a terminal on stderr, and nowhere else."""

import os
import pty
import subprocess
import sys

import numpy as np
import pytest

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


def test_quiet_says_nothing():
    assert on_a_terminal([*COMMAND, "--quiet"]) == ""


def test_a_pipe_sees_nothing():
    run = subprocess.run(COMMAND, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""
    assert "cross_entropy" in run.stdout
