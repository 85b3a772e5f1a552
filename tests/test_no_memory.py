"""Where memory runs out there is a MemoryError, and what was there before is as it was."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastent

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """What makes an allocation fail."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and the loader of Linux")
    made = tmp_path_factory.mktemp("failing") / "failing_allocations.so"
    command = [
        compiler,
        "-O1",
        "-shared",
        "-fPIC",
        "-o",
        made,
        HERE / "failing_allocations.c",
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("part", ["long_rows", "others", "accumulators"])
def test_each_allocation_fails_once(library, part):
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "COMPILED_MODULES": str(Path(fastent.__file__).parent),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", HERE / "without_memory.py", part],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
