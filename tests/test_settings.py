"""What is set, by a setter, an argument or the environment, is what is used; else it is refused."""

import os
import subprocess
import sys
from importlib import metadata

import cases
import numpy as np
import pytest

import fastent as fe
from fastent import _processors, _settings
from fastent.compat import scipy


@pytest.fixture(autouse=True)
def defaults():
    yield
    fe.set_backend(None)
    fe.set_num_threads(None)


def test_the_backend_of_calls_that_name_none():
    for name, chosen in (("numpy", "numpy"), (None, "cython"), ("cython", "cython")):
        fe.set_backend(name)
        assert fe.show_config()["backend"] == _settings.chosen_backend(None) == chosen
        assert _settings.chosen_backend("numpy") == "numpy"
        assert fe.entropy([0.5, 0.5], base=2) == 1.0


def test_a_backend_that_there_is_not(monkeypatch):
    for refuse in (fe.set_backend, lambda name: fe.entropy([1.0], backend=name)):
        for name in ("fortran", 3, ""):
            with pytest.raises(ValueError) as told:
                refuse(name)
            assert str(told.value) == f"backend: expected one of cython, numba, numpy, got {name!r}"
    monkeypatch.setattr(_settings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^backend: the numba backend needs the package numba$"):
        fe.set_backend("numba")
    assert fe.show_config()["backends"] == ["cython", "numpy"]
    assert fe.show_config()["backend"] == "cython"


@pytest.mark.parametrize("given", [1, 2, np.int8(7), 1024, 5000])
def test_threads_of_calls_that_name_none(given):
    fe.set_num_threads(given)
    assert fe.get_num_threads() == fe.show_config()["num_threads"] == min(int(given), 1024)
    assert _settings.chosen_threads(None) == min(int(given), 1024)
    assert _settings.chosen_threads(3) == 3


@pytest.mark.parametrize(
    ("given", "error"),
    [(0, ValueError), (-1, ValueError), (1.0, TypeError), ("2", TypeError), (True, TypeError)],
)
def test_threads_that_make_no_sense(given, error):
    for refuse in (fe.set_num_threads, lambda n: fe.entropy([1.0], num_threads=n)):
        with pytest.raises(error) as told:
            refuse(given)
        expected = f"num_threads: expected a whole number of at least 1, got {given!r}"
        assert str(told.value) == expected


HALVES, LOSSES, COUNTS = [0.5, 0.5], ([0, 1], [[0.5, 0.5]] * 2), [[1.0, 2], [3, 4]]
THREADED = {
    "scipy.entr": (scipy.entr, (HALVES,)),
    "scipy.kl_div": (scipy.kl_div, (HALVES, HALVES)),
    "scipy.rel_entr": (scipy.rel_entr, (HALVES, HALVES)),
    "cross_entropy_gradient": (fe.cross_entropy_gradient, LOSSES),
    "binary_cross_entropy_gradient": (fe.binary_cross_entropy_gradient, ([0, 1], HALVES)),
    "focal_cross_entropy": (fe.focal_cross_entropy, LOSSES),
    "binary_focal_cross_entropy": (fe.binary_focal_cross_entropy, ([0, 1], HALVES)),
    "total_variation": (fe.total_variation, (HALVES, HALVES)),
    "mutual_information": (fe.mutual_information, (COUNTS,)),
    "conditional_entropy": (fe.conditional_entropy, (COUNTS,)),
    "population_stability_index": (fe.population_stability_index, tuple(COUNTS)),
    "Accumulator": (fe.Accumulator, ("cross_entropy",)),
}


@pytest.mark.parametrize("name", THREADED)
def test_threads_are_an_argument_of_all_that_is_computed(name):
    function, operands = THREADED[name]
    function(*operands, num_threads=2)
    with pytest.raises(ValueError, match=r"^num_threads: expected a whole"):
        function(*operands, num_threads=0)


def environment(monkeypatch, **values):
    for name in ("FASTENT_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    fe.set_num_threads(None)


@pytest.mark.parametrize(
    ("own", "omp", "count"),
    [("3", "5", 3), ("", "5", 5), (None, "6,2", 6), (None, " 4 ", 4), ("1", None, 1),
     ("9999", None, 1024), (None, "0", None), (None, "many", None), (None, None, None)],
)  # fmt: skip
def test_threads_of_the_environment(own, omp, count, monkeypatch):
    values = {"FASTENT_NUM_THREADS": own, "OMP_NUM_THREADS": omp}
    environment(monkeypatch, **{k: v for k, v in values.items() if v is not None})
    assert fe.get_num_threads() == (count or _processors.usable())


@pytest.mark.parametrize("own", ["0", "-2", "two", "1.5"])
def test_threads_of_the_environment_that_make_no_sense(own, monkeypatch):
    with pytest.raises(ValueError) as told:
        environment(monkeypatch, FASTENT_NUM_THREADS=own)
    expected = f"FASTENT_NUM_THREADS: expected a whole number of at least 1, got {own!r}"
    assert str(told.value) == expected


SHOW = "import fastent as fe; c = fe.show_config(); print(c['backend'], c['simd'])"


def shown(**variables):
    known = {k: v for k, v in os.environ.items() if not k.startswith("FASTENT_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHOW], env=known | variables, capture_output=True, text=True
    )
    return done.stdout.split(), done.stderr.strip().rpartition("\n")[2]


def test_backend_and_simd_level_of_the_environment():
    levels = fe.show_config()["simd_levels"]
    assert shown() == (["cython", levels[0]], "")
    assert shown(FASTENT_BACKEND="", FASTENT_SIMD="") == (["cython", levels[0]], "")
    assert shown(FASTENT_BACKEND="numpy", FASTENT_SIMD=levels[-1]) == (["numpy", levels[-1]], "")
    told = "ValueError: FASTENT_BACKEND: expected one of cython, numba, numpy, got 'C'"
    assert shown(FASTENT_BACKEND="C") == ([], told)
    nothing, told = shown(FASTENT_SIMD="v9")
    assert nothing == [] and told.startswith("ValueError: FASTENT_SIMD: expected one of v")


def test_a_bug_report_has_what_it_needs():
    found = fe.show_config()
    assert found["version"] == fe.__version__
    assert found["backends"] == cases.BACKENDS
    assert found["simd"] == found["simd_levels"][0]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["platform"].startswith(sys.platform + " ")
    known = ("numpy", "numba", "ml_dtypes", "pyarrow", "safetensors", "dask", "torch", "jax")
    installed = {name for name in known for _ in metadata.distributions(name=name)}
    assert set(found["libraries"]) == installed
    for name in installed:
        assert found["libraries"][name] == metadata.version(name)
    with _settings.use_simd(found["simd_levels"][-1]):
        assert fe.show_config()["simd"] == found["simd_levels"][-1]
    assert fe.show_config()["simd"] == found["simd"]
