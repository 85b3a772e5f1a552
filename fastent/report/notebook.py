"""What a notebook shows of a report: its tables, without a page around them."""

from __future__ import annotations

from html import escape
from typing import Any

from fastent.report.table import Table, counts, group_rows, metric_rows


def tables(document: dict[str, Any], base: float | None = None) -> str:
    """The metrics and the largest groups as HTML."""
    shown = [metric_rows(document["metrics"], base)]
    if document["groups"]:
        shown.append(group_rows(document))
    return "".join(map(_table, shown)) + f"<p>{escape(counts(document))}</p>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.titled)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(one)}</td>" for one in row) + "</tr>" for row in table.rows
    )
    caption = f"{table.title}: {table.shown}" if table.shown else table.title
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
