"""Arrays of up to 64 axes, as NumPy has them: right, or refused in one line; never a crash."""

import numpy as np
import pytest
from failing import fails
from numpy.lib.stride_tricks import as_strided

import fastent as fe
from fastent.compat import scipy as drop_in

MOST = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
RNG = np.random.default_rng(2)


def spread(array, axes, places):
    """The array with axes of length 1 between its own, which come at these places."""
    shape = [1] * axes
    for place, size in zip(places, array.shape, strict=True):
        shape[place] = size
    return array.reshape(shape)


@pytest.mark.parametrize("axes", [31, 32, 33, 34, 50, MOST])
@pytest.mark.parametrize("axis", [0, -1])
def test_axes_of_length_one(axes, axis):
    if axes > MOST:
        pytest.skip("more axes than this NumPy has")
    places = (0, axes // 2, axes - 1)
    p, q = (
        RNG.dirichlet(np.ones(5), (2, 3, 4)).transpose(0, 3, 1, 2)
        if axis == 0
        else RNG.dirichlet(np.ones(5), (2, 3, 4))
    )
    wide_p, wide_q = spread(p, axes, places), spread(q, axes, places)
    expected = fe.kl_divergence(p, q, axis=axis)
    found = fe.kl_divergence(wide_p, wide_q, axis=axis)
    assert found.ndim == axes - 1
    np.testing.assert_array_equal(found.ravel(), expected.ravel())
    weight = RNG.random(expected.shape)
    wide_weight = weight.reshape(found.shape)
    assert fe.kl_divergence(
        wide_p, wide_q, axis=axis, sample_weight=wide_weight, reduction="mean"
    ) == (fe.kl_divergence(p, q, axis=axis, sample_weight=weight, reduction="mean"))
    acc = fe.Accumulator("kl_divergence", task="divergence", axis=axis)
    acc.update(wide_p, wide_q, sample_weight=wide_weight, groups=np.zeros(found.shape, int))
    assert acc.compute()["kl_divergence"].count == weight.size
    if axis == -1:
        labels = RNG.integers(0, 5, expected.shape)
        g = fe.cross_entropy_gradient(labels.reshape(found.shape), wide_p)
        np.testing.assert_array_equal(g.ravel(), fe.cross_entropy_gradient(labels, p).ravel())
    np.testing.assert_array_equal(
        drop_in.rel_entr(wide_p, wide_q).ravel(), drop_in.rel_entr(p, q).ravel()
    )


def test_no_rows_in_many_axes():
    shape = (0, *[2] * (min(MOST, 54) - 2), 3)
    empty = np.empty(shape)
    for backend in ("cython", "numpy"):
        assert fe.entropy(empty, backend=backend, reduction="sum") == 0
        assert fe.entropy(empty, backend=backend).shape == shape[:-1]
    assert fe.cross_entropy_gradient(np.empty(shape[:-1], int), empty).shape == shape


def test_axes_that_no_loop_has():
    """2^39 rows that do not lie evenly: nobody has them, but for views like this one."""
    if MOST < 40:
        pytest.skip("fewer axes in this NumPy")
    x = as_strided(np.full(200, 1 / 3), (2,) * 39 + (3,), (*(8 * (i % 2) for i in range(39)), 8))
    with fails(ValueError, "p", "axes"):
        fe.entropy(x)
    with fails(ValueError, "pred", "axes"):
        fe.Accumulator("cross_entropy", task="categorical").update(x, x)
