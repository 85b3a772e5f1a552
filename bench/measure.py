"""Timing: all tools of one line in turns, the best time of each."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Thread pools of the tool before keep spinning for a moment after their work.
PAUSE = 0.005


@dataclass
class Contender:
    """One tool on one line, and what was measured."""

    name: str
    call: Callable[[], Any]
    compiles: bool = False
    rows: int = 0
    first: float = math.nan  # the first call, compilation included
    best: float = math.inf
    processor: float = math.inf  # seconds of all threads, which others on the machine stretch less
    spent: float = 0.0
    runs: int = 0
    error: float | None = None

    def start(self) -> Any:
        """The first call; it counts as a measurement unless it compiles. Returns its result."""
        begin, used = time.perf_counter(), time.process_time()
        result = self.call()
        self.first = time.perf_counter() - begin
        if not self.compiles:
            self._count(self.first, time.process_time() - used)
        return result

    def run(self) -> None:
        begin, used = time.perf_counter(), time.process_time()
        self.call()
        self._count(time.perf_counter() - begin, time.process_time() - used)

    def _count(self, seconds: float, processor: float) -> None:
        self.best = min(self.best, seconds)
        self.processor = min(self.processor, processor)
        self.spent += seconds
        self.runs += 1


def take_turns(
    contenders: list[Contender],
    budget: float,
    repeats: int,
    between: Callable[[], Any] = lambda: None,
) -> None:
    """Rounds in which each tool runs once, until each had its repeats or its seconds.

    Taking turns lets a slow spell of the machine hit everyone alike. A tool always runs at
    least once here if its first call did not count.
    """
    active = [c for c in contenders if c.runs == 0 or c.spent < budget]
    while active:
        for contender in active:
            time.sleep(PAUSE)
            contender.run()
        time.sleep(PAUSE)
        between()
        active = [c for c in active if c.spent < budget and c.runs < repeats]


def best_time_per_call(call: Callable[[], Any], seconds: float = 0.2, batches: int = 7) -> float:
    """Best mean time of a call over several batches, for calls of microseconds."""
    call()
    count = 1
    while True:
        begin = time.perf_counter()
        for _ in range(count):
            call()
        spent = time.perf_counter() - begin
        if spent >= seconds / batches:
            break
        count = max(2 * count, int(count * seconds / batches / max(spent, 1e-9)))
    best = spent / count
    for _ in range(batches - 1):
        begin = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - begin) / count)
    return best


def peak_memory(call: Callable[[], Any]) -> float:
    """Bytes that a call has at its height beside what is there before; nan where the system does
    not tell, as Linux does."""
    status, peak = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not peak.exists():
        return math.nan

    def kilobytes(name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", status.read_text())
        assert found is not None
        return int(found[1])

    before = kilobytes("VmRSS")
    peak.write_text("5")  # the height starts anew
    call()
    return 1024.0 * (kilobytes("VmHWM") - before)
