"""Every statistic of an accumulator against slow exact arithmetic on the row values."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from streams import WEIGHTS, C, N, accumulator, add, batch, every_task, metric_names, rng

import fastent as fe
from fastent import metrics as registry
from fastent.backends.cython.accumulate.state import State
from fastent.backends.cython.engine import prepare
from fastent.reports import Report


def column(task, metric, args, kind):
    """Row values of a metric."""
    if task == "logprob":
        return -args[0]
    found = prepare(task, (metric.column,), *args, kind=kind).values(0, len(args[0]))[0]
    return (found < metric.threshold).astype(float) if metric.threshold else found


def exact_stderr(v, w):
    """The defining formula on x = fl(w·v) and W = w, rounded once at the end."""
    x, W = [Fraction(t) for t in (w * v).tolist()], [Fraction(t) for t in w.tolist()]
    n = sum(1 for t in W if t)
    mean = sum(x) / sum(W)
    ratio = sum((a - mean * b) ** 2 for a, b in zip(x, W, strict=True)) / sum(W) ** 2
    ratio *= Fraction(n, n - 1)
    with mpmath.workprec(300):
        return float(mpmath.sqrt(mpmath.mpf(ratio.numerator) / ratio.denominator))


def exact_quantile(v, w, q):
    order = np.argsort(v)
    reached = np.cumsum([Fraction(t) for t in w[order].tolist()])
    place = next(i for i, t in enumerate(reached) if t >= Fraction(q) * reached[-1])
    return v[order][place]


@every_task
@pytest.mark.parametrize("weights", WEIGHTS)
def test_row_metrics_are_exact(task, weights):
    args, options = batch(task)
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    report = add(accumulator(task), task, args, sample_weight=given).compute()
    kept = w > 0
    for name in metric_names(task):
        metric = registry.find(name, task)
        if metric.statistic != "mean":
            continue
        v = column(task, metric, args, options["kind"])
        got = report[name]
        assert got.value == math.fsum(w * v) / math.fsum(w)
        assert got.stderr == exact_stderr(v, w)
        assert got.count == kept.sum() and got.weight == math.fsum(w)
        assert (got.min, got.max) == (v[kept].min(), v[kept].max())
        for q in (0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0):
            assert got.quantile(q) == pytest.approx(exact_quantile(v[kept], w[kept], q), rel=0.01)


def slow_calibration(confidence, correct, w, bins):
    sums = [[Fraction(0)] * 3 for _ in range(bins)]
    for c, t, weight in zip(confidence.tolist(), correct.tolist(), w.tolist(), strict=True):
        place = max(0, next(b for b in range(bins) if c <= (b + 1) / bins))
        for i, term in enumerate((weight * c, weight * t, weight)):
            sums[place][i] += Fraction(term)
    gaps = [(abs(t - c), weight) for c, t, weight in sums if weight]
    total = sum(weight for _, weight in gaps)
    return float(sum(g for g, _ in gaps) / total), float(max(g / weight for g, weight in gaps))


def slow_entropy(frequencies):
    with mpmath.workprec(200):
        total = mpmath.fsum(frequencies)
        return float(-mpmath.fsum(f / total * mpmath.log(f / total) for f in frequencies if f))


@pytest.mark.parametrize("task", ["sparse", "binary"])
@pytest.mark.parametrize("weights", ["unit", "any"])
def test_calibration_labels_and_skill(task, weights):
    args, _ = batch(task)
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    report = accumulator(task, bins=7).update(*args, sample_weight=given).compute()
    if task == "sparse":
        names = ("confidence", "accuracy")
        confidence, correct = prepare(task, names, *args, kind="logits").values(0, N)
        frequencies = [math.fsum(w[args[0] == c]) for c in range(C)]
    else:
        confidence, correct = args[1], args[0].astype(float)
        frequencies = [math.fsum(w * correct), math.fsum(w * (1 - correct))]
    ece, mce = slow_calibration(confidence, correct, w, 7)
    assert report["ece"].value == pytest.approx(ece, rel=1e-15)
    assert report["mce"].value == pytest.approx(mce, rel=1e-15)
    entropy = slow_entropy(frequencies)
    assert report["label_entropy"].value == pytest.approx(entropy, rel=1e-15)
    skill = 1 - report["cross_entropy"].value / entropy
    assert report["skill"].value == pytest.approx(skill, rel=1e-13)
    assert report["ece"].stderr > 0  # see test_calibration_errors
    for name in ("ece", "mce", "label_entropy", "skill"):
        assert name == "ece" or report[name].stderr is None
        assert report[name].min is None
        with pytest.raises(ValueError, match="no row values"):
            report[name].quantile(0.5)


def test_bins_are_closed_above_and_zero_is_in_the_first():
    edges = np.array([0.0, 0.1, 0.2, 0.30000000000000004, 0.3, 0.7, 0.9999999999999999, 1.0])
    acc = fe.Accumulator(["ece", "mce"], task="binary", bins=10).update(np.ones(8, int), edges)
    ece, mce = slow_calibration(edges, np.ones(8), np.ones(8), 10)
    assert acc.compute()["ece"].value == ece
    assert acc.compute()["mce"].value == mce == 0.95


@pytest.mark.parametrize("base", [None, 2, 10, 0.5])
def test_perplexity_and_bits_follow_the_mean(base):
    args, _ = batch("sparse")
    nats = accumulator("sparse").update(*args).compute()["cross_entropy"]
    report = accumulator("sparse", base=base).update(*args).compute()
    perplexity, bits = report["perplexity"], report["bits"]
    assert perplexity.value == pytest.approx(math.exp(nats.value), rel=1e-13)
    assert perplexity.stderr == pytest.approx(math.exp(nats.value) * nats.stderr, rel=1e-13)
    assert perplexity.min is None
    assert bits.value == pytest.approx(nats.value / math.log(2), rel=1e-14)
    assert bits.stderr == pytest.approx(nats.stderr / math.log(2), rel=1e-13)
    assert bits.min == pytest.approx(nats.min / math.log(2), rel=1e-14)
    assert bits.max == pytest.approx(nats.max / math.log(2), rel=1e-14)
    assert bits.quantile(0.3) == pytest.approx(nats.quantile(0.3) / math.log(2), rel=0.02)
    assert report["skill"].value == pytest.approx(
        accumulator("sparse").update(*args).compute()["skill"].value, rel=1e-12
    )


def test_perplexity_overflows_to_infinity_without_a_warning():
    logits = np.array([[0.0, -1e4]])
    report = fe.Accumulator("perplexity", kind="logits").update([1], logits).compute()
    assert report["perplexity"].value == math.inf


def test_class_weights_weigh_the_mean_and_not_the_values():
    (labels, logits), _ = batch("sparse")
    weights = np.array([0.0, 0.5, 1.0, 2.0, 3.5, 7.0])
    acc = accumulator("sparse", class_weight=weights).update(labels, logits)
    one_hot = accumulator("categorical", class_weight=weights).update(np.eye(C)[labels], logits)
    terms = accumulator("sparse").update(
        labels, logits, sample_weight=np.broadcast_to(weights, logits.shape)
    )
    losses = fe.sparse_cross_entropy(labels, logits, kind="logits")
    mean = fe.sparse_cross_entropy(
        labels, logits, kind="logits", class_weight=weights, reduction="mean"
    )
    kept = labels != 0
    got = acc.compute()["cross_entropy"]
    assert got.value == mean == terms.compute()["cross_entropy"].value
    assert got.value == pytest.approx(one_hot.compute()["cross_entropy"].value, rel=1e-14)
    assert got.count == kept.sum()
    assert got.weight == weights[labels].sum()
    assert got.stderr == pytest.approx(exact_stderr(losses, weights[labels]), rel=1e-13)
    assert got.max == pytest.approx(losses[kept].max(), rel=1e-15)
    assert (
        acc.compute()["accuracy"].value
        == accumulator("sparse").update(labels, logits).compute()["accuracy"].value
    )


@pytest.mark.parametrize("weights", ["unit", "any"])
def test_cluster_errors(weights):
    args, options = batch("sparse")
    clusters = rng(3).integers(0, 40, N)
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    acc = accumulator("sparse").update(*args, sample_weight=given, clusters=clusters.astype(str))
    v = column("sparse", registry.find("cross_entropy", "sparse"), args, options["kind"])
    x, W = [Fraction(t) for t in (w * v).tolist()], [Fraction(t) for t in w.tolist()]
    mean = sum(x) / sum(W)
    squares = sum(
        sum(x[i] - mean * W[i] for i in np.flatnonzero(clusters == c)) ** 2 for c in range(40)
    )
    expected = math.sqrt(squares / sum(W) ** 2 * Fraction(40, 39))
    assert acc.compute()["cross_entropy"].cluster_stderr == pytest.approx(expected, rel=1e-15)
    assert accumulator("sparse").update(*args).compute()["cross_entropy"].cluster_stderr is None
    acc.update(*args)  # rows without a cluster: the error of all is not known
    assert acc.compute()["cross_entropy"].cluster_stderr is None


@every_task
@pytest.mark.parametrize("names", [np.array(["de", "en", "", "ß"]), np.array([-5, 0, 7, 2**62])])
def test_groups_are_accumulators_of_their_rows(task, names):
    args, _ = batch(task)
    groups = names[rng(1).integers(0, 4, N)]
    weights = WEIGHTS["any"]
    report = add(accumulator(task), task, args, sample_weight=weights, groups=groups).compute()
    assert list(report.groups) == sorted(names.tolist())
    for name, part in report.groups.items():
        here = groups == name
        rows = [a[here] for a in args]
        alone = add(accumulator(task), task, rows, sample_weight=weights[here]).compute()
        for metric in part:
            a, b = part[metric], alone[metric]
            assert (a.count, a.weight, a.value, a.stderr) == (b.count, b.weight, b.value, b.stderr)
            assert (a.min, a.max) == (b.min, b.max)
            if a.min is not None:
                assert a.quantile(0.4) == b.quantile(0.4)


def test_groups_and_clusters_under_class_weights():
    (labels, logits), _ = batch("sparse")
    weights = np.array([0.0, 0.5, 1.0, 2.0, 3.5, 7.0])
    groups = rng(1).integers(0, 3, N)
    acc = accumulator("sparse", class_weight=weights).update(
        labels, logits, groups=groups, clusters=np.arange(N)
    )
    report = acc.compute()
    for g in range(3):
        alone = (
            accumulator("sparse", class_weight=weights)
            .update(labels[groups == g], logits[groups == g])
            .compute()
        )
        for name in ("cross_entropy", "accuracy"):
            a, b = report.groups[g][name], alone[name]
            assert (a.value, a.stderr, a.max) == (b.value, b.stderr, b.max)
    loss = report["cross_entropy"]
    assert loss.cluster_stderr == pytest.approx(loss.stderr, rel=1e-15)  # each row its own


@every_task
def test_empty_accumulators(task):
    for acc in (accumulator(task), accumulator(task).merge(accumulator(task))):
        for result in acc.compute().values():
            assert math.isnan(result.value)
            assert result.count == 0 and result.weight == 0.0 and result.stderr is None


def test_ignored_rows_count_nothing():
    (labels, logits), _ = batch("sparse")
    acc = accumulator("sparse", ignore_index=-100)
    acc.update(np.full(N, -100), logits)
    assert acc.compute()["cross_entropy"].count == 0
    assert math.isnan(acc.compute()["cross_entropy"].value)
    acc.update(labels, logits)
    plain = accumulator("sparse").update(labels, logits).compute()
    for name, result in acc.compute().items():
        assert (result.value, result.count) == (plain[name].value, N)


def test_one_row_has_no_standard_error():
    acc = fe.Accumulator("cross_entropy").update([0], [[0.5, 0.5]])
    assert acc.compute()["cross_entropy"].stderr is None
    assert acc.update([0], [[0.5, 0.5]]).compute()["cross_entropy"].stderr == 0.0


def test_nan_and_infinity():
    acc = fe.Accumulator("cross_entropy").update([0, 1, 1], [[1.0, 0], [1, 0], [0.5, 0.5]])
    got = acc.compute()["cross_entropy"]
    assert got.value == math.inf == got.max and math.isnan(got.stderr) and got.min == 0.0
    assert got.quantile(0.5) == pytest.approx(math.log(2), rel=0.01)
    assert got.quantile(0.9) == math.inf
    got = acc.update([0], [[math.nan, 0.5]]).compute()["cross_entropy"]
    assert math.isnan(got.value) and math.isnan(got.min) and math.isnan(got.quantile(0.5))
    assert got.count == 4


@pytest.mark.parametrize("offset, scale", [(1e12, 1e-3), (1.0, 1e-13), (0.0, 1e-30), (0.0, 1e-150)])
def test_standard_errors_do_not_cancel(offset, scale):
    v = offset + scale * rng(4).standard_normal(N)
    state = State([("cross_entropy", 0, 0, 0, True)])
    state.add(v[None, :])
    report = Report(state, [registry.find("cross_entropy", "sparse")], None)
    assert report["cross_entropy"].stderr == exact_stderr(v, np.ones(N))


def test_quantiles_of_subnormal_negative_and_huge_values():
    r = rng(11)
    v = np.ldexp(r.uniform(1, 2, N), r.integers(-1060, 1020, N)) * r.choice([-1, 1], N)
    state = State([("brier", 0, 0, 0, True)])
    state.add(v[None, :])
    got = Report(state, [registry.find("brier", "sparse")], None)["brier"]
    for q in np.linspace(0, 1, 23):
        assert got.quantile(q) == pytest.approx(exact_quantile(v, np.ones(N), q), rel=0.01)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (([],), {}, "at least one"),
        ((["accurcy"],), {}, "no 'accurcy'"),
        ((["top0_accuracy"],), {}, "no 'top0_accuracy'"),
        ((["top{k}_accuracy"],), {}, "no 'top"),
        ((["perplexity"],), {"task": "binary"}, "no 'perplexity'"),
        (("accuracy",), {"task": "multiclass"}, "task"),
        (("accuracy",), {"bins": 0}, "bins"),
        (("accuracy",), {"bins": 1001}, "bins"),
        (("accuracy",), {"bins": 1.5}, "bins"),
        (("accuracy",), {"kind": "odds"}, "kind"),
        (("accuracy",), {"temperature": 2.0}, "temperature"),
        (("cross_entropy",), {"base": 1}, "base"),
        (("cross_entropy",), {"task": "binary", "ignore_index": 1}, "ignore_index"),
        (([1],), {}, "names"),
    ],
)
def test_wrong_settings_are_refused_at_once(arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        fe.Accumulator(*arguments, **options)
    assert "\n" not in str(error.value)


def test_leading_shapes_count_their_rows():
    r = rng(10)
    labels, logits = r.integers(0, C, (4, 5)), r.standard_normal((4, 5, C))
    names = ["cross_entropy", "accuracy"]
    flat = fe.Accumulator(names, kind="logits").update(labels.ravel(), logits.reshape(20, C))
    deep = fe.Accumulator(names, kind="logits").update(labels, logits)
    first = fe.Accumulator(names, kind="logits", axis=1).update(labels, np.moveaxis(logits, -1, 1))
    assert flat.state_dict()["state"] == deep.state_dict()["state"] == first.state_dict()["state"]


def test_every_report_stays_as_it_was():
    acc = fe.Accumulator("accuracy").update([0], [[0.6, 0.4]])
    first, second = acc.compute(), acc.compute()
    del second
    acc.update([1], [[0.6, 0.4]])
    assert first["accuracy"].value == 1.0
    assert acc.compute()["accuracy"].value == 0.5


def test_several_ranks_at_once():
    """Each top-k counts by its own k, whatever others are asked for, in groups too."""
    r = np.random.default_rng(5)
    labels, logits = r.integers(0, 6, 300), r.normal(size=(300, 6))
    groups, weights = r.integers(0, 2, 300), r.integers(1, 4, 300).astype(float)
    names = ["top1_accuracy", "top2_accuracy", "top5_accuracy", "accuracy"]
    acc = fe.Accumulator(names, task="sparse", kind="logits")
    half = fe.Accumulator(names[::-1], task="sparse", kind="logits")
    acc.update(labels[:99], logits[:99], groups=groups[:99], sample_weight=weights[:99])
    half.update(labels[99:], logits[99:], groups=groups[99:], sample_weight=weights[99:])
    report = fe.Accumulator.from_state_dict(acc.merge(half).state_dict()).compute()
    rank = (logits > logits[np.arange(300), labels][:, None]).sum(axis=1)
    for name, k in zip(names, (1, 2, 5, 1), strict=True):
        assert report[name].value == pytest.approx(np.average(rank < k, weights=weights))
        for group, part in report.groups.items():
            own = groups == int(group)
            want = np.average((rank < k)[own], weights=weights[own])
            assert part[name].value == pytest.approx(want)
