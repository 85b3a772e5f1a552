"""Divergences of one's own and the ready-made ones, against exact arithmetic."""

import math

import mpmath
import numpy as np
import pytest

import fastent as fe

ORDERS = [0.3, 1, 2, 5.5]


def power_sum(p, q, alpha):
    return mpmath.fsum(a**alpha * b ** (1 - alpha) for a, b in zip(p, q, strict=True))


def kl(p, q):
    return mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True))


def renyi(p, q, alpha):
    return kl(p, q) if alpha == 1 else mpmath.log(power_sum(p, q, alpha)) / (alpha - 1)


def tsallis(p, q, alpha):
    return kl(p, q) if alpha == 1 else (power_sum(p, q, alpha) - 1) / (alpha - 1)


def amari(p, q, alpha):
    if alpha in (0, 1):
        return kl(p, q) if alpha else kl(q, p)
    return (power_sum(p, q, alpha) - 1) / (alpha * (alpha - 1))


def each(term):
    return lambda p, q: mpmath.fsum(term(a, b) for a, b in zip(p, q, strict=True))


CASES = [
    *[(fe.renyi_divergence, renyi, (a,)) for a in ORDERS],
    *[(fe.tsallis_divergence, tsallis, (a,)) for a in ORDERS],
    *[(fe.alpha_divergence, amari, (a,)) for a in [-1.5, 0, *ORDERS]],
    (fe.chi2_divergence, each(lambda a, b: (a - b) ** 2 / b), ()),
    (
        fe.hellinger_distance,
        lambda p, q: mpmath.sqrt(
            each(lambda a, b: (mpmath.sqrt(a) - mpmath.sqrt(b)) ** 2)(p, q) / 2
        ),
        (),
    ),
    (fe.total_variation, each(lambda a, b: abs(a - b) / 2), ()),
    (fe.jeffreys_divergence, each(lambda a, b: (a - b) * mpmath.log(a / b)), ()),
]


def name_of(value):
    return getattr(value, "__name__", None) if callable(value) else None


@pytest.mark.parametrize(("function", "truth", "order"), CASES, ids=name_of)
def test_ready_made(function, truth, order):
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(6, 0.5), 8)
    q = rng.dirichlet(np.full(6, 0.5), 8)
    q[4:] = p[4:] * (1 + rng.normal(size=(4, 6)) * 1e-3)
    found = function(p, q, *order, row_sums="rescale")
    with mpmath.workdps(50):
        for i in range(8):
            a, b = ([mpmath.mpf(float(v)) for v in row[i]] for row in (p, q))
            a, b = ([v / mpmath.fsum(row) for v in row] for row in (a, b))
            value = truth(a, b, *map(mpmath.mpf, order))
            assert abs(float(found[i]) - value) <= (1e-12 if i < 4 else 1e-10) * value


def test_zeros():
    p, q = [0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0]
    apart = ([1.0, 0.0], [0.0, 1.0])
    assert fe.renyi_divergence(p, q, 0.5) == pytest.approx(2 * math.log(2), rel=1e-14)
    assert fe.renyi_divergence(*apart, 0.5) == math.inf
    assert fe.renyi_divergence(p, q, 2) == math.inf
    assert fe.tsallis_divergence(*apart, 0.5) == pytest.approx(2, rel=1e-15)
    assert fe.alpha_divergence(*apart, 0.5) == pytest.approx(4, rel=1e-15)
    assert fe.alpha_divergence(p, q, -1) == math.inf
    assert fe.chi2_divergence(p, q) == math.inf
    assert fe.chi2_divergence([0.5, 0.5, 0], [0.25, 0.5, 0.25]) == 0.5
    assert fe.total_variation(p, q) == 0.5
    assert fe.jeffreys_divergence(p, q) == math.inf
    for function, _, order in CASES:
        assert function(p, p, *order) == 0


@fe.divergence
def squares(p, q):
    """Squared distance."""
    return (p - q) ** 2


@fe.divergence(finish=lambda total, power: total ** (1 / power))
def minkowski(p, q, power=2.0):
    return abs(p - q) ** power


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_kinds_axes_and_dtypes():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 5, 7)) * 3
    p, q = softmax(x), softmax(y)
    truth = ((p - q) ** 2).sum(-1)
    for kind, a, b in [
        ("probs", p, q),
        ("logits", x, y),
        ("logprobs", np.log(p), np.log(q)),
        (("probs", "logits"), p, y),
    ]:
        np.testing.assert_allclose(squares(a, b, kind=kind), truth, rtol=1e-12)
    np.testing.assert_allclose(squares(p.T, q.T, axis=0), truth, rtol=1e-13)
    np.testing.assert_allclose(squares(p.astype("f4"), q), truth, rtol=1e-5)
    np.testing.assert_allclose(squares(x.astype("f2"), y, kind="logits"), truth, rtol=0.05)
    cool = ((softmax(x / 2) - softmax(y / 2)) ** 2).sum(-1)
    np.testing.assert_allclose(squares(x, y, kind="logits", temperature=2), cool, rtol=1e-12)
    np.testing.assert_array_equal(squares([[-np.inf, 0.0]], [[0.0, -np.inf]], kind="logits"), [2])


def test_weights_reductions_and_out():
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.ones(4), (2, 6))
    weights = np.array([0, 1, 2, 0.5, 1, 3])
    p[0, 0] = 7.0  # a row of weight 0 is not looked at
    values = squares(p, q, sample_weight=weights)
    assert values[0] == 0
    truth = weights * ((p - q) ** 2).sum(-1)
    np.testing.assert_allclose(values[1:], truth[1:], rtol=1e-12)
    assert squares(p, q, sample_weight=weights, reduction="sum") == math.fsum(values)
    mean = squares(p, q, sample_weight=weights, reduction="mean")
    assert mean == pytest.approx(math.fsum(values) / weights.sum(), rel=1e-15)
    out = np.empty(6)
    assert squares(p, q, sample_weight=weights, out=out) is out
    np.testing.assert_array_equal(out, values)
    assert np.isnan(squares([[np.nan, 1.0]], [[0.5, 0.5]]))[0]


def test_threads_change_nothing():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 4000, 20))
    one = squares(x, y, kind="logits", num_threads=1)
    np.testing.assert_array_equal(squares(x, y, kind="logits", num_threads=2), one)


def test_further_parameters():
    assert minkowski([0.75, 0.25], [0.25, 0.75]) == pytest.approx(math.sqrt(0.5))
    assert minkowski([0.75, 0.25], [0.25, 0.75], power=1) == 1
    with pytest.raises(TypeError, match="minkowski: unexpected keyword 'order'"):
        minkowski([1.0], [1.0], order=3)
    with pytest.raises(TypeError, match="power: expected a number, got 'two'"):
        minkowski([1.0], [1.0], power="two")


def test_bad_rows_and_options():
    with pytest.raises(ValueError, match=r"q: expected rows that sum to 1 .* got 1.5 in row 1"):
        squares([[1, 0], [1, 0]], [[1, 0], [1, 0.5]])
    with pytest.raises(ValueError, match=r"p: expected no negative .*, got -1"):
        squares([[2.0, -1.0]], [[1, 0]])
    with pytest.raises(ValueError, match="base: does not apply to squares"):
        squares([1.0], [1.0], base=2)
    with pytest.raises(ValueError, match="base: expected a finite number above 0"):
        fe.jeffreys_divergence([1.0], [1.0], base=-1)
    with pytest.raises(ValueError, match="alpha: expected a finite number above 0, got -1"):
        fe.renyi_divergence([1.0], [1.0], -1)


def test_what_cannot_be_compiled_is_said_in_one_line():
    def unknown(p, q):
        return missing(p, q)  # noqa: F821

    def attribute(p, q):
        return p.log

    def text(p, q):
        return "p"

    cases = [
        (unknown, "unknown: cannot be compiled: .*name 'missing' is not defined"),
        (attribute, "attribute: cannot be compiled: Unknown attribute 'log' of type float64"),
        (text, "text: expected text to return a number, got 'p'"),
    ]
    for function, message in cases:
        made = fe.divergence(function)
        with pytest.raises(TypeError, match=message) as caught:
            made([1.0], [1.0])
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"one: expected a function of \(p, q\), got one\(p\)"):

        @fe.divergence
        def one(p):
            return p

    with pytest.raises(TypeError, match="fn: expected a function"):
        fe.divergence(3)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_the_function_raises_comes_out(threads):
    @fe.divergence
    def wary(p, q):
        if p > 0.9:
            raise ValueError("too sure")
        return p * q

    p = np.full((5000, 20), 0.05)
    p[4000] = np.eye(20)[3]
    with pytest.raises(ValueError, match="too sure"):
        wary(p, p, num_threads=threads)


def test_it_looks_like_the_function():
    assert squares.__name__ == "squares"
    assert squares.__doc__ == "Squared distance."
