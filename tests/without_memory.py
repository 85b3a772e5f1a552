"""Run by test_no_memory.py: each allocation of some work fails once, and nothing else happens."""

import ctypes
import sys
from functools import partial

import numpy as np

import fastent as fe

compiled = ctypes.CDLL(None)
compiled.allocations.restype = ctypes.c_long
compiled.fail_allocation.argtypes = [ctypes.c_long]
RNG = np.random.default_rng(3)


def each_fails(name, begin, work, told, exact=True):
    """Work on what begin() gives, with its first, second, ... allocation failing.

    Then it has raised MemoryError and changed nothing, and does its work when it is asked again.
    """
    subject = begin()
    before = told(subject)
    expected = told(subject, work(subject))
    number = failed = 0
    while True:
        subject = begin()
        compiled.fail_allocation(number)
        try:
            done = work(subject)
        except MemoryError as error:
            assert "\n" not in str(error)
            done, raised = None, True
        else:
            raised = False
        finally:
            seen = compiled.allocations()
            compiled.fail_allocation(-1)
        if raised:
            failed += 1
            assert told(subject) == before, (name, number, "has changed")
            done = work(subject)
        assert told(subject, done) == expected, (name, number, raised)
        if seen <= number:
            break
        number += 1
    print(f"{name}: {failed} of {number} allocations", flush=True)
    return failed


def bits(subject, found=None):
    return None if found is None else np.asarray(found).tobytes()


def long_rows():
    """Rows so long that what is known of their blocks does not fit the stack."""
    failed = 0
    for dtype in (np.float32, np.float64):
        p, q = RNG.random((2, 1, 300_000)).astype(dtype)
        p /= p.sum()
        q /= q.sum()
        x, y = np.log(p) * 3, np.log(q) * 2
        calls = {
            "kl": partial(fe.kl_divergence, p, q),
            "kl, rescaled": partial(fe.kl_divergence, p * 3, q * 2, row_sums="rescale"),
            "js": partial(fe.js_divergence, p, q),
            "kl of logits": partial(fe.kl_divergence, x, y, kind="logits"),
            "js of logits": partial(fe.js_divergence, x, y, kind="logits", temperature=3),
            "kl of nearly equal logits": partial(fe.kl_divergence, x, x + 1e-5, kind="logits"),
            "kl of two kinds": partial(fe.kl_divergence, p, y, kind=("probs", "logits")),
            "entropy": partial(fe.entropy, p),
            "entropy of logits": partial(fe.entropy, x, kind="logits"),
            "as it is": partial(fe.entropy, p, row_sums="as_is"),
            "sparse": partial(fe.sparse_cross_entropy, [7], x, kind="logits"),
            "sparse probs": partial(fe.sparse_cross_entropy, [7], p),
            "categorical": partial(fe.categorical_cross_entropy, p, x, kind="logits"),
            "categorical probs": partial(fe.categorical_cross_entropy, p, q, eps=1e-9),
            "strided": partial(fe.kl_divergence, p[:, ::-1], q[:, ::-1]),
        }
        for name, call in calls.items():
            for threads in (1, 2):
                for reduction in ("none", "mean"):
                    run = partial(call, num_threads=threads, reduction=reduction)
                    failed += each_fails(name, lambda: None, lambda _, run=run: run(), bits)
    assert failed > 50


def others():
    x = RNG.standard_normal((20_000, 40))
    labels = RNG.integers(0, 40, 20_000)
    wide = RNG.standard_normal((900, 3000)).astype(np.float16).T  # tiles larger than what is kept
    calls = [
        partial(fe.cross_entropy_gradient, labels, x, num_threads=2),
        partial(fe.entropy, wide, kind="logits", num_threads=2),
        partial(fe.entropy, x, kind="logits", reduction="sum", num_threads=2),
    ]
    failed = sum(each_fails("others", lambda: None, lambda _, c=c: c(), bits) for c in calls)
    assert failed > 3


if __name__ == "__main__":
    globals()[sys.argv[1]]()
