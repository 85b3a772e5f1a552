"""Terms of entropy and divergence, and softmax, one number for each element, as in SciPy.

Vectorised NumPy in float64, in blocks that stay in cache; large arrays are split among threads,
which live no longer than the call.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastent.settings import get_num_threads

BLOCK = 1 << 13  # numbers a block: a dozen float64 temporaries stay in the second-level cache
SHARE = 1 << 17  # numbers from which another thread pays
SMALLEST = np.finfo(np.float64).tiny

# u − log(1+u) = r·(u − 2y(1/3 + y/5 + y²/7 + …)) with r = u/(2+u), y = r²: for |u| < 0.3 the terms
# left out are below 1e-17 of the sum; beyond, the plain difference loses little.
SERIES = [1.0 / (2 * k + 3) for k in range(12)]


def entr_block(x: np.ndarray) -> np.ndarray:
    found = -x * np.log(x)
    found[x == 0] = 0.0
    found[x < 0] = -np.inf
    return found


def log_ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log(x/y): near 1 by u·log(w)/(w−1), w = fl(1+u), in which the rounding of w cancels."""
    ratio = x / y
    found = np.log(ratio)
    u = (x - y) / y  # the difference is exact where this is used
    w = 1 + u
    near = (ratio > 0.5) & (ratio < 2)
    np.copyto(found, np.where(w == 1, u, u * np.log(w) / (w - 1)), where=near)
    lost = ~((ratio >= SMALLEST) & (ratio < np.inf))  # the quotient left the range of float64
    if lost.any():
        found[lost] = np.log(x[lost]) - np.log(y[lost])
    return found


def rel_entr_block(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return outside(x * log_ratio(x, y), x, y, 0.0)


def kl_div_block(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    more = y - x
    u = more / x
    found = x * log_ratio(x, y) + more
    near = np.flatnonzero(np.abs(u) < 0.3)
    if near.size:
        u = u[near]
        r = u / (2 + u)
        square = r * r
        series = np.full_like(u, SERIES[-1])
        for term in SERIES[-2::-1]:
            series *= square
            series += term
        found[near] = x[near] * (r * (u - 2 * square * series))
    found = outside(found, x, y, y)
    found[((x == np.inf) & (y >= 0)) | ((y == np.inf) & (x >= 0))] = np.inf
    return found


def gap(x: np.ndarray, top: np.ndarray) -> np.ndarray:
    """x − top; a row whose top is +inf is certain, and ties share it."""
    found = x - top
    certain = top == np.inf
    if certain.any():
        found = np.where(certain, np.where(x == top, 0.0, -np.inf), found)
    return found


def softmax_block(x: np.ndarray, top: np.ndarray, scale: np.ndarray) -> np.ndarray:
    down = gap(x, top)
    taken = down - x
    lost = (x - (down - taken)) - (top + taken)  # by rounding the difference
    np.copyto(lost, 0.0, where=~np.isfinite(lost))
    found = np.exp(down)
    found += found * lost
    return found * scale


def log_softmax_block(x: np.ndarray, top: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return gap(x, top) - rest


def outside(found: np.ndarray, x: np.ndarray, y: np.ndarray, at_zero: Any) -> np.ndarray:
    """SciPy's values where x or y is not positive: convex, infinite off the domain."""
    inside = (x > 0) & (y > 0)
    if inside.all():
        return found
    found = np.where(inside, found, np.inf)
    found = np.where((x == 0) & (y >= 0), at_zero, found)
    found[np.isnan(x) | np.isnan(y)] = np.nan
    return found


def elementwise(
    block: Callable[..., np.ndarray],
    given: tuple[Any, ...],
    out: Any,
    dtype: Any,
    num_threads: int | None,
) -> Any:
    """`block` over the broadcast inputs, with the dtypes, `out=` and `dtype=` of a SciPy ufunc."""
    plain = [type(x) in (int, float) for x in given]
    arrays = [np.asarray(x) for x in given]
    widest = np.result_type(
        *(x if p else a.dtype for x, a, p in zip(given, arrays, plain, strict=True))
    )
    if not np.can_cast(widest, np.float64):
        raise TypeError(f"expected real numbers of at most 64 bits, got dtype {widest}")
    if dtype is None:
        dtype = np.float32 if np.can_cast(widest, np.float32) else np.float64
    written = np.dtype(dtype) if out is None else np.dtype(np.float64)
    target = out[0] if isinstance(out, tuple) else out
    walk = np.nditer(
        [*arrays, target],
        flags=["external_loop", "buffered", "ranged", "delay_bufalloc", "zerosize_ok",
               "copy_if_overlap"],
        op_flags=[*[["readonly", "overlap_assume_elementwise"]] * len(arrays),
                  ["writeonly", "allocate", "no_broadcast", "overlap_assume_elementwise"]],
        op_dtypes=[*[np.dtype(np.float64)] * len(arrays), written],
        casting="same_kind",
        buffersize=BLOCK,
    )  # type: ignore[call-overload]  # fmt: skip
    with walk:
        result = walk.operands[-1] if target is None else target
        run(block, walk, num_threads or get_num_threads())
    return result[()] if target is None and result.ndim == 0 else result


def run(block: Callable[..., np.ndarray], walk: np.nditer, num_threads: int) -> None:
    size = walk.itersize
    threads = max(1, min(num_threads, size // SHARE))
    if threads == 1:
        walk_range(block, walk, 0, size)
        return
    edges = [size * i // threads for i in range(threads + 1)]
    walks = [walk.copy() for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(walk_range, [block] * threads, walks, edges[:-1], edges[1:]))


def walk_range(block: Callable[..., np.ndarray], walk: np.nditer, start: int, stop: int) -> None:
    if start == stop:
        return
    walk.iterrange = (start, stop)  # type: ignore[misc]
    with np.errstate(all="ignore"):  # belongs to the thread
        for *inputs, target in walk:
            target[...] = block(*inputs)
