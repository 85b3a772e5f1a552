"""Safe from many threads at once, in a child after a fork, and under another pool."""

import os
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import cases
import numpy as np
import pytest

import fastent as fe
from fastent import _blas


def test_many_threads_at_once(engine):
    work = []
    for seed in range(6):
        args = cases.ordinary("kl_divergence", "logits", np.float32, (400, 70), seed=seed)
        work.append((args, fe.kl_divergence(*args, kind="logits", num_threads=1, backend=engine)))

    def go(item):
        args, want = item
        got = fe.kl_divergence(*args, kind="logits", num_threads=3, backend=engine)
        return got.tobytes() == want.tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(go, work * 10))


def test_the_first_bad_row_whatever_the_threads(compiled):
    p = np.full((200_000, 4), 0.25)
    p[[150_003, 70_001, 199_999], 2] = -0.25
    for threads in (1, 2, 4):
        with pytest.raises(ValueError, match=r"row 70001\b"):
            fe.entropy(p, num_threads=threads, backend=compiled)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the machine has no fork")
@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_child_after_fork(backend):
    code = f"""
        import os, signal, sys, warnings
        import numpy as np
        import fastent as fe
        x = np.random.default_rng(0).normal(size=(20_000, 50)).astype(np.float32)
        options = dict(kind="logits", num_threads=3, backend="{backend}")
        want = fe.entropy(x, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # later versions warn about any fork with threads
            child = os.fork()
        if child == 0:
            signal.alarm(30)
            same = fe.entropy(x, **options).tobytes() == want.tobytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                grandchild = os.fork()
            if grandchild == 0:
                signal.alarm(30)
                same = fe.entropy(x, **options).tobytes() == want.tobytes()
                os._exit(0 if same else 4)
            _, status = os.waitpid(grandchild, 0)
            os._exit(0 if same and status == 0 else 3)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert fe.entropy(x, **options).tobytes() == want.tobytes()
    """
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_blas_has_as_many_threads_as_before_calls_that_overlap():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        return {one["num_threads"] for one in threadpoolctl.threadpool_info()
                if one["user_api"] == "blas"}  # fmt: skip

    before = threads()
    first, second = _blas.blas_threads(3), _blas.blas_threads(2)
    with first:
        second.__enter__()
        assert threads() == {3}
    assert threads() == {2}
    second.__exit__(None, None, None)
    assert threads() == before


def test_pages_made_by_threads_at_once():
    """matplotlib's settings and the filters of warnings are the process's, and are as before."""
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    acc = fe.Accumulator(["cross_entropy", "ece"], kind="logits")
    rng = np.random.default_rng(3)
    report = acc.update(rng.integers(0, 3, 50), rng.normal(size=(50, 3))).compute()
    want = report.to_html()
    before = dict(matplotlib.rcParams), list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: report.to_html(), range(8)))
    assert all(page == want for page in found)
    assert (dict(matplotlib.rcParams), list(warnings.filters)) == before
