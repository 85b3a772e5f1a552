"""Every statistic of an accumulator against slow exact arithmetic on the row values."""

import json
import math
import os
import pickle
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from fastent.backends.cython.engine import prepare
from fastent.backends.cython.state import State

import fastent as fe
from fastent import metrics as registry
from fastent.results import Report

N, C = 700, 6


def rng(seed=0):
    return np.random.default_rng(seed)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def batch(task, n=N, seed=0):
    """Operands of a task and the keywords that they need."""
    r = rng(seed)
    logits = 2 * r.standard_normal((n, C))
    if task == "sparse":
        return (r.integers(0, C, n), logits), {"kind": "logits"}
    if task == "categorical":
        return (softmax(r.standard_normal((n, C))), logits), {"kind": "logits"}
    if task == "binary":
        return (r.integers(0, 2, n), r.uniform(0, 1, n)), {"kind": "probs"}
    return (softmax(logits), softmax(r.standard_normal((n, C)))), {"kind": "probs"}


def metric_names(task):
    return [n.format(k=3) for n in registry.names(task)]


def accumulator(task, **options):
    return fe.Accumulator(metric_names(task), task=task, **batch(task)[1], **options)


def column(task, metric, args, kind):
    """Row values of a metric."""
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


WEIGHTS = {
    "unit": None,
    "some zero": np.where(rng(5).uniform(size=N) < 0.3, 0.0, 1.0),
    "any": rng(6).exponential(size=N) * np.where(rng(5).uniform(size=N) < 0.2, 0.0, 1.0),
    "tiny and huge": 10.0 ** rng(7).uniform(-12, 12, N),
}
every_task = pytest.mark.parametrize("task", registry.TASKS)


@every_task
@pytest.mark.parametrize("weights", WEIGHTS)
def test_row_metrics_are_exact(task, weights):
    args, options = batch(task)
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    report = accumulator(task).update(*args, sample_weight=given).compute()
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
    for name in ("ece", "mce", "label_entropy", "skill"):
        assert report[name].stderr is None and report[name].min is None
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


def same(a, b):
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


@every_task
@pytest.mark.parametrize("names", [np.array(["de", "en", "", "ß"]), np.array([-5, 0, 7, 2**62])])
def test_groups_are_accumulators_of_their_rows(task, names):
    args, _ = batch(task)
    groups = names[rng(1).integers(0, 4, N)]
    report = accumulator(task).update(*args, sample_weight=WEIGHTS["any"], groups=groups).compute()
    assert list(report.groups) == sorted(names.tolist())
    for name, part in report.groups.items():
        here = groups == name
        alone = (
            accumulator(task)
            .update(*(a[here] for a in args), sample_weight=WEIGHTS["any"][here])
            .compute()
        )
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
    acc = accumulator("sparse", class_weight=weights).update(labels, logits, groups=groups,
                                                             clusters=np.arange(N))
    report = acc.compute()
    for g in range(3):
        alone = accumulator("sparse", class_weight=weights).update(
            labels[groups == g], logits[groups == g]).compute()
        for name in ("cross_entropy", "accuracy"):
            a, b = report.groups[g][name], alone[name]
            assert (a.value, a.stderr, a.max) == (b.value, b.stderr, b.max)
    loss = report["cross_entropy"]
    assert loss.cluster_stderr == pytest.approx(loss.stderr, rel=1e-15)  # each row its own


def test_groups_beyond_a_thousand_keep_row_metrics_only():
    r = rng(2)
    n = 6000
    labels, logits = r.integers(0, C, n), r.standard_normal((n, C))
    groups = r.permutation(n) % 1001
    whole = accumulator("sparse").update(labels, logits, groups=groups)
    few = accumulator("sparse").update(labels, logits, groups=groups % 1000)
    report, detailed = whole.compute(), few.compute()
    assert "ece" in detailed.groups[3] and "ece" not in report.groups[3]
    with pytest.raises(ValueError, match="1000 groups"):
        report.groups[3]["brier"].quantile(0.5)
    for name in metric_names("sparse"):
        assert report[name].value == detailed[name].value
    # the same state, however the groups came to be too many
    halves = [groups < 400, groups >= 400]
    parts = [accumulator("sparse").update(labels[h], logits[h], groups=groups[h]) for h in halves]
    assert parts[1].merge(parts[0]).state_dict() == whole.state_dict()


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads the memory from /proc")
@pytest.mark.parametrize("groups, rows", [(1000, 1_500_000), (100_000, 500_000)])
def test_memory_is_at_most_300_mb_and_4_kb_a_group(groups, rows):
    """Values spread over 60 octaves, so that the histograms of groups find ever new buckets."""
    r = rng(12)
    before = resident()
    state = State([(f"column {c}", c, 0, 0, True) for c in range(9)], 15, 1, 2, True)
    step = 100_000
    for _ in range(0, rows, step):
        state.add(2.0 ** r.uniform(-53, 7, (9, step)), r.exponential(size=step),
                  labels=r.integers(0, 250_000, step), groups=r.integers(0, groups, step))
    assert not state.detailed
    assert resident() - before < 300e6 + 4096 * groups


@every_task
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("named", [False, True])
def test_any_split_order_and_merge_gives_the_same_state(task, weights, named):
    args, _ = batch(task)
    r = rng(8)
    w = WEIGHTS[weights]
    more = {}
    if named:
        more = {"groups": r.integers(0, 9, N), "clusters": r.integers(0, 30, N).astype(str)}

    def update(acc, rows):
        part = {name: values[rows] for name, values in more.items()}
        return acc.update(
            *(a[rows] for a in args), sample_weight=None if w is None else w[rows], **part
        )

    whole = update(accumulator(task), np.arange(N)).state_dict()
    for _ in range(3):
        pieces = np.split(r.permutation(N), np.sort(r.integers(0, N, 6)))
        parts = [accumulator(task) for _ in range(3)]
        for i, rows in enumerate(pieces):
            update(parts[i % 3], rows)
        merged = parts[1] + parts[2]
        merged.merge(parts[0])
        assert merged.state_dict() == whole


def test_rows_of_weight_zero_and_ones_leave_the_state_of_no_weights():
    (labels, logits), _ = batch("sparse")
    plain = accumulator("sparse").update(labels, logits).state_dict()
    assert (
        accumulator("sparse").update(labels, logits, sample_weight=np.ones(N)).state_dict() == plain
    )
    bad = np.concatenate([np.full((3, C), np.nan), logits])
    acc = accumulator("sparse").update(
        np.concatenate([[0, 1, 2], labels]),
        bad,
        sample_weight=np.concatenate([np.zeros(3), np.ones(N)]),
    )
    assert acc.state_dict() == plain


def test_state_survives_json_and_pickle():
    args, _ = batch("sparse")
    acc = accumulator("sparse", ignore_index=2, class_weight=np.arange(1.0, C + 1), base=2)
    acc.update(
        *args,
        sample_weight=WEIGHTS["any"],
        groups=rng(1).integers(0, 5, N).astype(str),
        clusters=rng(2).integers(0, 5, N),
    )
    saved = json.loads(json.dumps(acc.state_dict(), allow_nan=False))
    assert saved["version"] == 1
    for back in (fe.Accumulator.from_state_dict(saved), pickle.loads(pickle.dumps(acc))):
        assert back.state_dict() == acc.state_dict()
        for name, result in acc.compute().items():
            assert same(result.value, back.compute()[name].value)
        back.update(*args).merge(acc)
        assert back.compute()["brier"].count > acc.compute()["brier"].count
    with pytest.raises(ValueError, match="version"):
        fe.Accumulator.from_state_dict(saved | {"version": 99})
    with pytest.raises(ValueError, match="not the state"):
        fe.Accumulator.from_state_dict({})


def test_pairs_of_kinds_survive_too():
    args, _ = batch("divergence")
    options = {"task": "divergence", "kind": ("probs", "logprobs")}
    acc = fe.Accumulator("kl_divergence", **options).update(args[0], np.log(args[1]))
    back = fe.Accumulator.from_state_dict(json.loads(json.dumps(acc.state_dict())))
    assert (back + acc).compute()["kl_divergence"].count == 2 * N


def test_reset_and_reports_stand_apart():
    args, _ = batch("sparse")
    acc = accumulator("sparse")
    empty = acc.state_dict()
    report = acc.update(*args).compute()
    value = report["cross_entropy"].value
    acc.update(*(a[:50] for a in args))
    assert report["brier"].count == N and report["cross_entropy"].value == value
    assert acc.compute()["brier"].count == N + 50
    groups = acc.compute().groups
    acc.update(*args, groups=["a"] * N)
    assert not groups and list(acc.compute().groups) == ["a"]
    assert acc.reset() is acc and acc.state_dict() == empty


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


@pytest.mark.parametrize("rows", [10, 70000, 140000])
def test_refused_updates_leave_no_trace(rows):
    labels, logits = np.zeros(rows, int), np.zeros((rows, 2))
    acc = fe.Accumulator(["cross_entropy", "ece", "skill"], kind="logits").update([1], [[0, 1.0]])
    before = acc.state_dict()
    wrong = labels.copy()
    wrong[-1] = 2
    weights = np.ones(rows)
    weights[-1] = -1
    for args, more in [
        ((wrong, logits), {}),
        ((wrong, logits), {"groups": np.arange(rows), "clusters": np.arange(rows)}),
        ((labels, logits), {"sample_weight": weights}),
        ((labels, logits), {"groups": ["a"] * (rows - 1)}),
        ((labels, logits), {"clusters": [1.5] * rows}),
        ((labels, logits), {"groups": [None] * rows}),
    ]:
        with pytest.raises((ValueError, TypeError)) as error:
            acc.update(*args, **more)
        assert "\n" not in str(error.value)
        assert acc.state_dict() == before
    assert acc.update(labels, logits).compute()["cross_entropy"].count == rows + 1


def test_blocks_do_not_show():
    r = rng(9)
    n = 150_000
    labels, logits = r.integers(0, 3, n), r.standard_normal((n, 3))
    groups = r.integers(0, 3, n)
    names = ["cross_entropy", "ece", "skill", "top2_accuracy"]
    once = fe.Accumulator(names, kind="logits").update(labels, logits, groups=groups)
    parts = fe.Accumulator(names, kind="logits")
    for rows in np.array_split(np.arange(n), 7):
        parts.update(labels[rows], logits[rows], groups=groups[rows].tolist())
    assert parts.state_dict() == once.state_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2.0},
        {"base": 2},
        {"bins": 10},
        {"eps": 1e-7},
        {"label_smoothing": 0.1},
        {"class_weight": np.ones(C)},
        {"ignore_index": 0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_only_like_accumulators_merge(options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"merge: {name} differs"):
        accumulator("sparse").merge(accumulator("sparse", **options))


def test_backend_and_threads_may_differ_between_merged_accumulators():
    args, _ = batch("sparse")
    a = accumulator("sparse", num_threads=1).update(*args)
    b = accumulator("sparse", backend="numpy", num_threads=2).update(*args)
    assert (a + b).compute()["accuracy"].count == 2 * N
    assert a.compute()["accuracy"].count == N


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
