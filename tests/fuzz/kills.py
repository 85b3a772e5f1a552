"""Runs that are killed at any moment, again and again, until one comes to its end.

The checkpoint that is there at every moment goes on, and the end has the bytes of a run that was
left in peace; nothing stays behind but what was asked for and parts of a run that was killed before
its first checkpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import watched

ROWS, CLASSES = 3000, 6
# Small blocks, and a checkpoint after each of them.
DRIVER = """
import sys, time
from fastent.cli import checkpoint, main, run, skipping
from fastent.io import shards

checkpoint.FIRST_SECONDS = checkpoint.LONGEST_SECONDS = 0
shards.PIECE_ROWS, shards.PIECES = 20, 2
for place, name in ((run.Run, "_collect"), (skipping.SkippingRun, "_score")):
    def slowly(self, *given, step=getattr(place, name)):
        time.sleep(0.005)
        step(self, *given)
    setattr(place, name, slowly)
sys.exit(main(sys.argv[1:]))
"""


def command(name, *more):
    words = ["score", "x-*.npy", "--labels", "y-*.npy", "--kind", "logits", "--groups", "g-*.npy",
             "--worst", "5", "--quiet", "--num-threads", "2", "--json", f"{name}.json", "--rows",
             f"{name}.parquet", *more]  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", DRIVER, *words], stderr=subprocess.PIPE)


def ended(process):
    told = process.communicate()[1].decode()
    assert process.returncode == 0, (process.returncode, told)
    assert told == ""


def case(rng):
    with tempfile.TemporaryDirectory(prefix="fastent-fuzz-") as folder:
        os.chdir(folder)
        for number, rows in enumerate(np.array_split(np.arange(ROWS), 12)):
            np.save(f"x-{number}.npy", rng.normal(size=(len(rows), CLASSES)).astype(np.float32))
            np.save(f"y-{number}.npy", rng.integers(0, CLASSES, len(rows)))
            np.save(f"g-{number}.npy", np.array(["a", "b"])[rows % 2])
        more = [] if rng.random() < 0.6 else ["--on-error", "skip"]
        number = signal.SIGKILL if rng.random() < 0.8 else signal.SIGTERM
        words = [*more, "--checkpoint", "progress"]
        for _ in range(int(rng.integers(1, 9))):
            process = command("killed", *words)
            until = time.monotonic() + 5
            while not Path("progress").exists() and process.poll() is None:
                assert time.monotonic() < until + 55, "no checkpoint"
                time.sleep(0.002)
            time.sleep(float(rng.uniform(0, 0.3)))
            process.send_signal(number)
            told = process.communicate()[1].decode()
            assert process.returncode in (0, -number, 128 + number), (process.returncode, told)
            assert told == "", told
            if process.returncode == 0:
                break
        else:
            ended(command("killed", *words))
        ended(command("whole", *more))
        for suffix in ("json", "parquet"):
            files = [Path(f"{name}.{suffix}").read_bytes() for name in ("killed", "whole")]
            assert files[0] == files[1], suffix
        left = {p.name for p in Path().iterdir() if p.suffix != ".npy"}
        strays = {n for n in left if n.startswith(".killed.parquet.") or n.startswith(".progress.")}
        assert left - strays == {
            f"{a}.{b}" for a in ("killed", "whole") for b in ("json", "parquet")
        }
        os.chdir("/")


if __name__ == "__main__":
    sys.exit(watched.main(case, __doc__, patience=200))
