"""The NumPy backend by itself: every column of every task, straight from `row_values`.

It computes in float64 whatever comes in, so float32 rows are held to the float64 bounds too.
"""

import functools
import tracemalloc
from itertools import product
from types import SimpleNamespace

import backend_rows
import hard_inputs as hard
import hard_pairs
import numpy as np
import oracle
import pytest
from backend_rows import beside_exact, make_spec

from fastent.backends.numpy import row_values

PAIRS = tuple(product(hard.KINDS, hard.KINDS))
INF, NAN = np.inf, np.nan


evaluate = functools.partial(backend_rows.evaluate, row_values)


def first_bad(spec, true, pred, labels=None):
    out = np.empty((len(spec.columns), len(pred)))
    return row_values(spec, true, pred, labels, out)


def check(task, kind, true, pred, labels=None, what="", **options):
    """All columns of all rows against exact arithmetic."""
    rows = beside_exact(row_values, task, kind, true, pred, labels, **options)
    for i, name, value, exact, relaxed in rows:
        oracle.assert_close(
            [value], [exact], np.float64, relaxed, f"{task} {kind} {what} {i} {name}"
        )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", hard.KINDS)
def test_one_distribution(kind, dtype):
    for name, rows in hard.singles(kind, hard.DTYPES[dtype]).items():
        check("entropy", kind, None, rows, what=name)
        for seed in range(5):
            labels = np.roll(hard.labels(rows), seed)
            check("sparse", kind, None, rows, labels, what=name)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", PAIRS, ids="-".join)
@pytest.mark.parametrize("task", ["divergence", "categorical"])
def test_two_distributions(task, kind, dtype):
    for name, (true, pred) in hard_pairs.pairs(*kind, hard.DTYPES[dtype]).items():
        check(task, kind, true, pred, what=name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", hard.KINDS)
def test_elements(kind, dtype):
    for name, (true, pred) in hard.bernoullis(kind, hard.DTYPES[dtype]).items():
        check("binary", kind, true, pred, what=name)


@pytest.mark.parametrize("task", ["divergence", "categorical"])
def test_counts_are_rescaled(task):
    for name, (true, pred) in hard_pairs.counts(np.float64).items():
        check(task, ("probs", "probs"), true, pred, what=name, row_sums="rescale")


def test_mixed_kinds_do_not_even_need_their_allowance():
    """Exponentials in 100 bits: 1e-14 holds down to 1e-30 where 1e-14·√(v/200) would do."""
    for kind in PAIRS:
        true, pred = hard_pairs.pairs(*kind, np.dtype(np.float64))["near"]
        names = ("kl_divergence", "js_divergence")
        got = evaluate(make_spec("divergence", kind, names), true, pred)
        for column, values in zip(names, got, strict=True):
            want = oracle.rows("divergence", column, true=true, pred=pred, kind=kind)
            oracle.assert_close(values, want, np.float64, what=f"{kind} {column}")


@pytest.mark.parametrize("temperature", [1e-3, 0.3, 1.7, 1e3])
def test_temperature(temperature):
    singles = hard.singles("logits", np.dtype(np.float64))
    pairs = hard_pairs.pairs("logits", "logits", np.dtype(np.float64))
    for name in ("ordinary", "offset", "confident", "ties", "minus infinity", "wide apart"):
        rows = singles[name]
        check("sparse", "logits", None, rows, hard.labels(rows), name, temperature=temperature)
    for name in ("near", "offset, near", "unrelated", "minus infinity", "confident"):
        true, pred = pairs[name]
        check("divergence", ("logits",) * 2, true, pred, what=name, temperature=temperature)
    true, pred = hard.bernoullis("logits", np.dtype(np.float64))["soft"]
    # the binary oracle knows no temperature; a power of two divides exactly
    spec = make_spec("binary", "logits", temperature=0.25)
    plain = evaluate(make_spec("binary", "logits"), true, pred * 4)
    assert np.array_equal(evaluate(spec, true, pred), plain)


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 1e-6, 0.1, 1.0])
@pytest.mark.parametrize("eps", [0.0, 1e-9, 0.05])
@pytest.mark.parametrize("kind", hard.KINDS)
def test_smoothing_eps_and_weights(kind, eps, smoothing):
    r = np.random.default_rng(0)
    options = {"eps": eps, "label_smoothing": smoothing}
    columns = ("cross_entropy", "target_weight")
    for name, rows in hard.singles(kind, np.dtype(np.float64)).items():
        classes = rows.shape[1]
        by_class = np.where(r.random(classes) < 0.2, 0.0, r.random(classes))
        by_term = by_class * r.random(rows.shape)
        target = hard.softmax(2 * r.normal(size=rows.shape))
        for weights in (None, by_class, by_term):
            extra = {"what": name, "weights": weights, "columns": columns, **options}
            check("sparse", kind, None, rows, hard.labels(rows), **extra)
            check("categorical", ("probs", kind), target, rows, **extra)
    for name, (true, pred) in hard.bernoullis(kind, np.dtype(np.float64)).items():
        check("binary", kind, true, pred, what=name, columns=columns[:1], **options)


@pytest.mark.parametrize("kind", PAIRS, ids="-".join)
def test_clipped_divergences(kind):
    columns = ("kl_divergence", "js_divergence", "cross_entropy")
    for name, (true, pred) in hard_pairs.pairs(*kind, np.dtype(np.float64)).items():
        if name.startswith(("near", "proportional", "next", "equal", "zeros, near", "offset,")):
            continue  # clipping moves nothing there, and what remains may cancel to any sign
        check("divergence", kind, true, pred, what=name, columns=columns, eps=1e-3)


def test_taken_as_they_are():
    """Sums of both signs cancel, so the error is held against the sum of the terms' sizes."""
    r = np.random.default_rng(1)
    rows = {
        "probs": 3 * r.random((2, 4, 9)),
        "logprobs": 2 * r.normal(size=(2, 4, 9)),
        "logits": 5 * r.normal(size=(2, 4, 9)),
    }
    for kind in PAIRS:
        true, pred = rows[kind[0]][0], rows[kind[1]][1]
        for task in ("divergence", "categorical"):
            got = evaluate(make_spec(task, kind, row_sums="as_is"), true, pred)
            for name, values in zip(oracle.COLUMNS[task], got, strict=True):
                want = oracle.rows(task, name, true=true, pred=pred, kind=kind, row_sums="as_is")
                exact = np.array([float(w) for w in want])
                assert np.all(np.abs(values - exact) <= 1e-14 * (np.abs(exact) + 50)), (kind, name)
    for kind in hard.KINDS:
        pred = rows[kind][1]
        check("sparse", kind, None, pred, hard.labels(pred), row_sums="as_is",
              columns=("cross_entropy", "brier", "confidence", "rank", "accuracy"))  # fmt: skip


def test_lookup_reads_one_number_a_row():
    pred = np.array([[0.5, NAN, -1.0], [-1.0, 0.25, 9]])
    labels = np.array([0, 1])
    spec = make_spec("sparse", columns=("cross_entropy",), row_sums="as_is")
    assert evaluate(spec, None, pred, labels).tolist() == [(-np.log([0.5, 0.25])).tolist()]
    assert first_bad(spec, None, pred, np.array([0, 0])) == (1, "negative", -1.0, "pred")


@pytest.mark.parametrize("classes", [50_000, 200_000])
def test_many_classes(classes):
    """Few distinct values, which the oracle counts, in many classes, which the backend sums."""
    r = np.random.default_rng(2)
    where = r.integers(0, 30, size=classes)
    a = 2 * r.normal(size=30)
    steps = {"far": r.normal(size=30), "near": 1e-9 * r.normal(size=30)}
    for b in (a + step for step in steps.values()):
        logits = [np.ascontiguousarray(x[where][None]) for x in (a, b)]
        probs = [hard.softmax(x) for x in logits]
        labels = np.array([classes // 2])
        check("sparse", "logits", None, logits[0], labels)
        check("sparse", "probs", None, probs[0], labels)
        columns = ("kl_divergence", "js_divergence", "cross_entropy", "hellinger")
        check("divergence", ("logits",) * 2, *logits, columns=columns)
        check("divergence", ("probs",) * 2, *probs, columns=columns)
        check("divergence", ("probs", "logits"), probs[0], logits[1], columns=columns)
    uniform = np.full((1, classes), 1 / classes)
    check("entropy", "probs", None, uniform)
    check("entropy", "logits", None, uniform)


def blocks(classes, rows=40):
    """(spec, true, pred, labels) of every task and kind."""
    r = np.random.default_rng(classes)
    logits = 3 * r.normal(size=(2, rows, classes))
    near = logits[0] + 1e-7 * logits[1]
    form = {"probs": hard.softmax, "logprobs": hard.log_softmax, "logits": np.asarray}
    labels = r.integers(0, classes, size=rows)
    for kind in hard.KINDS:
        yield make_spec("sparse", kind, label_smoothing=0.1), None, form[kind](near), labels
        yield make_spec("entropy", kind), None, form[kind](near), None
        pred = {"probs": r.random(rows), "logprobs": -r.random(rows)}.get(kind, near[:, 0])
        yield make_spec("binary", kind), r.random(rows), np.ascontiguousarray(pred), None
    for first, second in PAIRS:
        for task in ("categorical", "divergence"):
            for other in (near, logits[1]):
                true, pred = form[first](logits[0]), form[second](other)
                yield make_spec(task, (first, second), temperature=1.3), true, pred, None


def rows_of(x, index):
    return None if x is None else np.ascontiguousarray(x[index])


@pytest.mark.parametrize("classes", [*range(1, 20), 31, 64, 127, 128, 129, 1000])
def test_bits_of_a_row_depend_on_the_row_alone(classes):
    r = np.random.default_rng(0)
    for spec, true, pred, labels in blocks(classes, 24):
        whole = evaluate(spec, true, pred, labels)
        order = r.permutation(len(pred))
        for index in (order, order[:5], order[:1], np.repeat(order[:2], 2000 // classes + 1)):
            part = evaluate(spec, *(rows_of(x, index) for x in (true, pred, labels)))
            assert np.array_equal(part, whole[:, index], equal_nan=True), spec


def test_bits_do_not_depend_on_the_other_columns():
    for spec, true, pred, labels in blocks(23):
        whole = evaluate(spec, true, pred, labels)
        for name, values in zip(spec.columns, whole, strict=True):
            alone = SimpleNamespace(**vars(spec) | {"columns": (name,)})
            assert np.array_equal(evaluate(alone, true, pred, labels)[0], values), name


def test_skipped_rows_are_zero_and_unchecked():
    for spec, true, pred, labels in blocks(6):
        whole = evaluate(spec, true, pred, labels)
        label = np.zeros(len(pred), np.int64) if labels is None else labels.copy()
        label[[0, 3, 7]] = -1
        pred = pred.copy()
        pred[[0, 3]] = NAN
        pred[7] = -9.0
        got = evaluate(spec, true, pred, label)
        assert (got[:, [0, 3, 7]] == 0).all()
        kept = np.flatnonzero(label >= 0)
        assert np.array_equal(got[:, kept], whole[:, kept])
        label[:] = -1
        assert (evaluate(spec, true, pred, label) == 0).all()


def test_nan_stays_in_its_row_and_spares_no_column():
    for spec, true, pred, labels in blocks(7):
        whole = evaluate(spec, true, pred, labels)
        for spoiled in (true, pred):
            if spoiled is None:
                continue
            kept = spoiled.copy()
            if kept.ndim == 1:
                spoiled[11] = NAN
            else:
                spoiled[11, 2] = NAN
            whole[:, 11] = NAN
            assert np.array_equal(evaluate(spec, true, pred, labels), whole, equal_nan=True)
            spoiled[:] = kept
    for row in ([NAN, -1.0], [NAN, 7.0]):  # and is not checked
        pred = np.array([row])
        assert np.isnan(evaluate(make_spec("entropy"), None, pred)).all()
        assert np.isnan(evaluate(make_spec("divergence"), pred, 1 - pred)).all()
    t, x = np.array([NAN, 2.0]), np.array([-1.0, NAN])
    assert np.isnan(evaluate(make_spec("binary"), t, x)).all()
    for kind in PAIRS:
        if "logits" in kind:
            empty = np.full((1, 3), -INF)
            other = {"probs": [[0.5, 0.5, 0]], "logprobs": [[0, -INF, -INF]], "logits": [[0, 0, 0]]}
            rows = [empty if k == "logits" else np.array(other[k], float) for k in kind]
            assert np.isnan(evaluate(make_spec("divergence", kind), *rows)).all()


def test_first_bad_row():
    """The first one of both operands, in any chunk."""
    n = 40_000
    good = np.full((n, 4), 0.25)
    for at in (0, 9_000, n - 1):
        bad = good.copy()
        bad[at, 2] = -0.5
        bad[at:, 3] += 0.75
        for task in ("divergence", "categorical"):
            spec = make_spec(task)
            assert first_bad(spec, good, bad) == (at, "negative", -0.5, "pred")
            assert first_bad(spec, bad, good) == (at, "negative", -0.5, "true")
            assert first_bad(spec, bad, bad) == (at, "negative", -0.5, "true")
            raw = make_spec(task, row_sums="as_is")
            assert first_bad(raw, bad, good) == (at, "negative", -0.5, "true")
            bad[at, 2] = 0.25
            assert first_bad(spec, good, bad) == (at, "row_sum", 1.75, "pred")
            assert first_bad(raw, good, bad) is None
            bad[at, 2] = -0.5
    labels = np.zeros(2, np.int64)
    for row_sums, row, number in (
        ("check", [0.5, 0.4], 0.9),
        ("check", [INF, 0.4], INF),
        ("rescale", [0.0, 0.0], 0.0),
        ("rescale", [INF, 1.0], INF),
    ):
        pred = np.array([[0.5, 0.5], row])
        spec = make_spec("sparse", row_sums=row_sums)
        assert first_bad(spec, None, pred, labels) == (1, "row_sum", number, "pred")
    pred = np.log([[0.5, 0.5], [0.5, 1.0]])
    found = first_bad(make_spec("sparse", "logprobs"), None, pred, labels)
    assert found == (1, "row_sum", 1.5, "pred")
    assert first_bad(make_spec("sparse", "logits"), None, pred, labels) is None
    loose = make_spec("sparse", sum_tolerance=2e-2)
    assert first_bad(loose, None, np.array([[0.5, 0.51]] * 2), labels) is None


def test_first_bad_element():
    t, p = np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.5, 1.5])
    assert first_bad(make_spec("binary"), t, p) == (2, "range", 1.5, "pred")
    assert first_bad(make_spec("binary"), p, t) == (2, "range", 1.5, "true")
    assert first_bad(make_spec("binary", "logits"), t, p) is None
    assert first_bad(make_spec("binary", "logprobs"), t, -p) is None
    assert first_bad(make_spec("binary", "logprobs"), t, p) == (0, "range", 0.5, "pred")


def test_temporaries_stay_small():
    for classes in (2, 100, 30_000):
        rows = 600_000 // classes
        r = np.random.default_rng(0)
        logits = r.normal(size=(2, rows, classes))
        probs = hard.softmax(logits[0])
        for kind, true in (("logits", logits[0]), ("probs", probs)):
            spec = make_spec("divergence", (kind, "logits"))
            out = np.empty((len(spec.columns), rows))
            tracemalloc.start()
            row_values(spec, true, logits[1], None, out)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 16e6, (classes, kind, peak)
