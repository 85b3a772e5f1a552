"""The commands take the same memory whatever the size of the files and the number of classes."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

LIMIT = 300 << 20  # of anonymous memory
# Linux keeps no high-water mark of anonymous memory alone, so the process looks often.
DRIVER = """
import re, sys, threading, time
from fastent.cli import main

most, done = 0, False
def watch():
    global most
    while not done:
        status = open("/proc/self/status").read()
        most = max(most, int(re.search(r"RssAnon:\\\\s+(\\\\d+)", status)[1]))
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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
@pytest.mark.parametrize(
    ("rows", "classes", "dtype"), [(600, 250_000, "<f8"), (2_000_000, 100, "<f4")]
)
def test_anonymous_memory(rows, classes, dtype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sparse_file("x.npy", rows, classes, dtype)
    np.save("y.npy", np.arange(rows) % classes)
    run = subprocess.run(
        [sys.executable, "-c", DRIVER, "score", "x.npy", "--labels", "y.npy", "--kind", "logits",
         "--quiet", "--rows", "rows.parquet", "--checkpoint", "progress"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    peak = int(re.search(r"peak (\d+)", run.stdout)[1]) << 10
    assert peak < LIMIT < Path("x.npy").stat().st_size
