"""The kernels of single rows, called from functions that Numba compiles."""

import math

import numpy as np
import pytest
from numba import njit, prange

import fastent as fe
from fastent import numba_api


@njit(nogil=True)
def all_of(label, x, p, q):
    return (
        numba_api.logsumexp(x),
        numba_api.entropy(p),
        numba_api.kl_divergence(p, q),
        numba_api.sparse_cross_entropy(label, x),
    )


@njit(parallel=True)
def many(p, q):
    out = np.empty(len(p))
    for i in prange(len(p)):
        out[i] = numba_api.kl_divergence(p[i], q[i])
    return out


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [1, 5, 700])
def test_rows_are_those_of_the_functions(dtype, classes):
    rng = np.random.default_rng(classes)
    x = (rng.normal(size=classes) * 5 + 300).astype(dtype)
    p, q = rng.dirichlet(np.ones(classes), 2).astype(dtype)
    label = classes - 1
    found = all_of(label, x, p, q)
    loss = fe.sparse_cross_entropy(label, x, kind="logits")
    bound = 1e-13 if dtype == "float64" else 1e-6
    assert found[0] == pytest.approx(float(loss) + float(x[label]), rel=bound)
    assert found[1] == pytest.approx(fe.entropy(p), rel=bound, abs=1e-30)
    assert found[2] == pytest.approx(fe.kl_divergence(p, q), rel=bound, abs=1e-30)
    assert found[3] == pytest.approx(loss, rel=bound, abs=1e-30)


@pytest.mark.slow
def test_parallel_loops_and_nearly_equal_rows():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(30), 200)
    q = p * (1 + 1e-9 * rng.normal(size=p.shape))
    np.testing.assert_allclose(many(p, q), fe.kl_divergence(p, q), rtol=1e-13)


def test_strided_rows():
    x = np.arange(20.0).reshape(4, 5)
    assert numba_api.logsumexp(x[:, 1]) == numba_api.logsumexp(x[:, 1].copy())


def test_hard_ends_and_bad_rows():
    inf, nan = math.inf, math.nan
    assert numba_api.logsumexp(np.array([-inf, -inf])) == -inf
    assert numba_api.logsumexp(np.array([inf, 0.0])) == inf
    assert numba_api.logsumexp(np.array([1e4, 1e4])) == 1e4 + math.log(2)
    assert numba_api.sparse_cross_entropy(0, np.array([40.0, 0.0, 0.0])) == 8.496708510583178e-18
    assert numba_api.kl_divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == inf
    assert numba_api.entropy(np.array([1.0, 0.0])) == 0
    assert np.isnan(numba_api.logsumexp(np.array([0.0, nan])))
    assert np.isnan(numba_api.sparse_cross_entropy(2, np.array([0.0, 1.0])))
    assert np.isnan(numba_api.entropy(np.array([0.5, 0.6])))
    assert np.isnan(numba_api.entropy(np.array([1.5, -0.5])))
    assert np.isnan(numba_api.kl_divergence(np.array([0.5, 0.5]), np.array([0.5, 0.6])))
    assert np.isnan(numba_api.kl_divergence(np.array([1.0]), np.array([0.5, 0.5])))
