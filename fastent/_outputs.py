"""Arrays of the caller that results go to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def check_out(
    out: Any, shape: tuple[int, ...], dtype: Any = np.float64, name: str = "out"
) -> np.ndarray:
    """The array, or a TypeError or ValueError."""
    if not isinstance(out, np.ndarray) or out.dtype != dtype:
        found = getattr(out, "dtype", type(out).__name__)
        raise TypeError(f"{name}: expected a {np.dtype(dtype)} array, got {found}")
    if type(out) is not np.ndarray and np.any(getattr(out, "mask", False)):
        raise TypeError(f"{name}: expected an array, got {type(out).__name__} with masked numbers")
    if out.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: expected a writeable array, got a read-only one")
    return out


def direct(out: np.ndarray, operands: Iterable[Any]) -> bool:
    """Whether kernels may write to it while they read the operands: else the results are computed
    apart and copied, as NumPy's ufuncs do."""
    return out.flags.carray and not any(
        x is not None and np.may_share_memory(out, x) for x in operands
    )
