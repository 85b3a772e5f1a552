"""The confusion table and what follows from it, against exact arithmetic, in any order of rows."""

import itertools
import json
import math
import pickle
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from streams import WEIGHTS, C, N, batch, rng, softmax

import fastent as fe

TABLE = ["confusion", "precision", "recall", "f1"]
METRICS = {
    "sparse": [*TABLE, "iou", "dice", "label_entropy"],
    "categorical": [*TABLE, "iou", "dice"],
    "binary": TABLE,
}
# by name: how often hits count, and what they are divided by, of labels, predictions and hits
RATIOS = {"precision": (1, 0, 1, 0), "recall": (1, 1, 0, 0), "f1": (2, 1, 1, 0),
          "dice": (2, 1, 1, 0), "iou": (1, 1, 1, -1)}  # fmt: skip


def pairs(task, args):
    """Label and first maximum of each row."""
    if task == "binary":
        return (args[0] >= 0.5).astype(int), (args[1] >= 0.5).astype(int)
    labels = args[0] if task == "sparse" else args[0].argmax(axis=1)
    return labels, args[1].argmax(axis=1)


def root(x):
    with mpmath.workprec(200):
        return float(mpmath.sqrt(mpmath.mpf(x.numerator) / x.denominator))


def exact(labels, predicted, w, classes):
    """The table, and (value, stderr, per class, their errors) of each ratio, as exact as can be."""
    weights = [Fraction(x) for x in np.asarray(w, float).tolist()]
    rows = [
        (t, p, x) for t, p, x in zip(labels.tolist(), predicted.tolist(), weights, strict=True) if x
    ]
    table = [[Fraction(0)] * classes for _ in range(classes)]
    for t, p, x in rows:
        table[t][p] += x
    n = len(rows)
    found = {}
    for name, (times, *of) in RATIOS.items():
        ratios, below = [], []
        for c in range(classes):
            hits = table[c][c]
            sums = (sum(table[c]), sum(line[c] for line in table), hits)
            below.append(sum(k * x for k, x in zip(of, sums, strict=True)))
            ratios.append(times * hits / below[c] if below[c] else None)

        def change(t, p, c, ratio=ratios, below=below, times=times, of=of):
            """What a row is to the ratio of a class, but for its weight."""
            if ratio[c] is None:
                return Fraction(0)
            own = (t == c, p == c, t == p == c)
            return (
                times * own[2] - ratio[c] * sum(k * x for k, x in zip(of, own, strict=True))
            ) / below[c]

        def error(changes):
            total = sum((x * d) ** 2 for (*_, x), d in zip(rows, changes, strict=True))
            return root(total * Fraction(n, n - 1))

        defined = [r for r in ratios if r is not None]
        mean = float(sum(defined) / len(defined)) if defined else math.nan
        of_mean = [sum(change(t, p, c) for c in {t, p}) / len(defined) for t, p, _ in rows]
        by_class = [error([change(t, p, c) for t, p, _ in rows]) for c in range(classes)]
        found[name] = (
            mean,
            error(of_mean),
            [math.nan if r is None else float(r) for r in ratios],
            [math.nan if r is None else e for r, e in zip(ratios, by_class, strict=True)],
        )
    return [[float(x) for x in line] for line in table], found


def check(report, task, labels, predicted, w, classes=C):
    table, ratios = exact(labels, predicted, w, classes)
    assert report["confusion"].value.tolist() == table
    assert report["confusion"].stderr is None
    for name, (mean, error, values, errors) in ratios.items():
        if name not in report:
            continue
        got = report[name]
        if task == "binary":
            mean, error = values[1], errors[1]
        assert got.value == pytest.approx(mean, rel=1e-15, nan_ok=True)
        assert got.stderr == pytest.approx(error, rel=1e-13, nan_ok=True)
        assert got.per_class.tolist() == pytest.approx(values, rel=0, abs=0, nan_ok=True)
        assert got.per_class_stderr.tolist() == pytest.approx(errors, rel=1e-13, nan_ok=True)
        assert got.classes == tuple(range(classes))
        assert got.min is None and got.cluster_stderr is None


def accumulator(task, **options):
    return fe.Accumulator(METRICS[task], task=task, **batch(task)[1], **options)


@pytest.mark.parametrize("task", METRICS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_tables_and_ratios_are_exact(task, weights, engine):
    args, _ = batch(task)
    given = WEIGHTS[weights]
    w = np.ones(N) if given is None else given
    report = accumulator(task, backend=engine).update(*args, sample_weight=given).compute()
    check(report, task, *pairs(task, args), w, 2 if task == "binary" else C)
    assert report["f1"].count == (w > 0).sum() and report["f1"].weight == math.fsum(w)


@pytest.mark.parametrize("task", METRICS)
@pytest.mark.parametrize("weights", ["unit", "any", "tiny and huge", "some at last"])
def test_any_cut_and_merge_gives_the_same_bits(task, weights):
    args, _ = batch(task)
    w = WEIGHTS.get(weights)
    if weights == "some at last":
        w = np.where(np.arange(N) < 500, 1.0, WEIGHTS["any"])
    groups = rng(3).integers(0, 4, N)
    whole = accumulator(task).update(*args, sample_weight=w, groups=groups)
    order = rng(8).permutation(N)
    parts = []
    for piece in np.array_split(order, [3, 3, 90, 480, 600]):
        given = None if w is None or (w[piece] == 1).all() else w[piece]
        part = fe.Accumulator(METRICS[task][::-1], task=task, **batch(task)[1])
        part.update(*(a[piece] for a in args), sample_weight=given, groups=groups[piece])
        parts.append(part)
    merged = fe.merge([parts[k] for k in (4, 1, 5, 0, 3, 2)])
    assert merged.compute() == whole.compute()
    assert merged.state_dict()["state"] == whole.state_dict()["state"]
    again = fe.Accumulator.from_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert again.compute() == whole.compute() == pickle.loads(pickle.dumps(whole)).compute()
    copied = pickle.loads(pickle.dumps(whole.compute()))
    assert copied == whole.compute() and copied["f1"].classes == whole.compute()["f1"].classes
    unit = np.ones(N) if w is None else w
    for g in range(4):
        here = groups == g
        found = [x[here] for x in pairs(task, args)]
        check(whole.compute().groups[g], task, *found, unit[here], 2 if task == "binary" else C)


def test_scale_of_weights_is_no_matter():
    args, _ = batch("sparse")
    w = WEIGHTS["any"]
    reports = [
        accumulator("sparse").update(*args, sample_weight=np.ldexp(w, k)).compute()
        for k in (0, -900, 900)
    ]
    for name in ("precision", "recall", "f1", "iou"):
        for report in reports[1:]:
            assert report[name].value == reports[0][name].value
            assert report[name].stderr == pytest.approx(reports[0][name].stderr, rel=1e-14)


def test_classes_that_do_not_occur():
    """Class 0 is right, 1 never predicted, 2 never a label, and 3 neither."""
    pred = np.zeros((3, 4))
    pred[[0, 1, 2], [0, 2, 2]] = 1
    acc = fe.Accumulator(METRICS["sparse"], classes=["ant", "bee", "cat", "dog"])
    report = acc.update(["ant", "bee", "bee"], pred).compute()
    nan = math.nan
    for name, want in {"precision": [1, nan, 0, nan], "recall": [1, 0, nan, nan],
                       "f1": [1, 0, 0, nan], "iou": [1, 0, 0, nan]}.items():  # fmt: skip
        assert report[name].per_class.tolist() == pytest.approx(want, nan_ok=True)
        assert report[name].value == pytest.approx(np.nanmean(want))
        assert report[name].classes == ("ant", "bee", "cat", "dog")
    assert report["confusion"].value[1].tolist() == [0, 0, 2, 0]


def test_beside_scikit_learn():
    from sklearn import metrics as theirs

    (labels, logits), _ = batch("sparse")
    labels, w = np.where(labels == 3, 2, labels), WEIGHTS["some zero"]
    report = accumulator("sparse").update(labels, logits, w).compute()
    predicted, every = logits.argmax(axis=1), np.arange(C)
    options = {"sample_weight": w, "labels": every}
    table = theirs.confusion_matrix(labels, predicted, **options)
    assert report["confusion"].value.tolist() == table.tolist()
    for name in ("precision", "recall", "f1"):
        score = getattr(theirs, f"{name}_score")
        rule = {**options, "zero_division": math.nan}
        for average, got in (("macro", report[name].value), (None, report[name].per_class)):
            want = score(labels, predicted, average=average, **rule)
            np.testing.assert_allclose(got, want, rtol=1e-14)


def test_empty_and_few_rows():
    empty = fe.Accumulator(METRICS["sparse"]).compute()
    assert empty["confusion"].value.shape == (0, 0) and math.isnan(empty["f1"].value)
    assert empty["f1"].stderr is None and empty["f1"].per_class.shape == (0,)
    one = fe.Accumulator(METRICS["sparse"]).update([1], [[0.25, 0.75]]).compute()
    assert one["f1"].value == 1 and one["f1"].per_class_stderr is None


@pytest.mark.parametrize("task", METRICS)
def test_a_row_with_nan_spoils_what_it_may_be_part_of(task):
    """The label is known, the prediction is not."""
    args, _ = batch(task)
    args = [np.array(a, float) if k else a for k, a in enumerate(args)]
    args[1][5] = math.nan
    report = accumulator(task).update(*args).compute()
    label = pairs(task, args)[0][5]
    bad = np.isnan(report["confusion"].value)
    assert bad[label].all() and not np.delete(bad, label, axis=0).any()
    assert np.isnan(report["precision"].per_class).all() and np.isnan(report["f1"].value)
    assert np.isnan(report["recall"].per_class).nonzero()[0].tolist() == [label]


def test_ties_and_halves():
    acc = fe.Accumulator("confusion").update([0, 1], [[0.5, 0.5], [0.5, 0.5]])
    assert acc.compute()["confusion"].value.tolist() == [[1, 0], [1, 0]]
    acc = fe.Accumulator("confusion", task="binary").update([0.5, 0.25], [0.5, 0.499])
    assert acc.compute()["confusion"].value.tolist() == [[1, 0], [0, 1]]


def test_ignored_rows_and_many_classes():
    rows, classes = 400, 1000
    r = rng(2)
    labels, logits = r.integers(0, classes, rows), r.standard_normal((rows, classes))
    labels[::7] = -100
    acc = fe.Accumulator("confusion", kind="logits", ignore_index=-100).update(labels, logits)
    kept = labels >= 0
    want = np.zeros((classes, classes))
    np.add.at(want, (labels[kept], logits.argmax(axis=1)[kept]), 1)
    np.testing.assert_array_equal(acc.compute()["confusion"].value, want)


def test_what_has_no_table_is_refused():
    acc = fe.Accumulator("f1", kind="logits")
    before = acc.state_dict()
    with pytest.raises(
        ValueError, match=r"metrics: f1 needs a table of at most 1000 classes, got 1001"
    ):
        acc.update([0], np.zeros((1, 1001)))
    with pytest.raises(ValueError, match="metrics: does not apply to rows of unequal length"):
        acc.update([0, 1], np.zeros(5), lengths=(2, 3))
    assert acc.state_dict() == before
    with pytest.raises(ValueError, match="no 'confusion' in task 'divergence'"):
        fe.Accumulator("confusion", task="divergence")


def test_as_data():
    acc = fe.Accumulator(["confusion", "recall"], classes=["no", "yes"])
    acc.update(["no", "yes", "yes"], softmax(rng(1).standard_normal((3, 2))), groups=[0, 0, 1])
    report = acc.compute()
    data = report.to_dict()["metrics"]
    assert data["confusion"]["value"] == report["confusion"].value.tolist()
    assert data["confusion"]["classes"] == ["no", "yes"] == data["recall"]["classes"]
    assert data["recall"]["per_class"] == report["recall"].per_class.tolist()
    text = json.loads(report.to_json())
    assert text["metrics"] == data
    assert text["groups"]["1"]["recall"]["per_class"] == ["nan", report.groups[1]["recall"].value]
    for library in ("pandas", "polars"):
        frame = report.to_frame(library)
        columns = (frame[c].to_list() for c in ("metric", "class", "predicted", "value"))
        cells = [row for row in zip(*columns, strict=True) if row[0] == "confusion"]
        whole = sum(x > 0 for x in report["confusion"].value.flat)
        assert sum(value for *_, value in cells[:whole]) == 3
        assert {name for _, name, _, _ in cells} == {"no", "yes"}
    assert "2 × 2" in report._repr_html_() and "confusion" not in repr(report)
    with pytest.raises(ValueError, match="read-only"):
        report["confusion"].value[0, 0] = 1


def test_no_two_pairs_are_one():
    from fastent._confusion import paired, unpaired

    every = np.array(list(itertools.product(range(70), repeat=2)))
    codes = paired(every[:, 0], every[:, 1].astype(float))
    assert sorted(codes.tolist()) == list(range(70 * 70))
    assert np.array_equal(np.stack(unpaired(codes), axis=1), every)
    label, predicted = unpaired(paired(np.array([999, 3]), np.array([0.0, math.nan])))
    assert label.tolist() == [999, 3] and predicted.tolist() == [0, -1]


def test_the_command_and_workers(tmp_path, monkeypatch, capsys):
    """Small blocks, several threads and files, a checkpoint and groups: the same numbers."""
    from fastent.cli import main
    from fastent.io import shards

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards, "PIECE_ROWS", 40)
    (labels, logits), _ = batch("sparse")
    w, groups, names = WEIGHTS["any"], rng(3).integers(0, 3, N), [f"c{k}" for k in range(C)]
    named = np.array(names)[labels]
    for role, array in {"y": named, "x": logits, "w": w, "g": groups}.items():
        for k, part in enumerate(np.array_split(array, 3)):
            np.save(f"{role}-{k}.npy", part)
    report = fe.Accumulator(METRICS["sparse"], kind="logits", classes=names)
    report = report.update(named, logits, w, groups).compute()
    words = ["score", "x-*.npy", "--kind", "logits", "--metrics", ",".join(METRICS["sparse"])]
    for role, option in {"y": "--labels", "w": "--weights", "g": "--groups"}.items():
        words += [option, f"{role}-*.npy"]
    words += ["--classes", ",".join(names), "--num-threads", "3", "--checkpoint", "c"]
    assert main([*words, "--json", "r.json"]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    want = json.loads(report.to_json())
    assert found["metrics"] == want["metrics"] and found["groups"] == want["groups"]
    shown = capsys.readouterr().out
    assert f"{C} × {C}" in shown and "c5" in shown and "Classes" in shown


def test_dask_blocks():
    da = pytest.importorskip("dask.array")
    from fastent.dask import accumulate

    (labels, logits), _ = batch("sparse")
    lazy = accumulate(
        METRICS["sparse"], labels, da.from_array(logits, chunks=(90, C)), kind="logits"
    )
    whole = accumulator("sparse").update(labels, logits).compute()
    assert lazy.compute(scheduler="sync") == whole
