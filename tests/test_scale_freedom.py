"""Standard errors, cluster errors, skill and means do not depend on the scale of the weights, nor
errors on that of the losses."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, strategies as st

import fastent as fe

METRICS = ["cross_entropy", "perplexity", "bits", "accuracy", "brier", "skill", "ece", "mce"]
RNG = np.random.default_rng(3)
N = 40
LOGITS = RNG.normal(size=(N, 3))
LABELS = RNG.integers(0, 3, N)
CLUSTERS = RNG.integers(0, 7, N)
GROUPS = RNG.integers(0, 2, N)
WEIGHTS = RNG.integers(0, 9, N).astype(float)
# Losses from 1e-4 to 10 and weights up to 8 stay float64, and so do their products.
EXPONENTS = st.integers(-1000, 1016)


def report(weights, groups=GROUPS, labels=LABELS, logits=LOGITS, **options):
    acc = fe.Accumulator(METRICS, kind="logits", **options)
    for part in (slice(0, 11), slice(11, None)):
        acc.update(labels[part], logits[part], weights[part], groups[part], clusters=CLUSTERS[part])
    return fe.Accumulator.from_state_dict(acc.state_dict()).compute()


def numbers(part):
    found = {name: (r.value, r.stderr, r.cluster_stderr, r.count) for name, r in part.items()}
    return {name: repr(found[name]) for name in found}


@given(EXPONENTS)
def test_powers_of_two_change_no_bit(exponent):
    scaled = report(np.ldexp(WEIGHTS, exponent))
    plain = report(WEIGHTS)
    assert numbers(scaled) == numbers(plain)
    for group in plain.groups:
        assert numbers(scaled.groups[group]) == numbers(plain.groups[group])


@given(EXPONENTS)
def test_rows_of_unit_weight_before_them(exponent):
    """What weights of 1 left out of the state is written down when others come, however far."""
    w = np.ldexp(1.0, exponent)
    acc = fe.Accumulator("cross_entropy", kind="logits")
    acc.update(LABELS[:20], LOGITS[:20], groups=GROUPS[:20])
    acc.update(LABELS[20:], LOGITS[20:], np.full(20, w), groups=GROUPS[20:])
    found = acc.compute()
    weights = np.r_[np.ones(20), np.full(20, w)]
    losses = fe.sparse_cross_entropy(LABELS, LOGITS, kind="logits")
    for part, rows in ((found, slice(None)), (found.groups[0], GROUPS == 0)):
        right = exact_error(losses[rows], weights[rows])
        assert part["cross_entropy"].stderr == pytest.approx(right, rel=1e-13)


def exact_error(losses, weights):
    with mpmath.workprec(5000):
        v, w = [[mpmath.mpf(float(x)) for x in a] for a in (losses, weights)]
        x = [mpmath.mpf(float(a) * float(b)) for a, b in zip(losses, weights, strict=True)]
        mean = mpmath.fsum(x) / mpmath.fsum(w)
        squares = mpmath.fsum((a - mean * b) ** 2 for a, b in zip(x, w, strict=True))
        n = sum(b > 0 for b in w)
        return float(mpmath.sqrt(squares * n / (n - 1)) / mpmath.fsum(w)) if v else None


@pytest.mark.parametrize("scale", [1.0, 1e-162, float(np.exp(-400)), 1e154, 2.0**-1000, 1e300])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_and_losses_of_any_size(scale, weighted):
    weights = np.array([1.0, 2, 3, 1, 5]) * scale if weighted else None
    if scale != 1 and not weighted:
        return
    logits = np.zeros((5, 2))
    for far in (0.0, 378.0, 690.0) if scale > 1e-9 else (0.0, 30.0):
        logits[:, 0] = far + np.arange(5) / 3
        labels = np.zeros(5, int)
        losses = fe.sparse_cross_entropy(labels, logits, kind="logits")
        acc = fe.Accumulator("cross_entropy", kind="logits")
        acc.update(labels, logits, weights, groups=["a"] * 5)
        found = acc.compute()
        right = exact_error(losses, np.ones(5) if weights is None else weights)
        for part in (found, found.groups["a"]):
            assert part["cross_entropy"].stderr == pytest.approx(right, rel=1e-14)


def test_skill_of_one_label():
    for logits, expected in (([0.0, 0.0], -np.inf), ([np.nan, 0.0], np.nan), ([np.inf, 0], np.nan)):
        acc = fe.Accumulator("skill", kind="logits").update([0, 0], [logits] * 2)
        np.testing.assert_equal(acc.compute()["skill"].value, expected)
