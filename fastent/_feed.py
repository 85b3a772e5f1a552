"""From a batch to a state: the one path by which rows are prepared, weighed, labelled and added.

`Feed` settles once which row values the metrics of a task need and which columns of a state take
them; its batches give these rows, and `Rows.add_to` adds them. The accumulator, the command and
Dask differ in where batches come from, and in what they look at in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastent import _calibration, _classwise, _confusion, _topk
from fastent._derived import DERIVED, derived
from fastent._errors import shown, whole_axis
from fastent._logprob import LogprobCall, check_options
from fastent.backends.cython.accumulate.group_ids import row_ids
from fastent.backends.cython.accumulate.state import State
from fastent.backends.cython.call import Call
from fastent.backends.cython.engine import Settled
from fastent.metrics import Metric
from fastent.results import column_name

# Options that a divergence of one's own has no use for; those with a value are refused.
NOT_OF_DIVERGENCES = ("eps", "label_smoothing", "class_weight", "ignore_index", "backend")
# Row values of a binary task that come from the targets, not from a backend.
TARGETS = -1
# Confidence and correctness, and their product.
CALIBRATED = {"sparse": ("confidence", "accuracy"), "binary": ("probability", "target")}
PRODUCT = {"sparse": "sure_hits", "binary": "overlap"}
OVERLAP = ("overlap", "alone_p", "alone_t", "apart")

MOST_BINS = 1000


# None: nothing
Items = Callable[["np.ndarray | None", slice], "tuple[np.ndarray, np.ndarray] | None"]


@dataclass(init=False)
class Rows:
    """Rows of a batch as a state takes them.

    Attributes
    ----------
    values : float64 array, (columns, rows)
        Unweighted row values, in the order of `Feed.columns`.
    weights : float64 array or None
        Of the rows, 0 for ignored ones; None where every row counts 1.
    target_weights : float64 array or None
        What a cross-entropy's row is divided by beside its weight: Σ w·t of its target.
    targets, labels : array or None
        Targets of a binary task, labels to count.
    groups, clusters : object or None
        Ids of the rows.
    num_threads : int
    items : tuple of callable
        From weights and a slice of rows to what these add to the sums of numbered items.
    at_once : int
        How many rows may be added together; 0: all.
    """

    values: np.ndarray
    weights: np.ndarray | None = None
    target_weights: np.ndarray | None = None
    targets: np.ndarray | None = None
    labels: np.ndarray | None = None
    groups: Any = None
    clusters: Any = None
    num_threads: int = 1
    items: tuple[Items, ...] = ()
    at_once: int = 0

    def __init__(
        self,
        values: np.ndarray,
        weights: np.ndarray | None = None,
        target_weights: np.ndarray | None = None,
        num_threads: int = 1,
        **more: Any,
    ) -> None:
        # Most rows have no more: to set all ten took a small update a thirtieth of its time.
        self.values = values
        self.weights = weights
        self.target_weights = target_weights
        self.num_threads = num_threads
        if more:
            self.__dict__.update(more)

    def add_to(self, state: State) -> None:
        count = self.values.shape[1]
        if not 0 < self.at_once < count:
            items = self._items(self.weights, slice(0, count)) if self.items else None
            state.add(
                self.values, self.weights, self.target_weights, self.targets, self.labels,
                self.groups, self.clusters, self.num_threads, items,
            )  # fmt: skip
            return
        for start in range(0, count, self.at_once):
            here = slice(start, min(count, start + self.at_once))
            parts = (self.weights, self.target_weights, self.targets, self.labels, self.groups,
                     self.clusters)  # fmt: skip
            weights, *rest = (None if x is None else x[here] for x in parts)
            items = self._items(weights, here)
            state.add(self.values[:, here], weights, *rest, self.num_threads, items)

    def _items(self, weights: np.ndarray | None, here: slice) -> list[np.ndarray] | None:
        """Numbers and amounts of all items; of weights that may have been set after the rows."""
        found = [more for make in self.items if (more := make(weights, here)) is not None]
        if not found:
            return None
        return [np.ascontiguousarray(np.concatenate(x)) for x in zip(*found, strict=True)]


class Batch:
    """The settled calls of a batch: the engine's, then those of the divergences of one's own."""

    at_once = 0  # rows that are added together, where each class of them is; 0: all
    _groups = _clusters = None

    def __init__(self, calls: list[Any], feed: Feed, groups: Any, clusters: Any) -> None:
        first = calls[0]
        self._calls = calls
        self._feed = feed
        self.rows: int = first.rows
        self.classes: int = first.classes
        if feed.classwise:
            self.at_once = max(1, _classwise.NUMBERS // self.classes)
        if groups is not None:
            self._groups = row_ids(groups, first.lead, "groups")
        if clusters is not None:
            self._clusters = row_ids(clusters, first.lead, "clusters")

    @property
    def names(self) -> tuple[str, str]:
        return self._calls[0].names

    @property
    def num_threads(self) -> int:
        return self._calls[0].num_threads

    @property
    def is_compiled(self) -> bool:
        """Whether all that is computed of a row is compiled, for any thread that has a batch."""
        first = self._calls[0]
        return len(self._calls) == 1 and isinstance(first, Call) and first.backend == "cython"

    def values(self, start: int, stop: int) -> np.ndarray:
        """The engine's values of rows [start, stop), computed now."""
        found: np.ndarray = self._calls[0].values(start, stop)
        return found

    def read(self, start: int, stop: int, values: np.ndarray | None = None) -> Rows:
        """Rows [start, stop), computed now but for the engine's values where these are given."""
        call = self._calls[0]
        rows = rows_of(call, start, stop, len(self._feed.derived), values)
        if len(self._calls) > 1:
            own = (more.values(start, stop) for more in self._calls[1:])
            rows.values = np.vstack([rows.values, *own])
        feed = self._feed
        if feed.counts_labels:
            rows.labels = call.labels(start, stop)
        if feed.needs_targets:
            rows.targets = call.labels(start, stop)
        if feed.makes_more:
            self._make_more(rows, start, stop)
        if self._groups is not None:
            rows.groups = self._groups[start:stop]
        if self._clusters is not None:
            rows.clusters = self._clusters[start:stop]
        return rows

    def _make_more(self, rows: Rows, start: int, stop: int) -> None:
        """Values and items that are made of those of the engine."""
        feed = self._feed
        known = dict(zip(feed.columns, rows.values, strict=False))
        if rows.targets is not None:
            known["target"] = rows.targets
        if feed.classwise:
            rows.at_once = self.at_once
            rows.items += (_classwise.Items(self._calls[0], start, stop, feed.bins),)
        if feed.derived:
            rows.values[-len(feed.derived) :] = derived(feed.derived, known)
        if feed.pairs:
            rows.labels = _confusion.pairs_of(known, rows.labels)
            rows.items += (partial(_confusion.items_of, rows.labels),)
        if feed.cells:
            observed = (known[name] for name in CALIBRATED[feed.task])
            rows.items += (partial(_calibration.items_of, *observed),)


def rows_of(
    call: Any, start: int, stop: int, more: int = 0, values: np.ndarray | None = None
) -> Rows:
    """Values, unless they are given, and weights of rows [start, stop) of a call that was prepared
    ``by_weight``, and so many more values, to be filled."""
    if values is None:
        values = call.values(start, stop, more) if more else call.values(start, stop)
    target_weights = weights = None
    columns = call.columns
    if columns and columns[-1] == "target_weight":
        last = len(columns) - 1
        target_weights = values[last].copy() if more else values[last]
        values = values[: last + more]
    if call.weighted:
        weights = call.weights(start, stop)
    return Rows(values, weights, target_weights, call.num_threads)


class Feed:
    """What the metrics of a task need of every batch.

    Parameters
    ----------
    metrics : list of Metric
    task, bins, **options
        Keywords of `fastent.Accumulator`.

    Attributes
    ----------
    columns : tuple of str
        The engine's row values, in the order of the sources of the state's columns.
    """

    def __init__(
        self, metrics: list[Metric], *, task: str = "sparse", bins: int = 15, **options: Any
    ) -> None:
        if isinstance(bins, bool) or not isinstance(bins, int | np.integer):
            raise TypeError(f"bins: expected an integer, got {type(bins).__name__}")
        if not 1 <= bins <= MOST_BINS:
            raise ValueError(f"bins: expected 1 to {MOST_BINS}, got {shown(bins)}")
        self.task = task
        self._options = options
        self._own = [m for m in metrics if m.divergence is not None]
        labelled = any(m.needs_labels for m in metrics)
        calibrated = any(m.needs_bins for m in metrics)
        self._needs_clusters = ""
        self.cells = any(m.statistic == "ece_equal_mass" for m in metrics)
        self.classwise = any(m.statistic == "ece_classwise" for m in metrics)
        self.bins = bins
        overlaps = any(m.statistic == "tversky" for m in metrics)
        self.pairs = [m.name for m in metrics if m.needs_pairs]
        self.by_class = [m.name for m in metrics if m.needs_pairs or m.by_class]
        self.counts_labels = task == "sparse" and bool(labelled or self.pairs)
        self.needs_targets = task == "binary" and bool(
            labelled or calibrated or overlaps or self.pairs
        )
        self.derived: list[str] = []
        sources: dict[str, int] = {}
        columns: dict[str, tuple[str, int, int, int, bool]] = {}

        def source(name: str) -> int:
            return sources.setdefault(name, len(sources))

        for m in metrics:
            if m.column and not m.needs_bins and m.divergence is None:
                name = column_name(m)
                # Class and term weights weigh the cross-entropy and nothing else.
                kind = int(name == "cross_entropy" and task in ("sparse", "categorical"))
                columns[name] = (name, source(m.column), m.threshold, kind, True)
        if any(m.statistic == "bits_per_byte" for m in metrics):
            # Squares of the loss, the bytes and their difference give the error of the ratio.
            for name in ("bytes", "loss_less_bytes"):
                columns[name] = (name, source(name), 0, 0, False)
        confidence = correct = 0
        if calibrated:
            first, second = CALIBRATED[task]
            confidence = source(first)
            correct = TARGETS if second == "target" else source(second)
        if self.pairs:
            for name in _confusion.COLUMNS[task]:
                source(name)
        squared = set()  # columns whose squares and products give the errors of others
        if any(m.needs_bins and m.statistic != "mce" for m in metrics):
            squared |= {*CALIBRATED[task], PRODUCT[task]}
        if overlaps:
            squared |= {"probability", "target", *OVERLAP}
        for name in sorted(squared):
            if name in DERIVED:
                self.derived.append(name)
            elif name != "target":
                columns.setdefault(name, (name, source(name), 0, 0, False))
        for k, m in enumerate(self._own):  # after those of the engine
            columns[m.name] = (m.name, len(sources) + k, 0, 0, True)
        for name in self.derived:
            place = len(sources) + len(self._own) + self.derived.index(name)
            columns[name] = (name, place, 0, 0, False)
        if task == "binary" and (labelled or "target" in squared):
            columns["target"] = ("target", TARGETS, 0, 0, False)
        self.columns = tuple(sources)
        self._layout = (
            list(columns.values()),
            bins if calibrated else 0,
            confidence,
            correct,
            self.counts_labels or bool(self.pairs),
        )
        self._engine = None
        if task not in ("logprob", "topk") and (self.columns or not self._own):
            by_weight = "cross_entropy" in self.columns
            self._engine = Settled(task, self.columns, by_weight=by_weight, **options)
        self.makes_more = bool(self.derived or self.pairs or self.cells or self.classwise)
        # Arrays without weights meet no NumPy: its warnings need not be kept quiet.
        self.compiled = (
            self._engine is not None
            and not (self._own or self.makes_more)
            and options.get("class_weight") is None
            and options.get("row_sums") != "as_is"
        )
        self._try_options()
        self._needs_clusters = next((m.name for m in metrics if m.needs_clusters), "")

    def state(self) -> State:
        """An empty state for the rows of this feed."""
        return State(*self._layout)

    def batch(
        self,
        true: Any,
        pred: Any,
        sample_weight: Any = None,
        groups: Any = None,
        clusters: Any = None,
        *,
        num_threads: int | None = None,
    ) -> Batch:
        """Settle a batch: TypeError or ValueError for operands that do not fit. `num_threads` is
        for one that `is_compiled`, instead of the feed's."""
        calls: list[Any] = []
        if self._engine is not None:
            calls.append(self._engine.call(true, pred, sample_weight, num_threads))
        elif self.task == "logprob":
            rule = self._options.get("row_sums", "check")
            base = self._options.get("base")
            calls.append(LogprobCall(self.columns, pred, true, sample_weight, rule, base))
        elif self.task == "topk":
            calls.append(_topk.batch_call(self.columns, true, pred, sample_weight, **self._options))
        for m in self._own:
            for name in ("eps", "label_smoothing"):
                if value := self._options.get(name):
                    raise ValueError(f"{name}: does not apply to {m.name}, got {shown(value)}")
            options = {k: v for k, v in self._options.items() if k not in NOT_OF_DIVERGENCES}
            assert m.divergence is not None
            calls.append(
                m.divergence.prepare(
                    true,
                    pred,
                    parameters=dict(m.parameters),
                    sample_weight=sample_weight,
                    **options,
                )
            )
        if self._needs_clusters and clusters is None:
            raise ValueError(
                f"clusters: expected one of each row for {self._needs_clusters}, got None"
            )
        batch = Batch(calls, self, groups, clusters)
        if self.by_class and batch.classes > _confusion.MOST_CLASSES:
            raise ValueError(
                f"metrics: {self.by_class[0]} needs a table of at most {_confusion.MOST_CLASSES} "
                f"classes, got {batch.classes}"
            )
        return batch

    def _try_options(self) -> None:
        """Let the engine judge the options now, on no rows, and not in the first batch."""
        if self.task == "logprob":
            check_options(self._options)
            return
        if self.task == "topk":
            _topk.check_options(self._options)
            return
        axis = -1 if self.task == "binary" else self._options.get("axis", -1)
        class_weight: Any = self._options.get("class_weight")
        classes = 2 if np.ndim(class_weight) != 1 else max(1, len(class_weight))
        if axis is None:
            shape = [classes]  # one row there must be; it is not looked at
        else:
            axis = whole_axis(axis)
            shape = [0] * max(2, axis + 1 if axis >= 0 else -axis)
            shape[axis] = classes
        pred = np.zeros(shape)
        sparse = self.task == "sparse"
        self.batch(np.zeros([0] * (len(shape) - 1), np.int64) if sparse else pred, pred)
