"""A child forked while other threads are at work finds nothing locked and nothing half done."""

import ast
import os
import re
import select
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent import _blas, _fork, _linear
from fastent.compat import scipy as drop_in

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
ROUNDS = 12
RNG = np.random.default_rng(5)
P, Q = RNG.dirichlet(np.ones(16), (2, 30000))
LABELS = RNG.integers(0, 16, 30000)
GROUPS = RNG.integers(0, 300, 30000)


def in_child(work):
    """What work() says in a forked child, which has 20 s for it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        said = b"raised"
        try:
            try:
                said = repr(work()).encode()
            except BaseException as error:
                said = repr(error).encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], 20)
        said = os.read(reading, 1 << 16) if ready else b"hangs"
    finally:
        if not ready:
            os.kill(child, 9)
        os.close(reading)
        os.waitpid(child, 0)
    return said.decode()


class Busy:
    """Threads that do work over and over."""

    def __init__(self, *works):
        self.stop = threading.Event()
        self.failed = []
        self.threads = [threading.Thread(target=self.run, args=(w,)) for w in works]

    def run(self, work):
        try:
            while not self.stop.is_set():
                work()
        except BaseException as error:
            self.failed.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        time.sleep(0.05)

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.failed, self.failed


@pytest.mark.slow
def test_an_accumulator_that_is_updated_meanwhile():
    acc = fe.Accumulator(["kl_divergence", "js_divergence"], task="divergence")
    part = fe.Accumulator(["kl_divergence", "js_divergence"], task="divergence")
    one = part.update(P, Q, groups=GROUPS).compute()

    mean = one["kl_divergence"].value

    def work():
        acc.update(P, Q, groups=GROUPS)

    def look():
        """Whole updates: as many of each row as of every other."""
        report = acc.compute()
        times = report["kl_divergence"].count // len(P)
        groups = {report.groups[g]["kl_divergence"].count / one.groups[g]["kl_divergence"].count
                  for g in one.groups} if times else {0}  # fmt: skip
        again = fe.Accumulator.from_state_dict(acc.state_dict())
        acc.update(P, Q, groups=GROUPS)
        return (
            report["kl_divergence"].count % len(P), groups == {times},
            not times or abs(report["kl_divergence"].value / mean - 1) < 1e-15,
            again.compute()["kl_divergence"].count == report["kl_divergence"].count,
        )  # fmt: skip

    with Busy(work, partial(acc.merge, part)):
        for _ in range(ROUNDS):
            assert in_child(look) == "(0, True, True, True)"


@pytest.mark.slow
def test_many_accumulators_that_merge_meanwhile():
    accs = [fe.Accumulator("accuracy") for _ in range(4)]

    def work(i):
        accs[i].update(LABELS, P)
        accs[i].merge(accs[(i + 1) % 4])
        accs[i].reset()

    def look():
        for a in accs:
            a.update(LABELS[:10], P[:10]).merge(accs[0])
        return "well"

    with Busy(*(partial(work, i) for i in range(4))):
        for _ in range(ROUNDS):
            assert in_child(look) == "'well'"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cython", "numba", "numpy"])
def test_functions_that_are_called_meanwhile(backend):
    calls = [
        partial(fe.kl_divergence, P, Q, backend=backend, num_threads=2, reduction="mean"),
        partial(fe.entropy, P, backend=backend, num_threads=3, kind="logits"),
        partial(fe.sparse_cross_entropy, LABELS, P, backend=backend, label_smoothing=0.1),
    ]
    expected = repr([np.sum(call()) for call in calls])

    def look():
        return [np.sum(call()) for call in calls]

    with Busy(*calls):
        for _ in range(ROUNDS // 2):
            assert in_child(look) == expected


@pytest.mark.slow
def test_gradients_and_ufuncs_that_are_called_meanwhile():
    big = np.tile(P, (4, 1))
    calls = [
        partial(fe.cross_entropy_gradient, LABELS, P, num_threads=2),
        partial(drop_in.rel_entr, big, big[::-1], num_threads=2),
        partial(drop_in.entr, big[:, ::2], num_threads=2),
    ]
    expected = repr([np.sum(call()) for call in calls])

    def look():
        return [np.sum(call()) for call in calls]

    with Busy(*calls):
        for _ in range(ROUNDS // 2):
            assert in_child(look) == expected


def test_a_fork_inside_a_fork():
    acc = fe.Accumulator("accuracy")

    def look():
        return in_child(lambda: acc.update(LABELS, P).compute()["accuracy"].count)

    with Busy(lambda: acc.update(LABELS, P).reset()):
        for _ in range(ROUNDS // 4):
            assert int(in_child(look).strip("'")) % len(P) == 0


def test_a_lock_waits_for_a_fork_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(_fork, "PATIENCE", 0.2)
    lock = _fork.Lock()
    monkeypatch.setattr(_fork, "_forks", [1])
    start = time.monotonic()
    with lock:
        assert 0.2 <= time.monotonic() - start
    monkeypatch.setattr(_fork, "_forks", [])
    start = time.monotonic()
    with lock:
        pass
    assert time.monotonic() - start < 0.2


def blas_has():
    return [one["num_threads"] for one in pytest.importorskip("threadpoolctl").threadpool_info()
            if one["user_api"] == "blas"]  # fmt: skip


def forks_in_calls_of_others():
    before, inside, done = blas_has(), threading.Event(), threading.Event()
    most = max(before) + 1

    def product(*operands, **options):
        inside.set()
        assert done.wait(60)
        return _blas.product(*operands, **options)

    def work():
        fe.linear_cross_entropy([0, 1], P[:2], P[:5], num_threads=most)

    _linear.product = product
    with Busy(work):
        try:
            assert inside.wait(60) and blas_has() == [most] * len(before)
            assert in_child(blas_has) == repr(before)
            with _blas.blas_threads(most + 1):  # what the thread that forks asked for goes on
                assert in_child(blas_has) == repr([most + 1] * len(before))
        finally:
            done.set()
    assert blas_has() == before


def test_calls_of_other_threads_leave_nothing_in_the_child():
    """Not the number of threads of BLAS that one of them asked for. In a fresh process: OpenBLAS
    that was once set to one thread follows the main thread only."""
    pytest.importorskip("threadpoolctl")
    run = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_a_call_that_goes_on_in_the_child_ends_there():
    before = blas_has()

    def look():
        asked.__exit__(None, None, None)
        return blas_has()

    asked = _blas.blas_threads(max(before) + 1)
    with asked:
        assert in_child(look) == repr(before)
    assert blas_has() == before


def test_a_fork_waits_for_all_that_blas_does():
    """Products and factors are handed to `by_blas`, never called."""
    found = []
    for path in Path(fe.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if re.search(r"linalg|\.(v?dot|inner|matmul|tensordot)$", called):
                found.append(f"{path.name}:{node.lineno}: {called}")
            if isinstance(getattr(node, "op", None), ast.MatMult):
                found.append(f"{path.name}:{node.lineno}: @")
    assert not found


if __name__ == "__main__":
    forks_in_calls_of_others()
