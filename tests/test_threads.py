"""Safe from many threads at once, in a child after a fork, and under another pool."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import cases
import numpy as np
import pytest

import fastent as fe


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
