"""What a notebook shows of a report: its tables, without a page around them."""

from __future__ import annotations

import sys
from html import escape
from typing import Any

from fastent.report.table import Table, class_rows, counts, group_rows, metric_rows


def tables(document: dict[str, Any], base: float | None = None) -> str:
    """The metrics and the largest groups as HTML."""
    shown = [metric_rows(document["metrics"], base)]
    shown.append(class_rows(document["metrics"]))
    if document["groups"]:
        shown.append(group_rows(document))
    return (
        "".join(_table(table) for table in shown if table.rows)
        + f"<p>{escape(counts(document))}</p>"
    )


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


class NotebookBar:
    """A bar below the cell that runs, with a line of words beside it."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._shown = display(HTML(self._text(0.0, "")), display_id=True)

    def show(self, share: float, words: str) -> None:
        """How much is done, from 0 to 1."""
        self._shown.update(self._html(self._text(share, words)))

    def _text(self, share: float, words: str) -> str:
        percent = min(100.0, 100 * share)
        return (
            f'<progress max="100" value="{percent:.1f}" style="width: 20em; vertical-align: '
            f'middle"></progress> {percent:.0f} % {escape(words)}'
        )


def in_notebook() -> bool:
    """Whether this is a kernel whose output a notebook shows."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
