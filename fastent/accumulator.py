"""Metrics over batches: exact sums that do not depend on how the rows were cut into batches."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike

from fastent import _confusion
from fastent._classes import IGNORED, as_codes, class_names
from fastent._errors import as_text, shown
from fastent._feed import Feed
from fastent._fork import Lock
from fastent._keywords import Backend, Kinds, RowSums, Task, explained
from fastent._settings import chosen_backend, chosen_threads
from fastent._topk import settled
from fastent._unequal import (
    SEVERAL,
    Widths,
    each_length,
    list_rows,
    of_rows,
    refuse_by_class,
    several,
    some,
    width_of,
)
from fastent._weights import as_floats
from fastent.backends.cython.accumulate.group_ids import row_ids
from fastent.backends.cython.engine import NAMES
from fastent.backends.cython.float_mode import in_default_mode, in_float_mode, quieted
from fastent.backends.sharing import share
from fastent.backends.views import once
from fastent.metrics import Metric, find
from fastent.reports import Report

FORMAT = "fastent accumulator"
VERSION = 2  # 1 had no items, and three sums a bin
BLOCK_ROWS = 32768  # at most: their values are memory that malloc has again for the next ones


class _Hold:
    """Lives as long as anything that reads a state that was handed out."""


@explained
class Accumulator:
    """Metrics of a stream of batches, with standard errors, groups, merging and state.

    Every metric is Σ fl(w·v) / Σ w of correctly rounded sums, so its bits are the same for any
    split into batches, any order of merges and any number of threads. Memory does not grow with
    the number of rows. Threads that share one wait for each other: give each its own, and merge.

    Parameters
    ----------
    metrics : str, divergence, or sequence of them
        Names from `fastent.metrics.names(task)`; ``top5_accuracy`` and the like for any k. For the
        divergence task also what `fastent.divergence` makes and the ready-made divergences, with
        their parameters as ``functools.partial(fe.renyi_divergence, alpha=2)``; such a metric is
        named like the function, ``renyi_divergence(alpha=2.0)``.

    Examples
    --------
    >>> import fastent as fe
    >>> acc = fe.Accumulator(["cross_entropy", "accuracy"], task="sparse")
    >>> report = acc.update([0, 1], [[0.5, 0.5], [0.25, 0.75]]).compute()
    >>> report["accuracy"].value
    1.0
    """

    def __init__(
        self,
        metrics: Any,
        *,
        task: Task = "sparse",
        kind: Kinds = "probs",
        row_sums: RowSums = "check",
        eps: float = 0.0,
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        class_weight: ArrayLike | None = None,
        ignore_index: int | str | None = None,
        classes: Sequence[Any] | None = None,
        base: float | None = None,
        axis: int | None = -1,
        bins: int = 15,
        topk_options: dict[str, Any] | None = None,
        num_threads: int | None = None,
        backend: Backend | None = None,
    ):
        task, row_sums = as_text(task), as_text(row_sums)
        kind = tuple(map(as_text, kind)) if isinstance(kind, tuple | list) else as_text(kind)
        several = isinstance(metrics, Iterable) and not isinstance(metrics, str)
        self._metrics = _distinct([find(m, task) for m in (metrics if several else [metrics])])
        if not self._metrics:
            raise ValueError("metrics: expected at least one name")
        if class_weight is not None:
            class_weight = as_floats(class_weight, "class_weight")  # a copy: it may change
        self._task = task
        self._options: dict[str, Any] = {
            "kind": kind,
            "row_sums": row_sums,
            "eps": eps,
            "temperature": temperature,
            "label_smoothing": label_smoothing,
            "class_weight": class_weight,
            "ignore_index": ignore_index,
            "base": base,
            "axis": axis,
        }
        if task == "topk":
            self._options["topk_options"] = settled(topk_options)
        elif topk_options is not None:
            raise ValueError(f"topk_options: applies to task 'topk' only, not to {task!r}")
        self._running: dict[str, Any] = {"num_threads": num_threads, "backend": backend}
        self._names = None if classes is None else class_names(classes)
        counted = dict(self._options)  # what the engine is told, which sees numbers of classes
        if self._names is not None:
            if task != "sparse":
                raise ValueError(f"classes: names labels of task 'sparse', not of {task!r}")
            counted["ignore_index"] = None if ignore_index is None else IGNORED
        self._feed = Feed(self._metrics, task=task, bins=bins, **counted, **self._running)
        self._compiled = self._feed.compiled and self._names is None
        self._bins = int(bins)
        self._state = self._feed.state()
        self._own = [m for m in self._metrics if m.divergence is not None]
        self._agreed: dict[str, Any] | None = None  # what `_agreement` gave
        self._widths = Widths()  # of the rows so far; none of binary tasks
        self._hold: weakref.ref[_Hold] | None = None
        self._lock = Lock()  # the state is moved and freed as it grows

    @in_float_mode
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
    ) -> Accumulator:
        """Add a batch; one that is refused leaves the accumulator as it was.

        Parameters
        ----------
        true, pred : array
            What the function of the task takes: labels or targets, then predictions; the
            divergence task takes p and q. The task logprob takes log-probabilities alone, one a
            row, and the task topk a pair (ids, logprobs), perhaps with ranks, then an array or
            another pair; what follows goes by keyword.
        sample_weight : array_like, optional
            Of the leading shape: weighs rows. Of the shape of `pred`, in the tasks sparse and
            categorical: weighs terms.
        groups, clusters : array or sequence of int or str, optional
            One name per row, or what broadcasts to the leading shape: of the part of the report
            that it counts in, and of the rows that it is not independent of.
        lengths : array of int, optional
            Of rows of unequal length, for the sparse task: `pred` is then their values one after
            another. A column of lists has its lengths already.
        bytes : array, optional
            Of the text behind each row, for the task logprob.
        """
        if self._task == "logprob":
            if pred is not None:
                raise TypeError("pred: task 'logprob' takes log-probabilities alone; name the rest")
            true, pred = bytes, true
        elif pred is None:
            raise TypeError(f"pred: expected an array in task {self._task!r}, got None")
        elif bytes is not None:
            raise ValueError(f"bytes: applies to task 'logprob' only, not to {self._task!r}")
        plain = type(true) is ndarray and type(pred) is ndarray and pred.dtype.char != "O"
        alone = sample_weight is None and groups is None and clusters is None and lengths is None
        if self._compiled and plain and alone:
            return self._add_batch(true, pred)
        return self._add(true, pred, sample_weight, groups, clusters, lengths)

    @quieted
    def _add(
        self, true: Any, pred: Any, sample_weight: Any, groups: Any, clusters: Any, lengths: Any
    ) -> Accumulator:
        """Add a batch of anything."""
        if self._task == "sparse":
            pred = list_rows(pred, lengths, self._options["axis"])
        elif lengths is not None:
            raise ValueError(f"lengths: applies to task 'sparse' only, not to {self._task!r}")
        elif self._task not in ("logprob", "topk"):
            names = NAMES[self._task]
            # What can be read once only may have to be read for several metrics.
            true, pred = once(true, names[0]), once(pred, names[1])
        if sample_weight is not None:
            sample_weight = once(sample_weight, "sample_weight")
        if lengths is not None or several(pred):
            return self._update_unequal(true, pred, sample_weight, groups, clusters)
        if self._names is not None:
            axis, ignored = self._options["axis"], self._options["ignore_index"]
            true, _ = as_codes(true, pred, self._names, ignored, axis)
        return self._add_batch(true, pred, sample_weight, groups, clusters)

    def _add_batch(
        self,
        true: Any,
        pred: Any,
        sample_weight: Any = None,
        groups: Any = None,
        clusters: Any = None,
    ) -> Accumulator:
        """Add a batch of rows of one length."""
        batch = self._feed.batch(true, pred, sample_weight, groups, clusters)
        widths = self._with(pred, batch)  # refuses another number of classes
        if batch.rows <= BLOCK_ROWS and not 0 < batch.at_once < batch.rows:
            rows = batch.read(0, batch.rows)
            with self._lock:
                if widths is not self._widths:  # another thread may have been here
                    widths = self._with(pred, batch)
                rows.add_to(self._own_state())
                self._widths = widths
            return self
        # A later block may be refused: they wait in states of their own, one for each thread, which
        # does all of a block; but groups come in the order of the rows, and what is kept of each
        # class is large.
        one = groups is not None or clusters is not None or self._feed.by_class
        threads = 1 if one or not batch.is_compiled else batch.num_threads
        waiting = [(batch, self._state.empty())] if threads == 1 else []

        @quieted
        def add(first: int, last: int) -> None:
            try:
                mine, state = waiting.pop()
            except IndexError:
                mine = self._feed.batch(true, pred, sample_weight, num_threads=1)
                state = self._state.empty()
            mine.read(first, last).add_to(state)
            waiting.append((mine, state))

        step = max(1, BLOCK_ROWS // 4, min(BLOCK_ROWS, -(-batch.rows // (4 * threads))))
        share(add, 0, batch.rows, step, threads)
        found = [state for _, state in waiting]
        for state in found[1:]:
            found[0].merge(state)
        with self._lock:
            widths = self._with(pred, batch)
            self._own_state().merge(found[0])
            self._widths = widths
        return self

    def _with(self, pred: Any, batch: Any) -> Widths:
        """Numbers of classes of the rows so far and of a batch, most often the same."""
        if type(pred) is ndarray and batch.classes == self._widths.fixed:
            return self._widths
        widths = width_of(pred, batch.classes) if batch.rows else Widths()
        return self._widths.joined(widths, f"{batch.names[1]}: expected {{}} classes, got {{}}")

    def _update_unequal(
        self, labels: Any, rows: Any, sample_weight: Any, groups: Any, clusters: Any
    ) -> Accumulator:
        """Add rows of unequal length, those of one length at a time: sums have no order."""
        refuse_by_class(
            class_weight=self._options["class_weight"],
            classes=self._names,
            metrics=self._feed.by_class or None,
        )
        count = rows.lengths.size
        labels = of_rows(labels, "labels", count)
        weights = of_rows(sample_weight, "sample_weight", count)
        groups = None if groups is None else row_ids(groups, count, "groups")
        clusters = None if clusters is None else row_ids(clusters, count, "clusters")
        waiting = self._state.empty()

        def add(piece: np.ndarray, matrix: Any) -> None:
            batch = self._feed.batch(
                labels[piece],
                matrix,
                None if weights is None else weights[piece],
                some(groups, piece),
                some(clusters, piece),
            )
            batch.read(0, batch.rows).add_to(waiting)

        refused = "pred: expected {} classes, got {}"
        widths = width_of(rows, int(rows.lengths[0])) if count else Widths()
        self._widths.joined(widths, refused)
        each_length(rows, add)
        with self._lock:
            self._own_state().merge(waiting)
            self._widths = self._widths.joined(widths, refused)
        return self

    @in_default_mode
    def compute(self) -> Report:
        """Results so far, as they are now: later updates do not change the report."""
        with self._lock:
            # One for all reports of this state: it may change when the last of them is gone.
            hold = (self._hold and self._hold()) or _Hold()
            self._hold = weakref.ref(hold)
            state, names = self._state, self._class_names
        return Report(state, self._metrics, self._options["base"], hold, self._settings(), names)

    @property
    def _class_names(self) -> Sequence[Any]:
        if self._names is not None:
            return self._names.names
        return range(2 if self._task == "binary" else self._widths.fixed)

    def _own_state(self) -> Any:
        """The state, to be changed: a copy while a report still reads from it."""
        if self._hold is not None:
            if self._hold() is not None:
                self._state = self._state.copy()
            self._hold = None
        return self._state

    @in_default_mode
    def merge(self, other: Accumulator) -> Accumulator:
        """Add all rows of another accumulator, which stays as it is.

        Parameters
        ----------
        other : Accumulator
            With the same metrics, in any order, and the same settings, but for threads and
            backend, and the same number of classes.
        """
        if not isinstance(other, Accumulator):
            raise TypeError(f"merge: expected an Accumulator, got {type(other).__name__}")
        mine, theirs = self._agreement(), other._agreement()
        if mine is not theirs:
            for name, value in mine.items():
                if value != theirs[name]:
                    raise ValueError(
                        f"merge: {name} differs: {shown(value)} and {shown(theirs[name])}"
                    )
            _distinct([*self._metrics, *other._metrics])
        # In the order of a fork too (see _fork): two that wait for each other would do so for ever.
        first, second = sorted((self, other), key=lambda acc: id(acc._lock))
        with first._lock, second._lock.held:
            differs = "merge: number of classes differs: {} and {}"
            widths = self._widths.joined(other._widths, differs)
            self._own_state().merge(other._state)
            self._widths = widths
        return self

    def __add__(self, other: Accumulator) -> Accumulator:
        if not isinstance(other, Accumulator):
            return NotImplemented
        return self.copy().merge(other)

    def __radd__(self, other: Any) -> Accumulator:
        """So that `sum` of accumulators, which begins with 0, is their merge."""
        if isinstance(other, int) and other == 0:
            return self.copy()
        return NotImplemented

    @in_default_mode
    def copy(self) -> Accumulator:
        """An independent accumulator with the same rows."""
        self._agreement()
        new = object.__new__(type(self))
        vars(new).update(vars(self))  # nothing of it changes but what follows
        new._lock, new._hold = Lock(), None
        with self._lock:
            new._state = self._state.copy()
            new._widths = self._widths
        return new

    def reset(self) -> Accumulator:
        """Forget all rows."""
        with self._lock:
            self._state = self._state.empty()
            self._widths = Widths()
            self._hold = None
        return self

    def _agreement(self) -> dict[str, Any]:
        """The settings, to be read only: made once, and the very same in copies."""
        if self._agreed is None:
            self._agreed = self._settings()
        return self._agreed

    def _settings(self) -> dict[str, Any]:
        """What two accumulators must share to be merged, JSON-able; no threads, no backend."""
        plain = {name: _plain(value) for name, value in self._options.items()}
        return {
            "metrics": sorted(m.name for m in self._metrics),
            "task": self._task,
            **plain,
            "classes": None if self._names is None else list(self._names.names),
            "bins": self._bins,
        }

    @in_default_mode
    def state_dict(self) -> dict[str, Any]:
        """Settings and content as JSON-able data, the same for any order of updates and merges."""
        return self._described()

    def _described(self, lazily: bool = False) -> dict[str, Any]:
        settings = self._settings() | {"metrics": [m.name for m in self._metrics]}
        own = [m.name for m in self._own if not m.ready]
        if own:
            settings["divergences"] = own
        with self._lock:
            state = self._state.to_dict(lazily)
            width = {"width": self._widths.fixed}
            if self._widths.lists:
                width["lists"] = self._widths.lists
        return {"format": FORMAT, "version": VERSION, "settings": settings, **width, "state": state}

    @classmethod
    @in_default_mode
    @explained
    def from_state_dict(
        cls,
        data: dict[str, Any],
        *,
        metrics: Any = (),
        num_threads: int | None = None,
        backend: Backend | None = None,
    ) -> Accumulator:
        """The accumulator that gave the `state_dict`.

        Parameters
        ----------
        data : dict
            What `state_dict` returned, perhaps by way of JSON.
        metrics : divergence, or sequence of them
            The divergences of one's own among its metrics, which a state only names.

        Raises
        ------
        ValueError
            Not such a state, damaged, of another version, or with a divergence that is not given.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError("state_dict: not the state of an accumulator")
        if data.get("version") != VERSION:
            raise ValueError(
                f"state_dict: expected version {VERSION}, got {shown(data.get('version'))}"
            )
        settings = data.get("settings")
        if not isinstance(settings, dict) or not settings.keys() >= {"metrics", "task", "kind"}:
            raise ValueError("state_dict: no settings of an accumulator")
        given = metrics if isinstance(metrics, Iterable) else [metrics]
        chosen_backend(backend)  # what is wrong with these is not the state's fault
        chosen_threads(num_threads)
        names, own = settings["metrics"], settings.get("divergences", ())
        for texts in (names, own, [settings["task"]]):
            if not isinstance(texts, list | tuple) or not all(isinstance(x, str) for x in texts):
                raise ValueError(f"state_dict: the settings are damaged (names: {texts!r:.60})")
        known = {m.name: m for m in (find(metric, settings["task"]) for metric in given)}
        for name in known:
            if name not in names:
                raise ValueError(f"metrics: the state has no {name!r}; it has {', '.join(names)}")
        for name in own:
            if name not in known:
                raise ValueError(
                    f"state_dict: {name!r} is a divergence of one's own: give it as metrics=[...]"
                )
        rest = {k: v for k, v in settings.items() if k not in ("metrics", "divergences")}
        if isinstance(rest["kind"], list):
            rest["kind"] = tuple(rest["kind"])
        part = "settings are"
        try:
            metrics = [known.get(name, name) for name in names]
            new = cls(metrics, **rest, num_threads=num_threads, backend=backend)
            part = "state is"
            widths = Widths(data.get("width", 0), data.get("lists", 0))  # not in states of 0.1
            for number, least in zip(widths, (0, SEVERAL), strict=True):
                if type(number) is not int or number < least:
                    raise ValueError(f"expected a number of classes, got {shown(number)}")
            new._widths = widths
            new._state.load(data["state"])
            if new._feed.pairs:
                _confusion.check_pairs(new._state, len(new._class_names))
        except MemoryError:
            raise
        except Exception as error:  # whatever the data may be
            why = str(error).split("\n")[0]
            raise ValueError(f"state_dict: the {part} damaged ({why})") from None
        return new

    def __reduce__(self) -> Any:
        return _restored, (self.state_dict(), [m for m in self._own if not m.ready], self._running)

    def __repr__(self) -> str:
        names = ", ".join(m.name for m in self._metrics)
        return f"<Accumulator of {names}; task {self._task}, {self._state.rows()} rows>"


def merge(accumulators: Iterable[Accumulator]) -> Accumulator:
    """All rows of some accumulators in a new one; they stay as they are.

    Parameters
    ----------
    accumulators : iterable of Accumulator
        At least one; all with the same metrics, in any order, and the same settings.

    Returns
    -------
    Accumulator

    Examples
    --------
    >>> import fastent as fe
    >>> parts = [fe.Accumulator("accuracy").update([k], [[0.25, 0.75]]) for k in (0, 1)]
    >>> fe.merge(parts).compute()["accuracy"].value
    0.5
    """
    total = None
    for one in accumulators:
        if not isinstance(one, Accumulator):
            raise TypeError(f"accumulators: expected Accumulators, got {type(one).__name__}")
        total = one.copy() if total is None else total.merge(one)
    if total is None:
        raise ValueError("accumulators: expected at least one, got none")
    return total


def _restored(data: dict[str, Any], metrics: list[Metric], running: dict[str, Any]) -> Accumulator:
    return Accumulator.from_state_dict(data, metrics=metrics, **running)


def _distinct(metrics: list[Metric]) -> list[Metric]:
    """Each metric once; two divergences must not share a name."""
    found: dict[str, Metric] = {}
    for m in metrics:
        first = found.setdefault(m.name, m)
        if not m.same_as(first):
            raise ValueError(f"metrics: two different divergences are named {m.name!r}")
    return list(found.values())


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, np.ndarray) and value.ndim:
        return [_plain(x) for x in value.astype(float).tolist()]
    if isinstance(value, tuple | list):
        return [_plain(x) for x in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.item()
    return value
