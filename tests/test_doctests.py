"""Every example in a docstring of the package runs and gives what it prints."""

import doctest
import importlib
import pkgutil

import pytest

import fastent

OPTIONAL = ("fastent.dask", "fastent.compat")  # need extras of their own


def modules():
    for module in pkgutil.walk_packages(fastent.__path__, "fastent."):
        compiled = module.name.startswith("fastent.backends.cython.")
        if not compiled and not module.name.endswith("__main__"):
            yield module.name


@pytest.mark.parametrize("name", sorted(modules()))
def test_examples(name):
    if name.startswith(OPTIONAL):
        pytest.importorskip(name)
    result = doctest.testmod(importlib.import_module(name))
    assert not result.failed


def test_public_names_have_examples():
    for name in fastent.__all__:
        if name.startswith("__"):
            continue
        assert ">>>" in (getattr(fastent, name).__doc__ or ""), f"{name} has no example"
