"""Groups have the errors that exact rational arithmetic gives, by short integers or long ones."""

import math

import numpy as np
import pytest

from fastent.backends.cython.accumulate.state import State
from fastent.results import rounded, standard_error, unit_error

VALUES = {
    "losses": lambda r, n: r.exponential(size=n),
    "hits": lambda r, n: r.integers(0, 2, n) * 1.0,
    "equal": lambda r, n: np.full(n, 0.1),
    "nearly equal": lambda r, n: 3.0 + r.integers(0, 2, n) * 2.0**-50,
    "negative": lambda r, n: r.standard_normal(n).astype(np.float32).astype(float),
    "far apart": lambda r, n: 10.0 ** r.uniform(-20, 3, n),
    "very far apart": lambda r, n: np.ldexp(r.uniform(-1, 1, n), r.integers(-300, 300, n)),
    "huge": lambda r, n: r.uniform(-1, 1, n) * 1e300,
    "tiny": lambda r, n: r.uniform(-1, 1, n) * 1e-300,
    "infinite": lambda r, n: r.choice([1.0, math.inf], n),
}
LONG = {"very far apart", "huge", "tiny", "infinite"}


@pytest.mark.parametrize("name", VALUES)
def test_totals_and_errors_of_groups_are_correctly_rounded(name):
    r = np.random.default_rng(11)
    groups = np.repeat(np.arange(150), r.integers(1, 60, 150))
    values = VALUES[name](r, len(groups))
    state = State([("loss", 0, 0, 0, True)])
    state.add(values[None, :], groups=groups)
    short = 0
    for group in range(150):
        S, A, B = state.sums(0, group)
        n = state.rows(0, group)
        right = standard_error(S, A, B, *state.weight(0, group), n)
        assert repr(unit_error(S, A, n)) == repr(right)
        total, error = state.total(0, group), state.unit_error(0, group)
        assert total is None or total == rounded(S)
        assert error is None or error == right
        short += total is not None and (error is not None or n < 2)
    assert (short == 150) == (name not in LONG)


@pytest.mark.parametrize("power", [-200, -1, 0, 1, 7, 60])
@pytest.mark.parametrize("tiny", [0.0, 1e-30, 1e-60, 1e-75])
def test_an_error_just_below_a_power_of_two(power, tiny):
    """Its root is 2⁶⁴ but for the last digits: a step of Newton's must not go beyond."""
    for values in ([2.0, tiny], [2.0, tiny, tiny, 2.0], [2.0, -tiny]):
        state = State([("loss", 0, 0, 0, True)])
        state.add(np.ldexp([values], power), groups=np.zeros(len(values), int))
        S, A, _ = state.sums(0, 0)
        error = state.unit_error(0, 0)
        assert error is None or error == unit_error(S, A, len(values))
