"""The page in a browser: tables and plots show the JSON; legible at any width, dark, printed; quick
to open with very many groups or inputs."""

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main
from fastent.report.numbers import with_error

pytest.importorskip("jinja2")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine"
    ),
]
ROWS, CLASSES = 4000, 6
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, CLASSES, ROWS)
LOGITS = RNG.normal(size=(ROWS, CLASSES)) * 2 + 2 * np.eye(CLASSES)[LABELS]
GROUPS = np.array([f"region_{k:02}/a-long.name_of_a_group" for k in range(50)])[
    RNG.integers(0, 50, ROWS)
]
# Boxes of words that lie on more than one line: broken where no part of a name ends.
BROKEN = """() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    const holder = node.parentElement;
    if (holder.closest("svg, script, style") || !holder.checkVisibility()) continue;
    for (const word of node.data.matchAll(/[^\\s\\-/,–]+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
      if (tops.size > 1) found.push(word[0]);
    }
  }
  return found;
}"""
# Texts of a plot that lie over each other.
OVERLAPS = """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")];
  const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
  const found = [];
  boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    const least = Math.min(a.width * a.height, b.width * b.height);
    if (wide > 0 && high > 0 && wide * high > least / 10) found.push([one, other]);
  }));
  return found;
})"""
# Texts of a plot that stick out of its figure.
OUTSIDE = """() => [...document.querySelectorAll("figure")].flatMap(figure => {
  const frame = figure.getBoundingClientRect();
  return [...figure.querySelectorAll("svg text")].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 2 || box.right > frame.right + 2;
  }).map(text => text.textContent);
})"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with pages and documents of scores and of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    before = Path.cwd()
    os.chdir(folder)
    try:
        np.save("x.npy", LOGITS)
        np.save("q.npy", LOGITS + RNG.normal(0, 0.4, LOGITS.shape))
        np.save("y.npy", LABELS)
        np.save("g.npy", GROUPS)
        more = ["--labels", "y.npy", "--kind", "logits", "--groups", "g.npy", "--quiet"]
        assert main(["score", "x.npy", *more, "--worst", "5", "--clusters", "g.npy",
                     "--html", "score.html", "--json", "score.json"]) == 0  # fmt: skip
        assert main(["compare", "x.npy", "q.npy", *more, "--html", "compare.html",
                     "--json", "compare.json"]) == 0  # fmt: skip
    finally:
        os.chdir(before)
    return folder


def opened(browser, folder, name, **view):
    page = browser.new_page(**view)
    page.goto((folder / f"{name}.html").as_uri())
    return page, json.loads((folder / f"{name}.json").read_text())


def marks(page, plot):
    """What each mark of a plot says of itself, and the box in which it is drawn."""
    return page.evaluate(
        """plot => [...document.querySelectorAll(`[aria-labelledby="${plot}-title"] .mark`)]
           .map(m => {
             const box = m.getBoundingClientRect();
             return {...m.dataset, words: m.querySelector("title").textContent, left: box.left,
                     right: box.right, top: box.top, bottom: box.bottom};
           })""",
        plot,
    )


def linear(x, y, to=1.0):
    """Whether places on the screen are a linear map of numbers, to some pixels."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    fitted = np.polyval(np.polyfit(x, y, 1), x)
    return np.abs(fitted - y).max() < to


def middle(mark, one, other):
    return (mark[one] + mark[other]) / 2


def test_tables_hold_the_numbers_of_the_document(browser, made):
    for name in ("score", "compare"):
        page, document = opened(browser, made, name)
        tables = page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll("section")].map(section => [
                 section.querySelector("h2").textContent,
                 [...section.querySelectorAll("tr")].map(
                   row => [...row.cells].map(c => c.textContent))]))"""
        )
        units = {}
        for metric, cell, *rest in tables["Metrics"][1:]:
            entry = document["metrics"][metric]
            value, error = (
                None if entry[k] is None else float(entry[k]) for k in ("value", "stderr")
            )
            assert cell == with_error(value, error)
            units[metric] = rest[-1]
        losses = [m for m in units if m.startswith(("cross_entropy", "entropy", "kl_", "reverse_"))]
        assert len(losses) > 1 and all(units[metric] == "nats" for metric in losses)
        head, *rows = tables["Groups"]
        assert "(nats)" in head[2]
        assert {row[0] for row in rows} == set(document["groups"])
        for group, _, *cells in rows:
            for metric, cell in zip((h.split(" ")[0] for h in head[2:]), cells, strict=True):
                entry = document["groups"][group][metric]
                assert cell == with_error(float(entry["value"]), entry["stderr"])
        page.close()


def test_classes_and_the_confusion_matrix(browser, made):
    """Drawn without being asked for; each cell says what it is and is shaded by its share."""
    page, _ = opened(browser, made, "score")
    table = np.zeros((CLASSES, CLASSES), int)
    np.add.at(table, (LABELS, LOGITS.argmax(1)), 1)
    cells = page.locator("section.matrix tbody td")
    assert [int(c.replace(",", "")) for c in cells.all_text_contents()] == table.ravel().tolist()
    shares = cells.evaluate_all("all => all.map(c => Number(c.style.getPropertyValue('--share')))")
    expected = table / table.sum(1, keepdims=True)
    np.testing.assert_allclose(shares, expected.ravel(), atol=5e-4)
    assert cells.nth(1).get_attribute("title") == (
        f"label 0, predicted 1: {table[0, 1]} rows, {100 * round(expected[0, 1], 3):.3g} % of the "
        "label's"
    )
    acc = fe.Accumulator(["precision", "recall", "f1"], kind="logits").update(LABELS, LOGITS)
    report = acc.compute()
    rows = page.locator("section", has=page.locator("h2:text-is('Classes')")).locator("tbody tr")
    for k, row in enumerate(rows.all()):
        name, count, predicted, *found = row.locator("th, td").all_text_contents()
        assert name == str(k)
        assert int(count.replace(",", "")) == table[k].sum()
        assert int(predicted.replace(",", "")) == table[:, k].sum()
        assert found == [
            with_error(result.per_class[k], result.per_class_stderr[k])
            for result in report.values()
        ]
    page.close()


def test_a_matrix_of_very_many_classes_is_left_to_the_document(browser, tmp_path):
    labels = np.arange(40)
    acc = fe.Accumulator(["confusion", "recall"], kind="logits")
    path = tmp_path / "page.html"
    path.write_text(acc.update(labels, np.eye(40)).compute().to_html(), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert "has 40 classes, more than 30: it is in the JSON" in page.content()
    assert page.locator("section.matrix td").count() == 0
    assert page.locator("section[data-what=classes] tbody tr").count() == 40
    page.close()


def test_every_table_says_how_many_of_how_many(browser, made):
    for name in ("score", "compare"):
        page, _ = opened(browser, made, name)
        for section in page.locator("section").all():
            shown = section.locator("tbody tr:visible").count()
            held = section.locator("tbody tr").count()
            assert f"{shown} of {held} " in section.locator(".showing").text_content()
        page.close()


def test_the_verdict_has_the_interval(browser, made):
    page, document = opened(browser, made, "compare")
    entry = document["metrics"]["cross_entropy_difference"]
    said = page.locator(".verdict").text_content()
    assert said == document["verdict"] and said.startswith("Q is worse than P")
    assert with_error(entry["value"], entry["stderr"]) + " nats a row" in said
    ends = [float(x) for x in said.rstrip(".").split("interval ")[1].split(" to ")]
    assert ends == pytest.approx(entry["interval"], rel=0.02)
    page.close()


def test_reliability_is_drawn_where_its_numbers_are(browser, made):
    page, document = opened(browser, made, "score")
    bins = document["calibration"]
    used = [k for k, weight in enumerate(bins["weight"]) if weight]
    found = marks(page, "reliability")
    points = [m for m in found if "frequency" in m]
    bars = [m for m in found if "lower" in m]
    assert len(points) == len(used) and len(bars) == len(bins["weight"]) == 15
    for point, k in zip(points, used, strict=True):
        for name in ("weight", "confidence", "frequency", "low", "high"):
            assert float(point[name]) == bins[name][k]
        assert f"observed {bins['frequency'][k]:.3f}" in point["words"] and "rows" in point["words"]
    assert linear([p["confidence"] for p in points], [middle(p, "left", "right") for p in points])
    assert linear([p["frequency"] for p in points], [middle(p, "top", "bottom") for p in points])
    assert [float(bar["weight"]) for bar in bars] == bins["weight"]
    assert linear([b["weight"] for b in bars], [b["bottom"] - b["top"] for b in bars])
    assert linear([b["lower"] for b in bars], [b["left"] for b in bars])
    page.close()


def test_histograms_hold_all_rows(browser, made):
    page, document = opened(browser, made, "score")
    losses = fe.sparse_cross_entropy(LABELS, LOGITS, kind="logits")
    bars = marks(page, "cross_entropy")
    weights = np.array([float(bar["weight"]) for bar in bars])
    edges = np.array([float(bar["lower"]) for bar in bars] + [float(bars[-1]["upper"])])
    held = document["histograms"]["cross_entropy"]
    for name in ("lower", "upper", "weight"):
        assert [float(bar[name]) for bar in bars] == held[name]
    assert held["zero"] == held["infinite"] == 0
    assert weights.sum() == pytest.approx(ROWS)
    assert edges[0] == pytest.approx(losses.min(), rel=0.02)  # on the range of the data
    assert edges[-1] == pytest.approx(losses.max(), rel=0.02)
    for k in range(1, len(edges) - 1):
        below = np.sum(losses < edges[k] * 0.99), np.sum(losses < edges[k] * 1.01)
        assert below[0] <= weights[:k].sum() <= below[1]
    assert linear(weights, [b["bottom"] - b["top"] for b in bars])
    assert linear(np.log(edges[:-1]), [b["left"] for b in bars])
    assert all("nats" in bar["words"] and "rows" in bar["words"] for bar in bars)
    shares = marks(page, "confidence")
    right = document["metrics"]["accuracy"]["value"] * ROWS
    assert sum(float(m["weight"]) for m in shares[:15]) == pytest.approx(right)
    assert sum(float(m["weight"]) for m in shares) == pytest.approx(ROWS)
    assert linear([m["share"] for m in shares], [m["bottom"] - m["top"] for m in shares], 2.5)
    page.close()


def test_every_drawn_distribution_is_in_the_document(browser, made):
    page, document = opened(browser, made, "compare")
    assert {"kl_divergence", "js_divergence", "delta_p"} <= document["histograms"].keys()
    for metric, held in document["histograms"].items():
        bars = marks(page, metric)
        for name in ("lower", "upper", "weight"):
            assert [float(bar[name]) for bar in bars] == held[name], metric
        left = float(held["zero"]) + float(held["infinite"])
        assert sum(held["weight"]) + left == pytest.approx(ROWS)
    page.close()


def test_worst_groups_are_those_of_the_document(browser, made):
    page, document = opened(browser, made, "score")
    losses = sorted(
        (g["cross_entropy"]["value"] for g in document["groups"].values()), reverse=True
    )
    points = marks(page, "groups")
    assert [float(p["value"]) for p in points] == losses[:15]
    assert linear(losses[:15], [middle(p, "left", "right") for p in points])
    assert all(a["top"] < b["top"] for a, b in itertools.pairwise(points))
    assert all("nats" in p["words"] for p in points)
    page.close()


@pytest.mark.parametrize("name", ["score", "compare"])
@pytest.mark.parametrize(
    "view",
    [{"viewport": {"width": 400, "height": 900}, "color_scheme": "dark"},
     {"viewport": {"width": 1400, "height": 900}}, {"viewport": {"width": 718, "height": 900}}],
    ids=["400", "1400", "printed"],
)  # fmt: skip
def test_no_broken_word_and_no_overlap(browser, made, name, view):
    page, _ = opened(browser, made, name, **view)
    if view["viewport"]["width"] == 718:  # A4 less its margins
        page.emulate_media(media="print")
    assert page.evaluate(BROKEN) == []
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    page.close()


def test_axes_have_units(browser, made):
    for name, wanted in (("score", 2), ("compare", 8)):
        page, _ = opened(browser, made, name)
        texts = page.locator("figure svg text").all_text_contents()
        assert sum("(nats)" in text for text in texts) >= wanted
        assert not [t for t in texts if t.endswith("of a row") and "entropy" in t]
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out(browser, made, scheme):
    """Marks and text against the paper: at least 3 and 4.5, as the rules for contrast ask."""
    page, _ = opened(browser, made, "score", color_scheme=scheme)
    names = ("paper", "ink", "soft", "first", "second")
    found = page.evaluate(
        """names => names.map(name => {
             const one = document.createElement("i");
             one.style.color = `var(--${name})`;
             document.body.append(one);
             return getComputedStyle(one).color.match(/\\d+/g).map(Number);
           })""",
        names,
    )
    light = {}
    for name, colour in zip(names, found, strict=True):
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
                 for v in np.array(colour) / 255]  # fmt: skip
        light[name] = float(np.dot(parts, [0.2126, 0.7152, 0.0722]))
    for name, least in (("ink", 7.0), ("soft", 4.5), ("first", 4.5), ("second", 3.0)):
        a, b = sorted((light[name], light["paper"]))
        assert (b + 0.05) / (a + 0.05) >= least, name
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["groups", "inputs"])
def test_very_many_rows_open_at_once(browser, tmp_path, what):
    """100,000 groups, 10,000 inputs: below 5 MB and within 2 s; what is left out is said."""
    from fastent.report import page as pages

    acc = fe.Accumulator(["cross_entropy", "accuracy", "ece"], kind="logits")
    count = 100_000 if what == "groups" else 10
    names = np.array([f"customer-{k:06}/segment" for k in range(count)])
    report = acc.update(np.arange(count) % 3, RNG.normal(size=(count, 3)), groups=names).compute()
    inputs = [
        {"predictions": f"/data/predictions/part-{k:05}-of-10000.parquet", "rows": 12_345 + k,
         "labels": f"/data/labels/part-{k:05}-of-10000.parquet", "classes": 3, "dtype": "float32"}
        for k in range(10_000 if what == "inputs" else 0)
    ]  # fmt: skip
    document = {**report._document(), "inputs": inputs, "settings": {}, "version": "1"}
    path = tmp_path / "page.html"
    path.write_bytes(pages.of_report("Scores", report, document))
    assert path.stat().st_size < 5e6
    page = browser.new_page()
    page.goto(path.as_uri())
    opened_after = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert opened_after < 2000, opened_after
    section = page.locator(f"section[data-what={what}]")
    total = 100_000 if what == "groups" else 10_000
    held = int(section.get_attribute("data-held"))
    assert held >= 1000
    said = section.locator(".note").text_content()
    assert f"20 of {held:,} {what} shown" in said
    assert (f"{held:,} of {total:,} {what}, the JSON document" in said) == (held < total)
    # Sorted and filtered among all that the page holds, drawn while one scrolls.
    section.locator("thead button").first.click()
    section.get_by_text("show all").click()
    assert section.locator("tbody tr").count() < 1000
    section.locator("tbody tr").last.scroll_into_view_if_needed()
    page.wait_for_function(
        f"document.querySelectorAll('section[data-what={what}] tbody tr').length >= 600"
    )
    first = section.locator("tbody tr").first.locator("th").text_content()
    assert first == max(section.locator("tbody th").all_text_contents())
    section.locator("input").fill("00042")
    assert all("00042" in text for text in section.locator("tbody th").all_text_contents())
    page.close()


def test_the_site_has_the_colours_of_the_page():
    from fastent.report import style

    css = Path(__file__).parent.parent / "docs/_static/fastent.css"
    if not css.exists():
        pytest.skip("needs the source")
    for colours in (style.LIGHT, style.DARK):
        for name in ("first", "ink", "paper"):
            assert colours[name] in css.read_text()
