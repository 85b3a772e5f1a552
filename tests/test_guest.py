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


@pytest.mark.slow
def test_guest_with_numpy():
    guest("numpy", f"{INSIDE}30000")


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


BACKENDS = ["cython", "numpy", pytest.param("numba", marks=pytest.mark.slow)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_while_the_interpreter_is_on_its_way_out(backend):
    found = run(["-c", LATE, backend])
    assert found.stdout.splitlines() == ["after the main thread", "after the last thread"]


LEFT = """
import sys, threading, time
import numpy as np
import fastent as fe
backend, delay = sys.argv[1], float(sys.argv[2])
p, labels = np.full((30_000, 16), 1 / 16), np.arange(30_000) % 16
accs = [fe.Accumulator("cross_entropy", backend=backend) for _ in range(3)]
def go(k):
    while True:
        fe.kl_divergence(p, p, backend=backend, num_threads=2)
        accs[k].update(labels, p, groups=labels).merge(accs[0])
        try: fe.entropy(-p[:3], backend=backend)
        except ValueError: pass
class Last:
    def __del__(self):
        fe.kl_divergence(p, p, backend=backend, num_threads=2)
        accs[0].compute()
last = Last()
last.cycle = last
for k in range(3):
    threading.Thread(target=go, args=[k], daemon=True).start()
time.sleep(delay)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_that_are_left_behind_in_calls(backend):
    for delay in (0, 0.01, 0.2):
        found = run(["-c", LEFT, backend, str(delay)])
        assert found.stderr == ""


FORKED = "ignore::DeprecationWarning"  # from 3.12 on, of forks among threads

FIRST = """
import os, signal, sys, threading, time
import numpy as np
import fastent as fe
backend = sys.argv[1]
p, labels = np.full((40, 5), 0.2), np.arange(40) % 5
def calls():
    acc = fe.Accumulator("cross_entropy", backend=backend).update(labels, p)
    rows = fe.entropy(p, backend=backend, num_threads=2), fe.kl_divergence(p, p, backend=backend)
    return len(rows[0]) == len(rows[1]) == acc.compute()["cross_entropy"].count == 40
same = []
threads = [threading.Thread(target=lambda: same.append(calls())) for _ in range(2)]
for thread in threads:
    thread.start()
children = []
while len(children) < 6 and any(thread.is_alive() for thread in threads):
    children.append(os.fork())
    if not children[-1]:
        signal.alarm(250)
        os._exit(0 if calls() else 3)
    time.sleep(float(sys.argv[2]))
for thread in threads:
    thread.join()
assert same == [True, True], same
assert children and not any([os.waitpid(child, 0)[1] for child in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("backend", BACKENDS)
def test_forks_while_others_make_the_first_calls(backend):
    """What is imported and compiled then has locks that a child must find free."""
    pause = "0.2" if backend == "numba" else "0.003"
    found = run(["-P", "-W", FORKED, "-c", FIRST, backend, pause])
    assert found.stderr == ""


MAKER = """
import os, signal, sys, threading, time, types
from fastent import _fork
begun = threading.Event()
class Finder:  # of a module that makes a lock while it is imported, as a fork begins
    def find_spec(self, name, path=None, target=None):
        if name == "makes_a_lock":
            from importlib.machinery import ModuleSpec
            return ModuleSpec(name, self)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        begun.set()
        time.sleep(0.2)
        module.lock = _fork.Lock()
sys.meta_path.insert(0, Finder())
outer = _fork.Lock()
def held():
    with outer:
        begun.set()
        time.sleep(0.2)
        with _fork.Lock():
            time.sleep(0.2)
signal.alarm(60)
for work in (lambda: _fork.bring("makes_a_lock"), held):
    begun.clear()
    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        signal.alarm(60)
        with outer:
            _fork.bring("json")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_locks_may_be_made_while_a_fork_waits():
    """By who holds another one, or imports: a fork that held the list of locks waited for ever."""
    assert run(["-P", "-W", FORKED, "-c", MAKER]).stderr == ""


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
