"""The documentation site: built without a warning, opened in a real browser, without a network."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium")
PARTS = ("sphinx", "numpydoc", "myst_parser", "pydata_sphinx_theme")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "docs/conf.py").exists(), reason="needs the source"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(part) is None for part in PARTS), reason="needs the extra docs"
    ),
]
PAGES = ("index.html", "which-function.html", "tutorials/files.html", "metrics.html",
         "reference/fastent.kl_divergence.html", "accuracy.html", "migrating.html")  # fmt: skip

# Luminances of the text and of what lies behind it, as the rules for contrast compute them.
CONTRAST = """element => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = element, colour;
  do { colour = parts(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
  while (colour.length === 4 && colour[3] === 0 && behind);
  const [a, b] = [luminance(parts(getComputedStyle(element).color)), luminance(colour)];
  return {ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), behind: b};
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs",
                    ignore=shutil.ignore_patterns("_build", "reference"))  # fmt: skip
    shutil.copy(ROOT / "CHANGELOG.md", folder)
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html",
         "docs", "html"], cwd=folder, capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 0, run.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def browser(site):
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, request):
    """A page whose console must stay empty of errors and that may ask for files only."""
    page = browser.new_page(**getattr(request, "param", {}))
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else 0)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    assert not said
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked


def test_links_inside_are_whole(site):
    run = subprocess.run([sys.executable, ROOT / "scripts/check_links.py", site],
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 0, run.stdout


def test_a_broken_link_is_found(site, tmp_path):
    """What the test above stands on."""
    (tmp_path / "a.html").write_text(
        '<a href="b.html#no"></a><a href="c.html"></a><script src="https://x.example/y.js"></script>',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<p id="yes">', encoding="utf-8")
    run = subprocess.run([sys.executable, ROOT / "scripts/check_links.py", tmp_path],
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 1 and len(run.stdout.splitlines()) == 3, run.stdout


@pytest.mark.parametrize("wanted", ["kl_divergence", "Accumulator", "renyi_divergence"])
def test_search_finds(site, page, wanted):
    page.goto((site / "search.html").as_uri() + f"?q={wanted}")
    first = page.locator("#search-results li a").first
    first.wait_for(timeout=20_000)
    found = page.locator("#search-results li a").evaluate_all("links => links.map(a => a.href)")
    assert any(f"/reference/fastent.{wanted}.html" in link for link in found[:3]), found[:3]


def test_every_public_name_has_a_page(site):
    import fastent

    for name in set(fastent.__all__) - {"__version__"}:
        modules = [name, *(f"{m}.{name}" for m in fastent._MODULES)]
        assert any((site / f"reference/fastent.{m}.html").exists() for m in modules), name


@pytest.mark.parametrize("page", [{"viewport": {"width": 400, "height": 800}}], indirect=True)
@pytest.mark.parametrize("name", PAGES)
def test_it_is_readable_on_a_telephone(site, page, name):
    page.goto((site / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    heading = page.locator("h1").first
    assert heading.is_visible() and heading.bounding_box()["width"] <= 400
    size = page.locator("article p").first.evaluate("p => parseFloat(getComputedStyle(p).fontSize)")
    assert size >= 14


@pytest.mark.parametrize("page", [{"color_scheme": "dark"}, {"color_scheme": "light"}],
                         indirect=True, ids=["dark", "light"])  # fmt: skip
@pytest.mark.parametrize("name", PAGES)
def test_text_stands_out_in_both_themes(site, page, name, request):
    page.goto((site / name).as_uri())
    dark = "dark" in request.node.callspec.id.split("-")
    for part in ("article p", "h1", "article pre", "article td", "article a"):
        for element in page.locator(part).all()[:3]:
            if element.is_visible():
                seen = element.evaluate(CONTRAST)
                assert seen["ratio"] >= 4.5, (part, seen)
                assert (seen["behind"] < 0.2) == dark, (part, seen)


@pytest.mark.parametrize("page", [{"color_scheme": "dark"}, {"color_scheme": "light"}],
                         indirect=True, ids=["dark", "light"])  # fmt: skip
def test_figures_are_drawn_for_the_theme(site, page, request):
    page.goto((site / "index.html").as_uri())
    shown = [
        image
        for image in page.locator("article img").all()
        if image.is_visible() and image.evaluate("i => i.complete && i.naturalWidth > 300")
    ]
    names = {image.get_attribute("src").rsplit("/", 1)[1] for image in shown}
    suffix = "-dark" if request.node.callspec.id == "dark" else ""
    assert names == {f"errors{suffix}.svg", f"speed{suffix}.svg"}
