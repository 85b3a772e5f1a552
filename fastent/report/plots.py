"""The plots of the page: matplotlib figures as SVG that stands inside the page."""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastent.report.intervals import interval

INK = "#1a1a1a"
FIRST = "#1f5f99"
SECOND = "#c8641e"
NAMED = 3  # groups in the words below their plot
STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",  # letters as outlines: the same wherever the page is opened
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
}


@dataclass
class Plot:
    """A drawn plot, and in words what it shows."""

    name: str
    title: str
    text: str
    svg: str


@dataclass
class Bins:
    """Equal-width confidence bins: weight, sum of confidence and sum of hits in each."""

    weight: np.ndarray
    confidence: np.ndarray
    hits: np.ndarray
    rows_a_weight: float = 1.0  # how many rows a weight of 1 stands for

    @property
    def edges(self) -> np.ndarray:
        return np.linspace(0, 1, len(self.weight) + 1)

    def table(self) -> dict[str, np.ndarray]:
        """As `Report.calibration` gives it."""
        with np.errstate(all="ignore"):
            used = np.where(self.weight > 0, self.weight, np.nan)
            low, high = interval(self.hits / used, used * self.rows_a_weight)
            return {
                "lower": self.edges[:-1], "upper": self.edges[1:], "weight": self.weight,
                "confidence": self.confidence / used, "frequency": self.hits / used,
                "low": low, "high": high,
            }  # fmt: skip


@dataclass
class Distribution:
    """Values and the weight at each, sorted."""

    values: np.ndarray
    weights: np.ndarray


@dataclass
class Words:
    """What a task calls the two kinds of rows and how sure a prediction is."""

    title: str
    axis: str
    hit: str
    miss: str


CONFIDENCE = Words("Confidence by correctness", "confidence", "right", "wrong")
PROBABILITY = Words("Probability by target", "probability of target 1", "target 1", "target 0")
Marks = Mapping[str, float]


def _figure(rows: int = 1, height: float = 3.6) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), layout="constrained")
    ratios = [3, 1][:rows]
    return figure, figure.subplots(rows, 1, sharex=True, height_ratios=ratios)


def _svg(figure: Any, name: str) -> str:
    """SVG without what a page has no use for, and ids that no other plot has."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        # It measures text with its own font, also where the browser's is used.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(
            stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    return text.replace("<svg ", '<svg aria-hidden="true" ', 1)


def _styled(draw: Any) -> Any:
    """Draw under our style and with ids that do not change from run to run."""

    def styled(*arguments: Any) -> Plot:
        import matplotlib

        with matplotlib.rc_context({**STYLE, "svg.hashsalt": draw.__name__}):
            return draw(*arguments)  # type: ignore[no-any-return]

    return styled


@_styled
def reliability(bins: Bins, words: Words) -> Plot:
    """Observed frequency against what was predicted, with the rows in each bin below."""
    figure, (above, below) = _figure(2, 4.8)
    used = bins.weight > 0
    weight = np.where(used, bins.weight, 1)
    confidence, accuracy = bins.confidence / weight, bins.hits / weight
    draw_reliability(above, bins.table(), words)
    above.set(xlabel="")
    width = 1 / len(bins.weight)
    below.bar(bins.edges[:-1], bins.weight, width, align="edge", color=FIRST, edgecolor="none")
    below.set(xlabel=words.axis, ylabel="rows")
    gap = np.abs(confidence - accuracy)[used]
    text = f"{int(used.sum())} of {len(weight)} bins are used"
    if gap.size:
        worst = int(np.flatnonzero(used)[np.argmax(gap)])
        text += (
            f"; the largest gap is in ({bins.edges[worst]:.2f}, {bins.edges[worst + 1]:.2f}]: "
            f"predicted {confidence[worst]:.3f}, observed {accuracy[worst]:.3f}, "
            f"weight {bins.weight[worst]:,.6g}"
        )
    return Plot("reliability", "Reliability", text + ".", _svg(figure, "reliability"))


def draw_reliability(axes: Any, table: Mapping[str, np.ndarray], words: Words) -> None:
    """Observed frequency against what was predicted, with 95 % intervals, on the given axes."""
    used = table["weight"] > 0
    x, y = table["confidence"][used], table["frequency"][used]
    errors = np.abs([y - table["low"][used], table["high"][used] - y])
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="calibrated")
    axes.errorbar(x, y, errors, fmt="o-", color=FIRST, ecolor=FIRST, elinewidth=1, capsize=2,
                  markersize=4, label="observed, 95 % interval")  # fmt: skip
    axes.set(xlabel=words.axis, ylabel="observed frequency", ylim=(-0.02, 1.02), xlim=(0, 1))
    axes.legend(frameon=False)


@_styled
def distribution(
    name: str, title: str, axis: str, found: Distribution, marks: Marks, unit: str = ""
) -> Plot:
    """Histogram of row values with lines at ``marks``; what cannot be drawn is told in words."""
    axis, unit = (f"{axis} ({unit})", f" {unit}") if unit else (axis, "")
    figure, axes = _figure()
    finite = np.isfinite(found.values)
    above = found.values[finite & (found.values > 0)]
    logarithmic = not (found.values < 0).any() and above.size and above.max() > 30 * above.min()
    drawn = finite & (found.values > 0) if logarithmic else finite
    values, weights = found.values[drawn], found.weights[drawn]
    if values.size:
        edges = _edges(values, logarithmic)
        heights, _ = np.histogram(np.maximum(values, edges[0]), edges, weights=weights)
        axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=FIRST, edgecolor="none")
        if logarithmic:
            axes.set_xscale("log")
        shown = {m: at for m, at in marks.items() if edges[0] <= at <= edges[-1]}
        for style, (mark, at) in zip(("-", "--", "-.", ":"), shown.items(), strict=False):
            axes.axvline(at, color=INK, linewidth=1, linestyle=style, label=f"{mark} {at:.4g}")
        if shown:
            axes.legend(frameon=False, fontsize=9)
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center", color=INK)
    axes.set(xlabel=axis, ylabel="rows")
    text = f"Rows of total weight {found.weights.sum():,.6g}"
    if values.size:
        text += f", from {values.min():.3g} to {values.max():.3g}{unit}"
        text += "".join(f", {mark} {at:.4g}" for mark, at in marks.items())
    for left_out, what in ((found.values == 0) & ~drawn, "0"), (np.isinf(found.values), "infinite"):
        weight = found.weights[left_out].sum()
        if weight:
            text += f"; {weight:,.6g} of it is {what} and not drawn"
    return Plot(name, title, text + ".", _svg(figure, name))


def _edges(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """41 edges around the values; of a single one, some room to both sides."""
    if logarithmic:
        low, high = math.log10(max(values.min(), 1e-12)), math.log10(values.max())
        return np.logspace(low - 1e-9, max(high, low + 0.1) + 1e-9, 41)
    low, high = values.min(), values.max()
    room = (high - low) / 1e6 or abs(low) / 2 or 0.5
    return np.linspace(low - room, high + room, 41)


@_styled
def confidence(bins: Bins, words: Words) -> Plot:
    """How sure the predictions are, the rows that were hits apart from the others."""
    figure, axes = _figure()
    right, wrong = bins.hits, bins.weight - bins.hits
    width = 1 / len(bins.weight)
    for heights, color, label, hatch in (
        (right, FIRST, words.hit, ""),
        (wrong, SECOND, words.miss, "///"),
    ):
        share = heights / heights.sum() if heights.sum() > 0 else heights
        axes.bar(
            bins.edges[:-1], share, width, align="edge", color=color, alpha=0.6,
            edgecolor=color, hatch=hatch, label=f"{label} ({heights.sum():,.6g} rows)",
        )  # fmt: skip
    seen = np.flatnonzero(bins.weight > 0)
    low, high = (bins.edges[seen[0]], bins.edges[seen[-1] + 1]) if seen.size else (0, 1)
    axes.set(xlabel=words.axis, ylabel="share of its rows", xlim=(low, high))
    axes.legend(frameon=False)
    middle = (bins.edges[:-1] + bins.edges[1:]) / 2
    parts = []
    for heights, label in ((right, words.hit), (wrong, words.miss)):
        if heights.sum() > 0:
            sure = heights[middle > 0.9].sum() / heights.sum()
            parts.append(f"{label}: {100 * sure:.1f} % lie above 0.9")
    text = "; ".join(parts) or "no rows"
    return Plot(
        "confidence",
        words.title,
        text[0].upper() + text[1:] + ".",
        _svg(figure, "confidence"),
    )


@_styled
def worst_groups(
    names: list[str], values: list[float], errors: list[float], total: float, unit: str = "nats"
) -> Plot:
    """The groups of highest loss with their standard errors, and the loss of all rows."""
    import matplotlib

    labels = [_wrapped(name) for name in names]
    lines = max(label.count("\n") for label in labels) + 1
    if not _has_glyphs("".join(labels)):
        matplotlib.rcParams["svg.fonttype"] = "none"  # the browser has fonts for all scripts
    figure, axes = _figure(1, 1.2 + (0.14 + 0.14 * lines) * len(names))
    order = list(range(len(names)))[::-1]
    axes.errorbar(values, order, xerr=errors, fmt="o", color=FIRST, capsize=3)
    axes.axvline(total, color=INK, linewidth=1, linestyle="--", label="all rows")
    axes.set_yticks(order, labels, fontsize=8, parse_math=False)
    axes.set(xlabel=f"cross-entropy ({unit})", ylim=(-0.7, len(names) - 0.3))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", frameon=False)
    pairs = zip(labels[:NAMED], values, strict=False)
    listed = ", ".join(f"{' '.join(label.split())} {value:.4g}" for label, value in pairs)
    more = ", ..." if len(names) > NAMED else ""
    text = f"Highest losses: {listed}{more}; all rows: {total:.4g} {unit}."
    return Plot("groups", "Worst groups", text, _svg(figure, "groups"))


def _wrapped(name: str) -> str:
    """A name in at most three lines of printable characters."""
    text = "".join(c if c.isprintable() else " " for c in name)
    return textwrap.fill(text, 32, max_lines=3, placeholder=" ...") or "(empty)"


def _has_glyphs(text: str) -> bool:
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    return all(font.get_char_index(ord(c)) for c in text if c != "\n")
