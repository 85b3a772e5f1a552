"""Accumulators for several threads: each adds to one that no other has, and in the end they merge.

The sums are exact, so which thread took which rows leaves no trace.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, Self, TypeVar

LABEL_BYTES = 64  # that counting one label may take
GROUP_BYTES = 4 << 10  # the sums of one group or cluster
ROOM = 64 << 20


def lane_count(threads: int, classes: int | None, groups: int, clusters: int = 0) -> int:
    """How many accumulators to have for so many threads.

    No more than there is room for with counts of all labels, of each group, and sums of at most so
    many groups and clusters; the kernels of each then use several threads, which wait for each
    other: a tenth of the time at 150,000 classes.
    """
    each = LABEL_BYTES * (classes or 1) * (1 + groups) + GROUP_BYTES * (groups + clusters)
    return max(1, min(threads, ROOM // each))


class Mergeable(Protocol):
    def merge(self, other: Self) -> Self: ...


T = TypeVar("T", bound=Mergeable)


class Lanes(Generic[T]):
    """As many accumulators as threads may add at once."""

    def __init__(self, make: Callable[[], T], count: int) -> None:
        self._make = make
        self._all = [make() for _ in range(count)]
        self._free: queue.SimpleQueue[T] = queue.SimpleQueue()
        for one in self._all:
            self._free.put(one)

    @contextmanager
    def borrow(self) -> Iterator[T]:
        one = self._free.get()
        try:
            yield one
        finally:
            self._free.put(one)

    def total(self) -> T:
        """All rows in one accumulator; when nobody is adding."""
        if len(self._all) == 1:
            return self._all[0]
        total = self._make()
        for one in self._all:
            total.merge(one)
        return total
