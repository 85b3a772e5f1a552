"""Hidden states times a head: what the dense functions say of products that are not stored."""

import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from mpmath import mp, mpf

import fastent as fe
from fastent._linear import PRODUCTS, Hidden
from fastent._settings import simd_levels, use_simd


def case(rows=70, classes=9000, width=24, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, width)).astype(dtype)
    head = (rng.normal(size=(classes, width)) / 3).astype(dtype)
    return hidden, head, rng.integers(0, classes, rows), rng


def whole_products(*sides, count):
    """The products as the functions make them: by their blocks."""
    found = [
        np.concatenate([z.copy() for _, z in side.products(0, side.count, count, other)], axis=1)
        for side, other in zip(sides, sides[::-1] if count == 2 else [None], strict=True)
    ]
    return found if count == 2 else found[0]


def plain(hidden, head):
    return Hidden(hidden, head, None, None, None, 1.0, "hidden head bias norm")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_losses_are_those_of_the_products(dtype):
    hidden, head, labels, rng = case(dtype=dtype)
    z = whole_products(plain(hidden, head), count=1)
    assert z.dtype == (np.float64 if dtype == np.float64 else np.float32)
    wanted = fe.sparse_cross_entropy(labels, z.astype(np.float64), kind="logits")
    for level in simd_levels():
        with use_simd(level):
            found = fe.linear_cross_entropy(labels, hidden, head)
        np.testing.assert_allclose(found, wanted, rtol=1e-14)
    bias = rng.normal(size=len(head))
    hot = 30 * np.tanh((z.astype(np.float64) + bias) * 0.5 / 30) / 1.7
    wanted = fe.sparse_cross_entropy(labels, hot, kind="logits")
    found = fe.linear_cross_entropy(
        labels, hidden, head, bias=bias, scale=0.5, softcap=30.0, temperature=1.7
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_a_norm_is_that_of_the_models():
    hidden, head, labels, rng = case(dtype=np.float64)
    weight = rng.normal(size=hidden.shape[1])
    for eps in (1e-6, 1e-2):
        normed = hidden / np.sqrt((hidden**2).mean(1, keepdims=True) + eps) * weight
        wanted = fe.sparse_cross_entropy(labels, normed @ head.T, kind="logits")
        norm = weight if eps == 1e-6 else (weight, eps)
        np.testing.assert_allclose(
            fe.linear_cross_entropy(labels, hidden, head, norm=norm), wanted, rtol=1e-12
        )


def test_confident_rows_keep_their_digits():
    head = np.eye(4) * 40
    found = fe.linear_cross_entropy([0, 1], np.eye(4)[:2], head)
    wanted = fe.sparse_cross_entropy([0, 1], head[:2], kind="logits")
    assert (found == wanted).all() and 0 < found[0] < 1e-16


@pytest.mark.parametrize("noise", [3.0, 0.1, 1e-3, 1e-6])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_divergences_are_those_of_the_products(noise, dtype):
    hidden, head, _, rng = case(dtype=dtype)
    other = (head + noise * rng.normal(size=head.shape)).astype(dtype)
    p, q = whole_products(plain(hidden, head), plain(hidden, other), count=2)
    wanted = fe.kl_divergence(p.astype(np.float64), q.astype(np.float64), kind="logits")
    found = fe.linear_kl_divergence(hidden, head, hidden, other)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-18)
    assert (fe.linear_kl_divergence(hidden, head, hidden, head) == 0).all()


def test_nearly_equal_rows_against_exact_arithmetic():
    rng = np.random.default_rng(4)
    for size in (1e-2, 1e-5, 1e-8):
        z = np.sort(rng.normal(size=1200) * 3)  # each block of 512 has another maximum
        y = z + size * rng.normal(size=len(z))
        with mp.workdps(60):
            p = [mp.exp(mpf(a)) for a in z]
            q = [mp.exp(mpf(a)) for a in y]
            total = mp.log(mp.fsum(q) / mp.fsum(p))
            exact = (
                mp.fsum(w * (mpf(a) - mpf(b)) for w, a, b in zip(p, z, y, strict=True)) / mp.fsum(p)
                + total
            )
            found = fe.linear_kl_divergence([1.0], z[:, None], [1.0], y[:, None])
            assert abs(found / exact - 1) < 1e-9, size


def test_far_rows_and_no_room():
    one = [1.0]
    found = fe.linear_kl_divergence(one, [[0.0], [-800.0]], one, [[-900.0], [0.0]])
    assert math.isclose(found, 900.0, rel_tol=1e-14)
    z = np.array([[0.0], [1.0], [2.0]])
    assert np.isnan(fe.linear_kl_divergence([np.nan], z, one, z))
    assert np.isnan(fe.linear_cross_entropy(0, [np.nan], z))
    bias = np.array([0.0, -np.inf, 0.0])
    assert fe.linear_kl_divergence(one, z, one, z, bias_q=bias) == np.inf
    found = fe.linear_kl_divergence(one, z, one, z, bias_p=bias)
    assert math.isclose(found, fe.kl_divergence([0, -np.inf, 2], [0, 1, 2.0], kind="logits"))
    assert fe.linear_kl_divergence(one, z, one, z, bias_p=bias, bias_q=bias) == 0


LEVELS_OF_LOGITS = [-np.inf, -2000.0, -800.0, -30.0, -1.0, 0.0, 0.5, 20.0, 900.0]


@pytest.mark.parametrize("seed", range(60))
def test_maxima_may_come_late_and_be_far(seed):
    """Blocks whose logits are far apart, in any order, on both sides: what is known of a row after
    one block is all kept when the next one has its maximum."""
    rng = np.random.default_rng(seed)
    classes, step = int(rng.integers(2, 2500)), int(rng.integers(1, 700))
    of_block = np.arange(classes) // step
    x, y = (rng.choice(LEVELS_OF_LOGITS, of_block[-1] + 1)[of_block] for _ in "pq")
    if seed % 2:
        y = x.copy()
    for z in (x, y):
        z += rng.normal(size=classes) * rng.choice([0, 1e-6, 0.3, 10])
        some = rng.integers(0, classes, 3)
        z[some] = rng.choice(LEVELS_OF_LOGITS[1:], 3)
    wanted = fe.kl_divergence(x, y, kind="logits")
    for level in simd_levels():
        with use_simd(level):
            found = fe.linear_kl_divergence([1.0], x[:, None], [1.0], y[:, None])
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-18)
    label = int(rng.integers(0, classes))
    np.testing.assert_allclose(
        fe.linear_cross_entropy(label, [1.0], x[:, None]),
        fe.sparse_cross_entropy(label, x, kind="logits"),
        rtol=1e-14,
    )


def test_options_shapes_and_reductions():
    hidden, head, labels, rng = case()
    weights = rng.exponential(size=len(labels))
    weights[3] = 0
    labels[5] = -100
    plain_values = fe.linear_cross_entropy(labels, hidden, head, ignore_index=-100)
    assert plain_values[5] == 0
    found = fe.linear_cross_entropy(
        labels, hidden, head, ignore_index=-100, sample_weight=weights, reduction="mean", base=2
    )
    counted = weights * (labels >= 0)
    wanted = math.fsum(plain_values * counted) / math.fsum(counted) / math.log(2)
    assert math.isclose(found, wanted, rel_tol=1e-14)
    labels[5] = 1
    folded = fe.linear_cross_entropy(labels.reshape(7, 10), hidden.reshape(7, 10, -1), head)
    assert folded.shape == (7, 10)
    out = np.empty((7, 10))
    assert (
        fe.linear_cross_entropy(labels.reshape(7, 10), hidden.reshape(7, 10, -1), head, out=out)
        is out
        and (out == folded).all()
    )
    other = rng.normal(size=(len(head), 5)).astype(np.float32)
    narrow = rng.normal(size=(70, 5)).astype(np.float32)
    found = fe.linear_kl_divergence(hidden, head, narrow, other, num_threads=1, reduction="sum")
    z, y = hidden @ head.T, narrow @ other.T
    assert math.isclose(found, fe.kl_divergence(z, y, kind="logits").sum(), rel_tol=1e-4)
    none = fe.linear_cross_entropy(np.zeros(0, int), hidden[:0], head, reduction="mean")
    assert math.isnan(none)


def test_memory_stays_below_64_mb():
    rng = np.random.default_rng(0)
    head = rng.normal(size=(128_256, 32)).astype(np.float16)
    hidden = rng.normal(size=(520, 32)).astype(np.float16)
    tracemalloc.start()
    fe.linear_kl_divergence(hidden, head, hidden, head)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert PRODUCTS < peak + PRODUCTS // 2 and peak < 64 << 20


LOSS, KL = fe.linear_cross_entropy, fe.linear_kl_divergence


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h, w: LOSS([0], h, w[:, :2]), "hidden: expected 2 numbers a row"),
        (lambda h, w: LOSS([9], h, w), r"labels: expected classes in \[0, 5\), got 9"),
        (lambda h, w: LOSS([0], h, w[0]), r"head: expected shape \(C, d\)"),
        (lambda h, w: LOSS([0], h, w, bias=[1.0]), r"bias: expected shape \(5,\)"),
        (lambda h, w: LOSS([0], h, w, norm=[1.0]), r"norm: expected shape \(3,\)"),
        (lambda h, w: LOSS([0], h, w, softcap=0), "softcap: expected a number above"),
        (lambda h, w: LOSS([0], h, w, temperature=-1), "temperature: expected"),
        (lambda h, w: KL(h, w, h, w[:4]), "wq: expected 5 classes as wp has, got 4"),
        (lambda h, w: KL(h, w, h[0], w), r"hq: expected the leading shape of hp"),
        (lambda h, w: LOSS([0], h, w, sample_weight=[-1.0]), "sample_weight: expected weights of"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message) as told:
        call(np.ones((1, 3)), np.ones((5, 3)))
    assert "\n" not in str(told.value)
