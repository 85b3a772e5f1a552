"""A run that is killed goes on from its checkpoint and ends with the same bytes."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import dumps
import numpy as np
import pyarrow.parquet
import pytest

from fastent.cli import long_lists, main

ROWS, CLASSES = 3000, 6
RNG = np.random.default_rng(3)
COMMAND = [
    "score", "x-*.npy", "--labels", "y-*.npy", "--kind", "logits", "--groups", "g-*.npy",
    "--bytes", "b-*.npy", "--worst", "5", "--quiet", "--checkpoint", "progress",
    "--num-threads", "2",
]  # fmt: skip
DUMPS = [
    "compare", "p-*.bin", "q-*.bin", "--worst", "5", "--quiet", "--checkpoint", "progress",
    "--num-threads", "2",
]  # fmt: skip
# Hidden states and a head whose products are exact, whatever block they are made in.
HEADS = [*COMMAND, "--head", "head.npy"]
commands = pytest.mark.parametrize(
    "command", [COMMAND, DUMPS, HEADS], ids=["score", "dumps", "heads"]
)
# A slow run of small blocks that saves after each of them.
DRIVER = """
import sys, time
from fastent.cli import checkpoint, main, run
from fastent.io import shards

checkpoint.FIRST_SECONDS = checkpoint.LONGEST_SECONDS = 0
shards.PIECE_ROWS, shards.PIECES = 10, 2
collect = run.Run._collect
def slowly(self, block, results):
    time.sleep(0.01)
    collect(self, block, results)
run.Run._collect = slowly
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("head.npy", np.eye(CLASSES, dtype=np.float32))
    for number, part in enumerate(np.array_split(np.arange(ROWS), 3)):
        np.save(f"x-{number}.npy", RNG.normal(size=(len(part), CLASSES)).astype(np.float32))
        np.save(f"y-{number}.npy", RNG.integers(0, CLASSES, len(part)))
        np.save(f"g-{number}.npy", np.array(["a", "b"])[part % 2])
        np.save(f"b-{number}.npy", part % 7)


@pytest.fixture
def texts():
    """The same number of rows in pairs of dumps."""
    for number in range(3):
        for name, seed in (("p", 2 * number), ("q", 2 * number + 1)):
            dumps.write(f"{name}-{number}.bin", 42, CLASSES, ROWS // 60, seed=seed)


def start(*words, command=COMMAND):
    """The command in a process that Ctrl-C reaches, also where the tests run in the background."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *command, *words],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def saved():
    """What the checkpoint says, but for its long lists."""
    return json.loads(Path("progress").read_text().splitlines()[0])


def stamp():
    return Path("progress").stat().st_mtime_ns if Path("progress").exists() else 0


def wait_for_checkpoint(process, before=0):
    """Until the process has written one."""
    deadline = time.monotonic() + 60
    while stamp() == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
@commands
@pytest.mark.usefixtures("texts")
def test_killed_at_any_moment_the_run_goes_on(command):
    words = ["--json", "killed.json", "--rows", "killed.parquet"]
    pick = random.Random(0)
    rows = []
    for _ in range(10):
        before = stamp()
        process = start(*words, command=command)
        wait_for_checkpoint(process, before)
        time.sleep(pick.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        rows.append(saved()["state"]["row"])
    assert rows == sorted(rows) and len(set(rows)) > 2
    assert main([*command, *words]) == 0
    assert main([*command, "--json", "whole.json", "--rows", "whole.parquet"]) == 0
    for suffix in ("json", "parquet"):
        assert Path(f"killed.{suffix}").read_bytes() == Path(f"whole.{suffix}").read_bytes()
    assert pyarrow.parquet.read_metadata("whole.parquet").num_rows == ROWS
    left = {path.name for path in Path().iterdir() if path.suffix not in (".npy", ".bin")}
    assert left == {"killed.json", "killed.parquet", "whole.json", "whole.parquet"}


@commands
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("texts")
def test_asked_to_leave_it_saves_first(command, number, code):
    process = start("--json", "stopped.json", command=command)
    wait_for_checkpoint(process)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == code
    assert complaint == ""
    assert 0 < saved()["state"]["row"] < ROWS
    assert not Path("stopped.json").exists()
    assert main([*command, "--json", "stopped.json"]) == 0
    assert not Path("progress").exists()


def test_without_a_checkpoint_nothing_stays():
    words = ["score", "x-*.npy", "--labels", "y-*.npy", "--kind", "logits", "--rows", "r.parquet"]
    process = start(command=words)
    deadline = time.monotonic() + 60
    while not list(Path().glob(".r.parquet.*.part0")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert {path.suffix for path in Path().iterdir()} == {".npy"}


def interrupted():
    process = start()
    wait_for_checkpoint(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def other_input():
    np.save("x-1.npy", np.zeros((ROWS // 3, CLASSES), np.float32))
    return []


def other_setting():
    return ["--temperature", "2"]


def other_identity(name, value):
    state = long_lists.read("progress")
    state["identity"][name] = value
    Path("progress").write_bytes(b"".join(long_lists.written(state)))
    return []


def other_version():
    return other_identity("version", "0.0")


def other_engine():
    return other_identity("engine", "cython v0")


def damaged():
    text = Path("progress").read_text()
    Path("progress").write_text(text[: len(text) // 2])
    return []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (other_input, "a checkpoint of other inputs (x-1.npy is not as it was)"),
        (other_setting, "a checkpoint of other settings (temperature: 1.0 then, 2.0 now)"),
        (other_version, "a checkpoint of other version"),
        (other_engine, "a checkpoint of other engine"),
        (damaged, "not a checkpoint"),
    ],
)
def test_a_checkpoint_of_other_work_is_refused(change, expected, capsys):
    interrupted()
    assert main([*COMMAND, *change()]) == 2
    found = capsys.readouterr().err
    assert found.startswith("fastent: progress: ") and expected in found
    assert found.count("\n") == 1
    assert Path("progress").exists()


def test_a_checkpoint_with_any_other_byte_is_refused(capsys):
    """Also where what it holds would still be JSON: only the digest can tell."""
    interrupted()
    kept = Path("progress").read_bytes()
    digits = [k for k, byte in enumerate(kept) if chr(byte).isdigit()]
    for place in random.Random(1).sample(digits, 40):
        other = b"1" if kept[place : place + 1] != b"1" else b"2"
        Path("progress").write_bytes(kept[:place] + other + kept[place + 1 :])
        assert main(COMMAND) == 2
        assert "not a checkpoint" in capsys.readouterr().err
    Path("progress").write_bytes(kept)
    assert main(COMMAND) == 0


def crafted(state, path, value):
    *way, last = path
    for key in way:
        state = state[key]
    state[last] = value


CRAFTED = [("row",), ("parts",), ("scorer",), ("scorer", "sums"), ("scorer", "worst"),
           ("scorer", "nans"), ("scorer", "ignored"), ("scorer", "sums", "rows"),
           ("scorer", "sums", "bytes"), ("scorer", "sums", "rows", "columns"),
           ("scorer", "sums", "rows", "names"), ("scorer", "sums", "rows", "rows")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", CRAFTED, ids=".".join)
def test_crafted_checkpoints_end_in_one_line(path, capsys):
    """The digest is right, what it is of is not; each ends, in an error or in numbers."""
    interrupted()
    kept = Path("progress").read_bytes()
    for value in (None, -1, 1 << 70, "x", [], {}, [1], {"a": 1}, 0.5, True, ["/etc/passwd"]):
        Path("progress").write_bytes(kept)
        state = long_lists.read("progress")
        crafted(state["state"], path, value)
        text = b"".join(long_lists.written(state))
        Path("progress").write_bytes(text)
        code = main(COMMAND)
        line = capsys.readouterr().err
        assert (code, line) == (0, "") or (code == 2 and line.count("\n") == 1), (path, value)


def test_a_full_disk_under_the_checkpoint(capsys):
    assert main([*COMMAND[:-3], "/dev/full"]) == 2
    assert "/dev/full" in capsys.readouterr().err


def test_what_a_killed_run_had_begun_to_write_is_removed():
    Path(".progress.0123456789abcdef.partial").write_text("half")
    Path(".other.0123456789abcdef.partial").write_text("of another file")
    assert main([*COMMAND, "--json", "whole.json"]) == 0
    assert not Path(".progress.0123456789abcdef.partial").exists()
    assert Path(".other.0123456789abcdef.partial").exists()
