"""A good guest in other people's processes: threads, forks, pools, workers, interpreters.

The scenarios are in guests.py, each run in a process of its own. By hand, a million calls of the
slower backend: ``python tests/guests.py numba calls=1000000``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INSIDE = "shared fork pools joblib loader dask calls="


def run(words, python=sys.executable, timeout=300, **environment):
    """Run it to the end: a deadlock is a time-out, an abort a return code."""
    found = subprocess.run(
        [python, *words],
        env={**os.environ, **environment},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert found.returncode == 0, found.stderr
    return found


def guest(backend, scenarios, **environment):
    run(["guests.py", backend, *scenarios.split()], **environment)


@pytest.mark.slow
def test_guest_with_compiled_kernels():
    guest("cython", f"{INSIDE}1000000 fresh_pools")


@pytest.mark.slow
def test_guest_with_numba():
    guest("numba", f"{INSIDE}30000")


@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_guest_of_torch(backend):
    pytest.importorskip("torch")
    guest(backend, "torch")


LATE = """
import atexit, sys, threading
import guests
want = guests.work(0)
def check(what):
    for _ in range(20):
        assert guests.work(0) == want
    print(what)
atexit.register(check, "after the last thread")
threading.Thread(target=check, args=["after the main thread"]).start()
"""


@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_calls_while_the_interpreter_is_on_its_way_out(backend):
    found = run(["-c", LATE, backend])
    assert found.stdout.splitlines() == ["after the main thread", "after the last thread"]


# --- interpreters ---------------------------------------------------------------------------------

SUBINTERPRETER = """
import sys
try:
    import _interpreters as module
    def told(what):
        found = module.exec(module.create(kind), what)
        return found and found.formatted
    kinds = ("isolated", "legacy")
except ImportError:
    import _xxsubinterpreters as module
    def told(what):
        try:
            module.run_string(module.create(), what)
        except module.RunFailedError as error:
            return str(error)
    kinds = ("",)
for kind in kinds * 2:
    for what in ("import fastent", "from fastent.backends.cython import threads"):
        assert "only the main interpreter of a process" in told(what), told(what)
    import fastent
    assert fastent.entropy([0.5, 0.5], base=2) == 1
"""


def test_subinterpreters_are_refused_and_harm_nobody():
    run(["-c", SUBINTERPRETER])


def free_threaded():
    """An interpreter without a GIL: of this name on the path, or among those of pyenv."""
    names = [f"python3.{minor}t" for minor in (15, 14, 13)]
    found = [shutil.which(name) for name in names]
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found += [str(path) for path in folder.glob("3.1[3-9]*t/bin/python")]
    return next((path for path in found if path), None)


@pytest.mark.skipif(free_threaded() is None, reason="no free-threaded Python on this machine")
def test_free_threaded_python(tmp_path):
    run(["-m", "venv", tmp_path / "venv"], python=free_threaded())
    python = tmp_path / "venv" / "bin" / "python"
    source = tmp_path / "source"
    shutil.copytree(HERE.parent, source, ignore=shutil.ignore_patterns("*.so", "build", ".git"))
    run(["-m", "pip", "install", "-q", "numpy", source], python=python, timeout=1200)
    shutil.copy(HERE / "guests.py", tmp_path)
    # The GIL would come back, with a warning, for a module that does not say it can do without.
    without = "import sys, fastent; sys.exit(sys._is_gil_enabled())"
    run(["-W", "error", "-c", without], python=python)
    words = "cython shared fork pools fresh_pools loader calls=200000".split()
    run([tmp_path / "guests.py", *words], python=python)
