"""The command while one call of the system fails: open, read, write, fsync, map, rename, stat, or a
thread that cannot be started; or moves fewer bytes than it was asked for.

It ends with 0 and what it would have written, or with 2 and one line on stderr; what it writes is
whole or not there, and nothing else stays behind but a checkpoint, from which it goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import watched

from fastent.cli import checkpoint, main as command
from fastent.io import shards

HERE = Path(__file__).parent
KINDS = ["open", "read", "write", "sync", "map", "name", "stat", "thread"]
ERRORS = [
    errno.EIO,
    errno.ENOSPC,
    errno.EMFILE,
    errno.ENOMEM,
    errno.EACCES,
    errno.EINTR,
    errno.EDQUOT,
]
SHORT = 0  # no error: half of the bytes
COMMANDS = {
    "npy": ["score", "x.npy", "--labels", "l.npy", "--groups", "g.npy", "--worst", "3"],
    "npz": ["score", "x.npz:x", "--labels", "x.npz:l"],
    "parquet": ["score", "x.parquet"],
    "arrow": ["score", "x.arrow"],
    "csv": ["score", "x.csv", "--labels", "l.npy"],
    "compare": ["compare", "x.npy", "x.npz:x"],
}
MORE = ["--json", "j.json", "--quiet", "--kind", "logits", "--num-threads", "2"]
ROWS = ["--rows", "r.parquet"]
WANTED: dict[str, dict[str, bytes]] = {}
INPUTS: set[str] = set()


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def prepare():
    os.chdir(tempfile.mkdtemp(prefix="fastent-fuzz-"))
    rng = np.random.default_rng(9)
    x, labels = rng.standard_normal((400, 4)), rng.integers(0, 4, 400)
    np.save("x.npy", x)
    np.save("l.npy", labels)
    np.save("g.npy", rng.integers(0, 7, 400))
    np.savez_compressed("x.npz", x=x, l=labels)
    table = pyarrow.table({f"logit_{k}": x[:, k] for k in range(4)} | {"labels": labels})
    pyarrow.parquet.write_table(table, "x.parquet")
    with pyarrow.OSFile("x.arrow", "wb") as stream:
        with pyarrow.ipc.new_file(stream, table.schema) as out:
            out.write_table(table)
    np.savetxt("x.csv", x, delimiter=",", header="logit_0,logit_1,logit_2,logit_3", comments="")
    INPUTS.update(os.listdir())
    checkpoint.FIRST_SECONDS = checkpoint.LONGEST_SECONDS = 0
    shards.PIECE_ROWS, shards.PIECES = 40, 2
    for name in COMMANDS:
        code, told = run(name)
        assert code == 0, told
        WANTED[name] = written()
        clean()


def run(name, *more):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        rows = [] if name == "compare" else ROWS
        code = command([*COMMANDS[name], *MORE, *rows, *more])
    return code, err.getvalue()


def written():
    return {
        name: Path(name).read_bytes() for name in ("j.json", "r.parquet") if Path(name).exists()
    }


def clean():
    for name in set(os.listdir()) - INPUTS:
        os.unlink(name)


def case(rng):
    if not WANTED:
        prepare()
    library = ctypes.CDLL(None)
    name = pick(rng, list(COMMANDS))
    more = pick(rng, [[], ["--checkpoint", "progress"]])
    if name != "compare" and rng.random() < 0.2:
        more = [*more, "--on-error", "skip"]
    kind = int(rng.integers(len(KINDS)))
    number = int(pick(rng, [0, 1, 2, 3, 5, 8, 13, 21, 34]))
    why = SHORT if KINDS[kind] in ("read", "write") and rng.random() < 0.3 else pick(rng, ERRORS)
    what = f"{name} {more} while {KINDS[kind]} {number} fails with {why}"
    raised = []
    sys.unraisablehook = lambda told: raised.append(told.exc_value)
    library.fail_call(kind, ctypes.c_long(number), why)
    try:
        code, told = run(name, *more)
    finally:
        library.fail_call(-1, ctypes.c_long(0), 0)
    left = set(os.listdir()) - INPUTS
    found = written()
    try:
        assert code in (0, 2), (what, code, told)
        assert told.count("\n") == (code == 2), (what, code, told)
        assert not raised, (what, raised)
        allowed = {"j.json", "r.parquet", "progress"}
        if "progress" in left:
            allowed |= {n for n in left if ".part" in n}
        assert left <= allowed, (what, left)
        for file, data in found.items():
            if "--on-error" not in more and "x.npz" not in COMMANDS[name]:
                assert data == WANTED[name][file], (what, file, "is another")
        if code == 0 and "--on-error" not in more:
            assert found.keys() == WANTED[name].keys(), (what, found.keys())
        if "progress" in left:
            code, told = run(name, *more)
            assert code == 0, (what, "and then", told)
            assert "--on-error" in more or written() == WANTED[name], (what, "and then another")
    finally:
        clean()


def main():
    if "LD_PRELOAD" not in os.environ:
        made = tempfile.mkdtemp(prefix="fastent-fuzz-") + "/failing_calls.so"
        source = str(HERE / "failing_calls.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
        os.environ["LD_PRELOAD"] = made
        os.execv(sys.executable, [sys.executable, *sys.argv])
    return watched.main(case, __doc__)


if __name__ == "__main__":
    sys.exit(main())
