"""``python -m bench``: the read limit of the machine, then every line of the table in one run."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

# Neither NumPy nor a rival may be imported before _prepare_process.
from bench.workloads import BACKENDS, WORKLOADS, Goal

GROUPS = ("headline", "functions", "calls", "models")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--backend", choices=BACKENDS, help="default: the configured one")
    add("--also", choices=BACKENDS, action="append", default=[], help="a backend beside it")
    add("--simd", help="level to force, as FASTENT_SIMD does: v2, v3 or v4")
    add("--cpus", type=int, help="run on so many CPUs, all tools alike")
    add("--quick", action="store_true", help="small inputs: to see that it runs, not how fast")
    add("--only", metavar="PATTERN", help="regular expression that a line's name must contain")
    add("--group", choices=GROUPS, action="append", help="part of the table; can be repeated")
    add("--rivals", metavar="NAMES", help="comma-separated, or none; default: all installed")
    add("--memory", type=float, default=20.0, metavar="GB", help="for inputs and temporaries")
    add("--seconds", type=float, default=2.0, help="for the repeated runs of one tool on one line")
    add("--json", type=Path, metavar="FILE", help="write everything measured")
    add("--markdown", type=Path, metavar="FILE", help="write the table")
    add("--goals", action="store_true", help="only the lines that have a goal, and which are met")
    return parser.parse_args()


def _prepare_process(options: argparse.Namespace) -> None:
    """What must happen before fastent, NumPy or a rival is imported."""
    if options.simd:
        os.environ["FASTENT_SIMD"] = options.simd
    if options.cpus:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cpus])


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures what the options ask for."""
    fastent = importlib.import_module("fastent")

    from bench import calls, library, machine
    from bench.limit import ReadLimit
    from bench.rivals import chosen
    from bench.throughput import measure_line

    groups = options.group or (("headline", "calls") if options.goals else GROUPS)
    rivals = chosen(options.rivals or ("torch,torch.compile,jax" if options.goals else None))
    memory = min(options.memory * 1e9, 0.8 * machine.available_memory())
    if options.quick:
        limit, searches = ReadLimit(machine.cores(), 100_000_000), 1
        effort = {"budget": 0.05, "exact_elements": 10_000}
    else:
        limit, searches = ReadLimit(machine.cores()), 5
        effort = {"budget": options.seconds}
    limit.search(searches)
    config = fastent.show_config()
    settings = {
        "fastent": config["version"],
        "backend": options.backend or config["backend"],
        "SIMD level": config["simd"],
        "threads": config["num_threads"],
    }
    report: dict[str, Any] = {
        "machine": machine.describe(config),
        "settings": settings,
        "lines": [],
        "calls": [],
    }

    def wanted(name: str) -> bool:
        return not options.only or re.search(options.only, name) is not None

    for workload in WORKLOADS:
        if options.goals and workload.goal == Goal():
            continue
        sized = workload.quick() if options.quick else workload.fitting(memory)
        if workload.group in groups and (wanted(workload.name) or wanted(sized.name)):
            _progress(sized.name)
            line = measure_line(
                sized, fastent, rivals, limit, backend=options.backend, also=options.also, **effort
            )
            report["lines"].append(line)
    if "calls" in groups:
        asked = calls.Run(fastent, rivals, options.backend, options.quick)
        for name, measure in (calls.CALLS | library.CALLS).items():
            if wanted(name):
                _progress(name)
                report["calls"].append(measure(asked))
    if "models" in groups and wanted("models"):
        _progress("models")
        from bench import models

        report["models"] = models.measure(fastent, options.quick, effort["budget"])
        report["lists"] = models.measure_lists(fastent, options.quick, effort["budget"])
        report["heads"] = models.measure_heads(fastent, options.quick, effort["budget"])
    report["read_limit"] = {
        "gigabytes_per_second": limit.gigabytes_per_second,
        "method": limit.method,
    }
    return report


def _progress(name: str) -> None:
    print(f"… {name}", file=sys.stderr, flush=True)


def main() -> None:
    options = parse_arguments()
    _prepare_process(options)
    report = run(options)

    from bench import table

    report["goals"] = table.goals(report)
    text = table.markdown(report)
    if report.get("models"):
        from bench import models

        text += models.markdown(report["models"]) + "\n"
        text += models.markdown(report["lists"], "cross-entropy") + "\n"
        text += models.markdown(report["heads"], "two products") + "\n"
    print(text)
    if options.goals:
        print(table.goals_table(report["goals"]))
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
