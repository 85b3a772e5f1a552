"""`help` of a public function explains each of its parameters once, itself, and no others."""

import inspect
import re
import subprocess
import sys

import pytest

import fastent as fe
import fastent.dask
from fastent import (
    accumulator,
    divergences,
    families,
    focal,
    functions,
    gradients,
    information,
)
from fastent._keywords import TEXTS, described, explained

MODULES = (functions, divergences, focal, gradients, information, families, accumulator)


def callables():
    """Public functions, classes and their methods, by name."""
    found = {name: getattr(fe, name) for name in fe.__all__ if callable(getattr(fe, name))}
    for module in MODULES:
        for name, one in vars(module).items():
            shared = name.startswith("_") or "\n" not in (getattr(one, "__doc__", None) or "")
            if callable(one) and getattr(one, "__module__", "") == module.__name__ and not shared:
                found.setdefault(name, one)
    for name in fastent.dask.__all__:
        found[f"dask.{name}"] = getattr(fastent.dask, name)
    for name, one in list(found.items()):
        for method, part in inspect.getmembers(one, inspect.isroutine) * inspect.isclass(one):
            if not method.startswith("_") and part.__module__ == one.__module__:
                found[f"{name}.{method}"] = part
    return found


CALLABLES = callables()
MADE_BY_COMPUTE = ("Report", "Result")  # and by nobody else


def names_of(one):
    """The parameters that a caller gives."""
    skipped = ("self", "cls")
    return [p.name for p in inspect.signature(one).parameters.values() if p.name not in skipped]


@pytest.mark.parametrize("name", CALLABLES)
def test_each_parameter_is_explained_once_and_nothing_else(name):
    one = CALLABLES[name]
    doc = inspect.getdoc(one)
    assert doc, name
    taken = [] if name in MADE_BY_COMPUTE else names_of(one)
    if not taken:
        return
    told = described(doc)
    assert sorted(told) == sorted(taken)
    assert ":mod:" not in doc and "**" not in " ".join(told)


def test_the_cases_are_all_there():
    known = {"kl_divergence", "Accumulator.update", "cross_entropy_gradient", "set_backend"}
    assert known | {"dask.entropy", "dask.accumulate"} <= set(CALLABLES)
    assert set(fe.__all__) - {"__version__"} <= set(CALLABLES)


def test_signatures_are_real_keywords():
    for name, one in CALLABLES.items():
        kinds = {p.kind for p in inspect.signature(one).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, name


@pytest.mark.parametrize("name", [n for n in vars(functions) if n in CALLABLES])
def test_defaults_are_those_of_the_table(name):
    for parameter in inspect.signature(CALLABLES[name]).parameters.values():
        if parameter.kind == parameter.KEYWORD_ONLY:
            assert parameter.default == fe._keywords.DEFAULTS.get(parameter.name)


def test_a_divergence_of_ones_own():
    @fe.divergence
    def powers(p, q, a, b=2.0):
        return abs(p - q) ** (a * b)

    assert names_of(powers)[:4] == ["p", "q", "a", "b"]
    assert names_of(powers)[4:] == names_of(fe.renyi_divergence)[3:]
    assert inspect.signature(powers).parameters["b"].default == 2.0
    assert set(names_of(powers)[4:]) <= set(described(inspect.getdoc(type(powers).__call__)))


def test_what_a_docstring_says_itself_stays():
    @explained
    def lookup(p, *, kind="probs", base=None):
        """Look.

        Parameters
        ----------
        p : array
            Rows.
        base : int
            Its own.

        Returns
        -------
        float
        """

    text = inspect.getdoc(lookup)
    assert described(text) == ["p", "base", "kind"]
    assert "Its own." in text and TEXTS["base"][1] not in text
    assert text.endswith("\n\nReturns\n-------\nfloat")
    with pytest.raises(ValueError, match="no parameters in the docstring"):

        @explained
        def without(p):
            """Look."""


def test_texts_fit_a_page_of_help():
    for form, text in TEXTS.values():
        assert not form.endswith(".") and text.endswith(".")
        assert all(len(line) <= 92 for line in text.splitlines())


PROGRAM = """
import inspect
import fastent as fe
assert fe.kl_divergence.__doc__ is None
names = list(inspect.signature(fe.renyi_divergence).parameters)
assert names[:3] == ["p", "q", "alpha"] and "row_sums" in names, names
print(float(fe.total_variation([0.75, 0.25], [0.5, 0.5])))
"""


def test_without_docstrings():
    command = [sys.executable, "-P", "-OO", "-c", PROGRAM]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.stdout == "0.25\n", re.sub(r"\s+", " ", found.stderr)
