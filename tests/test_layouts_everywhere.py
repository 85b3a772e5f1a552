"""What takes arrays takes them from any memory, and gives the bits of plain ones or refuses alike:
operands, weights, labels, groups and outputs of every public function."""

import dask.array
import memory_layouts
import numpy as np
import pytest

import fastent as fe
import fastent.dask
from fastent.compat import scipy, sklearn

RNG = np.random.default_rng(11)
N, C = 6, 5
P, Q = RNG.dirichlet(np.ones(C), (2, 2, N))
X = RNG.normal(size=(2, N, C))
Y = RNG.integers(0, C, (2, N))
T, B = RNG.random((2, 2, N))
W, TERMS, RATES = RNG.random((2, N)), RNG.random((2, N, C)), RNG.random(C)
NAMES = RNG.integers(0, 3, (2, N))
HARD = RNG.integers(0, 2, N)
BACKENDS = ("cython", "numba", "numpy")


@fe.divergence
def squares(p, q):
    return (p - q) ** 2


def accumulated(task, true, pred, kind="probs", **more):
    metrics = [m for m in fe.metrics.names(task) if "{" not in m]
    if "clusters" not in more:
        metrics = [m for m in metrics if m != "sequence_cross_entropy"]
    acc = fe.Accumulator(metrics, task=task, kind=kind)
    return repr(acc.update(true, pred, **more).state_dict())


def by_backend(function, **fixed):
    """The values of every backend, side by side; with `out` those of the first."""

    def call(*args, **more):
        if "out" in more:
            return function(*args, **fixed, **more)
        return np.array([function(*args, backend=b, **fixed, **more) for b in BACKENDS])

    return call


def plain(name):
    """The values that `out` gets."""
    call, operands, more = CALLS[name]
    found = np.asarray(call(*operands, **more))
    return found[0] if call.__qualname__.startswith("by_backend") else found


def lazily(function, **fixed):
    def call(*args, **more):
        return function(*args, **fixed, **more).compute(scheduler="sync")

    return call


LOGITS = {"kind": "logits"}
WEIGHED = {"sample_weight": W}
# name: (call, operands, other arrays by keyword)
CALLS = {
    "sparse": (by_backend(fe.sparse_cross_entropy, **LOGITS), (Y, X), WEIGHED),
    "sparse, classes": (by_backend(fe.sparse_cross_entropy), (Y, Q), {"class_weight": RATES}),
    "sparse, terms": (by_backend(fe.sparse_cross_entropy), (Y, Q), {"sample_weight": TERMS}),
    "categorical": (by_backend(fe.categorical_cross_entropy), (P, Q), WEIGHED),
    "categorical, terms": (
        by_backend(fe.categorical_cross_entropy, **LOGITS),
        (P, X),
        {"sample_weight": TERMS, "class_weight": RATES},
    ),
    "binary": (by_backend(fe.binary_cross_entropy), (T, B), WEIGHED),
    "kl": (by_backend(fe.kl_divergence), (P, Q), WEIGHED),
    "kl of logits": (by_backend(fe.kl_divergence, **LOGITS), (X, X[::-1]), WEIGHED),
    "js": (by_backend(fe.js_divergence), (P, Q), WEIGHED),
    "entropy": (by_backend(fe.entropy), (P,), WEIGHED),
    "sparse, broadcast": (by_backend(fe.sparse_cross_entropy), (Y[:1], Q[:, :1]), WEIGHED),
    "kl, broadcast": (by_backend(fe.kl_divergence), (P[:, :1], Q[:1]), WEIGHED),
    "js of one row": (by_backend(fe.js_divergence, **LOGITS), (X[0, 0], X), WEIGHED),
    "binary, broadcast": (by_backend(fe.binary_cross_entropy), (T[:1], B), WEIGHED),
    "own, broadcast": (squares, (P[:, :1], Q[:1]), WEIGHED),
    "total_variation": (fe.total_variation, (P, Q), WEIGHED),
    "renyi": (lambda p, q, **more: fe.renyi_divergence(p, q, 2.0, **more), (P, Q), WEIGHED),
    "own": (squares, (P, Q), WEIGHED),
    "focal": (fe.focal_cross_entropy, (Y, Q), {"sample_weight": TERMS, "class_weight": RATES}),
    "focal, ignored": (
        lambda *args, **more: fe.focal_cross_entropy(*args, ignore_index=1, **more),
        (Y, Q),
        WEIGHED,
    ),
    "focal, soft": (fe.focal_cross_entropy, (P, Q), WEIGHED),
    "binary focal": (fe.binary_focal_cross_entropy, (T, B), WEIGHED),
    "gradient": (
        lambda *args, **more: fe.cross_entropy_gradient(*args, ignore_index=1, **more),
        (Y, X),
        {"sample_weight": W, "class_weight": RATES},
    ),
    "gradient, soft": (fe.cross_entropy_gradient, (P, X), {"sample_weight": TERMS}),
    "gradient, binary": (fe.binary_cross_entropy_gradient, (T, X[..., 0]), WEIGHED),
    "mutual information": (fe.mutual_information, (P,), {}),
    "conditional entropy": (fe.conditional_entropy, (P,), {}),
    "stability": (fe.population_stability_index, (P, Q), {}),
    "gaussian": (fe.gaussian_entropy, (P,), {}),
    "gaussian kl": (fe.gaussian_kl_divergence, (X, P, X[::-1], Q), {}),
    "scipy entr": (scipy.entr, (P,), {}),
    "scipy rel_entr": (scipy.rel_entr, (P, Q), {}),
    "scipy kl_div": (scipy.kl_div, (P, Q), {}),
}
WITHOUT_OUT = {
    "entropy, whole": (by_backend(fe.entropy, axis=None, row_sums="rescale"), (P,), {}),
    "scipy entropy": (lambda p, q: scipy.entropy(p, q, axis=-1), (P, Q), {}),
    "scipy jensenshannon": (lambda p, q: scipy.jensenshannon(p, q, axis=-1), (P, Q), {}),
    "scipy logsumexp": (lambda a, b: scipy.logsumexp(a, -1, b), (X, P), {}),
    "scipy softmax": (lambda x: scipy.softmax(x, 1), (X,), {}),
    "scipy log_softmax": (lambda x: scipy.log_softmax(x, -1), (X,), {}),
    "log_loss": (sklearn.log_loss, (HARD, B[0]), {"sample_weight": W[0]}),
    "d2_log_loss_score": (sklearn.d2_log_loss_score, (HARD, B[0]), {"sample_weight": W[0]}),
    "brier_score_loss": (sklearn.brier_score_loss, (HARD, B[0]), {"sample_weight": W[0]}),
    "accumulator, sparse": (
        lambda *args, **more: accumulated("sparse", *args, **LOGITS, **more),
        (Y, X),
        {"sample_weight": W, "groups": NAMES, "clusters": NAMES},
    ),
    "accumulator, terms": (
        lambda *args, **more: accumulated("sparse", *args, **more),
        (Y, Q),
        {"sample_weight": TERMS, "groups": np.array(list("abc"))[NAMES]},
    ),
    "accumulator, categorical": (
        lambda *args, **more: accumulated("categorical", *args, **more),
        (P, Q),
        {"sample_weight": TERMS},
    ),
    "accumulator, binary": (
        lambda *args, **more: accumulated("binary", *args, **more),
        (T, B),
        WEIGHED,
    ),
    "accumulator, divergence": (
        lambda *args, **more: accumulated("divergence", *args, **more),
        (P, Q),
        WEIGHED,
    ),
    "dask": (lazily(fastent.dask.sparse_cross_entropy, reduction="mean"), (Y, Q), WEIGHED),
    "dask kl": (lazily(fastent.dask.kl_divergence), (P, Q), WEIGHED),
    "dask accumulate": (
        lambda *args, **more: repr(
            fastent.dask.accumulate(["cross_entropy", "accuracy"], *args, **more)
            .compute(scheduler="sync")
            .state.to_dict()
        ),
        (Y, Q),
        {"sample_weight": W, "groups": NAMES},
    ),
}
EVERY = CALLS | WITHOUT_OUT


def bits(found):
    return found if isinstance(found, str) else np.asarray(found).tobytes()


def moved(operands, more, place):
    """Each operand elsewhere by itself, then all of them."""
    arrays = [*operands, *more.values()]
    places = [place(a) for a in arrays]
    choices = [[i] for i in range(len(arrays))] + ([range(len(arrays))] if len(arrays) > 1 else [])
    for chosen in choices:
        here = [places[i] if i in chosen else a for i, a in enumerate(arrays)]
        yield here[: len(operands)], dict(zip(more, here[len(operands) :], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_any_memory(name, tmp_path):
    call, operands, more = EVERY[name]
    want = bits(call(*operands, **more))
    for layout in memory_layouts.layouts(X, tmp_path):

        def place(a, layout=layout):
            return memory_layouts.layouts(a, tmp_path).get(layout, a)

        for args, keywords in moved(operands, more, place):
            before = [np.array(a) for a in args]
            assert bits(call(*args, **keywords)) == want, layout
            for a, b in zip(args, before, strict=True):
                np.testing.assert_array_equal(a, b)  # never written to


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_views_that_repeat_themselves(name):
    call, operands, more = EVERY[name]

    def repeat(a):
        return np.broadcast_to(a[:1, :1], a.shape) if a.ndim > 1 else a

    args, keywords = list(moved(operands, more, lambda a: np.array(repeat(a))))[-1]
    want = bits(call(*args, **keywords))
    args, keywords = list(moved(operands, more, repeat))[-1]
    assert bits(call(*args, **keywords)) == want


@pytest.mark.parametrize(
    "name", [n for n in EVERY if EVERY[n][0].__module__ != sklearn.__name__ and "scipy" not in n]
)
def test_masked_operands_are_refused(name):
    call, operands, more = EVERY[name]

    def mask(a):
        return np.ma.array(a, mask=np.arange(a.size).reshape(a.shape) == 2)

    arrays = len(operands) + len(more)
    for args, keywords in list(moved(operands, more, mask))[:arrays]:
        with pytest.raises(TypeError, match="masked"):
            call(*args, **keywords)


def rooms(a, want):
    """Outputs that share memory with an equal array in as many ways: (array, output)."""
    size, items = want.size, a.size
    if want.itemsize != a.itemsize:
        return
    for shift in (0, 1, 3, items - 1, items // 2):
        for step in (1, 2, -1):
            room = np.zeros(items + 2 * size + 8, a.dtype)
            inside = room[size : size + items].reshape(a.shape)
            inside[...] = a
            start = size + shift if step > 0 else min(size + shift + size, room.size) - 1
            stop = start + step * size
            cut = room[start : stop if stop >= 0 else None : step]
            if cut.size == size:
                yield inside, cut.reshape(want.shape)
    same = a.copy()
    if want.shape == a.shape:
        yield same, same
        other = a.copy(order="F")
        yield other, other


@pytest.mark.parametrize("name", CALLS)
def test_outputs_that_overlap_an_operand(name):
    call, operands, more = CALLS[name]
    arrays = [*operands, *more.values()]
    want = plain(name)
    for k, a in enumerate(arrays):
        for inside, room in rooms(a.astype(np.float64) if a.dtype.kind == "i" else a, want):
            here = [inside if i == k else b for i, b in enumerate(arrays)]
            found = call(
                *here[: len(operands)],
                **dict(zip(more, here[len(operands) :], strict=True)),
                out=room,
            )
            assert found is room
            assert bits(found) == bits(want), (k, room.strides)


@pytest.mark.parametrize("name", CALLS)
def test_outputs_anywhere(name, tmp_path):
    call, operands, more = CALLS[name]
    want = plain(name)
    for layout, room in memory_layouts.layouts(np.zeros(want.shape), tmp_path).items():
        foreign = not room.dtype.isnative and not name.startswith("scipy")
        if not room.flags.writeable or foreign:
            with pytest.raises((TypeError, ValueError), match=r"out|read-only"):
                call(*operands, **more, out=room)
            continue
        call(*operands, **more, out=room)
        assert bits(room.astype(want.dtype)) == bits(want), layout


def test_dask_arrays_of_masked_blocks():
    masked = dask.array.from_array(np.ma.array(Q, mask=Q == Q.max()), chunks=(1, N, C))
    with pytest.raises(TypeError, match="masked"):
        fastent.dask.entropy(masked).compute(scheduler="sync")
