"""Errors of calibration, bins of equal mass, and means of clusters' means, in exact arithmetic."""

import json
import math
import pickle
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from streams import WEIGHTS, N, batch, rng

import fastent as fe
from fastent import _calibration
from fastent.backends.cython.accumulate.state import bucket_middle
from fastent.backends.cython.engine import prepare

BINS = 7
METRICS = ["ece", "ece_equal_mass"]


def root(x):
    with mpmath.workprec(300):
        return float(mpmath.sqrt(mpmath.mpf(x.numerator) / x.denominator))


def accumulator(task, metrics=METRICS, **options):
    return fe.Accumulator(metrics, task=task, bins=BINS, **batch(task)[1], **options)


def observed(task, args):
    if task == "sparse":
        return prepare(task, ("confidence", "accuracy"), *args, kind="logits").values(0, N)
    return args[1].astype(float), args[0].astype(float)


def equal_width(confidence, w):
    return [max(0, math.ceil(Fraction(c) * BINS) - 1) for c in confidence.tolist()]


def equal_mass(confidence, w):
    """Which run of cells each row is in, by the words of the definition."""
    kept = w > 0
    cell = [math.frexp(c) for c in confidence.tolist()]
    cell = [(e, int(m * 128)) for m, e in cell]  # six bits of the mantissa
    total, reached, run, k, of_cell = Fraction(0), Fraction(0), 0, 1, {}
    weight = {}
    for c, x, keep in zip(cell, w.tolist(), kept, strict=True):
        if keep:
            weight[c] = weight.get(c, 0) + Fraction(x)
            total += Fraction(x)
    for c in sorted(weight):
        of_cell[c] = run
        reached += weight[c]
        if reached >= Fraction(k, BINS) * total:
            run += 1
            while reached >= Fraction(k, BINS) * total:
                k += 1
    return [of_cell.get(c, 0) for c in cell]


def exact(bin_of, confidence, correct, w):
    """ECE, and its error with the signs of the gaps held fixed."""
    plain = (x.tolist() for x in (confidence, correct, w))
    rows = [tuple(map(Fraction, row)) for row in zip(*plain, strict=True)]
    total = sum(w for *_, w in rows)
    gap = {}
    for b, (c, t, x) in zip(bin_of, rows, strict=True):
        gap[b] = gap.get(b, 0) + x * (t - c)
    value = sum(map(abs, gap.values())) / total
    signed = [
        (1 if gap[b] > 0 else -1) * (t - c) for b, (c, t, _) in zip(bin_of, rows, strict=True)
    ]
    n = sum(x > 0 for *_, x in rows)
    squares = sum((x * (v - value)) ** 2 for v, (*_, x) in zip(signed, rows, strict=True))
    return float(value), root(squares / total**2 * Fraction(n, n - 1))


@pytest.mark.parametrize("task", ["sparse", "binary"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("metric", "bins"), [("ece", equal_width), ("ece_equal_mass", equal_mass)])
def test_values_and_errors(task, weights, metric, bins):
    args, _ = batch(task)
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    confidence, correct = observed(task, args)
    value, error = exact(bins(confidence, w), confidence, correct, w)
    got = accumulator(task).update(*args, sample_weight=given).compute()[metric]
    assert got.value == pytest.approx(value, rel=1e-15)
    assert got.stderr == pytest.approx(error, rel=1e-13)
    assert got.count == (w > 0).sum() and got.min is None


@pytest.mark.parametrize("task", ["sparse", "binary"])
@pytest.mark.parametrize("weights", ["unit", "any", "tiny and huge", "some at last"])
def test_any_cut_and_merge_gives_the_same_bits(task, weights):
    args, _ = batch(task)
    w = WEIGHTS.get(weights)
    if weights == "some at last":
        w = np.where(np.arange(N) < 500, 1.0, WEIGHTS["any"])
    groups = rng(3).integers(0, 3, N)
    whole = accumulator(task).update(*args, sample_weight=w, groups=groups)
    parts = []
    for piece in np.array_split(np.arange(N), [3, 3, 90, 480, 600]):
        given = None if w is None or (w[piece] == 1).all() else w[piece]
        part = accumulator(task, METRICS[::-1])
        parts.append(part.update(*(a[piece] for a in args), given, groups[piece]))
    merged = fe.merge([parts[k] for k in (4, 1, 5, 0, 3, 2)])
    assert merged.compute() == whole.compute()
    assert merged.state_dict()["state"] == whole.state_dict()["state"]
    again = fe.Accumulator.from_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert again.compute() == whole.compute() == pickle.loads(pickle.dumps(whole)).compute()
    confidence, correct = observed(task, args)
    here = groups == 1
    unit = np.ones(N) if w is None else w
    bins = equal_mass(confidence[here], unit[here])
    value, error = exact(bins, confidence[here], correct[here], unit[here])
    assert whole.compute().groups[1]["ece_equal_mass"].value == pytest.approx(value, rel=1e-15)
    assert whole.compute().groups[1]["ece_equal_mass"].stderr == pytest.approx(error, rel=1e-12)


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**900])
def test_scale_of_weights_is_no_matter(scale):
    args, _ = batch("sparse")
    one, other = (
        accumulator("sparse").update(*args, sample_weight=WEIGHTS["any"] * s).compute()
        for s in (1.0, scale)
    )
    for name in METRICS:
        assert one[name].value == other[name].value
        assert one[name].stderr == pytest.approx(other[name].stderr, rel=1e-14)


def test_cells_are_those_of_the_histogram():
    from fastent._calibration import CELL_NAN, cells_of, upper_edge

    values = np.array([0.0, 5e-324, 1e-310, 2.0**-1022, 1e-30, 0.3, 0.5, 0.999, 1.0])
    for cell, value in zip(cells_of(values).tolist(), values.tolist(), strict=True):
        assert bucket_middle(cell) == pytest.approx(value, rel=1 / 64)
        assert value < upper_edge(cell) or value < 1e-320
    assert CELL_NAN == 1 << 20


def test_all_right_and_equally_sure():
    """Nothing varies: the error is 0, however the rows are weighed."""
    pred = np.tile([0.9, 0.1], (50, 1))
    for w in (None, rng(1).exponential(size=50)):
        report = accumulator("sparse", ["ece"]).update(np.zeros(50, int), np.log(pred), w).compute()
        assert report["ece"].value == pytest.approx(0.1, rel=1e-14)
        assert report["ece"].stderr < 1e-16


def test_few_and_odd_rows():
    empty = accumulator("sparse").compute()
    assert all(math.isnan(empty[m].value) and empty[m].stderr is None for m in METRICS)
    pred = [math.nan, 0.5]
    report = accumulator("binary").update([1, 0], pred).compute()
    assert all(math.isnan(report[m].value) and math.isnan(report[m].stderr) for m in METRICS)
    one = accumulator("binary").update([1], [0.75]).compute()
    assert one["ece_equal_mass"].value == 0.25 and one["ece_equal_mass"].stderr is None


@pytest.mark.parametrize("weights", [None, [2.0, 1.0]])
@pytest.mark.parametrize("metric", [*METRICS, "ece_classwise"])
def test_a_probability_of_minus_zero_is_zero(metric, weights):
    task, rows = "binary", np.array([0.0, 0.4])
    labels = np.array([0.0, 1.0])
    if metric == "ece_classwise":
        task, rows, labels = "sparse", np.array([[0.0, 1.0], [0.4, 0.6]]), np.array([1, 0])
    one, other = (
        fe.Accumulator([metric], task=task).update(labels, pred, sample_weight=weights)
        for pred in (rows, np.where(rows == 0, -0.0, rows))
    )
    assert other.compute()[metric].value == one.compute()[metric].value > 0


def test_bins_of_equal_mass_as_columns():
    args, _ = batch("binary")
    report = accumulator("binary").update(*args).compute()
    found = report.calibration("ece_equal_mass")
    assert list(found) == list(report.calibration())
    assert found["lower"][0] == 0 and found["upper"][-1] == 1
    assert found["lower"][1:].tolist() == found["upper"][:-1].tolist()
    assert found["weight"].sum() == N and len(found["weight"]) == BINS
    assert (np.abs(found["weight"] - N / BINS) < 25).all()
    gap = np.abs(found["frequency"] - found["confidence"]) @ found["weight"] / N
    assert gap == pytest.approx(report["ece_equal_mass"].value, rel=1e-13)
    inside = (args[1] >= found["lower"][2]) & (args[1] < found["upper"][2])
    assert inside.sum() == found["weight"][2]
    alone = accumulator("binary", ["ece_equal_mass"]).update(*args).compute()
    np.testing.assert_array_equal(alone.calibration()["upper"], found["upper"])
    with pytest.raises(ValueError, match="metric: expected one of ece, "):
        report.calibration("accuracy")


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("base", [None, 2])
def test_mean_of_clusters_means(weights, base):
    args, _ = batch("sparse")
    clusters = rng(5).integers(0, 40, N) ** 2 // 40
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    acc = fe.Accumulator(["sequence_cross_entropy", "cross_entropy"], kind="logits", base=base)
    acc.update(*args, sample_weight=given, clusters=clusters, groups=clusters % 2)
    losses = [Fraction(x) for x in (w * fe.sparse_cross_entropy(*args, kind="logits", base=base))]
    means = []
    for c in np.unique(clusters):
        here = np.flatnonzero((clusters == c) & (w > 0))
        if len(here):
            means.append(sum(losses[i] for i in here) / sum(Fraction(float(w[i])) for i in here))
    mean, count = sum(means) / len(means), len(means)
    squares = sum((m - mean) ** 2 for m in means) / (count * (count - 1))
    got = acc.compute()["sequence_cross_entropy"]
    assert got.value == pytest.approx(float(mean), rel=1e-15)
    assert got.stderr == got.cluster_stderr == pytest.approx(root(squares), rel=1e-14)
    assert "sequence_cross_entropy" not in acc.compute().groups[1]
    parts = [
        fe.Accumulator(
            ["cross_entropy", "sequence_cross_entropy"], kind="logits", base=base
        ).update(*(a[k] for a in args), None if given is None else w[k], clusters=clusters[k])
        for k in np.array_split(rng(9).permutation(N), 4)
    ]
    merged = fe.merge(parts).compute()["sequence_cross_entropy"]
    assert (merged.value, merged.stderr) == (got.value, got.stderr)


def test_clusters_are_needed(tmp_path, monkeypatch, capsys):
    from fastent.cli import main

    acc = fe.Accumulator("sequence_cross_entropy")
    with pytest.raises(ValueError, match="clusters: expected one of each row for sequence_cross"):
        acc.update([0], [[0.5, 0.5]])
    monkeypatch.chdir(tmp_path)
    (labels, logits), _ = batch("sparse")
    for name, array in {"x": logits, "y": labels, "c": np.arange(N) // 9}.items():
        np.save(f"{name}.npy", array)
    words = [
        "score",
        "x.npy",
        "--labels",
        "y.npy",
        "--kind",
        "logits",
        "--json",
        "r.json",
        "--metrics",
    ]
    assert main([*words, "sequence_cross_entropy"]) == 2
    assert "--metrics sequence_cross_entropy: needs --clusters" in capsys.readouterr().err
    assert main([*words, "sequence_cross_entropy,ece_equal_mass", "--clusters", "c.npy"]) == 0
    found = json.loads((tmp_path / "r.json").read_text())["metrics"]
    acc = fe.Accumulator(["sequence_cross_entropy", "ece_equal_mass"], kind="logits")
    report = acc.update(labels, logits, clusters=np.arange(N) // 9).compute()
    assert found == json.loads(report.to_json())["metrics"]


def exact_classwise(p, labels, w):
    """(value, error) of each class in turn."""
    found = []
    for c in range(p.shape[1]):
        own = (labels == c).astype(float)
        found.append(exact(equal_width(p[:, c], w), p[:, c], own, w))
    return found


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", ["logits", "probs"])
def test_calibration_of_every_class(weights, kind, engine, monkeypatch):
    from fastent import _classwise

    (labels, logits), _ = batch("sparse")
    # multiples of 2^-20: rows sum to 1 exactly, and probabilities are those that were given
    p = np.round(np.exp(logits - logits.max(1, keepdims=True)) * 2.0**16) / 2.0**20
    p[:, 0] += 1 - p.sum(axis=1)
    monkeypatch.setattr(_classwise, "NUMBERS", 600)  # some rows at a time
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    with np.errstate(divide="ignore"):
        rows = p if kind == "probs" else np.log(p)
    options = {"kind": kind, "bins": BINS, "backend": engine}
    acc = fe.Accumulator(["ece_classwise", "accuracy"], **options)
    got = acc.update(labels, rows, given).compute()["ece_classwise"]
    want = exact_classwise(p, labels, w)
    tolerance = 1e-15 if kind == "probs" else 1e-13
    assert got.per_class == pytest.approx([v for v, _ in want], rel=tolerance)
    assert got.per_class_stderr == pytest.approx([e for _, e in want], rel=1e-12)
    assert got.value == pytest.approx(np.mean([v for v, _ in want]), rel=tolerance)
    assert got.stderr == pytest.approx(math.hypot(*(e for _, e in want)) / len(want), rel=1e-12)
    assert got.classes == tuple(range(p.shape[1])) and got.min is None


def test_classwise_in_any_cut(tmp_path, monkeypatch):
    from fastent.cli import main

    (labels, logits), _ = batch("sparse")
    labels = np.where(np.arange(N) % 50 == 7, -100, labels)
    w = np.where(np.arange(N) < 300, 1.0, WEIGHTS["any"])
    groups = rng(3).integers(0, 3, N)
    names = ["ece_classwise", "confusion", "ece_equal_mass"]
    options = {"kind": "logits", "ignore_index": -100}
    whole = fe.Accumulator(names, **options).update(labels, logits, w, groups)
    parts = [
        fe.Accumulator(names[::-1], **options).update(labels[k], logits[k], w[k], groups[k])
        for k in np.array_split(np.arange(N), [3, 3, 300, 480])
    ]
    merged = fe.merge([parts[k] for k in (3, 1, 4, 0, 2)])
    assert merged.compute() == whole.compute()
    assert merged.state_dict()["state"] == whole.state_dict()["state"]
    again = fe.Accumulator.from_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert again.compute() == whole.compute() == pickle.loads(pickle.dumps(whole)).compute()
    monkeypatch.chdir(tmp_path)
    for name, array in {"x": logits, "y": labels, "w": w, "g": groups}.items():
        np.save(f"{name}.npy", array)
    words = ["score", "x.npy", "--labels", "y.npy", "--weights", "w.npy", "--groups", "g.npy",
             "--kind", "logits", "--ignore-index", "-100", "--metrics", ",".join(names),
             "--json", "r.json"]  # fmt: skip
    assert main(words) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    want = json.loads(whole.compute().to_json())
    assert found["metrics"] == want["metrics"] and found["groups"] == want["groups"]


def test_classwise_of_rows_that_are_left_out(tmp_path, monkeypatch):
    """NaN in a row spoils it; the command may omit the row."""
    from fastent.cli import main

    (labels, logits), _ = batch("sparse")
    logits = logits.copy()
    logits[9, 2] = math.nan
    names = ["ece_classwise", "ece_equal_mass", "f1"]
    report = fe.Accumulator(names, kind="logits").update(labels, logits).compute()
    assert all(math.isnan(report[n].value) and math.isnan(report[n].stderr) for n in names)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", logits)
    np.save("y.npy", labels)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--nan-policy", "omit"]
    assert main([*words, "--metrics", ",".join(names), "--json", "r.json", "--quiet"]) == 0
    kept = np.arange(N) != 9
    want = fe.Accumulator(names, kind="logits").update(labels[kept], logits[kept]).compute()
    found = json.loads((tmp_path / "r.json").read_text())["metrics"]
    for name in names:
        assert found[name]["value"] == want[name].value
        assert found[name]["stderr"] == want[name].stderr
    acc = fe.Accumulator("ece_classwise", kind="logits")
    with pytest.raises(ValueError, match="needs a table of at most 1000 classes, got 1001"):
        acc.update([0], np.zeros((1, 1001)))
    assert math.isnan(acc.compute()["ece_classwise"].value)


def test_sums_beyond_any_float_beside_one_that_is_none():
    huge = _calibration.Bin(1 << 2200, 1 << 2200, 1 << 2200, 1, 1)
    none = _calibration.Bin(math.nan, math.inf, math.inf, math.nan, math.nan)
    for bins in ([huge, none], [none, huge]):
        assert math.isnan(_calibration.expected_error(bins))
        bounds, runs = _calibration.equal_mass(dict(enumerate(bins)), 5)
        assert bounds == [1.0] and all(math.isnan(x) for x in runs[0])
    assert _calibration.expected_error([huge, huge]) == 0
