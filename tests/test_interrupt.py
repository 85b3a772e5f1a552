"""Ctrl-C ends a call within a moment, and the next one is as ever."""

import os
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest

import fastent as fe

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
ROW = np.random.default_rng(4).dirichlet(np.ones(1000))
# Rows without end: hours of work in 8 KB.
P = np.broadcast_to(ROW, (1 << 33, 1000))
Q = np.broadcast_to(ROW[::-1], P.shape)
LABELS = np.broadcast_to(3, P.shape[:1])
SOON = 0.3  # s; 0.2 and what a machine full of other work needs


def interrupted(call):
    """Seconds from a signal to the exception, which comes from inside the call."""
    sent = []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, send)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
        return time.monotonic() - sent[0]
    finally:
        signal.signal(signal.SIGINT, before)
        timer.join()


def quickest(call):
    return min(interrupted(call) for _ in range(3))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "call",
    [
        partial(fe.kl_divergence, P, Q, reduction="mean"),
        partial(fe.entropy, P, kind="logits", reduction="sum"),
        partial(fe.sparse_cross_entropy, LABELS, P, reduction="mean"),
    ],
    ids=["kl", "entropy", "sparse"],
)
def test_functions(call, threads):
    assert quickest(partial(call, num_threads=threads)) < SOON
    assert fe.kl_divergence(P[:3], P[:3], num_threads=threads).tolist() == [0, 0, 0]


def test_an_accumulator_is_as_it_was():
    acc = fe.Accumulator(["kl_divergence", "js_divergence"], task="divergence", num_threads=2)
    acc.update(P[:10], Q[:10])
    before = acc.state_dict()
    assert quickest(partial(acc.update, P, Q)) < SOON
    assert acc.state_dict() == before
    assert acc.update(P[:10], Q[:10]).compute()["kl_divergence"].count == 20


def test_gradients():
    x = np.random.default_rng(1).standard_normal((200_000, 50))
    labels, out = np.zeros(len(x), int), np.empty_like(x)
    expected = fe.cross_entropy_gradient(labels, x)

    def again():
        while True:
            fe.cross_entropy_gradient(labels, x, out=out, num_threads=2)

    assert quickest(again) < SOON
    np.testing.assert_array_equal(fe.cross_entropy_gradient(labels, x, num_threads=2), expected)


def test_what_a_handler_that_returns_leaves():
    """A signal whose handler does not raise is handled meanwhile, and the call goes on."""
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(time.monotonic()))
    many = P[: 1 << 20]
    try:
        expected = fe.kl_divergence(P[:1], Q[:1])[0]
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        found = fe.kl_divergence(many, Q[: len(many)], reduction="mean", num_threads=1)
        ended = time.monotonic()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert abs(found / expected - 1) < 1e-15
    assert len(seen) == 1 and seen[0] < ended
