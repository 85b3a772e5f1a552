"""Zeros, infinities, NaN, ties and ignored rows: what is right is exact, so equality is asked."""

import math

import cases
import hard_inputs as hard
import numpy as np
import pytest

import fastent as fe

INF, NAN = np.inf, np.nan
LN2 = math.log(2)
WIDE = [np.float64, np.float32]
FLOATS = list(hard.DTYPES.values())


@pytest.fixture(autouse=True)
def floating_point_traps():
    """A floating-point warning of NumPy inside any call becomes an error."""
    with np.errstate(all="raise"):
        yield


def arrays(dtype, *rows):
    return [np.array(r, np.float64).astype(dtype) for r in rows]


def close(got, want, dtype):
    rtol = 1e-14 if dtype == np.float64 else 1e-6
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_zeros_in_probabilities(dtype, engine):
    p, q = arrays(
        dtype,
        [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [1, 0, 0], [0, 0.5, 0.5]],
        [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.25, 0.25]],
    )
    close(fe.kl_divergence(p, q, backend=engine), [0, 0, INF, INF, LN2], dtype)
    js = [0, 0, LN2 / 2, LN2, 0.5 * math.log(4 / 3) + 0.5 * (0.5 * LN2 + 0.5 * math.log(2 / 3))]
    close(fe.js_divergence(p, q, backend=engine), js, dtype)
    ce = fe.categorical_cross_entropy(p, q, backend=engine)
    close(ce, [0, LN2, INF, INF, 2 * LN2], dtype)
    close(fe.entropy(p, backend=engine), [0, LN2, LN2, 0, LN2], dtype)
    sparse = fe.sparse_cross_entropy([0, 0, 1, 0, 0], q, backend=engine)
    close(sparse, [0, LN2, INF, INF, LN2], dtype)


# ln 2 has no 16-bit form, so 16-bit log-probabilities are left to the exact tests.
LOGARITHMIC = [("logits", dtype) for dtype in FLOATS] + [("logprobs", dtype) for dtype in WIDE]


@pytest.mark.parametrize("kind, dtype", LOGARITHMIC, ids=str)
def test_minus_infinity_is_legal(kind, dtype, engine):
    half = 0.0 if kind == "logits" else -LN2
    a, b = arrays(
        dtype,
        [[half, half, -INF], [half, half, -INF], [0, -INF, -INF], [0, -INF, -INF]],
        [[half, half, -INF], [half, -INF, half], [0, -INF, -INF], [-INF, half, half]],
    )
    assert fe.kl_divergence(a, b, kind=kind, backend=engine).tolist() == [0, INF, 0, INF]
    close(fe.js_divergence(a, b, kind=kind, backend=engine), [0, LN2 / 2, 0, LN2], dtype)
    close(fe.entropy(a, kind=kind, backend=engine), [LN2, LN2, 0, 0], dtype)
    target = np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [1, 0, 0], [1, 0, 0]]).astype(dtype)
    got = fe.categorical_cross_entropy(target, b, kind=kind, backend=engine)
    close(got, [LN2, LN2, 0, INF], dtype)
    got = fe.sparse_cross_entropy([0, 1, 0, 0], b, kind=kind, backend=engine)
    close(got, [LN2, INF, 0, INF], dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_plus_infinity_is_certainty_and_ties_share_it(dtype, engine):
    (x,) = arrays(dtype, [[INF, 0, 1], [INF, INF, -INF], [INF, INF, INF], [3, -INF, INF]])
    got = fe.sparse_cross_entropy([0, 1, 2, 0], x, kind="logits", backend=engine)
    close(got, [0, LN2, math.log(3), INF], dtype)
    close(fe.entropy(x, kind="logits", backend=engine), [0, LN2, math.log(3), 0], dtype)
    assert fe.kl_divergence(x, x, kind="logits", backend=engine).tolist() == [0, 0, 0, 0]
    target = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1], [0, 0, 1.0]]).astype(dtype)
    got = fe.categorical_cross_entropy(target, x, kind="logits", backend=engine)
    close(got, [0, LN2, math.log(3), 0], dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_row_without_any_class_is_nan(dtype, engine):
    a, b = arrays(dtype, [[-INF, -INF], [0, 0]], [[0, 0], [0, 0]])
    for x, y in ((a, b), (b, a)):
        for function in (fe.kl_divergence, fe.js_divergence):
            got = function(x, y, kind="logits", backend=engine)
            assert math.isnan(got[0]) and got[1] == 0
    got = fe.entropy(a, kind="logits", backend=engine)
    assert math.isnan(got[0])
    assert math.isnan(fe.sparse_cross_entropy([0, 0], a, kind="logits", backend=engine)[0])


@pytest.mark.parametrize("function", cases.FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_stays_in_its_row(function, dtype, engine):
    for kind in hard.KINDS:
        for classes in (1, 2, 9, 40, 300):
            if kind != "logits" and classes > 9 and dtype not in WIDE:
                continue
            args = cases.ordinary(function, kind, dtype, (7, classes))
            clean = cases.call(function, args, kind, backend=engine)
            for position in range(len(args)):
                if args[position].dtype.kind == "i":
                    continue
                for column in {0, classes // 2, classes - 1}:
                    spoiled = [x.copy() for x in args]
                    spoiled[position][3, column] = NAN
                    got = cases.call(function, spoiled, kind, backend=engine)
                    expected = clean.copy()
                    if function == "binary_cross_entropy":
                        expected[3, column] = NAN
                    else:
                        expected[3] = NAN
                    np.testing.assert_array_equal(got, expected, err_msg=f"{kind} {classes}")


@pytest.mark.parametrize("dtype", WIDE)
def test_nan_wins_over_zeros_and_infinities(dtype, engine):
    p, q = arrays(dtype, [[0, 1, 0], [1, 0, 0]], [[NAN, 1, 0], [0, NAN, 1]])
    for function in (fe.kl_divergence, fe.js_divergence, fe.categorical_cross_entropy):
        assert np.isnan(function(p, q, backend=engine)).all(), function
        assert np.isnan(function(q, p, backend=engine)).all(), function
    assert np.isnan(fe.sparse_cross_entropy([1, 0], q, backend=engine)).all()
    a, b = arrays(dtype, [[-INF, 0, 0], [INF, 0, 0]], [[NAN, 0, 0], [NAN, 0, -INF]])
    for function in (fe.kl_divergence, fe.js_divergence):
        assert np.isnan(function(a, b, kind="logits", backend=engine)).all()
        assert np.isnan(function(b, a, kind="logits", backend=engine)).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_divergence_of_equal_rows_is_exactly_zero(dtype, engine):
    for kind in hard.KINDS:
        for name, rows in hard.singles(kind, dtype).items():
            for function in (fe.kl_divergence, fe.js_divergence):
                got = function(rows, rows.copy(), kind=kind, backend=engine)
                assert (got == 0).all(), (kind, name, function.__name__, got)


@pytest.mark.parametrize("dtype", WIDE)
def test_offset_that_is_exact_changes_nothing(dtype, engine):
    r = np.random.default_rng(0)
    x = np.round(r.normal(size=(20, 33)) * 64).astype(dtype) / 8
    for offset in (16.0, -1024.0, 4096.0):
        moved = x + dtype(offset)
        for function in (fe.kl_divergence, fe.js_divergence):
            assert (function(x, moved, kind="logits", backend=engine) == 0).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_divergences_are_never_negative(dtype, engine):
    r = np.random.default_rng(0)
    for kind in hard.KINDS:
        for classes in (2, 3, 10, 64, 200):
            a = r.normal(size=(300, classes))
            b = a + 10.0 ** -r.integers(1, 17, size=(300, 1)) * r.normal(size=a.shape)
            shape = {"probs": hard.softmax, "logprobs": hard.log_softmax, "logits": np.asarray}
            with np.errstate(all="ignore"):
                a, b = (hard.cast(shape[kind](x), dtype) for x in (a, b))
            for function in (fe.kl_divergence, fe.js_divergence):
                got = (
                    function(a, b, kind=kind, row_sums="rescale", backend=engine)
                    if (kind != "logits")
                    else function(a, b, kind=kind, backend=engine)
                )
                assert (got >= 0).all()
                if function is fe.js_divergence:
                    assert (got <= LN2 * (1 + 1e-6)).all()


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("soft", [False, True])
def test_bernoulli_edges(engine, dtype, soft):
    t, p, x = arrays(
        dtype,
        [0, 1, 0, 1, 0.5, 0.5],
        [0, 1, 1, 0, 0, 1],
        [-INF, INF, INF, -INF, -INF, INF],
    )
    rows = slice(None) if soft else slice(4)
    for pred, kind in ((p, "probs"), (x, "logits")):
        got = fe.binary_cross_entropy(t[rows], pred[rows], kind=kind, backend=engine)
        assert got.tolist() == [0, 0, INF, INF, INF, INF][rows]
        assert not np.signbit(got).any()


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("kind", ["probs", "logits"])
def test_hard_targets_among_soft_ones(dtype, kind, engine):
    """Loops of their own for hard targets, odd numbers and sums change no bits."""
    rng = np.random.default_rng(5)
    n = 2500
    t = rng.integers(0, 2, n).astype(dtype)
    x = rng.normal(scale=5, size=n).astype(dtype)
    odd = [INF, -INF, 100, -800]
    if kind == "probs":
        tiny = np.finfo(dtype).smallest_subnormal
        with np.errstate(all="ignore"):
            x, odd = 1 / (1 + np.exp(-x)), [tiny, 7 * tiny, np.nextafter(dtype(1), dtype(0)), 0]
    options = {"kind": kind, "backend": engine}
    hard = fe.binary_cross_entropy(t, x, **options)
    total = fe.binary_cross_entropy(t, x, reduction="sum", **options)
    assert total == math.fsum(hard)
    for place, target in ((0, 0.5), (1500, 2.0**-20), (n - 1, 1 - 2.0**-20)):
        t[place], x[place] = target, odd[0]
        odd = odd[1:] + odd[:1]
        got = fe.binary_cross_entropy(t, x, **options)
        assert (
            np.delete(got, [0, 1500, n - 1]).tobytes()
            == np.delete(hard, [0, 1500, n - 1]).tobytes()
        )
        total = fe.binary_cross_entropy(t, x, reduction="sum", **options)
        assert total == (math.fsum(got) if np.isfinite(got).all() else got.sum())


def test_smoothing_meets_impossible_classes(engine):
    x = np.array([[0.0, -INF, 0]])
    for smoothing, want in ((0.0, LN2), (0.1, INF)):
        got = fe.sparse_cross_entropy(
            [0], x, kind="logits", label_smoothing=smoothing, backend=engine
        )
        close(got, [want], np.float64)


def test_weight_zero_adds_zero_whatever_the_value(engine):
    p = np.array([[1.0, 0], [0.5, 0.5], [NAN, 1], [7, 9]])
    q = np.array([[0.0, 1], [0.5, 0.5], [0.5, 0.5], [1, 1]])
    w = np.array([0, 2.0, 0, 0])
    for function in (fe.kl_divergence, fe.js_divergence, fe.categorical_cross_entropy):
        got = function(p, q, sample_weight=w, backend=engine)
        assert got[[0, 2, 3]].tolist() == [0, 0, 0], function
        total = function(p, q, sample_weight=w, reduction="sum", backend=engine)
        assert total == got[1]
    got = fe.sparse_cross_entropy([1, 0, 1, 1], p, sample_weight=w, backend=engine)
    assert got.tolist() == [0, 2 * LN2, 0, 0]
    got = fe.entropy(p, sample_weight=w, backend=engine)
    assert got.tolist() == [0, 2 * LN2, 0, 0]


def test_class_of_weight_zero_adds_zero(engine):
    q = np.array([[1.0, 0, 0]])
    got = fe.categorical_cross_entropy(
        np.array([[0.5, 0.5, 0]]), q, class_weight=[1, 0, 1], backend=engine
    )
    assert got.tolist() == [0]
    got = fe.sparse_cross_entropy([1], q, class_weight=[1, 0, 1], backend=engine)
    assert got.tolist() == [0]
    term = np.array([[1.0, 0, 1]])
    assert fe.sparse_cross_entropy([1], q, sample_weight=term, backend=engine).tolist() == [0]


@pytest.mark.parametrize("row_sums", ["check", "rescale", "as_is"])
@pytest.mark.parametrize("eps", [0.0, 0.01])
@pytest.mark.parametrize("kind", hard.KINDS)
def test_label_of_weight_zero_adds_zero_to_the_loss_whatever_the_row(kind, eps, row_sums, engine):
    if kind == "logits" and row_sums != "check":
        return  # refused
    rows = np.array([[NAN, 0.25, 0.25], [0.5, 0.0, 0.5], [0.5, 0.25, 0.25], [0.125, 0.375, 0.5]])
    with np.errstate(divide="ignore"):
        rows = rows if kind == "probs" else np.log(rows)
    labels, weights = [1, 1, 0, 2], np.array([0.75, 0.0, 1.5])
    options = dict(kind=kind, eps=eps, row_sums=row_sums, backend=engine)
    plain = fe.sparse_cross_entropy(labels, rows, **options)
    want = [0.0, 0.0, 0.75 * plain[2], 1.5 * plain[3]]
    got = fe.sparse_cross_entropy(labels, rows, class_weight=weights, **options)
    assert got.tolist() == want
    options |= dict(class_weight=weights, reduction="mean")
    assert fe.sparse_cross_entropy(labels, rows, **options) == math.fsum(want) / 2.25
    acc = fe.Accumulator(["cross_entropy", "accuracy"], kind=kind, eps=eps, row_sums=row_sums,
                         class_weight=weights, backend=engine)  # fmt: skip
    found = acc.update(labels, rows).compute()["cross_entropy"]
    assert (found.value, found.weight) == (math.fsum(want) / 2.25, 2.25)


def test_ignored_rows_are_zero_and_unchecked(engine):
    q = np.array([[0.5, 0.5], [9, 9], [NAN, 1], [-1, 0.5], [0.25, 0.75]])
    labels = np.array([0, -100, -100, -100, 1])
    got = fe.sparse_cross_entropy(labels, q, ignore_index=-100, backend=engine)
    assert got[1:4].tolist() == [0, 0, 0]
    mean = fe.sparse_cross_entropy(labels, q, ignore_index=-100, reduction="mean", backend=engine)
    assert mean == math.fsum(got) / 2
    got = fe.sparse_cross_entropy([1, 1], q[[0, 4]], ignore_index=1, backend=engine)
    assert got.tolist() == [0, 0]


def test_no_rows_is_legal(engine):
    for function in cases.FUNCTIONS:
        for kind in hard.KINDS:
            args = cases.ordinary(function, kind, np.float64, (0, 3))
            got = cases.call(function, args, kind, backend=engine)
            assert got.shape == ((0, 3) if function == "binary_cross_entropy" else (0,))
            assert cases.call(function, args, kind, reduction="sum", backend=engine) == 0
            mean = cases.call(function, args, kind, reduction="mean", backend=engine)
            assert math.isnan(mean)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_minus_zero_is_zero(dtype, engine):
    p, q = arrays(dtype, [[-0.0, 1, 0]], [[0, 1, -0.0]])
    for function in (fe.kl_divergence, fe.js_divergence, fe.categorical_cross_entropy):
        assert function(p, q, backend=engine)[0] == 0
    assert fe.entropy(p, backend=engine)[0] == 0
    assert fe.sparse_cross_entropy([0], p, backend=engine)[0] == INF
    t, x = arrays(dtype, [-0.0, 1], [-0.0, -0.0])
    got = fe.binary_cross_entropy(t, x, backend=engine)
    assert got.tolist() == [0, INF]


def test_one_class_is_certain(engine):
    one = np.ones((2, 1))
    assert fe.sparse_cross_entropy([0, 0], one, backend=engine).tolist() == [0, 0]
    assert fe.entropy(5 * one, kind="logits", backend=engine).tolist() == [0, 0]
    assert fe.kl_divergence(one, one, backend=engine).tolist() == [0, 0]


def test_rows_sums_within_the_check_are_normalised(engine):
    p = np.array([[0.4, 0.6]])
    for factor in (1 - 9e-4, 1 + 9e-4):
        got = fe.entropy(p * factor, backend=engine)
        close(got, fe.entropy(p, row_sums="rescale", backend=engine), np.float64)
    half = (p * 1.015).astype(np.float16)
    assert fe.entropy(half, backend=engine).shape == (1,)


def test_inputs_are_never_written_to(engine):
    for function in cases.FUNCTIONS:
        for kind in ("probs", "logits"):
            args = cases.ordinary(function, kind, np.float64, (60, 20))
            w = np.linspace(0, 1, args[-1].size).reshape(args[-1].shape)
            w = w if function == "binary_cross_entropy" else w[:, 0]
            given = [*args, w]
            kept = [a.copy() for a in given]
            for a in given:
                a.setflags(write=False)
            cases.call(function, args, kind, sample_weight=w, backend=engine)
            for a, b in zip(given, kept, strict=True):
                assert a.tobytes() == b.tobytes()
