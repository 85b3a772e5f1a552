"""KL between members of exponential families, nearly equal ones too, against exact arithmetic."""

import mpmath
import numpy as np
import pytest
from failing import EITHER, fails
from mpmath import mpf

import fastent as fe


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(80):
        yield


def kl_term(a, b):
    return a * mpmath.log(a / b) if a else mpf(0)


def bernoulli(p, q):
    if (q in (0, 1)) and p != q:
        return mpmath.inf
    return kl_term(p, q) + kl_term(1 - p, 1 - q)


def gaussian(p, q):
    (m, s), (n, t) = p, q
    return mpmath.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - mpf(1) / 2


EXACT = {
    "bernoulli": bernoulli,
    "binomial": lambda p, q: p[0] * bernoulli(p[1], q[1]),
    "poisson": lambda p, q: (kl_term(p, q) if q else (mpmath.inf if p else mpf(0))) - p + q,
    "exponential": lambda p, q: mpmath.log(q / p) + p / q - 1,
    "gaussian": gaussian,
}
SHARES = [0.0, 1e-300, 1e-9, 0.1, 0.3, 0.5, 1 - 2**-40, 1.0]
MEANS = [1e-200, 1e-3, 0.7, 3.0, 5.0, 1e12]


def near(x):
    """The number, and others at several distances from it."""
    return [x, *(x * (1 + s * 2.0**-k) for k in (2, 10, 26, 40, 51) for s in (1, -1))]


def pairs(name):
    if name in ("bernoulli", "binomial"):
        shares = [(p, q) for p in SHARES for q in SHARES]
        shares += [(p, q) for p in SHARES for q in near(p) if q <= 1]
        shares += [(1 - 1e-9, 1 - 1e-9 * (1 + 2.0**-k)) for k in (1, 8, 20)]
        if name == "bernoulli":
            return shares
        return [((n, p), (n, q)) for n in (1.0, 10.0, 1e6) for p, q in shares]
    if name == "gaussian":
        spreads = [(s, t) for s in MEANS[1:5] for t in [*MEANS[1:5], *near(s)]]
        return [((m, s), (n, t)) for s, t in spreads for m, n in ((0.0, 0.0), (1.0, 1 + 1e-9))]
    means = [(p, q) for p in MEANS for q in [*MEANS, *near(p)]]
    return means + ([(0.0, 0.0), (0.0, 2.0), (2.0, 0.0)] if name == "poisson" else [])


def exactly(params):
    return tuple(map(mpf, params)) if isinstance(params, tuple) else mpf(params)


@pytest.mark.parametrize("name", EXACT)
def test_against_exact_arithmetic(name):
    for p, q in pairs(name):
        found = fe.exponential_family_kl(name, p, q)
        exact = EXACT[name](exactly(p), exactly(q))
        assert found >= 0 and isinstance(found, float)
        if mpmath.isinf(exact):
            assert found == np.inf, (name, p, q)
        else:
            assert abs(mpf(float(found)) - exact) <= mpf("1e-13") * exact + mpf("1e-290"), (
                name,
                p,
                q,
            )


@pytest.mark.parametrize("name", EXACT)
def test_equal_members_are_at_zero(name):
    for p, _ in pairs(name):
        assert fe.exponential_family_kl(name, p, p) == 0.0


def test_values_of_textbooks():
    # Cover and Thomas, example 2.3.1
    assert round(float(fe.exponential_family_kl("bernoulli", 0.5, 0.25, base=2)), 4) == 0.2075
    assert round(float(fe.exponential_family_kl("bernoulli", 0.25, 0.5, base=2)), 4) == 0.1887
    assert fe.exponential_family_kl("gaussian", (0.0, 1.0), (1.0, 1.0)) == 0.5


def test_the_binomial_is_its_distribution():
    def shares(p):
        return [
            float(mpmath.binomial(2, k) * mpf(p) ** k * (1 - mpf(p)) ** (2 - k)) for k in range(3)
        ]

    rows = fe.kl_divergence(shares(0.4), shares(0.3))
    assert abs(fe.exponential_family_kl("binomial", (2, 0.4), (2, 0.3)) / rows - 1) < 1e-13


def test_arrays_broadcast():
    p, q = np.array([[1.0], [2.0]]), np.array([1.0, 2.0, 3.0])
    found = fe.exponential_family_kl("poisson", p, q)
    assert found.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert found[i, j] == fe.exponential_family_kl("poisson", p[i, 0], q[j])
    out = np.empty(3)
    assert fe.exponential_family_kl("gaussian", (q, 1.0), (0.0, [2.0]), out=out) is out
    assert fe.exponential_family_kl("binomial", (0, 0.5), (0, 1.0)) == 0.0
    assert np.isnan(fe.exponential_family_kl("exponential", np.nan, 1.0))


@pytest.mark.parametrize(
    ("name", "p", "q", "words"),
    [
        ("weibull", 1.0, 1.0, ("name", "bernoulli", "weibull")),
        ("bernoulli", 1.5, 0.5, ("params_p", "probability for p", "1.5")),
        ("bernoulli", 0.5, [0.5, -1.0], ("params_q", "-1.0", "(1,)")),
        ("binomial", 0.5, 0.5, ("params_p", "(n, p)")),
        ("binomial", (2.5, 0.5), (2, 0.5), ("params_p", "whole number", "2.5")),
        ("binomial", (2, 0.5), (3, 0.5), ("params_q", "n of params_p", "3.0")),
        ("poisson", -1.0, 1.0, ("params_p", "mu", "-1.0")),
        ("poisson", 1.0, np.inf, ("params_q", "mu", "inf")),
        ("exponential", 1.0, 0.0, ("params_q", "above 0 for scale", "0.0")),
        ("gaussian", 1.0, (1.0, 1.0), ("params_p", "(loc, scale)", "1.0")),
        ("gaussian", ([0, 1], [1, 1, 1]), (1.0, 1.0), ("params_q", "broadcast")),
        ("poisson", "3", 1.0, ("params_p",)),
    ],
)  # fmt: skip
def test_bad_parameters(name, p, q, words):
    with fails(EITHER, *words):
        fe.exponential_family_kl(name, p, q)
