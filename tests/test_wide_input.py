"""Wide and infinite input: gaps of 800 and 1e4, disjoint supports, infinities, orders near 1.

Every function of rows gives the exact value or the error of the contract, on every backend and SIMD
level.
"""

import itertools
import math
import re
import subprocess
import sys
from functools import cache

import cases
import exact_divergences as exact
import hard_inputs as hard
import numpy as np
import oracle
import pytest
from exact_distribution import BadRowError
from mpmath import mp, mpf

import fastent as fe
from fastent.compat.scipy import logsumexp

INF, NAN = math.inf, math.nan
HALF = -math.log(2)
ROWS = {
    "logits": [
        [0, 0, 0], [800, 0, 0], [0, 800, 799.5], [0, -1e4, 1e4], [1e4, 1e4, 0], [-0.5, 2, -800],
        [0, 1e-9, 0], [-INF, 0, 0], [0, -INF, -1e4], [INF, 0, INF], [INF, -INF, 3],
        [-INF, -INF, -INF], [0, NAN, INF],
    ],
    "logprobs": [
        [HALF, HALF, -INF], [HALF, HALF, -800], [0, -800, -1e4], [-1e4, 0, -1e4], [0, -INF, -INF],
        [-800, HALF, HALF], [-1, math.log1p(-2 * math.exp(-1)), -1], [-0.5, INF, -1],
        [INF, -INF, 0],
        [-INF, -INF, -INF], [-INF, NAN, 0],
    ],
    "probs": [
        [0.5, 0.5, 0], [1, 0, 0], [0, 0, 1], [0.25, 0.25, 0.5], [1, 1e-20, 1e-300],
        [1e-300, 1e-20, 1], [5e-324, 0.5, 0.5], [0.25, 0.25, 0.5000000001], [INF, 0, 0],
        [0.5, INF, 0.5], [-0.5, 1, 0.5], [0, NAN, INF],
    ],
}  # fmt: skip
PAIRS = [
    ("logits", "logits"), ("logprobs", "logprobs"), ("probs", "probs"), ("probs", "logits"),
    ("logits", "probs"), ("logits", "logprobs"), ("logprobs", "probs"), ("probs", "logprobs"),
]  # fmt: skip
DTYPES = ("float64", "float32", "float16")
ORDERS = [1e-3, 0.5, 1 - 1e-9, 1, 1 + 1e-12, 2, 4.5]
READY_MADE = [
    *((name, order) for name in ("renyi", "tsallis", "alpha") for order in ORDERS),
    ("alpha", 0), ("alpha", -1.5), ("chi2", None), ("jeffreys", None),
    ("total_variation", None), ("hellinger_distance", None),
]  # fmt: skip


def name_of(name):
    return name if "_" in name else f"{name}_divergence"


@cache
def rows_of(kind, dtype):
    return hard.cast(ROWS[kind], hard.DTYPES[dtype])


def pairs_of(kinds, dtype):
    """Every seventh pair of rows, others for other dtypes and kinds."""
    every = itertools.product(rows_of(kinds[0], dtype), rows_of(kinds[1], dtype))
    return list(every)[(PAIRS.index(kinds) + 2 * DTYPES.index(dtype)) % 7 :: 7]


def outcome(call):
    """A value or the error that is raised."""
    try:
        return call()
    except (ValueError, BadRowError) as error:
        return error


def agree(found, true, dtype, what, mixed=False):
    if isinstance(true, BadRowError):
        assert isinstance(found, ValueError), (what, found, true)
        assert not isinstance(found, BadRowError)
        assert re.fullmatch(r"\w+: expected [^\n]* got [^\n]* in row .*", str(found)), found
        return
    assert not isinstance(found, Exception), (what, found, true)
    with np.errstate(all="ignore"):
        error = oracle.excess(found, true, hard.DTYPES[dtype], mixed)
    assert error <= 1, (what, float(found), mp.nstr(true, 20), error)


@cache
def true_values(name, order, kinds, dtype):
    formula = getattr(exact, name)
    given = () if order is None else (order,)
    tolerance = oracle.bounds(hard.DTYPES[dtype])[2]
    return [
        outcome(lambda p=p, q=q: exact.value(formula, p, q, kinds, *given, tolerance=tolerance))
        for p, q in pairs_of(kinds, dtype)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_ready_made_divergences(kinds, dtype, compiled):
    pairs = pairs_of(kinds, dtype)
    for name, order in READY_MADE:
        name = name_of(name)
        call = getattr(fe, name)
        given = () if order is None else (order,)
        true = true_values(name, order, kinds, dtype)
        good = []
        for (p, q), exactly in zip(pairs, true, strict=True):
            found = outcome(lambda p=p, q=q: call(p, q, *given, kind=kinds))  # noqa: B023
            agree(found, exactly, dtype, (name, order, p, q), kinds[0] != kinds[1])
            if not isinstance(exactly, BadRowError):
                good.append((p, q, found))
        p, q, one_by_one = map(np.array, zip(*good, strict=True))
        np.testing.assert_array_equal(call(p, q, *given, kind=kinds), one_by_one)
        np.testing.assert_array_equal(
            call(p.T, q.T, *given, kind=kinds, axis=0, num_threads=2), one_by_one
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", hard.KINDS)
def test_soft_focal_loss(kind, dtype, compiled):
    for gamma in (0, 0.5, 2):
        true = true_values("focal_cross_entropy", gamma, ("probs", kind), dtype)
        for (t, q), exactly in zip(pairs_of(("probs", kind), dtype), true, strict=True):
            found = outcome(lambda t=t, q=q: fe.focal_cross_entropy(t, q, gamma=gamma, kind=kind))  # noqa: B023
            agree(found, exactly, dtype, ("focal", gamma, t, q))


@cache
def true_cases(function, kinds, dtype):
    """Arguments and exact outcomes of a function of the registry, one row each."""
    wide = hard.DTYPES[dtype]
    if function == "binary_cross_entropy":
        pred = np.unique(rows_of(kinds, dtype).astype(np.float64)).astype(wide)
        given = list(itertools.product(np.array([0, 1, 0.25], wide), pred))
        args = [(t[None], x[None]) for t, x in given if not x > 0 or kinds == "logits" or x <= 1]
        args = [(t, x) for t, x in args if kinds != "logprobs" or not x > 0]
    elif function == "entropy":
        args = [(x,) for x in rows_of(kinds, dtype)]
    elif function == "sparse_cross_entropy":
        args = [(np.int64(k), x) for x in rows_of(kinds, dtype) for k in (0, 2)]
    else:
        pair = kinds if isinstance(kinds, tuple) else ("probs", kinds)
        args = pairs_of(pair, dtype)
    shaped = [tuple(np.asarray(a)[None] for a in one) for one in args]
    if function == "binary_cross_entropy":
        shaped = args
    return [
        (one, outcome(lambda one=one: cases.exact(function, one, kinds, wide)[0])) for one in shaped
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", cases.FUNCTIONS)
def test_the_functions(function, dtype, engine):
    kinds = PAIRS if function in cases.DIVERGENCES else hard.KINDS
    for kind in kinds:
        mixed = cases.mixed(kind)
        for args, exactly in true_cases(function, kind, dtype):
            found = outcome(lambda a=args, k=kind: cases.call(function, a, k, backend=engine)[0])
            agree(found, exactly, dtype, (function, kind, args), mixed)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients(dtype):
    for x in rows_of("logits", dtype)[:-2]:
        for label in range(3):
            found = fe.cross_entropy_gradient(label, x)
            with mp.workdps(60):
                finite = [mpf(float(v)) for v in x]
                top = max(finite)
                gaps = [
                    (mpf(0) if v == top else -mp.inf) if top == mp.inf else v - top for v in finite
                ]
                e = [mp.exp(g) for g in gaps]
                for k in range(3):
                    others = mp.fsum(e[i] for i in range(3) if i != label)
                    true = (-others if k == label else e[k]) / mp.fsum(e)
                    agree(found[k], true, dtype, (x, label, k))


def test_values_that_were_wrong():
    close = {"rel": 1e-14}
    assert fe.renyi_divergence([0.5, 0.5], [1, 0], 1) == INF
    wide = {"kind": "logits"}
    a, b = [0.0, 0.0], [800.0, 0.0]
    assert fe.renyi_divergence(a, b, 1, **wide) == pytest.approx(400 + HALF, **close)
    assert fe.renyi_divergence(a, b, 2, **wide) == pytest.approx(800 + 2 * HALF, **close)
    assert fe.jeffreys_divergence(a, b, **wide) == pytest.approx(400, **close)
    focal = fe.focal_cross_entropy([0, 1, 0], [1000.0, 0, 0], **wide)
    assert focal == pytest.approx(1000, **close)
    assert fe.chi2_divergence([0, -300.0], [0, -1000.0], **wide) == pytest.approx(
        math.exp(400), rel=1e-13
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "float32", "float64", "int64"])
def test_factors_of_logsumexp_are_float64(dtype):
    b = np.array([100, 50, 127]).astype(dtype)
    true = math.log(100 * math.e + 50 * math.e**2 + 127 * math.e**3)
    assert logsumexp([1.0, 2.0, 3.0], b=b) == pytest.approx(true, rel=1e-15)
    assert logsumexp([1.0, 2.0, 3.0], b=[200, 100, 255]) == pytest.approx(8.764736456390736)
    assert logsumexp([1, 2], b=np.array([-128, 1], "i1"), return_sign=True) == pytest.approx(
        (math.log(128 * math.e - math.e**2), -1)
    )


def test_rows_as_they_are(engine):
    options = {"row_sums": "as_is", "backend": engine}
    found = fe.kl_divergence([2.0, 3.0], [1.0, 1.0], eps=0.2, **options)
    assert found == pytest.approx(2 * math.log(2 / 0.8) + 3 * math.log(3 / 0.8), rel=1e-14)
    p, q = np.array([[2, 1], [3, 1.0]]), np.array([[0.5, 0.5], [0.2, 0.8]])
    values = fe.categorical_cross_entropy(p, q, **options)
    for dtype in (np.float64, np.float32):
        mean = fe.categorical_cross_entropy(p.astype(dtype), q, reduction="mean", **options)
        assert mean == pytest.approx(values.sum() / p.sum(), rel=1e-14)
    weights = np.array([2.0, 1.0])
    total = fe.categorical_cross_entropy(p, q, sample_weight=weights, reduction="mean", **options)
    assert total == pytest.approx((weights * values).sum() / (weights * p.sum(1)).sum(), rel=1e-14)
    metrics = ["cross_entropy", "brier", "confidence", "entropy", "ece", "accuracy"]
    raw = np.array([[0.7, 0.7], [0.3, 0.7], [0.2, 0.9]])
    results = []
    for kind, given in (("probs", raw), ("logprobs", np.log(raw))):
        acc = fe.Accumulator(metrics, task="sparse", kind=kind, **options)
        report = acc.update([0, 1, 0], given).compute()
        results.append([report[m].value for m in metrics])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-14)
    assert results[0][1] == pytest.approx((0.58 + 0.18 + 0.64 + 0.81) / 3, rel=1e-14)
    assert results[0][2] == pytest.approx((0.7 + 0.7 + 0.9) / 3, rel=1e-14)


def test_brier_of_long_rows_as_they_are(compiled):
    x = np.random.default_rng(0).normal(-8, 1, (2, 5000))
    labels = [4000, -1]
    acc = fe.Accumulator(
        ["brier", "confidence"], task="sparse", kind="logprobs", row_sums="as_is", ignore_index=-1
    )
    report = acc.update(labels, x).compute()
    p = np.exp(x[0])
    p[4000] -= 1
    assert report["brier"].value == pytest.approx(math.fsum(p * p), rel=1e-13)
    assert report["confidence"].value == pytest.approx(math.exp(x[0].max()), rel=1e-15)


def test_binary_log_probabilities_near_one(engine):
    x = np.array([-4.2e-18, -1e-300, -0.0, -1e-16])
    found = fe.binary_cross_entropy(np.zeros(4), x, kind="logprobs", backend=engine)
    assert found == pytest.approx([-math.log(4.2e-18), 300 * math.log(10), INF, 16 * math.log(10)])


BLOCKED = """
import sys, time
sys.modules["numba"] = None
import numpy as np
import fastent as fe
p, q = np.full((4, 3), 1 / 3), np.array([[0.2, 0.3, 0.5]] * 4)
calls = {
    "total_variation": (p, q), "hellinger_distance": (p, q), "chi2_divergence": (p, q),
    "jeffreys_divergence": (p, q), "renyi_divergence": (p, q, 2), "tsallis_divergence": (p, q, 2),
    "alpha_divergence": (p, q, 2), "focal_cross_entropy": (p, q),
    "binary_focal_cross_entropy": (p, q), "mutual_information": (q,), "conditional_entropy": (q,),
    "population_stability_index": (p, q),
}
for name, arguments in calls.items():
    start = time.process_time()
    found = getattr(fe, name)(*arguments)
    assert time.process_time() - start < 0.3, name
    assert np.isfinite(found).all(), name
acc = fe.Accumulator(["kl_divergence", fe.jeffreys_divergence, "renyi_divergence(alpha=2.0)"],
                     task="divergence").update(p, q)
assert acc.compute()["jeffreys_divergence"].value > 0
squares = fe.divergence(lambda p, q: (p - q) ** 2)
def refused(call):
    try:
        call()
    except ImportError as error:
        assert "needs the package numba" in str(error), error
        assert "\\n" not in str(error)
    else:
        raise AssertionError(call)
refused(lambda: squares(p, q))
refused(lambda: fe.entropy(p, backend="numba"))
refused(lambda: fe.set_backend("numba"))
refused(lambda: __import__("fastent.numba_api"))
assert "numba" not in fe.show_config()["backends"]
"""


def test_numba_is_only_for_what_is_named_after_it():
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", BLOCKED],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
