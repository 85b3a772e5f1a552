"""Metrics of a window of the latest updates, as two stacks of accumulators.

The older stack holds sums of suffixes: its top is all of its updates together, and dropping the
oldest takes it off. The newer one holds updates as they came, and their sum. When the older is
empty, the newer is turned over: one merge an update, and sums do not depend on their order.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, Unpack

import numpy as np

from fastent._errors import one_of, shown
from fastent._keywords import AccumulatorKeywords, explained
from fastent._unequal import Widths
from fastent.accumulator import Accumulator
from fastent.reports import Report

By = Literal["updates", "rows", "span"]


@explained
class RollingAccumulator:
    """Metrics of the latest updates, with the bits of an `Accumulator` of just these.

    Parameters
    ----------
    metrics : str, divergence, or sequence of them
        As in `Accumulator`.
    window : int, float or timedelta
        How much is kept.
    by : {"updates", "rows", "span"}
        What it counts: the latest updates; rows that weigh anything, of as many of the latest
        updates as have at most that many together, at least of one; or the span of the stamps that
        updates are given, of which those in (latest − window, latest] stay.

    Examples
    --------
    >>> import fastent as fe
    >>> acc = fe.RollingAccumulator("accuracy", window=2)
    >>> for label in (0, 1, 1):
    ...     report = acc.update([label], [[0.25, 0.75]]).compute()
    >>> report["accuracy"].value, report["accuracy"].count
    (1.0, 2)
    """

    _older: list[tuple[Accumulator, int, Any]]  # the oldest last
    _newer: list[tuple[Accumulator, int, Any]]  # the latest last
    _sum: Accumulator | None  # of the newer
    _rows: int
    _widths: Widths

    def __init__(
        self,
        metrics: Any,
        *,
        window: Any,
        by: By = "updates",
        **keywords: Unpack[AccumulatorKeywords],
    ) -> None:
        self._by = one_of(by, "by", ("updates", "rows", "span"))
        self._window = _as_window(window, self._by == "span")
        self._empty = Accumulator(metrics, **keywords)
        self.reset()

    def update(
        self,
        true: Any,
        pred: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
        clusters: Any = None,
        *,
        lengths: Any = None,
        bytes: Any = None,
        at: Any = None,
    ) -> RollingAccumulator:
        """Add a batch and drop what leaves the window; one that is refused changes nothing.

        Parameters
        ----------
        true, pred, sample_weight, groups, clusters, lengths, bytes
            As in `Accumulator.update`.
        at : number or datetime, optional
            With ``by="span"``: when, which must not fall.
        """
        kept = self._checked_stamp(at)
        one = self._empty.copy()
        one._widths = self._widths
        one.update(true, pred, sample_weight, groups, clusters, lengths=lengths, bytes=bytes)
        self._widths = one._widths
        self._newer.append((one, one._state.rows(), at))
        self._rows += one._state.rows()
        self._sum = one.copy() if self._sum is None else self._sum.merge(one)
        while len(self) > 1 and self._too_much(kept):
            self._drop()
        return self

    def _checked_stamp(self, at: Any) -> Any:
        """The stamp up to which updates leave the window."""
        if self._by != "span":
            if at is not None:
                raise ValueError(f"at: applies to by='span', not to {self._by!r}, got {shown(at)}")
            return None
        if at is None:
            raise TypeError("at: expected the stamp of the update, got None")
        try:
            kept = at - self._window
            falls = self._latest is not None and bool(at < self._latest)
            usual = bool(at == at) and bool(kept < at)
        except TypeError:
            raise TypeError(
                f"at: expected a stamp that window={self._window!r} can be taken from, "
                f"got {shown(at)}"
            ) from None
        if not usual:
            raise ValueError(f"at: expected a finite stamp, got {shown(at)}")
        if falls:
            raise ValueError(f"at: expected a stamp from {self._latest!r} on, got {shown(at)}")
        return kept

    @property
    def _latest(self) -> Any:
        return self._newer[-1][2] if self._newer else None

    def _too_much(self, kept: Any) -> bool:
        if self._by == "updates":
            return len(self) > self._window
        if self._by == "rows":
            return self._rows > self._window
        return bool((self._older[-1] if self._older else self._newer[0])[2] <= kept)

    def _drop(self) -> None:
        """Forget the oldest update."""
        if not self._older:
            # the latest stays: it says how far stamps have come
            *turned, latest = self._newer
            suffix = None
            for one, rows, at in reversed(turned):
                suffix = one if suffix is None else one.merge(suffix)
                self._older.append((suffix, rows, at))
            self._newer, self._sum = [latest], latest[0].copy()
        self._rows -= self._older.pop()[1]

    def compute(self) -> Report:
        """Results of the updates in the window, as they are now."""
        parts = [self._older[-1][0]] if self._older else []
        if self._sum is not None:
            parts.append(self._sum)
        if not parts:
            return self._empty.compute()
        total = parts[0].copy() if len(parts) > 1 else parts[0]
        return (total.merge(parts[1]) if len(parts) > 1 else total).compute()

    def reset(self) -> RollingAccumulator:
        """Forget all updates, and stamps."""
        self._older, self._newer, self._sum = [], [], None
        self._rows = 0
        self._widths = self._empty._widths
        return self

    def __len__(self) -> int:
        """The number of updates in the window."""
        return len(self._older) + len(self._newer)

    def __repr__(self) -> str:
        return f"<RollingAccumulator of {self._window} {self._by}, {len(self)} updates held>"


def _as_window(window: Any, span: bool) -> Any:
    expected = "a whole number of at least 1"
    if span:
        expected = "a finite number above 0, or a timedelta"
        if isinstance(window, timedelta | np.timedelta64):
            if window > 0 * window:
                return window
            raise ValueError(f"window: expected {expected}, got {shown(window)}")
    kinds = (int, np.integer, float, np.floating) if span else (int, np.integer)
    if isinstance(window, bool) or not isinstance(window, kinds):
        raise TypeError(f"window: expected {expected}, got {shown(window)}")
    if not 0 < window < float("inf"):
        raise ValueError(f"window: expected {expected}, got {shown(window)}")
    return window
