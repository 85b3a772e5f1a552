"""Lists of largest classes: bounds hold for every tail, and some tail attains them."""

import itertools
import math

import ml_dtypes
import numpy as np
import pandas
import pytest
from mpmath import mp, mpf

import fastent as fe
from fastent._settings import simd_levels, use_simd
from fastent._topk import COLUMNS


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(40):
        yield


def simplex_vertices(tail, cap, count):
    """All tails of `count` classes with `cap` on as many as possible."""
    whole = int(tail / cap) if cap else 0
    whole = min(whole, count)
    left = tail - whole * cap
    for full in itertools.combinations(range(count), whole):
        free = [j for j in range(count) if j not in full]
        for one in free or [None]:
            x = [cap if j in full else mpf(0) for j in range(count)]
            if one is not None:
                x[one] = left
            yield x


def term(x, q):
    if x == 0:
        return mpf(0)
    return mpf("inf") if q == 0 else x * mp.log(x / q)


def exact(ids, logprobs, logits, cap="smallest"):
    """The values of a row from all vertices, and the least divergence by bisection of λ."""
    with mp.workdps(60):
        weights = [mp.exp(mpf(float(z))) for z in logits]
        total = sum(weights)
        q = [w / total for w in weights]
        p = {int(i): mp.exp(mpf(float(a))) for i, a in zip(ids, logprobs, strict=True)}
        tail = 1 - sum(p.values())
        others = [j for j in range(len(q)) if j not in p]
        c = tail if cap is None else min(p.values())
        head = sum(term(x, q[i]) for i, x in p.items())
        ce = -sum(x * mp.log(q[i]) for i, x in p.items())
        h = -sum(x * mp.log(x) for x in p.values())
        vertices = list(simplex_vertices(tail, c, len(others)))
        sums = [sum(term(x, q[j]) for x, j in zip(v, others, strict=True)) for v in vertices]
        ces = [-sum(x * mp.log(q[j]) for x, j in zip(v, others, strict=True)) for v in vertices]
        low, high = mpf(-(10**28)), mpf(10) ** 28  # of ln λ
        for _ in range(300):
            middle = (low + high) / 2
            if sum(min(c, mp.exp(middle) * q[j]) for j in others) < tail:
                low = middle
            else:
                high = middle
        least = sum(term(min(c, mp.exp(high) * q[j]), q[j]) for j in others)
        outside = sum(q[j] for j in others)
        entropies = [-sum(x * mp.log(x) for x in v if x) for v in vertices]
        largest = sorted(range(len(q)), key=lambda j: (-logits[j], j))[: len(p)]
        return dict(
            head=head, tail_p=tail, tail_q=outside, bucket=head + term(tail, outside),
            low=head + least, high=head + max(sums), ce_low=ce + min(ces), ce_high=ce + max(ces),
            entropy_low=h + min(entropies), entropy_high=h + tail * mp.log(len(others) / tail),
            overlap=mpf(len(set(largest) & set(p))) / len(p),
        )  # fmt: skip


def teacher(rng, classes, k, spread=1.5):
    z = rng.normal(size=classes) * spread
    a = z - np.logaddexp.reduce(z)
    ids = np.argsort(-a)[:k]
    return ids, a[ids], a


def close(found, wanted, single):
    for name in COLUMNS:
        value, truth = float(getattr(found, name)), float(wanted[name])
        bound = 1e-6 if single else 1e-13
        # Σ p ln(p/q) is a difference of what is certain
        slack = bound * (abs(truth) + (float(wanted["tail_q"]) if name == "head" else 0))
        if not single and name in ("bucket", "low", "high", "tail_p"):
            slack += 1e-15
        assert value == truth or abs(value - truth) <= slack, (name, value, truth)


@pytest.mark.parametrize("backend", ["cython", "numpy"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_ends_are_those_of_all_vertices(backend, dtype):
    rng = np.random.default_rng(7)
    for classes, k in [(5, 2), (6, 3), (7, 2), (8, 5), (9, 1)]:
        for cap in ("smallest", None):
            ids, logprobs, _ = teacher(rng, classes, k)
            logits = (rng.normal(size=classes) * 2).astype(dtype)
            order = rng.permutation(k)
            found = fe.topk_divergence(
                ids[order], logprobs[order], logits, cap=cap, backend=backend
            )
            wanted = exact(ids, logprobs, logits.astype(float), cap)
            close(found, wanted, dtype != np.float64)


@pytest.mark.parametrize("backend", ["cython", "numpy"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("spread", [50, 400, 3000, 1e5, 1e25])
def test_wide_rows(backend, dtype, spread):
    """Tails whose probabilities are no floats, their logarithms are."""
    rng = np.random.default_rng(11)
    for classes, k in [(5, 2), (7, 3), (8, 1), (8, 5)]:
        for tail in (0.3, 1e-4, 1e-9):
            logits = (rng.normal(size=classes) * spread).astype(dtype)
            if k == 3:
                logits[rng.integers(0, classes, 3)] = logits[0]
            least = tail / rng.uniform(0.6, 1) / (classes - k)
            others = rng.dirichlet(np.full(k - 1, 9.0)) if k > 1 else np.ones(0)
            p = np.append(others * (1 - tail - k * least) + least, least)
            if k == 1:
                p[0] = 1 - tail
            ids, logprobs = rng.permutation(classes)[:k], np.log(p)
            found = fe.topk_divergence(ids, logprobs, logits, backend=backend)
            if dtype == np.float64:
                with use_simd("v2"):
                    again = fe.topk_divergence(ids, logprobs, logits, backend=backend)
                np.testing.assert_allclose(again, found, rtol=1e-13)
            wanted = exact(ids, logprobs, logits.astype(float))
            close(found, wanted, dtype != np.float64)


@pytest.mark.parametrize("backend", ["cython", "numpy"])
@pytest.mark.parametrize("noise", [1.0, 0.1, 1e-3, 1e-5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_whole_divergence_is_inside(backend, noise, dtype):
    rng = np.random.default_rng(3)
    rows = 3 if backend == "numpy" else 40
    for classes, k in [(40, 7), (3000, 50)]:
        p = rng.normal(size=(rows, classes)) * 3
        q = (p + noise * rng.normal(size=p.shape)).astype(dtype)
        a = p - np.logaddexp.reduce(p, axis=1)[:, None]
        ids = np.argsort(-a, axis=1)[:, :k]
        found = fe.topk_divergence(ids, np.take_along_axis(a, ids, 1), q, backend=backend)
        whole = fe.kl_divergence(a, q.astype(float), kind="logits")
        ce = fe.categorical_cross_entropy(np.exp(a), q.astype(float), kind="logits")
        entropy = fe.entropy(a, kind="logits")
        room = 1e-6 if dtype == np.float32 else 1e-12
        assert (found.bucket >= 0).all() and (found.bucket <= found.low).all()
        assert (found.low <= whole * (1 + room) + 1e-18).all()
        assert (whole <= found.high * (1 + room)).all()
        assert (found.ce_low <= ce * (1 + room)).all() and (ce <= found.ce_high * (1 + room)).all()
        assert (found.entropy_low <= entropy * (1 + 1e-12)).all()
        assert (entropy <= found.entropy_high * (1 + 1e-12)).all()


def test_both_implementations_agree_at_every_level():
    rng = np.random.default_rng(5)
    for classes, k, dtype in [(300, 20, np.float64), (9000, 64, np.float32), (20000, 0, float)]:
        ids, logprobs, p = teacher(rng, classes, k, 3.0)
        q = (p + rng.normal(size=classes)).astype(dtype)
        wanted = fe.topk_divergence(ids, logprobs, q, backend="numpy")
        for level in simd_levels():
            with use_simd(level):
                found = fe.topk_divergence(ids, logprobs, q)
            room = 1e-6 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(found, wanted, rtol=room, atol=1e-15)


def hard_rows(rng, classes):
    """Logits that mislead whoever looks for the ends of a row."""
    plain = rng.normal(size=classes) * 3
    yield plain
    yield np.round(plain)
    yield np.where(rng.random(classes) < 0.6, -np.inf, plain)
    yield np.where(rng.random(classes) < 0.3, rng.choice([0.0, -0.0], classes), np.round(plain))
    yield np.zeros(classes)
    for share in (0.01, 1.0):  # large where a sample is taken, or small, and only there
        sampled = plain.copy()
        for start in range(0, classes, max(1, classes // 256)):
            if rng.random() < share:
                sampled[start : start + 8] += 30 if share < 1 else -30
        yield sampled
    peaked = plain.copy()
    peaked[classes // 2] += 60
    yield peaked


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", simd_levels())
def test_ends_are_found_in_rows_of_any_length_and_kind(dtype, level):
    rng = np.random.default_rng(8)
    for classes, k in [(127, 3), (129, 0), (2047, 20), (2049, 1), (9000, 300), (20011, 100)]:
        for row in hard_rows(rng, classes):
            a = 3 * rng.normal(size=classes)
            a -= np.logaddexp.reduce(a)
            ids = rng.permutation(np.argsort(-a)[:k])
            wanted = fe.topk_divergence(ids, a[ids], row.astype(dtype), backend="numpy")
            with use_simd(level):
                found = fe.topk_divergence(ids, a[ids], row.astype(dtype))
            room = 1e-6 if dtype == np.float32 else 2e-11
            np.testing.assert_allclose(found, wanted, rtol=room, atol=1e-14)


def test_float_rows_keep_their_digits_where_the_least_tail_is_near():
    rng = np.random.default_rng(5)
    for _ in range(400):
        classes = int(rng.choice([7, 100, 129, 500]))
        k = int(rng.choice([1, 2, 5]))
        p = rng.normal(size=classes) * rng.choice([0.01, 1.0, 3.0])
        noise = rng.choice([0.0, 1e-3, 1e-2, 0.1])
        q = (p + noise * rng.normal(size=classes)).astype(np.float32)
        a = p - np.logaddexp.reduce(p)
        ids = np.argsort(-a)[:k]
        found = fe.topk_divergence(ids, a[ids], q)
        wanted = fe.topk_divergence(ids, a[ids], q.astype(float))
        for name in ("bucket", "low", "high", "ce_low", "ce_high", "tail_q"):
            value, truth = getattr(found, name), getattr(wanted, name)
            assert abs(value - truth) <= 1e-6 * truth + 1e-30, (name, classes, k, noise)


def test_ties_and_infinities():
    log = np.log
    ids, a = [0, 1], log([0.5, 0.25])
    # no room for the tail where it must go
    found = fe.topk_divergence(ids, a, [0.0, 0.0, -np.inf, -np.inf])
    assert found.low == found.high == found.bucket == np.inf and found.tail_q == 0
    found = fe.topk_divergence(ids, a, [0.0, 0.0, 0.0, -np.inf])
    assert found.low < np.inf and found.high == np.inf
    # certainty, shared
    found = fe.topk_divergence([0, 1], log([0.5, 0.5]), [np.inf, np.inf, 3.0])
    assert found.high == 0 and found.tail_p == 0 == found.tail_q
    # of equal numbers those before come first
    assert fe.topk_divergence([3], [-0.5], np.zeros(5)).overlap == 0
    assert fe.topk_divergence([0], [-0.5], np.zeros(5)).overlap == 1
    assert fe.topk_divergence([1, 3], log([0.4, 0.4]), np.zeros(5)).overlap == 0.5
    # a listed probability of 0 says that all others are 0
    found = fe.topk_divergence([0, 1], [0.0, -np.inf], [1.0, 1.0, -np.inf])
    assert found.tail_p == 0 and math.isclose(found.low, math.log(2)) and found.low == found.high
    for backend in ("cython", "numpy"):
        rows = fe.topk_divergence(
            [[0], [0], [0], [-1]], [[-1.0], [np.nan], [-1.0], [np.nan]],
            [[0.0, 1.0], [0.0, 1.0], [np.nan, 0.0], [1.0, 2.0]], backend=backend, cap=None,
        )  # fmt: skip
        for line in rows:
            assert np.isnan(line).tolist() == [False, True, True, False]


def test_tails_that_fill_their_cap_but_for_rounding():
    for backend in ("cython", "numpy"):
        # q is all but certain of one class, and nothing is listed
        found = fe.topk_divergence([], [], [200.0, 0.0], cap=None, backend=backend)
        assert 0 <= found.low < 1e-15
        # all of the tail is equal, and fills its cap up to what rounding loses
        for classes in (7, 30, 31):
            p = np.full(classes, (1 - 0.25) / (classes - 1))
            p[2] = 0.25
            ids = np.argsort(-p, kind="stable")[:4]
            found = fe.topk_divergence(ids, np.log(p[ids]), np.log(p), backend=backend)
            assert found.low <= found.high < 1e-14


def test_shapes_kinds_and_layouts():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(6, 30))
    a = p - np.logaddexp.reduce(p, axis=1)[:, None]
    q = rng.normal(size=(6, 30))
    ids = np.argsort(-a, axis=1)[:, :4]
    logprobs = np.take_along_axis(a, ids, 1)
    wanted = np.array(fe.topk_divergence(ids, logprobs, q))
    log_q = q - np.logaddexp.reduce(q, axis=1)[:, None]
    same = np.testing.assert_allclose
    same(fe.topk_divergence(ids, logprobs, log_q, kind="logprobs"), wanted, rtol=1e-10)
    same(fe.topk_divergence(ids, logprobs, np.exp(log_q), kind="probs"), wanted, rtol=1e-10)
    counts = 7 * np.exp(log_q)
    found = fe.topk_divergence(ids, logprobs, counts, kind="probs", row_sums="rescale")
    same(found, wanted, rtol=1e-10)
    bits = fe.topk_divergence(ids, logprobs, q, base=2)
    same(bits.low * math.log(2), wanted[4])
    same(bits.tail_p, wanted[1])
    padded = np.concatenate([np.full((6, 2), -1), ids], axis=1)
    numbers = np.concatenate([np.full((6, 2), np.nan), logprobs], axis=1)
    assert (np.array(fe.topk_divergence(padded, numbers, q)) == wanted).all()
    across = fe.topk_divergence(ids, logprobs, np.asfortranarray(q.T), axis=0)
    assert (np.array(across) == wanted).all()
    folded = fe.topk_divergence(
        ids.reshape(2, 3, 4), logprobs.reshape(2, 3, 4), q.reshape(2, 3, 30)
    )
    assert folded.low.shape == (2, 3) and (folded.low.ravel() == wanted[4]).all()
    one = fe.topk_divergence(ids[0], logprobs[0], q)
    assert one.low.shape == (6,) and one.low[0] == wanted[4, 0]
    lists = fe.topk_divergence([[1], [0, 2]], [[-0.7], [-1.0, -1.0]], np.zeros((2, 3)))
    assert lists.tail_p.shape == (2,)
    columns = (pandas.Series([list(row) for row in lists]) for lists in (ids, logprobs))
    assert (np.array(fe.topk_divergence(*columns, q)) == wanted).all()
    hot = fe.topk_divergence(ids, logprobs, q, temperature=2.0)
    same(hot, fe.topk_divergence(ids, logprobs, q / 2), rtol=1e-12)
    assert fe.topk_divergence(
        np.zeros((0, 2), int), np.zeros((0, 2)), np.zeros((0, 5))
    ).low.shape == (0,)


def test_ranks_beyond_the_largest_do_not_lower_the_cap():
    logits = np.linspace(0, 1, 12)
    ids, a = [3, 5, 9], np.log([0.4, 0.3, 0.01])
    wanted = fe.topk_divergence(ids, a, logits, cap=0.3)
    for ranks in ([1, 2, 7], 2):
        assert fe.topk_divergence(ids, a, logits, ranks=ranks) == wanted
    with pytest.raises(ValueError, match=r"logprobs: .*is left for the others in row 0"):
        fe.topk_divergence(ids, a, logits)


@pytest.mark.parametrize(
    ("ids", "logprobs", "more", "message"),
    [
        ([[0], [9]], [[-1.0], [-1.0]], {}, r"ids: expected classes in \[0, 5\), got 9 in row 1"),
        ([[1, 1]] * 2, [[-1.0, -2.0]] * 2, {}, r"ids: .* got 1 twice in row 0"),
        ([[0, -2]] * 2, [[-1.0, -2.0]] * 2, {}, r"ids: .*-1 for padding, got -2 in row 0"),
        ([[0, 1]] * 2, [[0.0, -1.0]] * 2, {}, r"logprobs: .* at most 1, got 1.36.* in row 0"),
        ([[0, 1]] * 2, [[3.0, -1.0]] * 2, {}, r"logprobs: .* at most 1"),
        ([[0, 1]] * 2, [[-3.0, -4.0]] * 2, {}, r"logprobs: .* the largest of 5 classes"),
        ([[0]] * 2, [[-0.5]] * 2, {"kind": "logprobs", "temperature": 2.0}, "temperature: applies"),
        ([[0]] * 2, [[-0.5]] * 2, {"kind": "logprobs"}, r"pred: expected exponentials that sum"),
        ([[0]] * 2, [[-0.5]] * 2, {"cap": 1.5}, "cap: expected a probability, got 1.5"),
        ([[0]] * 2, [[-0.5]] * 2, {"cap": "big"}, "cap: expected"),
        ([[0]] * 2, [[-0.5, -3.0]] * 2, {}, r"logprobs: expected the shape of ids, \(2, 1\)"),
        ([[0.5]] * 2, [[-0.5]] * 2, {}, "ids: expected whole numbers in row 0"),
        ([[0]] * 3, [[-0.5]] * 3, {}, r"ids: expected the leading shape of pred, \(2,\)"),
        ([[0]] * 2, [[-0.5]] * 2, {"row_sums": "as_is"}, "row_sums: expected 'check' or 'rescale'"),
        ([[0]] * 2, [[-0.5]] * 2, {"backend": "numba"}, "backend: expected 'cython' or 'numpy'"),
        ([[0]] * 2, [[-0.5]] * 2, {"classes": 7}, "classes: expected 5 as pred has, got 7"),
    ],
)
def test_refused(ids, logprobs, more, message):
    for backend in {"backend": "cython"}, {"backend": "numpy"}:
        with pytest.raises(ValueError, match=message) as told:
            fe.topk_divergence(ids, logprobs, np.zeros((2, 5)), **(backend | more))
        assert "\n" not in str(told.value)


def test_the_first_bad_row_is_named_whatever_is_bad():
    """A negative probability, a sum of another row, a list of a third."""
    pred = np.full((9, 4), 0.25)
    pred[7, 2], pred[4, 0] = -1.0, 3.0
    ids, logprobs = np.zeros((9, 1), int), np.full((9, 1), np.log(0.25))
    for row, told in (
        (9, "sum to 1 .* row 4"),
        (3, "at most 1, .* row 3"),
        (5, "row 4"),
        (4, "1, .*4"),
    ):
        given = logprobs.copy()
        given[row:] = 0.5
        for backend, threads in itertools.product(["cython", "numpy"], [1, 2, 5]):
            with pytest.raises(ValueError, match=told):
                fe.topk_divergence(
                    ids, given, pred, kind="probs", backend=backend, num_threads=threads
                )
    pred[4] = 0.25
    for threads in (1, 2, 5):
        with pytest.raises(ValueError, match=r"negative probabilities, got -1\.0 in row 7"):
            fe.topk_divergence(ids, logprobs, pred, kind="probs", num_threads=threads)


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_rows_with_a_nan_are_not_checked(backend):
    for logprobs in ([np.inf, np.nan], [np.nan, np.inf], [5.0, np.nan], [np.nan, np.nan]):
        found = fe.topk_divergence([[0, 2]], [logprobs], np.zeros((1, 4)), backend=backend)
        assert all(np.isnan(column).all() for column in found)


def pair_case(rng, classes, a, b, shift):
    p, q = rng.dirichlet(np.ones(classes)), None
    q = p * np.exp(shift * rng.normal(size=classes))
    q /= q.sum()
    first, second = np.argsort(-p)[:a], np.argsort(-q)[:b]
    return p, q, first, second


def test_two_lists():
    rng = np.random.default_rng(11)
    for _ in range(150):
        classes = int(rng.integers(4, 14))
        a, b = int(rng.integers(1, classes)), int(rng.integers(1, classes))
        p, q, first, second = pair_case(rng, classes, a, b, rng.choice([0.1, 0.5, 2.0]))
        found = fe.topk_divergence(
            first, np.log(p[first]), (second, np.log(q[second])), classes=classes
        )
        whole = fe.kl_divergence(p, q)
        assert found.bucket <= found.low <= whole * (1 + 1e-12) + 1e-14, (first, second)
        assert whole <= found.high * (1 + 1e-12)
        assert found.ce_low <= -(p @ np.log(q)) * (1 + 1e-12) <= found.ce_high * (1 + 1e-11)
        shared = len(set(first) & set(second))
        assert math.isclose(found.overlap, shared / a)


def test_two_lists_of_everything_are_two_rows():
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(9))
    ids = rng.permutation(9)
    found = fe.topk_divergence(ids, np.log(p[ids]), (ids[::-1], np.log(q[ids[::-1]])), classes=9)
    assert math.isclose(found.low, fe.kl_divergence(p, q), rel_tol=1e-13)
    assert found.low == found.high
    dense = fe.topk_divergence(ids[:4], np.log(p[ids[:4]]), np.log(q), cap=None)
    listed = fe.topk_divergence(
        ids[:4], np.log(p[ids[:4]]), (ids, np.log(q[ids])), classes=9, cap=None
    )
    for name in ("head", "tail_p", "tail_q", "bucket", "low", "ce_low", "entropy_high"):
        assert math.isclose(getattr(dense, name), getattr(listed, name), rel_tol=1e-9), name


def test_rows_padded_with_infinities_are_told_of_lists():
    row = [[-0.5, -np.inf, -np.inf]]
    for backend in ("cython", "numba", "numpy"):
        with pytest.raises(ValueError, match=r"see topk_divergence$") as told:
            fe.entropy(row, kind="logprobs", backend=backend)
        assert "rescale" not in str(told.value)
        with pytest.raises(ValueError, match="rescale"):
            fe.entropy([[-0.5, -3.0, -4.0]], kind="logprobs", backend=backend)
