"""Files that may not be read or written: exit 2, one line, nothing left behind."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

SCORE = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--quiet"]
# The words of a command, and what it complains of.
CASES = [
    (["score", "secret.npy", *SCORE[2:]], "secret.npy: Permission denied"),
    ([*SCORE, "--groups", "secret.npy"], "secret.npy: Permission denied"),
    (["compare", "x.npy", "secret.npy", "--kind", "logits"], "secret.npy: Permission denied"),
    (["score", "closed/x.npy", *SCORE[2:]], "closed/x.npy: Permission denied"),
    (["score", "closed", *SCORE[2:]], "closed: Permission denied"),
    (["score", "closed/*.npy", *SCORE[2:]], "closed/*.npy: no file matches"),
    ([*SCORE, "--json", "new.json"], "new.json: no permission to write it"),
    ([*SCORE, "--json", "old.json"], "old.json: no permission to write it"),
    ([*SCORE, "--html", "closed/new.html"], "closed/new.html: Permission denied"),
    ([*SCORE, "--rows", "rows.parquet"], "rows.parquet: no permission to write it"),
    ([*SCORE, "--checkpoint", "progress"], "progress: no permission to write it"),
]
# Root may do everything: it imports all that the commands do when they need it, and becomes nobody.
DRIVER = """
import contextlib, importlib, io, json, os, pkgutil, sys
from fastent import cli, io as files, report
from fastent.cli import main

good, cases = json.loads(sys.argv[1])
for words in good:
    assert main(words) == 0
for package in (cli, files, report):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
found = []
for words in cases:
    with contextlib.redirect_stderr(io.StringIO()) as complaint:
        found.append([main(words), complaint.getvalue()])
print(json.dumps(found))
"""


@pytest.fixture
def folder(monkeypatch):
    """A directory that anybody may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as path:
        monkeypatch.chdir(path)
        os.mkdir("closed")
        for name in ("x.npy", "secret.npy", "closed/x.npy"):
            np.save(name, np.eye(3))
        np.save("y.npy", np.arange(3))
        Path("old.json").write_text("as it was")
        modes = {"secret.npy": 0, "old.json": 0o444, "closed": 0, ".": 0o555}
        for name, mode in modes.items():
            os.chmod(name, mode)
        yield
        for name in (".", "closed"):
            os.chmod(name, 0o755)


@pytest.mark.usefixtures("folder")
def test_no_permission():
    before = sorted(os.listdir())
    compare = ["compare", "x.npy", "x.npy", "--kind", "logits", "--quiet"]
    good = [[*SCORE, "--html", "/dev/null"], compare]
    words = json.dumps([good, [words for words, _ in CASES]])
    run = subprocess.run([sys.executable, "-c", DRIVER, words], capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""
    found = json.loads(run.stdout)
    assert found == [[2, f"fastent: {expected}\n"] for _, expected in CASES]
    assert sorted(os.listdir()) == before and Path("old.json").read_text() == "as it was"
