"""The plots of the page: matplotlib figures as SVG that stands inside the page."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

INK = "#1a1a1a"
FIRST = "#1f5f99"
SECOND = "#c8641e"
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

    @property
    def edges(self) -> np.ndarray:
        return np.linspace(0, 1, len(self.weight) + 1)


@dataclass
class Distribution:
    """Values and the weight at each, sorted."""

    values: np.ndarray
    weights: np.ndarray


def _figure(rows: int = 1, height: float = 3.6) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), layout="constrained")
    ratios = [3, 1][:rows]
    return figure, figure.subplots(rows, 1, sharex=True, height_ratios=ratios)


def _svg(figure: Any, name: str) -> str:
    """SVG without what a page has no use for, and ids that no other plot has."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
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
def reliability(bins: Bins) -> Plot:
    """Accuracy against confidence, with the rows in each bin below."""
    figure, (above, below) = _figure(2, 4.8)
    used = bins.weight > 0
    weight = np.where(used, bins.weight, 1)
    confidence, accuracy = bins.confidence / weight, bins.hits / weight
    above.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="calibrated")
    above.plot(confidence[used], accuracy[used], "o-", color=FIRST, label="observed")
    above.set(ylabel="observed frequency", ylim=(-0.02, 1.02), xlim=(0, 1))
    above.legend(frameon=False)
    width = 1 / len(bins.weight)
    below.bar(bins.edges[:-1], bins.weight, width, align="edge", color=FIRST, edgecolor="white")
    below.set(xlabel="confidence", ylabel="rows")
    gap = np.abs(confidence - accuracy)[used]
    text = f"{int(used.sum())} of {len(weight)} bins are used"
    if gap.size:
        worst = int(np.flatnonzero(used)[np.argmax(gap)])
        text += (
            f"; the largest gap is in ({bins.edges[worst]:.2f}, {bins.edges[worst + 1]:.2f}]: "
            f"mean confidence {confidence[worst]:.3f}, observed {accuracy[worst]:.3f}, "
            f"weight {bins.weight[worst]:,.6g}"
        )
    return Plot("reliability", "Reliability", text + ".", _svg(figure, "reliability"))


@_styled
def losses(found: Distribution, unit: str) -> Plot:
    """Histogram of the row losses on a logarithmic axis; zero, inf and nan are told in words."""
    figure, axes = _figure()
    drawn = (found.values > 0) & np.isfinite(found.values)
    values, weights = found.values[drawn], found.weights[drawn]
    total = found.weights.sum()
    if values.size:
        low, high = math.log10(max(values.min(), 1e-12)), math.log10(values.max())
        edges = np.logspace(low - 1e-9, max(high, low + 0.1) + 1e-9, 41)
        heights, _ = np.histogram(np.maximum(values, edges[0]), edges, weights=weights)
        axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=FIRST, edgecolor="white")
        axes.set_xscale("log")
    axes.set(xlabel=f"cross-entropy of a row ({unit})", ylabel="rows")
    text = f"Losses of rows of total weight {total:,.6g}"
    if values.size:
        half = np.searchsorted(np.cumsum(weights), weights.sum() / 2)
        text += f", from {values.min():.3g} to {values.max():.3g}, median {values[half]:.3g}"
    zero = found.weights[found.values == 0].sum()
    infinite = found.weights[np.isinf(found.values)].sum()
    if zero:
        text += f"; {zero:,.6g} of it has loss 0 and is not drawn"
    if infinite:
        text += f"; {infinite:,.6g} of it has infinite loss and is not drawn"
    return Plot("losses", "Row losses", text + ".", _svg(figure, "losses"))


@_styled
def confidence(bins: Bins) -> Plot:
    """How sure the predictions are where they are right and where they are wrong."""
    figure, axes = _figure()
    right, wrong = bins.hits, bins.weight - bins.hits
    width = 1 / len(bins.weight)
    for heights, color, label, hatch in (
        (right, FIRST, "right", ""),
        (wrong, SECOND, "wrong", "///"),
    ):
        share = heights / heights.sum() if heights.sum() > 0 else heights
        axes.bar(
            bins.edges[:-1], share, width, align="edge", color=color, alpha=0.6,
            edgecolor=color, hatch=hatch, label=f"{label} ({heights.sum():,.6g})",
        )  # fmt: skip
    axes.set(xlabel="confidence", ylabel="share of its rows", xlim=(0, 1))
    axes.legend(frameon=False)
    middle = (bins.edges[:-1] + bins.edges[1:]) / 2
    parts = []
    for heights, label in ((right, "right"), (wrong, "wrong")):
        if heights.sum() > 0:
            sure = heights[middle > 0.9].sum() / heights.sum()
            parts.append(f"of the {label} predictions {100 * sure:.1f} % are in the bins above 0.9")
    text = "; ".join(parts) or "no rows"
    return Plot(
        "confidence",
        "Confidence by correctness",
        text[0].upper() + text[1:] + ".",
        _svg(figure, "confidence"),
    )


@_styled
def worst_groups(names: list[str], values: list[float], errors: list[float], total: float) -> Plot:
    """The groups of highest loss with their standard errors, and the loss of all rows."""
    figure, axes = _figure(1, 1.2 + 0.28 * max(1, len(names)))
    order = range(len(names))[::-1]
    axes.errorbar(values, list(order), xerr=errors, fmt="o", color=FIRST, capsize=3)
    axes.axvline(total, color=INK, linewidth=1, linestyle="--", label="all rows")
    axes.set_yticks(list(order), [name if len(name) < 30 else name[:27] + "..." for name in names])
    axes.set(xlabel="cross-entropy", ylim=(-0.7, len(names) - 0.3))
    axes.legend(frameon=False)
    text = f"The highest loss is {values[0]:.4g}, of group {names[0]}; all rows: {total:.4g}."
    return Plot("groups", "Worst groups", text, _svg(figure, "groups"))


@_styled
def divergence(name: str, found: dict[str, float]) -> Plot:
    """Quantiles of one divergence over the rows."""
    figure, axes = _figure(1, 2.6)
    shown = {key: value for key, value in found.items() if math.isfinite(value)}
    axes.barh(list(shown)[::-1], list(shown.values())[::-1], color=FIRST)
    axes.set(xlabel=name)
    text = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
    return Plot(name, f"{name} over the rows", f"{text[0].upper()}{text[1:]}.", _svg(figure, name))
