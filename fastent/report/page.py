"""``--html``: one page that holds everything it shows."""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

from fastent import metrics as registry
from fastent.io import InputError
from fastent.report import plots
from fastent.report.numbers import digits
from fastent.report.table import (
    Table,
    counts,
    group_rows,
    metric_rows,
    quantile_rows,
    unit_of,
    worst_rows,
)
from fastent.results import perplexity_of

WORST_GROUPS = 15
GROUPS_ON_PAGE = 2000  # of which the first are shown until the reader asks for more
INPUTS_ON_PAGE = 1000
NAMES_IN_TITLE = 3
OPEN = 20  # rows of a table that are shown at first
# How a table is set: of words, and with names of ours, which are short and not to be broken.
KINDS = {"Settings": "words ours", "Versions": "words ours", "Inputs": "words", "Metrics": "ours",
         "Differences": "ours", "Remarks": "words remarks"}  # fmt: skip


def require_libraries(path: str) -> None:
    """Fail before the work when the page cannot be made."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"{path}: --html needs the package {error.name} (extra 'cli')") from None


def render(
    title: str, document: dict[str, Any], pictures: list[plots.Plot], notes: list[Table]
) -> bytes:
    """The page.

    Parameters
    ----------
    title : str
        Heading, before the names of the inputs.
    document : dict
        The JSON document of the run.
    pictures : list of Plot
        Plots in the order of the page.
    notes : list of Table
        Further tables, after that of the metrics.
    """
    from jinja2 import Environment

    before = [metric_rows(document["metrics"], document["settings"].get("base")), *notes]
    before.append(quantile_rows(document["metrics"]))
    after = []
    if document.get("groups"):
        after.append(group_rows(document, GROUPS_ON_PAGE))
    if document.get("worst"):
        after.append(worst_rows(document))
    settings = [[key, _setting(value)] for key, value in document["settings"].items()]
    after.append(Table("Settings", ["setting", "value"], settings))
    inputs = document["inputs"]
    head = list(inputs[0]) if inputs else []
    rows = [[str(entry.get(key, "")) for key in head] for entry in inputs[:INPUTS_ON_PAGE]]
    after.append(Table("Inputs", head, rows, len(inputs), "inputs"))
    versions = [[name, version] for name, version in _versions(document)]
    after.append(Table("Versions", ["package", "version"], versions))
    text = resources.files("fastent.report").joinpath("page.html.j2").read_text("utf-8")
    template = Environment(autoescape=True).from_string(text)
    page = template.render(
        title=headline(title, inputs, document["rows"]),
        left_out=counts(document) if "," in counts({**document, "rows": 0}) else "",
        meanings=meanings(document["metrics"]),
        before=_sections(before),
        plots=pictures,
        after=_sections(after),
        open=OPEN,
    )
    return page.encode(errors="backslashreplace")


def headline(title: str, inputs: list[dict[str, Any]], rows: int) -> str:
    """What was scored, and how much of it."""
    names = list(dict.fromkeys(str(next(iter(entry.values()))) for entry in inputs))
    more = len(names) - NAMES_IN_TITLE
    of = ", ".join(names[:NAMES_IN_TITLE]) + (f" and {more:,} more" if more > 0 else "")
    return f"{title}{f' of {of}' if of else ''}: {rows:,} rows"


def meanings(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """The names of metrics that have no error of their own to explain them, and what they are."""
    found = []
    for name in metrics:
        record = registry.METRICS.get(name)
        if record is not None and (record.statistic != "mean" or name == "brier"):
            found.append((name, record.description))
    return found


def of_report(title: str, report: Any, document: dict[str, Any]) -> bytes:
    """The page of a report in Python, whose document has no files."""
    from fastent.report import pictures

    task = document["settings"].get("task")
    words = plots.PROBABILITY if task == "binary" else plots.CONFIDENCE
    drawn = pictures.report_plots(report, words)
    if "cross_entropy" in report:
        groups = worst_groups(document, report["cross_entropy"].value)
        drawn += [groups] if groups else []
    return render(title, document, drawn, [])


def _sections(tables: list[Table]) -> list[dict[str, Any]]:
    return [
        {
            "title": table.title,
            "head": table.head,
            "rows": [_cells(table, k) for k in range(len(table.rows))],
            "kind": KINDS.get(table.title, ""),
            "shown": table.shown,
            "what": table.what,
        }
        for table in tables
        if table.rows
    ]


def _cells(table: Table, row: int) -> list[tuple[str, str]]:
    """Cells of a row, and the number that each is sorted by in full, if it is one."""
    values = table.values[row] if table.values else [None] * len(table.head)
    return [
        (text, "" if value is None else repr(value))
        for text, value in zip(table.rows[row], values, strict=True)
    ]


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _versions(document: dict[str, Any]) -> list[tuple[str, str]]:
    import platform

    import matplotlib
    import numpy

    return [
        ("fastent", document["version"]),
        ("Python", platform.python_version()),
        ("NumPy", numpy.__version__),
        ("matplotlib", matplotlib.__version__),
    ]


def yardsticks(loss: float, base_rates: float | None, classes: int) -> Table:
    """The loss beside what knowing nothing and knowing the label frequencies would cost."""
    uniform = math.log(classes)
    rows = [["these predictions", digits(loss, 8), digits(perplexity_of(loss), 8)]]
    if base_rates is not None:
        rows.append(["base rates", digits(base_rates, 8), digits(perplexity_of(base_rates), 8)])
    rows.append([f"uniform over {classes:,} classes", digits(uniform, 8), f"{classes:,}"])
    if base_rates:
        skill = 1 - loss / base_rates
        rows.append(["skill over the base rates", digits(skill, 8), ""])
    return Table("Yardsticks", ["prediction", "cross-entropy (nats)", "perplexity"], rows)


def worst_groups(document: dict[str, Any], total: float) -> plots.Plot | None:
    """The plot of the groups of highest loss, ``total`` being that of all rows; None without."""
    if not document["groups"]:
        return None
    worst = document["groups"].highest_losses(WORST_GROUPS)
    if not worst:
        return None
    errors = [loss.stderr for _, loss in worst]
    return plots.worst_groups(
        [name for name, _ in worst],
        [loss.value for _, loss in worst],
        [error if error and math.isfinite(error) else 0.0 for error in errors],
        total,
        unit_of("cross_entropy", document.get("settings", {}).get("base")),
    )
