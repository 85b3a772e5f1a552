"""Relative accuracy on every row: each function, kind, dtype, backend and SIMD level."""

import cases
import hard_inputs as hard
import hard_pairs
import numpy as np
import oracle
import pytest
from cases import exact, exact_arsenal, mixed, ordinary

WIDE = ("float64", "float32")


def compare(function, blocks, kind, dtype, engine, **options):
    """Call on every block and report all that break the bound, not only the first."""
    wrong = []
    for name, args, want in blocks:
        try:
            got = cases.call(function, args, kind, backend=engine, **options)
            special = mixed(kind) and function in cases.DIVERGENCES
            oracle.assert_close(got, want, dtype, special, name)
        except (AssertionError, ValueError, TypeError, FloatingPointError) as error:
            wrong.append(f"{name}: {error!r}"[:400])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("function", "kind", "dtype"), cases.combinations(), ids=cases.title)
def test_hard_rows(function, kind, dtype, engine):
    blocks = exact_arsenal(function, kind, dtype)
    compare(function, blocks, kind, hard.DTYPES[dtype], engine)


def same_kinds(function):
    return [k for k in cases.kinds(function) if not mixed(k)]


PLAIN = [(f, k, d) for f in cases.FUNCTIONS for k in same_kinds(f) for d in WIDE]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "kind", "dtype"), PLAIN, ids=cases.title)
def test_any_number_of_classes(function, kind, dtype, engine):
    dtype, blocks = hard.DTYPES[dtype], []
    for c in hard.class_counts():
        args = ordinary(function, kind, dtype, (1, c), seed=c)
        blocks.append((f"{c} classes", args, exact(function, args, kind, dtype)))
    compare(function, blocks, kind, dtype, engine)


def few_values(dtype, classes):
    """Rows of very many classes but few distinct numbers, which exact arithmetic can follow."""
    r = np.random.default_rng(classes)
    steps = r.integers(0, 40, size=(2, classes)) / 8.0
    # equal terms round all one way, so a plain sum over them drifts
    levels = np.stack([steps[0], np.zeros(classes), -0.5 * (np.arange(classes) % 2)])
    moved = np.stack([steps[0] + (steps[1] > 2) / 64, steps[1], np.zeros(classes)])
    return levels.astype(dtype), moved.astype(dtype)


@pytest.mark.slow
def test_huge_rows(engine):
    # the threaded form of a just-in-time kernel is compiled apart, and threads have tests enough
    options = {"num_threads": 1} if engine == "numba" else {}
    for name, classes in (("float64", 200_000), ("float32", 200_000), ("bfloat16", 50_257)):
        dtype = hard.DTYPES[name]
        a, b = few_values(dtype, classes)
        for kind in ("logits", "probs"):
            if kind == "probs":
                if dtype.itemsize == 2:
                    continue  # sums of that many 16-bit numbers are not within the check
                a, b = (hard.cast(hard.softmax(x.astype(float)), dtype) for x in (a, b))
            labels = np.array([classes - 1, 0, classes // 2])
            for function in ("kl_divergence", "js_divergence", "entropy", "sparse_cross_entropy"):
                args = {"entropy": (b,), "sparse_cross_entropy": (labels, b)}.get(function, (a, b))
                want = exact(function, args, kind, dtype)
                compare(function, [(f"{kind} {name}", args, want)], kind, dtype, engine, **options)


@pytest.mark.parametrize("dtype", hard.DTYPES)
@pytest.mark.parametrize("function", ["kl_divergence", "js_divergence", "entropy"])
def test_counts_are_rescaled(function, dtype, engine):
    dtype = hard.DTYPES[dtype]
    options = {"row_sums": "rescale"}
    blocks = []
    for name, pair in hard_pairs.counts(dtype).items():
        args = pair if function != "entropy" else (pair[1],)
        blocks.append((name, args, exact(function, args, "probs", dtype, **options)))
    compare(function, blocks, "probs", dtype, engine, **options)


@pytest.mark.parametrize("dtype", WIDE)
def test_counts_are_rescaled_in_losses(dtype, engine):
    dtype = hard.DTYPES[dtype]
    options = {"row_sums": "rescale"}
    for _, (t, q) in hard_pairs.counts(dtype).items():
        for function, first in (
            ("sparse_cross_entropy", hard.labels(q)),
            ("categorical_cross_entropy", t),
        ):
            want = exact(function, (first, q), "probs", dtype, **options)
            compare(function, [("", (first, q), want)], "probs", dtype, engine, **options)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("offset", [7, -300, 1e4, -1e4])
def test_logprobs_are_rescaled(offset, dtype, engine):
    dtype = hard.DTYPES[dtype]
    r = np.random.default_rng(1)
    a, b = 3 * r.normal(size=(2, 5, 13))
    target = hard.cast(hard.softmax(a), dtype)
    a, b = hard.cast(a + offset, dtype), hard.cast(b + offset, dtype)
    operands = {
        "sparse_cross_entropy": (hard.labels(b), b),
        "categorical_cross_entropy": (target, b),
        "kl_divergence": (a, b),
        "js_divergence": (a, b),
        "entropy": (b,),
    }
    options = {"row_sums": "rescale"}
    for function, args in operands.items():
        want = exact(function, args, "logprobs", dtype, **options)
        compare(function, [(function, args, want)], "logprobs", dtype, engine, **options)


@pytest.mark.parametrize("dtype", WIDE)
def test_counts_against_logits(dtype, engine):
    dtype = hard.DTYPES[dtype]
    r = np.random.default_rng(1)
    counts = r.integers(0, 50, size=(5, 13)).astype(dtype)
    x = hard.cast(3 * r.normal(size=(5, 13)), dtype)
    options = {"row_sums": "rescale"}
    for function in (*cases.DIVERGENCES, "categorical_cross_entropy"):
        for kind, args in (
            (("probs", "logits"), (counts, x)),
            (("logits", "probs"), (x, counts + 1)),
        ):
            want = exact(function, args, kind, dtype, **options)
            compare(function, [(function, args, want)], kind, dtype, engine, **options)


@pytest.mark.parametrize("shift", [3.0, 48.0, -60.0])
@pytest.mark.parametrize("function", cases.DIVERGENCES)
def test_an_offset_between_two_rows_costs_no_digits(function, shift, compiled):
    r = np.random.default_rng(2)
    a = 10 * r.normal(size=(40, 5))
    b = np.round(2.0**20 * (a + 2 * r.normal(size=a.shape))) / 2.0**20  # b + shift is exact
    want = cases.call(function, (a, b), "logits")
    got = cases.call(function, (a, b + shift), "logits")
    np.testing.assert_allclose(got, want, rtol=3e-15, atol=0)
