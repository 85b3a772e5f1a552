"""Student's t and McNemar's exact test against mpmath."""

import itertools

import pytest
from mpmath import betainc, binomial, mp, mpf

from fastent import _inference as inference

DEGREES = [1, 2, 3, 5, 19, 188, 1000, 99_999, 10**7]


def exact_two_sided(t, degrees):
    with mp.workdps(40):
        t, v = mpf(t), mpf(degrees)
        return betainc(v / 2, mpf(1) / 2, 0, v / (v + t * t), regularized=True)


@pytest.mark.parametrize("degrees", DEGREES)
def test_two_sided(degrees):
    for t in (0.0, 1e-8, 1e-3, 0.1, 0.7, 1.0, 1.96, 3.0, 8.0, 20.0, -2.5):
        assert inference.two_sided(t, degrees) == pytest.approx(
            float(exact_two_sided(t, degrees)), rel=1e-12, abs=1e-300
        )


@pytest.mark.parametrize("degrees", DEGREES)
def test_quantiles(degrees):
    for level in (0.5, 0.95, 0.999):
        t = inference.quantile(degrees, level)
        assert float(exact_two_sided(t, degrees)) == pytest.approx(1 - level, rel=1e-12)


@pytest.mark.parametrize(("lost", "gained"), [*itertools.product([0, 1, 2, 7, 30, 480], repeat=2)])
def test_mcnemar(lost, gained):
    few, total = min(lost, gained), lost + gained
    with mp.workdps(60):
        tail = sum(binomial(total, k) for k in range(few + 1)) / mpf(2) ** total
        expected = float(min(mpf(1), 2 * tail))
    assert inference.mcnemar(lost, gained) == pytest.approx(expected, rel=1e-12)


def test_many_discordant_rows():
    lost, gained = 49_700, 50_300
    total, term, tail = lost + gained, 1, 1
    for k in range(lost):
        term = term * (total - k) // (k + 1)
        tail += term
    expected = (tail << 1100 >> total - 1) / (1 << 1100)
    assert inference.mcnemar(lost, gained) == pytest.approx(expected, rel=1e-12)


def test_what_has_no_error():
    assert inference.interval(1.0, None, 5) is None
    assert inference.interval(1.0, 0.1, 0) is None
    assert inference.p_value(1.0, None, 5) is None
    assert inference.p_value(1.0, 0.0, 5) == 0.0
    assert str(inference.p_value(0.0, 0.0, 5)) == "nan"
    low, high = inference.interval(2.0, 0.5, 4)
    assert (low + high) / 2 == pytest.approx(2.0) and high - 2 == pytest.approx(0.5 * 2.7764451052)
