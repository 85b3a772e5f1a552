"""Sums and means are the correctly rounded sums of the row values; weights, out= and dtypes."""

import math

import cases
import numpy as np
import pytest
from cases import call, ordinary

import fastent as fe

every_function = pytest.mark.parametrize("function", cases.FUNCTIONS)
SHAPES = ((1, 3), (7, 5), (1000, 2), (300, 70))


def bits(x):
    return np.float64(x).tobytes()


@every_function
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sum_and_mean_are_exact(function, dtype, engine):
    for shape in SHAPES:
        for kind in ("logits", "probs"):
            args = ordinary(function, kind, dtype, shape)
            rows = call(function, args, kind, backend=engine)
            total = call(function, args, kind, reduction="sum", backend=engine)
            mean = call(function, args, kind, reduction="mean", backend=engine)
            assert bits(total) == bits(math.fsum(rows.ravel()))
            assert bits(mean) == bits(math.fsum(rows.ravel()) / rows.size)


@every_function
def test_row_weights_in_sum_and_mean(function, engine):
    r = np.random.default_rng(1)
    for shape in SHAPES:
        args = ordinary(function, "logits", np.float64, shape)
        leading = shape if function == "binary_cross_entropy" else shape[:-1]
        for w in (
            r.random(leading),
            r.integers(0, 3, size=leading),
            10.0 ** r.integers(-9, 9, leading),
        ):
            plain = call(function, args, "logits", backend=engine)
            options = {"sample_weight": w, "backend": engine}
            rows = call(function, args, "logits", **options)
            assert rows.tobytes() == (plain * w).tobytes()
            total = call(function, args, "logits", reduction="sum", **options)
            mean = call(function, args, "logits", reduction="mean", **options)
            weight = math.fsum(w.ravel())
            assert bits(total) == bits(math.fsum(rows.ravel()))
            if weight:
                assert bits(mean) == bits(math.fsum(rows.ravel()) / weight)
            else:
                assert math.isnan(mean)


@every_function
def test_sample_weight_broadcasts(function, engine):
    args = ordinary(function, "logits", np.float64, (3, 4, 5))
    leading = (3, 4, 5) if function == "binary_cross_entropy" else (3, 4)
    plain = call(function, args, "logits", backend=engine)
    r = np.random.default_rng(0)
    shapes = [(3, 1), (1, 4), (1, 1), ()]
    if function == "binary_cross_entropy":
        shapes = [(3, 1, 1), (4, 1), (5,), (1, 4, 5), ()]
    for shape in shapes:
        w = r.random(shape)
        options = {"sample_weight": w, "backend": engine}
        got = call(function, args, "logits", **options)
        full = np.broadcast_to(w, leading)
        assert got.tobytes() == (plain * full).tobytes(), shape
        mean = call(function, args, "logits", reduction="mean", **options)
        assert bits(mean) == bits(math.fsum(got.ravel()) / math.fsum(full.ravel()))


def test_means_with_class_weights_agree_for_labels_and_one_hot(engine):
    r = np.random.default_rng(2)
    labels, pred = ordinary("sparse_cross_entropy", "logits", np.float64, (50, 6))
    hot = np.eye(6)[labels]
    c, w = r.random(6) + 0.1, r.random(50)
    for options in (
        {"class_weight": c},
        {"class_weight": c, "sample_weight": w},
        {"class_weight": c, "label_smoothing": 0.1},
        {"class_weight": c, "sample_weight": w, "label_smoothing": 0.1},
        {"sample_weight": r.random((50, 6))},
        {"sample_weight": r.random((50, 6)), "class_weight": c, "label_smoothing": 0.3},
    ):
        options = {**options, "kind": "logits", "reduction": "mean", "backend": engine}
        a = fe.sparse_cross_entropy(labels, pred, **options)
        b = fe.categorical_cross_entropy(hot, pred, **options)
        assert a == pytest.approx(b, rel=1e-14)


def test_mean_divides_by_the_weight_of_the_target(engine):
    labels, pred = ordinary("sparse_cross_entropy", "logits", np.float64, (50, 6))
    r = np.random.default_rng(2)
    c, w, smoothing = r.random(6), r.random(50), 0.2
    options = {"kind": "logits", "class_weight": c, "sample_weight": w, "backend": engine}
    rows = fe.sparse_cross_entropy(labels, pred, **options)
    mean = fe.sparse_cross_entropy(labels, pred, reduction="mean", **options)
    assert mean == pytest.approx(rows.sum() / (w * c[labels]).sum(), rel=1e-14)
    options["label_smoothing"] = smoothing
    rows = fe.sparse_cross_entropy(labels, pred, **options)
    mean = fe.sparse_cross_entropy(labels, pred, reduction="mean", **options)
    target = (1 - smoothing) * np.eye(6)[labels] + smoothing / 6
    assert mean == pytest.approx(rows.sum() / (w * (target @ c)).sum(), rel=1e-13)


def test_ignored_rows_have_no_weight(engine):
    labels, pred = ordinary("sparse_cross_entropy", "logits", np.float64, (40, 6))
    labels[::3] = -1
    kept = labels >= 0
    options = {"kind": "logits", "backend": engine}
    rows = fe.sparse_cross_entropy(labels, pred, ignore_index=-1, **options)
    assert (rows[~kept] == 0).all()
    for reduction in ("sum", "mean"):
        a = fe.sparse_cross_entropy(labels, pred, ignore_index=-1, reduction=reduction, **options)
        b = fe.sparse_cross_entropy(labels[kept], pred[kept], reduction=reduction, **options)
        assert bits(a) == bits(b)


def test_no_weight_at_all_is_nan(engine):
    labels, pred = ordinary("sparse_cross_entropy", "logits", np.float64, (4, 3))
    options = {"kind": "logits", "reduction": "mean", "backend": engine}
    assert math.isnan(fe.sparse_cross_entropy(labels, pred, sample_weight=[0] * 4, **options))
    assert math.isnan(fe.sparse_cross_entropy(labels, pred, class_weight=[0] * 3, **options))
    assert (
        fe.sparse_cross_entropy(
            labels, pred, kind="logits", sample_weight=[0] * 4, reduction="sum", backend=engine
        )
        == 0
    )


def test_nan_and_infinity_in_sums(engine):
    x = np.array([[0.0, 0], [0, -np.inf], [np.nan, 0]])
    options = {"kind": "logits", "backend": engine}
    for reduction in ("sum", "mean"):
        got = fe.sparse_cross_entropy([0, 1], x[:2], reduction=reduction, **options)
        assert got == math.inf
        got = fe.sparse_cross_entropy([0, 1, 0], x, reduction=reduction, **options)
        assert math.isnan(got)


@every_function
def test_base_is_a_unit(function, engine):
    args = ordinary(function, "logits", np.float64, (9, 5))
    nats = call(function, args, "logits", backend=engine)
    for base in (2, 10, 0.1):
        got = call(function, args, "logits", base=base, backend=engine)
        np.testing.assert_allclose(got, nats / math.log(base), rtol=4e-16)
        mean = call(function, args, "logits", base=base, reduction="mean", backend=engine)
        assert mean == pytest.approx(nats.mean() / math.log(base), rel=1e-14)
        total = call(function, args, "logits", base=base, reduction="sum", backend=engine)
        assert bits(total) == bits(math.fsum(got.ravel()))


@every_function
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_results_are_float64(function, dtype, engine):
    args = ordinary(function, "logits", dtype, (3, 4, 5))
    got = call(function, args, "logits", backend=engine)
    leading = (3, 4, 5) if function == "binary_cross_entropy" else (3, 4)
    assert type(got) is np.ndarray
    assert got.dtype == np.float64
    assert got.shape == leading
    assert got.flags.writeable and got.flags.c_contiguous
    for reduction in ("sum", "mean"):
        total = call(function, args, "logits", reduction=reduction, backend=engine)
        assert isinstance(total, float)
        assert np.ndim(total) == 0


@every_function
def test_one_row_gives_a_scalar(function, engine):
    args = ordinary(function, "logits", np.float64, (1, 5))
    want = call(function, args, "logits", backend=engine)
    got = call(function, [a[0] for a in args], "logits", backend=engine)
    if function == "binary_cross_entropy":
        assert got.shape == (5,)
        got = call(function, [a[0, 0] for a in args], "logits", backend=engine)
        want = want[0]
    assert isinstance(got, float)
    assert np.ndim(got) == 0
    assert got == want[0]


@every_function
def test_out(function, engine):
    args = ordinary(function, "logits", np.float64, (8, 6))
    want = call(function, args, "logits", backend=engine)
    out = np.full(want.shape, 7.0)
    got = call(function, args, "logits", out=out, backend=engine)
    assert got is out
    assert out.tobytes() == want.tobytes()
    wide = np.full((*want.shape, 3), 7.0)
    strided = wide[..., 1]
    got = call(function, args, "logits", out=strided, backend=engine)
    assert got is strided
    assert strided.tolist() == want.tolist()
    assert (wide[..., 0] == 7).all() and (wide[..., 2] == 7).all()


def test_settings(engine):
    p = np.full((3, 4), 0.25)
    before = fe.get_num_threads()
    try:
        fe.set_num_threads(2)
        assert fe.get_num_threads() == 2
        assert fe.entropy(p, backend=engine).shape == (3,)
    finally:
        fe.set_num_threads(before)
    assert fe.get_num_threads() == before
    with pytest.raises((ValueError, TypeError), match="backend"):
        fe.set_backend("fortran")
