"""Fixtures shared by the tests: each engine this machine has, set and put back."""

import shutil
from contextlib import nullcontext

import hypothesis
import pytest

# Examples are found by seed, so that a failure is the same on every machine and every day.
hypothesis.settings.register_profile("fastent", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.load_profile("fastent")


def pytest_generate_tests(metafunc):
    for name in ("engine", "compiled"):
        if name in metafunc.fixturenames:
            import cases

            engines = [e for e in cases.engines() if name == "engine" or e[0] == "cython"]
            # every day the best SIMD level and NumPy: Numba compiles for seconds
            daily = (engines[0], ("numpy", None))
            found = [e if e in daily else pytest.param(e, marks=pytest.mark.slow) for e in engines]
            metafunc.parametrize(name, found, ids=cases.title, indirect=True, scope="module")


def use(backend, level):
    import fastent as fe

    return fe._settings.use_simd(level) if level else nullcontext()


@pytest.fixture(scope="module")
def engine(request):
    """Name of a backend; the compiled one is set to each SIMD level in turn."""
    with use(*request.param):
        yield request.param[0]


@pytest.fixture(scope="module")
def compiled(request):
    """The compiled backend at each SIMD level."""
    with use(*request.param):
        yield request.param[0]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield browser
        browser.close()
