"""The fitted temperature against the root of exact derivatives, and where there is none."""

import math

import mpmath
import numpy as np
import pytest
from failing import EITHER, fails
from mpmath import mpf

import fastent as fe

INF, NAN = math.inf, math.nan


def moments(row, b):
    top = max(row)
    powers = [mpmath.exp(b * (x - top)) if x > -INF else mpf(0) for x in row]
    total = mpmath.fsum(powers)
    finite = [(w / total, x) for w, x in zip(powers, row, strict=True) if w]
    mean = mpmath.fsum(w * x for w, x in finite)
    return mean, mpmath.fsum(w * (x - mean) ** 2 for w, x in finite)


def exact_fit(labels, logits, weight):
    rows = [[mpf(float(x)) for x in row] for row in logits]

    def slopes(b):
        return [moments(row, b)[0] - row[y] for row, y in zip(rows, labels, strict=True)]

    def slope(b):
        return mpmath.fsum(w * g for w, g in zip(weight, slopes(b), strict=True))

    low, high = mpf(2) ** -40, mpf(2) ** 40
    for _ in range(60):
        middle = mpmath.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    b = mpmath.findroot(slope, (low, high), solver="anderson", tol=1e-60)
    curvature = mpmath.fsum(w * moments(row, b)[1] for w, row in zip(weight, rows, strict=True))
    squares = mpmath.fsum((w * g) ** 2 for w, g in zip(weight, slopes(b), strict=True))
    return 1 / b, mpmath.sqrt(squares) / curvature / b**2


@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 5.0, 1e4])
def test_against_exact_arithmetic(scale):
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(30, 4)) * 2
    labels = np.array(
        [rng.choice(4, p=p) for p in np.exp(logits) / np.exp(logits).sum(1, keepdims=True)]
    )
    logits, weight = logits * scale, rng.random(30) + 0.5
    with mpmath.workdps(70):
        for used in (weight, np.ones(30)):
            found = fe.fit_temperature(labels, logits, sample_weight=used)
            temperature, stderr = exact_fit(labels.tolist(), logits, [mpf(w) for w in used])
            assert abs(found.temperature / temperature - 1) < 1e-13
            assert abs(found.stderr / stderr - 1) < 1e-12
    for t, value in ((found.temperature, found.loss), (1.0, found.loss_at_one)):
        assert value == fe.sparse_cross_entropy(
            labels, logits, kind="logits", temperature=t, reduction="mean"
        )
    assert found.loss <= found.loss_at_one


def test_two_classes_in_closed_form():
    """Three of four right at a gap of 2: e^(2/T) = 3."""
    found = fe.fit_temperature([0, 0, 0, 1], [[2.0, 0.0]] * 4)
    assert abs(found.temperature - 2 / math.log(3)) < 1e-15
    assert abs(found.loss - (math.log(4) - 0.75 * math.log(3))) < 1e-15


def test_where_there_is_no_minimum():
    right = fe.fit_temperature([0, 1], [[2.0, 0.0], [0.0, 1.0]])
    assert right[:1] == (0.0,) and right.loss == 0.0 and math.isnan(right.stderr)
    tied = fe.fit_temperature([0, 1], [[2.0, 2.0, 0.0], [0.0, 1.0, 0.0]])
    assert tied.temperature == 0.0 and abs(tied.loss - math.log(2) / 2) < 1e-16
    wrong = fe.fit_temperature([1, 0], [[2.0, 0.0], [0.0, 1.0]])
    assert wrong.temperature == INF and abs(wrong.loss - math.log(2)) < 1e-16
    assert math.isnan(wrong.stderr)
    lost = fe.fit_temperature([1, 0], [[2.0, -INF], [0.0, 1.0]])
    assert (lost.temperature, lost.loss, lost.loss_at_one) == (INF, INF, INF)
    masked = fe.fit_temperature([1, 0], [[2.0, 0.0, -INF], [0.0, 1.0, -INF]])
    assert abs(masked.loss - math.log(2)) < 1e-16
    empty = fe.fit_temperature([], np.empty((0, 3)))
    assert all(map(math.isnan, empty))
    assert all(map(math.isnan, fe.fit_temperature([0, 0], [[1.0, NAN], [1.0, 2.0]])))


def test_weights_ignored_rows_and_names():
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(200, 3)), rng.integers(3, size=200)
    logits[np.arange(200), labels] += 1.0
    plain = fe.fit_temperature(labels, logits)
    twice = fe.fit_temperature(
        np.append(labels, -100), np.vstack([logits, [[NAN] * 3]]), ignore_index=-100
    )
    assert twice == plain
    assert fe.fit_temperature(labels, logits.T, axis=0) == plain
    assert fe.fit_temperature(labels.reshape(4, 50), logits.reshape(4, 50, 3)) == plain
    names = np.array(["a", "b", "c"])[labels]
    assert fe.fit_temperature(names, logits, classes=["a", "b", "c"]) == plain
    by_class = fe.fit_temperature(labels, logits, class_weight=[1.0, 2.0, 0.5])
    by_row = fe.fit_temperature(labels, logits, sample_weight=np.array([1.0, 2.0, 0.5])[labels])
    assert by_class == by_row
    assert fe.fit_temperature(labels, logits, num_threads=3) == plain
    single = fe.fit_temperature(labels, logits.astype(np.float32))
    assert abs(single.temperature / plain.temperature - 1) < 1e-6


def test_groups():
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(90, 3)), rng.integers(3, size=90)
    logits[np.arange(90), labels] += 1.0
    for groups in (np.arange(90) % 3, [["de", "fr", "it"][k % 3] for k in range(90)]):
        found = fe.fit_temperature(labels, logits, groups=groups)
        assert len(found) == 3
        for name, fit in found.items():
            chosen = [g == name for g in groups]
            assert fit == fe.fit_temperature(labels[chosen], logits[chosen])


def test_bad_input():
    with fails(ValueError, "labels", "row 1", "5"):
        fe.fit_temperature([0, 5], [[1.0, 0.0]] * 2)
    with fails(EITHER, "labels", "shape"):
        fe.fit_temperature([0] * 3, [[1.0, 0.0]] * 2)
    one = fe.fit_temperature([0], [[1.0, 0.0], [0.0, 1.5]])  # broadcasts
    assert one == fe.fit_temperature([0, 0], [[1.0, 0.0], [0.0, 1.5]])
    with fails(ValueError, "sample_weight", "row 0"):
        fe.fit_temperature([0, 1], [[1.0, 0.0]] * 2, sample_weight=[-1, 1])
    with fails(EITHER, "groups"):
        fe.fit_temperature([0, 1], [[1.0, 0.0]] * 2, groups=["a"])
