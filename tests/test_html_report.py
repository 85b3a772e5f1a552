"""`--html`: one page that needs nothing else, opened in a real browser."""

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fastent.cli import main

ROWS, CLASSES = 2000, 7
RNG = np.random.default_rng(6)
PLOTS = ["reliability", "losses", "confidence", "groups"]
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Folder with a page of scores and one of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    before = Path.cwd()
    os.chdir(folder)
    try:
        labels = RNG.integers(0, CLASSES, ROWS)
        logits = RNG.normal(size=(ROWS, CLASSES)) + 2 * np.eye(CLASSES)[labels]
        np.save("x.npy", logits)
        np.save("q.npy", logits + RNG.normal(0, 0.3, logits.shape))
        np.save("y.npy", labels)
        np.save("g.npy", np.array(["<b>one</b>", "two & three"])[labels % 2])
        assert main(["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--groups",
                     "g.npy", "--worst", "3", "--quiet", "--html", "score.html"]) == 0  # fmt: skip
        assert main(["compare", "x.npy", "q.npy", "--kind", "logits", "--labels", "y.npy",
                     "--quiet", "--html", "compare.html"]) == 0  # fmt: skip
    finally:
        os.chdir(before)
    return folder


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside them."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
@pytest.mark.parametrize("name", ["score.html", "compare.html"])
def test_it_points_nowhere(pages, name):
    page = Tags((pages / name).read_text())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "img")
        assert tag != "script" or not attributes  # what sorts and filters is on the page itself
        for key in ("src", "href", "xlink:href"):
            target = attributes.get(key, "#")
            assert target == "data:," or (target[0] == "#" and target[1:] in ["", *ids])
    assert not re.search(r"https?://|@import|url\((?!#)", (pages / name).read_text())


def test_it_says_what_a_reader_needs(pages):
    page = Tags((pages / "score.html").read_text())
    for words in (
        "Reliability", "Row losses", "Confidence by correctness", "Worst groups", "base rates",
        "uniform over 7 classes", "skill over the base rates", "Settings", "Versions",
        "<b>one</b>", "two & three", "2,000 rows",
    ):  # fmt: skip
        assert words in page.text
    drawn = [a for tag, a in page.tags if a.get("role") == "img"]
    assert len(drawn) == len(PLOTS)
    assert all(len(a["aria-label"]) > 30 for a in drawn)


def test_the_same_run_gives_the_same_page(pages, monkeypatch):
    monkeypatch.chdir(pages)
    assert main(["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--groups", "g.npy",
                 "--worst", "3", "--quiet", "--html", "again.html"]) == 0  # fmt: skip
    assert Path("again.html").read_bytes() == Path("score.html").read_bytes()


def test_tasks_without_calibration(pages, monkeypatch):
    monkeypatch.chdir(pages)
    np.save("t.npy", np.full((ROWS, CLASSES), 1 / CLASSES))
    assert main(["score", "x.npy", "--labels", "t.npy", "--kind", "logits", "--task",
                 "categorical", "--quiet", "--html", "soft.html"]) == 0  # fmt: skip
    assert "Row losses" in Path("soft.html").read_text()


def test_group_names_that_a_plot_could_stumble_over(pages, monkeypatch, capsys):
    """TeX, scripts that the font of the plots lacks, no name, line breaks, and very long names."""
    monkeypatch.chdir(pages)
    names = ["$\\frac{x_", "日本語", "", "two\nlines\tand tabs", "long name " * 40, "\u202e\x07"]
    np.save("names.npy", np.array(names)[np.arange(ROWS) % len(names)])
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--groups", "names.npy"]
    assert main([*words, "--metrics", "accuracy", "--quiet", "--html", "n.html"]) == 0
    page = Tags(Path("n.html").read_text())
    assert all(name in page.text for name in names if name.isprintable())
    assert [a["aria-label"] for _, a in page.tags if a.get("role") == "img"][-1].startswith("Worst")
    assert capsys.readouterr() == ("", "")


def test_a_binary_task_has_targets_and_not_right_and_wrong(pages, monkeypatch):
    monkeypatch.chdir(pages)
    np.save("b.npy", RNG.normal(size=ROWS))
    np.save("t.npy", RNG.integers(0, 2, ROWS))
    assert main(["score", "b.npy", "--labels", "t.npy", "--kind", "logits", "--task", "binary",
                 "--metrics", "brier", "--quiet", "--html", "binary.html"]) == 0  # fmt: skip
    text = Tags(Path("binary.html").read_text()).text
    assert "Probability by target" in text and "Confidence by correctness" not in text
    assert "Reliability" in text and "Row losses" in text  # drawn, whatever was asked for


@pytest.mark.slow
@pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine"
)
@pytest.mark.parametrize("name", ["score.html", "compare.html"])
def test_in_a_browser(pages, name):
    from playwright.sync_api import sync_playwright

    said, asked = [], []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(java_script_enabled=True)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((pages / name).as_uri())
        figures = page.locator("figure svg")
        assert figures.count() == (
            len(PLOTS) if name == "score.html" else page.locator("figcaption").count()
        )
        for figure in figures.all():
            box = figure.bounding_box()
            assert box["width"] > 200 and box["height"] > 80
            # A plot that is drawn has more than its frame.
            assert figure.locator("path").count() > 10
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()
    assert said == []
    assert asked == [(pages / name).as_uri()]


def test_it_says_which_rows_do_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels, logits = RNG.integers(0, 3, 50), RNG.normal(size=(50, 3))
    labels[4:7] = -1
    logits[[9, 10], 1] = np.nan
    np.save("x.npy", logits)
    np.save("y.npy", labels)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--ignore-index", "-1"]
    words += ["--nan-policy", "omit", "--quiet", "--html", "page.html"]
    assert main(words) == 0
    assert "3 ignored, 2 with NaN" in Tags(Path("page.html").read_text()).text
