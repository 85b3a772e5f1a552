"""Arrays whose rows do not lie together: in Fortran order, or with the class axis first."""

from __future__ import annotations

import contextlib
import math

import numpy as np

from fastent.io.errors import InputError
from fastent.io.mapping import Mapping
from fastent.io.source import Buffer


def strided(
    fd: int, offset: int, shape: tuple[int, ...], dtype: np.dtype, by_column: bool, axis: int
) -> np.ndarray:
    """The array in an open file, where it is mapped, with the class axis last."""
    count = math.prod(shape)
    if not count:
        return np.moveaxis(np.empty(shape, dtype), axis, -1)
    mapping = None
    with contextlib.suppress(OSError):
        mapping = Mapping(fd, offset + count * dtype.itemsize)
    if mapping is None:
        raise InputError("is on a filesystem that maps no files, expected it in C order")
    numbers = np.frombuffer(mapping, dtype, count, offset)
    return np.moveaxis(numbers.reshape(shape, order="F" if by_column else "C"), axis, -1)


def rows_of(array: np.ndarray, start: int, stop: int, buffer: Buffer, flat: bool) -> np.ndarray:
    """Rows of such an array, counted in C order of its other axes; copied class by class."""
    whole = array[..., None] if flat else array
    found = buffer.array((whole.shape[-1], stop - start), array.dtype)
    if whole.ndim == 2:
        found[...] = whole[start:stop].T
    elif stop > start:
        places = np.unravel_index(np.arange(start, stop), whole.shape[:-1])
        for number, column in enumerate(found):
            column[...] = whole[(*places, number)]
    return found.T
