"""``python -m bench.figures``: the two figures of the documentation, from what was measured.

``python -m bench.accuracy --json docs/data/accuracy.json`` and ``python -m bench --group headline
--json docs/data/speed.json`` measure; this draws ``docs/images/``: errors and speed, for light and
dark pages, and both beside each other for the README.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

# Colours that are told apart in both themes and without red and green; fastent's stands out.
MARKS = {
    "fastent": ("#d55e00", "o", 60),
    "scipy": ("#0072b2", "s", 26),
    "scikit-learn": ("#b8a000", "D", 24),
    "torch": ("#cc79a7", "^", 30),
    "torch.compile": ("#9370db", "v", 30),
    "jax": ("#009e73", "P", 32),
}
THEMES = {"": ("#1f2328", "#d0d7de"), "-dark": ("#e6edf3", "#4d5566")}  # text, grid
WRONG = 1e3  # where an error is drawn that is larger than the value, or no number at all


def error_rows(lines: list[dict[str, Any]]) -> list[tuple[str, dict[str, float]]]:
    """(name of the row, worst error by tool): float64, hard rows."""
    rows = []
    for line in lines:
        if line["dtype"] == "float64" and line["inputs"] == "hard":
            worst = {tool: found["worst"] for tool, found in line["tools"].items()}
            rows.append((f"{line['function']}, {line['kind']}", worst))
    return rows


def speed_rows(report: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """(name of the row, GB/s by tool)."""
    return [
        (line["workload"], {n: t["gigabytes_per_second"] for n, t in line["tools"].items()})
        for line in report["lines"]
    ]


def _dots(axes: Axes, rows: list[tuple[str, dict[str, float]]]) -> None:
    """One line a row, one mark a tool, on a logarithmic axis."""
    for y, (_, values) in enumerate(rows):
        for i, (tool, (colour, marker, size)) in enumerate(MARKS.items()):
            if tool in values:
                ours = tool == "fastent"
                place = values[tool], y if ours else y + 0.13 * (i - 3)  # equal ones lie apart
                axes.scatter(*place, s=size, c=colour, marker=marker, linewidths=0, clip_on=False,
                             zorder=3 if ours else 2)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.minorticks_off()
    axes.spines[:].set_visible(False)
    axes.grid(linewidth=0.6)


def draw_errors(axes: Axes, lines: list[dict[str, Any]]) -> None:
    rows = []
    for name, worst in error_rows(lines):
        drawn = {t: WRONG if not e < WRONG else max(e, 1e-17) for t, e in worst.items()}
        rows.append((name, drawn))
    _dots(axes, rows)
    axes.set_xlim(1e-17, WRONG)
    ticks = [1e-16, 1e-12, 1e-8, 1e-4, 1]
    axes.set_xticks(
        [*ticks, WRONG], [*(f"$10^{{{round(math.log10(t))}}}$" for t in ticks), "wrong"]
    )
    axes.set_title("Worst relative error on hard rows, float64", loc="left")


def draw_speed(axes: Axes, report: dict[str, Any]) -> None:
    rows = speed_rows(report)
    _dots(axes, rows)
    limit = report["read_limit"]["gigabytes_per_second"]
    axes.axvline(limit, linestyle="--", linewidth=1, color=plt.rcParams["text.color"])
    axes.set_xticks([0.1, 1, 10, limit], ["0.1", "1", "10", f"{limit:.0f} (reading)"])
    cores = report["machine"]["cores"]
    axes.set_title(f"GB/s of input, {cores} cores", loc="left")


def _legend(figure: Any, tools: set[str]) -> None:
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=tool, markersize=7)
        for tool, (colour, marker, _) in MARKS.items()
        if tool in tools
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)


def _tools(rows: list[tuple[str, dict[str, float]]]) -> set[str]:
    return set().union(*(values for _, values in rows))


def save(path: Path, *panels: tuple[Any, Any, list]) -> None:
    """Panels (draw, what was measured, its rows) beside each other, a file for each theme."""
    rows = max(len(panel[2]) for panel in panels)
    for suffix, (text, grid) in THEMES.items():
        colours = {"text.color": text, "axes.labelcolor": text, "xtick.color": text}
        colours |= {"ytick.color": text, "grid.color": grid, "font.size": 10}
        colours |= {
            "svg.hashsalt": "fastent",
            "svg.fonttype": "none",
        }  # the same file from the same numbers
        with plt.rc_context(colours):
            size = (7.6 * len(panels), 0.27 * rows + 1.1)
            figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained",
                                        squeeze=False)  # fmt: skip
            for one, (draw, measured, _) in zip(axes[0], panels, strict=True):
                draw(one, measured)
            _legend(figure, set().union(*(_tools(panel[2]) for panel in panels)))
            figure.savefig(path.with_name(f"{path.stem}{suffix}.svg"), transparent=True,
                           metadata={"Date": None})  # fmt: skip
            plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.figures", description=__doc__)
    parser.add_argument("--accuracy", type=Path, default=Path("docs/data/accuracy.json"))
    parser.add_argument("--speed", type=Path, default=Path("docs/data/speed.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    lines = json.loads(options.accuracy.read_text(encoding="utf-8"))
    report = json.loads(options.speed.read_text(encoding="utf-8"))
    errors, speed = (
        (draw_errors, lines, error_rows(lines)),
        (draw_speed, report, speed_rows(report)),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    save(options.out / "errors.svg", errors)
    save(options.out / "speed.svg", speed)
    save(options.out / "errors-and-speed.svg", errors, speed)


if __name__ == "__main__":
    main()
