"""Keywords that do not apply or are out of range: an error of one line that names them."""

import cases
import numpy as np
import pytest
from cases import ordinary
from failing import EITHER, fails

import fastent as fe

NAN, INF = np.nan, np.inf
HALF = np.full((4, 2), 0.5)
LOGITS = np.zeros((4, 2))

ALL = dict(
    label_smoothing=0.1,
    class_weight=[1.0, 2.0],
    ignore_index=0,
    temperature=2.0,
    eps=1e-3,
    row_sums="rescale",
    axis=0,
)
MISFITS = [
    ("kl_divergence", "label_smoothing"),
    ("kl_divergence", "class_weight"),
    ("kl_divergence", "ignore_index"),
    ("js_divergence", "label_smoothing"),
    ("js_divergence", "class_weight"),
    ("js_divergence", "ignore_index"),
    ("entropy", "label_smoothing"),
    ("entropy", "class_weight"),
    ("entropy", "ignore_index"),
    ("binary_cross_entropy", "class_weight"),
    ("binary_cross_entropy", "ignore_index"),
    ("binary_cross_entropy", "row_sums"),
    ("binary_cross_entropy", "axis"),
    ("categorical_cross_entropy", "ignore_index"),
]


@pytest.mark.parametrize(("function", "keyword"), MISFITS)
def test_keywords_that_do_not_apply_to_the_function(function, keyword, engine):
    args = ordinary(function, "probs", np.float64, (4, 2))
    with fails(EITHER, keyword):
        getattr(fe, function)(*args, **{keyword: ALL[keyword]}, backend=engine)


@pytest.mark.parametrize("function", cases.FUNCTIONS)
def test_keywords_that_do_not_apply_to_the_kind(function, engine):
    for kind in ("probs", "logprobs"):
        args = ordinary(function, kind, np.float64, (4, 2))
        with fails(EITHER, "temperature", "logits"):
            cases.call(function, args, kind, temperature=2.0, backend=engine)
    if function != "binary_cross_entropy":
        args = ordinary(function, "logits", np.float64, (4, 2))
        pure = ("logits", "logits") if function == "categorical_cross_entropy" else "logits"
        args = (LOGITS, LOGITS) if function == "categorical_cross_entropy" else args
        for rule in ("rescale", "as_is"):
            with fails(EITHER, "row_sums"):
                cases.call(function, args, pure, row_sums=rule, backend=engine)


@pytest.mark.parametrize("function", cases.FUNCTIONS)
def test_unknown_keywords_and_names(function, engine):
    args = ordinary(function, "probs", np.float64, (4, 2))
    go = getattr(fe, function)
    with fails(TypeError, "smoothing"):
        go(*args, smoothing=0.1, backend=engine)
    with fails(EITHER, "kind", "logit"):
        go(*args, kind="logit", backend=engine)
    for bad in (None, 3, ("probs",), ("probs", "probs", "probs"), ("probs", "prob"), ["x"]):
        with fails(EITHER, "kind"):
            go(*args, kind=bad, backend=engine)
    with fails(EITHER, "reduction", "max"):
        go(*args, reduction="max", backend=engine)
    with fails(EITHER, "backend", "fortran"):
        go(*args, backend="fortran")
    if function != "binary_cross_entropy":
        with fails(EITHER, "row_sums", "never"):
            go(*args, row_sums="never", backend=engine)


@pytest.mark.parametrize("function", ["sparse_cross_entropy", "binary_cross_entropy", "entropy"])
def test_one_distribution_takes_one_kind(function, engine):
    args = ordinary(function, "probs", np.float64, (4, 2))
    with fails(EITHER, "kind"):
        cases.call(function, args, ("probs", "probs"), backend=engine)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("eps", [-1e-9, 0.5, 0.7, NAN, INF, "small", None]),
        ("label_smoothing", [-0.1, 1.1, NAN, "some", None]),
        ("base", [1, 1.0, 0, -2, NAN, INF, "e", "2"]),
        ("num_threads", [0, -1, 1.5, "two", "2", True]),
    ],
)
def test_keyword_values_out_of_range(keyword, values, engine):
    for value in values:
        with fails(EITHER, keyword):
            fe.sparse_cross_entropy([0] * 4, HALF, **{keyword: value}, backend=engine)


def test_keywords_beside_the_engine():
    with fails(TypeError, "label_smoothing"):
        fe.cross_entropy_gradient([0] * 4, HALF, label_smoothing="0.1")
    with fails(TypeError, "alpha"):
        fe.binary_focal_cross_entropy([0.5], [0.5], alpha="1")
    with fails(TypeError, "alpha"):
        fe.renyi_divergence(HALF, HALF, "2")
    for bad in (3, "x", True):
        with fails(EITHER, "axis"):
            fe.population_stability_index([1, 2], [2, 1], axis=bad)
        with fails(EITHER, "axis"):
            fe.focal_cross_entropy([0] * 4, HALF, axis=bad, sample_weight=1.0)


@pytest.mark.parametrize("value", [0, -1, NAN, INF, "hot", None])
def test_temperature_out_of_range(value, engine):
    with fails(EITHER, "temperature"):
        fe.entropy(LOGITS, kind="logits", temperature=value, backend=engine)


def test_ignore_index_is_an_integer(engine):
    for bad in (0.5, "x", NAN):
        with fails(EITHER, "ignore_index"):
            fe.sparse_cross_entropy([0] * 4, HALF, ignore_index=bad, backend=engine)


def test_out(engine):
    for bad in (np.zeros(3), np.zeros(4, np.float32), np.zeros((4, 1)), np.zeros(4, int)):
        with fails(EITHER, "out"):
            fe.entropy(HALF, out=bad, backend=engine)
    locked = np.zeros(4)
    locked.setflags(write=False)
    for bad in (locked, [0.0] * 4, 1.0):
        with fails(EITHER, "out"):
            fe.entropy(HALF, out=bad, backend=engine)
