"""BLAS has threads and a number of them that are the process's: shared by calls, and by forks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastent._extras import missing
from fastent._fork import Lock, bring
from fastent._settings import chosen_threads

_lock = Lock()
_asked: list[int] = []  # by calls that go on
_before: list[Any] = []  # what the first of them found

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_asked.clear)  # those calls are not the child's


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The product of two matrices. A fork waits for it: BLAS may be about to start its threads, and
    would find its lock taken in the child for ever."""
    with Lock():
        found: np.ndarray = np.matmul(a, b, out=out)
    return found


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
    count = chosen_threads(count)
    with _lock:
        _asked.append(count)
        found = limits(max(_asked), user_api="blas")
        if len(_asked) == 1:
            _before[:] = [found]
    try:
        yield
    finally:
        with _lock:
            _asked.remove(count)
            if _asked:
                limits(max(_asked), user_api="blas")
            else:
                _before.pop().restore_original_limits()
