"""``fastent paired``: two runs over the same documents, from the logs that they left."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Hashable
from typing import Any

import fastent
from fastent import _inference as inference
from fastent._paired import Estimate, paired
from fastent.cli.outputs import check_writable, named_errors, write_whole
from fastent.cli.signals import Signals
from fastent.io import InputError
from fastent.io.logs import Log, read_columns, read_samples, samples_in, task_of
from fastent.report import document, table
from fastent.report.printable import printable

# What a pair of a log-likelihood and a count stands for: the sign and unit, and whether it is the
# exponential that is told.
OF_PAIRS = {
    "bits_per_byte": (-1 / math.log(2), False),
    "byte_perplexity": (-1.0, True),
    "word_perplexity": (-1.0, True),
}
OF_NUMBERS = {"perplexity": (-1.0, True)}  # lm-eval's holds a log-likelihood
FEW_CLUSTERS = 20


def run(options: argparse.Namespace, signals: Signals) -> int:
    if options.json:
        check_writable(options.json)
    results: dict[str, Any] = {}
    left_out: list[dict[str, str]] = []
    for task, a, b in logs(options):
        for name, found in compared(a, b, options, left_out).items():
            results.setdefault(task, {})[name] = found
    if not results:
        raise InputError(f"{options.a}: no metrics in common with {options.b}")
    found = {
        "tasks": results,
        "inputs": [{"a": options.a, "b": options.b}],
        "settings": {
            name: getattr(options, name)
            for name in ("value", "denominator", "id", "clusters", "metrics", "unmatched")
        },
        "version": fastent.__version__,
    }
    if options.unmatched == "list":
        found["unmatched"] = left_out
    if options.json:
        write_whole(options.json, document.render(found))
    if sys.stdout is not None and not options.quiet and options.json != "-":
        with named_errors("standard output"):
            show(results, left_out)
            sys.stdout.flush()
    return 0


def logs(options: argparse.Namespace) -> list[tuple[str, Log, Log]]:
    """Logs of both runs by task."""
    columns = options.value or options.denominator or options.id
    if columns or not all(_has_samples(path) for path in (options.a, options.b)):
        parts = (options.value, options.denominator, options.id, options.clusters)
        return [("", read_columns(options.a, *parts), read_columns(options.b, *parts))]
    first, second = samples_in(options.a), samples_in(options.b)
    if len(first) == len(second) == 1:  # files, whatever they are called
        second = dict(zip(first, second.values(), strict=True))
    for task in first.keys() ^ second.keys():
        where = options.b if task in first else options.a
        raise InputError(f"{where}: no samples of the task {task!r}, which the other has")
    of = options.clusters
    return [(t, read_samples(first[t], of), read_samples(second[t], of)) for t in first]


def _has_samples(path: str) -> bool:
    return os.path.isdir(path) or task_of(path) is not None or path.endswith(".jsonl")


def compared(
    a: Log, b: Log, options: argparse.Namespace, left_out: list[dict[str, str]]
) -> dict[str, Any]:
    """Every metric of a pair of logs."""
    for one, other in ((a, b), (b, a)):
        missing = [key for key in one.keys if key not in other.keys]
        if missing and options.unmatched == "error":
            raise InputError(
                f"{other.name}: {len(missing)} documents of {one.name} are not there, the first "
                f"{_shown(missing[0])} (--unmatched list leaves such out)"
            )
        left_out += [{"file": one.name, "document": _shown(key)} for key in missing]
    keys = [key for key in a.keys if key in b.keys]
    if not keys:
        raise InputError(f"{b.name}: no document in common with {a.name}")
    names = [name for name in a.values if name in b.values]
    if options.metrics:
        names = [name.strip() for name in options.metrics.split(",")]
        for name in names:
            if name not in a.values or name not in b.values:
                raise InputError(
                    f"{(b if name in a.values else a).name}: no metric {name!r}, expected of: "
                    f"{', '.join(a.values)}"
                )
    found = {}
    for name in names:
        own = [key for key in keys if key in a.values[name] and key in b.values[name]]
        clusters = [a.keys[key] for key in own] if options.clusters else None
        first, second = ([log.values[name][key] for key in own] for log in (a, b))
        found[name] = entry(name, first, second, clusters)
    return found


def _shown(key: Hashable) -> str:
    return str(key[0]) if isinstance(key, tuple) else str(key)


def entry(
    name: str,
    a: list[tuple[float, float]],
    b: list[tuple[float, float]],
    clusters: list[Hashable] | None,
) -> dict[str, Any]:
    """A metric of both runs and what they differ by."""
    of_pairs = any(below != 1 for _, below in a + b)
    unit, exponential = (OF_PAIRS if of_pairs else OF_NUMBERS).get(name, (1.0, False))
    sides = [([unit * value for value, _ in side], [below for _, below in side]) for side in (a, b)]
    first, second, difference = paired(sides[0], sides[1], clusters)
    found: dict[str, Any] = {
        "a": described(first, exponential),
        "b": described(second, exponential),
        "difference": described(difference, False, True),
        "documents": len(a),
    }
    if exponential:  # the difference is that of the logarithms
        found["ratio"] = described(difference, True)
    if clusters is not None:
        found["clusters"] = difference.clusters
    if not of_pairs and {value for value, _ in a + b} <= {0.0, 1.0}:
        lost = sum(x[0] > y[0] for x, y in zip(a, b, strict=True))
        gained = sum(x[0] < y[0] for x, y in zip(a, b, strict=True))
        p_value = document.number(inference.mcnemar(lost, gained))
        found["mcnemar"] = {"lost": lost, "gained": gained, "p_value": p_value}
    return found


def described(one: Estimate, exponential: bool, tested: bool = False) -> dict[str, Any]:
    """A number with errors and intervals, or its exponential with them."""
    value = _exp(one.value) if exponential else one.value
    scale = value if exponential else 1.0
    found: dict[str, Any] = {"value": document.number(value)}
    for clustered, prefix in ((False, ""), (True, "cluster_"))[: 1 + (one.clusters is not None)]:
        error = one.cluster_stderr if clustered else one.stderr
        ends = one.interval(clustered)
        if ends is not None and exponential:
            ends = [_exp(end) for end in ends]
        found[f"{prefix}stderr"] = document.number(None if error is None else error * scale)
        found[f"{prefix}interval"] = None if ends is None else [*map(document.number, ends)]
        if tested:
            found[f"{prefix}p_value"] = document.number(one.p_value(clustered))
    return found


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def show(results: dict[str, Any], left_out: list[dict[str, str]]) -> None:
    """A line for each metric of each task, then what else must be known."""
    clustered = any("clusters" in found for task in results.values() for found in task.values())
    head = ["metric", "A", "B", "B - A", "std. error", "95 % from", "to", "p-value"]
    if clustered:
        head += ["by cluster: std. error", "from", "to", "p-value"]
    rows, remarks = [], []
    for task, metrics in results.items():
        for name, found in metrics.items():
            title = f"{task} {name}".strip()
            change = found["difference"]
            row = [title, _number(found["a"]["value"]), _number(found["b"]["value"]),
                   _number(change["value"])]  # fmt: skip
            for prefix in ("", "cluster_")[: 1 + clustered]:
                ends = change.get(f"{prefix}interval") or [None, None]
                row += [_number(x, 4) for x in (change.get(f"{prefix}stderr"), *ends,
                                                change.get(f"{prefix}p_value"))]  # fmt: skip
            rows.append(row)
            if "ratio" in found:
                times = _number(found["ratio"]["value"])
                remarks.append(f"{title}: B - A is of logarithms, {times} times as large")
            if "mcnemar" in found:
                m = found["mcnemar"]
                remarks.append(
                    f"{title}: only A right {m['lost']}, only B {m['gained']}, McNemar's exact "
                    f"p-value {_number(m['p_value'], 3)}"
                )
            if found.get("clusters", FEW_CLUSTERS) < FEW_CLUSTERS:
                remarks.append(f"{title}: {found['clusters']} clusters, fewer than {FEW_CLUSTERS}: "
                               "errors by cluster are rough")  # fmt: skip
    table.print_table(table.Table("", head, rows), sys.stdout)
    remarks += [f"left out: document {x['document']} of {x['file']}" for x in left_out]
    for line in remarks:
        sys.stdout.write(printable(line, sys.stdout) + "\n")


def _number(value: Any, places: int = 8) -> str:
    return table.digits(document.to_float(value), places)
