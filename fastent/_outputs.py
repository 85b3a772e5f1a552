"""Arrays of the caller that results go to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

FLOAT64 = np.dtype(np.float64)  # dtypes are compared in 0.03 µs, a dtype and a type in 0.2


def check_out(
    out: Any, shape: tuple[int, ...], dtype: Any = FLOAT64, name: str = "out"
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
    if not out.flags.carray:
        return False
    owns = out.flags.owndata
    for x in operands:
        # two arrays that own their memory are apart; to ask NumPy takes 0.2 µs more
        apart = x is None or (owns and type(x) is np.ndarray and x is not out and x.flags.owndata)
        if not apart and np.may_share_memory(out, x):
            return False
    return True
