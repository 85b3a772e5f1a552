"""Bad input: one line, the right class, the argument's name and the first bad row."""

import numpy as np
import pytest
from failing import EITHER, fails

import fastent as fe

NAN, INF = np.nan, np.inf
HALF = np.full((4, 2), 0.5)
CUBE = np.full((2, 3, 2), 0.5)
LOGITS = np.zeros((4, 2))


def spoil(a, place, value):
    a = a.copy()
    a[place] = value
    return a


# ------------------------------------------------------------- values, with the first bad row


@pytest.mark.parametrize("label", [2, 7, -1, -100, 2**31, 2**40, -(2**62)])
def test_labels_out_of_range(label, engine):
    labels = np.array([0, 1, label, label])
    with fails(ValueError, "labels", "row 2", str(label)):
        fe.sparse_cross_entropy(labels, HALF, backend=engine)
    with fails(ValueError, "labels", "(1, 1)", str(label)):
        cube = spoil(np.zeros((2, 3), np.int64), (1, slice(1, None)), label)
        fe.sparse_cross_entropy(cube, CUBE, backend=engine)


def test_labels_of_unsigned_types_do_not_wrap(engine):
    with fails(ValueError, "labels", "row 1", str(2**64 - 1)):
        fe.sparse_cross_entropy(np.array([0, 2**64 - 1, 0, 0], np.uint64), HALF, backend=engine)
    with fails(ValueError, "labels", "row 3", "255"):
        fe.sparse_cross_entropy(np.array([0, 1, 1, 255], np.uint8), HALF, backend=engine)


def test_labels_that_are_no_integers(engine):
    with fails(EITHER, "labels", "row 1", "0.5"):
        fe.sparse_cross_entropy(np.array([0, 0.5, 1, 1]), HALF, backend=engine)
    for bad in (NAN, INF, -INF):
        with fails(EITHER, "labels", "row 1"):
            fe.sparse_cross_entropy(np.array([0, bad, 1, 1]), HALF, backend=engine)
    whole = fe.sparse_cross_entropy(np.array([0.0, 1, 1, 1]), HALF, backend=engine)
    assert whole.shape == (4,)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_negative_probabilities(dtype, engine):
    bad = spoil(HALF, (2, slice(None)), [-0.5, 1.5]).astype(dtype)
    good = HALF.astype(dtype)
    labels = np.zeros(4, int)
    with fails(ValueError, "pred", "row 2", "-0.5"):
        fe.sparse_cross_entropy(labels, bad, backend=engine)
    with fails(ValueError, "pred", "row 2", "-0.5"):
        fe.categorical_cross_entropy(good, bad, backend=engine)
    with fails(ValueError, "target", "row 2", "-0.5"):
        fe.categorical_cross_entropy(bad, good, kind="logits", backend=engine)
    with fails(ValueError, "p", "row 2", "-0.5"):
        fe.entropy(bad, backend=engine)
    for function in (fe.kl_divergence, fe.js_divergence):
        with fails(ValueError, "p", "row 2", "-0.5"):
            function(bad, good, backend=engine)
        with fails(ValueError, "q", "row 2", "-0.5"):
            function(good, bad, backend=engine)
        with fails(ValueError, "q", "row 2", "-0.5"):
            function(good, bad, row_sums="rescale", backend=engine)


def test_negative_probabilities_in_wide_rows_and_blocks(engine):
    n, c = 700, 130
    p = np.full((n, c), 1 / c)
    for place in ((0, 0), (1, 129), (511, 64), (512, 1), (699, 129)):
        bad = spoil(p, place, -1 / c)
        with fails(ValueError, f"row {place[0]}"):
            fe.entropy(bad, backend=engine, num_threads=2)
    both = spoil(spoil(p, (600, 3), -1 / c), (300, 7), -1 / c)
    with fails(ValueError, "row 300"):
        fe.kl_divergence(p, both, backend=engine, num_threads=2)


@pytest.mark.parametrize("value", [-0.1, 1.1, -1e-300, np.nextafter(1, 2), INF, -INF])
def test_binary_values_outside_the_unit_interval(value, engine):
    good = np.full(5, 0.25)
    bad = spoil(good, slice(3, None), value)
    with fails(ValueError, "pred", "row 3"):
        fe.binary_cross_entropy(good, bad, backend=engine)
    with fails(ValueError, "target", "row 3"):
        fe.binary_cross_entropy(bad, good, backend=engine)
    with fails(ValueError, "target", "row 3"):
        fe.binary_cross_entropy(bad, good, kind="logits", backend=engine)
    table = spoil(np.full((2, 3), 0.5), (1, 2), value)
    with fails(ValueError, "pred", "(1, 2)"):
        fe.binary_cross_entropy(np.full((2, 3), 0.5), table, backend=engine)


@pytest.mark.parametrize("bad", [-1.0, NAN, -INF, -1e-320])
def test_negative_or_nan_weights(bad, engine):
    labels = np.zeros(4, int)
    w = spoil(np.ones(4), slice(2, None), bad)
    with fails(ValueError, "sample_weight", "row 2"):
        fe.sparse_cross_entropy(labels, HALF, sample_weight=w, backend=engine)
    with fails(ValueError, "sample_weight", "row 2"):
        fe.kl_divergence(HALF, HALF, sample_weight=w, backend=engine)
    with fails(ValueError, "sample_weight", "row 2"):
        fe.binary_cross_entropy(np.ones(4), np.ones(4), sample_weight=w, backend=engine)
    full = spoil(np.ones((4, 2)), (2, 1), bad)
    with fails(ValueError, "sample_weight", "row 2"):
        fe.categorical_cross_entropy(HALF, HALF, sample_weight=full, backend=engine)
    with fails(ValueError, "class_weight", "1"):
        fe.sparse_cross_entropy(labels, HALF, class_weight=[1, bad], backend=engine)


@pytest.mark.parametrize("kind", ["probs", "logprobs"])
def test_row_sums(kind, engine):
    good = HALF if kind == "probs" else np.log(HALF)
    bad = spoil(good, 2, [0.5, 0.503] if kind == "probs" else np.log([0.5, 0.503]))
    labels = np.zeros(4, int)
    hints = ("row 2", "1.003", "kind", "rescale")
    with fails(ValueError, "pred", *hints):
        fe.sparse_cross_entropy(labels, bad, kind=kind, backend=engine)
    with fails(ValueError, "pred", *hints):
        fe.categorical_cross_entropy(HALF, bad, kind=kind, backend=engine)
    with fails(ValueError, "p", *hints):
        fe.kl_divergence(bad, good, kind=kind, backend=engine)
    with fails(ValueError, "q", *hints):
        fe.js_divergence(good, bad, kind=kind, backend=engine)
    with fails(ValueError, "p", *hints):
        fe.entropy(bad, kind=kind, backend=engine)
    if kind == "probs":
        with fails(ValueError, "target", *hints):
            fe.categorical_cross_entropy(bad, LOGITS, kind="logits", backend=engine)


def test_row_sums_of_logits_given_as_probabilities(engine):
    x = np.abs(np.random.default_rng(0).normal(size=(3, 8))) + 1
    with fails(ValueError, "pred", "row 0", "kind", "rescale"):
        fe.sparse_cross_entropy([0, 0, 0], x, backend=engine)


def test_the_tolerance_depends_on_the_dtype_given(engine):
    off = HALF * 1.01
    fe.entropy(off.astype(np.float16), backend=engine)
    with fails(ValueError, "row 0"):
        fe.entropy(off.astype(np.float32), backend=engine)
    with fails(ValueError, "row 0"):
        fe.entropy((off * 1.02).astype(np.float16), backend=engine)


def test_rescale_needs_a_positive_sum(engine):
    bad = spoil(HALF, 1, 0.0)
    with fails(ValueError, "row 1"):
        fe.entropy(bad, row_sums="rescale", backend=engine)
    with fails(ValueError, "q", "row 1"):
        fe.kl_divergence(HALF, bad, row_sums="rescale", backend=engine)
    with fails(ValueError, "row 1"):
        fe.entropy(spoil(HALF, (1, 0), INF), row_sums="rescale", backend=engine)
    with fails(ValueError, "row 1"):
        none = spoil(np.log(HALF), 1, -INF)
        fe.entropy(none, kind="logprobs", row_sums="rescale", backend=engine)


def test_the_first_bad_row_is_an_index_tuple_along_any_axis(engine):
    a = np.full((2, 3, 4, 5), 0.25)  # classes on axis 2
    bad = spoil(a, (1, 2, 0, 4), -0.25)
    bad[1, 2, 1, 4] = 0.75
    with fails(ValueError, "(1, 2, 4)"):
        fe.entropy(bad, axis=2, backend=engine)
    with fails(ValueError, "(1, 2, 4)"):
        fe.kl_divergence(a, bad, axis=-2, backend=engine)
    first = spoil(np.full((4, 6), 0.25), (slice(None), 5), 0.5)
    with fails(ValueError, "row 5"):
        fe.entropy(first, axis=0, backend=engine)


# ------------------------------------------------------------- shapes and dtypes


@pytest.mark.parametrize(
    "function", ["kl_divergence", "js_divergence", "categorical_cross_entropy"]
)
@pytest.mark.parametrize("shape", [(4, 3), (3, 2), (3,), (1,), (4, 2, 1), (4, 1), (2, 3, 2)])
def test_two_distributions_agree_in_shape(function, shape, engine):
    other = np.full(shape, 0.5)
    with fails(ValueError, "shape", "(4, 2)", str(shape)):
        getattr(fe, function)(HALF, other, backend=engine)


def test_shapes_of_labels_and_targets(engine):
    for shape in ((3,), (5,), (4, 1), (4, 2)):
        with fails(ValueError, "labels", "shape", str(shape)):
            fe.sparse_cross_entropy(np.zeros(shape, int), HALF, backend=engine)
    for shape in ((3,), (4, 1)):
        with fails(ValueError, "shape"):
            fe.binary_cross_entropy(np.zeros(shape), np.full(4, 0.5), backend=engine)


def test_shapes_of_weights(engine):
    labels = np.zeros(4, int)
    for shape in ((3,), (5,), (4, 3), (2, 4, 2)):
        with fails(ValueError, "sample_weight", str(shape)):
            fe.sparse_cross_entropy(labels, HALF, sample_weight=np.ones(shape), backend=engine)
    with fails(ValueError, "sample_weight"):
        fe.kl_divergence(HALF, HALF, sample_weight=np.ones((4, 2)), backend=engine)
    for shape in ((3,), (1, 2), (4, 2)):
        with fails(ValueError, "class_weight", str(shape)):
            fe.sparse_cross_entropy(labels, HALF, class_weight=np.ones(shape), backend=engine)


def test_no_classes(engine):
    none = np.zeros((3, 0))
    for function in (fe.kl_divergence, fe.js_divergence, fe.categorical_cross_entropy):
        with fails(ValueError, "0"):
            function(none, none, backend=engine)
    with fails(ValueError, "0"):
        fe.entropy(none, backend=engine)
    with fails(ValueError, "0"):
        fe.sparse_cross_entropy(np.zeros(3, int), none, kind="logits", backend=engine)
    with fails(ValueError):
        fe.entropy(np.zeros((0, 0)), kind="logits", backend=engine)


def test_no_axis(engine):
    with fails(ValueError, "q"):
        fe.kl_divergence(HALF, np.float64(1.0), backend=engine)
    with fails(ValueError, "p"):
        fe.entropy(np.float64(1.0), backend=engine)
    for axis in (2, -3):
        with fails(ValueError, "axis", str(axis)):
            fe.entropy(HALF, axis=axis, backend=engine)
    for axis in (0.5, "0", True, (0, 1)):
        with fails(EITHER, "axis"):
            fe.entropy(HALF, axis=axis, backend=engine)


@pytest.mark.parametrize(
    "bad",
    [
        np.array([["a", "b"]] * 4),
        np.array([[b"a", b"b"]] * 4),
        np.array([[object(), None]] * 4),
        np.full((4, 2), 0.5 + 0j),
        np.zeros((4, 2), "M8[s]"),
        np.zeros((4, 2), [("x", float)]),
        [["a", "b"]] * 4,
    ],
    ids=["str", "bytes", "object", "complex", "datetime", "record", "list of str"],
)
def test_dtypes_that_are_no_numbers(bad, engine):
    with fails(TypeError, "p"):
        fe.entropy(bad, backend=engine)
    with fails(TypeError, "q"):
        fe.kl_divergence(HALF, bad, backend=engine)
    with fails(TypeError, "target"):
        fe.binary_cross_entropy(bad, HALF, backend=engine)
    with fails(TypeError, "pred"):
        fe.sparse_cross_entropy(np.zeros(4, int), bad, backend=engine)
    with fails(TypeError, "labels"):
        fe.sparse_cross_entropy(bad, np.full((4, 2, 2), 0.5), backend=engine)
    with fails(TypeError, "sample_weight"):
        fe.categorical_cross_entropy(HALF, HALF, sample_weight=bad, backend=engine)
    with fails(TypeError, "class_weight"):
        fe.categorical_cross_entropy(HALF, HALF, class_weight=np.asarray(bad)[0], backend=engine)


def test_masked_numbers():
    """Their masks would be lost without a word."""
    masked = np.ma.masked_less(HALF, 0.4)
    assert fe.entropy(masked, base=2).tolist() == [1.0] * 4  # nothing is masked
    masked[2, 1] = np.ma.masked
    labels = np.ma.masked_array([0] * 4, [0, 1, 0, 0])
    with fails(TypeError, "p", "masked"):
        fe.entropy(masked)
    with fails(TypeError, "labels", "masked"):
        fe.sparse_cross_entropy(labels, HALF)
    with fails(TypeError, "sample_weight", "masked"):
        fe.entropy(HALF, sample_weight=labels)
    with fails(TypeError, "table", "masked"):
        fe.mutual_information(masked)


def test_ragged_lists(engine):
    with fails(EITHER, "p"):
        fe.entropy([[0.5, 0.5], [1.0]], backend=engine)


def test_arrays_are_not_touched_when_it_fails(engine):
    bad = spoil(HALF, (2, 0), -0.5)
    before = bad.copy()
    with fails(ValueError):
        fe.entropy(bad, backend=engine)
    assert (bad == before).all()
