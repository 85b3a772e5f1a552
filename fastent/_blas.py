"""BLAS has threads and a number of them that are the process's: shared by calls, and by forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from fastent._extras import missing
from fastent._fork import Lock, bring
from fastent._settings import chosen_threads

_lock = Lock()
_asked: list[tuple[int, int]] = []  # how many, and by which thread, in calls that go on
_before: list[Any] = []  # what the first of them found


def by_blas(routine: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """What NumPy leaves to BLAS. A fork waits for it: BLAS may be about to start its threads, and
    would find its lock taken in the child for ever."""
    with Lock():
        return routine(*operands, **options)


product = partial(by_blas, np.matmul)


@contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """BLAS with so many threads, where a number was asked for: products and kernels take turns, so
    that each may have all of them. With the most that any of several calls asked for, and after the
    last one with as many as before the first."""
    if count is None:
        yield
        return
    try:
        limits = bring("threadpoolctl").threadpool_limits
    except ModuleNotFoundError as error:
        raise missing(error, "threadpoolctl", "num_threads: threads of BLAS") from None
    asked = chosen_threads(count), threading.get_ident()
    with _lock:
        _asked.append(asked)
        found = limits(max(_asked)[0], user_api="blas")
        if len(_asked) == 1:
            _before[:] = [found]
    try:
        yield
    finally:
        with _lock:
            _asked.remove(asked)
            _settle()


def _settle() -> None:
    """As many threads as calls that go on ask for, or as before them."""
    if _asked:
        bring("threadpoolctl").threadpool_limits(max(_asked)[0], user_api="blas")
    else:
        _before.pop().restore_original_limits()


def _after_in_child() -> None:
    """Only calls of the thread that forks go on in the child."""
    others = [one for one in _asked if one[1] != threading.get_ident()]
    if others:
        _asked[:] = [one for one in _asked if one not in others]
        _settle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
