"""``fastent compare``: how far predictions Q are from predictions P, row by row."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import fastent
from fastent.cli.accumulators import Lanes, lane_count
from fastent.cli.arguments import UsageError
from fastent.cli.errors import located
from fastent.cli.inputs import compare_shards, ignored_code
from fastent.cli.pair_sums import DIVERGENCES, LOSSES, PairSums
from fastent.cli.run import Run, show, write_outputs
from fastent.cli.signals import Signals
from fastent.io.shards import Block, Piece, Shards
from fastent.report import document

QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class CompareScorer:
    """Adds pieces of both operands up."""

    rows_columns: tuple[tuple[str, str], ...] = ()
    kept = 0

    def __init__(self, options: argparse.Namespace, settings: dict[str, Any], threads: int) -> None:
        lanes = lane_count(threads, None, bool(options.groups or options.clusters))
        self.lanes = Lanes(lambda: PairSums(settings, options.nan_policy, threads // lanes), lanes)
        self._ignore_index = settings["ignore_index"]
        self.nans = 0
        self.ignored = 0

    def work(self, piece: Piece) -> tuple[int, int]:
        with self.lanes.borrow() as sums:
            try:
                nans = sums.add(piece)
            except (ValueError, TypeError) as error:
                raise located(error, piece) from None
        ignored = 0
        if self._ignore_index is not None:
            ignored = int(np.count_nonzero(piece.arrays["labels"] == self._ignore_index))
        return nans, ignored

    def collect(self, block: Block, results: list[tuple[int, int]]) -> list[Any]:
        for nans, ignored in results:
            self.nans += nans
            self.ignored += ignored
        return []

    def state(self, lazily: bool = False) -> dict[str, Any]:
        return {
            "sums": self.lanes.total().state(lazily),
            "nans": self.nans,
            "ignored": self.ignored,
        }

    def restore(self, state: dict[str, Any]) -> None:
        with self.lanes.borrow() as sums:
            sums.load(state["sums"])
        self.nans = state["nans"]
        self.ignored = state["ignored"]


def run(options: argparse.Namespace, signals: Signals) -> int:
    if options.ignore_index is not None and not options.labels:
        raise UsageError("--ignore-index needs --labels")
    if options.html:
        from fastent.report.page import require_libraries

        require_libraries(options.html)
    shards = compare_shards(options)
    settings = {
        "task": "divergence",
        "kind": options.kind,
        "row_sums": options.row_sums,
        "temperature": options.temperature,
        "ignore_index": ignored_code(options, shards),
    }
    threads = options.num_threads or fastent.get_num_threads()
    scorer = CompareScorer(options, settings, threads)
    kept = {**settings, "ignore_index": options.ignore_index, "nan_policy": options.nan_policy}
    with Run(options, shards, scorer, kept, signals) as work:
        work.work_through()
        found = describe(scorer, shards, kept, options)
        write_outputs(options, found, lambda: page(scorer, found))
    show(options, found)
    return 0


def describe(
    scorer: CompareScorer, shards: Shards, settings: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """The JSON document."""
    sums = scorer.lanes.total()
    divergences, losses = sums.report(), sums.loss_report()
    clustered = bool(options.clusters)

    def entries(part: Any, loss: Any, whole: bool) -> dict[str, Any]:
        found = {}
        for names, source in ((DIVERGENCES, part), ([m.name for m in LOSSES], loss)):
            for name in names if source is not None else ():
                found[name] = document.entry(source[name], clustered and whole)
                if whole and source[name].max is not None:
                    found[name]["quantiles"] = quantiles(source[name])
        return found

    with_labels = bool(options.labels)
    by_group = losses.groups
    return {
        "metrics": entries(divergences, losses if with_labels else None, True),
        "groups": document.Groups(
            divergences.groups,
            lambda name, part: entries(part, by_group[name] if with_labels else None, False),
        ),
        "rows": shards.rows,
        "nan_rows": scorer.nans,
        "ignored_rows": scorer.ignored,
        "inputs": shards.describe({"predictions": "p", "other": "q"}),
        "settings": settings,
        "version": fastent.__version__,
    }


def quantiles(result: Any) -> dict[str, Any]:
    """How the row values are spread, from the histogram behind the metric."""
    found = {name: document.number(result.quantile(q)) for name, q in QUANTILES.items()}
    found["max"] = document.number(result.max)
    return found


def page(scorer: CompareScorer, found: dict[str, Any]) -> bytes:
    from fastent.report import pictures
    from fastent.report.page import render

    sums = scorer.lanes.total()
    reports = dict.fromkeys(DIVERGENCES, sums.report())
    reports.update(dict.fromkeys([metric.name for metric in LOSSES], sums.loss_report()))
    drawn = [
        pictures.distribution(reports[name], name, f"{name} over the rows", f"{name} of a row")
        for name, entry in found["metrics"].items()
        if "quantiles" in entry and name != "top1_agreement"
    ]
    return render("Comparison", found, drawn, [])
