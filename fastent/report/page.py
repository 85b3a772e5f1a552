"""``--html``: one page that holds everything it shows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from importlib import resources
from itertools import islice
from typing import Any

from fastent import metrics as registry
from fastent.io import InputError
from fastent.report import plots, style
from fastent.report.numbers import digits, with_error
from fastent.report.table import (
    MATRIX_CLASSES,
    Table,
    class_rows,
    counts,
    group_rows,
    metric_rows,
    quantile_rows,
    temperature_rows,
    unit_of,
    weight,
    worst_rows,
)
from fastent.results import perplexity_of

WORST_GROUPS = 15
GROUPS_ON_PAGE = 5000
CLASSES_ON_PAGE = 5000
NAMES_IN_TITLE = 3
OPEN = 20  # rows of a long table that are shown at first
WRITTEN = 200  # of its rows that are in the document
HELD = 1_000_000  # characters of a table's further rows, which are data in the page
PRINTED = 100  # characters that fit beside each other on paper
# Tables of words, which take more room than names.
KINDS = {
    "Confusion matrix": "matrix",
    "Settings": "words",
    "Inputs": "words",
    "Remarks": "words remarks",
}
BREAKS = re.compile(r"(?<=[_/])|(?<=[.,\-])(?!\d)")
LONG = ("classes", "fits", "groups", "inputs", "rows")  # of tables that may have very many
NUMBER = re.compile(r"(≥ )?\(?[-−]?(\d[\d,]*(\.\d*)?|inf|nan)\b")


Cell = tuple[str, str | None, float | None]  # text, number, and by how much it is shaded


def require_libraries(path: str) -> None:
    """Fail before the work when the page cannot be made."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"{path}: --html needs the package {error.name} (extra 'cli')") from None


def render(
    title: str,
    document: dict[str, Any],
    pictures: list[plots.Plot],
    notes: list[Table],
    more: dict[str, Any] | None = None,
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
    more : dict, optional
        Metrics by class that the document does not have.
    """
    from jinja2 import Environment

    base = document["settings"].get("base")
    before = [metric_rows(document["metrics"], base), *notes]
    before.append(temperature_rows(document, GROUPS_ON_PAGE))
    before.append(quantile_rows(document["metrics"], base))
    by_class = {**document["metrics"], **(more or {})}
    classes = [class_rows(by_class, CLASSES_ON_PAGE), confusion(by_class)]
    after = []
    if document.get("groups"):
        after.append(group_rows(document, GROUPS_ON_PAGE))
    if document.get("worst"):
        after.append(worst_rows(document))
    settings = [[key, _setting(value)] for key, value in document["settings"].items()]
    after.append(Table("Settings", ["setting", "value"], settings, what="settings"))
    inputs = document["inputs"]
    head = list(inputs[0]) if inputs else []
    rows = [[_setting(entry.get(key, "")) for key in head] for entry in inputs]
    after.append(Table("Inputs", head, rows, what="inputs"))
    versions = [[name, version] for name, version in _versions(document)]
    after.append(Table("Versions", ["package", "version"], versions, what="packages"))
    files = resources.files("fastent.report")
    surroundings = Environment(autoescape=True)
    surroundings.filters["breakable"] = breakable
    template = surroundings.from_string(files.joinpath("page.html.j2").read_text("utf-8"))
    page = template.render(
        title=headline(title, inputs, document["rows"]),
        verdict=document.get("verdict"),
        left_out=counts(document) if "," in counts({**document, "rows": 0}) else "",
        meanings=meanings(document["metrics"]),
        before=[_section(table) for table in before if table.rows or table.note],
        plots=pictures,
        classes=[_section(table) for table in classes if table.rows or table.note],
        after=[_section(table) for table in after if table.rows or table.note],
        light=style.variables(style.LIGHT),
        dark=style.variables(style.DARK),
        font=style.FONT,
        tools=files.joinpath("page.js").read_text("utf-8"),
    )
    return page.encode(errors="backslashreplace")


def confusion(metrics: dict[str, Any]) -> Table:
    """Weights of rows by label, and by prediction beside each other."""
    table = Table("Confusion matrix", [], [], what="labels")
    if "confusion" not in metrics:
        return table
    entry = metrics["confusion"]
    if len(entry["classes"]) > MATRIX_CLASSES:
        table.note = (
            f"The confusion matrix has {len(entry['classes']):,} classes, more than "
            f"{MATRIX_CLASSES}: it is in the JSON document."
        )
        return table
    names = [str(name) for name in entry["classes"]]
    table.head = ["label ╲ predicted", *names]
    for name, cells in zip(names, entry["value"], strict=True):
        numbers = [float(x) for x in cells]
        table.rows.append([name, *map(weight, numbers)])
        table.values.append([None, *numbers])
    table.note = "Rows by label and prediction; shaded by the share of the label's rows."
    return table


def breakable(text: str) -> Any:
    """HTML of a name that may be broken where one of its parts ends."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(BREAKS, text))


def headline(title: str, inputs: list[dict[str, Any]], rows: int) -> str:
    """What was scored, and how much of it."""
    of = _names(next(iter(entry.values())) for entry in inputs)
    if inputs and "q" in inputs[0]:
        of += f" with {_names(entry['q'] for entry in inputs)}"
    return f"{title}{f' of {of}' if of else ''}: {rows:,} rows"


def _names(files: Iterator[Any]) -> str:
    names = list(dict.fromkeys(map(str, files)))
    more = len(names) - NAMES_IN_TITLE
    return ", ".join(names[:NAMES_IN_TITLE]) + (f" and {more:,} more" if more > 0 else "")


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


def _section(table: Table) -> dict[str, Any]:
    """A table as the page takes it: the rows that are drawn, and others as JSON."""
    rows = [_cells(table, k) for k in range(len(table.rows))]
    long = table.what in LONG
    drawn = WRITTEN if long else len(rows)
    rest, size = [], 0
    for row in islice(rows, drawn, None):
        text = json.dumps([cell if value is None else [cell, value] for cell, value, _ in row])
        size += len(text)
        if size > HELD:
            break
        rest.append(text.replace("<", "\\u003c"))
    held = min(len(rows), drawn + len(rest))
    total = max(table.total, len(rows))
    widths = [
        max((len(row[k][0]) for row in rows[:held]), default=0) for k in range(len(table.head))
    ]
    columns = [_column(table, k) for k in range(len(table.head))]
    heads = [max(map(len, re.split(r"[_ ]", one))) for one in table.titled]
    width = sum(max(min(w, 30), h) + 2 for w, h in zip(widths, heads, strict=True))
    if table.title == "Confusion matrix":
        rows = [[row[0], *_shaded(row[1:])] for row in rows]
    return {
        "title": table.title,
        "head": list(zip(table.titled, columns, strict=True)),
        "rows": rows[: min(drawn, held)],
        "rest": f"[{','.join(rest)}]" if rest else "",
        "held": held,
        "open": OPEN if long and held > OPEN else held,
        "kind": KINDS.get(table.title, "many" if len(columns) > 10 else ""),
        "shown": f"{held:,} of {total:,} {table.what}" if held < total else "",
        "what": table.what,
        "note": table.note,
        "fit": round(min(1.0, PRINTED / max(width, 1)), 2),
    }


def _shaded(cells: list[Cell]) -> list[Cell]:
    """Cells of a row with the share of it that each is."""
    numbers = [float(value or 0) for _, value, _ in cells]
    total = math.fsum(numbers) or 1.0
    return [
        (text, value, round(x / total, 3))
        for (text, value, _), x in zip(cells, numbers, strict=True)
    ]


def _column(table: Table, k: int) -> str:
    """Whether it holds numbers or text."""
    if k == 0 or table.title in ("Settings", "Versions") or table.head[k] == "unit":
        return "text"
    cells = [row[k] for row in table.rows if row[k]]
    return "number" if all(NUMBER.match(cell) for cell in cells) else "text"


def _cells(table: Table, row: int) -> list[Cell]:
    """Cells of a row, each with the number that it is sorted by in full, if it is one."""
    values = table.values[row] if table.values else [None] * len(table.head)
    return [
        (text, None if value is None else repr(value), None)
        for text, value in zip(table.rows[row], values, strict=True)
    ]


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
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


def yardsticks(
    loss: float, base_rates: float | None, classes: int, error: float | None = None
) -> Table:
    """The loss in nats beside what knowing nothing and knowing the label frequencies would cost."""
    uniform = math.log(classes)
    perplexity = perplexity_of(loss)
    spread = None if error is None else error * perplexity
    rows = [["these predictions", with_error(loss, error), with_error(perplexity, spread)]]
    losses = [loss]
    if base_rates is not None:
        rows.append(["base rates", digits(base_rates), digits(perplexity_of(base_rates))])
        losses.append(base_rates)
    rows.append([f"uniform over {classes:,} classes", digits(uniform), f"{classes:,}"])
    values = [[None, x, perplexity_of(x)] for x in (*losses, uniform)]
    table = Table("Yardsticks", ["prediction", "cross-entropy", "perplexity"], rows,
                  what="predictions", values=values)  # fmt: skip
    table.units = {"cross-entropy": "nats", "perplexity": "classes"}
    if base_rates:
        table.head.append("skill over the base rates")
        for row, number, one in zip(rows, values, (*losses, uniform), strict=True):
            number.append(1 - one / base_rates)
            row.append(digits(number[-1], 4))
    return table


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
