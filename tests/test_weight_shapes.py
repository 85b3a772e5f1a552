"""The number of axes of a weight says whether it weighs rows or terms, on every path alike; groups,
clusters, labels and names of options are settled once, too."""

import enum
import itertools

import numpy as np
import pytest

import fastent as fe
import fastent.dask

LEADS = [(), (4,), (3, 4), (1, 3)]
CLASSES = 4
TERMS = ("sparse", "categorical")


def plain_divergence(p, q):
    return (p - q) ** 2


OWN = fe.divergence(plain_divergence)


def operands(task, lead):
    rng = np.random.default_rng(len(lead))
    p, q = rng.dirichlet(np.full(CLASSES, 2.0), (2, *lead))
    if task == "binary":
        return p[..., 0], q[..., 0]
    return (rng.integers(0, CLASSES, lead), q) if task == "sparse" else (p, q)


def by_function(name):
    function = OWN if name == "own" else getattr(fe, name)

    def weighted(args, weight):
        args = args[1:] if name == "entropy" else args
        return np.sum(function(*args, sample_weight=weight))

    return weighted


def by_accumulator(task):
    metric = "kl_divergence" if task == "divergence" else "cross_entropy"

    def weighted(args, weight):
        acc = fe.Accumulator(metric, task=task).update(*args, weight)
        found = acc.compute()[metric]
        return found.value * found.weight if found.weight else 0.0

    return weighted


def by_dask(name):
    def weighted(args, weight):
        lazy = getattr(fastent.dask, name)(*args, sample_weight=weight, reduction="sum")
        return lazy.compute(scheduler="sync")

    return weighted


def by_gradient(function):
    """The sum of absolute derivatives, which a row's weight multiplies."""

    def weighted(args, weight):
        x = np.log(args[1]) if function is fe.cross_entropy_gradient else args[1]
        return np.abs(function(args[0], x, sample_weight=weight)).sum()

    return weighted


PATHS = {
    "sparse_cross_entropy": ("sparse", by_function),
    "categorical_cross_entropy": ("categorical", by_function),
    "binary_cross_entropy": ("binary", by_function),
    "kl_divergence": ("divergence", by_function),
    "js_divergence": ("divergence", by_function),
    "entropy": ("divergence", by_function),
    "total_variation": ("divergence", by_function),
    "own": ("divergence", by_function),
    "focal_cross_entropy": ("sparse", by_function),
    "binary_focal_cross_entropy": ("binary", by_function),
    "dask sparse_cross_entropy": ("sparse", by_dask),
    "dask binary_cross_entropy": ("binary", by_dask),
    "dask kl_divergence": ("divergence", by_dask),
    **{f"accumulator {t}": (t, by_accumulator) for t in (*TERMS, "binary", "divergence")},
    "cross_entropy_gradient": ("sparse", by_gradient),
    "binary_cross_entropy_gradient": ("binary", by_gradient),
}


def path(name):
    task, make = PATHS[name]
    if make is by_gradient:
        return task, make(getattr(fe, name))
    return task, make(name.split()[-1])


def shapes(lead):
    """Everything that could be mistaken for a weight's shape."""
    sizes = {1, CLASSES, 3, *lead}
    few = [s for n in range(len(lead) + 2) for s in itertools.product(sorted(sizes), repeat=n)]
    return [*few, (1, *lead, CLASSES), (*lead, CLASSES, 1)]


@pytest.mark.parametrize("name", PATHS)
def test_the_number_of_axes_decides(name):
    task, weighted = path(name)
    for lead in LEADS:
        args = operands(task, lead)
        full = args[1].shape
        by_row = {
            i: weighted(args, np.arange(np.prod(lead, dtype=int)).reshape(lead) == i)
            for i in range(int(np.prod(lead)))
        }
        for shape in shapes(lead):
            weight = np.random.default_rng(7).uniform(0.5, 2, shape)
            if task in TERMS and shape == full:
                value = weighted(args, weight)
                if task == "sparse":
                    chosen = np.take_along_axis(weight, args[0][..., None], -1)[..., 0]
                    assert value == pytest.approx(sum(
                        w * by_row[i] for i, w in enumerate(chosen.reshape(-1))
                    ))  # fmt: skip
                continue
            fits = len(shape) <= len(lead) and all(
                a in (1, b) for a, b in zip(shape[::-1], lead[::-1], strict=False)
            )
            if fits:
                each = np.broadcast_to(weight, lead).reshape(-1)
                expected = sum(w * by_row[i] for i, w in enumerate(each))
                assert weighted(args, weight) == pytest.approx(expected), (lead, shape)
                continue
            with pytest.raises(ValueError, match="sample_weight: expected shape") as refused:
                weighted(args, weight)
            for said in (lead, shape):
                assert str(said) in str(refused.value)


def test_term_weights_of_targets_and_other_axes():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4), (2, 5))
    w = rng.random((5, 4))
    expected = -(w * p * np.log(q)).sum(-1)
    for axis, move in ((-1, lambda a: a), (0, lambda a: a.T)):
        args = move(p), move(q)
        found = fe.categorical_cross_entropy(*args, sample_weight=move(w), axis=axis)
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        labels = p.argmax(-1)
        found = fe.focal_cross_entropy(labels, args[1], gamma=0, sample_weight=move(w), axis=axis)
        picked = (w * -np.log(q))[np.arange(5), labels]
        np.testing.assert_allclose(found, picked, rtol=1e-13)


def test_wrong_weights_of_terms_are_named_by_row():
    w = np.ones((3, 2))
    w[2, 1] = -1
    pred = np.full((3, 2), 0.5)
    for call in (fe.sparse_cross_entropy, fe.focal_cross_entropy, fe.cross_entropy_gradient):
        with pytest.raises(ValueError, match=r"sample_weight: .* got -1.0 in row 2$"):
            call([0, 1, 0], pred, sample_weight=w)


class Lang(str, enum.Enum):  # noqa: UP042  (the kind that prints as "Lang.DE")
    DE = "de"
    FR = "fr"


def names_of(groups, lead=(4,)):
    pred = np.full((*lead, 2), 0.5)
    acc = fe.Accumulator("accuracy").update(np.zeros(lead, int), pred, groups=groups)
    return {name: part["accuracy"].count for name, part in acc.compute().groups.items()}


def test_groups_broadcast_to_the_leading_shape():
    for given in ([["a"], ["b"]], np.array([["a"], ["b"]]), np.array([["a"], ["b"]], object)):
        assert names_of(given, (2, 3)) == {"a": 3, "b": 3}
    assert names_of([4, 5, 4], (2, 3)) == {4: 4, 5: 2}
    assert names_of(np.arange(6), (2, 3)) == dict.fromkeys(range(6), 1)
    assert names_of(np.asfortranarray(np.arange(6).reshape(2, 3)), (2, 3)).keys() == set(range(6))
    assert names_of("de") == names_of(Lang.DE) == {"de": 4}
    assert names_of(7, ()) == {7: 1}
    for wrong in ([1, 2, 3], np.ones((4, 1), int), [[1, 2, 3, 4]] * 2):
        with pytest.raises(ValueError, match="groups: expected"):
            names_of(wrong)
    with pytest.raises(ValueError, match="clusters: expected"):
        fe.Accumulator("accuracy").update([0, 0], [[0.5, 0.5]] * 2, clusters=[[1], [2]])


def test_groups_by_any_kind_of_string():
    for names in ([Lang.DE, Lang.FR] * 2, np.array([Lang.DE, Lang.FR] * 2, object)):
        assert names_of(names) == {"de": 2, "fr": 2}
    assert names_of([np.str_("de"), "fr"] * 2) == {"de": 2, "fr": 2}
    assert names_of(np.array([b"de", b"fr"] * 2)) == {"de": 2, "fr": 2}
    with pytest.raises(
        ValueError, match=r"groups: expected strings or bytes in ASCII, .* in row 1"
    ):
        names_of(np.array([b"de", "é".encode()] * 2))
    masked = np.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0])
    for name in ("groups", "clusters", "sample_weight"):
        with pytest.raises(TypeError, match=f"{name}: .*masked"):
            pred = np.full((4, 2), 0.5)
            fe.Accumulator("accuracy").update(np.zeros(4, int), pred, **{name: masked})
    assert names_of(np.ma.array([1, 2, 1, 1])) == {1: 3, 2: 1}


class Word(enum.StrEnum):
    SPARSE, PROBS, CHECK, MEAN, NUMPY = "sparse", "probs", "check", "mean", "numpy"
    ACCURACY = "accuracy"


def test_names_of_options_are_strings_of_any_kind():
    labels, pred = [0, 1], np.array([[0.25, 0.75], [0.5, 0.5]])
    want = fe.sparse_cross_entropy(labels, pred, reduction="mean", backend="numpy")
    for kind in (lambda name: name, lambda name: np.str_(name.value)):
        got = fe.sparse_cross_entropy(
            labels, pred, kind=kind(Word.PROBS), row_sums=kind(Word.CHECK),
            reduction=kind(Word.MEAN), backend=kind(Word.NUMPY),
        )  # fmt: skip
        assert got == want
        kinds = (kind(Word.PROBS), "probs")
        assert fe.kl_divergence(pred, pred, kind=kinds, reduction=kind(Word.MEAN)) == 0
        assert fe.total_variation(pred, pred, kind=kinds, reduction=kind(Word.MEAN)) == 0
        fe.binary_focal_cross_entropy(labels, [0.5, 0.5], reduction=kind(Word.MEAN))
        acc = fe.Accumulator(
            kind(Word.ACCURACY), task=kind(Word.SPARSE), kind=kind(Word.PROBS),
            row_sums=kind(Word.CHECK), backend=kind(Word.NUMPY),
        ).update(labels, pred)  # fmt: skip
        assert acc.compute()["accuracy"].value == 0
        settings = acc.state_dict()["settings"]
        assert [type(settings[name]) for name in ("task", "kind", "row_sums")] == [str] * 3
        assert type(settings["metrics"][0]) is str
        fe.set_backend(kind(Word.NUMPY))
        try:
            assert type(fe.show_config()["backend"]) is str
        finally:
            fe.set_backend(None)
    for wrong in (3, None, ["mean"], Word.PROBS):
        with pytest.raises(ValueError, match="reduction: expected"):
            fe.entropy(pred, reduction=wrong)


@pytest.mark.parametrize(
    "function",
    [fe.sparse_cross_entropy, fe.focal_cross_entropy, fe.cross_entropy_gradient, fe.Accumulator],
)
def test_ignore_index_is_a_whole_number(function):
    def call(index):
        if function is fe.Accumulator:
            return fe.Accumulator("accuracy", ignore_index=index)
        return function([0, 1], [[0.5, 0.5]] * 2, ignore_index=index)

    for index in (np.int8(1), np.uint64(1), 2**63 - 1, -(2**63) + 1):
        call(index)
    for index in (1.0, "1", True, [1, 2], np.ones(2)):
        with pytest.raises(TypeError, match="ignore_index: expected an integer"):
            call(index)
    for index in (2**64 - 1, -(2**70)):
        with pytest.raises(ValueError, match="ignore_index: expected an integer"):
            call(index)


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_index": 1},
        {"ignore_index": 2},
        {"class_weight": [1.0, 2.0, 3.0]},
        {"sample_weight": 2.0},
        {"sample_weight": [1.0, 2.0, 3.0]},
    ],
    ids=str,
)
def test_focal_loss_of_one_row(options):
    row = [0.5, 0.25, 0.25]
    many = {k: [v] if k == "sample_weight" else v for k, v in options.items()}
    for reduction in ("none", "mean"):
        found = fe.focal_cross_entropy(1, row, reduction=reduction, **options)
        assert np.shape(found) == ()
        several = np.ravel(fe.focal_cross_entropy([1], [row], reduction=reduction, **many))
        np.testing.assert_array_equal(found, several[0])
    gradient = fe.cross_entropy_gradient(1, row, **options)
    np.testing.assert_array_equal(gradient, fe.cross_entropy_gradient([1], [row], **many)[0])
    with pytest.raises(ValueError, match=r"labels: expected classes in .0, 3., got 3 in row 0"):
        fe.focal_cross_entropy(3, row, **options)
