"""The read limit: how fast the threads of this machine read a large array from memory.

Every kernel of fastent reads its input once, so this is the only honest upper bound. Three sums
that NumPy vectorises are tried, in several cuts, since which of them is fastest differs between
machines; the best one of the whole run counts. All three release the GIL.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SUMS = {
    "sum": np.sum,
    "sum of squares": lambda a: np.dot(a, a),
    "bitwise or": lambda a: np.bitwise_or.reduce(a.view(np.uint64)),
}
# Pieces per thread. Smaller ones even out threads that run at different speeds.
CUTS = (1, 4, 16)


class ReadLimit:
    """Reads one large array again and again and remembers the best rate."""

    def __init__(self, threads: int, array_bytes: int = 1_000_000_000):
        self._array = np.ones(array_bytes // 4 // 1024 * 1024, np.float32)
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads
        self.gigabytes_per_second = 0.0
        self.method = ""
        self._best = ("sum", CUTS[0])

    def _read(self, name: str, cut: int) -> float:
        pieces = self._array.reshape(-1, 1024)
        pieces = [p.reshape(-1) for p in np.array_split(pieces, self._threads * cut)]
        start = time.perf_counter()
        list(self._pool.map(SUMS[name], pieces))
        rate = self._array.nbytes / (time.perf_counter() - start) / 1e9
        if rate > self.gigabytes_per_second:
            self.gigabytes_per_second = rate
            self.method = f"{name}, {self._threads} threads, {self._threads * cut} pieces"
            self._best = (name, cut)
        return rate

    def search(self, repeats: int = 5) -> float:
        """Tries every way of reading; returns the best rate so far in GB/s."""
        for _ in range(repeats):
            for name in SUMS:
                for cut in CUTS:
                    self._read(name, cut)
        return self.gigabytes_per_second

    def again(self) -> float:
        """One more read in the fastest way, taken among the measurements of each line."""
        return self._read(*self._best)
