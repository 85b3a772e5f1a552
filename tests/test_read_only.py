"""Every backend takes memory that may not be written to, and numbers however large, without a word:
warnings are errors here, NumPy's of overflow among them."""

import itertools

import numpy as np
import pytest

import fastent as fe

RNG = np.random.default_rng(6)
N, C = 7, 5
P, Q = RNG.dirichlet(np.ones(C), (2, N))
X = RNG.normal(size=(N, C))
Y = RNG.integers(0, C, N)
TERMS, ROWS, CLASSES = RNG.random((N, C)), RNG.random(N), RNG.random(C)
BACKENDS = ("cython", "numba", "numpy")
WEIGHTS = {
    "none": {},
    "rows": {"sample_weight": ROWS},
    "terms": {"sample_weight": TERMS},
    "classes": {"class_weight": CLASSES},
    "both": {"sample_weight": TERMS, "class_weight": CLASSES},
}
HUGE = [1e300, -1e300, 1e-300, 5e-324, 0.0, 700.0, -800.0, np.inf, -np.inf, np.nan]


def locked(a):
    a = np.array(a)
    a.setflags(write=False)
    return a


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_read_only_operands_and_weights(backend, weights):
    def everywhere(given, function, *operands, **options):
        return function(
            *map(given, operands),
            **{k: given(a) for k, a in WEIGHTS[weights].items()},
            backend=backend,
            **options,
        )

    calls = [(fe.sparse_cross_entropy, Y), (fe.categorical_cross_entropy, P)]
    preds = [("probs", Q), ("logits", X), ("logprobs", np.log(Q))]
    for (function, true), (kind, pred) in itertools.product(calls, preds):
        found = everywhere(locked, function, true, pred, kind=kind)
        assert found.tobytes() == everywhere(np.array, function, true, pred, kind=kind).tobytes()
        mapped = everywhere(lambda a: np.broadcast_to(a, a.shape), function, true, pred, kind=kind)
        assert mapped.tobytes() == found.tobytes()
    if weights in ("none", "rows"):
        for function, operands in (
            (fe.kl_divergence, (P, Q)), (fe.js_divergence, (P, Q)), (fe.entropy, (P,)),
            (fe.binary_cross_entropy, (ROWS, Q[:, 0])),
        ):  # fmt: skip
            found = everywhere(locked, function, *operands)
            assert found.tobytes() == everywhere(np.array, function, *operands).tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_number_is_too_large_to_be_quiet(backend):
    logits = np.array(list(itertools.product(HUGE, repeat=2)))
    with np.errstate(all="ignore"):
        narrow = logits.astype(np.float32)
    with np.errstate(all="warn"):
        for weight in (1e308, 1e-308):
            w = locked(np.full(len(logits), weight))
            for reduction in ("none", "sum", "mean"):
                more = {"backend": backend, "sample_weight": w, "reduction": reduction}
                fe.sparse_cross_entropy(np.zeros(len(w), int), logits, kind="logits", **more)
                fe.entropy(logits, kind="logits", **more)
                fe.kl_divergence(logits, logits[::-1], kind="logits", **more)
                fe.js_divergence(logits, logits[::-1], kind="logits", **more)
                fe.binary_cross_entropy(np.ones(len(w)), logits[:, 0], kind="logits", **more)
            terms = locked(np.full(logits.shape, weight))
            target = np.full(logits.shape, 0.5)
            more = {"backend": backend, "sample_weight": terms, "class_weight": [weight, 1.0]}
            fe.categorical_cross_entropy(target, logits, kind="logits", **more)
            fe.sparse_cross_entropy(np.ones(len(w), int), logits, kind="logits", **more)
        fe.kl_divergence(narrow, narrow[::-1], kind="logits", backend=backend)
        acc = fe.Accumulator(["cross_entropy", "perplexity", "entropy"], kind="logits")
        acc.update(np.zeros(len(w), int), logits, sample_weight=w).compute()
