"""The table of docs/scaling.md: ``fastent score --dask local:N`` on 1, 2 and all cores.

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


def seconds(folder: Path, processes: int) -> tuple[float, float]:
    """Of starting the processes, and of the best run after that."""
    began = time.perf_counter()
    with cluster.connect(f"local:{processes}") as client:
        client.run(__import__, "fastent.cli.cluster")
        started = time.perf_counter() - began
        best = float("inf")

        @contextlib.contextmanager
        def running(address: str) -> Iterator[Any]:
            yield client

        connect, cluster.connect = cluster.connect, running
        try:
            for _ in range(REPEATS):
                began = time.perf_counter()
                words = ["score", str(folder / "x-*.npy"), "--labels", str(folder / "y-*.npy")]
                words += ["--kind", "logits", "--quiet", "--dask", f"local:{processes}"]
                if main(words):
                    raise SystemExit(1)
                best = min(best, time.perf_counter() - began)
        finally:
            cluster.connect = connect
    return started, best


def measure(shards: int, megabytes: int) -> None:
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        size = write(Path(name), shards, megabytes)
        print(f"{shards} shards, {size / 1e9:.2f} GB, {cores} cores\n")
        print("| processes | starting, s | scoring, s | GB/s | speed-up |")
        print("| --- | --- | --- | --- | --- |")
        first = 0.0
        for processes in sorted({1, min(2, cores), cores}):
            started, best = seconds(Path(name), processes)
            first = first or best
            rate = size / best / 1e9
            print(f"| {processes} | {started:.1f} | {best:.2f} | {rate:.2f} | {first / best:.2f} |")


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:3] or ["64", "32"]))
