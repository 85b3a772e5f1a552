"""Blocks of rows shared among Python threads, for row values that are computed without the GIL.

Plain threads rather than Numba's: those layers cannot take everything a caller may do (GNU OpenMP
ends a process that forks after its first parallel region, the workqueue layer one that launches
from two threads at once), and a parallel region costs 3 s of compilation more per kernel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from fastent._fork import go_first
from fastent.backends.cython.float_mode import use_default_mode

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

MOST = 256  # helpers; they are started when they are needed

_pools: list[ThreadPoolExecutor] = []  # one, or none: a child of a fork has none of our threads

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def share(
    body: Callable[[int, int], object], start: int, stop: int, step: int, threads: int
) -> None:
    """Call body(first, last) for every block of [start, stop), on this thread and on helpers.

    What the first failing block raised is raised here: blocks before it have all been done.
    """
    claimed = count()
    failures: list[tuple[int, BaseException]] = []
    helpers = min(threads, -(-(stop - start) // step)) - 1
    tickets: list[Future[None]] = []

    def go() -> None:
        """Blocks in order until none is left or one has failed."""
        while not failures:
            first = start + next(claimed) * step
            if first >= stop:
                return
            try:
                body(first, min(first + step, stop))
            except BaseException as error:
                failures.append((first, error))

    def help_out(ticket: Future[None]) -> None:
        if ticket.set_running_or_notify_cancel():
            go()
            ticket.set_result(None)

    if helpers > 0:
        # Imported when it is used: 3 ms, and it registers what runs as the interpreter ends.
        go_first()
        from concurrent.futures import Future, ThreadPoolExecutor

        if not _pools:  # two threads may both make one: the second is for a single call
            _pools.append(ThreadPoolExecutor(MOST, "fastent", initializer=use_default_mode))
        pool = _pools[0]
        try:
            for _ in range(helpers):
                # Its own, as one that submit() refuses may be in the queue already.
                tickets.append(Future())
                pool.submit(help_out, tickets[-1])
        except RuntimeError:  # no more threads, or none since the interpreter is on its way out
            pass
    go()
    for one in tickets:
        while not (one.cancel() or one.done()):
            try:
                one.exception()
            except KeyboardInterrupt as error:  # the helpers still write to the caller's memory
                failures.append((start, error))
    if failures:
        raise min(failures, key=lambda failure: failure[0])[1]
