"""Calls of the elementwise functions: NumPy ufuncs of ours, on as many threads as pay.

Contiguous operands go to the ufunc as they are, whose inner loop is shared among threads. Others
(strided, 16-bit, mixed dtypes, broadcast) reach it in small pieces, so large ones are cut along one
axis, a slice a thread.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastent._settings import chosen_threads
from fastent._shapes import broadcast_shape
from fastent.backends.cython.elementwise.ufuncs import LEAST_SHARED, threaded
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.sharing import share

SLICE = 1 << 17  # numbers from which a slice pays for its thread
NUMBERS = (int, float, np.generic)


@in_default_mode
def elementwise(
    function: Any, operands: tuple[Any, ...], num_threads: int | None, options: dict[str, Any]
) -> Any:
    """function(*operands, **options), options being those of a NumPy ufunc."""
    options = {name: value for name, value in options.items() if value is not None}
    large = any(isinstance(x, np.ndarray) and x.size >= LEAST_SHARED for x in operands)
    if not large and num_threads is None:
        return function(*operands, **options)
    threads = chosen_threads(num_threads)
    if threads > 1 and not even(function, operands, options):
        slices = min(threads, size_of(operands) // SLICE)
        if slices > 1 and (sliced := cut(function, operands, options, slices)) is not None:
            return sliced
    return threaded(function, operands, threads, options)


def even(function: Any, operands: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether the ufunc's loop gets all numbers at once."""
    if not set(options) <= {"out"} or any(isinstance(x, np.generic) for x in operands):
        return False
    arrays = [x for x in operands if isinstance(x, np.ndarray)]
    arrays += as_tuple(options.get("out"))
    return len({(x.shape, x.dtype) for x in arrays}) == 1 and all(
        x.dtype.char in "fd" and x.flags.carray for x in arrays
    )


def as_tuple(out: Any) -> tuple[Any, ...]:
    if out is None:
        return ()
    return out if isinstance(out, tuple) else (out,)


def size_of(operands: tuple[Any, ...]) -> int:
    """Numbers of the result; 0 if the operands are more than plain arrays and numbers."""
    if not all(type(x) is np.ndarray or isinstance(x, NUMBERS) for x in operands):
        return 0
    return math.prod(broadcast_shape(map(np.shape, operands)))


def cut(function: Any, operands: tuple[Any, ...], options: dict[str, Any], slices: int) -> Any:
    """The same call in slices along the longest axis, or None if `out` may not be written before
    all operands are read."""
    shape = broadcast_shape(map(np.shape, operands))
    out, where = options.pop("out", None), options.pop("where", True)
    target = as_tuple(out)[0] if out is not None else None
    if target is None:  # a call on nothing gives the dtype
        dtype = function(*(x[..., :0] if np.ndim(x) else x for x in operands), **options).dtype
        target = np.empty(shape, dtype)
    apart = all(
        not np.may_share_memory(x, target) or same_place(x, target)
        for x in (*operands, where)
        if isinstance(x, np.ndarray)
    )
    if type(target) is not np.ndarray or target.shape != shape or not apart:
        options.update(out=out, where=where)
        return None
    axis = int(np.argmax(shape))

    def part(x: Any, start: int, stop: int) -> Any:
        if not isinstance(x, np.ndarray):
            return x
        whole = np.broadcast_to(x, shape) if x is not target else x
        return whole[(slice(None),) * axis + (slice(start, stop),)]

    def run(start: int, stop: int) -> None:
        pieces = [part(x, start, stop) for x in operands]
        options_here = {**options, "out": part(target, start, stop)}
        function(*pieces, where=part(where, start, stop), **options_here)

    share(run, 0, shape[axis], -(-shape[axis] // slices), slices)
    return target


def same_place(x: np.ndarray, y: np.ndarray) -> bool:
    return bool(
        x.dtype == y.dtype
        and x.shape == y.shape
        and x.strides == y.strides
        and x.__array_interface__["data"] == y.__array_interface__["data"]
    )
