"""Rows of scipy.sparse CSR arrays: the values of the dense rows, by the exact oracle, at the cost
of what is stored."""

import subprocess
import sys
import time

import numpy as np
import oracle
import pytest
from scipy import sparse

import fastent as fe

N, C = 12, 9
BACKENDS = ("cython", "numba", "numpy")


def dense(n=N, classes=C, seed=0, share=0.4, dtype=np.float64):
    r = np.random.default_rng(seed)
    x = r.random((n, classes)) * (r.random((n, classes)) < share)
    x[:, r.integers(0, classes)] += 0.1
    return (x / x.sum(1, keepdims=True)).astype(dtype)


def untidy(x, index=np.int32):
    """The same rows with stored zeros, unsorted columns and numbers in two parts."""
    r = np.random.default_rng(3)
    data, columns, starts = [], [], [0]
    for row in x:
        at = np.flatnonzero((row != 0) | (r.random(len(row)) < 0.2))
        at = np.concatenate([at, at[:2]])
        numbers = row[at].copy()
        numbers[: min(2, len(at) // 2)] /= 2  # exact
        numbers[len(at) - min(2, len(at) // 2) :] /= 2
        if len(at) < 4:
            at, numbers = (
                at[: len(at) - min(2, len(at) // 2)],
                row[at[: len(at) - min(2, len(at) // 2)]],
            )
        order = r.permutation(len(at))
        data.extend(numbers[order])
        columns.extend(at[order])
        starts.append(len(data))
    found = sparse.csr_array(
        (np.array(data, x.dtype), np.array(columns, index), np.array(starts, index)), shape=x.shape
    )
    found.indices, found.indptr = found.indices.astype(index), found.indptr.astype(index)
    return found


def pair():
    p, q = dense(seed=1), dense(seed=2)
    q[: N // 2] += 0.01  # no class is missing
    q /= q.sum(1, keepdims=True)
    return p, q


FUNCTIONS = {
    "kl_divergence": fe.kl_divergence,
    "js_divergence": fe.js_divergence,
    "categorical_cross_entropy": fe.categorical_cross_entropy,
}
PLAIN = {
    "total variation": fe.total_variation,
    "hellinger": fe.hellinger_distance,
    "chi2": fe.chi2_divergence,
    "jeffreys": fe.jeffreys_divergence,
    "renyi": lambda p, q, **more: fe.renyi_divergence(p, q, 0.5, **more),
}


@fe.divergence
def squares(p, q):
    return (p - q) ** 2


def ways(p, q):
    """The operands in every form that is legal."""
    yield untidy(p), untidy(q)
    yield untidy(p), q
    yield p, untidy(q)
    yield untidy(p, np.int64), untidy(q)
    yield sparse.csr_matrix(p), sparse.csr_array(q)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_the_exact_oracle(name, dtype, engine):
    column = "cross_entropy" if name.startswith("cat") else name
    task = "categorical" if name.startswith("cat") else "divergence"
    p, q = (x.astype(dtype) for x in pair())
    for rule in ("check", "rescale", "as_is"):
        want = oracle.rows(task, column, true=p, pred=q, kind="probs", row_sums=rule)
        for a, b in ways(p, q):
            found = FUNCTIONS[name](a, b, row_sums=rule, backend=engine)
            oracle.assert_close(found, want, dtype)
    one = q[0]  # a single dense row: what a sparse row has not is one class
    for first, second in ((p, one), (one, p)):
        want = oracle.rows(task, column, true=np.broadcast_to(first, p.shape),
                           pred=np.broadcast_to(second, p.shape), kind="probs")  # fmt: skip
        args = [untidy(x) if x.ndim > 1 else x for x in (first, second)]
        oracle.assert_close(FUNCTIONS[name](*args, backend=engine), want, dtype)


def test_nearly_equal_rows():
    p = dense(share=0.5)
    for scale in (1e-3, 1e-8, 1e-12):
        q = p * (1 + scale * np.random.default_rng(1).normal(size=p.shape))
        for name in ("kl_divergence", "js_divergence"):
            want = oracle.rows("divergence", name, true=p, pred=q, kind="probs", row_sums="rescale")
            for a, b in ways(p, q):
                found = FUNCTIONS[name](a, b, row_sums="rescale")
                oracle.assert_close(found, want, np.float64)
        row = np.full(C, 1e-13)
        row[:3] = (0.25, 0.5, 0.25)
        near = np.zeros((2, C))
        near[:, :3] = row[:3] * (1 + scale * np.array([[1, -1, 0.5], [0.5, 0.25, -1]]))
        want = oracle.rows("divergence", "kl_divergence", true=near, pred=np.tile(row, (2, 1)),
                           kind="probs", row_sums="rescale")  # fmt: skip
        found = fe.kl_divergence(untidy(near), row, row_sums="rescale")
        oracle.assert_close(found, want, np.float64)


@pytest.mark.parametrize("name", PLAIN)
def test_other_divergences(name):
    p, q = pair()
    want = PLAIN[name](p, q)
    for a, b in ways(p, q):
        np.testing.assert_allclose(PLAIN[name](a, b), want, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(PLAIN[name](untidy(p), q[0]), PLAIN[name](p, q[0]), rtol=1e-13)
    np.testing.assert_allclose(squares(untidy(p), untidy(q)), squares(p, q), rtol=1e-13)
    np.testing.assert_allclose(squares(untidy(p), q[0]), squares(p, q[0]), rtol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_entropy_weights_and_reductions(backend):
    p, q = pair()
    want = oracle.rows("entropy", "entropy", pred=p, kind="probs")
    oracle.assert_close(fe.entropy(untidy(p), backend=backend), want, np.float64)
    w = np.random.default_rng(0).random(N)
    w[3] = 0
    for reduction in ("none", "sum", "mean"):
        for base in (None, 2):
            options = {"reduction": reduction, "base": base, "sample_weight": w, "backend": backend}
            for function, args in ((fe.entropy, (p,)), (fe.kl_divergence, (p, q))):
                found = function(*map(untidy, args), **options)
                np.testing.assert_allclose(found, function(*args, **options), rtol=1e-13)
    found = fe.categorical_cross_entropy(untidy(p), q, row_sums="as_is", reduction="mean")
    want = fe.categorical_cross_entropy(p, q, row_sums="as_is", reduction="mean")
    np.testing.assert_allclose(found, want, rtol=1e-13)
    out = np.empty((N, 1))
    assert fe.entropy(untidy(p), keepdims=True, out=out) is out
    np.testing.assert_allclose(out[:, 0], fe.entropy(p), rtol=1e-13)
    grid = fe.kl_divergence(q[:, None], untidy(p))
    np.testing.assert_allclose(grid, fe.kl_divergence(q[:, None], p[None]), rtol=1e-13)


@pytest.mark.parametrize("second", ["sparse", "dense", "one row"])
def test_accumulator(second):
    p, q = pair()
    metrics = fe.metrics.names("divergence")
    other = {"sparse": untidy(q), "dense": q, "one row": q[0]}[second]
    plain = q[0] if second == "one row" else q
    groups = np.arange(N) % 3
    found = fe.Accumulator(metrics, task="divergence").update(untidy(p), other, groups=groups)
    want = fe.Accumulator(metrics, task="divergence").update(p, plain, groups=groups)
    halves = fe.Accumulator(metrics, task="divergence")
    for rows in (slice(0, 5), slice(5, N)):
        half = other if second == "one row" else other[rows]
        halves.update(untidy(p)[rows], half, groups=groups[rows])
    reports = [acc.compute() for acc in (found, want, halves)]
    for name in metrics:
        for group in (None, 0, 1, 2):
            values = [(r if group is None else r.groups[group])[name].value for r in reports]
            np.testing.assert_allclose(values[0], values[1], rtol=1e-13)
            assert values[0] == values[2] or np.isnan(values[0])


def test_a_row_depends_on_nothing_but_itself():
    p, q = pair()
    whole = fe.kl_divergence(untidy(p), untidy(q))
    for k in range(N):
        alone = fe.kl_divergence(untidy(p)[[k]], untidy(q)[[k]])
        assert alone.tobytes() == whole[k : k + 1].tobytes()


def test_largest_classes_of_sparse_rows():
    p = np.array([[0, 0, 0.6, 0.4], [0.5, 0, 0.5, 0], [0, 0.5, 0.5, 0]])
    q = np.array([[0, 0, 0.3, 0.7], [0.1, 0.9, 0, 0], [0, 0.6, 0, 0.4]])
    for a, b in ways(p, q):
        acc = fe.Accumulator("top1_agreement", task="divergence").update(a, b)
        assert acc.compute()["top1_agreement"].value == pytest.approx(1 / 3)


def csr(data, columns, starts, shape=(2, 4)):
    """CSR rows that SciPy has not looked at."""
    found = sparse.csr_array(shape)
    found.data, found.indices, found.indptr = map(np.asarray, (data, columns, starts))
    return found


HALVES = [0.5, 0.5, 1.0]
TERMS = np.ones((2, 4))
GOOD = csr(HALVES, [0, 1, 3], [0, 2, 3])

loss = fe.categorical_cross_entropy


@pytest.mark.parametrize(
    ("call", "error", "needle"),
    [
        (lambda: fe.entropy(csr(HALVES, [0, 4, 3], [0, 2, 3])), ValueError, "got 4 in row 0"),
        (lambda: fe.entropy(csr(HALVES, [0, 1, -1], [0, 2, 3])), ValueError, "got -1 in row 1"),
        (lambda: fe.entropy(csr(HALVES, [0, 1, 3], [0, 2, 9])), ValueError, "indptr"),
        (lambda: fe.entropy(csr(HALVES, [0, 1, 3], [0, 3, 2])), ValueError, "indptr"),
        (lambda: fe.entropy(csr([0.5, -0.5, 1.0], [0, 1, 3], [0, 2, 3])), ValueError, "row 0"),
        (lambda: fe.entropy(csr([0.5, 0.5, 0.7], [0, 1, 3], [0, 2, 3])), ValueError, "row 1"),
        (lambda: fe.entropy(csr([0.5, 0.5], [0, 1], [0, 2, 2])), ValueError, "row 1"),
        (lambda: fe.entropy(GOOD, kind="logits"), ValueError, "kind"),
        (lambda: fe.kl_divergence(GOOD, GOOD, kind=("probs", "logits")), ValueError, "kind"),
        (lambda: fe.kl_divergence(GOOD, GOOD, eps=0.1), ValueError, "eps"),
        (lambda: loss(GOOD, GOOD, label_smoothing=0.1), ValueError, "smoothing"),
        (lambda: loss(GOOD, GOOD, class_weight=[1.0] * 4), ValueError, "class_weight"),
        (lambda: loss(GOOD, GOOD, sample_weight=TERMS), ValueError, "sample_weight"),
        (lambda: fe.entropy(GOOD, axis=0), ValueError, "axis"),
        (lambda: fe.entropy(GOOD, axis=None), ValueError, "axis"),
        (lambda: fe.kl_divergence(GOOD, np.full((2, 3), 1 / 3)), ValueError, "(2, 3)"),
        (lambda: fe.kl_divergence(GOOD, np.full((3, 4), 1 / 4)), ValueError, "(3, 4)"),
        (lambda: fe.entropy(GOOD.tocsc()), TypeError, "tocsr"),
        (lambda: fe.sparse_cross_entropy([0, 1], GOOD), TypeError, "CSR"),
        (lambda: fe.binary_cross_entropy(GOOD, GOOD), TypeError, "CSR"),
    ],
)  # fmt: skip
def test_what_is_refused(call, error, needle):
    with pytest.raises(error) as refused:
        call()
    assert needle in str(refused.value) and "\n" not in str(refused.value)


def test_the_cost_is_that_of_what_is_stored():
    rows, classes = 2000, 10_000_000  # 160 GB if they were dense
    r = np.random.default_rng(0)
    columns = r.integers(0, classes, (2, rows, 10))
    p, q = (
        csr(np.full(rows * 10, 0.1), c.reshape(-1), np.arange(rows + 1) * 10, (rows, classes))
        for c in columns
    )
    start = time.thread_time()
    assert np.isfinite(fe.js_divergence(p, q)).all() and np.isfinite(fe.entropy(p)).all()
    row = np.full(classes, 1 / classes)
    found = fe.kl_divergence(p[:50], row)
    np.testing.assert_allclose(found, np.log(classes / 10), rtol=1e-12)
    assert time.thread_time() - start < 10


def test_scipy_is_not_imported():
    code = "import sys, fastent as fe; fe.entropy([[0.5, 0.5]]); sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_categorical_metrics():
    p, q = pair()
    p[3, 2] = q[5, 1] = np.nan
    metrics = fe.metrics.names("categorical")
    found, want = (fe.Accumulator(metrics, task="categorical") for _ in "ab")
    found.update(untidy(p), untidy(q), clusters=np.arange(N) // 2)
    want.update(p, q, clusters=np.arange(N) // 2)
    reports = found.compute(), want.compute()
    for name in metrics:
        np.testing.assert_allclose(*(report[name].value for report in reports), rtol=1e-13)
