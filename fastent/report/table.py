"""The report as tables for the terminal, no wider than it."""

from __future__ import annotations

import math
import os
import shutil
import sys
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

from fastent import metrics as registry
from fastent.report.document import to_float
from fastent.report.numbers import digits, interval, with_error
from fastent.report.printable import printable

GROUPS_SHOWN = 20
GROUP_METRICS = 6
CLASSES_SHOWN = 20
MATRIX_CLASSES = 30  # of a confusion matrix that is drawn
UNLIMITED = 10_000
GAP = 2
LEAST, MOST = 8, 24  # of a name that is cut to a part of the width
# Quantiles that a narrow terminal goes without, the first first.
OUTER = ("p0.1", "p99.9", "p1", "p5", "p10", "p95", "p25", "p75", "unit", "min", "p99", "p90")


@dataclass
class Table:
    """A table for reading.

    Attributes
    ----------
    title : str
    head : list of str
    rows : list of list of str
    total : int
        Rows that there are, of which these are shown.
    what : str
        What a row is, in the plural.
    values : list of list of float or None
        What the cells are sorted by, if they are not text.
    note : str
        A line below it.
    units : dict
        Of the numbers in a column, by its head.
    spare : tuple of str
        Heads of the columns that a narrow terminal goes without, the first first.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    total: int = 0
    what: str = "rows"
    values: list[list[float | None]] = field(default_factory=list)
    note: str = ""
    units: dict[str, str] = field(default_factory=dict)
    spare: tuple[str, ...] = ()

    @property
    def titled(self) -> list[str]:
        """The heads with the units of their columns."""
        return [f"{one} ({self.units[one]})" if self.units.get(one) else one for one in self.head]

    @property
    def shown(self) -> str:
        """How many of how many, where it is not all of them."""
        if self.total <= len(self.rows):
            return ""
        return f"{len(self.rows):,} of {self.total:,} {self.what}"


def unit_of(name: str, base: float | None = None) -> str:
    """Of a metric's values."""
    if name in ("bits", "bits_per_byte"):
        return {"bits": "bits", "bits_per_byte": "bits a byte"}[name]
    known = "cross_entropy" if name.startswith("cross_entropy") else name  # of P, of Q, differences
    if known in ("perplexity_p", "perplexity_q"):
        known = "perplexity"
    record = registry.METRICS.get(known)
    if record is None or not record.unit:
        return ""
    if not record.entropic or record.statistic == "perplexity":
        return record.unit
    return "nats" if base is None else "bits" if base == 2 else f"log base {base:g}"


def cell(entry: dict[str, Any]) -> str:
    """A metric's value with its error; of a table how large it is."""
    if isinstance(entry["value"], list):
        return f"{len(entry['value']):,} × {len(entry['value']):,}"
    return with_error(to_float(entry["value"]), to_float(entry.get("stderr")))


def value_of(entry: dict[str, Any]) -> float | None:
    """A metric's value, if it is a number."""
    value = entry["value"]
    return None if isinstance(value, list) else to_float(value)


def metric_rows(metrics: dict[str, Any], base: float | None = None) -> Table:
    """All metrics."""
    clustered = any("cluster_stderr" in entry for entry in metrics.values())
    head = ["metric", "value ± std. error"] + (["cluster std. error"] if clustered else [])
    table = Table("Metrics", [*head, "unit"], [], len(metrics), "metrics")
    table.spare = ("cluster std. error",)
    for name, entry in metrics.items():
        bound = "≥ " if entry.get("bound") == "lower" else ""
        row = [name, bound + cell(entry)]
        values = [None, value_of(entry)]
        if clustered:
            values.append(to_float(entry.get("cluster_stderr")))
            row.append(digits(values[-1], 3))
        table.rows.append([*row, unit_of(name, base)])
        table.values.append([*values, None])
    return table


def difference_rows(metrics: dict[str, Any], base: float | None = None) -> Table:
    """The differences that have a p-value, with their intervals."""
    found = {name: entry for name, entry in metrics.items() if "p_value" in entry}
    clustered = any("cluster_p_value" in entry for entry in found.values())
    rows = []
    for name, entry in found.items():
        row = [name]
        for prefix in ("", "cluster_")[: 1 + clustered]:
            ends = entry.get(f"{prefix}interval")
            row += ["", ""] if ends is None else interval(*map(float, ends))
            row.append(digits(to_float(entry.get(f"{prefix}p_value")), 3))
        rows.append([*row, unit_of(name, base)])
    head = ["difference", "95 % from", "to", "p-value"]
    head += ["by cluster from", "to", "p-value"] if clustered else []
    head.append("unit")
    return Table("Differences", head, rows, len(rows), "differences")


def class_rows(metrics: dict[str, Any], most: int = CLASSES_SHOWN) -> Table:
    """The metrics that each class has, and the weights of its labels where there is a table."""
    found = {name: entry for name, entry in metrics.items() if "per_class" in entry}
    counted = metrics.get("confusion")
    classes: list[Any] = next(
        (entry["classes"] for entry in (counted, *found.values()) if entry), []
    )
    head = ["class", *(["rows", "predicted"] if counted else []), *found]
    table = Table("Classes", head, [], len(classes), "classes")
    for k, name in enumerate(classes[:most]):
        values = [to_float(entry["per_class"][k]) for entry in found.values()]
        errors = [to_float(entry["per_class_stderr"][k]) if "per_class_stderr" in entry else None
                  for entry in found.values()]  # fmt: skip
        cells = [with_error(*pair) for pair in zip(values, errors, strict=True)]
        if counted:
            rows = [math.fsum(map(float, counted["value"][k])),
                    math.fsum(float(row[k]) for row in counted["value"])]  # fmt: skip
            values = [*rows, *values]
            cells = [*map(weight, rows), *cells]
        table.rows.append([str(name), *cells])
        table.values.append([None, *values])
    return table


def weight(value: float) -> str:
    """Of rows; where each weighs 1 their number."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.6g}"


def quantile_rows(metrics: dict[str, Any], base: float | None = None) -> Table:
    """The distribution of each metric, where the document has it."""
    found = {name: entry["quantiles"] for name, entry in metrics.items() if "quantiles" in entry}
    names = list(next(iter(found.values()))) if found else []
    rows = [
        [name, unit_of(name, base), *(digits(to_float(values[key]), 4) for key in names)]
        for name, values in found.items()
    ]
    head = ["metric", "unit", *names]
    return Table("Distribution over rows", head, rows, len(rows), "metrics", spare=OUTER)


def group_rows(document: dict[str, Any], most: int = GROUPS_SHOWN) -> Table:
    """The largest groups, one column a metric."""
    metrics = [name for name in document["metrics"] if name != "confusion"][:GROUP_METRICS]
    total = len(document["groups"])
    table = Table("Groups", ["group", "rows", *metrics], [], total, "groups")
    table.units = {name: unit_of(name, _base(document)) for name in metrics}
    for name, count in document["groups"].largest(most):
        entries = document["groups"][name]
        cells = [cell(entries[m]) if m in entries else "" for m in metrics]
        table.rows.append([name, f"{count:,}", *cells])
        found = [value_of(entries[m]) if m in entries else None for m in metrics]
        table.values.append([None, float(count), *found])
    return table


def worst_rows(document: dict[str, Any]) -> Table:
    head = list(document["worst"][0]) if document["worst"] else []
    rows = [
        [digits(to_float(row[name]), 8) if name == head[-1] else str(row[name]) for name in head]
        for row in document["worst"]
    ]
    by = head[-1] if head else "cross_entropy"
    what = "loss" if by == "cross_entropy" else by
    units = {by: unit_of(by, _base(document))}
    return Table(f"Rows of highest {what}", head, rows, len(rows), units=units)


def temperature_rows(document: dict[str, Any], most: int = GROUPS_SHOWN) -> Table:
    """The temperatures that fit, of all rows first."""
    found = document.get("fitted_temperature") or {}
    groups = found.get("groups", {})
    head = ["rows of", "temperature", "loss there (nats)", "at temperature 1 (nats)"]
    table = Table("Fitted temperature", head, [], 1 + len(groups) if found else 0, "fits")
    for name, one in [("all", found), *list(groups.items())[:most]] if found else []:
        values = [to_float(one[key]) for key in ("temperature", "loss", "loss_at_one")]
        fitted = with_error(values[0], to_float(one["stderr"]))
        table.rows.append([name, fitted, *(digits(x) for x in values[1:])])
        table.values.append([None, *values])
    return table


def _base(document: dict[str, Any]) -> float | None:
    base: float | None = document.get("settings", {}).get("base")
    return base


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
    base = _base(document)
    metrics = document["metrics"]
    tables = [metric_rows(metrics, base), difference_rows(metrics, base), class_rows(metrics),
              quantile_rows(metrics, base)]  # fmt: skip
    tables[0].title = tables[1].title = ""
    if document.get("verdict"):
        _print_line(document["verdict"], stream)
        stream.write("\n")
    tables.append(temperature_rows(document))
    if document.get("groups"):
        tables.append(group_rows(document))
    if document.get("worst"):
        tables.append(worst_rows(document))
    for table in tables:
        if table.rows:
            if table.title and table.shown:
                table.title += f": {table.shown}, the others are in --json"
            print_table(table, stream)
    for line in [*document.get("notes", ()), counts(document)]:
        _print_line(line, stream)


def _print_line(line: str, stream: TextIO) -> None:
    for text in _wrapped(printable(_drawn(line, stream), stream), width_of(stream)):
        stream.write(text + "\n")


def width_of(stream: TextIO) -> int:
    """Columns of the terminal; what is no terminal has no limit, unless COLUMNS sets one."""
    if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns or UNLIMITED
    return UNLIMITED


def fitted(table: Table, width: int) -> Table:
    """The table in some columns of a terminal: columns are left out and named, first those that it
    can spare and then the last, and its names are cut; numbers are not."""
    head, rows = list(table.head), [list(row) for row in table.rows]
    part = 4 if table.what == "groups" else 2  # names of ours are short and much alike
    shortest = max(LEAST, len(head[0]), min(MOST, width // part - 2))

    def widths() -> list[int]:
        return [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]

    def total() -> int:
        found = widths()
        return sum(found[1:]) + min(found[0], shortest) + GAP * (len(found) - 1)

    left_out: list[str] = []
    units: dict[str, list[str]] = {}
    while len(head) > 2 and total() > width:
        spare = next((name for name in table.spare if name in head[1:]), None)
        place = len(head) - 1 if spare is None else head.index(spare)
        name = head.pop(place)
        cells = [row.pop(place) for row in rows]
        if name == "unit":
            for row, unit in zip(table.rows, cells, strict=True):
                units.setdefault(unit, []).append(row[0])
        else:
            left_out.append(name)
    left_out.sort(key=table.head.index)
    room = max(LEAST, width - sum(widths()[1:]) - GAP * (len(head) - 1))
    for row in [head, *rows]:
        row[0] = row[0] if len(row[0]) <= room else row[0][: room - 1] + "…"
    notes = [f"without {', '.join(left_out)}: --json has all"] if left_out else []
    notes += [f"in {unit}: {', '.join(names)}" for unit, names in units.items() if unit]
    return Table(table.title, head, rows, note="; ".join(notes))


def print_table(table: Table, stream: TextIO) -> None:
    width = width_of(stream)
    cells = [[printable(_drawn(one, stream), stream) for one in row] for row in table.rows]
    table = fitted(replace(table, rows=cells), width)
    for text in _wrapped(table.title, width):
        stream.write(text + "\n")
    widths = [max(len(row[k]) for row in [table.head, *table.rows]) for k in range(len(table.head))]
    rule = "─" * min(width, sum(widths) + GAP * (len(widths) - 1))
    lines = [
        (" " * GAP).join(
            one.rjust(w) if k else one.ljust(w)
            for k, (one, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [table.head, *table.rows]
    ]
    for line in [lines[0], rule, *lines[1:]]:
        stream.write(_drawn(line.rstrip(), stream) + "\n")
    for text in _wrapped(table.note, width):
        stream.write(text + "\n")
    stream.write("\n")


def _drawn(line: str, stream: TextIO) -> str:
    """A line of ours, where the terminal has not all of its characters."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        for drawn, plain in (("─", "-"), ("…", "~"), ("±", "+-"), ("‖", "||"), ("≥", ">=")):
            line = line.replace(drawn, plain)
    return line


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) if text else []
