"""A rolling accumulator has the bits of an accumulator of the updates in its window."""

import pickle
from datetime import datetime, timedelta

import numpy as np
import pytest
from failing import EITHER, fails

import fastent as fe

METRICS = ["cross_entropy", "accuracy", "ece", "brier", "label_entropy"]


def batches(count=40, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 7, count)
    stamps = np.cumsum(rng.integers(0, 3, count))
    return [
        (rng.integers(4, size=n), rng.normal(size=(n, 4)), rng.random(n) + 0.1, int(at))
        for n, at in zip(sizes, stamps, strict=True)
    ]


def same(report, updates):
    acc = fe.Accumulator(METRICS, kind="logits")
    for labels, logits, weight, _ in updates:
        acc.update(labels, logits, weight, groups=["ab"[k % 2] for k in range(len(labels))])
    expected = acc.compute()
    for found, true in [
        (report, expected),
        *((report.groups[g], expected.groups[g]) for g in expected.groups),
    ]:
        for name in METRICS:
            for part in ("value", "stderr", "count", "weight", "min"):
                a, b = getattr(found[name], part), getattr(true[name], part)
                assert a == b or (a != a and b != b), (name, part)
    assert list(report.groups) == list(expected.groups) or set(report.groups) == set(
        expected.groups
    )


def kept(updates, by, window):
    """The updates of the window, by its definition."""
    if by == "updates":
        return updates[-window:]
    if by == "span":
        return [u for u in updates if u[3] > updates[-1][3] - window]
    chosen = [updates[-1]]
    for update in updates[-2::-1]:
        if sum(len(u[0]) for u in chosen) + len(update[0]) > window:
            break
        chosen.insert(0, update)
    return chosen


@pytest.mark.parametrize(
    ("by", "window"),
    [("updates", 1), ("updates", 2), ("updates", 7), ("updates", 99), ("rows", 1), ("rows", 9),
     ("rows", 30), ("span", 1), ("span", 5), ("span", 2.5)],
)  # fmt: skip
def test_every_window(by, window):
    rolling = fe.RollingAccumulator(METRICS, window=window, by=by, kind="logits")
    seen = []
    for k, update in enumerate(batches()):
        labels, logits, weight, at = update
        groups = ["ab"[k % 2] for k in range(len(labels))]
        stamp = {"at": at} if by == "span" else {}
        assert rolling.update(labels, logits, weight, groups, **stamp) is rolling
        seen.append(update)
        inside = kept(seen, by, window)
        if by != "rows":  # updates without rows at the border are in the window or not
            assert len(rolling) == len(inside)
        same(rolling.compute(), inside)
        if k % 9 == 4:
            rolling = pickle.loads(pickle.dumps(rolling))
    assert len(rolling.reset()) == 0 and rolling.compute()["accuracy"].count == 0


def test_reports_stay_as_they_were():
    rolling = fe.RollingAccumulator("accuracy", window=3)
    reports = [rolling.update([k % 2], [[0.25, 0.75]]).compute() for k in range(9)]
    values = [round(r["accuracy"].value * r["accuracy"].count) for r in reports]
    assert values == [0, 1, 1, 2, 1, 2, 1, 2, 1]


def test_dates():
    start, hour = datetime(2024, 1, 1), timedelta(hours=1)
    rolling = fe.RollingAccumulator("accuracy", window=2 * hour, by="span")
    for k in (0, 1, 2, 5):
        rolling.update([0], [[0.5, 0.5]], at=start + k * hour)
        assert len(rolling) == {0: 1, 1: 2, 2: 2, 5: 1}[k]
    assert "1 updates held" in repr(rolling)


def test_a_refused_update_changes_nothing():
    rolling = fe.RollingAccumulator("accuracy", window=5, by="span")
    rolling.update([0, 1], [[0.5, 0.5]] * 2, at=3)
    for words, arguments, stamp in [
        (("labels", "7"), ([7], [[0.5, 0.5]]), 4),
        (("3", "2", "classes"), ([0], [[0.5, 0.25, 0.25]]), 4),
        (("at:", "from 3", "2"), ([0], [[0.5, 0.5]]), 2),
        (("at:", "finite"), ([0], [[0.5, 0.5]]), float("nan")),
        (("at:", "finite"), ([0], [[0.5, 0.5]]), float("inf")),
        (("at:", "stamp"), ([0], [[0.5, 0.5]]), None),
        (("at:", "stamp"), ([0], [[0.5, 0.5]]), "now"),
    ]:  # fmt: skip
        with fails(EITHER, *words):
            rolling.update(*arguments, at=stamp)
    assert len(rolling) == 1 and rolling.compute()["accuracy"].count == 2


def test_bad_windows():
    for bad in (0, -1, 1.5, "3", True, None):
        with fails(EITHER, "window"):
            fe.RollingAccumulator("accuracy", window=bad)
    for bad in (0.0, float("inf"), float("nan"), timedelta(0), "3"):
        with fails(EITHER, "window"):
            fe.RollingAccumulator("accuracy", window=bad, by="span")
    with fails(ValueError, "by", "row"):
        fe.RollingAccumulator("accuracy", window=3, by="row")
    with fails(EITHER, "kind", "logit"):
        fe.RollingAccumulator("accuracy", window=3, kind="logit")
    with fails(ValueError, "at", "span"):
        fe.RollingAccumulator("accuracy", window=3).update([0], [[1.0]], at=1)


def test_merges_do_not_grow_with_the_window(monkeypatch):
    merges = []
    merge = fe.Accumulator.merge
    monkeypatch.setattr(fe.Accumulator, "merge", lambda a, b: merges.append(1) or merge(a, b))
    rolling = fe.RollingAccumulator("accuracy", window=64)
    for _ in range(640):
        rolling.update([0], [[0.5, 0.5]])
    assert len(merges) <= 2 * 640


def test_log_probabilities_that_are_already_there():
    """One operand, and bytes by keyword, as in the accumulator."""
    metrics = ["cross_entropy", "bits_per_byte"]
    rolling = fe.RollingAccumulator(metrics, window=2, task="logprob")
    whole = fe.Accumulator(metrics, task="logprob")
    rng = np.random.default_rng(3)
    for k in range(4):
        logprobs, sizes = -rng.exponential(2, 5), rng.integers(1, 9, 5)
        rolling.update(logprobs, bytes=sizes, sample_weight=rng.random(5) if k < 2 else None)
        if k >= 2:
            whole.update(logprobs, bytes=sizes)
    assert rolling.compute() == whole.compute()
