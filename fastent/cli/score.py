"""``fastent score``: predictions against labels."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastent
from fastent import metrics as registry
from fastent.cli import complain
from fastent.cli.accumulators import Lanes, lane_count
from fastent.cli.arguments import UsageError
from fastent.cli.carried import Carried, carried, of_rows
from fastent.cli.errors import located
from fastent.cli.inputs import ignored_code, score_shards
from fastent.cli.outputs import is_direct
from fastent.cli.row_values import RowValues
from fastent.cli.run import Run, show, write_outputs
from fastent.cli.signals import Signals
from fastent.cli.skipping import SkippingRun
from fastent.cli.sums import Sums
from fastent.cli.worst import Worst
from fastent.io.paths import natural_key
from fastent.io.shards import Block, Piece, Shards
from fastent.report import document
from fastent.results import ratio, rounded

DEFAULTS = {
    "sparse": "cross_entropy perplexity bits accuracy top5_accuracy brier ece entropy skill",
    "categorical": "cross_entropy kl_divergence entropy target_entropy perplexity bits brier "
    "accuracy",
    "binary": "cross_entropy bits accuracy brier entropy ece label_entropy skill",
}
# What the page draws, asked for or not.
DRAWN = {
    "sparse": ["cross_entropy", "ece", "label_entropy"],
    "categorical": ["cross_entropy"],
    "binary": ["cross_entropy", "ece", "label_entropy"],
}


@dataclass
class Measured:
    """What is kept of a piece once its rows are added."""

    nans: int
    ignored: int
    rows: Any  # Arrow batch of row values, or None
    first_row: int
    losses: np.ndarray | None
    counted: np.ndarray | None


class ScoreScorer:
    """Adds pieces up and keeps what else was asked for."""

    def __init__(
        self,
        options: argparse.Namespace,
        shown: list[str],
        settings: dict[str, Any],
        classes: int | None,
        threads: int,
        carrier: Carried,
    ) -> None:
        hidden = DRAWN[options.task] if options.html else []
        # Where bytes are given or the worst rows wanted, their loss is needed.
        if options.bytes or options.worst:
            hidden = [*hidden, "cross_entropy"]
        names = list(dict.fromkeys([*shown, *hidden]))
        self._ignore_index = settings["ignore_index"]
        lanes = lane_count(threads, classes, bool(options.groups or options.clusters))
        numbers = {**settings, "num_threads": threads // lanes}
        self._empty = lambda: Sums(names, numbers, options.nan_policy)
        self.lanes = Lanes(self._empty, lanes)
        metrics = [registry.find(name, options.task) for name in shown]
        self._row_values = RowValues(metrics, numbers, carrier)
        self.rows_columns: tuple[tuple[str, str], ...] = ()
        if options.rows and self._row_values.names:
            values = [(name, "double") for name in self._row_values.names]
            self.rows_columns = (*carrier.columns, *values)
        self.worst = Worst(options.worst)
        self._wants_losses = options.worst > 0
        self.kept = len(self.rows_columns) + self._wants_losses
        self.nans = 0
        self.ignored = 0

    def work(self, piece: Piece) -> Measured:
        whole = bool(self.rows_columns) or self._wants_losses
        with self.lanes.borrow() as sums:
            try:
                added = sums.add(piece, whole)
            except (ValueError, TypeError) as error:
                raise located(error, piece) from None
            columns = sums.columns
        ignored = None
        if self._ignore_index is not None:
            ignored = piece.arrays["labels"] == self._ignore_index
        rows = losses = counted = None
        if added.values is not None and self.rows_columns:
            rows = self._row_values.batch(piece, added.values, columns, ignored)
        if added.values is not None and self._wants_losses:
            # A copy, so that the other columns are not kept until the block has its turn.
            losses = added.values[columns.index("cross_entropy")].copy()
            counted = None if added.weights is None else added.weights > 0
        count = 0 if ignored is None else int(np.count_nonzero(ignored))
        return Measured(added.nans, count, rows, piece.first_row, losses, counted)

    def collect(self, block: Block, results: list[Measured]) -> list[Any]:
        for found in results:
            self.nans += found.nans
            self.ignored += found.ignored
            if found.losses is not None:
                self.worst.add(found.losses, found.first_row, found.counted)
        return [found.rows for found in results if found.rows is not None]

    def state(self, lazily: bool = False) -> dict[str, Any]:
        return {
            "sums": self.lanes.total().state(lazily),
            "worst": self.worst.state(),
            "nans": self.nans,
            "ignored": self.ignored,
        }

    def merge(self, state: dict[str, Any]) -> None:
        """Add the state of other rows."""
        other = self._empty()
        other.load(state["sums"])
        with self.lanes.borrow() as sums:
            sums.merge(other)
        self.worst.merge(state["worst"])
        self.nans += state["nans"]
        self.ignored += state["ignored"]

    def restore(self, state: dict[str, Any]) -> None:
        with self.lanes.borrow() as sums:
            sums.load(state["sums"])
        self.worst.restore(state["worst"])
        self.nans = state["nans"]
        self.ignored = state["ignored"]


def run(options: argparse.Namespace, signals: Signals) -> int:
    if options.worst < 0:
        raise UsageError(f"--worst: expected 0 or more, got {options.worst}")
    if options.dask is not None:
        from fastent.cli import cluster  # it takes long to import, and scores too

        cluster.check_options(options)
    elif options.on_error == "skip" and options.rows and is_direct(options.rows):
        raise UsageError(f"--rows {options.rows}: expected an ordinary file with --on-error skip")
    if options.html:
        from fastent.report.page import require_libraries

        require_libraries(options.html)
    shards = score_shards(options)
    shown = chosen_metrics(options, shards.classes)
    settings = {
        "task": options.task,
        "kind": options.kind,
        "row_sums": options.row_sums,
        "eps": options.eps,
        "temperature": options.temperature,
        "label_smoothing": options.label_smoothing,
        "class_weight": options.class_weight,
        "ignore_index": ignored_code(options, shards),
        "base": options.base,
        "bins": options.bins,
    }
    threads = 1 if options.dask else options.num_threads or fastent.get_num_threads()
    carrier = carried(options, shards)
    scorer = ScoreScorer(options, shown, settings, shards.classes, threads, carrier)
    if options.rows and not scorer.rows_columns:
        raise UsageError(f"--rows: {', '.join(shown)} have no row values")
    kept = {**settings, "ignore_index": options.ignore_index, "nan_policy": options.nan_policy,
            "metrics": shown}  # fmt: skip
    if shards.coded and shards.class_names is not None:
        kept["classes"] = list(shards.class_names)
    work: Run
    if options.dask:
        plan = cluster.Plan(options, shown, settings, shards.classes, carrier)
        work = cluster.ClusterRun(plan, shards, scorer, kept, signals)
    elif options.on_error == "skip":

        def fresh() -> ScoreScorer:
            return ScoreScorer(options, shown, settings, shards.classes, threads, carrier)

        work = SkippingRun(fresh, options, shards, scorer, kept, signals)
    else:
        work = Run(options, shards, scorer, kept, signals)
    with work:
        work.work_through()
        found = describe(scorer, shards, kept, shown, options, carrier)
        work.finish()
        write_outputs(options, found, lambda: page(scorer, shards, found, options))
    show(options, found)
    if shards.left_out and not options.quiet:
        count = f"{len(shards.left_out)} files left out"
        for entry in [{"error": count}, *found["left_out"]]:
            complain(entry["error"])
    return 0


def chosen_metrics(options: argparse.Namespace, classes: int | None) -> list[str]:
    if options.metrics is None:
        names = DEFAULTS[options.task].split()
        if classes is not None and classes <= 5:
            names = [name for name in names if name != "top5_accuracy"]
        return names
    names = [name.strip() for name in options.metrics.split(",")]
    for name in names:
        registry.find(name, options.task)
    return list(dict.fromkeys(names))


def describe(
    scorer: ScoreScorer,
    shards: Shards,
    settings: dict[str, Any],
    shown: list[str],
    options: argparse.Namespace,
    carrier: Carried,
) -> dict[str, Any]:
    """The JSON document."""
    sums = scorer.lanes.total()
    report = sums.report()
    clustered = bool(options.clusters)

    def entries(part: Any, clustered: bool) -> dict[str, Any]:
        found = {n: document.entry(part[n], clustered) for n in shown if n in part}
        if options.bytes:
            found["bits_per_byte"] = bits_per_byte(
                part, sums.bytes_of(part.group), clustered, options.base
            )
        return found

    result = {
        "metrics": entries(report, clustered),
        "groups": document.Groups(report.groups, lambda name, part: entries(part, False)),
        "rows": shards.rows,
        "nan_rows": scorer.nans,
        "ignored_rows": scorer.ignored,
        "inputs": shards.describe(),
        "settings": settings,
        "version": fastent.__version__,
    }
    if options.on_error == "skip":
        result["left_out"] = sorted(shards.left_out, key=lambda entry: natural_key(entry["file"]))
    if options.worst:
        result["worst"] = worst_rows(scorer, shards, carrier)
    return result


def bits_per_byte(part: Any, total: Any, clustered: bool, base: float | None) -> dict[str, Any]:
    """Σ w·loss over Σ w·bytes, in bits; its error is that of the loss, the bytes being given."""
    loss = part["cross_entropy"]
    count = rounded(total)
    scale = ratio(loss.weight, count) / math.log(2)
    if base is not None:
        scale *= math.log(base)
    found = {
        "value": document.number(loss.value * scale),
        "stderr": document.number(None if loss.stderr is None else loss.stderr * scale),
        "count": loss.count,
        "weight": document.number(count),
    }
    if clustered:
        error = loss.cluster_stderr
        found["cluster_stderr"] = document.number(None if error is None else error * scale)
    return found


def worst_rows(scorer: ScoreScorer, shards: Shards, carrier: Carried) -> list[dict[str, Any]]:
    found = []
    items = scorer.worst.items()
    kept = of_rows(carrier, shards, [row for _, row in items])
    for loss, row in items:
        shard, place = shards.place(row)
        more = {k: document.number(v) if isinstance(v, float) else v
                for k, v in kept.get(row, {}).items()}  # fmt: skip
        found.append(
            {
                "file": shard.main.name,
                "row": place,
                **more,
                "cross_entropy": document.number(loss),
            }
        )
    return found


def page(
    scorer: ScoreScorer, shards: Shards, found: dict[str, Any], options: argparse.Namespace
) -> bytes:
    from fastent.report import pictures, plots
    from fastent.report.page import render, worst_groups, yardsticks

    report = scorer.lanes.total().report()
    loss = report["cross_entropy"].value
    base_rates = None
    if options.task != "categorical":
        base_rates = report["label_entropy"].value
    classes = 2 if options.task == "binary" else shards.classes
    nats = 1.0 if options.base is None else math.log(options.base)
    rates = None if base_rates is None else base_rates * nats
    notes = [yardsticks(loss * nats, rates, classes or 0)]
    drawn = pictures.score_plots(
        report, plots.PROBABILITY if options.task == "binary" else plots.CONFIDENCE
    )
    groups = worst_groups(found, loss)
    return render("Scores", found, drawn + ([groups] if groups else []), notes)
