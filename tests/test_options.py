"""The keywords that change numbers, against exact arithmetic."""

import cases
import hard_inputs as hard
import hard_pairs
import numpy as np
import oracle
import pytest
from cases import exact, ordinary

import fastent as fe

WIDE = ("float64", "float32")
LOSSES = ("sparse_cross_entropy", "categorical_cross_entropy", "binary_cross_entropy")
INF = np.inf


def check(function, args, kind, dtype, engine, weights=None, keywords=None, **options):
    """`options` go to both sides, `keywords` only to the call, `weights` only to the oracle."""
    extra = {} if weights is None else {"weights": weights}
    want = exact(function, args, kind, dtype, **options, **extra)
    got = cases.call(function, args, kind, backend=engine, **options, **(keywords or {}))
    special = cases.mixed(kind) and function in cases.DIVERGENCES
    oracle.assert_close(got, want, dtype, special, f"{function} {kind} {options}")


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("temperature", [1e-5, 0.1, 0.7, 1.9, 30.0, 1e6])
def test_temperature(temperature, dtype, engine):
    dtype = hard.DTYPES[dtype]
    rows = hard.singles("logits", dtype)
    for function in cases.FUNCTIONS:
        args = ordinary(function, "logits", dtype, (3, 21), seed=5)
        check(function, args, "logits", dtype, engine, temperature=temperature)
    for name in (
        "ordinary",
        "confident",
        "offset",
        "just around 256 and 1500",
        "minus infinity",
        "huge",
    ):
        args = hard.labels(rows[name]), rows[name]
        check("sparse_cross_entropy", args, "logits", dtype, engine, temperature=temperature)
        check("entropy", (rows[name],), "logits", dtype, engine, temperature=temperature)
    a, b = hard_pairs.pairs("logits", "logits", dtype)["near"]
    check("kl_divergence", (a, b), "logits", dtype, engine, temperature=temperature)
    check("js_divergence", (a, b), "logits", dtype, engine, temperature=temperature)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("kind", hard.KINDS)
@pytest.mark.parametrize("function", LOSSES)
def test_label_smoothing(function, kind, dtype, engine):
    dtype = hard.DTYPES[dtype]
    for smoothing in (1e-9, 0.1, 1.0):
        args = ordinary(function, kind, dtype, (4, 19), seed=2)
        check(function, args, kind, dtype, engine, label_smoothing=smoothing)


@pytest.mark.parametrize("dtype", WIDE)
def test_label_smoothing_of_confident_rows(dtype, engine):
    dtype = hard.DTYPES[dtype]
    rows = hard.singles("logits", dtype)
    for name in ("confident", "offset", "ties", "minus infinity", "wide apart", "huge"):
        args = hard.labels(rows[name]), rows[name]
        check("sparse_cross_entropy", args, "logits", dtype, engine, label_smoothing=0.05)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("kind", hard.KINDS)
def test_eps_clips_and_does_not_renormalise(kind, dtype, engine):
    dtype = hard.DTYPES[dtype]
    for eps in (1e-12, 1e-7, 0.01, 0.3):
        for function in LOSSES:
            blocks = cases.operands(function, kind, dtype)
            for name in ("ordinary", "confident", "unrelated", "holes in q", "edges", "disjoint"):
                if name in blocks:
                    check(function, blocks[name], kind, dtype, engine, eps=eps)
    both = hard_pairs.pairs(kind, kind, dtype)
    for eps in (1e-7, 0.01):
        for name in ("unrelated", "disjoint", "zeros in q", "holes in q", "confident"):
            if name in both:
                for function in cases.DIVERGENCES:
                    check(function, both[name], kind, dtype, engine, eps=eps)


def test_eps_makes_the_impossible_finite(engine):
    one = np.array([[1.0, 0.0]])
    other = np.array([[0.0, 1.0]])
    got = fe.kl_divergence(one, other, eps=1e-3, backend=engine)
    assert got[0] == pytest.approx(-np.log(1e-3), rel=1e-14)
    got = fe.sparse_cross_entropy([0, 1], np.array([[0.0, 1], [0, 1]]), eps=1e-3, backend=engine)
    assert got == pytest.approx([-np.log(1e-3), -np.log1p(-1e-3)], rel=1e-14)


def weighted_cases(kind, dtype):
    """Operands with class weights and full-shape weights, some of them 0."""
    r = np.random.default_rng(3)
    n, c = 5, 17
    class_weight = r.random(c)
    class_weight[3] = 0
    full = r.integers(0, 3, size=(n, c)) / 2
    for function in LOSSES[:2]:
        yield function, ordinary(function, kind, dtype, (n, c), seed=7), class_weight, full


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("kind", hard.KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_and_term_weights(kind, dtype, smoothing, engine):
    dtype = hard.DTYPES[dtype]
    for function, args, class_weight, full in weighted_cases(kind, dtype):
        options = {"label_smoothing": smoothing}
        for weights, keywords in (
            (class_weight, {"class_weight": class_weight}),
            (full, {"sample_weight": full}),
            (full * class_weight, {"class_weight": class_weight, "sample_weight": full}),
        ):
            check(function, args, kind, dtype, engine, weights, keywords, **options)


def test_row_weights_multiply(engine):
    labels, pred = ordinary("sparse_cross_entropy", "logits", np.float64, (6, 5))
    w = np.array([0.0, 1, 2, 0.3, 7, 1e-3])
    plain = fe.sparse_cross_entropy(labels, pred, kind="logits", backend=engine)
    for kind_of_weight in (w, w.astype(np.float32), list(w), w[:, None][:, 0]):
        got = fe.sparse_cross_entropy(
            labels, pred, kind="logits", sample_weight=kind_of_weight, backend=engine
        )
        assert got.tolist() == (np.asarray(kind_of_weight, np.float64) * plain).tolist()
    counts = np.array([0, 1, 2, 3, 7, 100])
    got = fe.sparse_cross_entropy(labels, pred, kind="logits", sample_weight=counts, backend=engine)
    assert got.tolist() == (counts * plain).tolist()


@pytest.mark.parametrize("base", [2, 10.0, 0.5, 1.0001, np.e])
def test_base(base, engine):
    for function in cases.FUNCTIONS:
        for kind in ("logits", "probs"):
            args = ordinary(function, kind, np.float64, (3, 6))
            check(function, args, kind, np.float64, engine, base=base)


@pytest.mark.parametrize("dtype", WIDE)
def test_as_is_takes_the_numbers(dtype, engine):
    dtype = hard.DTYPES[dtype]
    r = np.random.default_rng(4)
    p, q = hard.cast(r.random((2, 5, 9)) * 3, dtype)
    options = {"row_sums": "as_is"}
    labels = hard.labels(q)
    want = [-oracle.mp.log(float(q[i, y])) for i, y in enumerate(labels)]
    got = fe.sparse_cross_entropy(labels, q, row_sums="as_is", backend=engine)
    oracle.assert_close(got, want, dtype)
    lp, lq = hard.cast(-3 * r.random((2, 5, 9)), dtype)
    got = fe.sparse_cross_entropy(labels, lq, kind="logprobs", row_sums="as_is", backend=engine)
    assert got.tolist() == (-lq[np.arange(5), labels].astype(np.float64)).tolist()
    # sums of either sign cancel, so only an error relative to the sum of sizes can be asked
    terms = p.astype(np.float64) * np.log(p.astype(np.float64) / q.astype(np.float64))
    size = 1e-14 if dtype == np.float64 else 1e-6
    got = fe.kl_divergence(p, q, backend=engine, **options)
    assert np.all(np.abs(got - terms.sum(1)) <= size * np.abs(terms).sum(1))
    got = fe.kl_divergence(lp, lq, kind="logprobs", backend=engine, **options)
    terms = np.exp(lp.astype(np.float64)) * (lp.astype(np.float64) - lq.astype(np.float64))
    assert np.all(np.abs(got - terms.sum(1)) <= size * np.abs(terms).sum(1))
    for function, args in (("entropy", (q,)), ("categorical_cross_entropy", (p, q))):
        t = (args[0] if len(args) == 2 else q).astype(np.float64)
        terms = -t * np.log(q.astype(np.float64))
        got = cases.call(function, args, "probs", backend=engine, **options)
        assert np.all(np.abs(got - terms.sum(1)) <= size * np.abs(terms).sum(1)), function


def test_as_is_has_no_promise_of_sign(engine):
    p, q = np.array([[0.1, 0.1]]), np.array([[1.0, 1.0]])
    assert fe.kl_divergence(p, q, row_sums="as_is", backend=engine)[0] < 0
    assert fe.entropy(np.array([[3.0, 3.0]]), row_sums="as_is", backend=engine)[0] < 0


@pytest.mark.parametrize("backend", ["cython", "numpy", "numba"])
def test_a_label_of_weight_0_adds_0_whatever_its_row_holds(backend):
    """So the weights of classes are weights of rows, where nothing is smoothed."""
    rows = np.array([[1.0, np.nan], [np.inf, np.nan], [-np.inf, -np.inf], [1.0, 2.0]])
    given = {"kind": "logits", "backend": backend, "class_weight": [0, 3]}
    found = fe.sparse_cross_entropy([0, 0, 0, 0], rows, **given)
    np.testing.assert_array_equal(found, 0)
    found = fe.sparse_cross_entropy([1, 1, 1, 0], rows, **given)
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, 0])
    value = fe.sparse_cross_entropy([0, 0, 0, 1], rows, reduction="mean", **given)
    assert value == pytest.approx(np.log1p(np.exp(-1)), rel=1e-14)
