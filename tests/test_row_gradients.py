"""Derivatives of KL, JS, entropy and focal losses in logits: those of mpmath, on hard rows too."""

import numpy as np
import pytest
from mpmath import mp, mpf

import fastent as fe

RNG = np.random.default_rng(4)


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(60):
        yield


def shares(x, heat):
    x = [mpf(float(v)) / mpf(heat) for v in x]
    top = max(x)
    e = [mp.exp(v - top) for v in x]
    return [v / mp.fsum(e) for v in e]


def kl(p, q):
    return mp.fsum(a * mp.log(a / b) for a, b in zip(p, q, strict=True) if a)


def js(p, q):
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl(p, m) + kl(q, m)) / 2


def entropy(p):
    return -mp.fsum(a * mp.log(a) for a in p if a)


def numerical(loss, x, heat):
    """Central differences of a loss of softmax(x / heat), in 60 digits."""
    h, found = mpf(10) ** -20, []
    exact = [mpf(float(v)) for v in x]

    def at(c, by):
        moved = [v + (by if k == c else 0) for k, v in enumerate(exact)]
        top = max(moved)
        e = [mp.exp((v - top) / mpf(heat)) for v in moved]
        return loss([v / mp.fsum(e) for v in e])

    for c in range(len(exact)):
        found.append((at(c, h) - at(c, -h)) / (2 * h))
    return found


def rows(dtype):
    x = RNG.normal(size=(6, 7)) * 3
    y = RNG.normal(size=(6, 7)) * 2
    x[1] = [40, 0, -3, 1, 2, 0, 5]  # confident
    y[2] = x[2] + 1e-6 * RNG.normal(size=7)  # nearly equal
    x[3] += 1e4  # far from 0
    y[4] = [300, 0, -200, 1, 290, 0, 5]
    return x.astype(dtype), y.astype(dtype)


def close(found, want, scale, dtype):
    """1e-14 of a component (float32: 1e-6), and what is lost where it is a small difference."""
    relative, lost = (1e-14, 1e-18) if dtype == "float64" else (1e-6, 1e-14)
    for f, w, s in zip(found, want, scale, strict=True):
        assert abs(mpf(float(f)) - w) <= relative * abs(w) + lost * s + mpf(10) ** -40, (f, w)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("heats", [(1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("wrt", ["p", "q"])
@pytest.mark.parametrize("name", ["kl", "js"])
def test_pairs(name, wrt, heats, dtype):
    x, y = rows(dtype)
    function = fe.kl_divergence_gradient if name == "kl" else fe.js_divergence_gradient
    loss = kl if name == "kl" else js
    found = function(x, y, wrt=wrt, temperature=heats)
    assert found.dtype == dtype and found.shape == x.shape
    for a, b, got in zip(x, y, found, strict=True):
        p, q = shares(a, heats[0]), shares(b, heats[1])
        if wrt == "q":
            want = numerical(lambda s, p=p: loss(p, s), b, heats[1])
        else:
            want = numerical(lambda s, q=q: loss(s, q), a, heats[0])
        logs = 1 + max(abs(mp.log(v)) for v in (*p, *q))
        scale = [max(u, v) * logs / min(heats) for u, v in zip(p, q, strict=True)]
        close(got, want, scale, dtype)


def test_other_kinds_of_the_other_operand():
    x, y = rows("float64")
    x, y = x[:3], y[:3]
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    for function in (fe.kl_divergence_gradient, fe.js_divergence_gradient):
        want = function(x, y)
        np.testing.assert_allclose(function(p, y, kind=("probs", "logits")), want, atol=1e-13)
        found = function(np.log(p), y, kind=("logprobs", "logits"))
        np.testing.assert_allclose(found, want, atol=1e-13)
        found = function(y, p, kind=("logits", "probs"), wrt="p")
        np.testing.assert_allclose(found, function(y, x, wrt="p"), atol=1e-11)
        with pytest.raises(ValueError, match="kind: expected 'logits' for q"):
            function(y, p, kind=("logits", "probs"))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("heat", [1.0, 3.0])
def test_entropy(heat, dtype):
    for x in rows(dtype):
        found = fe.entropy_gradient(x, temperature=heat)
        for row, got in zip(x, found, strict=True):
            p = shares(row, heat)
            want = numerical(entropy, row, heat)
            logs = 1 + max(abs(mp.log(v)) for v in p)
            close(got, want, [v * logs / heat for v in p], dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal(gamma, dtype):
    x, _ = rows(dtype)
    labels = np.array([0, 0, 3, 6, 2, 5])
    soft = RNG.dirichlet(np.ones(7), 6)
    for heat in (1.0, 2.0):
        hard_found = fe.focal_cross_entropy_gradient(labels, x, gamma=gamma, temperature=heat)
        soft_found = fe.focal_cross_entropy_gradient(soft, x, gamma=gamma, temperature=heat)
        for k, row in enumerate(x):
            targets = [[mpf(int(c == labels[k])) for c in range(7)], [mpf(t) for t in soft[k]]]
            for t, got in zip(targets, (hard_found[k], soft_found[k]), strict=True):
                total = mp.fsum(t)

                def loss(q, t=t, total=total):
                    return -mp.fsum(
                        u / total * (mp.fsum(q[:c]) + mp.fsum(q[c + 1 :])) ** mpf(gamma) * mp.log(v)
                        for c, (u, v) in enumerate(zip(t, q, strict=True)) if u
                    )  # fmt: skip

                want = numerical(loss, row, heat)
                logs = 1 + max(abs(mp.log(v)) for v in shares(row, heat))
                soft_scale = mpf(0) if 1 in t else max(map(abs, want)) * logs
                close(got, want, [soft_scale + abs(w) for w in want], dtype)


def test_weights_reductions_axes_and_outputs():
    x, y = rows("float64")
    w = RNG.random(6)
    labels = RNG.integers(0, 7, 6)
    rates = RNG.random(7)
    calls = {
        "kl": (lambda **more: fe.kl_divergence_gradient(x, y, **more), w),
        "js": (lambda **more: fe.js_divergence_gradient(x, y, wrt="p", **more), w),
        "entropy": (lambda **more: fe.entropy_gradient(x, **more), w),
        "focal": (lambda **more: fe.focal_cross_entropy_gradient(labels, x, **more), w),
    }
    for call, weight in calls.values():
        plain = call()
        np.testing.assert_allclose(call(sample_weight=weight), plain * weight[:, None], rtol=1e-12)
        np.testing.assert_allclose(call(reduction="mean"), plain / 6, rtol=1e-12)
        found = call(reduction="mean", sample_weight=weight)
        np.testing.assert_allclose(found, plain * weight[:, None] / weight.sum(), rtol=1e-12)
        assert np.isnan(call(reduction="mean", sample_weight=np.zeros(6))).all()
        assert call(out=np.empty_like(x)).tobytes() == plain.tobytes()
        assert call(num_threads=3).tobytes() == plain.tobytes()
    found = fe.focal_cross_entropy_gradient(labels, x, class_weight=rates, ignore_index=labels[0])
    want = fe.focal_cross_entropy_gradient(labels, x) * rates[labels][:, None]
    want[labels == labels[0]] = 0
    np.testing.assert_allclose(found, want, rtol=1e-12)
    a, b = np.asfortranarray(x.T), np.ascontiguousarray(y.T)
    for function in (fe.kl_divergence_gradient, fe.js_divergence_gradient):
        np.testing.assert_array_equal(function(a, b, axis=0), function(x, y).T)
    np.testing.assert_array_equal(fe.entropy_gradient(a, axis=0), fe.entropy_gradient(x).T)
    with pytest.raises(ValueError, match=r"axis: .* logits"):
        fe.entropy_gradient(x, axis=5)
    whole = fe.entropy_gradient(x, axis=None)
    np.testing.assert_array_equal(whole, fe.entropy_gradient(x.reshape(-1)).reshape(x.shape))
    here = x.copy()
    assert fe.kl_divergence_gradient(x, here, out=here) is here
    np.testing.assert_array_equal(here, fe.kl_divergence_gradient(x, x))


def test_broadcast_operands_get_the_sum():
    x, y = rows("float64")
    one = y[0]
    want = fe.kl_divergence_gradient(x, np.broadcast_to(one, x.shape).copy())
    np.testing.assert_allclose(fe.kl_divergence_gradient(x, one), want.sum(0), rtol=1e-12)
    found = fe.kl_divergence_gradient(x, one, wrt="p")
    full = np.broadcast_to(one, x.shape).copy()
    np.testing.assert_array_equal(found, fe.kl_divergence_gradient(x, full, wrt="p"))
    grid = fe.js_divergence_gradient(x[:, None], y[None], wrt="p")
    want = [fe.js_divergence_gradient(np.tile(r, (6, 1)), y, wrt="p").sum(0) for r in x]
    np.testing.assert_allclose(grid[:, 0], want, rtol=1e-9, atol=1e-15)
    found = fe.focal_cross_entropy_gradient([0, 1, 2], one[None])[0]
    want = sum(fe.focal_cross_entropy_gradient(k, one) for k in range(3))
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_what_is_refused():
    x, y = rows("float64")
    for call, needle in (
        (lambda: fe.kl_divergence_gradient(x, y, wrt="r"), "wrt"),
        (lambda: fe.kl_divergence_gradient(x, y, kind="probs"), "no negative"),
        (lambda: fe.kl_divergence_gradient(x, y, temperature=0), "temperature"),
        (lambda: fe.kl_divergence_gradient(x, y, temperature=(1, 2, 3)), "temperature"),
        (lambda: fe.kl_divergence_gradient(x, y, reduction="none"), "reduction"),
        (lambda: fe.kl_divergence_gradient(x, y[:, :3]), "(6, 3)"),
        (lambda: fe.entropy_gradient(x, sample_weight=np.ones((6, 7))), "sample_weight"),
        (lambda: fe.entropy_gradient(x, out=np.empty((7, 6))), "out"),
        (lambda: fe.focal_cross_entropy_gradient([0], x[:2], gamma=-1), "gamma"),
        (lambda: fe.focal_cross_entropy_gradient([0, 1, 2], x), "target_or_labels"),
        (lambda: fe.focal_cross_entropy_gradient([9] * 6, x), "row 0"),
        (lambda: fe.focal_cross_entropy_gradient(x, x), "target"),
    ):
        with pytest.raises(ValueError) as refused:
            call()
        assert needle in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_a_temperature(smoothing, dtype):
    x, _ = rows(dtype)
    labels, rates = np.array([0, 0, 3, 6, 2, 5]), RNG.random(7)
    soft = RNG.dirichlet(np.ones(7), 6)
    options = {"class_weight": rates, "label_smoothing": smoothing, "temperature": 2.0}
    for given in (labels, soft):
        found = fe.cross_entropy_gradient(given, x, **options)
        for k, row in enumerate(x):
            t = [mpf(int(c == labels[k])) for c in range(7)] if given is labels else soft[k]
            t = [mpf(v) / mp.fsum(mpf(w) for w in t) for v in t]
            e = mpf(smoothing)
            u = [mpf(w) * (v * (1 - e) + e / 7) for v, w in zip(t, rates, strict=True)]

            def loss(q, u=u):
                return -mp.fsum(v * mp.log(w) for v, w in zip(u, q, strict=True) if v)

            want = numerical(loss, row, 2.0)
            close(found[k], want, [v + w for v, w in zip(u, shares(row, 2), strict=True)], dtype)


def test_cross_entropy_by_axes_means_and_broadcasting():
    x, _ = rows("float64")
    labels, soft, w = RNG.integers(0, 7, 6), RNG.dirichlet(np.ones(7), 6), RNG.random(6)
    rates = RNG.random(7)
    for given in (labels, soft):
        for more in ({}, {"sample_weight": w}, {"sample_weight": RNG.random((6, 7))}):
            options = {"class_weight": rates, "label_smoothing": 0.1}
            plain, curved = fe.cross_entropy_gradient(given, x, hessian="diag", **options, **more)
            moved = {k: v.T if v.ndim > 1 else v for k, v in more.items()}
            turned = given.T if given is soft else given
            found = fe.cross_entropy_gradient(
                turned, x.T, hessian="diag", axis=0, **options, **moved
            )
            np.testing.assert_array_equal(found[0], plain.T)
            np.testing.assert_array_equal(found[1], curved.T)
            out = np.empty_like(x)
            found = fe.cross_entropy_gradient(
                given, x, reduction="mean", out=out, **options, **more
            )
            assert found is out
            task = fe.categorical_cross_entropy if given is soft else fe.sparse_cross_entropy
            loss = [
                task(given, x, kind="logits", reduction=r, **options, **more)
                for r in ("sum", "mean")
            ]
            np.testing.assert_allclose(found, plain * (loss[1] / loss[0]), rtol=1e-12)
    with pytest.raises(ValueError, match="hessian"):
        fe.cross_entropy_gradient(labels, x, temperature=2.0, hessian="diag")
    found = fe.cross_entropy_gradient(soft, x[0][None])
    np.testing.assert_allclose(
        found[0], fe.cross_entropy_gradient(soft, np.tile(x[0], (6, 1))).sum(0)
    )
    found = fe.cross_entropy_gradient(2, x.reshape(-1), axis=None)
    np.testing.assert_array_equal(fe.cross_entropy_gradient(2, x, axis=None).reshape(-1), found)
    assert np.isnan(
        fe.cross_entropy_gradient([1], [[0.0, 1.0]], ignore_index=1, reduction="mean")
    ).all()


def test_terms_of_each_row_are_its_own():
    """Weights of terms, with a temperature: all rows at once, and each alone."""
    x, _ = rows("float64")
    labels, soft, terms = RNG.integers(0, 7, 6), RNG.dirichlet(np.ones(7), 6), RNG.random((6, 7))
    for given in (labels, soft):
        found = fe.cross_entropy_gradient(given, x, temperature=2.0, sample_weight=terms)
        for k in range(6):
            row = slice(k, k + 1)
            alone = fe.cross_entropy_gradient(
                given[row], x[row], temperature=2.0, sample_weight=terms[row]
            )
            np.testing.assert_array_equal(found[row], alone)
