"""``fastent score``: predictions against labels."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import fastent
from fastent import metrics as registry
from fastent.cli import complain, temperature
from fastent.cli.arguments import UsageError
from fastent.cli.carried import Carried, carried, of_rows
from fastent.cli.inputs import ignored_code, score_shards
from fastent.cli.outputs import is_direct
from fastent.cli.run import Run, show, write_outputs
from fastent.cli.scorer import BY_CLASS, ScoreScorer
from fastent.cli.signals import Signals
from fastent.cli.skipping import SkippingRun
from fastent.io.references import natural_key
from fastent.io.shards import Shards
from fastent.report import calibration, document, histogram
from fastent.results import ratio, rounded

DEFAULTS = {
    "sparse": "cross_entropy perplexity bits accuracy top5_accuracy brier ece entropy skill",
    "categorical": "cross_entropy kl_divergence entropy target_entropy perplexity bits brier "
    "accuracy",
    "binary": "cross_entropy bits accuracy brier entropy ece label_entropy skill",
    "logprob": "cross_entropy perplexity bits",
}


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
    if options.fit_temperature:
        temperature.check_options(options)
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
    groups = shards.most_groups()
    make = partial(ScoreScorer, options, shown, settings, shards.classes, carrier, groups)
    scorer = make(threads)
    if options.rows and not scorer.rows_columns:
        raise UsageError(f"--rows: {', '.join(shown)} have no row values")
    kept = {**settings, "ignore_index": options.ignore_index, "nan_policy": options.nan_policy,
            "metrics": shown}  # fmt: skip
    if shards.coded and shards.class_names is not None:
        kept["classes"] = list(shards.class_names)
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
        if options.fit_temperature:
            found["fitted_temperature"] = temperature.fit(
                work.go_through, settings, options, groups[0]
            )
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
        if options.task == "logprob" and (options.bytes or options.token_bytes):
            names.append("bits_per_byte")
        if classes is not None and classes <= 5:
            names = [name for name in names if name != "top5_accuracy"]
        return names
    chosen = [registry.find(name, options.task) for name in registry.listed(options.metrics)]
    for metric in chosen:
        if metric.needs_clusters and not options.clusters:
            raise UsageError(f"--metrics {metric.name}: needs --clusters")
    return list(dict.fromkeys(metric.name for metric in chosen))


def class_names(shards: Shards) -> Sequence[Any] | None:
    """What classes are called: their numbers, where they have no names."""
    numbered = None if shards.classes is None else range(shards.classes)
    return shards.class_names or numbered


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
    report = sums.report(class_names(shards))
    clustered = bool(options.clusters)
    with_bytes = "bytes" in shards.items[0].sources and options.task != "logprob"

    def entries(part: Any, clustered: bool) -> dict[str, Any]:
        found = {n: document.entry(part[n], clustered) for n in shown if n in part}
        if with_bytes:
            found["bits_per_byte"] = bits_per_byte(
                part, sums.bytes_of(part.group), clustered, options.base
            )
        return found

    result: dict[str, Any] = {
        "metrics": entries(report, clustered),
        "groups": document.Groups(report.groups, lambda name, part: entries(part, False)),
        "rows": shards.rows,
        "nan_rows": scorer.nans,
        "ignored_rows": scorer.ignored,
        "inputs": shards.describe(),
        "settings": settings,
        "version": fastent.__version__,
    }
    if {"ece", "mce"} & set(shown):
        result["calibration"] = document.columns(calibration.table(report))
    if "cross_entropy" in shown:
        rows = histogram.bars(histogram.row_values(report, "cross_entropy"))
        result["histograms"] = {"cross_entropy": document.histogram(rows)}
    if options.on_error == "skip":
        result["left_out"] = sorted(shards.left_out, key=lambda entry: natural_key(entry["file"]))
    clipping: dict[str, Any] = sums.clipping.describe().get("predictions", {})
    if clipping:
        above = sums.report_above_floor()["cross_entropy"]
        result["clipping"] = {
            **clipping,
            "without_targets_at_floor": {"cross_entropy": document.entry(above, clustered)},
        }
        result["notes"] = [
            f"{clipping['rows_clipped']:,} rows clipped, "
            f"{clipping['targets_at_floor']:,} labels at the floor"
        ]
        if clipping["targets_at_floor"]:
            for name in {"cross_entropy", "perplexity", "bits"} & result["metrics"].keys():
                result["metrics"][name]["bound"] = "lower"
    if options.worst:
        result["worst"] = worst_rows(scorer, shards, carrier)
    return result


def bits_per_byte(
    part: Any, total: Any, clustered: bool, base: float | None, name: str = "cross_entropy"
) -> dict[str, Any]:
    """Σ w·loss over Σ w·bytes, in bits; its error is that of the loss, the bytes being given."""
    loss = part[name]
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


def worst_rows(
    scorer: Any, shards: Shards, carrier: Carried, by: str = "cross_entropy"
) -> list[dict[str, Any]]:
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
                by: document.number(loss),
            }
        )
    return found


def page(
    scorer: ScoreScorer, shards: Shards, found: dict[str, Any], options: argparse.Namespace
) -> bytes:
    from fastent.report import pictures, plots
    from fastent.report.page import render, worst_groups, yardsticks

    report = scorer.lanes.total().report(class_names(shards))
    loss, error = report["cross_entropy"].value, report["cross_entropy"].stderr
    base_rates = None
    if options.task in ("sparse", "binary"):
        base_rates = report["label_entropy"].value
    classes = 2 if options.task == "binary" else shards.classes
    nats = 1.0 if options.base is None else math.log(options.base)
    rates = None if base_rates is None else base_rates * nats
    spread = None if error is None else error * abs(nats)
    notes = []
    if options.task != "logprob":
        notes.append(yardsticks(loss * nats, rates, classes or 0, spread))
    drawn = pictures.score_plots(
        report, plots.PROBABILITY if options.task == "binary" else plots.CONFIDENCE
    )
    groups = worst_groups(found, loss)
    by_class = {}
    if scorer.by_class:
        by_class = {name: document.entry(report[name]) for name in BY_CLASS}
    return render("Scores", found, drawn + ([groups] if groups else []), notes, by_class)
