"""Of several bad rows the first is told, whatever is bad; rows of weight 0 are not judged."""

import itertools

import numpy as np
import pytest

import fastent as fe

N, C = 70, 65
RNG = np.random.default_rng(4)
P, Q = RNG.dirichlet(np.ones(C), (2, N))
BACKENDS = ("cython", "numba", "numpy")


def sparse(labels, target, pred, weights, terms, backend):
    more = {"sample_weight": weights if terms is None else terms}
    return fe.sparse_cross_entropy(labels, pred, backend=backend, num_threads=2, **more)


def categorical(labels, target, pred, weights, terms, backend):
    more = {"sample_weight": weights if terms is None else terms}
    return fe.categorical_cross_entropy(target, pred, backend=backend, num_threads=2, **more)


def divergence(labels, target, pred, weights, terms, backend):
    return fe.kl_divergence(target, pred, sample_weight=weights, backend=backend, num_threads=2)


def update(labels, target, pred, weights, terms, backend):
    acc = fe.Accumulator(["cross_entropy", "accuracy"], backend=backend, num_threads=2)
    return acc.update(labels, pred, sample_weight=weights if terms is None else terms)


BAD = {
    "labels": (0, lambda row: C),
    "target": (1, lambda row: -0.5),
    "pred": (2, lambda row: -0.25),
    "weights": (3, lambda row: np.nan),
    "terms": (4, lambda row: -1.0),
}
TAKES = {
    sparse: ("labels", "pred", "weights", "terms"),
    categorical: ("target", "pred", "weights", "terms"),
    divergence: ("target", "pred", "weights"),
    update: ("labels", "pred", "weights", "terms"),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("call", TAKES, ids=lambda call: call.__name__)
def test_the_first_of_two(call, backend):
    # what went before leaves its labels behind in the memory of the next call
    fe.sparse_cross_entropy(np.full(500, -7), np.ones((500, C)) / C, ignore_index=-7)
    for first, second in itertools.permutations(TAKES[call], 2):
        if {first, second} == {"weights", "terms"}:
            continue
        terms = np.ones((N, C)) if "terms" in (first, second) else None
        operands = [np.zeros(N, int), P.copy(), Q.copy(), np.ones(N), terms]
        operands[3][3] = 0 if terms is None else 1
        if terms is None:
            operands[2][3, 0] = -9  # of weight 0
        for row, name in ((38, second), (15, first)):
            place, bad = BAD[name]
            operands[place][(row, 1)[: operands[place].ndim]] = bad(row)
        with pytest.raises(ValueError, match=r"row 15\b"):
            call(*operands, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_of_one_row_the_first_operand(backend, dtype):
    """And a negative number before the sum that it spoils, wherever the rows lie."""
    p = np.full((700, C), 1 / C, dtype)
    q = p.copy()
    q[64, 3] = -0.1
    layouts = (np.asarray, np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2])
    for name, first in (("p", q), ("q", p)):
        for rows, layout in itertools.product((C, 700), layouts):
            with pytest.raises(ValueError, match=f"^{name}: expected no negative .* in row 64$"):
                fe.kl_divergence(layout(first[:rows]), layout(q[:rows]), backend=backend)
