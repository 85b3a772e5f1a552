"""Laws of information theory and of the streaming state, on inputs that Hypothesis searches."""

import itertools
import math

import hard_inputs as hard
import hard_pairs
import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import numpy as np
from hypothesis import assume, given

import fastent as fe

LN2 = math.log(2)
REL = {np.float64: 1e-14, np.float32: 1e-6}
dtypes = st.sampled_from([np.float64, np.float32])
shapes = st.tuples(st.integers(1, 4), st.integers(1, 40))


def finite(dtype, size):
    width = np.dtype(dtype).itemsize * 8
    bound = float(np.float32(size))
    return st.floats(-bound, bound, width=width, allow_subnormal=True)


@st.composite
def logits(draw, count=1, size=50):
    """`count` blocks of logits of one dtype and shape, sometimes with −inf."""
    dtype, shape = draw(dtypes), draw(shapes)
    elements = st.one_of(finite(dtype, size), st.just(-math.inf))
    blocks = []
    for _ in range(count):
        x = draw(npst.arrays(dtype, shape, elements=elements))
        x[np.isneginf(x).all(axis=1), 0] = 0  # a row needs a class
        blocks.append(x)
    return blocks


@st.composite
def weights(draw, count=1):
    """`count` blocks of non-negative numbers with a positive sum in every row."""
    dtype, shape = draw(dtypes), draw(shapes)
    width = np.dtype(dtype).itemsize * 8
    elements = st.one_of(st.just(0.0), st.floats(0, 1e6, width=32 if width == 32 else 64))
    blocks = []
    for _ in range(count):
        x = draw(npst.arrays(dtype, shape, elements=elements))
        x[x.sum(axis=1, dtype=np.float64) == 0, 0] = 1
        blocks.append(x)
    return blocks


def within(a, b, scale, dtype, factor=3):
    """a = b to a few times the bound, relative to `scale` (several rounded values combined)."""
    a, b, scale = np.broadcast_arrays(a, b, scale)
    for x, y, s in zip(a, b, scale, strict=True):
        if np.isinf(x) or np.isinf(y):
            assert x == y
        else:
            floor = 1e-290 if dtype == np.float64 else 1e-30
            assert abs(x - y) <= factor * REL[dtype.type] * max(s, floor), (x, y, s)


@given(logits(2), st.booleans())
def test_kl_is_not_negative(pair, swap):
    p, q = pair[::-1] if swap else pair
    for function in (fe.kl_divergence, fe.js_divergence):
        assert (function(p, q, kind="logits") >= 0).all()
        assert (function(p, p, kind="logits") == 0).all()


@given(weights(2))
def test_kl_of_weights_is_not_negative(pair):
    p, q = pair
    assert (fe.kl_divergence(p, q, row_sums="rescale") >= 0).all()
    js = fe.js_divergence(p, q, row_sums="rescale")
    assert (js >= 0).all()
    assert (js <= LN2 * (1 + REL[p.dtype.type])).all()


@given(logits(2))
def test_js_is_symmetric_and_at_most_ln2(pair):
    p, q = pair
    a, b = fe.js_divergence(p, q, kind="logits"), fe.js_divergence(q, p, kind="logits")
    within(a, b, a, p.dtype)
    assert (a <= LN2 * (1 + REL[p.dtype.type])).all()


@given(logits(2, size=20))
def test_cross_entropy_is_entropy_plus_kl(pair):
    p, q = pair
    ce = fe.categorical_cross_entropy(p, q, kind=("logits", "logits"))
    h, kl = fe.entropy(p, kind="logits"), fe.kl_divergence(p, q, kind="logits")
    within(h + kl, ce, ce, p.dtype)


@given(weights(2))
def test_cross_entropy_is_entropy_plus_kl_of_weights(pair):
    p, q = pair
    ce = fe.categorical_cross_entropy(p, q, row_sums="rescale")
    h, kl = (
        fe.entropy(p, row_sums="rescale"),
        fe.kl_divergence(p, q, row_sums="rescale"),
    )
    within(h + kl, ce, ce, p.dtype)


@given(weights(2))
def test_js_is_the_mean_kl_from_the_middle(pair):
    p, q = (x.astype(np.float64) for x in pair)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    assume(np.isfinite(p).all() and np.isfinite(q).all())
    m = (p + q) / 2
    half = (fe.kl_divergence(p, m) + fe.kl_divergence(q, m)) / 2
    # m is rounded, which moves KL by its square root: only a coarse law without exact numbers
    js = fe.js_divergence(p, q)
    assert np.all(np.abs(half - js) <= 1e-14 * (js + np.sqrt(js)) + 1e-30)


@given(logits(1))
def test_entropy_is_between_zero_and_log_classes(block):
    (x,) = block
    h = fe.entropy(x, kind="logits")
    assert (h >= 0).all()
    assert (h <= math.log(x.shape[1]) * (1 + REL[x.dtype.type])).all()


@given(logits(1), st.integers(-512, 512))
def test_logits_may_be_shifted(block, shift):
    x = np.round(block[0] * 16) / 16  # so that the shift is exact
    moved = x + x.dtype.type(shift)
    labels = np.zeros(len(x), np.int64)
    for function, args in ((fe.entropy, ()), (fe.sparse_cross_entropy, (labels,))):
        a, b = function(*args, x, kind="logits"), function(*args, moved, kind="logits")
        within(a, b, a, x.dtype)


@given(logits(2), st.randoms(use_true_random=False))
def test_classes_may_be_permuted(pair, random):
    p, q = pair
    order = list(range(p.shape[1]))
    random.shuffle(order)
    for function in (fe.kl_divergence, fe.js_divergence):
        a = function(p, q, kind="logits")
        within(function(p[:, order], q[:, order], kind="logits"), a, a, p.dtype)


@given(weights(2), st.integers(-20, 20))
def test_counts_may_be_scaled_by_powers_of_two(pair, power):
    p, q = pair
    scaled = q * q.dtype.type(2.0**power)
    # a subnormal would round, and a different row is a different value
    assume((scaled / q.dtype.type(2.0**power) == q).all())
    a = fe.kl_divergence(p, q, row_sums="rescale")
    within(fe.kl_divergence(p, scaled, row_sums="rescale"), a, a, p.dtype)


def test_counts_may_be_of_any_size(compiled):
    """Down to the smallest subnormal, up to a sum that is beyond the range: the same bits."""
    for classes in (3, 40, 16_500):
        counts = np.random.default_rng(classes).integers(0, 250, (2, classes)).astype(float)
        want = fe.kl_divergence(counts[0], counts[1] + 1, row_sums="rescale", backend=compiled)
        for power in (-1074, -1000, -960, 960, 1016):
            p, q = np.ldexp(counts[0], power), np.ldexp(counts[1] + 1, power)
            got = fe.kl_divergence(p, q, row_sums="rescale", backend=compiled)
            assert got == want > 0, (classes, power)


@given(logits(1))
def test_labels_and_one_hot_targets_agree(block):
    (x,) = block
    labels = np.arange(len(x)) % x.shape[1]
    hot = np.eye(x.shape[1], dtype=x.dtype)[labels]
    a = fe.sparse_cross_entropy(labels, x, kind="logits")
    b = fe.categorical_cross_entropy(hot, x, kind="logits")
    within(a, b, a, x.dtype)
    within(fe.kl_divergence(hot, x, kind=("probs", "logits")), a, a, x.dtype)


@given(logits(1))
def test_two_classes_are_a_bernoulli(block):
    x = block[0][:, 0]
    assume(np.isfinite(x).all())
    two = np.stack([np.zeros_like(x), x], axis=1)
    for label in (0, 1):
        labels = np.full(len(x), label)
        a = fe.sparse_cross_entropy(labels, two, kind="logits")
        b = fe.binary_cross_entropy(labels.astype(x.dtype), x, kind="logits")
        within(a, b, a, x.dtype)


@given(logits(1), st.floats(0, 1))
def test_label_smoothing_is_linear(block, smoothing):
    (x,) = block
    labels = np.zeros(len(x), np.int64)
    hard_loss = fe.sparse_cross_entropy(labels, x, kind="logits")
    soft = fe.sparse_cross_entropy(labels, x, kind="logits", label_smoothing=smoothing)
    flat = fe.sparse_cross_entropy(labels, x, kind="logits", label_smoothing=1.0)
    assume(np.isfinite(flat).all())
    expected = (1 - smoothing) * hard_loss + smoothing * flat
    within(soft, expected, expected, x.dtype)


pieces = st.lists(st.integers(0, 60), min_size=0, max_size=6)


@given(st.integers(0, 2**32 - 1), pieces, st.randoms(use_true_random=False))
def test_any_split_and_merge_gives_the_same_bits(seed, cuts, random):
    r = np.random.default_rng(seed)
    x = (10 ** r.uniform(-3, 2) * r.normal(size=(60, 4))).astype(np.float32)
    labels, w = r.integers(0, 4, size=60), r.random(60)
    metrics = ["cross_entropy", "perplexity", "accuracy", "brier", "entropy", "ece", "skill"]

    def fresh():
        return fe.Accumulator(metrics, task="sparse", kind="logits")

    whole = fresh().update(labels, x, sample_weight=w).compute()
    edges = [0, *sorted(cuts), 60]
    parts = []
    for a, b in itertools.pairwise(edges):
        parts.append(fresh().update(labels[a:b], x[a:b], sample_weight=w[a:b]))
    random.shuffle(parts)
    merged = fresh()
    for part in parts:
        merged.merge(part)
    merged = merged.compute()
    for name in metrics:
        a, b = whole[name], merged[name]
        for field in ("value", "stderr", "count", "weight"):
            left, right = getattr(a, field), getattr(b, field)
            assert left == right or (left != left and right != right), (name, field)


def test_arsenal_laws():
    """KL of the nasty pairs is never negative either way round, and JS never above ln 2."""
    for dtype in hard.DTYPES.values():
        for kind in hard.KINDS:
            for name, (p, q) in hard_pairs.pairs(kind, kind, dtype).items():
                for a, b in ((p, q), (q, p)):
                    assert (fe.kl_divergence(a, b, kind=kind) >= 0).all(), name
                    js = fe.js_divergence(a, b, kind=kind)
                    assert ((js >= 0) & (js <= LN2 * (1 + 1e-6))).all(), name
