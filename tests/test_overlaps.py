"""Dice, Jaccard and Tversky indices of probabilities as they are, against exact arithmetic."""

import json
import math
import pickle
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from streams import WEIGHTS, N, batch, rng

import fastent as fe

METRICS = {"dice": (0.5, 0.5), "iou": (1.0, 1.0), "tversky(0.3,0.7)": (0.3, 0.7),
           "tversky(2,0)": (2.0, 0.0)}  # fmt: skip


def root(x):
    with mpmath.workprec(300):
        return float(mpmath.sqrt(mpmath.mpf(x.numerator) / x.denominator))


def exact(t, p, w, alpha, beta, clusters=None):
    """Value, error and cluster-robust error by the defining formulas."""
    plain = (np.asarray(x, float).tolist() for x in (t, p, w))
    rows = [tuple(map(Fraction, row)) for row in zip(*plain, strict=True)]
    both = sum(w * t * p for t, p, w in rows)
    alpha, beta = Fraction(alpha), Fraction(beta)

    def below(t, p):
        return t * p + alpha * (p - t * p) + beta * (t - t * p)

    total = sum(w * below(t, p) for t, p, w in rows)
    value = both / total
    changes = [w * (t * p - value * below(t, p)) / total for t, p, w in rows]
    n = sum(w > 0 for *_, w in rows)
    found = [float(value), root(sum(x * x for x in changes) * Fraction(n, n - 1))]
    if clusters is not None:
        names = np.unique(clusters)
        sums = [sum(x for x, c in zip(changes, clusters, strict=True) if c == k) for k in names]
        found.append(root(sum(x * x for x in sums) * Fraction(len(names), len(names) - 1)))
    return found


def accumulator(**options):
    return fe.Accumulator(list(METRICS), task="binary", **options)


@pytest.mark.parametrize("targets", ["hard", "soft"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_ratios_and_their_errors(targets, weights, engine):
    (t, p), _ = batch("binary")
    t = t.astype(float) if targets == "hard" else rng(4).uniform(size=N)
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    clusters = rng(5).integers(0, 40, N)
    acc = accumulator(backend=engine).update(t, p, sample_weight=given, clusters=clusters)
    report = acc.compute()
    for name, weights_of_errors in METRICS.items():
        value, error, by_cluster = exact(t, p, w, *weights_of_errors, clusters)
        assert report[name].value == pytest.approx(value, rel=1e-14)
        assert report[name].stderr == pytest.approx(error, rel=1e-12)
        assert report[name].cluster_stderr == pytest.approx(by_cluster, rel=1e-12)
        assert report[name].count == (w > 0).sum() and report[name].min is None


def test_hard_targets_are_ratios_of_exact_sums():
    (t, p), _ = batch("binary")
    both, sums = math.fsum(p[t == 1]), Fraction(math.fsum(p)) + int(t.sum())
    report = accumulator().update(t, p).compute()
    assert report["dice"].value == float(2 * Fraction(both) / sums)
    assert report["iou"].value == float(Fraction(both) / (sums - Fraction(both)))


@pytest.mark.parametrize("miss", [1e-3, 1e-7, 1e-11])
def test_errors_of_nearly_perfect_predictions(miss):
    """What is left of 1 is as small as the errors."""
    t = rng(1).integers(0, 2, 200).astype(float)
    p = np.abs(t - miss * rng(2).uniform(size=200))
    report = accumulator().update(t, p).compute()
    for name, weights in METRICS.items():
        value, error = exact(t, p, np.ones(200), *weights)
        assert report[name].value == pytest.approx(value, rel=1e-15)
        assert report[name].stderr == pytest.approx(error, rel=1e-12)


def test_logits_are_probabilities():
    (t, p), _ = batch("binary")
    logits = np.log(p) - np.log1p(-p)
    report = accumulator(kind="logits").update(t, logits).compute()
    for name, weights in METRICS.items():
        assert report[name].value == pytest.approx(exact(t, p, np.ones(N), *weights)[0], rel=1e-14)


def test_any_cut_and_merge_gives_the_same_bits():
    (t, p), _ = batch("binary")
    w, groups = WEIGHTS["any"], rng(3).integers(0, 3, N)
    whole = accumulator().update(t, p, w, groups).compute()
    parts = [
        fe.Accumulator(list(METRICS)[::-1], task="binary").update(t[k], p[k], w[k], groups[k])
        for k in np.array_split(rng(9).permutation(N), [1, 4, 333])
    ]
    merged = fe.merge(parts[::-1])
    assert merged.compute() == whole == pickle.loads(pickle.dumps(merged)).compute()
    again = fe.Accumulator.from_state_dict(json.loads(json.dumps(merged.state_dict())))
    assert again.compute() == whole
    here = groups == 1
    value, error = exact(t[here], p[here], w[here], 0.5, 0.5)
    assert whole.groups[1]["dice"].value == pytest.approx(value, rel=1e-15)
    assert whole.groups[1]["dice"].stderr == pytest.approx(error, rel=1e-13)


def test_nothing_to_overlap():
    assert math.isnan(accumulator().compute()["dice"].value)
    none = accumulator().update([0, 0], [0.0, 0.0]).compute()
    assert math.isnan(none["dice"].value) and math.isnan(none["dice"].stderr)
    one = accumulator().update([1], [0.5]).compute()
    assert one["dice"].value == 2 / 3 and one["dice"].stderr is None
    odd = accumulator().update([1, 0], [math.nan, 0.5]).compute()
    assert math.isnan(odd["iou"].value) and math.isnan(odd["iou"].stderr)


@pytest.mark.parametrize(
    "spelt",
    ["tversky(0.3,0.7)", "tversky(0.3, .7)", "tversky(alpha=0.3, beta=0.70)", "tversky( 3e-1,0.7)"],
)
def test_spellings_of_one_metric(spelt):
    assert fe.metrics.find(spelt, "binary").name == "tversky(0.3,0.7)"
    assert fe.metrics.listed(f"dice,{spelt},iou") == ["dice", spelt, "iou"]
    first, second = (fe.Accumulator(name, task="binary") for name in (spelt, "tversky(0.3,0.7)"))
    assert list(first.merge(second.update([1], [0.5])).compute()) == ["tversky(0.3,0.7)"]


@pytest.mark.parametrize("spelt", ["tversky(1,-1)", "tversky(a,b)", "tversky(inf,1)", "tversky(,)"])
def test_other_weights_are_refused(spelt):
    with pytest.raises(ValueError, match=r"metrics: expected tversky\(alpha,beta\) of two numbers"):
        fe.Accumulator(spelt, task="binary")


def test_unknown_where_there_are_no_probabilities():
    for name in ("tversky", "tversky(1)", "tversky(1,2,3)"):
        with pytest.raises(ValueError, match="metrics: no "):
            fe.Accumulator(name, task="binary")
    with pytest.raises(ValueError, match=r"no 'tversky\(1,1\)' in task 'sparse'"):
        fe.Accumulator("tversky(1,1)")
