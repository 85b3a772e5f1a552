"""Arrays in Fortran order: the first axis lies together, and a row in as many places as classes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np

from fastent.io.source import Buffer, as_bytes, read_exactly


class Columns:
    """Rows of such an array, gathered from a piece of the first axis at a time.

    Parameters
    ----------
    leading : tuple of int
        The axes that make the rows, which are counted in C order.
    classes : int
    dtype : numpy.dtype
    """

    def __init__(self, leading: tuple[int, ...], classes: int, dtype: np.dtype) -> None:
        self._first, *inner = leading
        self._inner = tuple(inner)
        self._column = math.prod(leading)
        self._classes = classes
        self._dtype = dtype

    def read(
        self, fd: int, offset: int, start: int, stop: int, buffer: Buffer, name: str
    ) -> np.ndarray:
        """Rows ``start`` to ``stop`` of the array at a byte offset, (rows, classes)."""
        count = (stop - start) * self._classes
        numbers = buffer.array((2 * count if self._inner else count,), self._dtype)
        boxes = list(self._boxes(start, stop)) if self._inner else [(start, stop, 0, 1)]
        rows, done = numbers[count:].reshape(-1, self._classes), 0
        for box in boxes:
            low, high, near, far = box
            size = (high - low) * (far - near)
            shape = (self._classes, far - near, high - low)
            gathered = numbers[: size * self._classes].reshape(shape)
            self._gather(fd, offset, box, gathered, name)
            if not self._inner:
                return gathered[:, 0].T
            # In C order the first axis is the slowest.
            part = rows[done : done + size].reshape(high - low, far - near, self._classes)
            part[...] = gathered.T
            done += size
        return rows

    def _boxes(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Rows as ranges of the first axis with ranges of the others: one to three of them."""
        inner = math.prod(self._inner)
        while start < stop:
            first, skipped = divmod(start, inner)
            if skipped or stop - start < inner:
                last, far = first + 1, min(inner, skipped + stop - start)
            else:
                last, far = stop // inner, inner
            yield first, last, skipped, far
            start += (last - first) * (far - skipped)

    def _gather(
        self, fd: int, offset: int, box: tuple[int, int, int, int], into: np.ndarray, name: str
    ) -> None:
        low, high, near, far = box
        item = self._dtype.itemsize
        places = np.zeros(1, dtype=np.int64)
        if self._inner:  # those in C order where they lie in Fortran order
            indices = np.unravel_index(np.arange(near, far), self._inner)
            places = np.ravel_multi_index(indices, self._inner, order="F")
        begins = (offset + item * (low + self._first * places)).tolist()
        view, run = as_bytes(into), (high - low) * item
        at = 0
        for number in range(self._classes if run else 0):
            column = item * self._column * number
            for begin in begins:
                piece = view[at : at + run]
                # The usual case by itself: there may be a million of them.
                if os.preadv(fd, [piece], column + begin) != run:
                    read_exactly(fd, piece, column + begin, name)
                at += run
