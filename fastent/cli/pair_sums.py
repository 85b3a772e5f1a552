"""What ``fastent compare`` adds up: divergences, and with labels what both sides make of the
label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fastent import metrics as registry
from fastent._feed import Batch, Feed, Rows
from fastent.backends.cython.accumulate.state import State
from fastent.cli.clipping import Clipping
from fastent.cli.exact_quantiles import KeptRows, Made
from fastent.cli.sums import CACHED_ROWS, Added, byte_counts, judge_nans
from fastent.io.shards import Piece
from fastent.io.topk_lists import as_lists
from fastent.metrics import Metric, find, listed
from fastent.reports import Report

DIVERGENCES = [
    "kl_divergence", "reverse_kl", "js_divergence", "total_variation", "top1_agreement",
    "entropy_p", "entropy_q", "top5_overlap", "top10_overlap", "top1_in_top5",
]  # fmt: skip
TASK = ("compare",)
SIDES = {"predictions": "p", "other": "q"}
OF_LABELS = ("cross_entropy", "accuracy", "brier")  # of each side
# What the pass over a side for its losses tells as well, of the side that the last letter names.
ENTROPIES = ("entropy_p", "entropy_q")


def _metric(name: str, description: str, column: str = "", statistic: str = "mean") -> Metric:
    return Metric(name, TASK, column or name, statistic, description)


LABELLED = {
    m.name: m
    for m in [
        _metric("cross_entropy_p", "loss of P"),
        _metric("cross_entropy_q", "loss of Q"),
        _metric("cross_entropy_difference", "loss of Q less that of P"),
        _metric("perplexity_p", "perplexity of P", "cross_entropy_p", "perplexity"),
        _metric("perplexity_q", "perplexity of Q", "cross_entropy_q", "perplexity"),
        _metric("perplexity_ratio", "perplexity of Q over that of P", "cross_entropy_difference",
                "perplexity"),
        _metric("delta_p", "probability of the label by Q less that by P"),
        _metric("delta_p_rms", "root of its mean square", "delta_p_squared", "root"),
        _metric("accuracy_p", "share of rows that P has right"),
        _metric("accuracy_q", "share of rows that Q has right"),
        _metric("accuracy_difference", "accuracy of Q less that of P"),
        _metric("brier_p", "Brier score of P"),
        _metric("brier_q", "Brier score of Q"),
        _metric("brier_difference", "Brier score of Q less that of P"),
    ]
}  # fmt: skip
CORRELATION = "loss_correlation"
# The columns behind it: variances of both losses and of their difference.
CORRELATED = ("cross_entropy_p", "cross_entropy_q", "cross_entropy_difference")


# No number of lists is told without what they leave open.
OPEN = ("tail_p", "low", "high")


def chosen(metrics: str | None, with_labels: bool, task: str = "divergence") -> list[str]:
    """Names of the metrics of a run; ValueError for one that there is not."""
    if task == "topk":
        return chosen_of_lists(metrics)
    if metrics is None:
        return DIVERGENCES + ([*LABELLED, CORRELATION] if with_labels else [])
    names = list(dict.fromkeys(listed(metrics)))
    for name in names:
        if name in LABELLED or name == CORRELATION:
            if not with_labels:
                raise ValueError(f"metrics: {name} needs --labels")
            continue
        try:
            find(name, "divergence")
        except ValueError as error:
            known = ", ".join([*LABELLED, CORRELATION])
            raise ValueError(f"{error}, with labels {known}") from None
    return names


def chosen_of_lists(metrics: str | None) -> list[str]:
    """The same of lists: both ends of every bound, and of the divergence in any case."""
    if metrics is None:
        return registry.names("topk")
    wanted = set(OPEN)
    for name in metrics.split(","):
        name = find(name.strip(), "topk").name
        wanted.add(name)
        for end, other in (("_low", "_high"), ("_high", "_low")):
            if name.endswith(end):
                wanted.add(name.removesuffix(end) + other)
    return [name for name in registry.names("topk") if name in wanted]


class PairSums:
    """Divergences of Q from P and, with labels, their losses and what differs between them, by row.

    Parameters
    ----------
    names : list of str
        Metrics that are wanted, out of those of `chosen`.
    settings : dict
        kind, row_sums, temperature, ignore_index, skip_first and window.
    nan_policy : str
    num_threads : int
    with_labels : bool
    exact : bool
        Whether row values are kept for exact quantiles.
    """

    def __init__(
        self,
        names: list[str],
        settings: dict[str, Any],
        nan_policy: str,
        num_threads: int,
        with_labels: bool,
        exact: bool,
    ) -> None:
        kinds = settings["kind"]
        kinds = (kinds, kinds) if isinstance(kinds, str) else kinds
        numbers: dict[str, Any] = {key: settings[key] for key in ("row_sums", "temperature")}
        self._settings = settings
        self._nan_policy = nan_policy
        task = settings["task"]
        divergences = [find(n, task) for n in names if n not in LABELLED and n != CORRELATION]
        self._metrics = divergences
        if task == "topk":
            kinds, numbers["topk_options"] = kinds[1], settings["topk_options"]
        self._feed = Feed(divergences, task=task, kind=kinds, num_threads=num_threads, **numbers)
        self._pairs = self._feed  # those of them that need both sides at once
        self._state = self._feed.state()
        wanted = [LABELLED[n].column for n in names if n in LABELLED]
        if CORRELATION in names:
            wanted += CORRELATED
        self._of_labels = [LABELLED[n] for n in names if n in LABELLED]
        needed = [c for c in OF_LABELS if any(w.startswith(c) for w in wanted)]
        if wanted:  # the loss, which the others are made of or told beside, first
            needed = ["cross_entropy", *(c for c in needed if c != "cross_entropy")]
        self._needed = needed
        of_sides = list(needed)
        if needed and not {m.name for m in divergences}.isdisjoint(ENTROPIES):
            of_sides.append("entropy")
            self._pairs = Feed(
                [m for m in divergences if m.name not in ENTROPIES],
                task="divergence",
                kind=kinds,
                num_threads=num_threads,
                **numbers,
            )
        self._loss_feeds = [
            Feed(
                [find(name, "sparse") for name in of_sides],
                kind=kind,
                ignore_index=settings["ignore_index"],
                num_threads=num_threads,
                temperature=numbers["temperature"] if kind == "logits" else 1.0,
                row_sums="check" if kind == "logits" else numbers["row_sums"],
            )
            for kind in (kinds if needed else ())
        ]
        columns = [f"{c}_{end}" for c in self._needed for end in ("p", "q", "difference")]
        if self._needed:
            columns += ["delta_p", "delta_p_squared"]
        self._label_columns = columns
        layout = [(name, place, 0, 0, True) for place, name in enumerate(columns)]
        self._losses = State(layout or [("none", 0, 0, 0, True)])
        above = list(CORRELATED) if needed else ["none"]
        self._above = State([(name, place, 0, 0, True) for place, name in enumerate(above)])
        self._bytes = State([("bytes", 0, 0, 0, False)])
        own = tuple(m.name for m in divergences if m.divergence is not None)
        self.columns = (*self._feed.columns, *own, *columns)
        self.kept = KeptRows(self.columns, MADE) if exact else None
        self.clipping = Clipping(SIDES)
        self.counts = {"lost": 0, "gained": 0, "skipped": 0}

    def add(self, piece: Piece, whole: bool) -> Added:
        """Add the rows of a piece; gives their values, where they are asked for."""
        arrays = piece.arrays
        given = self._weights(piece)
        ids = [arrays.get(role) for role in ("groups", "clusters")]
        p, q = as_lists(arrays["predictions"]), as_lists(arrays["other"])
        # Operands of two precisions are both computed in the wider one.
        shared = self._pairs is not self._feed and is_single(p.dtype) == is_single(q.dtype)
        batch = (self._pairs if shared else self._feed).batch(p, q, given, *ids)
        loss_batches = [
            feed.batch(arrays["labels"], arrays[role], given)
            for role, feed in zip(SIDES, self._loss_feeds, strict=False)
        ]
        counts = byte_counts(piece) if "bytes" in arrays else None
        added = Added(None, given, 0)
        values = np.empty((len(self.columns), piece.rows)) if whole else None
        for start, stop in ranges(0, piece.rows, CACHED_ROWS * batch.num_threads):
            of_pairs, *sides = read_together([batch, *loss_batches], piece, start, stop)
            rows = batch.read(start, stop, of_pairs)
            found = rows.values
            of_labels = None
            if loss_batches:
                if shared:
                    rows.values = self._with_entropies(rows.values, sides)
                of_labels = differences(sides[0], sides[1], self._needed)
                found = np.vstack([rows.values, of_labels])
                both = of_labels[0] + of_labels[1]  # of infinite losses it is no NaN
                rows.values = rows.values if len(rows.values) else both[None]
            added.nans += judge_nans(rows, self._nan_policy, piece, start)
            rows.values = found[: len(found) - len(self._label_columns)]
            self._add(rows, of_labels, piece, start, stop)
            if counts is not None:
                self._bytes.add(counts[None, start:stop], rows.weights, groups=rows.groups)
            if self.kept is not None:
                self.kept.add(found, rows.weights)
            if values is not None:
                values[:, start:stop] = found
        added.values = values
        return added

    def _with_entropies(self, values: np.ndarray, sides: list[np.ndarray]) -> np.ndarray:
        """All columns of the divergences; the entropies are the last one of their side."""
        rest = iter(values)
        return np.stack(
            [
                sides["pq".index(name[-1])][-1] if name in ENTROPIES else next(rest)
                for name in self._feed.columns
            ]
        )

    def _add(
        self, rows: Rows, of_labels: np.ndarray | None, piece: Piece, start: int, stop: int
    ) -> None:
        if self._metrics:
            rows.add_to(self._state)
        counted = None if rows.weights is None else rows.weights > 0
        floor = self.clipping.add(piece.part(start, stop), counted)
        if of_labels is None:
            return
        replace(rows, values=of_labels).add_to(self._losses)
        if floor is not None:
            weights = np.where(floor, 0.0, 1.0 if rows.weights is None else rows.weights)
            replace(rows, values=of_labels[:3], weights=weights, groups=None).add_to(self._above)
        if "accuracy_difference" in self._label_columns:
            change = of_labels[self._label_columns.index("accuracy_difference")]
            change = change if counted is None else change[counted]
            self.counts["lost"] += int(np.count_nonzero(change < 0))
            self.counts["gained"] += int(np.count_nonzero(change > 0))

    def _weights(self, piece: Piece) -> np.ndarray | None:
        """Row weights, 0 where the label is the one to ignore and in rows that are skipped."""
        weights = piece.arrays.get("weights")
        kept = np.ones(piece.rows, bool)
        ignored = self._settings["ignore_index"]
        if ignored is not None and "labels" in piece.arrays:
            kept &= piece.arrays["labels"] != ignored
        if self._settings["skip_first"]:
            place = np.arange(piece.start, piece.stop) % self._settings["window"]
            skipped = place < self._settings["skip_first"]
            self.counts["skipped"] += int(np.count_nonzero(skipped))
            kept &= ~skipped
        if kept.all():
            return weights
        return kept.astype(np.float64) if weights is None else np.where(kept, weights, 0.0)

    @property
    def with_losses(self) -> bool:
        """Whether something is wanted that labels tell."""
        return bool(self._needed)

    def report(self) -> Report:
        """The divergences."""
        return Report(self._state, self._metrics, None)

    def loss_report(self) -> Report:
        """What is known by the labels; those of the correlation too."""
        hidden = [LABELLED[name] for name in CORRELATED if name in self._label_columns]
        metrics = {m.name: m for m in [*self._of_labels, *hidden]}
        return Report(self._losses, list(metrics.values()), None)

    def report_above_floor(self) -> Report:
        """Losses of the rows without a label at a floor."""
        return Report(self._above, [LABELLED[name] for name in CORRELATED], None)

    def bytes_of(self, part: Any) -> int | float:
        """Σ w·bytes of all rows, or of those of a group of a report."""
        group = part.group
        if group is not None:
            group = self._bytes.groups.code(part.state.groups.names[group])
        total: int | float = self._bytes.sums(0, group)[0]
        return total

    def merge(self, other: PairSums) -> PairSums:
        for mine, theirs in zip(self._states(), other._states(), strict=True):
            mine.merge(theirs)
        if self.kept is not None and other.kept is not None:
            self.kept.merge(other.kept)
        self.clipping.merge(other.clipping)
        for name, count in other.counts.items():
            self.counts[name] += count
        return self

    def _states(self) -> list[State]:
        return [self._state, self._losses, self._above, self._bytes]

    def state(self, lazily: bool) -> dict[str, Any]:
        return {
            "states": [state.to_dict(lazily) for state in self._states()],
            "kept": None if self.kept is None else self.kept.state(lazily),
            "clipping": self.clipping.state(),
            "counts": self.counts,
        }

    def load(self, state: dict[str, Any]) -> None:
        loaded = [
            mine.empty().load(theirs)
            for mine, theirs in zip(self._states(), state["states"], strict=True)
        ]
        self._state, self._losses, self._above, self._bytes = loaded
        if self.kept is not None:
            self.kept = self.kept.empty()
            self.kept.load(state["kept"])
        self.clipping.reset()
        self.clipping.load(state["clipping"])
        self.counts = {name: int(state["counts"][name]) for name in self.counts}


STEP_BYTES = 2 << 20  # of both operands, a thread


def ranges(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    return ((first, min(stop, first + step)) for first in range(start, stop, step))


def read_together(batches: list[Batch], piece: Piece, start: int, stop: int) -> list[np.ndarray]:
    """Values of rows of a piece by each batch, some rows at a time, so that a batch reads from the
    cache what the one before it has read."""
    sources = piece.shard.sources
    row_bytes = sum(sources[role].row_bytes for role in SIDES)
    threads = batches[0].num_threads
    step = stop - start
    if len(batches) > 1:
        step = min(step, max(4 * threads, STEP_BYTES * threads // max(1, row_bytes)))
    found = [
        [batch.values(*some) for batch in batches] for some in ranges(start, stop, max(1, step))
    ]
    return [x[0] if len(x) == 1 else np.hstack(x) for x in zip(*found, strict=True)]


def is_single(dtype: np.dtype) -> bool:
    """Whether rows of a dtype are computed in single precision: 16-bit ones, and codes, are."""
    return dtype.names is not None or (dtype.kind in "fV" and dtype.itemsize <= 4)


def differences(p: np.ndarray, q: np.ndarray, names: list[str]) -> np.ndarray:
    """Rows of p, of q and of their difference for each name, the first of which is the loss; then
    of what the loss says of the label's probability."""
    found = np.empty((3 * len(names) + 2, p.shape[1]))
    with np.errstate(all="ignore"):  # two infinite losses have no difference
        for k in range(len(names)):
            found[3 * k], found[3 * k + 1] = p[k], q[k]
            np.subtract(q[k], p[k], out=found[3 * k + 2])
        found[-2] = delta_p(p[0], q[0])
        np.square(found[-2], out=found[-1])
    return found


def delta_p(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Probability of the label by Q less that by P, from both losses."""
    change = np.exp(-p) * np.expm1(p - q)
    # What P leaves no room for is all of Q's.
    return np.where(np.isposinf(p), np.exp(-q), change)


MADE: Made = {
    **{f"{name}_difference": (np.subtract, (f"{name}_q", f"{name}_p")) for name in OF_LABELS},
    "delta_p": (delta_p, ("cross_entropy_p", "cross_entropy_q")),
    "delta_p_squared": (np.square, ("delta_p",)),
}
