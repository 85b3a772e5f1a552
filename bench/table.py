"""The table as Markdown, and which goals were met."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.rivals import RIVALS
from bench.workloads import BACKENDS, ENOUGH, WORKLOADS

MISSING = "–"
# Lines of --quick sit in cache: no goal is judged by them.
QUICK_BYTES = 5e6
# The Numba backend beside the Cython one: times its time, and seconds to its first result.
NUMBA_SLOWER_AT_MOST = 1.5
NUMBA_FIRST_SECONDS = 3.0


def markdown_table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, padded so that it also reads well on a terminal."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: list[str]) -> str:
        padded = [row[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "| " + " | ".join(["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]) + " |"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def number(x: float | None, digits: int = 2) -> str:
    """Significant digits without an exponent: 0.47, 3.1, 153."""
    if x is None:
        return MISSING
    if x >= 100:
        return f"{x:,.0f}"
    return f"{x:.{digits}g}" if x < 10 else f"{x:.{max(digits, 2)}g}"


def error(x: float | None) -> str:
    """A relative error: 3e-08, wrong where it is infinite."""
    if x is None:
        return MISSING
    return "wrong" if x == float("inf") else f"{x:.0e}"


def _rival_cell(line: dict, name: str) -> str:
    tools = line["tools"]
    if name not in tools:
        return MISSING
    rival, fastent = tools[name], tools["fastent"]
    ratio = fastent["gigabytes_per_second"] / rival["gigabytes_per_second"]
    fewer_rows = "*" if rival["rows"] < fastent["rows"] else ""
    return f"{number(ratio)}×{fewer_rows} ({error(rival['error'])})"


def throughput_table(lines: list[dict], limit: float) -> str:
    """Workloads by tools; a rival's cell is how many times as fast fastent is, and its error."""
    rivals = [f"fastent {b}" for b in BACKENDS if any(f"fastent {b}" in x["tools"] for x in lines)]
    rivals += [r.name for r in RIVALS]
    header = ["workload", "GB/s", "share of limit", "error", *rivals]
    rows = []
    for line in lines:
        fastent = line["tools"]["fastent"]
        speed = fastent["gigabytes_per_second"]
        cells = [line["workload"], number(speed), f"{speed / limit:.2f}", error(fastent["error"])]
        rows.append(cells + [_rival_cell(line, name) for name in rivals])
    return markdown_table(header, rows)


def calls_table(lines: list[dict]) -> str:
    rows = []
    for line in lines:
        unit = line["unit"]
        others = [f"{n} {number(t)} {unit}" for n, t in line["tools"].items() if n != "fastent"]
        if "ratio" in line:
            others.append(f"ratio {line['ratio']:.2f}")
        ours = f"{number(line['tools']['fastent'])} {unit}"
        rows.append([line["call"], ours, ", ".join(others) or MISSING])
    return markdown_table(["call", "fastent", "others"], rows)


def _head(report: dict[str, Any]) -> str:
    machine, limit = report["machine"], report["read_limit"]
    libraries = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    settings = ", ".join(f"{k} {v}" for k, v in report["settings"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {settings}; "
        f"read limit {limit['gigabytes_per_second']:.1f} GB/s ({limit['method']}); {libraries}."
    )


EXPLANATION = (
    "GB/s of input; share of the read limit measured in the same run; worst relative error of a "
    "sample of rows against exact arithmetic. A rival's cell: how many times as fast fastent is, "
    "and the rival's error in brackets (–: not installed, or nothing for this line; *: measured "
    "on fewer rows). A lookup of one probability per row by a rival checks nothing and reads only "
    "that number; fastent reads and checks the row."
)


def markdown(report: dict[str, Any]) -> str:
    parts = [_head(report)]
    if report["lines"]:
        limit = report["read_limit"]["gigabytes_per_second"]
        parts += [throughput_table(report["lines"], limit), EXPLANATION]
    if report["calls"]:
        parts.append(calls_table(report["calls"]))
    return "\n\n".join(parts) + "\n"


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each goal of each line that ran at full size, what was got, and whether it is met."""
    lines = {x["workload"]: x for x in report["lines"] if x["input_bytes"] > QUICK_BYTES}
    limit = report["read_limit"]["gigabytes_per_second"]
    wide = report["settings"]["SIMD level"] == "v4"
    checks = []

    def check(name: str, what: str, wanted: float, got: float, at_most: bool = False) -> None:
        met = got <= wanted if at_most else got >= wanted
        checks.append({"line": name, "goal": what, "wanted": wanted, "got": got, "met": met})

    for workload in WORKLOADS:
        line = lines.get(workload.name)
        if line is None:
            continue
        goal, tools = workload.goal, line["tools"]
        speed = {name: t["gigabytes_per_second"] for name, t in tools.items()}
        ours = speed["fastent"]
        share = ours / limit
        if goal.share:
            check(workload.name, "share of the read limit", goal.share[not wide], share)
        for wanted, names in (
            (goal.compiled if share < ENOUGH else None, ["torch.compile", "jax"]),
            (goal.torch, ["torch"]),
        ):
            found = [speed[n] for n in names if n in speed]
            if wanted and found:
                check(workload.name, "times " + " and ".join(names), wanted, ours / max(found))
        if "fastent numba" in tools:
            slower = ours / speed["fastent numba"]
            check(workload.name, "numba: times as long", NUMBA_SLOWER_AT_MOST, slower, at_most=True)
            first = tools["fastent numba"]["first_seconds"]
            check(workload.name, "numba: first result, s", NUMBA_FIRST_SECONDS, first, at_most=True)
    for line in report["calls"]:
        if line["goal"]:
            check(line["call"], line["unit"], line["goal"], line["tools"]["fastent"], at_most=True)
        if "ratio_goal" in line:
            check(line["call"], "ratio", line["ratio_goal"], line["ratio"], at_most=True)
        if "ratio_at_least" in line and line.get("gigabytes_per_second", 0) < limit / 2:
            check(line["call"], "ratio", line["ratio_at_least"], line["ratio"])
    return checks


def goals_table(checks: list[dict[str, Any]]) -> str:
    rows = []
    for c in checks:
        wanted, got = number(c["wanted"], 3), number(c["got"], 3)
        rows.append([c["line"], c["goal"], wanted, got, "yes" if c["met"] else "no"])
    return markdown_table(["line", "goal", "wanted", "got", "met"], rows)
