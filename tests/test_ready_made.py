"""Focal losses, and what tables of counts and Gaussians have, against exact arithmetic."""

import math

import mpmath
import numpy as np
import pytest

import fastent as fe

mp = mpmath.mpf


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


def exactly(array):
    return np.vectorize(lambda v: mp(float(v)), otypes=[object])(array)


def close(found, true, bound=1e-14):
    found, true = np.atleast_1d(found), np.atleast_1d(true)
    assert found.shape == true.shape
    for value, exact in zip(found.ravel(), true.ravel(), strict=True):
        assert abs(mp(float(value)) - exact) <= bound * max(abs(exact), mp("1e-290")), (
            value,
            exact,
        )


# --- focal cross-entropy -------------------------------------------------------------------------


def shares(logits):
    powers = [mpmath.exp(x) for x in exactly(logits)]
    return [v / mpmath.fsum(powers) for v in powers]


def focal(target, q, gamma):
    return mpmath.fsum(
        -t * (1 - v) ** gamma * mpmath.log(v) for t, v in zip(target, q, strict=True) if t
    )


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5])
@pytest.mark.parametrize("kind", ["probs", "logits"])
def test_focal_cross_entropy(gamma, kind):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 5)) * np.repeat([1, 8, 40], 4)[:, None]
    labels = np.where(rng.random(12) < 0.5, x.argmax(1), rng.integers(5, size=12))
    if kind == "probs":
        x = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        rows = [[v / mpmath.fsum(row) for v in row] for row in exactly(x)]
    else:
        rows = [shares(row) for row in x]
    options = {"gamma": gamma, "kind": kind}
    hot = np.eye(5)[labels]
    true = [focal(h, q, gamma) for h, q in zip(hot, rows, strict=True)]
    found = fe.focal_cross_entropy(labels, x, **options)
    close(found, true)
    close(fe.focal_cross_entropy(hot, x, **options), true)
    soft = rng.dirichlet(np.ones(5), 12)
    exact = [[v / mpmath.fsum(row) for v in row] for row in exactly(soft)]
    true = [focal(t, q, gamma) for t, q in zip(exact, rows, strict=True)]
    close(fe.focal_cross_entropy(soft, x, **options), true)
    weights = np.array([1, 2, 0.5, 1, 3])
    w = rng.integers(0, 3, 12) * 1.0
    values = fe.focal_cross_entropy(labels, x, class_weight=weights, sample_weight=w, **options)
    np.testing.assert_allclose(values, found * weights[labels] * w, rtol=1e-15)
    mean = fe.focal_cross_entropy(
        labels, x.T, axis=0, class_weight=weights, sample_weight=w, reduction="mean", **options
    )
    assert mean == math.fsum(values) / math.fsum(weights[labels] * w)
    if gamma == 0:
        np.testing.assert_allclose(found, fe.sparse_cross_entropy(labels, x, kind=kind), rtol=1e-15)
    ignored = fe.focal_cross_entropy(labels, x, ignore_index=int(labels[0]), **options)
    np.testing.assert_array_equal(ignored, np.where(labels == labels[0], 0, found))


@pytest.mark.parametrize("kind", ["probs", "logits"])
def test_binary_focal_cross_entropy(kind):
    rng = np.random.default_rng(2)
    x = rng.normal(size=40) * np.repeat([1, 30], 20)
    q = [1 / (1 + mpmath.exp(-v)) for v in exactly(x)]
    if kind == "probs":
        x = np.array([float(v) for v in q])
        q = exactly(x)
    for t in (rng.integers(0, 2, 40), rng.random(40)):
        for alpha in (None, 0.25):
            up, down = (1, 1) if alpha is None else (mp(alpha), 1 - mp(alpha))
            true = [
                (-up * mp(float(a)) * (1 - v) ** 2 * mpmath.log(v) if a else 0)
                + (-down * (1 - mp(float(a))) * v**2 * mpmath.log(1 - v) if a < 1 and v < 1 else 0)
                + (mpmath.inf if a < 1 and v == 1 else 0)
                for a, v in zip(t, q, strict=True)
            ]
            found = fe.binary_focal_cross_entropy(t, x, alpha=alpha, kind=kind)
            finite = np.isfinite(found)
            np.testing.assert_array_equal(finite, [v < mpmath.inf for v in true])
            close(found[finite], np.array(true)[finite])
    w = rng.random(40)
    w[3] = 0
    t = t.copy()
    t[3] = 7  # of weight 0: not looked at
    total = fe.binary_focal_cross_entropy(t, x, kind=kind, sample_weight=w, reduction="sum")
    each = fe.binary_focal_cross_entropy(t, x, kind=kind, sample_weight=w)
    assert total == np.inf or total == math.fsum(each)


def test_bad_focal_arguments():
    row = [[0.5, 0.5]]
    for keywords, message in [
        ({"gamma": -1}, "gamma: expected a finite number of at least 0, got -1"),
        ({"sample_weight": [-1.0]}, "sample_weight: .* got -1.0 in row 0"),
        ({"class_weight": [1, 2, 3]}, "class_weight: expected shape"),
        ({"reduction": "total"}, "reduction: expected 'none', 'sum' or 'mean'"),
    ]:
        with pytest.raises(ValueError, match=message):
            fe.focal_cross_entropy([0], row, **keywords)
    with pytest.raises(ValueError, match="class_weight: applies to labels only"):
        fe.focal_cross_entropy(row, row, class_weight=[1, 2])
    with pytest.raises(ValueError, match=r"labels: .* got 2 in row 0"):
        fe.focal_cross_entropy([2], row)
    with pytest.raises(ValueError, match=r"alpha: expected a number in \[0, 1\], got 2"):
        fe.binary_focal_cross_entropy([1], [0.5], alpha=2)


# --- tables of counts ----------------------------------------------------------------------------


def mutual(table):
    n = exactly(table)
    total = mpmath.fsum(n.ravel())
    down, up = [[mpmath.fsum(v) for v in m] for m in (n, n.T)]
    return mpmath.fsum(
        n[i, j] / total * mpmath.log(n[i, j] * total / (down[i] * up[j]))
        for i, j in np.ndindex(n.shape)
        if n[i, j]
    )


def conditional(table):
    n = exactly(table)
    total = mpmath.fsum(n.ravel())
    return -mpmath.fsum(v / total * mpmath.log(v / mpmath.fsum(row)) for row in n for v in row if v)


def tables(rng):
    wild = rng.integers(0, 9, (4, 5)) * 10.0 ** rng.integers(-8, 9, (4, 5))
    margins = np.outer(rng.integers(1, 900, 4), rng.integers(1, 900, 5))
    share = rng.dirichlet(np.ones(4))[:, None] * rng.dirichlet(np.ones(5))
    sure = np.diag([5.0, 7, 1e-9, 1])[:, [0, 1, 2, 3, 3]] + 1e-13
    almost = margins.copy()
    almost[0, 0] += 1
    return np.array(
        [wild, margins, almost, share, share * (1 + 1e-9 * rng.normal(size=(4, 5))), sure,
         rng.integers(0, 50, (4, 5)) * 1e300, rng.integers(0, 50, (4, 5)) * 5e-324]
    )  # fmt: skip


def test_tables_of_counts():
    given = tables(np.random.default_rng(3))
    found = fe.mutual_information(given)
    assert (found >= 0).all()
    assert found[1] == 0
    for value, table in zip(found, given, strict=True):
        true = mutual(table)  # a product of rounded margins: what they say, and no more
        assert abs(mp(float(value)) - true) <= 1e-14 * abs(true) + mp("1e-30")
    close(fe.conditional_entropy(given), [conditional(t) for t in given])
    close(fe.conditional_entropy(given, axis=(2, 1)), [conditional(t.T) for t in given])
    moved = np.moveaxis(given, 0, 1)
    np.testing.assert_array_equal(fe.mutual_information(moved, axis=(0, -1)), found)
    close(fe.mutual_information(given, base=2), found / np.log(2), 1e-15)
    whole = given[1].astype(int)
    assert fe.mutual_information(whole) == 0
    # H(Y) = H(Y | X) + I(X; Y)
    both = fe.conditional_entropy(given) + found
    np.testing.assert_allclose(
        fe.entropy(given.sum(1), row_sums="rescale")[:6], both[:6], rtol=1e-14
    )


def test_many_tables_on_threads():
    given = np.random.default_rng(4).integers(0, 20, (3000, 5, 6)).astype(np.float32)
    given[7, 2, 2] = np.nan
    one = fe.mutual_information(given, num_threads=1)
    np.testing.assert_array_equal(fe.mutual_information(given, num_threads=2), one)
    rest = fe.conditional_entropy(given)
    assert np.flatnonzero(np.isnan(one)).tolist() == np.flatnonzero(np.isnan(rest)).tolist() == [7]
    out = np.empty(3000)
    assert fe.mutual_information(given, out=out) is out
    np.testing.assert_array_equal(out, one)
    assert fe.mutual_information(given[:0]).shape == (0,)


def test_population_stability():
    rng = np.random.default_rng(5)
    e = rng.integers(1, 1000, (6, 8))
    a = rng.integers(1, 1000, (6, 8))
    a[3:] = e[3:] * 7
    a[3:, 0] += [1, 10, 0]
    for smoothing in (0, 0.5):
        found = fe.population_stability_index(e, a, smoothing=smoothing)
        for value, x, y in zip(found, exactly(e), exactly(a), strict=True):
            x, y = x + mp(smoothing), y + mp(smoothing)
            x, y = x / mpmath.fsum(x), y / mpmath.fsum(y)
            true = mpmath.fsum((u - v) * mpmath.log(u / v) for u, v in zip(x, y, strict=True))
            close(value, true)
    assert fe.population_stability_index([1, 0], [1, 1]) == np.inf
    np.testing.assert_array_equal(
        fe.population_stability_index(e.T, a.T, axis=0, smoothing=0.5), found
    )


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            "mutual_information",
            ([[1, -1]],),
            r"table: expected finite counts .*, got -1.0 at \(0, 1\)",
        ),
        ("mutual_information", ([1, 2],), r"table: expected at least two axes, got shape \(2,\)"),
        (
            "mutual_information",
            ([[[0, 0]], [[1, 0]]],),
            "table: expected some counts, .* in table 0",
        ),
        ("conditional_entropy", (np.zeros((2, 2)),), "table: expected some counts, got none$"),
        ("population_stability_index", ([1, 2], [1, 2, 3]), r"actual: expected shape \(2,\)"),
        ("population_stability_index", ([1, -2], [1, 2]), "expected: .* got -2.0 at"),
        ("population_stability_index", ([0, 0], [1, 2]), "expected: expected some counts"),
        ("gaussian_entropy", ([1, -1],), r"spread: expected a variance .*, got -1.0 at \(1,\)"),
        ("population_stability_index", ([1], 1), "actual: expected at least one axis"),
        ("population_stability_index", (1, 2), "expected: expected at least one axis"),
        (
            "gaussian_kl_divergence",
            (np.zeros((2, 3)), np.ones(3), np.zeros((5, 3)), np.ones(3)),
            r"means, spreads: leading shapes .* do not broadcast",
        ),
        ("gaussian_kl_divergence", ([0], [1], [0, 0], [1]), "mean_q: expected 1 components, got 2"),
    ],
)
def test_bad_counts_and_spreads(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(fe, function)(*arguments)


def test_bad_options():
    with pytest.raises(ValueError, match="axis: expected two axes of 2"):
        fe.mutual_information([[1, 2]], axis=(0, 3))
    with pytest.raises(ValueError, match="smoothing: expected a finite number of at least 0"):
        fe.population_stability_index([1], [1], smoothing=-1)
    with pytest.raises(ValueError, match="kind: expected 'variance', 'std', 'cov"):
        fe.gaussian_entropy([1.0], kind="precision")
    with pytest.raises(ValueError, match="spread: expected a symmetric matrix"):
        fe.gaussian_entropy([[1.0, 0.5], [0, 1]], kind="covariance")
    with pytest.raises(
        ValueError, match="spread: expected positive definite matrices, matrix 1 is"
    ):
        fe.gaussian_entropy([np.eye(2), np.ones((2, 2)) - 2 * np.eye(2)], kind="covariance")


# --- Gaussians -----------------------------------------------------------------------------------


def gaussian_kl(mean_p, cov_p, mean_q, cov_q):
    """By definition, in exact matrices."""
    d = len(mean_p)
    p, q = mpmath.matrix(cov_p.tolist()), mpmath.matrix(cov_q.tolist())
    inverse = q**-1
    apart = mpmath.matrix([a - b for a, b in zip(mean_p, mean_q, strict=True)])
    trace = mpmath.fsum((inverse * p)[i, i] for i in range(d))
    logs = mpmath.log(mpmath.det(q) / mpmath.det(p))
    return (trace - d + logs + (apart.T * inverse * apart)[0]) / 2


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-7, 1e-13])
def test_gaussians(size):
    rng = np.random.default_rng(6)
    v = 10.0 ** rng.uniform(-3, 3, (4, 3))
    u = v * (1 + size * rng.uniform(-0.9, 2, (4, 3)))
    m, n = rng.normal(size=(2, 4, 3)) * size
    with mpmath.workdps(80):
        for kind, power in [("variance", 1), ("std", 2)]:
            found = fe.gaussian_kl_divergence(m, u, n, v, kind=kind)
            covs = [[np.diag(row**power) for row in exactly(s)] for s in (u, v)]
            true = [
                gaussian_kl(a, c, b, d)
                for a, c, b, d in zip(exactly(m), covs[0], exactly(n), covs[1], strict=True)
            ]
            close(found, true)
        f = np.tril(rng.normal(size=(4, 3, 3))) + 3 * np.eye(3)
        g = f + size * np.tril(rng.uniform(-1, 1, (4, 3, 3)))
        factors = [exactly(x) for x in (g, f)]
        true = [
            gaussian_kl(exactly(m)[i], factors[0][i] @ factors[0][i].T, exactly(n)[i],
                        factors[1][i] @ factors[1][i].T)
            for i in range(4)
        ]  # fmt: skip
        close(fe.gaussian_kl_divergence(m, g, n, f, kind="cholesky"), true, 1e-13)
        p, q = (x @ np.swapaxes(x, -1, -2) for x in (g, f))
        p, q = (x + np.swapaxes(x, -1, -2) for x in (p, q))
        true = [
            gaussian_kl(exactly(m)[i], exactly(p[i]), exactly(n)[i], exactly(q[i]))
            for i in range(4)
        ]
        close(fe.gaussian_kl_divergence(m, p, n, q, kind="covariance"), true, 1e-12)


def test_gaussian_entropy_and_edges():
    rng = np.random.default_rng(7)
    v = 10.0 ** rng.uniform(-3, 3, (5, 4))
    true = [
        mpmath.fsum(mpmath.log(2 * mpmath.pi * mpmath.e * x) for x in row) / 2 for row in exactly(v)
    ]
    for spread, kind in [(v, "variance"), (np.sqrt(v), "std")]:
        np.testing.assert_allclose(
            fe.gaussian_entropy(spread, kind=kind), np.array(true, float), rtol=1e-13
        )
    full = np.apply_along_axis(np.diag, 1, v)
    for spread, kind in [(full, "covariance"), (np.sqrt(full), "cholesky")]:
        np.testing.assert_allclose(
            fe.gaussian_entropy(spread, kind=kind), np.array(true, float), rtol=1e-13
        )
    assert fe.gaussian_entropy([0.0, 1.0]) == -np.inf
    kl = fe.gaussian_kl_divergence
    assert kl([0, 1], [0, 1], [0, 1], [0, 1]) == 0
    assert kl(0, 0, 0, 1) == kl(0, 1, 0, 0) == kl(0, 0, 1, 0) == np.inf
    assert kl(np.zeros((5, 1, 4)), v[0], np.zeros(4), v).shape == (5, 5)
    assert np.isnan(kl(0, np.nan, 0, 1))
    assert kl(0, 1, 0, 2, base=2) == kl(0, 1, 0, 2) / math.log(2)
