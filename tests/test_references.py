"""Published values, from textbooks and from fits that others have printed."""

import math

import numpy as np
import pytest

import fastent as fe


def test_cover_and_thomas_entropy():
    assert fe.entropy([1 / 2, 1 / 4, 1 / 8, 1 / 8], base=2) == pytest.approx(7 / 4, rel=1e-14)


def test_cover_and_thomas_relative_entropy():
    r, s = 1 / 2, 1 / 4
    p, q = np.array([1 - r, r]), np.array([1 - s, s])
    assert fe.kl_divergence(p, q, base=2) == pytest.approx(0.2075, abs=5e-5)
    assert fe.kl_divergence(q, p, base=2) == pytest.approx(0.1887, abs=5e-5)


def test_binomial_against_uniform():
    p, q = np.array([0.36, 0.48, 0.16]), np.full(3, 1 / 3)
    assert fe.kl_divergence(p, q) == pytest.approx(0.0852996, abs=5e-8)
    assert fe.kl_divergence(q, p) == pytest.approx(0.0974550, abs=5e-8)


def fit_multinomial(x, labels, classes, steps=40):
    """Maximum-likelihood logits by Newton's method; the first class is the reference."""
    n, k = x.shape
    hot = np.eye(classes)[labels][:, 1:]
    beta = np.zeros((k, classes - 1))
    for _ in range(steps):
        logits = x @ beta
        p = np.exp(logits - np.logaddexp.reduce(np.c_[np.zeros(n), logits], axis=1)[:, None])
        gradient = x.T @ (hot - p)
        spread = np.einsum("ni,nj->nij", p, -p)
        spread[:, range(classes - 1), range(classes - 1)] += p
        hessian = np.einsum("na,nij,nb->aibj", x, spread, x).reshape(beta.size, beta.size)
        step = np.linalg.solve(hessian, gradient.ravel()).reshape(beta.shape)
        beta += step
        if np.abs(step).max() < 1e-12 * max(1, np.abs(beta).max()):
            break
    return np.c_[np.zeros(n), x @ beta]


@pytest.fixture(scope="module")
def datasets():
    return pytest.importorskip("statsmodels.datasets", exc_type=ImportError)


def test_spector_and_mazzeo(datasets):
    data = datasets.spector.load_pandas()
    x = data.exog.to_numpy(np.float64).copy()
    x[:, 0] = x[:, 0].astype(np.float32)  # as the published fit had GPA
    y = data.endog.to_numpy().astype(int)
    logits = fit_multinomial(np.c_[np.ones(len(x)), x], y, 2)
    z = logits[:, 1]
    total = fe.binary_cross_entropy(y.astype(float), z, kind="logits", reduction="sum")
    assert total == pytest.approx(12.8896334653, abs=5e-10)
    mean = fe.binary_cross_entropy(y.astype(float), z, kind="logits", reduction="mean")
    assert mean == pytest.approx(0.402801, abs=5e-7)
    assert fe.sparse_cross_entropy(y, logits, kind="logits", reduction="sum") == pytest.approx(
        total, rel=1e-13
    )


def test_anes96(datasets):
    data = datasets.anes96.load_pandas()
    x = data.exog.to_numpy(np.float64).copy()
    x[:, 0] = x[:, 0].astype(np.float32)  # the published fit had the log population so
    y = data.endog.to_numpy().astype(int)
    x = np.c_[np.ones(len(x)), x]
    assert len(y) == 944
    logits = fit_multinomial(x, y, 7)
    total = fe.sparse_cross_entropy(y, logits, kind="logits", reduction="sum")
    assert total == pytest.approx(1461.922747312, abs=5e-9)
    mean = fe.sparse_cross_entropy(y, logits, kind="logits", reduction="mean")
    assert mean == pytest.approx(1.548646978, abs=5e-10)
    base_rates = np.broadcast_to(np.bincount(y, minlength=7) / len(y), (len(y), 7))
    null = fe.sparse_cross_entropy(y, base_rates, reduction="sum")
    assert null == pytest.approx(1750.34670999, abs=5e-9)
    acc = fe.Accumulator(["skill", "label_entropy"], task="sparse", kind="logits")
    report = acc.update(y, logits).compute()
    assert report["skill"].value == pytest.approx(1 - 1461.922747312 / 1750.34670999, abs=1e-11)
    assert report["label_entropy"].value * 944 == pytest.approx(1750.34670999, abs=5e-9)


def test_digits_label_entropy():
    bundled = pytest.importorskip("sklearn.datasets")
    y = bundled.load_digits().target
    assert fe.entropy(np.bincount(y), row_sums="rescale") == pytest.approx(2.302479221, abs=5e-10)


def test_iris_multinomial_fit():
    bundled = pytest.importorskip("sklearn.datasets")
    x, y = bundled.load_iris(return_X_y=True)
    logits = fit_multinomial(np.c_[np.ones(len(x)), x - x.mean(0)], y, 3, steps=60)
    total = fe.sparse_cross_entropy(y, logits, kind="logits", reduction="sum")
    assert total == pytest.approx(5.94927, abs=5e-6)


def bregman(a, b):
    """KL between two softmaxes as A(b) − A(a) − ⟨∇A(a), b − a⟩ with A = logsumexp."""
    total = lambda x: np.logaddexp.reduce(x, axis=-1)  # noqa: E731
    gradient = np.exp(a - total(a)[..., None])
    return total(b) - total(a) - (gradient * (b - a)).sum(-1)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 5.0])
def test_tempered_softmax_is_a_bregman_divergence(temperature):
    x = 3 * np.random.default_rng(0).normal(size=(50, 40))
    got = fe.kl_divergence(x, x / temperature, kind="logits")
    np.testing.assert_allclose(got, bregman(x, x / temperature), rtol=1e-11)


def test_poissons_are_a_bregman_divergence():
    k = np.arange(400)
    log_factorial = np.array([math.lgamma(i + 1) for i in k])
    for a, b in ((3.0, 4.0), (10.0, 10.5), (40.0, 90.0)):
        p, q = (k * math.log(rate) - log_factorial - rate for rate in (a, b))
        want = a * math.log(a / b) - a + b
        assert fe.kl_divergence(p, q, kind="logprobs") == pytest.approx(want, rel=1e-9)
