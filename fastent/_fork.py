"""Locks that a fork does not catch half way.

Only the thread that forks lives on in the child: what another one had locked would stay locked,
and what it was changing half changed. A fork therefore waits until nobody holds such a lock. That
includes imports at a first call, which take Python's locks of modules: they go through `bring`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from importlib import import_module
from itertools import chain
from types import ModuleType
from typing import Any, Protocol

PATIENCE = 1.0  # seconds that others let a fork go first

# What takes a lock of its own before a fork and releases it after it: where the module comes while
# a fork waits for us, nobody has taken it.
RELEASED = {"logging": "_lock", "concurrent.futures.thread": "_global_shutdown_lock"}


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
            _locks.add(weakref.ref(self, _locks.discard))

    def __enter__(self) -> None:
        if _forks:  # or who locks again and again may never let it have the lock
            end = time.monotonic() + PATIENCE
            while _forks and time.monotonic() < end:
                time.sleep(0.0005)
        self.held.acquire()

    def __exit__(self, *_: Any) -> None:
        self.held.release()


class Acquirable(Protocol):
    """A lock of others."""

    def acquire(self) -> Any: ...

    def release(self) -> Any: ...


def bring(name: str) -> ModuleType:
    """Import a module at the first call that needs it."""
    if name in sys.modules:  # whole, or a thread that holds the lock is at it
        return import_module(name)
    _importing.acquire()
    try:
        return import_module(name)
    finally:
        _importing.release()


def go_first() -> None:
    """Have our locks taken before those of `logging` and of thread pools, which those who hold ours
    may ask for: what is registered last goes first. For those who are going to."""
    if not _first:
        import_module("concurrent.futures.thread")  # and with it logging
        _first.append(True)
        _register()


def hold(lock: Acquirable) -> None:
    """A fork is to wait for this one too; who holds it takes none of the others."""
    _last.append(lock)


_first: list[bool] = []
_importing = threading.RLock()
_last: list[Acquirable] = [_importing]  # after the others, whose holders may take these
_registry = threading.RLock()
_locks: set[weakref.ref[Lock]] = set()  # a WeakSet changes while it is looked through
_forks: list[int] = []  # those that wait or go on
_taken: list[Acquirable] = []  # by the one that goes on


def _before() -> None:
    me = threading.get_ident()
    if me in _forks:  # registered twice
        return
    _forks.append(me)
    coming = [name for name in RELEASED if name not in sys.modules]
    while not _all_taken():
        _give_back()
    for name in coming:
        if name in sys.modules:
            getattr(sys.modules[name], RELEASED[name]).acquire()


def _all_taken() -> bool:
    """Whether no lock was made while those that there were have been taken. The list of them is
    locked last: who holds a lock, or imports, may be making another one."""
    with _registry:
        known = _locks.copy()
    # In the order in which a merge takes its two.
    locks = sorted(filter(None, (one() for one in known)), key=id)
    for lock in chain((lock.held for lock in locks), _last, [_registry]):  # it may grow yet
        lock.acquire()
        _taken.append(lock)
    return known >= _locks


def _give_back() -> None:
    while _taken:
        _taken.pop().release()


def _after_in_parent() -> None:
    me = threading.get_ident()
    if me in _forks:
        _give_back()
        _forks.remove(me)


def _after_in_child() -> None:
    _after_in_parent()
    _forks.clear()


def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )


_register()
