"""Every example in a docstring of the package runs and gives what it prints."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
from test_help import MADE_BY_COMPUTE

import fastent

OPTIONAL = ("fastent.dask", "fastent.compat", "fastent.integrations")  # need extras of their own


def modules():
    for module in pkgutil.walk_packages(fastent.__path__, "fastent."):
        compiled = module.name.startswith("fastent.backends.cython.")
        if not compiled and not module.name.endswith("__main__"):
            yield module.name


SLOW = {"fastent.numba_api": [pytest.mark.slow]}  # compiles


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW.get(name, [])) for name in sorted(modules())]
)
def test_examples(name):
    if name.startswith(OPTIONAL):
        pytest.importorskip(name)
    result = doctest.testmod(importlib.import_module(name))
    assert not result.failed


PUBLIC = ["fastent", "fastent.numba_api", "fastent.compat.scipy", "fastent.compat.sklearn",
          "fastent.compat.torch", "fastent.dask"]  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_documented(module):
    """What it takes, gives and how it is called, in an example that runs."""
    if module.startswith(OPTIONAL):
        pytest.importorskip(module)
    home = importlib.import_module(module)
    for name in home.__all__:
        if name.startswith("__"):
            continue
        made = getattr(home, name)
        text = inspect.getdoc(made) or ""
        signature = inspect.signature(getattr(made, "py_func", made))
        sections = ["Examples"]
        if name in MADE_BY_COMPUTE:
            sections.append("Attributes")
        elif signature.parameters:
            sections.append("Parameters")
        if not isinstance(made, type) and signature.return_annotation not in (None, "None"):
            sections.append("Returns")
        for section in sections:
            assert f"\n{section}\n{'-' * len(section)}\n" in text, f"{module}.{name}: no {section}"
        test = doctest.DocTestParser().get_doctest(text, {}, f"{module}.{name}", None, 0)
        assert test.examples, f"{module}.{name}: no example"
        assert not doctest.DocTestRunner().run(test).failed
