"""``--html``: one page that holds everything it shows."""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

from fastent.io import InputError
from fastent.report import plots
from fastent.report.table import (
    counts,
    digits,
    group_rows,
    metric_rows,
    quantile_rows,
    worst_rows,
)
from fastent.results import perplexity_of

WORST_GROUPS = 15
INPUTS_SHOWN = 100
OF_WORDS = ("Settings", "Inputs", "Versions")

Table = tuple[str, list[str], list[list[str]]]


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
        Heading.
    document : dict
        The JSON document of the run.
    pictures : list of Plot
        Plots in the order of the page.
    notes : list of (title, head, rows)
        Further tables, after that of the metrics.
    """
    from jinja2 import Environment

    before = [("Metrics", *metric_rows(document["metrics"])), *notes]
    before.append(("Distribution over rows", *quantile_rows(document["metrics"])))
    after = []
    if document.get("groups"):
        after.append(("Groups", *group_rows(document)))
    if document.get("worst"):
        after.append(("Rows of highest loss", *worst_rows(document)))
    settings = [[key, _setting(value)] for key, value in document["settings"].items()]
    after.append(("Settings", ["setting", "value"], settings))
    inputs = document["inputs"][:INPUTS_SHOWN]
    head = list(inputs[0])
    after.append(("Inputs", head, [[str(entry.get(key, "")) for key in head] for entry in inputs]))
    versions = [[name, version] for name, version in _versions(document)]
    after.append(("Versions", ["package", "version"], versions))
    text = resources.files("fastent.report").joinpath("page.html.j2").read_text("utf-8")
    template = Environment(autoescape=True).from_string(text)
    page = template.render(
        title=title,
        counts=counts(document),
        before=_sections(before),
        plots=pictures,
        after=_sections(after),
    )
    return page.encode(errors="backslashreplace")


def _sections(tables: list[Table]) -> list[dict[str, Any]]:
    return [
        {"title": title, "head": head, "rows": rows, "words": title in OF_WORDS}
        for title, head, rows in tables
        if rows
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


def yardsticks(
    loss: float, base_rates: float | None, classes: int
) -> tuple[str, list[str], list[list[str]]]:
    """The loss beside what knowing nothing and knowing the label frequencies would cost."""
    uniform = math.log(classes)
    rows = [["these predictions", digits(loss), digits(perplexity_of(loss))]]
    if base_rates is not None:
        rows.append(["base rates", digits(base_rates), digits(perplexity_of(base_rates))])
    rows.append([f"uniform over {classes:,} classes", digits(uniform), f"{classes:,}"])
    if base_rates:
        skill = 1 - loss / base_rates
        rows.append(["skill over the base rates", digits(skill), ""])
    return "Yardsticks", ["prediction", "cross-entropy (nats)", "perplexity"], rows


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
    )
