"""Leading axes broadcast as NumPy's do, everywhere, with the bits of operands written out in full
and without copies of them; `axis=None` and `keepdims` are NumPy's too."""

import itertools
import tracemalloc

import numpy as np
import pytest

import fastent as fe
import fastent.dask
from fastent.compat import scipy

N, M, C = 5, 4, 6
RNG = np.random.default_rng(5)
# leading shapes of two operands
LEADS = [
    ((N,), ()),
    ((), (N,)),
    ((N, 1), (M,)),
    ((N, 1), (1, M)),
    ((M,), (N, 1)),
    ((2, 1, M), (N, 1)),
    ((1,), (N,)),
    ((0, 1), (M,)),
]


def distributions(lead, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).dirichlet(np.ones(C), lead).astype(dtype)


@fe.divergence
def squares(p, q):
    return (p - q) ** 2


PAIRS = {
    "kl": fe.kl_divergence,
    "js": fe.js_divergence,
    "categorical": fe.categorical_cross_entropy,
    "total variation": fe.total_variation,
    "renyi": lambda p, q, **more: fe.renyi_divergence(p, q, 2.0, **more),
    "own": squares,
}


def full(lead, *arrays, classes=True):
    return [np.broadcast_to(a, (*lead, *a.shape[a.ndim - classes :])).copy() for a in arrays]


def same(found, want):
    found, want = np.asarray(found), np.asarray(want)
    assert found.shape == want.shape and found.tobytes() == want.tobytes()


@pytest.mark.parametrize("leads", LEADS, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_distributions(name, dtype, leads):
    call, lead = PAIRS[name], np.broadcast_shapes(*leads)
    p, q = (distributions(one, k, dtype) for k, one in enumerate(leads))
    want = call(*full(lead, p, q))
    same(call(p, q), want)
    same(call(p, q), want)
    weight = RNG.random(lead[-1:])
    same(call(p, q, sample_weight=weight), call(*full(lead, p, q), sample_weight=weight))
    out = np.empty(lead)
    assert call(p, q, out=out) is out
    same(out, want)
    same(call(p, q, keepdims=True), want[..., None])
    for rule in ("rescale", "as_is"):
        same(call(p, q, row_sums=rule), call(*full(lead, p, q), row_sums=rule))


@pytest.mark.parametrize("leads", LEADS, ids=str)
@pytest.mark.parametrize(
    "function", [fe.kl_divergence, fe.js_divergence, fe.categorical_cross_entropy]
)
def test_every_engine(function, leads, engine):
    lead = np.broadcast_shapes(*leads)
    for kind, dtype in itertools.product(
        (("probs", "probs"), ("probs", "logits"), ("logits", "logits")), (np.float64, np.float32)
    ):
        p, q = (distributions(one, k, dtype) for k, one in enumerate(leads))
        want = function(*full(lead, p, q), kind=kind, backend=engine)
        same(function(p, q, kind=kind, backend=engine), want)
        total = function(p, q, kind=kind, backend=engine, reduction="sum")
        same(total, function(*full(lead, p, q), kind=kind, backend=engine, reduction="sum"))


@pytest.mark.parametrize("classes", [1, 2, 3, 17, 100, 700, 5000, 70_000])
def test_any_number_of_classes_and_of_rows(classes, compiled):
    r = np.random.default_rng(classes)
    rows = max(3, min(3000, 60_000 // classes))
    for dtype in (np.float64, np.float32):
        p = r.dirichlet(np.ones(classes), rows).astype(dtype)
        wide = np.repeat(p, 2, axis=1)[:, ::2]  # strided classes
        for one in (p[3 % rows], wide[3 % rows], p[3 % rows].astype(np.float16)):
            for a, b in ((p, one), (one, p), (wide, one)):
                same(
                    fe.kl_divergence(a, b, row_sums="rescale", num_threads=2),
                    fe.kl_divergence(*full((rows,), a, b), row_sums="rescale"),
                )
        some = p[: 60 if classes < 1000 else 3]
        same(
            fe.js_divergence(some[:, None], some[None], row_sums="rescale"),
            fe.js_divergence(
                *full((len(some),) * 2, some[:, None], some[None]), row_sums="rescale"
            ),
        )


@pytest.mark.parametrize("axis", [0, 1, -1, -2, -3])
def test_axes(axis):
    lead = (3, 4)
    p, q = distributions((3, 1)), distributions((1, 4), 1)
    want = fe.kl_divergence(*full(lead, p, q))
    moved = [np.moveaxis(x, -1, axis) for x in (p, q)]
    same(fe.kl_divergence(*moved, axis=axis), want)
    same(fe.kl_divergence(*moved, axis=axis, keepdims=True), np.expand_dims(want, axis))
    if axis == -2:  # counted from the end it is the same axis of an operand with fewer axes
        row = distributions((4,), 2)
        found = fe.kl_divergence(moved[0], np.ascontiguousarray(row.T), axis=axis)
        same(found, fe.kl_divergence(*full(lead, p, row)))


@pytest.mark.parametrize("engine_name", ["cython", "numba", "numpy"])
def test_labels(engine_name):
    for labels, lead in (((N, 1), (M,)), ((N,), ()), ((), (N,)), ((1,), (N,)), ((1, M), (N, 1))):
        y = RNG.integers(0, C, labels)
        q = distributions(lead)
        whole = np.broadcast_shapes(labels, lead)
        written_out = np.broadcast_to(y, whole).copy(), *full(whole, q)
        options = {"backend": engine_name, "ignore_index": 2}
        want = fe.sparse_cross_entropy(*written_out, **options)
        same(fe.sparse_cross_entropy(y, q, **options), want)
        terms = RNG.random((*whole, C))
        for weight in (terms, terms[..., 0], terms[..., :1, 0]):
            if weight.ndim:
                same(
                    fe.sparse_cross_entropy(y, q, sample_weight=weight, **options),
                    fe.sparse_cross_entropy(*written_out, sample_weight=weight, **options),
                )
        if len(labels) <= len(lead):
            more = {"ignore_index": 2, "class_weight": RNG.random(C), "sample_weight": terms}
            same(fe.focal_cross_entropy(y, q, **more), fe.focal_cross_entropy(*written_out, **more))
    names = np.array(list("abcdef"))
    y = RNG.integers(0, C, (N, 1))
    same(
        fe.sparse_cross_entropy(names[y], distributions((M,)), classes=list("abcdef")),
        fe.sparse_cross_entropy(y, distributions((M,))),
    )


@pytest.mark.parametrize("function", [fe.binary_cross_entropy, fe.binary_focal_cross_entropy])
def test_elements(function):
    for t, q in (((N, 1), (1, M)), ((M,), (N, M)), ((), (N,)), ((N, M), ())):
        shape = np.broadcast_shapes(t, q)
        target, pred = RNG.random(t), RNG.random(q)
        weight = RNG.random(shape)
        args = [np.broadcast_to(x, shape).copy() for x in (target, pred)]
        same(function(target, pred, sample_weight=weight), function(*args, sample_weight=weight))


def test_soft_focal_targets():
    p, q = distributions((N, 1)), distributions((M,), 1)
    same(fe.focal_cross_entropy(p, q), fe.focal_cross_entropy(*full((N, M), p, q)))
    same(fe.focal_cross_entropy(p, q, keepdims=True), fe.focal_cross_entropy(p, q)[..., None])


def state(task, *args, metrics=None, **more):
    metrics = metrics or [m for m in fe.metrics.names(task) if "{" not in m]
    return repr(fe.Accumulator(metrics, task=task).update(*args, **more).state_dict())


def test_accumulators():
    p, q = distributions((N, 1)), distributions((M,), 1)
    written_out = full((N, M), p, q)
    y = RNG.integers(0, C, (N, 1))
    more = {
        "groups": np.arange(M),
        "clusters": np.arange(N)[:, None],
        "sample_weight": RNG.random(M),
    }
    assert state("divergence", p, q, **more) == state("divergence", *written_out, **more)
    assert state("categorical", p, q, **more) == state("categorical", *written_out, **more)
    labels = np.broadcast_to(y, (N, M)).copy()
    assert state("sparse", y, q, **more) == state("sparse", labels, written_out[1], **more)
    t, b = RNG.random((N, 1)), RNG.random(M)
    args = [np.broadcast_to(x, (N, M)).copy() for x in (t, b)]
    assert state("binary", t, b, **more) == state("binary", *args, **more)


@pytest.mark.parametrize("chunks", [2, 3, -1])
def test_dask(chunks):
    import dask.array as da

    def lazy(a, classes=1):
        return da.from_array(a, chunks=(*[chunks] * (a.ndim - classes), *[-1] * classes))

    for leads in LEADS[:-1]:
        lead = np.broadcast_shapes(*leads)
        p, q = (distributions(one, k) for k, one in enumerate(leads))
        want = fe.kl_divergence(*full(lead, p, q))
        for a, b in ((lazy(p), lazy(q)), (p, lazy(q)), (lazy(p), q)):
            found = fastent.dask.kl_divergence(a, b)
            assert found.shape == lead
            same(found.compute(scheduler="sync"), want)
            kept = fastent.dask.kl_divergence(a, b, keepdims=True)
            same(kept.compute(scheduler="sync"), want[..., None])
        total = fastent.dask.kl_divergence(lazy(p), lazy(q), reduction="mean")
        same(total.compute(scheduler="sync"), fe.kl_divergence(p, q, reduction="mean"))
    y, q = RNG.integers(0, C, (N, 1)), distributions((M,))
    same(
        fastent.dask.sparse_cross_entropy(lazy(y, 0), lazy(q)).compute(scheduler="sync"),
        fe.sparse_cross_entropy(y, q),
    )
    x = distributions((N,)) / N
    same(
        fastent.dask.entropy(lazy(x), axis=None).compute(scheduler="sync"), fe.entropy(x, axis=None)
    )
    y = distributions((N,)) / N
    found = fastent.dask.kl_divergence(lazy(x), lazy(y), axis=None).compute(scheduler="sync")
    same(found, fe.kl_divergence(x, y, axis=None))


def test_drop_ins():
    p, q = distributions((N,)), distributions(())
    for call in (scipy.entropy, scipy.jensenshannon):
        same(call(p, q, axis=-1), call(*full((N,), p, q), axis=-1))
        same(call(p[:, None], q[None], axis=-1), call(*full((N,), p, q), axis=-1)[:, None])


WHOLES = [
    np.ascontiguousarray,
    np.asfortranarray,
    lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    lambda a: np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2),
]


@pytest.mark.parametrize("place", range(len(WHOLES)))
@pytest.mark.parametrize("shape", [(2, 3, 4), (20, 30, 40), (1, 1, 1)])
def test_the_whole_array_as_one_row(shape, place, engine):
    r = np.random.default_rng(1)
    p, q = r.dirichlet(np.ones(np.prod(shape)), 2).reshape(2, *shape)
    terms, x = r.random(shape), r.normal(size=shape)
    there = WHOLES[place]
    flat = {"axis": -1, "backend": engine}
    whole = {"axis": None, "backend": engine}
    for dtype in (np.float64, np.float32):
        a, b = (there(y.astype(dtype)) for y in (p, q))
        for function in (fe.kl_divergence, fe.js_divergence, fe.categorical_cross_entropy):
            for rule in ("check", "rescale"):
                want = function(a.reshape(-1), b.reshape(-1), row_sums=rule, **flat)
                same(function(a, b, row_sums=rule, **whole), want)
        same(fe.entropy(a, **whole), fe.entropy(a.reshape(-1), **flat))
        same(fe.entropy(a, keepdims=True, **whole), np.full((1, 1, 1), fe.entropy(a, **whole)))
        want = fe.categorical_cross_entropy(
            a.reshape(-1), b.reshape(-1), sample_weight=terms.reshape(-1), **flat
        )
        same(fe.categorical_cross_entropy(a, b, sample_weight=there(terms), **whole), want)
    label = np.prod(shape) - 1
    want = fe.sparse_cross_entropy(label, x.reshape(-1), kind="logits", **flat)
    same(fe.sparse_cross_entropy(label, there(x), kind="logits", **whole), want)
    if engine == "cython":
        want = fe.focal_cross_entropy(
            label, x.reshape(-1), kind="logits", sample_weight=terms.reshape(-1)
        )
        same(
            fe.focal_cross_entropy(
                label, there(x), kind="logits", sample_weight=there(terms), axis=None
            ),
            want,
        )
        same(
            fe.total_variation(p, there(q), axis=None),
            fe.total_variation(p.reshape(-1), q.reshape(-1)),
        )
        acc = fe.Accumulator("js_divergence", task="divergence", axis=None).update(p, there(q))
        same(acc.compute()["js_divergence"].value, fe.js_divergence(p, q, axis=None))
        acc = fe.Accumulator("js_divergence", task="divergence", axis=None)
        assert fe.Accumulator.from_state_dict(acc.state_dict()).merge(acc) is not acc


def test_no_copy_of_what_is_broadcast():
    p = np.random.default_rng(0).dirichlet(np.ones(1000), 4000)
    out = np.empty(4000)
    for a, b in ((p, p[0]), (p[0], p), (p[:40, None], p[None, :100])):
        room = out if a.ndim + b.ndim == 3 else np.empty((40, 100))
        fe.kl_divergence(a, b, out=room)
        tracemalloc.start()
        fe.kl_divergence(a, b, out=room)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000


@pytest.mark.parametrize(
    ("call", "error", "needles"),
    [
        (
            lambda: fe.kl_divergence(P, distributions((3,))),
            ValueError,
            [f"({N}, {C})", f"(3, {C})"],
        ),
        (
            lambda: fe.kl_divergence(P, np.full((N, 1), 1.0)),
            ValueError,
            [f"({N}, {C})", f"({N}, 1)"],
        ),
        (lambda: fe.js_divergence(P, [1.0]), ValueError, [f"({N}, {C})", "(1,)"]),
        (lambda: fe.js_divergence(P, 1.0), ValueError, ["scalar"]),
        (
            lambda: fe.kl_divergence(P, P.reshape(-1), axis=None),
            ValueError,
            [f"({N}, {C})", f"({N * C},)"],
        ),
        (
            lambda: fe.sparse_cross_entropy(np.zeros(3, int), P),
            ValueError,
            [f"({N},)", "(3,)", f"({N}, {C})"],
        ),
        (
            lambda: fe.sparse_cross_entropy(np.zeros((C, C), int), np.full((C, C), 1 / C)),
            ValueError,
            ["categorical"],
        ),
        (lambda: fe.sparse_cross_entropy([0], P, axis=None), ValueError, ["(1,)", f"({N}, {C})"]),
        (
            lambda: fe.binary_cross_entropy(np.zeros(N), np.full((N, 1), 0.5)),
            ValueError,
            ["pred[..., 0]"],
        ),
        (
            lambda: fe.binary_cross_entropy(np.zeros((N, 1)), np.full(N, 0.5)),
            ValueError,
            [f"({N}, 1)"],
        ),
        (
            lambda: fe.binary_focal_cross_entropy(np.zeros((N, 1)), np.full(N, 0.5)),
            ValueError,
            [f"({N}, 1)"],
        ),
        (
            lambda: fe.kl_divergence(P, P, out=np.empty((N, 1))),
            ValueError,
            [f"({N},)", f"({N}, 1)"],
        ),
        (lambda: fe.kl_divergence(P, P[0], out=np.empty(())), ValueError, [f"({N},)", "()"]),
        (lambda: fe.entropy(P, keepdims=True, reduction="sum"), ValueError, ["keepdims", "sum"]),
        (lambda: fe.entropy(P, keepdims=1), TypeError, ["keepdims"]),
        (lambda: fe.entropy(P, keepdims="yes"), TypeError, ["keepdims"]),
        (
            lambda: fe.entropy(P, keepdims=True, out=np.empty(N)),
            ValueError,
            [f"({N}, 1)", f"({N},)"],
        ),
        (lambda: fe.entropy(0.5, axis=None), ValueError, ["scalar"]),
        (lambda: fe.entropy(np.zeros((0, 3)), axis=None), ValueError, ["at least one class"]),
        (lambda: fe.focal_cross_entropy(np.zeros(3, int), P, ignore_index=1), ValueError, ["(3,)"]),
        (lambda: fe.Accumulator("accuracy").update(np.zeros(3, int), P), ValueError, ["(3,)"]),
        (
            lambda: fe.Accumulator("kl_divergence", task="divergence").update(P, P[0], groups=[1]),
            ValueError,
            ["groups"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_shapes(call, error, needles):
    with pytest.raises(error) as refused:
        call()
    assert all(needle in str(refused.value) for needle in needles) and "\n" not in str(
        refused.value
    )


P = distributions((N,))


def test_bad_rows_are_named_by_their_place_in_the_whole():
    bad = distributions((M,))
    bad[2, 1] = -1
    with pytest.raises(ValueError, match=r"q: .* in row \(0, 2\)"):
        fe.kl_divergence(distributions((N, 1)), bad)
    with pytest.raises(ValueError, match=r"labels: .* got 9 in row \(1, 0\)"):
        fe.sparse_cross_entropy([[0], [9]], distributions((M,)))


@pytest.mark.parametrize("function", [fe.renyi_entropy, fe.tsallis_entropy])
def test_entropies_of_an_order(function):
    p = distributions((2, 3))
    want = function(p, 2.0)
    same(function(p, 2.0, keepdims=True), want[..., None])
    moved = np.moveaxis(p, -1, 0)
    same(function(moved, 2.0, axis=0, keepdims=True), want[None])
    whole = p / p.sum()
    same(function(np.asfortranarray(whole), 2.0, axis=None), function(whole.reshape(-1), 2.0))
    assert function(whole, 2.0, axis=None, keepdims=True).shape == (1, 1, 1)
    with pytest.raises(ValueError, match="keepdims"):
        function(p, 2.0, keepdims=True, reduction="sum")
