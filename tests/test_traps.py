"""Inputs on which tools in wide use return wrong numbers, one test for each."""

import math
import mmap

import cases
import ml_dtypes
import numpy as np
import oracle
import pytest
from mpmath import mp, mpf

import fastent as fe

INF = np.inf
LN2 = math.log(2)
FLOATS = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
every_float = pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)


def close(got, want, dtype):
    want = want if isinstance(want, list) else [want]
    oracle.assert_close(np.atleast_1d(got), [mpf(w) for w in want], np.dtype(dtype))


@every_float
def test_01_js_of_disjoint_rows(dtype, engine):
    p, q = np.array([1, 0], dtype), np.array([0, 1], dtype)
    got = fe.js_divergence(p, q, backend=engine)
    close(got, mp.log(2), dtype)
    assert math.sqrt(got) == pytest.approx(0.8325546, abs=1e-7)


@every_float
def test_02_kl_of_certainty_from_a_coin(dtype, engine):
    p, q = np.array([1, 0], dtype), np.array([0.5, 0.5], dtype)
    close(fe.kl_divergence(p, q, backend=engine), mp.log(2), dtype)


@every_float
def test_03_kl_of_the_impossible_is_infinite(dtype, engine):
    p, q = np.array([1, 0], dtype), np.array([0, 1], dtype)
    assert fe.kl_divergence(p, q, backend=engine) == INF


@every_float
def test_04_negative_probabilities_raise(dtype, engine):
    p, q = np.array([-0.5, 1.5], dtype), np.array([0.5, 0.5], dtype)
    for rule in ("check", "rescale"):
        with pytest.raises(ValueError, match=r"-0\.5"):
            fe.kl_divergence(p, q, row_sums=rule, backend=engine)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.fixture(scope="module")
def nearly_equal():
    r = np.random.default_rng(0)
    x = 2 * r.normal(size=1000)
    y = x + 1e-6 * r.normal(size=1000)
    p, q = softmax(x), softmax(y)
    kl_of = {"probs": (p, q), "logits": (x, y)}
    return {
        kind: (args, oracle.row("divergence", ("kl_divergence",), true=args[0], pred=args[1],
                                kind=kind)["kl_divergence"])
        for kind, args in kl_of.items()
    }  # fmt: skip


def test_05_kl_of_nearly_equal_rows(nearly_equal, engine):
    for kind, (args, want) in nearly_equal.items():
        assert 1e-13 < want < 3e-12
        got = fe.kl_divergence(*args, kind=kind, backend=engine)
        oracle.assert_close([got], [want], np.float64, what=kind)


@every_float
def test_06_log_loss_of_a_wrong_certainty(dtype, engine):
    pred = np.array([[0, 1], [0, 1]], dtype)
    got = fe.sparse_cross_entropy([0, 1], pred, reduction="mean", backend=engine)
    assert got == INF
    assert fe.binary_cross_entropy(np.array([0, 1], dtype), pred[:, 1], backend=engine)[0] == INF


def test_07_probability_that_rounds_to_one(engine):
    with np.errstate(all="ignore"):
        p = (1 / (1 + np.exp(np.float32(-20)))).astype(np.float32)
    got = fe.binary_cross_entropy(np.float32([0]), np.array([p], np.float32), backend=engine)
    assert p == 1
    assert got == INF
    got = fe.binary_cross_entropy(np.float32([0]), np.float32([20]), kind="logits", backend=engine)
    close(got, mp.log1p(mp.exp(20)), np.float32)


@every_float
def test_08_bernoulli_from_infinite_logits(dtype, engine):
    x, t = np.array([-INF, INF], dtype), np.array([0, 1], dtype)
    assert fe.binary_cross_entropy(t, x, kind="logits", backend=engine).tolist() == [0, 0]


@every_float
def test_09_impossible_class_without_target(dtype, engine):
    t, x = np.array([0.5, 0.5, 0], dtype), np.array([0, 0, -INF], dtype)
    close(fe.categorical_cross_entropy(t, x, kind="logits", backend=engine), mp.log(2), dtype)


@every_float
def test_10_class_that_is_zero_in_both(dtype, engine):
    p, q = np.array([0.5, 0.5, 0], dtype), np.array([0.25, 0.75, 0], dtype)
    want = mp.log(mpf(4) / 3) / 2
    close(fe.kl_divergence(p, q, backend=engine), want, dtype)
    with np.errstate(divide="ignore"):
        log_p, log_q = np.log(p.astype(np.float64)), np.log(q.astype(np.float64))
    log_p, log_q = log_p.astype(dtype), log_q.astype(dtype)
    want = cases.exact("kl_divergence", (log_p[None], log_q[None]), "logprobs", dtype)
    got = fe.kl_divergence(log_p, log_q, kind="logprobs", backend=engine)
    oracle.assert_close([got], want, dtype)


@pytest.mark.parametrize("dtype", FLOATS[2:], ids=lambda d: np.dtype(d).name)
def test_11_sixteen_bit_corpus(dtype, engine):
    r = np.random.default_rng(0)
    x = (3 * r.normal(size=(100_000, 10))).astype(dtype)
    labels = r.integers(0, 10, size=100_000)
    wide = x.astype(np.float64)
    top = wide.max(1)
    rows = top + np.log(np.exp(wide - top[:, None]).sum(1)) - wide[np.arange(len(x)), labels]
    total = fe.sparse_cross_entropy(labels, x, kind="logits", reduction="sum", backend=engine)
    mean = fe.sparse_cross_entropy(labels, x, kind="logits", reduction="mean", backend=engine)
    assert total == pytest.approx(math.fsum(rows), rel=1e-6)
    assert mean == pytest.approx(math.fsum(rows) / 1e5, rel=1e-6)


def test_12_many_equal_float16_weights(engine):
    w = np.full(70_000, 0.25, np.float16)
    close(fe.entropy(w, row_sums="rescale", backend=engine), mp.log(70_000), np.float16)
    ones = np.ones(70_000, np.float16)
    close(fe.entropy(ones, row_sums="rescale", backend=engine), mp.log(70_000), np.float16)


def test_13_entropy_of_a_certain_row(engine):
    got = fe.entropy(np.array([0.0, -200]), kind="logits", backend=engine)
    s = mp.exp(-200)
    close(got, mp.log1p(s) + 200 * s / (1 + s), np.float64)
    assert got == pytest.approx(2.8e-85, rel=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_14_perplexity_survives_one_surprise(dtype, engine):
    x = np.zeros((1000, 2), dtype)
    x[:, 0] = 110
    labels = np.zeros(1000, int)
    labels[17] = 1
    rows = fe.sparse_cross_entropy(labels, x, kind="logits", backend=engine)
    assert rows[17] == 110
    acc = fe.Accumulator(["perplexity"], task="sparse", kind="logits", backend=engine)
    got = acc.update(labels, x).compute()["perplexity"].value
    assert got == pytest.approx(math.exp(0.11), rel=1e-6)


def test_15_ece_of_full_confidence(engine):
    pred = np.array([[0.95, 0.05], [1.0, 0.0]])
    acc = fe.Accumulator(["ece"], task="sparse", kind="probs", bins=10, backend=engine)
    got = acc.update([0, 1], pred).compute()["ece"].value
    assert got == pytest.approx(0.475, rel=1e-12)


@pytest.mark.parametrize("dtype", FLOATS[2:], ids=lambda d: np.dtype(d).name)
def test_16_labels_are_never_floats(dtype, engine):
    x = np.zeros((3, 3000), dtype)
    labels = np.array([2049, 2051, 2999])
    x[[0, 1, 2], labels] = 40
    got = fe.sparse_cross_entropy(labels, x, kind="logits", backend=engine)
    assert (got < 1e-12).all()
    got = fe.sparse_cross_entropy(labels.astype(np.uint16), x, kind="logits", backend=engine)
    assert (got < 1e-12).all()


def test_17_a_class_that_never_occurs(engine):
    p = np.full((4, 3), 1 / 3)
    got = fe.sparse_cross_entropy([0, 0, 1, 0], p, reduction="mean", backend=engine)
    assert got == pytest.approx(math.log(3), rel=1e-14)


def test_18_every_label_ignored(engine):
    x = np.zeros((3, 2))
    none = [-100] * 3
    got = fe.sparse_cross_entropy(
        none, x, kind="logits", ignore_index=-100, reduction="mean", backend=engine
    )
    assert math.isnan(got)
    acc = fe.Accumulator(
        ["cross_entropy"], task="sparse", kind="logits", ignore_index=-100, backend=engine
    )
    empty = acc.update(none, x).compute()["cross_entropy"]
    assert math.isnan(empty.value)
    assert empty.count == 0
    later = acc.update([0, 1, 0], x).compute()["cross_entropy"]
    assert later.count == 3
    assert later.value == pytest.approx(LN2, rel=1e-14)


def test_19_batches_of_unequal_size(engine):
    r = np.random.default_rng(0)
    x, labels, w = r.normal(size=(100, 5)), r.integers(0, 5, size=100), r.random(100)
    acc = fe.Accumulator(["cross_entropy"], task="sparse", kind="logits", backend=engine)
    for cut in (slice(0, 1), slice(1, 90), slice(90, 100)):
        acc.update(labels[cut], x[cut], sample_weight=w[cut])
    rows = fe.sparse_cross_entropy(labels, x, kind="logits", sample_weight=w, backend=engine)
    got = acc.compute()["cross_entropy"].value
    assert got == math.fsum(rows) / math.fsum(w)


@pytest.mark.parametrize("dtype", FLOATS[:2], ids=lambda d: np.dtype(d).name)
def test_20_uniform_over_many_classes(dtype, engine):
    p = np.full(50_000, 1 / 50_000, dtype)
    close(fe.entropy(p, backend=engine), mp.log(50_000), dtype)
    x = np.zeros((1, 50_000), dtype)
    close(fe.sparse_cross_entropy([7], x, kind="logits", backend=engine), mp.log(50_000), dtype)


@every_float
def test_21_confident_row(dtype, engine):
    x = np.array([[40, 0, 0]], dtype)
    got = fe.sparse_cross_entropy([0], x, kind="logits", backend=engine)
    close(got, mp.log1p(2 * mp.exp(-40)), dtype)
    assert got[0] == pytest.approx(8.5e-18, rel=0.01)


@pytest.mark.parametrize("dtype", FLOATS[:2], ids=lambda d: np.dtype(d).name)
def test_22_common_offset(dtype, engine):
    x = np.array([[0, 1, -2, 0.5]], dtype)
    want = fe.sparse_cross_entropy([2], x, kind="logits", backend=engine)
    for offset in (1e4, -1e4):
        got = fe.sparse_cross_entropy([2], x + dtype(offset), kind="logits", backend=engine)
        close(got, list(want), dtype)


@pytest.fixture(scope="module")
def past_int32(tmp_path_factory):
    """A table of more than 2³¹ elements; its file is sparse, only the pages that are read exist."""
    path, shape = tmp_path_factory.mktemp("big") / "table.f32", (65, 2**25 + 3)
    table = np.memmap(path, np.float32, "w+", shape=shape)
    table[:, -1] = np.arange(1, 66)
    table[:, 2**24] = np.arange(65, 0, -1)
    table.flush()
    assert table.size > 2**31
    yield np.memmap(path, np.float32, "r", shape=shape)
    path.unlink()


def test_23_class_axis_last(past_int32, compiled):
    rows, classes = past_int32.shape
    labels = np.full(rows, classes - 1)
    labels[::2] = 2**24
    got = fe.sparse_cross_entropy(labels, past_int32, row_sums="as_is", backend=compiled)
    want = -np.log(past_int32[np.arange(rows), labels].astype(float))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-12)


def test_23_class_axis_first(past_int32, compiled):
    rows, classes = past_int32.shape
    labels = np.full(rows, classes - 1)
    table = past_int32.T
    got = fe.sparse_cross_entropy(labels, table, row_sums="as_is", axis=0, backend=compiled)
    np.testing.assert_allclose(got, -np.log(np.arange(1, rows + 1.0)), rtol=1e-6, atol=1e-12)


def test_23_many_rows():
    rows = 2**25 + 7
    table = np.broadcast_to(np.float32([0.5, 0.5] + [0] * 62), (rows, 64))
    labels = np.broadcast_to(np.uint8(1), (rows,))
    options = {"row_sums": "as_is", "reduction": "sum", "num_threads": 2}
    got = fe.sparse_cross_entropy(labels, table, **options)
    assert table.size > 2**31
    assert got == pytest.approx(rows * LN2, rel=1e-6)


@pytest.mark.slow
def test_23_one_row():
    classes = 2**31 + 11
    # read-only anonymous memory: the kernel shows one page of zeros everywhere
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    zeros = mmap.mmap(-1, 4 * classes, flags=private, prot=mmap.PROT_READ)
    got = fe.entropy(np.frombuffer(zeros, np.float32), kind="logits", num_threads=2)
    assert got == pytest.approx(math.log(classes), rel=1e-6)


def test_24_counts_past_float32(engine):
    n = 2**24 + 1
    pred = np.broadcast_to(np.array([0.5, 0.5], np.float32), (n, 2))
    labels = np.broadcast_to(np.uint8(0), (n,))
    metrics = ["cross_entropy", "accuracy"]
    acc = fe.Accumulator(metrics, task="sparse", kind="probs", num_threads=2, backend=engine)
    got = acc.update(labels, pred).compute()["accuracy"]
    assert got.count == 16777217
    assert got.weight == 16777217
    assert got.value == 1
