"""Kernels that one process compiled are there for the next one.

Tests of `fastent.backends.numba.kept`, in processes and folders of their own."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastent

pytestmark = pytest.mark.slow  # processes of their own that compile
ROOT = Path(fastent.__file__).parent.parent

# What a process found compiled and what it compiled itself, and the bits of its results.
PROCESS = """
import hashlib, sys
import numpy as np
import fastent as fe
from fastent.backends.numba import logits_cross_entropy, probs_divergence

def work(dtype="float64"):
    x = np.random.default_rng(0).normal(size=(300, 30)).astype(dtype)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    kl = fe.kl_divergence(p, p[::-1], backend="numba")
    loss = fe.sparse_cross_entropy(np.arange(300) % 30, x, kind="logits", backend="numba")
    return hashlib.sha256(kl.tobytes() + loss.tobytes()).hexdigest()

def counts():
    kernels = [*probs_divergence.ROWS.values(), *logits_cross_entropy.ROWS.values()]
    return [sum(sum(getattr(one.stats, name).values()) for one in kernels)
            for name in ("cache_hits", "cache_misses")]
"""
ONCE = PROCESS + "print(work(), *counts())"


def run(code, folder, fails=False, **environment):
    """What a process says that keeps its kernels in a folder."""
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment}
    settings = {name: value for name, value in settings.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        env=settings, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split()


def files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder that one process has filled, and what it said."""
    folder = tmp_path_factory.mktemp("kept")
    said = run(ONCE, folder)
    assert said[1:] == ["0", "2"]
    return folder, said[0]


@pytest.fixture
def filled(first, tmp_path):
    """A copy of it."""
    folder = tmp_path / "kept"
    shutil.copytree(first[0], folder)
    return folder


def test_a_second_process_compiles_nothing(first, filled):
    before = {path: path.stat().st_mtime_ns for path in files(filled)}
    assert run(ONCE, filled) == [first[1], "2", "0"]
    assert before == {path: path.stat().st_mtime_ns for path in files(filled)}


@pytest.mark.parametrize(
    "setting",
    [{"FASTENT_SIMD": "v2"}, {"NUMBA_CPU_NAME": "generic"}, {"NUMBA_OPT": "2"}],
    ids=lambda setting: next(iter(setting)),
)
def test_other_settings_are_another_build(filled, setting):
    if sys.platform != "linux" and "FASTENT_SIMD" in setting:
        pytest.skip("no SIMD levels here")
    assert run(ONCE, filled, **setting)[1:] == ["0", "2"]
    assert run(ONCE, filled, **setting)[1:] == ["2", "0"]
    assert run(ONCE, filled)[1:] == ["2", "0"]


def test_settings_of_threads_are_the_same_build(first, filled):
    assert run(ONCE, filled, NUMBA_NUM_THREADS="1") == [first[1], "2", "0"]


OTHER_SOURCES = """
import fastent.backends
from pathlib import Path
from unittest import mock
changed = sorted(Path(fastent.backends.__path__[0], "numba").glob("*.py"))[{index}]
read = Path.read_bytes
with mock.patch.object(Path, "read_bytes", lambda path: read(path) + b" " * (path == changed)):
    import fastent.backends.numba
"""


@pytest.mark.parametrize("index", [0, -1])
def test_other_sources_or_versions_are_another_build(filled, index):
    assert run(OTHER_SOURCES.format(index=index) + ONCE, filled)[1:] == ["0", "2"]
    other = "import numba\nnumba.__version__ += '1'\n"
    assert run(other + ONCE, filled)[1:] == ["0", "2"]


def damaged(data, how):
    middle = len(data) // 2
    return {
        "empty": b"",
        "cut": data[:middle],
        "a bit": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "longer": data + b"\0",
        "another": hashlib.sha256(b"no kernel").digest() + b"no kernel",
    }[how]


@pytest.mark.parametrize("how", ["empty", "cut", "a bit", "longer", "another"])
def test_damaged_files_are_compiled_anew(first, filled, how):
    for path in files(filled):
        path.write_bytes(damaged(path.read_bytes(), how))
    assert run(ONCE, filled) == [first[1], "0", "2"]
    assert run(ONCE, filled) == [first[1], "2", "0"]


def test_a_folder_that_cannot_be_written(first, filled, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file / "below", "/proc/self/nothing"):
        assert run(ONCE, folder) == [first[1], "0", "2"]
    for home in (file, None):
        settings = {"NUMBA_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": home and str(home)}
        assert run(ONCE, filled, **settings)[0] == first[1]
    assert file.read_text() == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to be root")
def test_files_of_another_user_are_not_read(first, filled):
    for path in files(filled):
        os.chown(path, 12345, -1)
    assert run(ONCE, filled) == [first[1], "0", "2"]


def test_a_read_only_folder_is_read(first, filled):
    for path in [filled, *filled.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o555)
    try:
        assert run(ONCE, filled) == [first[1], "2", "0"]
    finally:
        for path in [filled, *filled.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o700)


def test_where_they_are_by_default(first, tmp_path):
    settings = {"NUMBA_CACHE_DIR": None, "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    for variable, place in ((None, tmp_path), (str(tmp_path / "chosen"), tmp_path / "chosen")):
        assert run(ONCE, "", **settings, XDG_CACHE_HOME=variable) == [first[1], "0", "2"]
        assert files(place)
        assert run(ONCE, "", **settings, XDG_CACHE_HOME=variable) == [first[1], "2", "0"]


def test_importing_writes_nothing(tmp_path):
    run("import fastent.backends.numba, fastent.numba_api", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


# --- at once --------------------------------------------------------------------------------------

MANY = (
    PROCESS
    + """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import multiprocessing

if __name__ == "__main__":
    how = sys.argv[1]
    if how == "threads":
        pool = ThreadPoolExecutor(8)
    else:
        pool = ProcessPoolExecutor(4, multiprocessing.get_context(how))
    with pool:
        print(*set(pool.map(work, ["float64"] * 16)))
"""
)


@pytest.mark.parametrize("how", ["threads", "fork", "spawn", "forkserver"])
def test_many_workers_write_at_once(first, tmp_path, how):
    if how not in ("threads", "spawn") and not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    program = tmp_path / "program.py"
    program.write_text(MANY)
    command = [sys.executable, str(program), how]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=ROOT,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [first[1]]
    assert not [path for path in files(tmp_path / "kept") if path.name.startswith("tmp")]
    assert run(ONCE, tmp_path / "kept") == [first[1], "2", "0"]


def test_two_processes_write_at_once(first, tmp_path):
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    begun = [
        subprocess.Popen([sys.executable, "-P", "-c", ONCE], env=settings, cwd=ROOT, stdout=-1)
        for _ in range(4)
    ]
    for process in begun:
        assert process.communicate(timeout=300)[0].split()[0].decode() == first[1]
    assert run(ONCE, tmp_path) == [first[1], "2", "0"]


# A process in which other kernels of the same factories are compiled before and after.
MIXED = (
    PROCESS
    + """
first = [work("float32"), *counts()]
user = fe.divergence(lambda p, q: abs(p - q))
half = float(user([0.5, 0.5], [1.0, 0.0]))
p = np.full((4, 5), 0.2)
print(work(), half, float(fe.js_divergence(p, p, backend="numba").sum()), *counts())
"""
)


def test_what_is_kept_stands_beside_what_is_compiled(first, filled):
    assert run(MIXED, filled) == [first[1], "1.0", "0.0", "2", "3"]


FROM_USERS = (
    PROCESS
    + """
from numba import njit
from fastent import numba_api
@njit
def loss(x):
    return numba_api.sparse_cross_entropy(1, x) + numba_api.entropy(np.full(4, 0.25))
print(round(loss(np.zeros(8)), 9), sum(numba_api.sparse_cross_entropy.stats.cache_hits.values()))
"""
)


def test_kernels_in_functions_of_users(tmp_path):
    assert run(FROM_USERS, tmp_path) == ["3.465735903", "0"]
    assert run(FROM_USERS, tmp_path) == ["3.465735903", "1"]
