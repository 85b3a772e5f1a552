"""Rows of logits that are made as they are read: hidden states of a file times a head."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from fastent._linear import Hidden, logits_into
from fastent.io import open_source
from fastent.io.errors import InputError, reading
from fastent.io.reading import Head
from fastent.io.source import Buffer, Source


class HeadRows(Source):
    """Logits of hidden states. Of three axes the middle one are layers, the last of which counts.

    A product depends on how many rows it is made of, to its rounding.
    """

    scattered = True  # many rows are better made at once

    def __init__(self, hidden: Source, head: Head) -> None:
        if hidden.classes is None:
            raise InputError(f"{hidden.name}: one number per row, expected hidden states")
        self._hidden = hidden
        self._layers = max(1, hidden.layers)
        self._head = head
        self._weights = open_source(head.weights, "predictions")
        self._norm = None if head.norm is None else open_source(head.norm, "predictions")
        width = self._weights.classes
        if width != hidden.classes:
            raise InputError(
                f"{self._weights.name}: lines of {width or 'one'} numbers, expected "
                f"{hidden.classes} as {hidden.name} has"
            )
        if self._norm is not None and self._norm.rows != hidden.classes:
            raise InputError(
                f"{self._norm.name}: {self._norm.rows} numbers, expected {hidden.classes} as "
                f"{hidden.name} has"
            )
        wide = np.float64 in (hidden.dtype, self._weights.dtype)
        dtype = np.dtype(np.float64 if wide else np.float32)
        name = f"{hidden.name} x {self._weights.name}"
        rows = hidden.rows // self._layers
        super().__init__(hidden.path, name, rows, self._weights.rows, dtype)
        self.sequential = hidden.sequential
        self._loaded: tuple[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def stamp(self) -> tuple[Any, ...]:  # type: ignore[override]
        others = [self._weights] if self._norm is None else [self._weights, self._norm]
        numbers = (self._head.eps, self._head.softcap, self._head.scale)
        return (*self._hidden.stamp(), *(n for o in others for n in o.stamp()), *numbers)

    def open(self) -> None:
        self._hidden.open()
        if self._loaded is None:
            with reading(self._weights.name):
                weights = self._weights.read(0, self._weights.rows, Buffer())
            norm = None
            if self._norm is not None:
                with reading(self._norm.name):
                    read = self._norm.read(0, self._norm.rows, Buffer())
                norm = (read.astype(np.float64).ravel(), self._head.eps)
            self._loaded = (weights, norm)
            with contextlib.suppress(ImportError):  # each thread makes products of its own
                from threadpoolctl import threadpool_limits

                threadpool_limits(1, user_api="blas")

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        self.open()
        assert self._loaded is not None
        weights, norm = self._loaded
        layers = self._layers
        given = self._hidden.read(start * layers, stop * layers, Buffer())
        rows = Hidden(
            given[layers - 1 :: layers],
            weights,
            None,
            norm,
            self._head.softcap,
            self._head.scale,
            "hidden head bias norm",
        )
        found = buffer.array((stop - start, self._weights.rows), self.dtype)
        logits_into(rows, found)
        self._hidden.settle(start * layers, stop * layers)
        return found.reshape(self.shape(stop - start))

    def release(self, start: int, stop: int) -> None:
        self._hidden.release(start * self._layers, stop * self._layers)

    def close(self) -> None:
        self._hidden.close()
        self._weights.close()
        self._loaded = None
