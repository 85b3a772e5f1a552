"""SciPy's entropy functions from fastent: SciPy's own tests, hard numbers, and its semantics."""

from concurrent.futures import ThreadPoolExecutor

import mpmath
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats
from peer_suite import run_peer_tests

from fastent._settings import simd_levels, use_simd
from fastent.compat import scipy as compat

MODULES = [
    "scipy.special.tests.test_logsumexp",
    "scipy.special.tests.test_basic",
    "scipy.special.tests.test_support_alternative_backends",
    "scipy.special.tests.test_cython_special",
    "scipy.stats.tests.test_entropy",
    "scipy.stats.tests.test_axis_nan_policy",
    "scipy.stats.tests.test_device_dtype",
    "scipy.stats.tests.test_marray",
    "scipy.spatial.tests.test_distance",
]
# the differential entropy of samples is another function
CHOSEN = "test_logsumexp.py or (entr or kl_div or jensenshannon) and not differential"


@pytest.mark.slow
def test_scipys_own_tests_pass(tmp_path):
    failed, passed, output = run_peer_tests("patched_scipy", MODULES, CHOSEN, tmp_path)
    assert not failed, output
    assert passed > 500


PAIRS = {
    "entr": ("-x*log(x)", scipy.special.entr, 1),
    "rel_entr": ("x*log(x/y)", scipy.special.rel_entr, 2),
    "kl_div": ("x*log(x/y)-x+y", scipy.special.kl_div, 2),
}


def exact(name, x, y):
    with mpmath.workdps(60):
        x, y = mpmath.mpf(float(x)), mpmath.mpf(float(y))
        if name == "entr":
            return -x * mpmath.log(x)
        term = x * mpmath.log(x / y)
        return term if name == "rel_entr" else term - x + y


def wide_numbers(rng, dtype, count):
    """Positive numbers of every exponent, subnormal ones too."""
    limits = np.finfo(dtype)
    exponents = rng.integers(limits.minexp - limits.nmant + 1, limits.maxexp + 1, count)
    return np.ldexp(rng.uniform(0.5, 1, count), exponents).astype(dtype)


@pytest.mark.parametrize("level", simd_levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_elements_are_right_whatever_their_size(name, dtype, level):
    rng = np.random.default_rng(1)
    limits = np.finfo(dtype)
    x = np.concatenate([rng.random(60).astype(dtype), *(wide_numbers(rng, dtype, 200),) * 2])
    near = 1 + rng.choice([-1, 1], 200) * 10.0 ** rng.uniform(-16, 0, 200) * 0.5
    y = [rng.random(60).astype(dtype), wide_numbers(rng, dtype, 200)]
    y = np.concatenate([*y, (x[260:] * near.astype(np.longdouble)).astype(dtype)])
    y[260] = np.nextafter(x[260], dtype(0))
    x[:3], y[2:5] = limits.smallest_subnormal, limits.max
    x[5], y[5], x[6], y[6] = limits.tiny, np.nextafter(limits.tiny, dtype(0)), *[limits.max] * 2
    with use_simd(level):
        found = getattr(compat, name)(*(x, y)[: PAIRS[name][2]])
    bound, floor = (1e-6, 1e-37) if dtype == np.float32 else (1e-14, 1e-290)
    for a, b, value in zip(x, y, found, strict=True):
        true = exact(name, a, b)
        if abs(true) > float(limits.max):
            assert value == (np.inf if true > 0 else -np.inf)
        else:
            assert abs(value - true) <= bound * max(abs(true), floor), (a, b)


@pytest.mark.parametrize("name", PAIRS)
def test_edges_are_as_in_scipy(name):
    numbers = np.array([-np.inf, -1.0, -0.0, 0.0, 5e-324, 1.0, 1e308, np.inf, np.nan])
    given = np.meshgrid(numbers, numbers)[: PAIRS[name][2]]
    found, wanted = getattr(compat, name)(*given), PAIRS[name][1](*given)
    finite = np.isfinite(wanted)
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=1e-14, atol=1e-320)
    if name == "kl_div":  # a limit, where SciPy's own is nan or inf by version
        return
    np.testing.assert_array_equal(found[~finite], wanted[~finite])


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("num_threads", [1, 3])
def test_out_broadcasting_and_dtypes(name, num_threads):
    rng = np.random.default_rng(2)
    x, y = rng.random((700, 600)), rng.random(600)
    given = (x, y)[: PAIRS[name][2]]
    function, peer = getattr(compat, name), PAIRS[name][1]
    wanted = peer(*given)
    found = function(*given, num_threads=num_threads)
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)
    out = np.empty((700, 1200))[:, ::2]
    assert function(*given, out=out, num_threads=num_threads) is out
    np.testing.assert_array_equal(out, found)
    same = x.copy()
    function(same, *given[1:], same, num_threads=num_threads)
    np.testing.assert_array_equal(same, found)
    for dtype in (np.float16, np.float32, np.int16, np.int64, bool):
        ones = [np.ones(3, dtype)] * len(given)
        assert function(*ones).dtype == peer(*ones).dtype
        assert function(*ones, dtype=np.float32).dtype == np.float32
    assert type(function(*[0.25] * len(given))) is np.float64
    for wrong in ({}, {"wide": True}):
        with pytest.raises(TypeError):
            function(*[1.0 if wrong else 1j] * len(given), **wrong)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_ufunc_keywords_strides_and_overlaps(num_threads):
    rng = np.random.default_rng(7)
    x, y = rng.random((2, 600, 900)).astype(np.float32)
    y[:, ::3] = x[:, ::3]
    options = {"num_threads": num_threads}
    wanted = compat.kl_div(x, y, num_threads=1)
    for given in [(x[::-1, ::2], y[::-1, ::2]), (x.T, y.T), (np.asfortranarray(x), y)]:
        found = compat.kl_div(*given, **options)
        alone = compat.kl_div(*(np.ascontiguousarray(v) for v in given), num_threads=1)
        np.testing.assert_array_equal(found, alone)
    mask = x > 0.5
    found = compat.kl_div(x, y, out=np.zeros_like(x), where=mask, **options)
    np.testing.assert_array_equal(found, np.where(mask, wanted, 0))
    doubles = compat.kl_div(x, y, dtype=np.float64, **options)
    assert doubles.dtype == np.float64
    np.testing.assert_allclose(doubles, wanted, rtol=1e-6, atol=1e-12)
    halves = compat.kl_div(x.astype(np.float16), y.astype(np.float16), **options)
    assert halves.dtype == np.float32
    np.testing.assert_array_equal(compat.kl_div(x, 0.5, **options), compat.kl_div(x, y * 0 + 0.5))
    shifted = x.copy().reshape(-1)  # the output overlaps the input, one number on
    compat.kl_div(shifted[:-1], y.reshape(-1)[:-1], out=shifted[1:], **options)
    np.testing.assert_array_equal(shifted[1:], wanted.reshape(-1)[:-1])
    with pytest.raises(TypeError, match="Cannot cast"):
        compat.kl_div(x, y, out=np.empty(x.shape, np.int64), **options)
    with pytest.raises(ValueError, match="broadcast"):
        compat.kl_div(x, y[:7], **options)


SHAPES = [((6, 5), (6, 5)), ((6, 5), (5,)), ((2, 6, 5), (6, 5)), ((6, 1), (6, 5))]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("axis", [0, -1, None])
@pytest.mark.parametrize("keepdims", [False, True])
def test_entropy_is_scipys(shapes, axis, keepdims):
    if axis is None and shapes[0] != shapes[1]:
        return
    rng = np.random.default_rng(3)
    p, q = (rng.random(s) for s in shapes)
    p.flat[0] = 0.0
    options = {"axis": axis, "keepdims": keepdims, "base": 2}
    for given in [(p,), (p, q), (p.astype(np.float32), q.astype(np.float32))]:
        found, wanted = compat.entropy(*given, **options), scipy.stats.entropy(*given, **options)
        assert np.shape(found) == np.shape(wanted)
        assert found.dtype == wanted.dtype
        single = found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=3e-6 if single else 1e-15)


def test_rows_without_a_normalised_form_are_scipys():
    rng = np.random.default_rng(4)
    p, q = rng.random((2, 7, 5))
    p[1], p[2, 0], p[3, 1], p[4, 2], q[5, 0] = 0, -0.1, np.nan, np.inf, -0.1
    with np.errstate(all="ignore"):
        for given in [(p,), (p, q)]:
            np.testing.assert_allclose(
                compat.entropy(*given, axis=1), scipy.stats.entropy(*given, axis=1), rtol=1e-13
            )
        np.testing.assert_allclose(
            compat.jensenshannon(p, q, axis=1),
            scipy.spatial.distance.jensenshannon(p, q, axis=1),
            rtol=1e-13,
        )
    assert compat.entropy(p, q, axis=1)[0] == compat.entropy(p[0], q[0])
    omitted = compat.entropy(p, axis=1, nan_policy="omit")
    np.testing.assert_allclose(omitted[3], compat.entropy(np.delete(p[3], 1)), rtol=1e-15)
    with pytest.raises(ValueError, match="contains nan"):
        compat.entropy(p, axis=1, nan_policy="raise")


def test_nearly_equal_rows_keep_their_digits():
    p = np.full(4, 0.25)
    q = p + np.array([1e-12, -1e-12, 0, 0])
    with mpmath.workdps(60):
        total = mpmath.fsum(map(mpmath.mpf, q.tolist()))
        true = mpmath.fsum(mpmath.log(total / (4 * mpmath.mpf(v))) / 4 for v in q.tolist())
    assert abs(compat.entropy(p, q) - true) <= 1e-14 * true
    assert compat.jensenshannon(p, q) == pytest.approx(float(mpmath.sqrt(true / 4)), rel=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (1, 0), None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_softmax_and_logsumexp_are_scipys(axis, dtype):
    x = (np.random.default_rng(5).standard_normal((3, 4, 5)) * 8).astype(dtype)
    rtol = 1e-6 if dtype == np.float32 else 1e-13
    for name in ("softmax", "log_softmax", "logsumexp"):
        found = getattr(compat, name)(x, axis=axis)
        assert found.dtype == getattr(scipy.special, name)(x, axis=axis).dtype
        wanted = getattr(scipy.special, name)(x.astype(np.float64), axis=axis)
        assert np.shape(found) == np.shape(wanted)
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-15)
    kept = compat.logsumexp(x, axis=axis, keepdims=True)
    assert kept.shape == scipy.special.logsumexp(x, axis=axis, keepdims=True).shape


def test_large_logits_keep_their_digits():
    x = np.array([1e3 + 1 / 3, 700.123456789, 400.1, 320.7])
    found, logs = compat.softmax(x), compat.log_softmax(x)
    with mpmath.workdps(400):
        powers = [mpmath.exp(mpmath.mpf(v)) for v in x.tolist()]
        total = mpmath.fsum(powers)
        for value, logarithm, power in zip(found, logs, powers, strict=True):
            assert abs(value - power / total) <= 1e-14 * power / total
            true = mpmath.log(power / total)
            assert abs(logarithm - true) <= 1e-14 * abs(true)


def test_rows_shared_among_threads():
    x = np.random.default_rng(8).standard_normal((2, 70_000)) * 5
    x[1, 3] = np.inf
    for name in ("softmax", "log_softmax", "logsumexp"):
        found, wanted = getattr(compat, name)(x[0]), getattr(scipy.special, name)(x[0])
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
        whole = getattr(compat, name)(x, axis=1)
        np.testing.assert_array_equal(whole[0], found)
    assert compat.softmax(x, axis=1)[1, 3] == 1
    assert compat.logsumexp(x, axis=1)[1] == np.inf


@pytest.mark.parametrize("axis", [0, 1, (0, 1), None])
def test_logsumexp_with_factors(axis):
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(4, 6)) * 300, rng.normal(size=(4, 6))
    b[0, 1], b[2], a[2] = 0, np.abs(b[2]), 2.0
    a[0, 1] = np.inf  # does not count
    for factors in (b, np.abs(b), b[0], 2):
        options = {"axis": axis, "b": factors, "return_sign": True}
        finite = np.where(np.isinf(a), 0, a)
        given = a if factors is b else finite
        for found, wanted in zip(
            compat.logsumexp(given, **options),
            scipy.special.logsumexp(finite, **options),
            strict=True,
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-13)
    found = compat.logsumexp([800.0, 0.0], b=[5e-324, 1e308])
    assert found == pytest.approx(np.log(1e308), rel=1e-15)
    assert np.isnan(compat.logsumexp([1.0, 2.0], b=[1, -1]))
    assert compat.logsumexp([1.0, 2.0], b=[0, 0], return_sign=True) == (-np.inf, 0)
    assert compat.logsumexp([1.0, np.inf], b=[1, -1], return_sign=True) == (np.inf, -1)
    assert np.isnan(compat.logsumexp([np.inf, np.inf], b=[1, -1]))


def test_infinite_logits_are_certain():
    assert compat.softmax(3.0) == 1
    x = np.array([np.inf, 0.0, np.inf])
    assert compat.softmax(x).tolist() == [0.5, 0.0, 0.5]
    assert compat.log_softmax(x).tolist() == [-np.log(2), -np.inf, -np.log(2)]
    assert compat.logsumexp(x) == np.inf
    assert compat.logsumexp([-np.inf, -np.inf]) == -np.inf
    assert np.isnan(compat.softmax([np.nan, np.inf])).all()


def test_many_callers_at_once_get_the_same_bits():
    x = np.random.default_rng(6).random((600, 1000))
    wanted = compat.kl_div(x, x[::-1])
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: compat.kl_div(x, x[::-1], num_threads=3), range(16)):
            np.testing.assert_array_equal(found, wanted)


def test_sums_of_16_bit_numbers_are_scipys():
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64, np.int8):
        p, q = (rng.random((2, 3, 4)) * 50).astype(dtype)
        for ours, theirs, args in (
            (compat.entropy, scipy.stats.entropy, (p,)),
            (compat.entropy, scipy.stats.entropy, (p, q)),
            (compat.jensenshannon, scipy.spatial.distance.jensenshannon, (p, q)),
        ):
            found, wanted = ours(*args, axis=1), theirs(*args, axis=1)
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("dtype", ["u1", "i1", "f2", "f4", "i8"])
def test_factors_of_any_dtype(dtype):
    a = np.array([1.0, 2.0, 3.0])
    b = np.array([100, 55, 127]).astype(dtype)
    right = np.log(np.sum(b.astype(float) * np.exp(a)))
    found = compat.logsumexp(a, b=b)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, right, rtol=1e-15)
    found, sign = compat.logsumexp(a, b=np.array([-128, 1, 1], "i1"), return_sign=True)
    total = -128 * np.e + np.e**2 + np.e**3
    np.testing.assert_allclose((found, sign), (np.log(-total), -1), rtol=1e-14)
