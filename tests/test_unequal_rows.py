"""Rows of unequal length: each has the bits that it has alone, in any batch and order."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import fastent as fe

RNG = np.random.default_rng(9)
ROWS = 60
LENGTHS = RNG.choice([1, 2, 3, 7, 600], ROWS)
LOGITS = [RNG.normal(size=n) * 3 for n in LENGTHS]
LABELS = np.array([RNG.integers(0, n) for n in LENGTHS])
WEIGHTS = RNG.choice([0.0, 0.3, 1.0, 2.5], ROWS)
NAMES = np.array(["de", "en", "fr"])[np.arange(ROWS) % 3]
METRICS = ["cross_entropy", "perplexity", "accuracy", "top2_accuracy", "top3_accuracy", "brier",
           "entropy", "confidence", "margin", "ece", "mce", "label_entropy", "skill"]  # fmt: skip
OPTIONS = [
    {},
    {"temperature": 1.7, "label_smoothing": 0.1, "base": 2},
    {"eps": 0.01, "ignore_index": 0},
]
FORMS = {
    "lengths": lambda rows: (np.concatenate(rows), {"lengths": [len(row) for row in rows]}),
    "lengths of polars": lambda rows: (
        pl.Series(np.concatenate(rows)), {"lengths": pl.Series([len(row) for row in rows])},
    ),
    "polars": lambda rows: (pl.Series(rows), {}),
    "objects": lambda rows: (np.array([None, *rows], object)[1:], {}),
    "arrow in chunks": lambda rows: (
        pa.chunked_array([[row.tolist() for row in rows[:9]], [row.tolist() for row in rows[9:]]]),
        {},
    ),
}  # fmt: skip


def alone(options, backend):
    return np.array([
        fe.sparse_cross_entropy(label, row, kind="logits", backend=backend, **options)
        for label, row in zip(LABELS, LOGITS, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_row_has_the_bits_that_it_has_alone(form, options, engine):
    pred, lengths = form(LOGITS)
    call = {"kind": "logits", "backend": engine, **options, **lengths}
    expected = alone(options, engine)
    np.testing.assert_array_equal(fe.sparse_cross_entropy(LABELS, pred, **call), expected)
    weights = np.where(LABELS == options.get("ignore_index"), 0.0, WEIGHTS)
    weighted = np.where(weights == 0, 0.0, weights * expected)
    for reduction, truth in (("none", weighted), ("sum", weighted.sum()),
                             ("mean", weighted.sum() / weights.sum())):  # fmt: skip
        found = fe.sparse_cross_entropy(
            LABELS, pred, sample_weight=WEIGHTS, reduction=reduction, **call
        )
        np.testing.assert_allclose(found, truth, rtol=1e-14)
    plain = fe.sparse_cross_entropy(LABELS, pred, reduction="mean", **call)
    counted = LABELS != options.get("ignore_index")
    np.testing.assert_allclose(plain, expected.sum() / counted.sum(), rtol=1e-14)


def accumulator(options=(), backend=None):
    return fe.Accumulator(METRICS, kind="logits", backend=backend, **dict(options))


def numbers(acc):
    report = acc.compute()
    parts = [report, *(report.groups[name] for name in sorted(report.groups))]
    return repr([(m, p[m].value, p[m].stderr, p[m].cluster_stderr, p[m].weight)
                 for p in parts for m in p])  # fmt: skip


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("options", OPTIONS)
def test_an_accumulator_has_the_bits_of_rows_one_by_one(form, options, engine):
    expected = fe.merge(
        accumulator(options, engine).update([y], row, [w], [g], [k // 4], lengths=[len(row)])
        for k, (y, row, w, g) in enumerate(zip(LABELS, LOGITS, WEIGHTS, NAMES, strict=True))
    )
    pred, lengths = form(LOGITS)
    clusters = np.arange(ROWS) // 4
    whole = accumulator(options, engine).update(LABELS, pred, WEIGHTS, NAMES, clusters, **lengths)
    assert numbers(whole) == numbers(expected)
    halves = accumulator(options, engine)
    for part in (slice(31, None), slice(None, 31)):
        pred, lengths = form(LOGITS[part])
        halves.update(LABELS[part], pred, WEIGHTS[part], NAMES[part].tolist(), clusters[part],
                      **lengths)  # fmt: skip
    assert numbers(halves) == numbers(expected)
    again = fe.Accumulator.from_state_dict(halves.state_dict())
    assert numbers(again.update(LABELS, *FORMS["polars"](LOGITS)[:1])) != numbers(halves)


def test_top_k_counts_within_the_row():
    acc = fe.Accumulator(["top2_accuracy", "top3_accuracy"])
    report = acc.update([1, 2], [0.9, 0.1, 0.5, 0.3, 0.2], lengths=(2, 3)).compute()
    assert report["top2_accuracy"].value == 0.5 and report["top3_accuracy"].value == 1


def test_numbers_of_classes_do_not_depend_on_the_order_of_batches():
    """Columns of lists may differ from batch to batch, arrays may not, nor arrays and lists."""

    def lists(length):
        return pl.Series([[1 / length] * length])

    acc = fe.Accumulator("accuracy").update([0], lists(3)).update([0], lists(4))
    assert acc.compute()["accuracy"].count == 2
    array = np.full((1, 3), 1 / 3)
    for first, second in ((array, lists(4)), (lists(4), array)):
        acc = fe.Accumulator("accuracy").update([0], first)
        other = fe.Accumulator("accuracy").update([0], second)
        with pytest.raises(ValueError, match="expected 3 classes, got 4 as in the rows before"):
            acc.update([0], second)
        with pytest.raises(ValueError, match="number of classes differs: 3 and 4"):
            acc.merge(other)
        with pytest.raises(ValueError, match="number of classes differs: 3 and 4"):
            fe.Accumulator.from_state_dict(acc.state_dict()).merge(other)
        assert acc.compute()["accuracy"].count == 1
    fe.Accumulator("accuracy").update([0], array).update([0], lists(3)).update([0], array)
    with pytest.raises(ValueError, match="expected 3 classes, got several"):
        fe.Accumulator("accuracy").update([0], array).update([0, 0], pl.Series([[1.0], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"labels": [0, 2, 0]}, r"labels: expected classes in \[0, 2\), got 2 in row 1"),
        ({"labels": [5, 1, 9]}, r"labels: expected classes in \[0, 3\), got 5 in row 0"),
        ({"labels": [0, 0.5, 0]}, "labels: expected whole numbers, got 0.5 in row 1"),
        ({"labels": [0, 0]}, r"labels: expected shape \(3,\), got \(2,\)"),
        ({"sample_weight": [1, 1, -1]}, "sample_weight: expected weights .* got -1.0 in row 2"),
        ({"sample_weight": [1, 1]}, r"sample_weight: expected shape \(3,\), got \(2,\)"),
        ({"pred": [0.2, 0.3, 0.5, 0.5, 0.6, 1]}, "pred: expected rows that sum .* 1.1 in row 1"),
        ({"lengths": [3, 2, 2]}, "lengths: expected to add up to the 6 values of pred, got 7"),
        ({"lengths": [3, -2, 5]}, "lengths: expected numbers of at least 0, got -2 in row 1"),
        ({"lengths": [3, 3, 0]}, "pred: expected at least one class, got none in row 2"),
        ({"lengths": [3.0, 2.0, 1.0]}, "lengths: expected a whole number for each row, got float"),
        ({"lengths": 6}, r"lengths: expected a whole number for each row, got int64 of shape \(\)"),
        ({"pred": np.ones((2, 3))}, "lengths: expected pred with the values .* shape"),
        ({"classes": ["a"]}, "classes: does not apply to rows of unequal length"),
        ({"class_weight": [1, 2, 3]}, "class_weight: does not apply to rows of unequal length"),
        ({"axis": 0}, "axis: does not apply to rows of unequal length, got 0"),
    ],
)
def test_refused(keywords, said):
    call = {"labels": [0, 1, 0], "pred": [0.2, 0.3, 0.5, 0.5, 0.5, 1], "lengths": [3, 2, 1]}
    call |= keywords
    rows = {name: call.pop(name) for name in ("labels", "pred", "lengths", "sample_weight")
            if name in call}  # fmt: skip
    with pytest.raises((ValueError, TypeError), match=f"^{said}"):
        fe.sparse_cross_entropy(**rows, **call)
    acc = fe.Accumulator(["cross_entropy", "accuracy"], **call)
    before = acc.state_dict()
    rows["true"] = rows.pop("labels")
    with pytest.raises((ValueError, TypeError), match=f"^{said}"):
        acc.update(**rows)
    assert acc.state_dict() == before


def test_other_tasks_and_functions_refuse_them():
    rows = pl.Series([[0.5, 0.5], [1.0]])
    said = "expected rows of equal length, got 2 in row 0 and 1 in row 1"
    for call in (
        lambda: fe.entropy(rows),
        lambda: fe.kl_divergence(rows, rows),
        lambda: fe.cross_entropy_gradient([0, 0], rows),
        lambda: fe.focal_cross_entropy([0, 0], rows),
        lambda: fe.Accumulator("kl_divergence", task="divergence").update(rows, rows),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    acc = fe.Accumulator("kl_divergence", task="divergence")
    with pytest.raises(ValueError, match="lengths: applies to task 'sparse' only"):
        acc.update([1.0], [1.0], lengths=[1])


def test_halves():
    """bfloat16 tensors: gathered rows are still what they were."""
    torch = pytest.importorskip("torch")
    rows = [torch.from_numpy(row).to(torch.bfloat16) for row in LOGITS]
    found = fe.sparse_cross_entropy(LABELS, torch.cat(rows), kind="logits", lengths=LENGTHS)
    for k, row in enumerate(rows):
        assert found[k] == fe.sparse_cross_entropy(LABELS[k], row, kind="logits")
