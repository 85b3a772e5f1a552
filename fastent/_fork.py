"""Locks that a fork does not catch half way.

Only the thread that forks lives on in the child: what another one had locked would stay locked,
and what it was changing half changed. A fork therefore waits until nobody holds such a lock.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any

PATIENCE = 1.0  # seconds that others let a fork go first


class Lock:
    """A reentrant lock that is free in a child of a fork, and what it guards whole.

    Attributes
    ----------
    held : RLock
        For a thread that holds another one already, and must not wait for a fork.
    """

    __slots__ = ("__weakref__", "held")

    def __init__(self) -> None:
        self.held = threading.RLock()
        with _registry:
            _locks.add(self)

    def __enter__(self) -> None:
        if _forks:  # or who locks again and again may never let it have the lock
            end = time.monotonic() + PATIENCE
            while _forks and time.monotonic() < end:
                time.sleep(0.0005)
        self.held.acquire()

    def __exit__(self, *_: Any) -> None:
        self.held.release()


_registry = threading.RLock()
_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
_forks: list[int] = []  # those that wait or go on
_taken: list[Lock] = []  # by the one that goes on


def _before() -> None:
    _forks.append(threading.get_ident())
    _registry.acquire()
    # In the order in which a merge takes its two.
    for lock in sorted(_locks, key=id):
        lock.held.acquire()
        _taken.append(lock)


def _after_in_parent() -> None:
    while _taken:
        _taken.pop().held.release()
    _registry.release()
    _forks.pop()


def _after_in_child() -> None:
    _after_in_parent()
    _forks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
