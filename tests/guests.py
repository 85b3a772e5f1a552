"""Processes of other people with the library in them: ``python guests.py BACKEND SCENARIO...``.

The first calls come from 16 threads at once. Every scenario computes the same rows somewhere else,
in a process that has used threads, and compares the bits.
"""

import contextlib
import gc
import multiprocessing
import os
import re
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

import fastent as fe

SEEDS = range(16)
BACKEND = sys.argv[1] if len(sys.argv) > 1 else "cython"


def work(seed, backend=BACKEND):
    """Row values, a reduction and a state, by several threads."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(20_000, 12)).astype(np.float32), rng.integers(0, 12, 20_000)
    options = {"kind": "logits", "num_threads": 3, "backend": backend}
    acc = fe.Accumulator("cross_entropy", **options).update(labels, logits, groups=labels)
    found = acc.compute()["cross_entropy"]
    mean = fe.sparse_cross_entropy(labels, logits, reduction="mean", **options)
    values = fe.sparse_cross_entropy(labels, logits, **options)
    return values.tobytes(), float(mean), found.value, found.stderr


def shared(expected):
    """16 threads with one accumulator: no lock is asked of them, and none of their rows is lost."""
    total = fe.Accumulator("entropy", kind="logits", backend=BACKEND)
    logits = np.random.default_rng(0).normal(size=(500, 12))

    def go(seed):
        part = fe.Accumulator("entropy", kind="logits", backend=BACKEND)
        for block in np.array_split(logits, 10):
            total.update(np.zeros(50, int), block, groups=np.arange(50) + 50 * seed)
            part.update(np.zeros(50, int), block, groups=np.arange(50) + 50 * seed)
            assert total.compute()["entropy"].count >= 50
        return part

    with ThreadPoolExecutor(16) as pool:
        first, *others = pool.map(go, SEEDS)
    for other in others:
        first.merge(other)
    assert total.state_dict() == first.state_dict()


def fork(expected):
    """A child, and a child of the child, while another thread of the parent is in a call."""
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            work(0)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            grandchild = os.fork()
            same = work(1) == expected[1]
            if grandchild:
                same &= os.waitpid(grandchild, 0)[1] == 0
            os._exit(0 if same else 3)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    busy.join()
    assert work(1) == expected[1]


def pools(expected):
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.starmap(work, [(seed, BACKEND) for seed in SEEDS]) == expected
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(work, SEEDS)) == expected


def fresh_pools(expected):
    for method in ("forkserver", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.starmap(work, [(seed, BACKEND) for seed in SEEDS]) == expected


def joblib(expected):
    import joblib

    for kind in ("loky", "threading"):
        jobs = (joblib.delayed(work)(seed, BACKEND) for seed in SEEDS)
        assert joblib.Parallel(2 if kind == "loky" else 16, backend=kind)(jobs) == expected


class Rows:
    """A data set as torch and others know it: the call is made where an item is fetched."""

    def __len__(self):
        return len(SEEDS)

    def __getitem__(self, seed):
        return work(seed)


def loader(expected):
    """What a loader of batches does: forked workers take indices from a queue."""

    def fetch(wanted, fetched):
        for seed in iter(wanted.get, None):
            fetched.put((seed, Rows()[seed]))

    context = multiprocessing.get_context("fork")
    wanted, fetched = context.SimpleQueue(), context.SimpleQueue()
    workers = [context.Process(target=fetch, args=(wanted, fetched)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for seed in (*SEEDS, None, None):
        wanted.put(seed)
    assert sorted(fetched.get() for _ in SEEDS) == list(enumerate(expected))
    for worker in workers:
        worker.join()


def torch(expected):
    from torch.utils.data import DataLoader

    batches = DataLoader(Rows(), batch_size=4, num_workers=2, collate_fn=list)
    assert [found for batch in batches for found in batch] == expected


def dask(expected):
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=8, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert client.gather(client.map(work, SEEDS, backend=BACKEND)) == expected


def calls(expected, count="1000000"):
    """So many calls, some of them refused and some on several threads, and nothing is left."""
    p, label, out = np.full((1, 10), 0.1), np.array([3]), np.empty(1)
    many = np.full((3000, 30), 1 / 30)
    acc = fe.Accumulator("cross_entropy", backend=BACKEND)

    def go(rounds):
        for number in range(rounds):
            for _ in range(8):
                fe.sparse_cross_entropy(label, p, out=out, backend=BACKEND)
            fe.sparse_cross_entropy(label, p, reduction="mean", backend=BACKEND)
            if number % 100 == 0:
                acc.update(label, p).compute()
                fe.entropy(many, num_threads=4, backend=BACKEND)
                with contextlib.suppress(ValueError):
                    fe.entropy(-many, backend=BACKEND)
            else:
                fe.entropy(p, backend=BACKEND)

    def held():
        gc.collect()
        status = Path("/proc/self/status").read_text()
        names = ("VmRSS", "Threads")
        return [int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in names]

    rounds = int(count) // 10
    go(2000)  # memory that stays: compiled code, a heap for each thread
    kilobytes, before = held()
    go(rounds)
    grown, after = held()
    assert after == before
    assert grown - kilobytes < 2000, f"{grown - kilobytes} kB more after {10 * rounds} calls"


def main(*scenarios):
    ready = threading.Barrier(16)

    def at_once(seed):
        ready.wait()
        return [work(seed) for _ in range(3)]

    with ThreadPoolExecutor(16) as pool:
        early = list(pool.map(at_once, SEEDS))  # with the very first calls
    expected = [work(seed) for seed in SEEDS]
    assert early == [[found] * 3 for found in expected]
    for scenario in scenarios:
        name, *options = scenario.split("=")
        globals()[name](expected, *options)


if __name__ == "__main__":
    main(*sys.argv[2:])
