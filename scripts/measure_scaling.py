"""The table of docs/scaling.md: ``fastent score`` on 1, 2 and all cores, on Dask and by threads.

Usage: python scripts/measure_scaling.py [shards] [megabytes of a shard]
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastent.cli import cluster, main

CLASSES = 1000
REPEATS = 3


def write(folder: Path, shards: int, megabytes: int) -> int:
    rng = np.random.default_rng(0)
    rows = megabytes * 1_000_000 // (4 * CLASSES)
    logits = rng.normal(size=(rows, CLASSES)).astype(np.float32)
    for number in range(shards):
        np.save(folder / f"x-{number}.npy", logits)
        np.save(folder / f"y-{number}.npy", rng.integers(0, CLASSES, rows))
    return shards * logits.nbytes


def scored(folder: Path, *more: str) -> float:
    """Seconds of the best run of the command."""
    words = ["score", str(folder / "x-*.npy"), "--labels", str(folder / "y-*.npy")]
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        if main([*words, "--kind", "logits", "--quiet", *more]):
            raise SystemExit(1)
        best = min(best, time.perf_counter() - began)
    return best


def on_processes(folder: Path, processes: int) -> tuple[float, float]:
    """Seconds of starting the processes, and of the best run after that."""
    began = time.perf_counter()
    with cluster.connect(f"local:{processes}") as client:
        client.run(__import__, "fastent.cli.cluster")
        started = time.perf_counter() - began

        @contextlib.contextmanager
        def running(address: str, threads: int) -> Iterator[Any]:
            yield client

        connect, cluster.connect = cluster.connect, running
        try:
            return started, scored(folder, "--dask", f"local:{processes}")
        finally:
            cluster.connect = connect


def measure(shards: int, megabytes: int) -> None:
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        size = write(Path(name), shards, megabytes)
        print(f"{shards} files of logits, {size / 1e9:.2f} GB in the page cache, {cores} cores:\n")
        print(
            "| cores | Dask: starting, s | scoring, s | GB/s | speed-up | threads, no Dask: GB/s |"
        )
        print("| --- | --- | --- | --- | --- | --- |")
        first = 0.0
        for number in sorted({1, min(2, cores), cores}):
            started, best = on_processes(Path(name), number)
            threads = scored(Path(name), "--num-threads", str(number))
            first = first or best
            print(
                f"| {number} | {started:.1f} | {best:.2f} | {size / best / 1e9:.2f} "
                f"| {first / best:.2f} | {size / threads / 1e9:.2f} |"
            )


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:3] or ["64", "32"]))
