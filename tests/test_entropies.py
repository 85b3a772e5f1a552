"""Entropies of orders and of counts, of labels the mutual information, the stability index."""

import math
import typing

import mpmath
import numpy as np
import pytest
from failing import EITHER, fails
from mpmath import mpf

import fastent as fe
from fastent.information import METHODS as NAMES, Method

ORDERS = [0, 0.01, 0.5, 0.999999, 1, 1 + 1e-9, 1.5, 2, 10, 300, math.inf]


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


def close(found, exact, bound):
    scale = max(abs(exact), mpf("1e-290"))
    assert abs(mpf(float(found)) - exact) <= mpf(bound) * scale, (float(found), exact)


def shares_of(row, kind):
    row = [mpf(float(x)) for x in row]
    if kind != "probs":
        top = max(row)
        row = [mpmath.exp(x - top) for x in row]
    return [x / mpmath.fsum(row) for x in row]


def tsallis(p, alpha):
    if alpha == 1:
        return -mpmath.fsum(v * mpmath.log(v) for v in p if v)
    return (1 - mpmath.fsum(v**alpha for v in p if v)) / (mpf(alpha) - 1)


def renyi(p, alpha):
    if alpha == 1:
        return tsallis(p, 1)
    if math.isinf(alpha):
        return -mpmath.log(max(p))
    return mpmath.log(mpmath.fsum(v**alpha for v in p if v)) / (1 - mpf(alpha))


def rows_of(kind):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(9, 6)) * np.repeat([1, 10, 60], 3)[:, None]
    x[2] = 0.0
    if kind == "probs":
        x = np.exp(x - x.max(1, keepdims=True))
        x[3, 1:3] = 0.0
        return x / x.sum(1, keepdims=True)
    if kind == "logprobs":
        return x - np.log(np.exp(x).sum(1, keepdims=True))
    x[4] = [800.0, 0.0, -800.0, -np.inf, 799.0, 0.0]
    return x


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("kind", ["probs", "logprobs", "logits"])
def test_entropies_of_orders(alpha, kind):
    rows = rows_of(kind)
    for function, exact in ((fe.renyi_entropy, renyi), (fe.tsallis_entropy, tsallis)):
        if math.isinf(alpha) and exact is tsallis:
            continue
        for row, found in zip(rows, function(rows, alpha, kind=kind), strict=True):
            close(found, exact(shares_of(row, kind), alpha), "1e-14")
            assert function(row, alpha, kind=kind) == found >= 0


@pytest.mark.parametrize("alpha", [0.5, 1.5, 2, 30])
def test_nearly_certain_and_nearly_flat_rows(alpha):
    hard = [[1 - 1e-12, 1e-12], [1.0, 1e-200], [1.0, 5e-324], [1e-300, 2e-300, 3e-300],
            [1e308, 1e308, 1.5e308], [0.25, 0.25 + 1e-15, 0.25, 0.25], [7.0]]  # fmt: skip
    with mpmath.workdps(700):
        for row in hard:
            p = shares_of(row, "probs")
            close(fe.renyi_entropy(row, alpha, row_sums="rescale"), renyi(p, alpha), "1e-14")
            close(fe.tsallis_entropy(row, alpha, row_sums="rescale"), tsallis(p, alpha), "1e-14")
        for row in ([100.1, -360.7], [0.3, -700.1, -1e4], [40.0, 0.0, 39.9], [-1e5 + 0.1, 1e-3]):
            p = shares_of(row, "logits")
            close(fe.renyi_entropy(row, alpha, kind="logits"), renyi(p, alpha), "1e-14")
            close(fe.tsallis_entropy(row, alpha, kind="logits"), tsallis(p, alpha), "1e-14")


def test_the_keywords_of_entropies():
    rows = rows_of("probs")
    plain = fe.renyi_entropy(rows, 2)
    weights = np.arange(9.0)
    bits = fe.renyi_entropy(rows.T, 2, axis=0, base=2, sample_weight=weights)
    np.testing.assert_allclose(bits, plain * weights / math.log(2), rtol=1e-15)
    total = fe.renyi_entropy(rows, 2, sample_weight=weights, reduction="sum")
    assert total == math.fsum(plain * weights)
    mean = fe.renyi_entropy(rows, 2, sample_weight=weights, reduction="mean")
    assert mean == total / weights.sum()
    cube = np.stack([rows, rows[::-1]])
    for axis in (0, 1, 2):
        moved = np.moveaxis(cube, -1, axis)
        assert np.array_equal(fe.renyi_entropy(moved, 2, axis=axis), [plain, plain[::-1]])
    for dtype in (np.float32, np.float16):
        narrow = rows.astype(dtype)
        for row, found in zip(narrow, fe.tsallis_entropy(narrow, 1.5), strict=True):
            close(found, tsallis(shares_of(row, "probs"), 1.5), "1e-6")
    hot = fe.tsallis_entropy(rows_of("logits") / 2, 3, kind="logits")
    np.testing.assert_array_equal(
        fe.tsallis_entropy(rows_of("logits"), 3, kind="logits", temperature=2.0), hot
    )
    raw = [0.5, 0.25]
    found = fe.renyi_entropy(raw, 2, row_sums="as_is")
    assert abs(found + math.log(0.3125)) < 1e-15
    many = np.random.default_rng(0).dirichlet(np.ones(50), 5000)
    alone = fe.renyi_entropy(many, 0.7, num_threads=1)
    assert np.array_equal(alone, fe.renyi_entropy(many, 0.7, num_threads=3))
    broken = rows.copy()
    broken[3, 2] = np.nan
    assert np.isnan(fe.renyi_entropy(broken, 2)).tolist() == [k == 3 for k in range(9)]
    assert fe.renyi_entropy(np.empty((0, 3)), 2).shape == (0,)


def test_bad_input_of_entropies():
    for function in (fe.renyi_entropy, fe.tsallis_entropy):
        with fails(ValueError, "alpha", "-1"):
            function([1.0], -1)
        with fails(ValueError, "alpha", "nan"):
            function([1.0], math.nan)
        with fails(TypeError, "alpha"):
            function([1.0], "2")
        with fails(ValueError, "p:", "row 1", "sum to 1"):
            function([[0.5, 0.5], [0.5, 0.6]], 2)
        with fails(ValueError, "p:", "negative", "row 0"):
            function([[-0.5, 1.5]], 2)
        with fails(EITHER, "kind", "logit"):
            function([[0.5, 0.5]], 2, kind="logit")
        with fails(EITHER, "reduction"):
            function([[0.5, 0.5]], 2, reduction="max")
    with fails(TypeError, "base"):
        fe.tsallis_entropy([1.0], 2, base=2)
    with fails(ValueError, "alpha", "finite"):
        fe.tsallis_entropy([1.0], math.inf)


# --- counts --------------------------------------------------------------------------------------


def plugin(counts):
    return tsallis(shares_of(counts, "probs"), 1)


def miller_madow(counts):
    return plugin(counts) + mpf(sum(c > 0 for c in counts) - 1) / (2 * sum(counts))


def chao_shen(counts):
    total, single = sum(counts), sum(c == 1 for c in counts)
    single = total - 1 if single == total else single
    p = [(1 - mpf(single) / total) * c / total for c in counts if c]
    return -mpmath.fsum(v * mpmath.log(v) / (1 - (1 - v) ** total) for v in p)


def jackknife(counts):
    total = sum(counts)
    if total == 1:
        return mpf(0)
    less = [
        c * plugin([n - (i == k) for i, n in enumerate(counts)]) for k, c in enumerate(counts) if c
    ]
    return total * plugin(counts) - mpf(total - 1) / total * mpmath.fsum(less)


METHODS = {f.__name__: f for f in (plugin, miller_madow, chao_shen, jackknife)}
COUNTS = [[4, 2, 3, 0, 2, 4, 0, 0, 2, 1, 1], [1, 1, 1], [1], [7, 0], [10**6, 1], [10**12, 3, 2],
          [10**15, 10**15 + 1], [9, 8], [100, 99, 1], [2, 2, 2, 2], [10**9] * 3,
          [1] * 50 + [1000]]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_estimators(method):
    with mpmath.workdps(120):
        for counts in COUNTS:
            close(fe.entropy_of_counts(counts, method), METHODS[method](counts), "1e-13")


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_counts(method):
    rng = np.random.default_rng(3)
    counts = rng.poisson(2.0, size=(40, 3, 9)) + np.eye(9, dtype=int)[0]
    found = fe.entropy_of_counts(counts, method=method)
    assert found.shape == (40, 3)
    for i in range(40):
        assert fe.entropy_of_counts(counts[i, 1], method) == found[i, 1]
    other = fe.entropy_of_counts(counts.transpose(2, 0, 1), method, axis=0, num_threads=2)
    assert np.array_equal(other, found)
    np.testing.assert_allclose(
        fe.entropy_of_counts(counts, method, base=2), found / math.log(2), rtol=1e-15
    )
    lost = counts.astype(float)
    lost[5, 1, 2] = np.nan
    assert np.argwhere(np.isnan(fe.entropy_of_counts(lost, method))).tolist() == [[5, 1]]


def test_the_textbook_entropy_of_counts():
    assert fe.entropy_of_counts([4, 2, 1, 1], base=2) == 1.75  # Cover and Thomas
    assert fe.entropy_of_counts([0.5, 0.25, 0.25], base=2) == 1.5


def test_estimators_have_less_bias():
    """Of 20 classes and 60 draws the plug-in value is 0.17 too small on average."""
    rng = np.random.default_rng(1)
    counts = rng.multinomial(60, np.full(20, 0.05), size=4000)
    bias = {m: abs(fe.entropy_of_counts(counts, m).mean() - math.log(20)) for m in METHODS}
    assert 0.15 < bias["plugin"] < 0.19
    assert all(bias[m] < 0.03 for m in METHODS if m != "plugin")


def test_bad_counts():
    with fails(ValueError, "method", "plugin", "shrink"):
        fe.entropy_of_counts([1, 2], "shrink")
    with fails(ValueError, "counts", "some counts", "row 1"):
        fe.entropy_of_counts([[1, 2], [0, 0]])
    with fails(ValueError, "counts", "at least 0", "-1.0", "(0, 1)"):
        fe.entropy_of_counts([[1, -1]])
    with fails(ValueError, "counts", "inf"):
        fe.entropy_of_counts([1, np.inf])
    with fails(ValueError, "counts", "whole numbers", "0.5", "jackknife"):
        fe.entropy_of_counts([1, 0.5], "jackknife")
    with fails(ValueError, "counts", "scalar"):
        fe.entropy_of_counts(3)


# --- labels --------------------------------------------------------------------------------------


def information(x, y):
    total = mpf(len(x))
    pairs = {}
    for pair in zip(x, y, strict=True):
        pairs[pair] = pairs.get(pair, 0) + 1
    return mpmath.fsum(
        c / total * mpmath.log(c * total / (list(x).count(a) * list(y).count(b)))
        for (a, b), c in pairs.items()
    )


def test_mutual_information_of_labels():
    rng = np.random.default_rng(2)
    x = rng.integers(4, size=500)
    y = (x + rng.integers(2, size=500)) % 4 - 7
    close(fe.mutual_information(x, y), information(x.tolist(), y.tolist()), "1e-14")
    names = np.array(["a", "b", "c", "d"])[x]
    assert fe.mutual_information(names, y) == fe.mutual_information(x, y)
    assert fe.mutual_information(list(names), list(y), base=2) == fe.mutual_information(
        x, y, base=2
    )
    table = np.zeros((4, 4))
    np.add.at(table, (x, y + 7), 1)
    assert fe.mutual_information(table) == fe.mutual_information(x, y)
    assert fe.mutual_information([1.5, 2.5], [True, True]) == 0.0


def test_labels_of_very_many_values():
    x = np.arange(6000)
    y = np.where(x < 20, x + 1, x)
    close(fe.mutual_information(x, y), information(x.tolist(), y.tolist()), "1e-14")


def test_bad_labels():
    with fails(ValueError, "y:", "3 labels", "2"):
        fe.mutual_information([1, 2, 3], [1, 2])
    with fails(ValueError, "table", "shape (1, 2)"):
        fe.mutual_information([[1, 2]], [1])
    with fails(ValueError, "table", "none"):
        fe.mutual_information([], [])
    with fails(ValueError, "y:", "nan", "row 1"):
        fe.mutual_information([1, 2], [1.0, np.nan])
    with fails(ValueError, "axis"):
        fe.mutual_information([1, 2], [1, 2], axis=(0, 1))
    with fails(TypeError, "table", "one type"):
        fe.mutual_information(np.array([1, "a"], object), [1, 2])


# --- the stability index -------------------------------------------------------------------------


def test_the_stability_index_broadcasts():
    rng = np.random.default_rng(4)
    expected, actual = rng.integers(1, 99, 8), rng.integers(1, 99, (3, 5, 8))
    found = fe.population_stability_index(expected, actual)
    assert found.shape == (3, 5)
    assert found[2, 4] == fe.population_stability_index(expected, actual[2, 4])
    first = fe.population_stability_index(
        expected[:, None, None], np.moveaxis(actual, -1, 0), axis=0
    )
    assert np.array_equal(first, found)
    grid = fe.population_stability_index(actual[:, :1], actual[:1, 1:], smoothing=0.5)
    assert grid[2, 3] == fe.population_stability_index(actual[2, 0], actual[0, 4], smoothing=0.5)
    with fails(ValueError, "actual", "(8,)", "(3, 5, 1)"):
        fe.population_stability_index(expected, actual[..., :1])
    with fails(ValueError, "actual", "broadcasts"):
        fe.population_stability_index(actual, actual[:2])


def test_methods_for_checkers_are_those_there_are():
    assert typing.get_args(Method) == NAMES
