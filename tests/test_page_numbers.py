"""The numbers on the page are those of the JSON: in tables, in words and where plots draw them."""

import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main
from fastent.report import pictures, plots
from fastent.report.numbers import with_error
from fastent.report.page import yardsticks

ROWS, CLASSES, GROUPS = 900, 5, 30
RNG = np.random.default_rng(14)
LABELS = RNG.integers(0, CLASSES, ROWS) * (RNG.random(ROWS) < 0.8)
LOGITS = RNG.normal(size=(ROWS, CLASSES)) + 1.5 * np.eye(CLASSES)[LABELS]
# Groups of 1, 2, 3 ... rows, the larger the worse.
NAMES = np.array([f"g{k:02}" for k in range(GROUPS)])[
    np.minimum(np.searchsorted(np.cumsum(np.arange(1, GROUPS)), np.arange(ROWS)), GROUPS - 1)
]


class Page(HTMLParser):
    """Tables by their title, as rows of cells, and captions by the title of their plot."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.captions, self._title, self._kept = {}, {}, "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("h2", "th", "td", "figcaption"):
            self._kept = ""
        elif tag == "tr":
            self.tables.setdefault(self._title, []).append([])

    def handle_data(self, data):
        if self._kept is not None:
            self._kept += data

    def handle_endtag(self, tag):
        if tag == "h2":
            self._title = self._kept
        elif tag in ("th", "td"):
            self.tables[self._title][-1].append(self._kept)
        elif tag == "figcaption":
            self.captions[self._title] = self._kept
        if tag in ("h2", "th", "td", "figcaption"):
            self._kept = None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page and the document of the same run, and the arguments of every plot."""
    folder = tmp_path_factory.mktemp("page")
    before = Path.cwd()
    os.chdir(folder)
    drawn = {}

    def watch(name):
        draw = getattr(plots, name)

        def watched(*arguments):
            drawn[name] = arguments
            return draw(*arguments)

        return watched

    with pytest.MonkeyPatch.context() as patch:
        for name in ("reliability", "distribution", "confidence", "worst_groups"):
            patch.setattr(plots, name, watch(name))
        np.save("x.npy", LOGITS)
        np.save("y.npy", LABELS)
        np.save("g.npy", NAMES)
        words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--groups", "g.npy"]
        words += ["--clusters", "g.npy", "--worst", "7", "--json", "r.json", "--html", "r.html"]
        assert main([*words, "--quiet"]) == 0
        page, document = Page(Path("r.html").read_text()), json.loads(Path("r.json").read_text())
    os.chdir(before)
    return page, document, drawn


def test_the_table_of_metrics(made):
    page, document, _ = made
    head, *rows = page.tables["Metrics"]
    assert head == ["metric", "value ± std. error", "cluster std. error", "unit"]
    assert [row[0] for row in rows] == list(document["metrics"])
    for name, value, clustered, unit in rows:
        entry = document["metrics"][name]
        assert value == with_error(entry["value"], entry["stderr"])
        assert clustered == ("" if entry["cluster_stderr"] is None
                             else f"{entry['cluster_stderr']:.3g}")  # fmt: skip
        assert unit == {"cross_entropy": "nats", "entropy": "nats", "label_entropy": "nats",
                        "bits": "bits", "perplexity": "classes"}.get(name, "")  # fmt: skip


def test_the_yardsticks(made):
    page, document, _ = made
    loss = document["metrics"]["cross_entropy"]["value"]
    shares = np.bincount(LABELS, minlength=CLASSES) / ROWS
    base = -math.fsum(shares * np.log(shares))
    error = document["metrics"]["cross_entropy"]["stderr"]
    head, *rows = page.tables["Yardsticks"]
    assert head[1:] == ["cross-entropy (nats)", "perplexity (classes)", "skill over the base rates"]
    cells = dict((row[0], row[1:]) for row in rows)
    assert list(cells) == ["these predictions", "base rates", "uniform over 5 classes"]
    for name, nats in (("base rates", base), ("uniform over 5 classes", math.log(5))):
        assert float(cells[name][0]) == pytest.approx(nats, rel=1e-5)
        assert float(cells[name][1]) == pytest.approx(math.exp(nats), rel=1e-5)
    perplexity = document["metrics"]["perplexity"]
    assert cells["these predictions"][:2] == [
        with_error(loss, error), with_error(perplexity["value"], perplexity["stderr"])
    ]  # fmt: skip
    assert float(cells["these predictions"][2]) == pytest.approx(1 - loss / base, rel=1e-3)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(705.0, 1.5052e306), (700.0, 1.01423e304), (710.0, math.inf), (math.inf, math.inf),
     (math.nan, math.nan), (0.0, 1.0)],
)  # fmt: skip
def test_perplexities_of_great_losses(loss, expected):
    rows = yardsticks(loss, None, 10).rows
    assert float(rows[0][2]) == pytest.approx(expected, rel=1e-4, nan_ok=True)


def test_groups_of_most_rows_come_first(made):
    page, document, _ = made
    head, *rows = page.tables["Groups"]
    assert head[2:5] == ["cross_entropy (nats)", "perplexity (classes)", "bits (bits)"]
    sizes = {name: int(np.sum(name == NAMES)) for name in np.unique(NAMES)}
    assert [int(row[1].replace(",", "")) for row in rows] == sorted(sizes.values())[::-1]
    for name, count, *cells in rows:
        assert int(count.replace(",", "")) == sizes[name]
        for metric, cell in zip(head[2:], cells, strict=True):
            metric = metric.split(" ")[0]
            entry = document["groups"][name][metric]
            assert cell == with_error(
                float(entry["value"]), entry["stderr"] and float(entry["stderr"])
            )


def test_rows_of_highest_loss(made):
    page, document, _ = made
    losses = fe.sparse_cross_entropy(LABELS, LOGITS, kind="logits")
    worst = np.argsort(-losses)[:7]
    rows = page.tables["Rows of highest loss"][1:]
    assert rows == [["x.npy", str(k), f"{losses[k]:.8g}"] for k in worst]
    assert [row["row"] for row in document["worst"]] == worst.tolist()


def binned():
    """Weight, confidence and hits of the 15 bins, by hand."""
    p = np.exp(LOGITS - LOGITS.max(1, keepdims=True))
    confidence = (p / p.sum(1, keepdims=True)).max(1)
    hits = LOGITS.argmax(1) == LABELS
    places = np.ceil(confidence * 15).astype(int) - 1
    return [np.bincount(places, weights, 15) for weights in (np.ones(ROWS), confidence, hits)]


def test_the_bins_that_are_drawn(made):
    page, document, drawn = made
    weight, confidence, hits = binned()
    for name in ("reliability", "confidence"):
        found, words = drawn[name]
        np.testing.assert_allclose(found.weight, weight)
        np.testing.assert_allclose(found.confidence, confidence, rtol=1e-13)
        np.testing.assert_allclose(found.hits, hits)
        assert words is plots.CONFIDENCE
    ece = np.abs(confidence - hits).sum() / ROWS
    assert document["metrics"]["ece"]["value"] == pytest.approx(ece, rel=1e-12)
    used = weight > 0
    gap = np.where(used, np.abs(confidence - hits) / np.maximum(weight, 1), 0)
    k = int(np.argmax(gap))
    assert page.captions["Reliability"] == (
        f"{used.sum()} of 15 bins are used; the largest gap is in ({k / 15:.2f}, {(k + 1) / 15:.2f}"
        f"]: predicted {confidence[k] / weight[k]:.3f}, observed {hits[k] / weight[k]:.3f}, "
        f"weight {weight[k]:,.6g}."
    )


class Axes:
    """What is drawn and called what, instead of an image."""

    def __init__(self, monkeypatch):
        self.axes = []
        make = plots._figure

        def kept(*arguments):
            figure, axes = make(*arguments)
            self.axes = list(np.ravel(axes))
            return figure, axes

        monkeypatch.setattr(plots, "_figure", kept)


def test_where_the_points_of_reliability_lie(made, monkeypatch):
    """Predicted along x, observed along y, the rows of each bin below it."""
    weight, confidence, hits = binned()
    axes = Axes(monkeypatch)
    plots.reliability(*made[2]["reliability"])
    above, below = axes.axes
    lines = {line.get_label(): line.get_xydata() for line in above.get_lines()}
    used = weight > 0
    expected = np.stack([confidence[used] / weight[used], hits[used] / weight[used]], 1)
    np.testing.assert_allclose(above.containers[0][0].get_xydata(), expected, rtol=1e-12)
    np.testing.assert_array_equal(lines["calibrated"], [[0, 0], [1, 1]])
    assert above.get_ylabel() == "observed frequency" and below.get_xlabel() == "confidence"
    bars = [(bar.get_x(), bar.get_height()) for bar in below.patches]
    np.testing.assert_allclose(bars, np.stack([np.arange(15) / 15, weight], 1), atol=1e-12)


def test_bars_of_confidence_are_shares_of_right_and_wrong(made, monkeypatch):
    weight, _, hits = binned()
    axes = Axes(monkeypatch)
    plots.confidence(*made[2]["confidence"])
    heights = np.array([bar.get_height() for bar in axes.axes[0].patches]).reshape(2, 15)
    np.testing.assert_allclose(heights[0], hits / hits.sum())
    np.testing.assert_allclose(heights[1], (weight - hits) / (weight - hits).sum())


def test_the_worst_groups(made, monkeypatch):
    page, document, drawn = made
    losses = {name: group["cross_entropy"] for name, group in document["groups"].items()}
    order = sorted(losses, key=lambda name: -losses[name]["value"])[:15]
    names, values, errors, total, unit = drawn["worst_groups"]
    assert unit == "nats"
    assert names == order
    assert values == [losses[name]["value"] for name in order]
    assert errors == [losses[name]["stderr"] or 0.0 for name in order]
    assert total == document["metrics"]["cross_entropy"]["value"]
    axes = Axes(monkeypatch)
    plots.worst_groups(names, values, errors, total)
    (found,) = axes.axes
    points = found.get_lines()[0].get_xydata()
    ticks = {label.get_text(): place for place, label in zip(
        found.get_yticks(), found.get_yticklabels(), strict=True)}  # fmt: skip
    for (x, y), name, value in zip(points, names, values, strict=True):
        assert (x, y) == (value, ticks[name])
    assert points[0][1] == 14  # the worst one on top
    said = re.findall(r"(g\d\d) ([\d.]+)", page.captions["Worst groups"])
    assert said == [(name, f"{losses[name]['value']:.4g}") for name in order[:3]]
    assert page.captions["Worst groups"].endswith(f"all rows: {total:.4g} nats.")


def test_row_losses_add_up(made):
    losses = fe.sparse_cross_entropy(LABELS, LOGITS, kind="logits")
    name, _, axis, found, marks, unit = made[2]["distribution"]
    assert (name, axis, unit) == ("cross_entropy", "cross-entropy of a row", "nats")
    assert found.weights.sum() == pytest.approx(ROWS)
    spread = np.repeat(found.values, np.rint(found.weights).astype(int))
    np.testing.assert_allclose(spread, np.sort(losses), rtol=0.01)
    for mark, q in pictures.MARKS.items():
        expected = np.quantile(losses, q, method="inverted_cdf")
        assert marks[mark] == pytest.approx(expected, rel=0.01)


def test_settings_inputs_and_counts(made):
    page, document, _ = made
    settings = dict(page.tables["Settings"][1:])
    assert settings["kind"] == "logits" and settings["bins"] == "15"
    assert list(settings) == list(document["settings"])
    head, row = page.tables["Inputs"]
    assert dict(zip(head, row, strict=True)) == {
        key: str(value) for key, value in document["inputs"][0].items()
    }
