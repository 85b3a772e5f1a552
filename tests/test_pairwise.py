"""`fe.pairwise`: every pair of rows with the bits of the row function, for every divergence."""

import functools
import tracemalloc

import numpy as np
import oracle
import pytest

import fastent as fe
from fastent import _pairwise

RNG = np.random.default_rng(2)


def rows(n, classes, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), n).astype(dtype)


@fe.divergence
def squares(p, q):
    return (p - q) ** 2


RENYI = functools.partial(fe.renyi_divergence, alpha=2)
ALPHA = functools.partial(fe.alpha_divergence, alpha=0.5)
TSALLIS = functools.partial(fe.tsallis_divergence, alpha=3)
FOCAL = functools.partial(fe.focal_cross_entropy, gamma=1)
# (what is given, the row function)
EVERY = [
    ("kl_divergence", fe.kl_divergence),
    (fe.kl_divergence, fe.kl_divergence),
    ("js_divergence", fe.js_divergence),
    (fe.js_divergence, fe.js_divergence),
    ("categorical_cross_entropy", fe.categorical_cross_entropy),
    ("cross_entropy", fe.categorical_cross_entropy),
    (fe.categorical_cross_entropy, fe.categorical_cross_entropy),
    ("reverse_kl", lambda p, q: fe.kl_divergence(q, p)),
    ("renyi_divergence(alpha=2.0)", RENYI),
    (RENYI, RENYI),
    (ALPHA, ALPHA),
    (TSALLIS, TSALLIS),
    ("chi2_divergence", fe.chi2_divergence),
    (fe.total_variation, fe.total_variation),
    ("hellinger", fe.hellinger_distance),
    (fe.hellinger_distance, fe.hellinger_distance),
    ("jeffreys_divergence", fe.jeffreys_divergence),
    (fe.focal_cross_entropy, fe.focal_cross_entropy),
    (FOCAL, FOCAL),
    (squares, squares),
]  # fmt: skip


def same(found, want):
    assert found.dtype == np.float64 and found.shape == want.shape
    assert found.tobytes() == want.tobytes()


@pytest.mark.parametrize("given, function", EVERY, ids=map(str, range(len(EVERY))))
def test_bits_of_the_row_function(given, function):
    for n, m, classes in ((7, 5, 4), (1, 9, 3), (9, 1, 130), (0, 3, 2), (3, 0, 2)):
        p, q = rows(n, classes), rows(m, classes, seed=1)
        same(fe.pairwise(given, p, q), function(p[:, None], q[None]))
    p = rows(40, 6)
    found, want = fe.pairwise(given, p), function(p[:, None], p[None])
    above = np.triu_indices(40)
    np.testing.assert_array_equal(found[above], want[above])
    symmetric = _pairwise._resolved(given)[0] in _pairwise.SYMMETRIC
    same(found, np.where(np.tri(40, k=-1), want.T, want) if symmetric else want)


@pytest.mark.parametrize("classes", [2, 17, 300, 5000])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_blocks_and_engines(classes, dtype, compiled, monkeypatch):
    p, q = rows(83, classes, dtype), rows(57, classes, dtype, seed=1)
    want = [f(p[:, None], q[None]) for f in (fe.kl_divergence, fe.js_divergence)]
    whole = fe.pairwise("js_divergence", p)
    for cached, worth in ((_pairwise.CACHED, _pairwise.WORTH), (700, 1)):
        monkeypatch.setattr(_pairwise, "CACHED", cached)
        monkeypatch.setattr(_pairwise, "WORTH", worth)
        for threads in (1, 3):
            same(fe.pairwise("kl_divergence", p, q, num_threads=threads), want[0])
            same(fe.pairwise("js_divergence", p, q, num_threads=threads), want[1])
            same(fe.pairwise("js_divergence", p, num_threads=threads), whole)


@pytest.mark.parametrize("kind", ["logits", "logprobs", ("probs", "logits"), ("logits", "probs")])
def test_options(kind):
    p, q = rows(6, 5), rows(4, 5, seed=1)
    first, second = (kind, kind) if isinstance(kind, str) else kind
    p, q = (x if k == "probs" else np.log(x) for x, k in ((p, first), (q, second)))
    for options in ({}, {"base": 2}, {"eps": 1e-2}, {"temperature": 2.0}, {"row_sums": "rescale"}):
        applies = "logits" in kind or "temperature" not in options
        if "row_sums" in options and kind == "logits":
            continue
        if not applies:
            with pytest.raises(ValueError, match="temperature"):
                fe.pairwise("kl_divergence", p, q, kind=kind, **options)
            continue
        want = fe.kl_divergence(p[:, None], q[None], kind=kind, **options)
        same(fe.pairwise("kl_divergence", p, q, kind=kind, **options), want)
    if isinstance(kind, str):
        same(fe.pairwise("js_divergence", p, kind=kind, eps=0.01),
             fe.js_divergence(p[:, None], p[None], kind=kind, eps=0.01))  # fmt: skip
    else:
        with pytest.raises(ValueError, match="kind: expected one name"):
            fe.pairwise("kl_divergence", p, kind=kind)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_accuracy_on_nearly_equal_and_disjoint_rows(dtype, compiled):
    p = rows(6, 40, dtype)
    p[3] = p[2] * (1 + 1e-9 * RNG.normal(size=40))
    p[4, 5:], p[5, :5] = 0, 0
    for given, column in (("kl_divergence", "kl_divergence"), ("js_divergence", "js_divergence")):
        found = fe.pairwise(given, p, row_sums="rescale")
        a, b = (np.broadcast_to(x, (6, 6, 40)).reshape(36, 40) for x in (p[:, None], p[None]))
        want = oracle.rows("divergence", column, true=a, pred=b, kind="probs", row_sums="rescale")
        oracle.assert_close(found.reshape(-1), want, dtype)


def test_memory_and_outputs():
    p, q = rows(300, 200), rows(250, 200, seed=1)
    out = np.empty((300, 250))
    fe.pairwise("kl_divergence", p, q, out=out)
    tracemalloc.start()
    fe.pairwise("kl_divergence", p, q, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # of 120 MB
    want = fe.pairwise("kl_divergence", p, q)
    for room in (np.empty((300, 250), order="F"), np.empty((600, 500))[::2, ::-2]):
        assert fe.pairwise("kl_divergence", p, q, out=room) is room
        np.testing.assert_array_equal(room, want)
    square = rows(8, 8)
    want = fe.pairwise("js_divergence", square)
    assert fe.pairwise("js_divergence", square, out=square) is square
    same(square, want)
    for bad in (np.empty((250, 300)), np.empty((300, 250), np.float32), want.tolist()):
        with pytest.raises((TypeError, ValueError), match="out: expected"):
            fe.pairwise("kl_divergence", p, q, out=bad)


def test_layouts():
    p, q = rows(9, 6), rows(7, 6, seed=1)
    want = fe.pairwise("js_divergence", p, q)
    for place in (
        np.asfortranarray,
        lambda a: np.repeat(a, 3, axis=1)[:, ::3],
        lambda a: a.tolist(),
    ):
        same(fe.pairwise("js_divergence", place(p), place(q)), want)
    before = p.copy(), q.copy()
    fe.pairwise(squares, p, q)
    np.testing.assert_array_equal(p, before[0])


def sparse_rows(n, classes, stored, seed):
    rng, found = np.random.default_rng(seed), np.zeros((n, classes))
    for row in found:
        row[rng.choice(classes, stored, replace=False)] = rng.dirichlet(np.ones(stored))
    return found


@pytest.mark.parametrize(
    "given",
    ["kl_divergence", "js_divergence", "categorical_cross_entropy", "hellinger", "top1_agreement",
     fe.chi2_divergence, RENYI, fe.divergence(lambda p, q: (p - q) ** 2)],
    ids=lambda given: given if isinstance(given, str) else "function",
)  # fmt: skip
def test_csr_rows(given, monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(_pairwise, "CACHED", 150)
    monkeypatch.setattr(_pairwise, "WORTH", 1)
    p, q = sparse_rows(17, 30, 5, 0), sparse_rows(23, 30, 7, 1)
    wanted = fe.pairwise(given, p, q)
    first, second = sparse.csr_array(p), sparse.csr_matrix(q)
    for pair in ((first, second), (first, q), (p, second)):
        np.testing.assert_allclose(fe.pairwise(given, *pair), wanted, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(
        fe.pairwise(given, first), fe.pairwise(given, p), rtol=1e-13, atol=1e-15
    )


def test_csr_rows_have_the_bits_of_the_row_function_and_their_own_names():
    sparse = pytest.importorskip("scipy.sparse")
    p, q = (sparse.csr_array(sparse_rows(n, 40, 6, n)) for n in (9, 12))
    alone = [[fe.kl_divergence(p[[i]], q[[j]])[0] for j in range(12)] for i in range(9)]
    assert (fe.pairwise("kl_divergence", p, q) == alone).all()
    for k in (0, 5, 8):
        bad = p.copy()
        bad.data[bad.indptr[k]] += 0.5
        with pytest.raises(ValueError, match=rf"^p: .*row {k}\b"):
            fe.pairwise("kl_divergence", bad, q)
        for other in (q, q.toarray()):
            with pytest.raises(ValueError, match=rf"^q: .*row {k}\b"):
                fe.pairwise("js_divergence", other, bad)
    with pytest.raises(ValueError, match="kind: expected 'probs' with CSR rows"):
        fe.pairwise("kl_divergence", p, q, kind="logits")
    with pytest.raises(TypeError, match="tocsr"):
        fe.pairwise("kl_divergence", p.tocsc())
    with pytest.raises(ValueError, match=r"q: expected the classes of p, of shape \(9, 40\)"):
        fe.pairwise("kl_divergence", p, q[:, :30].tocsr())


def test_what_is_refused():
    p, q = rows(6, 5), rows(4, 5)
    others = (fe.entropy, fe.sparse_cross_entropy, fe.binary_cross_entropy, fe.Accumulator)
    for wrong in (None, 3, len, np.subtract, ["js_divergence"], functools.partial(len), *others):
        with pytest.raises(TypeError, match="divergence: expected"):
            fe.pairwise(wrong, p, q)
    for wrong in ("entropy", "entropy_p", "accuracy", "", "kl"):
        with pytest.raises(ValueError, match="divergence: expected"):
            fe.pairwise(wrong, p, q)
    with pytest.raises(ValueError, match=r"q: .*\(6, 5\).*\(4, 3\)"):
        fe.pairwise("kl_divergence", p, rows(4, 3))
    for bad in (p[0], p[None]):
        with pytest.raises(ValueError, match="expected shape"):
            fe.pairwise("kl_divergence", p, bad)
    for option in (
        {"eps": 0.6},
        {"row_sums": "no"},
        {"kind": "p"},
        {"base": 1},
        {"temperature": 2},
    ):
        with pytest.raises(ValueError, match=next(iter(option))):
            fe.pairwise("kl_divergence", p[:0], q, **option)
    for option in ({"eps": 0.1}, {"base": 2}):
        with pytest.raises(ValueError, match=next(iter(option))):
            fe.pairwise("total_variation" if "base" in option else RENYI, p, q, **option)


@pytest.mark.parametrize("given", ["kl_divergence", "categorical_cross_entropy", "chi2_divergence"])
def test_bad_rows_are_those_of_their_operand(given, monkeypatch):
    monkeypatch.setattr(_pairwise, "CACHED", 40)
    monkeypatch.setattr(_pairwise, "WORTH", 1)
    p, q = rows(60, 5), rows(70, 5)
    for k in (0, 33, 59):
        bad = p.copy()
        bad[k, 2] = -0.5
        with pytest.raises(ValueError, match=rf"p: .*row {k}\b"):
            fe.pairwise(given, bad, q)
        with pytest.raises(ValueError, match=rf"q: .*row {k}\b"):
            fe.pairwise(given, q, bad)
