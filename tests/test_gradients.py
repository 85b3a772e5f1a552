"""Derivatives against exact arithmetic, and boosting with them against built-in losses."""

import mpmath
import numpy as np
import pytest

import fastent as fe

BOUND = {np.dtype("float64"): 1e-14, np.dtype("float32"): 3e-7}


def exact(target, x, smoothing=0.0, weights=None):
    """Gradient and diagonal of the Hessian of one row, in 60 digits; target normalised."""
    with mpmath.workdps(60):
        x = [mpmath.mpf(float(v)) for v in x]
        e = [mpmath.exp(v - max(x)) for v in x]
        q = [v / mpmath.fsum(e) for v in e]
        t = [mpmath.mpf(float(v)) for v in target]
        s, n = mpmath.mpf(smoothing), len(x)
        w = [1] * n if weights is None else [mpmath.mpf(float(v)) for v in weights]
        u = [a * ((1 - s) * v / mpmath.fsum(t) + s / n) for a, v in zip(w, t, strict=True)]
        mass = mpmath.fsum(u)
        gradient = [mass * a - b for a, b in zip(q, u, strict=True)]
        return (
            gradient,
            [mass * a * (1 - a) for a in q],
            [mass * a + b for a, b in zip(q, u, strict=True)],
        )


def rows(rng, dtype, n, classes):
    """Ordinary rows, confident ones, and far offsets."""
    x = rng.normal(size=(n, classes)) * np.repeat([1, 5, 30], -(-n // 3))[:n, None]
    return (x + rng.choice([0, 1000, -50], size=(n, 1))).astype(dtype)


@pytest.mark.parametrize("classes", [1, 2, 7, 33, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_keep_the_digits_of_confident_rows(compiled, dtype, classes):
    rng = np.random.default_rng(classes)
    x = rows(rng, dtype, 9, classes)
    labels = rng.integers(0, classes, 9)
    labels[::2] = x[::2].argmax(1)
    gradient, hessian = fe.cross_entropy_gradient(labels, x, hessian="diag")
    assert gradient.dtype == hessian.dtype == x.dtype
    for i, label in enumerate(labels):
        slope, curve, _ = exact(np.arange(classes) == label, x[i])
        for found, true in ((gradient[i], slope), (hessian[i], curve)):
            for a, b in zip(found, true, strict=True):
                assert abs(float(a) - b) <= BOUND[x.dtype] * abs(b) + 1e-37


@pytest.mark.parametrize("classes", [3, 40])
def test_soft_targets_with_smoothing_and_weights(compiled, classes):
    rng = np.random.default_rng(classes)
    x = rows(rng, "float64", 6, classes)
    target = rng.dirichlet(np.full(classes, 0.2), 6)
    rates = rng.uniform(0.2, 3, classes)
    per_row = rng.uniform(0, 2, 6)
    gradient, hessian = fe.cross_entropy_gradient(
        target, x, hessian="diag", sample_weight=per_row, class_weight=rates, label_smoothing=0.1
    )
    for i in range(6):
        slope, curve, size = exact(target[i], x[i], 0.1, rates)
        for k in range(classes):
            assert abs(gradient[i, k] - per_row[i] * slope[k]) <= 1e-14 * per_row[i] * size[k]
            assert abs(hessian[i, k] - per_row[i] * curve[k]) <= 1e-13 * per_row[i] * curve[k]


def test_sharp_targets_at_a_confident_class(compiled):
    x = np.array([[50.0, 0.0, 1.0]])
    found = fe.cross_entropy_gradient(np.array([[1.0, 0.0, 0.0]]), x)
    slope, _, _ = exact([1, 0, 0], x[0])
    assert all(abs(a - b) <= 1e-14 * abs(b) for a, b in zip(found[0], slope, strict=True))


def test_agrees_with_differences_of_the_loss():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 5))
    labels, weights, rates = rng.integers(0, 5, 4), rng.random(4), rng.random(5)
    options = dict(sample_weight=weights, class_weight=rates, label_smoothing=0.2)
    gradient = fe.cross_entropy_gradient(labels, x, **options)

    def loss(z):
        return fe.sparse_cross_entropy(labels, z, kind="logits", reduction="sum", **options)

    for i, k in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i, k] = 1e-5
        assert abs((loss(x + step) - loss(x - step)) / 2e-5 - gradient[i, k]) < 1e-9


def test_weights_of_terms_multiply_class_weights():
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=(6, 3)), rng.integers(0, 3, 6)
    terms, rates = rng.random((6, 3)), rng.random(3)
    found = fe.cross_entropy_gradient(labels, x, sample_weight=terms, class_weight=rates)
    expected = fe.cross_entropy_gradient(labels, x) * (terms * rates)[np.arange(6), labels, None]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary(compiled, dtype):
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(size=20) * 4, [60, -60, 0, 35]]).astype(dtype)
    t = np.concatenate([rng.random(10), rng.integers(0, 2, 10), [1, 0, 0.5, 1]]).astype(dtype)
    gradient, hessian = fe.binary_cross_entropy_gradient(t, x, hessian="diag")
    with mpmath.workdps(60):
        for i in range(x.size):
            q = 1 / (1 + mpmath.exp(-mpmath.mpf(float(x[i]))))
            slope, curve = q - mpmath.mpf(float(t[i])), q * (1 - q)
            near = min(q + float(t[i]), 2 - q - float(t[i]))
            assert abs(float(gradient[i]) - slope) <= BOUND[x.dtype] * max(near, abs(slope))
            assert abs(float(hessian[i]) - curve) <= BOUND[x.dtype] * curve


def test_odd_rows(compiled):
    inf, nan = np.inf, np.nan
    x = np.array([[inf, 0, inf], [-inf, 0, 0], [nan, 0, 1], [-inf, -inf, -inf]])
    found = fe.cross_entropy_gradient([0, 0, 1, 1], x)
    np.testing.assert_array_equal(found[:2], [[-0.5, 0, 0.5], [-1, 0.5, 0.5]])
    assert np.isnan(found[2:]).all()
    skipped = fe.cross_entropy_gradient(
        [0, 0, -100, 1], x, ignore_index=-100, sample_weight=[1, 1, 1, 0]
    )
    assert (skipped[2:] == 0).all()
    assert fe.cross_entropy_gradient(np.zeros(0, int), np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("classes", [3, 50, 5000])
def test_in_place_with_any_number_of_threads(classes):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200_000 // classes, classes)).astype("float32")
    labels = rng.integers(0, classes, len(x))
    one = fe.cross_entropy_gradient(labels, x, num_threads=1, hessian="diag")
    curve = np.empty_like(x)
    given = x.copy()
    found = fe.cross_entropy_gradient(
        labels, given, num_threads=2, out=given, hessian="diag", hessian_out=curve
    )
    assert found[0] is given and found[1] is curve
    np.testing.assert_array_equal(given, one[0])
    np.testing.assert_array_equal(curve, one[1])


def test_layouts_and_overlaps_change_nothing():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(30, 4))
    target = rng.dirichlet(np.ones(4), 30)
    plain = fe.cross_entropy_gradient(target, x)
    np.testing.assert_array_equal(fe.cross_entropy_gradient(target, np.asfortranarray(x)), plain)
    room = np.empty((30, 8))
    fe.cross_entropy_gradient(target, x, out=room[:, ::2])
    np.testing.assert_array_equal(room[:, ::2], plain)
    for shared in (x.copy(), np.asfortranarray(x)):
        backwards = shared[::-1]
        fe.cross_entropy_gradient(target, shared, out=backwards)
        np.testing.assert_array_equal(backwards, plain)
    over = target.copy()
    fe.cross_entropy_gradient(over, x, out=over)
    np.testing.assert_array_equal(over, plain)
    cube = fe.cross_entropy_gradient(target.reshape(5, 6, 4), x.reshape(5, 6, 4))
    np.testing.assert_array_equal(cube.reshape(30, 4), plain)


def test_sixteen_bit_logits():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(8)
    x = rng.normal(size=(20, 6))
    labels = rng.integers(0, 6, 20)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        given = x.astype(dtype)
        wide = fe.cross_entropy_gradient(labels, given.astype(np.float32))
        found = fe.cross_entropy_gradient(labels, given)
        assert found.dtype == given.dtype
        np.testing.assert_array_equal(found, wide.astype(dtype))
        fe.cross_entropy_gradient(labels, given, out=given)
        np.testing.assert_array_equal(given, found)


def test_bad_input_leaves_the_logits_alone():
    x = np.arange(6.0).reshape(2, 3)
    before = x.copy()
    cases = [
        (([0, 3], x), {}, r"labels: expected classes in \[0, 3\), got 3 in row 1"),
        (([0.5, 1], x), {}, "labels: expected whole numbers, got 0.5 in row 0"),
        (([[1, 0, 0], [0.5, 0.9, 0]], x), {}, r"target_or_labels: .* got 1\.4 in row 1"),
        (([[1, 0, 0], [1.5, -0.5, 0]], x), {}, "target_or_labels: .*-0.5 in row 1"),
        (([0, 1, 2], x), {}, "target_or_labels: expected shape"),
        (([0, 1], x), {"sample_weight": [1, -1]}, "sample_weight: .*-1.0 in row 1"),
        (([0, 1], x), {"class_weight": [1, 2]}, "class_weight: expected shape"),
        (([0, 1], x), {"hessian": "full"}, "hessian: expected"),
        (([0, 1], x), {"hessian_out": x}, "hessian_out: applies"),
        (([0, 1], x), {"label_smoothing": 2}, "label_smoothing"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            fe.cross_entropy_gradient(*arguments, out=x, **options)
    np.testing.assert_array_equal(x, before)
    with pytest.raises(ValueError, match=r"target: expected numbers in \[0, 1\], got 2.0 in row 1"):
        fe.binary_cross_entropy_gradient([1.0, 2.0], x[0, :2], out=x[0, :2])
    np.testing.assert_array_equal(x, before)
    with pytest.raises(TypeError, match="out: expected a float64 array"):
        fe.cross_entropy_gradient([0, 1], x, out=np.empty((2, 3), np.float32))


def boosting_data(classes):
    rng = np.random.default_rng(9)
    features = rng.normal(size=(600, 5))
    scores = features @ rng.normal(size=(5, classes)) + rng.gumbel(size=(600, classes))
    return features, scores.argmax(1), rng.uniform(0.5, 2, 600)


@pytest.mark.parametrize("classes", [2, 4])
def test_xgboost_as_with_its_own_loss(classes):
    xgboost = pytest.importorskip("xgboost")
    features, labels, weights = boosting_data(classes)
    data = xgboost.DMatrix(features, labels, weight=weights)
    options = {"max_depth": 3, "eta": 0.3, "nthread": 1, "tree_method": "exact"}
    if classes == 2:
        built_in = options | {"objective": "binary:logistic", "base_score": 0.5}
        options["base_score"] = 0.0
    else:
        options |= {"num_class": classes, "base_score": 0.5}
        built_in = options | {"objective": "multi:softprob"}

    def objective(margins, train):
        slope = fe.binary_cross_entropy_gradient if classes == 2 else fe.cross_entropy_gradient
        return slope(
            train.get_label(), margins, hessian="xgboost", sample_weight=train.get_weight()
        )

    theirs = xgboost.train(built_in, data, 20).predict(data, output_margin=True)
    ours = xgboost.train(options, data, 20, obj=objective).predict(data, output_margin=True)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("classes", [2, 4])
def test_lightgbm_as_with_its_own_loss(classes):
    lightgbm = pytest.importorskip("lightgbm")
    features, labels, weights = boosting_data(classes)
    options = {
        "num_leaves": 7, "learning_rate": 0.3, "num_threads": 1, "verbose": -1,
        "boost_from_average": False, "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    if classes > 2:
        options["num_class"] = classes

    def objective(margins, train):
        slope = fe.binary_cross_entropy_gradient if classes == 2 else fe.cross_entropy_gradient
        return slope(
            train.get_label(), margins, hessian="lightgbm", sample_weight=train.get_weight()
        )

    def trained(loss):
        data = lightgbm.Dataset(features, labels, weight=weights)
        return lightgbm.train(options | {"objective": loss}, data, 20).predict(
            features, raw_score=True
        )

    theirs = trained("binary" if classes == 2 else "multiclass")
    np.testing.assert_allclose(trained(objective), theirs, atol=2e-3)


def test_labels_are_read_once(monkeypatch):
    """What is checked is what is used, also when somebody changes the labels in between."""
    labels, x = np.array([0, 1, 2, 1]), np.zeros((4, 3))
    want = fe.cross_entropy_gradient(labels, x)
    derive = fe.gradients.derivatives.derive

    def late(several, logits, target, known, *rest):
        labels[:] = 10**9
        assert not np.may_share_memory(known, labels)
        return derive(several, logits, target, known, *rest)

    monkeypatch.setattr(fe.gradients.derivatives, "derive", late)
    for index in (None, -100):
        labels[:] = [0, 1, 2, 1]
        found = fe.cross_entropy_gradient(labels, x, ignore_index=index)
        np.testing.assert_array_equal(found, want)


def test_labels_that_lie_in_any_order():
    y = np.array([[0, 1], [1, 0], [0, 0]]).T
    x = np.random.default_rng(1).normal(size=(2, 3, 2))
    want = fe.cross_entropy_gradient(np.ascontiguousarray(y), x)
    for index in (None, -100, 1):
        found = fe.cross_entropy_gradient(y, x, ignore_index=index)
        np.testing.assert_array_equal(found, np.where(y[..., None] == index, 0.0, want))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_binary_operands_broadcast(dtype):
    """As the plain call on operands of one shape; of logits that were broadcast the sums."""
    r = np.random.default_rng(5)
    x, t, w = r.normal(size=(4, 3)).astype(dtype), r.random(3), r.random((4, 1))
    whole = fe.binary_cross_entropy_gradient(np.tile(t, (4, 1)), x, sample_weight=np.tile(w, 3))
    got = fe.binary_cross_entropy_gradient(t, x, sample_weight=w)
    np.testing.assert_array_equal(got, whole)
    gradient, hessian = fe.binary_cross_entropy_gradient(t[:1], x, hessian="diag")
    each = fe.binary_cross_entropy_gradient(np.full((4, 3), t[0]), x, hessian="diag")
    np.testing.assert_array_equal([gradient, hessian], each)
    for shape in ((3,), (1, 3), (4, 1)):
        row = x[tuple(slice(n) for n in shape)] if len(shape) > 1 else x[0]
        row = np.ascontiguousarray(row.reshape(shape))
        targets = r.random((4, 3))
        out = np.empty(shape, dtype)
        got = fe.binary_cross_entropy_gradient(targets, row, sample_weight=w, out=out)
        plain = fe.binary_cross_entropy_gradient(
            targets, np.broadcast_to(row.astype(float), (4, 3)), sample_weight=w
        )
        over = 0 if shape[-1] == 3 else 1
        want = plain.sum(axis=over).reshape(shape)
        assert got is out and got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=1e-6 if dtype == np.float32 else 1e-14)
    with pytest.raises(ValueError, match=r"hessian: does not apply where logits are broadcast"):
        fe.binary_cross_entropy_gradient(np.zeros((4, 3)), x[0], hessian="diag")
    with pytest.raises(ValueError, match=r"target: expected shape \(4, 3\) as logits, or what bro"):
        fe.binary_cross_entropy_gradient(t[:2], x)
    with pytest.raises(ValueError, match=r"target: .* got 2\.0"):
        fe.binary_cross_entropy_gradient([0.0, 2.0, 0.0], x)
