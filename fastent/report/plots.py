"""The plots of the page: matplotlib figures as SVG that stands inside the page."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastent._fork import Lock
from fastent.report import histogram
from fastent.report.intervals import interval
from fastent.report.style import FONTS, LIGHT

INK, FIRST, SECOND = LIGHT["ink"], LIGHT["first"], LIGHT["second"]
NAMED = 3  # groups in the words below their plot
NAME_WIDTH = 24  # of a line of a group's name
MARK = "mark:"  # how the id of a mark begins that says what it shows
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters are text, in the font of the page
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LIGHT["line"],
    "axes.axisbelow": True,
    "hatch.linewidth": 1.0,
    "xtick.major.pad": 5,
    "ytick.major.pad": 5,
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
    """Confidence bins: weight, sum of confidence and sum of hits in each; of equal width, unless
    their upper bounds are given."""

    weight: np.ndarray
    confidence: np.ndarray
    hits: np.ndarray
    rows_a_weight: float = 1.0  # how many rows a weight of 1 stands for
    upper: np.ndarray | None = None

    @property
    def edges(self) -> np.ndarray:
        if self.upper is not None:
            return np.concatenate([[0.0], self.upper])
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
class Words:
    """What a task calls the two kinds of rows and how sure a prediction is."""

    title: str
    axis: str
    hit: str
    miss: str


CONFIDENCE = Words("Confidence by correctness", "confidence", "right", "wrong")
PROBABILITY = Words("Probability by target", "probability of target 1", "target 1", "target 0")
Marks = Mapping[str, float]
# One thread at a time: matplotlib's settings and the filters of warnings are the process's, and two
# that change and restore them by turns leave them changed.
_drawing = Lock()


def _figure(rows: int = 1, height: float = 3.3) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, height), layout="constrained")
    ratios = [3, 1][:rows]
    return figure, figure.subplots(rows, 1, sharex=True, height_ratios=ratios)


def _legend(axes: Any) -> None:
    """Above the axes, where no data is."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=9,
                borderaxespad=0.2, handlelength=1.6, columnspacing=1.2)  # fmt: skip


def _svg(figure: Any, name: str) -> str:
    """SVG without what a page has no use for, and ids that no other plot has."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        # It measures text with its own font, though the browser's is used.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(
            stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(rf'<g id="{MARK}([^"]*)">(.*?)\n *</g>', _mark, text, flags=re.DOTALL)
    for colour, shade in LIGHT.items():
        text = text.replace(shade, f"var(--{colour})")
    text = re.sub(r"; font-family: [^;\"]*", "", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    return text.replace("<svg ", '<svg aria-hidden="true" ', 1)


def _say(artist: Any, shown: list[dict[str, float]], words: list[str]) -> None:
    """Let marks tell their numbers: in full as attributes, and in words where a pointer rests.

    Parameters
    ----------
    artist : matplotlib Artist
        A bar, or a collection of points.
    shown : list of dict
        The numbers of each of its marks by name.
    words : list of str
    """
    told = [
        ({name: repr(float(x)) for name, x in one.items()}, text)
        for one, text in zip(shown, words, strict=True)
    ]
    artist.set_gid(MARK + base64.b64encode(json.dumps(told).encode()).decode())


def _mark(found: re.Match[str]) -> str:
    """Of an artist that `_say` was told of."""
    told = json.loads(base64.b64decode(found[1]))
    tags = [
        (" ".join(f'data-{name}="{x}"' for name, x in shown.items()), html.escape(words))
        for shown, words in told
    ]
    uses = found[2].count("<use ")
    if not uses:  # a bar
        ((data, words),) = tags
        return f'<g class="mark" {data}><title>{words}</title>{found[2]}\n</g>'
    each = iter(tags)

    def one(use: re.Match[str]) -> str:
        data, words = next(each)
        return f'<use class="mark" {data}{use[1]}><title>{words}</title></use>'

    return "<g>" + re.sub(r"<use([^>]*?)/>", one, found[2]) + "\n</g>"


def _styled(draw: Any) -> Any:
    """Draw under our style and with ids that do not change from run to run."""

    def styled(*arguments: Any) -> Plot:
        import matplotlib

        with _drawing, matplotlib.rc_context({**STYLE, "svg.hashsalt": draw.__name__}):
            return draw(*arguments)  # type: ignore[no-any-return]

    return styled


@_styled
def reliability(bins: Bins, words: Words) -> Plot:
    """Observed frequency against what was predicted, with the rows in each bin below."""
    figure, (above, below) = _figure(2, 4.4)
    table = bins.table()
    used = bins.weight > 0
    confidence, accuracy = table["confidence"], table["frequency"]
    draw_reliability(above, table, words)
    above.set(xlabel="")
    _legend(above)
    width = 1 / len(bins.weight)
    bars = below.bar(bins.edges[:-1], bins.weight, width, align="edge", color=FIRST,
                     edgecolor="none")  # fmt: skip
    below.set(xlabel=words.axis, ylabel="rows")
    said = []
    for k, bar in enumerate(bars):
        span = f"({bins.edges[k]:.2f}, {bins.edges[k + 1]:.2f}]: {bins.weight[k]:,.6g} rows"
        _say(bar, [{"lower": bins.edges[k], "upper": bins.edges[k + 1],
                    "weight": bins.weight[k]}], [span])  # fmt: skip
        said.append(f"{span}, predicted {confidence[k]:.3f}, observed {accuracy[k]:.3f} "
                    f"({table['low'][k]:.3f} to {table['high'][k]:.3f})")  # fmt: skip
    points = above.scatter(confidence[used], accuracy[used], s=60, color=FIRST, alpha=0)
    names = ("weight", "confidence", "frequency", "low", "high")
    shown = [{name: table[name][k] for name in names} for k in np.flatnonzero(used)]
    _say(points, shown, [said[k] for k in np.flatnonzero(used)])
    gap = np.abs(confidence - accuracy)[used]
    text = f"{int(used.sum())} of {len(used)} bins are used"
    if gap.size:
        worst = int(np.flatnonzero(used)[np.argmax(gap)])
        text += (
            f"; the largest gap is in ({bins.edges[worst]:.2f}, {bins.edges[worst + 1]:.2f}]: "
            f"predicted {confidence[worst]:.3f}, observed {accuracy[worst]:.3f}, "
            f"weight {bins.weight[worst]:,.6g}"
        )
    return Plot("reliability", "Reliability", text + ".", _svg(figure, "reliability"))


def in_our_style(axes: Any, draw: Any) -> Any:
    """Draw on axes, or on those of a new figure, in the colours and the font of the site."""
    import matplotlib
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [font for font in FONTS if font in installed]
    with _drawing, matplotlib.rc_context({**STYLE, "font.family": [*fonts, "sans-serif"]}):
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.subplots(layout="constrained")[1]
        draw(axes)
    return axes


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
    name: str, title: str, axis: str, found: histogram.Distribution, marks: Marks, unit: str = ""
) -> Plot:
    """Histogram of row values with lines at ``marks``; what cannot be drawn is told in words."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis, unit = (f"{axis} ({unit})", f" {unit}") if unit else (axis, "")
    figure, axes = _figure()
    held = histogram.bars(found)
    edges, finite = held.edges, found.values[np.isfinite(found.values)]
    if held.weights.size:
        drawn = axes.bar(edges[:-1], held.weights, np.diff(edges), align="edge", color=FIRST,
                         edgecolor="none")  # fmt: skip
        for low, high, height, bar in zip(edges, edges[1:], held.weights, drawn, strict=False):
            _say(bar, [{"lower": low, "upper": high, "weight": height}],
                 [f"{low:.4g} to {high:.4g}{unit}: {height:,.6g} rows"])  # fmt: skip
        if held.logarithmic:
            finite = finite[finite > 0]
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(numticks=6))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        shown = {m: at for m, at in marks.items() if edges[0] <= at <= edges[-1]}
        for style, (mark, at) in zip(("-", "--", "-.", ":"), shown.items(), strict=False):
            axes.axvline(at, color=INK, linewidth=1, linestyle=style, label=f"{mark} {at:.4g}")
        if shown:
            _legend(axes)
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center", color=INK)
    axes.set(xlabel=axis, ylabel="rows")
    text = f"Rows of total weight {found.weights.sum():,.6g}"
    if held.weights.size:
        text += f", from {finite.min():.3g} to {finite.max():.3g}{unit}"
        text += "".join(f", {mark} {at:.4g}" for mark, at in marks.items())
    for weight, what in ((held.zero, "0"), (held.infinite, "infinite")):
        if weight:
            text += f"; {weight:,.6g} of it is {what} and not drawn"
    return Plot(name, title, text + ".", _svg(figure, name))


@_styled
def confidence(bins: Bins, words: Words) -> Plot:
    """How sure the predictions are, the rows that were hits apart from the others."""
    figure, axes = _figure()
    right, wrong = bins.hits, bins.weight - bins.hits
    width = 1 / len(bins.weight)
    for heights, color, label, hatch in (
        (right, FIRST, words.hit, ""),
        (wrong, SECOND, words.miss, "////"),
    ):
        share = heights / heights.sum() if heights.sum() > 0 else heights
        filled = "none" if hatch else (color, 0.45)
        bars = axes.bar(
            bins.edges[:-1], share, width, align="edge", facecolor=filled, edgecolor=color,
            hatch=hatch, label=f"{label} ({heights.sum():,.6g} rows)",
        )  # fmt: skip
        for k, bar in enumerate(bars):
            lower, upper = bins.edges[k], bins.edges[k + 1]
            _say(bar, [{"lower": lower, "upper": upper, "weight": heights[k], "share": share[k]}],
                 [f"({lower:.2f}, {upper:.2f}]: {heights[k]:,.6g} rows, {100 * share[k]:.3g} % of "
                  f"those with {label}"])  # fmt: skip
    seen = np.flatnonzero(bins.weight > 0)
    low, high = (bins.edges[seen[0]], bins.edges[seen[-1] + 1]) if seen.size else (0, 1)
    axes.set(xlabel=words.axis, ylabel="share of its rows", xlim=(low, high))
    _legend(axes)
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
    labels = [_wrapped(name) for name in names]
    lines = max(label.count("\n") for label in labels) + 1
    figure, axes = _figure(1, 1.2 + (0.14 + 0.14 * lines) * len(names))
    order = list(range(len(names)))[::-1]
    axes.errorbar(values, order, xerr=errors, fmt="o", color=FIRST, capsize=3)
    points = axes.scatter(values, order, s=60, color=FIRST, alpha=0)
    _say(points, [{"value": x, "stderr": e} for x, e in zip(values, errors, strict=True)],
         [f"{' '.join(label.split())}: {x:.4g} ± {e:.2g} {unit}"
          for label, x, e in zip(labels, values, errors, strict=True)])  # fmt: skip
    axes.axvline(total, color=INK, linewidth=1, linestyle="--", label="all rows")
    axes.set_yticks(order, labels, fontsize=8, parse_math=False)
    axes.set(xlabel=f"cross-entropy ({unit})", ylim=(-0.7, len(names) - 0.3))
    _legend(axes)
    pairs = zip(labels[:NAMED], values, strict=False)
    listed = ", ".join(f"{' '.join(label.split())} {value:.4g}" for label, value in pairs)
    more = ", ..." if len(names) > NAMED else ""
    text = f"Highest losses: {listed}{more}; all rows: {total:.4g} {unit}."
    return Plot("groups", "Worst groups", text, _svg(figure, "groups"))


def _wrapped(name: str) -> str:
    """A name in at most three lines of printable characters."""
    text = "".join(c if c.isprintable() else " " for c in name)
    wide = any(unicodedata.east_asian_width(c) in "FW" for c in text)
    width = NAME_WIDTH // 2 if wide else NAME_WIDTH
    return textwrap.fill(text, width, max_lines=3, placeholder=" ...") or "(empty)"
