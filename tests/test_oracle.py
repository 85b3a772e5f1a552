"""The oracle itself, against closed forms and plain rational arithmetic."""

from fractions import Fraction

import numpy as np
import oracle
import pytest
from exact_distribution import BadRowError
from mpmath import mp, mpf
from oracle import row


def near(a, b, digits=24):
    with mp.workdps(60):
        return abs(a - b) <= mpf(10) ** -digits * abs(b)


def test_closed_forms():
    with mp.workdps(50):
        s = 2 * mp.exp(-40)
        got = row("sparse", pred=[40.0, 0, 0], label=0, kind="logits")
        assert near(got["cross_entropy"], mp.log1p(s))
        assert near(got["confidence"], 1 / (1 + s))
        assert near(got["entropy"], mp.log1p(s) + 40 * s / (1 + s))
        third = row("entropy", pred=[1.0, 1, 1], row_sums="rescale")
        assert near(third["entropy"], mp.log(3))
        got = row("divergence", true=[1.0, 0], pred=[0.0, 1])
        assert near(got["js_divergence"], mp.log(2))
        assert got["total_variation"] == got["hellinger"] == 1
        assert mp.isinf(got["kl_divergence"])


@pytest.mark.parametrize("power", [10, 30, 52])
def test_tiny_divergence_of_two_coins(power):
    """KL of (½, ½) from (½ + δ, ½ − δ) is −½ log(1 − 4δ²)."""
    delta = 2.0**-power / 2
    got = row("divergence", true=[0.5, 0.5], pred=[0.5 + delta, 0.5 - delta])
    with mp.workdps(80):
        exact_delta = mpf(0.5 + delta) - mpf(0.5)
        assert near(got["kl_divergence"], -mp.log1p(-4 * exact_delta**2) / 2)
        assert near(got["total_variation"], exact_delta)


def test_brier_is_a_rational_number():
    p = np.array([0.1, 0.7, 0.2])
    parts = [Fraction(x) for x in p.tolist()]
    total = sum(parts)
    want = sum((x / total - (i == 1)) ** 2 for i, x in enumerate(parts))
    got = row("sparse", pred=p, label=1)["brier"]
    with mp.workdps(60):
        assert near(got, mpf(want.numerator) / want.denominator)


def test_offsets_of_any_size_change_nothing():
    x = np.array([0.0, 1, -2, 0.5])
    want = row("entropy", pred=x, kind="logits")["entropy"]
    for offset in (2.0**20, -(2.0**40)):
        assert near(row("entropy", pred=x + offset, kind="logits")["entropy"], want)


def test_subnormal_rows_do_not_pass_for_equal():
    tiny = 5e-324
    got = row("divergence", true=[0.5, 0.5, tiny], pred=[0.5, 0.5, 5 * tiny])["kl_divergence"]
    with mp.workdps(30):
        assert near(got, mpf(tiny) * (4 - mp.log(5)), 15)


def test_bounds_are_relative_then_absolute():
    assert oracle.excess(1 + 0.9e-14, mpf(1), np.float64) < 1
    assert oracle.excess(1 + 1.2e-14, mpf(1), np.float64) > 1
    assert oracle.excess(2e-305, mpf(1e-305), np.float64) < 1
    assert oracle.excess(2e-37, mpf(1e-37), np.float32) < 1
    assert oracle.excess(float("inf"), mp.inf, np.float64) == 0
    assert oracle.excess(1e308, mp.inf, np.float64) > 1
    assert oracle.excess(float("nan"), mpf(1), np.float64) > 1
    assert oracle.excess(0.0, mp.nan, np.float64) > 1


def test_bad_rows():
    for code, p in (("negative", [-0.5, 1.5]), ("row_sum", [0.5, 0.6])):
        with pytest.raises(BadRowError) as error:
            row("entropy", pred=p)
        assert error.value.code == code
