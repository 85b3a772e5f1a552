"""A package of its own, built against fastent.cython_api, uses the kernels without the GIL."""

import importlib.util
import math
import subprocess
import sys
import sysconfig

import numpy as np
import pytest

import fastent as fe

pytestmark = pytest.mark.slow

pytest.importorskip("Cython")
pytest.importorskip("setuptools")

SOURCE = """
# cython: language_level=3
from cython.parallel cimport prange
from fastent.cython_api cimport entropy, kl_divergence, logsumexp, sparse_cross_entropy

ctypedef fused number:
    float
    double

def of_row(Py_ssize_t label, const number[::1] x, const number[::1] p, const number[::1] q):
    cdef double a, b, c, d
    cdef Py_ssize_t n = x.shape[0]
    with nogil:
        a = logsumexp(&x[0], n)
        b = entropy(&p[0], n)
        c = kl_divergence(&p[0], &q[0], n)
        d = sparse_cross_entropy(label, &x[0], n)
    return a, b, c, d

def many(const double[:, ::1] p, const double[:, ::1] q, double[::1] out):
    cdef Py_ssize_t i
    for i in prange(p.shape[0], nogil=True, num_threads=2):
        out[i] = kl_divergence(&p[i, 0], &q[i, 0], p.shape[1])

def empty(const double[::1] x):
    return logsumexp(&x[0], 0), entropy(&x[0], 0), sparse_cross_entropy(0, &x[0], 0)
"""
BUILD = """
from pathlib import Path

import fastent
from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    name="foreign",
    ext_modules=cythonize(
        [
            Extension(
                "foreign",
                ["foreign.pyx"],
                extra_compile_args=["-O1", "-fopenmp"],
                extra_link_args=["-fopenmp"],
            )
        ],
        include_path=[str(Path(fastent.__file__).parents[1])],  # for installs in place
        quiet=True,
    ),
)
"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign.pyx").write_text(SOURCE, encoding="utf-8")
    (folder / "setup.py").write_text(BUILD, encoding="utf-8")
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    path = folder / f"foreign{sysconfig.get_config_var('EXT_SUFFIX')}"
    spec = importlib.util.spec_from_file_location("foreign", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [1, 5, 700, 5000])
def test_rows_are_those_of_the_functions(foreign, compiled, dtype, classes):
    rng = np.random.default_rng(classes)
    x = (rng.normal(size=classes) * 5 + 300).astype(dtype)
    p, q = rng.dirichlet(np.ones(classes), 2).astype(dtype)
    label = classes - 1
    found = foreign.of_row(label, x, p, q)
    loss = float(fe.sparse_cross_entropy(label, x, kind="logits"))
    assert found[0] == pytest.approx(loss + float(x[label]), rel=1e-13)
    assert found[1:] == (float(fe.entropy(p)), float(fe.kl_divergence(p, q)), loss)


def test_parallel_loops(foreign):
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.ones(40), (2, 300))
    out = np.empty(300)
    foreign.many(p, q, out)
    np.testing.assert_array_equal(out, fe.kl_divergence(p, q))


def test_hard_ends_and_bad_rows(foreign):
    inf, nan = math.inf, math.nan
    half = np.array([0.5, 0.5])
    assert foreign.of_row(0, np.array([-inf, -inf]), half, half)[0] == -inf
    assert foreign.of_row(0, np.array([inf, 0.0]), half, half)[0] == inf
    assert np.isnan(foreign.of_row(0, np.array([0.0, nan]), half, half)[0])
    found = foreign.of_row(2, np.array([1e4, 1e4]), np.array([0.5, 0.6]), half)
    assert found[0] == 1e4 + math.log(2)
    assert np.isnan(found[1:]).all()
    found = foreign.empty(half)
    assert found[0] == -inf
    assert np.isnan(found[1:]).all()
