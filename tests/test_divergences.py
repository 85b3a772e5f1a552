"""Divergences of one's own and the ready-made ones, against exact arithmetic."""

import functools
import json
import math
import pickle

import mpmath
import numba
import numpy as np
import pytest

import fastent as fe

ORDERS = [1e-5, 0.3, 1 - 1e-12, 1, 1 + 1e-9, 2, 5.5]


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
    *[(fe.alpha_divergence, amari, (a,)) for a in [-1.5, -1e-9, 0, *ORDERS]],
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


def near_and_far(kind):
    """Rows that have nothing to do with each other, and ever nearer ones."""
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(2, 12, 6)) * 3
    q[4:] = p[4:] + rng.normal(size=(8, 6)) * 10.0 ** -np.arange(0, 16, 2)[:, None]
    if kind == "logits":
        return p, q, np.float64
    if kind == "float32":
        return softmax(p).astype(np.float32), softmax(q).astype(np.float32), np.float32
    return softmax(p), softmax(q) * 1.0002, np.float64


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["probs", "float32", "logits"])
@pytest.mark.parametrize(("function", "truth", "order"), CASES, ids=name_of)
def test_ready_made(function, truth, order, kind):
    p, q, dtype = near_and_far(kind)
    found = function(p, q, *order, kind="logits" if kind == "logits" else "probs")
    with mpmath.workdps(60):
        for i in range(len(p)):
            a, b = ([mpmath.mpf(float(v)) for v in row[i]] for row in (p, q))
            if kind == "logits":
                a, b = ([mpmath.exp(v) for v in row] for row in (a, b))
            a, b = ([v / mpmath.fsum(row) for v in row] for row in (a, b))
            value = truth(a, b, *map(mpmath.mpf, order))
            bound = 1e-14 if dtype == np.float64 else 1e-6
            assert abs(float(found[i]) - value) <= bound * max(value, mpmath.mpf("1e-30")), i


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


def report_of(acc, name):
    return acc.compute()[name]


def test_a_divergence_is_a_metric():
    rng = np.random.default_rng(5)
    p, q = rng.dirichlet(np.ones(5), (2, 400))
    w, groups = rng.integers(0, 3, 400) * 0.5, rng.integers(0, 2, 400)
    third = functools.partial(minkowski, power=3)
    metrics = [squares, "kl_divergence", third, fe.jeffreys_divergence,
               functools.partial(fe.renyi_divergence, alpha=2)]  # fmt: skip
    names = ["squares", "kl_divergence", "minkowski(power=3.0)", "jeffreys_divergence",
             "renyi_divergence(alpha=2.0)"]  # fmt: skip
    acc = fe.Accumulator(metrics, task="divergence")
    acc.update(p, q, w, groups=groups)
    report = acc.compute()
    assert list(report) == names
    values = minkowski(p, q, power=3, sample_weight=w)
    assert report["minkowski(power=3.0)"].value == math.fsum(values) / w.sum()
    assert report["squares"].value == squares(p, q, sample_weight=w, reduction="mean")
    assert report["squares"].max == squares(p, q)[w > 0].max()
    assert report["renyi_divergence(alpha=2.0)"].value == fe.renyi_divergence(
        p, q, 2, sample_weight=w, reduction="mean"
    )
    some = groups == 1
    assert report.groups[1]["squares"].value == squares(
        p[some], q[some], sample_weight=w[some], reduction="mean"
    )
    parts = [fe.Accumulator(metrics, task="divergence", num_threads=2) for _ in range(3)]
    for part, rows in zip(parts, np.split(rng.permutation(400), [10, 150]), strict=True):
        part.update(p[rows], q[rows], w[rows], groups=groups[rows])
    merged = parts[2] + parts[0] + parts[1]
    assert merged.state_dict() == acc.state_dict()
    data = json.loads(json.dumps(acc.state_dict()))
    again = fe.Accumulator.from_state_dict(data, metrics=[third, squares])
    assert again.state_dict() == pickle.loads(pickle.dumps(again)).state_dict() == data
    with pytest.raises(ValueError, match=r"'squares' is a divergence of one's own: give it as met"):
        fe.Accumulator.from_state_dict(data, metrics=third)
    with pytest.raises(ValueError, match="the state has no 'hellinger'"):
        fe.Accumulator.from_state_dict(data, metrics=[third, squares, "hellinger"])


def test_a_metric_alone_and_its_options():
    p, q = softmax(np.random.default_rng(6).normal(size=(2, 3, 4, 30)))
    alone = fe.Accumulator(squares, task="divergence", axis=1)
    alone.update(np.moveaxis(p, -1, 1), np.moveaxis(q, -1, 1))
    assert report_of(alone, "squares").value == squares(p, q, reduction="mean")
    based = fe.Accumulator(
        [fe.jeffreys_divergence, squares], task="divergence", kind="logits", temperature=2, base=2
    ).update(p, q)
    options = {"kind": "logits", "temperature": 2, "reduction": "mean"}
    assert report_of(based, "jeffreys_divergence").value == fe.jeffreys_divergence(
        p, q, base=2, **options
    )
    assert report_of(based, "squares").value == squares(p, q, **options)
    state = alone.state_dict()
    bad = np.moveaxis(p, -1, 1).copy()
    bad[0, 3, 1] = -1
    with pytest.raises(ValueError, match=r"p: expected no negative .* got -1.0 in row \(0, 1\)"):
        alone.update(bad, np.moveaxis(q, -1, 1))
    with pytest.raises(ValueError, match="p: expected the shape of"):
        alone.update(p, q[:2])
    assert alone.state_dict() == state


def test_metrics_that_cannot_be():
    @fe.divergence
    def kl_divergence(p, q):
        return p

    other = fe.divergence(lambda p, q: p * q)
    other.name = "squares"
    wrong = [
        ("sparse", squares, "squares is a divergence and needs task 'divergence'"),
        ("divergence", [squares, other], "two different divergences are named 'squares'"),
        ("divergence", kl_divergence, "'kl_divergence' is the name of a built-in metric"),
        (
            "divergence",
            functools.partial(fe.renyi_divergence, alpha=-1),
            "alpha: expected a finite",
        ),
        ("divergence", "renyi_divergence(alpha=-1)", "alpha: expected a finite number above 0"),
    ]
    for task, metrics, message in wrong:
        with pytest.raises(ValueError, match=message):
            fe.Accumulator(metrics, task=task)
    with pytest.raises(TypeError, match="renyi_divergence: expected a number for alpha"):
        fe.Accumulator(fe.renyi_divergence, task="divergence")
    with pytest.raises(TypeError, match="metrics: expected names or divergences, got int"):
        fe.Accumulator([3], task="divergence")
    with pytest.raises(ValueError, match="eps: does not apply to squares"):
        fe.Accumulator(squares, task="divergence", eps=0.1)
    one, two = (fe.Accumulator(s, task="divergence") for s in (squares, other))
    with pytest.raises(ValueError, match="two different divergences"):
        one.merge(two)


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

    def sometimes(p, q):
        return p if p > q else None

    def added(p, q):
        return p + "q"

    def opened(p, q):
        import os

        return os.getpid() * p

    cases = [
        (unknown, "unknown: cannot be compiled: .*name 'missing' is not defined"),
        (attribute, "attribute: cannot be compiled: Unknown attribute 'log' of type float64"),
        (text, "text: expected text to return a number, got .*str"),
        (sometimes, r"sometimes: expected sometimes to return a number, got OptionalType\(float64"),
        (
            added,
            r"no implementation of add\(float64, .*\(line \d+ of test_divergences.py\): return p",
        ),
        (opened, "opened: cannot be compiled: .*opcode .*test_divergences.py"),
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

    for wrong in (3, math.atan2, functools.partial(max, 1)):
        with pytest.raises(TypeError, match="fn: expected a function"):
            fe.divergence(wrong)
    with pytest.raises(TypeError, match="'axis' is a keyword of every divergence"):
        fe.divergence(lambda p, q, axis: p)


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


def test_what_numba_compiled_already():
    made = fe.divergence(numba.njit(lambda p, q: p * q))
    assert made([0.5, 0.5], [0.25, 0.75]) == 0.5


def test_it_looks_like_the_function():
    assert squares.__name__ == "squares"
    assert squares.__doc__ == "Squared distance."


def test_accumulators_do_not_look_at_rows_of_weight_0():
    p, q = np.array([[0.5, 0.5], [3.0, 7.0]]), np.array([[0.4, 0.6], [0.5, 0.5]])

    @fe.divergence
    def squares(p, q):
        return (p - q) ** 2

    for metric in (squares, fe.chi2_divergence, "kl_divergence"):
        found = fe.Accumulator([metric], task="divergence", kind="probs")
        first = fe.Accumulator([metric], task="divergence", kind="probs").update(p[:1], q[:1])
        for one in found.update(p, q, sample_weight=[1.0, 0.0]).compute().values():
            assert one.value == next(iter(first.compute().values())).value
        with pytest.raises(ValueError, match=r"got 10\.0 in row 1"):
            found.update(p, q)
