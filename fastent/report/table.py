"""The report as a table for the terminal; through rich where it is installed."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from fastent.report.document import to_float
from fastent.report.printable import printable

GROUPS_SHOWN = 20
GROUP_METRICS = 6


def digits(value: float | None, places: int = 8) -> str:
    """A number for reading; the full one is in the JSON document."""
    return "" if value is None else f"{value:.{places}g}"


def metric_rows(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of all metrics."""
    clustered = any("cluster_stderr" in entry for entry in metrics.values())
    head = ["metric", "value", "std. error"] + (["cluster std. error"] if clustered else [])
    rows = []
    for name, entry in metrics.items():
        bound = "≥ " if entry.get("bound") == "lower" else ""
        row = [name, bound + digits(to_float(entry["value"])), digits(to_float(entry["stderr"]), 3)]
        if clustered:
            row.append(digits(to_float(entry.get("cluster_stderr")), 3))
        rows.append(row)
    return head, rows


def difference_rows(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the differences that have a p-value, with their intervals."""
    found = {name: entry for name, entry in metrics.items() if "p_value" in entry}
    clustered = any("cluster_p_value" in entry for entry in found.values())
    rows = []
    for name, entry in found.items():
        row = [name]
        for prefix in ("", "cluster_")[: 1 + clustered]:
            ends = entry.get(f"{prefix}interval") or [None, None]
            row += [digits(to_float(x), 4) for x in (*ends, entry.get(f"{prefix}p_value"))]
        rows.append(row)
    head = ["difference", "95 % from", "to", "p-value"]
    return head + (["by cluster from", "to", "p-value"] if clustered else []), rows


def quantile_rows(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the distribution of each metric, where the document has it."""
    found = {name: entry["quantiles"] for name, entry in metrics.items() if "quantiles" in entry}
    if not found:
        return [], []
    names = list(next(iter(found.values())))
    rows = [
        [name, *(digits(to_float(values[key]), 4) for key in names)]
        for name, values in found.items()
    ]
    return ["metric", *names], rows


def group_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the largest groups, one column a metric."""
    metrics = list(document["metrics"])[:GROUP_METRICS]
    rows = []
    for name, count in document["groups"].largest(GROUPS_SHOWN):
        entries = document["groups"][name]
        values = [digits(to_float(entries.get(m, {}).get("value")), 4) for m in metrics]
        rows.append([name, f"{count:,}", *values])
    return ["group", "rows", *metrics], rows


def worst_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    head = list(document["worst"][0]) if document["worst"] else []
    rows = [
        [digits(to_float(row[name])) if name == head[-1] else str(row[name]) for name in head]
        for row in document["worst"]
    ]
    return head, rows


def counts(document: dict[str, Any]) -> str:
    """The line below the table: how many rows there were and which did not count."""
    text = f"{document['rows']:,} rows"
    for key, what in (
        ("ignored_rows", "ignored"),
        ("skipped_rows", "skipped"),
        ("nan_rows", "with NaN"),
    ):
        if document.get(key):
            text += f", {document[key]:,} {what}"
    return text


def show(document: dict[str, Any], stream: TextIO | None = None) -> None:
    """Print the report."""
    stream = stream or sys.stdout
    tables = [("", *metric_rows(document["metrics"]))]
    tables.append(("", *difference_rows(document["metrics"])))
    tables.append(("distribution over rows", *quantile_rows(document["metrics"])))
    if document.get("groups"):
        tables.append((f"{len(document['groups']):,} groups", *group_rows(document)))
    if document.get("worst"):
        head, rows = worst_rows(document)
        by = head[-1] if head else "cross_entropy"
        what = "loss" if by == "cross_entropy" else by
        tables.append((f"rows of highest {what}", head, rows))
    for title, head, rows in tables:
        if rows:
            cells = [[printable(cell, stream) for cell in row] for row in rows]
            print_table(title, head, cells, stream)
    for line in [*document.get("notes", ()), counts(document)]:
        stream.write(printable(line, stream) + "\n")


def print_table(title: str, head: list[str], rows: list[list[str]], stream: TextIO) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _print_plain(title, head, rows, stream)
        return
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # A number that a narrow terminal would cut off is worse than a long line.
    console = Console(file=stream, width=10_000)
    with console.capture() as printed:  # it would end the process when nobody reads any more
        console.print(table)
    stream.write(printed.get())


def _print_plain(title: str, head: list[str], rows: list[list[str]], stream: TextIO) -> None:
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    if title:
        stream.write(title + "\n")
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        stream.write("  ".join(cells).rstrip() + "\n")
    stream.write("\n")
