"""The report of ``fastent compare``: differences with intervals and p-values, plain and by
cluster."""

from __future__ import annotations

import argparse
import math
from typing import Any

import fastent
from fastent import _inference as inference
from fastent.cli.carried import Carried
from fastent.cli.pair_scorer import CompareScorer
from fastent.cli.pair_sums import CORRELATED, CORRELATION, LABELLED, SIDES, PairSums
from fastent.cli.score import bits_per_byte, worst_rows
from fastent.io.references import natural_key
from fastent.io.shards import Shards
from fastent.report import document, histogram, table
from fastent.report.verdict import verdict
from fastent.results import perplexity_of

FEW_CLUSTERS = 20
HISTOGRAM = {"median": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
LOWER = {"p0.1": 0.001, "p1": 0.01, "p5": 0.05, "p10": 0.1, "p25": 0.25}
DISCRETE = {"top1_agreement", "top5_overlap", "top10_overlap", "top1_in_top5", "accuracy"}
# Means that would be 0 if Q were as good as P.
DIFFERENCES = {
    "cross_entropy_difference", "perplexity_ratio", "delta_p", "accuracy_difference",
    "brier_difference", "bits_per_byte_difference",
}  # fmt: skip


def describe(
    scorer: CompareScorer,
    shards: Shards,
    settings: dict[str, Any],
    shown: list[str],
    options: argparse.Namespace,
    carrier: Carried,
) -> dict[str, Any]:
    """The JSON document."""
    sums = scorer.lanes.total()
    divergences, losses = sums.report(), sums.loss_report()
    with_labels = sums.with_losses
    with_bytes = "bytes" in shards.items[0].sources
    clusters = cluster_count(sums) if options.clusters else None

    def entries(part: Any, loss: Any, whole: bool) -> dict[str, Any]:
        found = {}
        for name in shown:
            if name == CORRELATION:
                found[name] = correlation(loss)
                continue
            result = (loss if name in LABELLED else part)[name]
            found[name] = entry(result, clusters if whole else None, whole)
            if whole and result.max is not None:
                found[name]["quantiles"] = quantiles(sums, result)
        if with_bytes:
            for side in ("p", "q", "difference"):
                found[f"bits_per_byte_{side}"] = bits_per_byte(
                    loss, sums.bytes_of(loss), whole and clusters is not None, None,
                    f"cross_entropy_{side}",
                )  # fmt: skip
                if whole:
                    infer_ratio(found[f"bits_per_byte_{side}"], side == "difference", clusters)
        return found

    by_group = losses.groups
    names = divergences.groups if divergences else losses.groups
    result: dict[str, Any] = {
        "metrics": entries(divergences, losses, True),
        "groups": document.Groups(
            names,
            lambda name, part: entries(part, by_group[name] if with_labels else None, False),
        ),
        "rows": shards.rows,
        "nan_rows": scorer.nans,
        "ignored_rows": scorer.ignored,
        "skipped_rows": sums.counts["skipped"],
        "quantiles": quantile_method(sums),
        "inputs": shards.describe({"predictions": "p", "other": "q"}),
        "settings": settings,
        "version": fastent.__version__,
    }
    if clusters is not None:
        result["clusters"] = {"count": clusters, "few": clusters < FEW_CLUSTERS}
    if "accuracy_difference" in result["metrics"]:
        lost, gained = sums.counts["lost"], sums.counts["gained"]
        result["mcnemar"] = {
            "lost": lost,
            "gained": gained,
            "p_value": document.number(inference.mcnemar(lost, gained)),
        }
    clipping: dict[str, Any] = dict(sums.clipping.describe())
    if clipping:
        if with_labels:
            above = sums.report_above_floor()
            clipping["without_targets_at_floor"] = {
                name: entry(above[name], clusters and cluster_count_of(above, 0), True)
                for name in CORRELATED
            }
        result["clipping"] = clipping
        for side in SIDES.values():
            if side in clipping and clipping[side]["targets_at_floor"]:
                for name in (f"perplexity_{side}", f"cross_entropy_{side}"):
                    if name in result["metrics"]:
                        result["metrics"][name]["bound"] = "lower"
    result["histograms"] = {
        name: document.histogram(histogram.bars(histogram.row_values(part, name)))
        for name, part in spread(result, divergences, losses)
    }
    if options.on_error == "skip":
        result["left_out"] = sorted(shards.left_out, key=lambda e: natural_key(e["file"]))
    if options.worst:
        result["worst"] = worst_rows(scorer, shards, carrier, options.by)
    said = verdict(result["metrics"])
    if said is not None:
        result["verdict"] = said
    result["notes"] = remarks(result)
    return result


def spread(found: dict[str, Any], divergences: Any, losses: Any) -> list[tuple[str, Any]]:
    """The metrics whose row values are drawn, and the report of each."""
    return [
        (name, divergences if name in divergences else losses)
        for name, one in found["metrics"].items()
        if "quantiles" in one and not DISCRETE & {name.rpartition("_")[0], name}
    ]


def entry(result: Any, clusters: int | None, whole: bool) -> dict[str, Any]:
    """A metric with its intervals, and where it is a difference the p-values."""
    found = document.entry(result, clusters is not None)
    if not whole:
        return found
    add_inference(found, result, result.stderr, result.count - 1, "")
    if clusters is not None:
        add_inference(found, result, result.cluster_stderr, clusters - 1, "cluster_")
    return found


def add_inference(
    found: dict[str, Any], result: Any, error: float | None, degrees: int, prefix: str
) -> None:
    """Interval and p-value; of a perplexity by way of its logarithm."""
    name, value = result.metric.name, result.value
    logarithmic = result.metric.statistic == "perplexity"
    if logarithmic and error is not None:
        error = error / value if value and math.isfinite(value) else math.nan
        value = math.log(value) if value > 0 else math.nan
    interval = inference.interval(value, error, degrees)
    if interval is not None and logarithmic:
        interval = [perplexity_of(end) for end in interval]
    found[f"{prefix}interval"] = None if interval is None else [*map(document.number, interval)]
    if name in DIFFERENCES:
        found[f"{prefix}p_value"] = document.number(inference.p_value(value, error, degrees))


def infer_ratio(found: dict[str, Any], difference: bool, clusters: int | None) -> None:
    """Intervals of an entry, and p-values of a difference."""
    ways = [("", found["count"] - 1)] + ([("cluster_", clusters - 1)] if clusters else [])
    for prefix, degrees in ways:
        value, error = (document.to_float(found[k]) for k in ("value", f"{prefix}stderr"))
        assert value is not None
        ends = inference.interval(value, error, degrees)
        found[f"{prefix}interval"] = None if ends is None else [*map(document.number, ends)]
        if difference:
            found[f"{prefix}p_value"] = document.number(inference.p_value(value, error, degrees))


def correlation(losses: Any) -> dict[str, Any]:
    """Of the losses of both sides, from the errors of their means and of that of the difference."""
    p, q, difference = (losses[name] for name in CORRELATED)
    value = math.nan
    if p.stderr and q.stderr and difference.stderr is not None:
        shared = p.stderr**2 + q.stderr**2 - difference.stderr**2
        value = shared / (2 * p.stderr * q.stderr)
        value = value if math.isnan(value) else min(1.0, max(-1.0, value))
    return {
        "value": document.number(value),
        "stderr": None,
        "count": p.count,
        "weight": document.number(p.weight),
    }


def cluster_count(sums: PairSums) -> int:
    """How many clusters have rows that count."""
    report = sums.report()
    return cluster_count_of(report if report else sums.loss_report(), 0)


def cluster_count_of(report: Any, place: int) -> int:
    return sum(bool(weight) for _, weight in report.state.cluster_sums(place))


def quantile_method(sums: PairSums) -> str:
    if sums.kept is None:
        return "histogram, at most 1 % off"
    return "exact, weighted" if sums.kept.weighted else "exact, linear"


def quantiles(sums: PairSums, result: Any) -> dict[str, Any]:
    """How the row values are spread, in both tails."""
    if sums.kept is not None:
        found = sums.kept.quantiles(result.metric.column)
    else:
        levels = {**LOWER, **HISTOGRAM}
        found = {name: result.quantile(q) for name, q in levels.items()}
        found = {"min": result.min, **found, "max": result.max}
    return {name: document.number(value) for name, value in found.items()}


def remarks(found: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know, a line each."""
    told = []
    if "clusters" in found:
        count = found["clusters"]["count"]
        few = count < FEW_CLUSTERS
        rough = f", fewer than {FEW_CLUSTERS}: errors by cluster are rough" if few else ""
        told.append(f"{count:,} clusters{rough}")
    if "mcnemar" in found:
        m = found["mcnemar"]
        told.append(
            f"labels that only P has right {m['lost']:,}, only Q {m['gained']:,}: McNemar's exact "
            f"p-value {float(m['p_value']):.3g}"
        )
    clipping = found.get("clipping", {})
    for side in SIDES.values():
        if side in clipping:
            counts = clipping[side]
            told.append(
                f"{side.upper()}: {counts['rows_clipped']:,} rows clipped, "
                f"{counts['targets_at_floor']:,} labels at the floor"
            )
    floors = [clipping[s]["targets_at_floor"] for s in SIDES.values() if s in clipping]
    if any(floors) and "without_targets_at_floor" in clipping:
        above = clipping["without_targets_at_floor"]["cross_entropy_difference"]
        told.append(
            "without labels at a floor the losses differ by "
            f"{float(above['value']):.6g} ± {float(above['stderr'] or 'nan'):.2g}"
        )
    told.append(f"quantiles: {found['quantiles']}")
    return told


def notes(found: dict[str, Any]) -> list[table.Table]:
    """The tables of the page beside that of the metrics."""
    remarks_of = table.Table(
        "Remarks", ["remark"], [[line] for line in found["notes"]], what="remarks"
    )
    return [table.difference_rows(found["metrics"]), remarks_of]
