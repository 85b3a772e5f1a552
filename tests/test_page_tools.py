"""The page in a browser: sorting, filtering, narrow, dark and printed."""

import json
import os
import shutil

import numpy as np
import pytest

import fastent as fe
from fastent.report.numbers import with_error

pytest.importorskip("jinja2")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine"
    ),
]
RNG = np.random.default_rng(3)
ROWS = 6000
LABELS = RNG.integers(0, 4, ROWS)
LOGITS = RNG.normal(size=(ROWS, 4)) + np.eye(4)[LABELS]
NAMES = np.array([f"group_{k:03}_of_a_long_name" for k in range(60)])[RNG.integers(0, 60, ROWS)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    acc = fe.Accumulator(["cross_entropy", "accuracy", "ece", "skill"], kind="logits")
    report = acc.update(LABELS, LOGITS, groups=NAMES).compute()
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(report.to_html("Model"), encoding="utf-8")
    return path.as_uri(), json.loads(report.to_json())


def section(page, title):
    return page.locator("section", has=page.locator(f"h2:text-is('{title}')"))


def test_numbers_sorting_and_filter(browser, made):
    uri, document = made
    page = browser.new_page()
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(uri)
    for row in section(page, "Metrics").locator("tbody tr").all():
        name, value, *_ = row.locator("th, td").all_text_contents()
        entry = document["metrics"][name]
        assert value == with_error(entry["value"], entry["stderr"])
    groups = section(page, "Groups")
    shown = groups.locator("tbody tr:visible")
    assert shown.count() == 20 and "20 of 60 groups shown" in groups.text_content()
    values = {name: group["accuracy"]["value"] for name, group in document["groups"].items()}
    for rising in (False, True):
        groups.locator("thead button", has_text="accuracy").click()
        names = shown.locator("th").all_text_contents()
        expected = sorted(values.values(), reverse=not rising)[:20]
        assert [values[name] for name in names] == expected
        full = shown.locator("td:nth-child(4)").evaluate_all(
            "cells => cells.map(c => c.dataset.value)"
        )
        assert [float(text) for text in full] == expected
    groups.get_by_text("show all").click()
    assert shown.count() == 60
    groups.locator("input").fill("GROUP_01")
    assert shown.count() == 10 and "10 of 10 found of 60 groups shown" in groups.text_content()
    assert said == []
    page.close()


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_widths_and_colours(browser, made, width, scheme):
    """Nothing is wider than the page, names of ours are not broken, text stands out."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(made[0])
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    line = page.evaluate("parseFloat(getComputedStyle(document.body).lineHeight)")
    for cell in section(page, "Metrics").locator("tbody th").all():
        assert cell.bounding_box()["height"] < 2 * line
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        ".map(c => c.match(/\\d+/g).reduce((a, b) => a + Number(b), 0))"
    )
    assert ink - paper > 400 if scheme == "dark" else paper - ink > 400
    page.emulate_media(media="print")  # is on paper, whatever the screen has
    assert page.locator("button:visible", has_text="show all").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()
