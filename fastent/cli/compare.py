"""``fastent compare``: how far predictions Q are from predictions P, row by row."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import fastent
from fastent.cli import complain
from fastent.cli.arguments import UsageError
from fastent.cli.carried import carried
from fastent.cli.exact_quantiles import MOST_ROWS
from fastent.cli.inputs import compare_shards, ignored_code
from fastent.cli.outputs import is_direct
from fastent.cli.pair_report import describe, spread
from fastent.cli.pair_scorer import HIDDEN, CompareScorer
from fastent.cli.pair_sums import LABELLED, chosen
from fastent.cli.run import Run, show, write_outputs
from fastent.cli.signals import Signals
from fastent.cli.skipping import SkippingRun
from fastent.io.llama import DumpRows
from fastent.io.shards import Shards
from fastent.metrics import find


def run(options: argparse.Namespace, signals: Signals) -> int:
    if options.llama:
        from fastent.cli import llama_table

        return llama_table.run(options, signals)
    if options.worst < 0:
        raise UsageError(f"--worst: expected 0 or more, got {options.worst}")
    if options.dask is not None:
        from fastent.cli import cluster  # it takes long to import

        cluster.check_options(options)
    elif options.on_error == "skip" and options.rows and is_direct(options.rows):
        raise UsageError(f"--rows {options.rows}: expected an ordinary file with --on-error skip")
    if options.html:
        from fastent.report.page import require_libraries

        require_libraries(options.html)
    shards = compare_shards(options)
    with_labels = "labels" in shards.items[0].sources
    if options.ignore_index is not None and not with_labels:
        raise UsageError("--ignore-index needs --labels")
    if options.bytes and not with_labels:
        raise UsageError("--bytes needs --labels")
    shown = chosen(options.metrics, with_labels, options.task)
    check_by(options, with_labels)
    settings = {
        "task": options.task,
        "kind": options.kind,
        "row_sums": options.row_sums,
        "temperature": options.temperature,
        "ignore_index": ignored_code(options, shards),
        "skip_first": options.skip_first,
        "window": window(options, shards),
    }
    if options.task == "topk":
        settings["topk_options"] = {
            "cap": options.cap, "ranks": options.ranks, "classes": options.vocabulary,
        }  # fmt: skip
    threads = 1 if options.dask else options.num_threads or fastent.get_num_threads()
    carrier = carried(options, shards)
    exact = shards.rows <= MOST_ROWS
    groups = shards.most_groups()
    make = partial(CompareScorer, options, shown, settings, carrier, with_labels, exact, groups)
    scorer = make(threads)
    kept = {**settings, "ignore_index": options.ignore_index, "nan_policy": options.nan_policy,
            "metrics": shown}  # fmt: skip
    if options.worst:
        kept["by"] = options.by
    work: Run
    if options.dask:
        plan = cluster.Plan(options, make)
        work = cluster.ClusterRun(plan, shards, scorer, kept, signals)
    elif options.on_error == "skip":
        work = SkippingRun(lambda: make(threads), options, shards, scorer, kept, signals)
    else:
        work = Run(options, shards, scorer, kept, signals)
    with work:
        work.work_through()
        found = describe(scorer, shards, kept, shown, options, carrier)
        work.finish()
        write_outputs(options, found, lambda: page(scorer, found))
    show(options, found)
    if shards.left_out and not options.quiet:
        for entry in [{"error": f"{len(shards.left_out)} files left out or cut short"},
                      *found["left_out"]]:  # fmt: skip
            complain(entry["error"])
    return 0


def check_by(options: argparse.Namespace, with_labels: bool) -> None:
    """Refuse what no row has a value of."""
    if options.task == "topk" and options.by == "kl_divergence":
        options.by = "low"
    name = options.by
    of_labels = {m.column for m in LABELLED.values() if m.statistic == "mean"} - set(HIDDEN)
    if name in of_labels:
        if options.worst and not with_labels:
            raise UsageError(f"--by {name} needs --labels")
        return
    try:
        find(name, options.task)
    except ValueError as error:
        raise UsageError(f"--by: {error}, with labels {', '.join(sorted(of_labels))}") from None


def window(options: argparse.Namespace, shards: Shards) -> int | None:
    """Of how many rows the first do not count: of a chunk's, where dumps say how many these are."""
    found: int | None = options.window
    skip: int = options.skip_first
    if found is None and skip:
        heads = {s.main.header.chunk_rows for s in shards.items if isinstance(s.main, DumpRows)}
        if len(heads) != 1:
            raise UsageError("--skip-first needs --window, the rows that it is the first of")
        (found,) = heads
    if found is not None and not 0 <= skip < max(1, found):
        raise UsageError(f"--skip-first: expected less than the window of {found} rows, got {skip}")
    return found


def page(scorer: CompareScorer, found: dict[str, Any]) -> bytes:
    from fastent.cli.pair_report import notes
    from fastent.report import pictures
    from fastent.report.page import render

    sums, drawn = scorer.lanes.total(), []
    for name, part in spread(found, sums.report(), sums.loss_report()):
        quantiles = found["metrics"][name]["quantiles"]
        marks = {mark: float(quantiles[key]) for mark, key in MARKED.items()}
        title, axis = f"{name} over the rows", f"{name} of a row"
        drawn.append(pictures.distribution(part, name, title, axis, marks))
    return render("Comparison", found, drawn, notes(found))


MARKED = {"median": "median", "90 %": "p90", "99 %": "p99"}
