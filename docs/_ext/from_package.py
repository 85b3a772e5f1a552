"""Pages made from the package itself: a page a public name, the table of metrics, other guides.

They are written to `docs/reference/` before Sphinx reads its sources, so a new function or metric
is on the site, and in its search, without a word here.
"""

from __future__ import annotations

import importlib
import inspect
import types
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

import fastent
from fastent.metrics import RECORDS, TASKS

# What has submodules instead of names of its own.
PACKAGES = {"compat": ("scipy", "sklearn", "torch")}
# Modules that others of this package use too: users need what the top level offers of them.
FOR_USERS = ("results", "metrics", "divergences", "reports")
FIRST = ("functions", "accumulator", "results", "divergences", "focal", "gradients", "information")


def modules() -> list[types.ModuleType]:
    """The public modules, those that most people need first; a peer may be missing."""
    names = sorted(fastent._MODULES, key=lambda m: (m not in FIRST, m in FIRST and FIRST.index(m)))
    found = []
    for name in names:
        for part in (f"{name}.{sub}" for sub in PACKAGES[name]) if name in PACKAGES else (name,):
            try:
                found.append(importlib.import_module(f"fastent.{part}"))
            except ImportError as error:
                if part != "compat.torch":
                    raise
                print(f"no page of fastent.{part}: {error}")
    return found


def public(module: types.ModuleType) -> list[str]:
    """Documented names of a module that users call."""
    short = module.__name__.removeprefix("fastent.")
    offered = fastent._HOMES.get(short, ())
    if hasattr(module, "__all__"):
        names = module.__all__
    elif short in FOR_USERS:
        names = offered
    else:
        own = [
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        ]
        names = [n for n in own if not n.startswith("_")]
    return [n for n in names if callable(getattr(module, n)) and getattr(module, n).__doc__]


def first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def shortest(module: types.ModuleType, name: str) -> str:
    """What users call it by."""
    top = name in fastent.__all__ and getattr(fastent, name) is getattr(module, name)
    return f"fastent.{name}" if top else f"{module.__name__}.{name}"


def page(full: str, thing: Any) -> str:
    kind, options = ("class", "\n   :members:\n") if inspect.isclass(thing) else ("function", "")
    home, _, name = full.rpartition(".")
    return (
        f"# {full}\n\n```{{eval-rst}}\n.. currentmodule:: {home}\n\n"
        f".. auto{kind}:: {name}{options}\n```\n"
    )


def module_page(module: types.ModuleType, full_names: dict[str, Any]) -> str:
    """What a module says of itself, and a line for each of its names."""
    rows = [f"| [{full}]({full}.md) | {first_line(thing)} |" for full, thing in full_names.items()]
    table = "\n".join(["| name | what |", "| --- | --- |", *rows]) if rows else ""
    return (
        f"# {module.__name__}\n\n```{{eval-rst}}\n.. automodule:: {module.__name__}\n```\n\n"
        f"{table}\n\n```{{toctree}}\n:hidden:\n\n" + "\n".join(full_names) + "\n```\n"
    )


INDEX = """# Reference

The order is always (true, predicted). `import fastent as fe` is understood.

| module | what |
| --- | --- |
{rows}

## Settings, and more of the top level

| name | what |
| --- | --- |
{settings}

```{{toctree}}
:hidden:

{pages}
```
"""


def write(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    made, rows = {}, []
    for module in modules():
        names = {shortest(module, name): getattr(module, name) for name in public(module)}
        made[module.__name__] = module_page(module, names)
        rows.append(f"| [{module.__name__}]({module.__name__}.md) | {first_line(module)} |")
        made |= {full: page(full, thing) for full, thing in names.items()}
    pages = [module.__name__ for module in modules()]
    settings = []
    for name in sorted(set(fastent.__all__) - {"__version__"}):
        full = f"fastent.{name}"
        if full in made:
            continue
        made[full] = page(full, getattr(fastent, name))
        settings.append(f"| [{full}]({full}.md) | {first_line(getattr(fastent, name))} |")
        pages.append(full)
    made["index"] = INDEX.format(
        rows="\n".join(rows), settings="\n".join(settings), pages="\n".join(pages)
    )
    for old in folder.glob("*.md"):
        if old.stem not in made:
            old.unlink()
    for name, text in made.items():
        path = folder / f"{name}.md"
        if (
            not path.exists() or path.read_text(encoding="utf-8") != text
        ):  # Sphinx goes by the clock
            path.write_text(text, encoding="utf-8")


class Metrics(Directive):
    """The registry as a table."""

    def run(self) -> list[nodes.Node]:
        header = ("metric", "tasks", "what", "range", "unit")
        rows = [
            (
                m.name,
                "all" if m.tasks == TASKS else ", ".join(m.tasks),
                m.description,
                m.range,
                m.unit,
            )
            for m in RECORDS
        ]
        table = nodes.table(classes=["metrics"])
        group = nodes.tgroup(cols=len(header))
        group += [nodes.colspec(colwidth=w) for w in (20, 15, 45, 10, 10)]
        group += nodes.thead("", self.row(header))
        group += nodes.tbody("", *map(self.row, rows))
        table += group
        return [table]

    def row(self, cells: tuple[str, ...]) -> nodes.row:
        made = nodes.row()
        for i, cell in enumerate(cells):
            text = nodes.literal(cell, cell) if i == 0 and cell != "metric" else nodes.Text(cell)
            made += nodes.entry("", nodes.paragraph("", "", text))
        return made


def add_others(app: Any, docname: str, source: list[str]) -> None:
    """`@others` in a list of pages: those of this folder that no list names."""
    if "@others" in source[0]:
        pages = {path: path.read_text(encoding="utf-8") for path in Path(app.srcdir).glob("*.md")}
        listed = {line.strip() for text in pages.values() for line in text.splitlines()}
        others = sorted(path.stem for path in pages if path.stem not in {*listed, "index"})
        source[0] = source[0].replace("@others", "\n".join(others))


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("metrics", Metrics)
    app.connect("config-inited", lambda app, config: write(Path(app.srcdir, "reference")))
    app.connect("source-read", add_others)
    return {"parallel_read_safe": True}
