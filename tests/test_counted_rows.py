"""Many rows at once are counted in arrays, a few are not: the state is the same."""

import numpy as np
import pytest

from fastent.backends.cython import levels
from fastent.backends.cython.accumulate.state import State

N = 5000
BINS = 7


@pytest.fixture(params=levels.LEVELS, autouse=True)
def level(request):
    before = levels.active
    levels.use(request.param)
    yield
    levels.use(before)


def confidences(r):
    """Usual ones, both sides of every edge, and from each block on some that fit no integer."""
    edges = np.arange(BINS + 1) / BINS
    return {
        "usual": r.uniform(0.05, 1, N),
        "edges": np.nextafter(r.choice(edges[1:], N), r.integers(0, 3, N) - 0.5).clip(0, 1),
        "certain": np.where(r.uniform(size=N) < 0.7, 1.0, 1 - 10.0 ** r.uniform(-16, -1, N)),
        "small": 2.0 ** r.uniform(-50, 0, N),
        "any": np.where(r.uniform(size=N) < 0.001, r.choice([0, np.nan, 2, -1], N), edges[1]),
    }


def losses(r):
    return {
        "usual": r.exponential(size=N),
        "alike": np.full(N, 0.25),
        "zeros": r.exponential(size=N) * r.integers(0, 2, N) * r.choice([-1, 1], N),
        "wide": np.ldexp(r.uniform(-1, 1, N), r.integers(-1074, 1000, N)),
        "special": r.choice([np.inf, 1.0, 5e-324, 0.0, -0.0, 1e-300, 1e300], N),
        "nan": np.where(r.uniform(size=N) < 0.001, np.nan, -r.exponential(size=N)),
    }


@pytest.mark.parametrize("confidence", confidences(np.random.default_rng(0)))
@pytest.mark.parametrize("loss", losses(np.random.default_rng(0)))
@pytest.mark.parametrize("ignoring", [False, True])
def test_many_rows_leave_the_state_of_few_at_a_time(confidence, loss, ignoring):
    r = np.random.default_rng(5)
    ranks = r.integers(0, 9, N).astype(float)
    values = np.stack(
        [
            losses(r)[loss],
            np.where(np.isnan(losses(r)["nan"]), np.nan, ranks) if loss == "nan" else ranks,
            confidences(r)[confidence],
            r.integers(0, 2, N) * 1.0,
        ]
    )
    labels = r.integers(0, 3, N) * r.choice([1, 100, 3000, 10**9], N)
    weights = r.integers(0, 2, N) * 1.0 if ignoring else None

    def state(parts):
        columns = [("loss", 0, 0, 0, True), ("top3", 1, 3, 0, True), ("hit", 3, 0, 0, False)]
        found = State(columns, BINS, 2, 3, True)
        for rows in np.array_split(np.arange(N), parts):
            part = None if weights is None else weights[rows]
            found.add(np.ascontiguousarray(values[:, rows]), part, None, None, labels[rows])
        return found.to_dict()

    # With 100 parts even the bins are summed row by row.
    assert state(1) == state(2) == state(100)
