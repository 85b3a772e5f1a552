"""The Numba backend by itself: every column of every task, straight from `row_values`."""

from itertools import product
from types import SimpleNamespace

import hard_inputs as hard
import hard_pairs
import numpy as np
import oracle
import pytest

from fastent.backends.numba import row_values

INF, NAN = np.inf, np.nan
DTYPES = ("float32", "float64")
RELAXED = ("kl_divergence", "reverse_kl", "js_divergence")


def make_spec(task, kind="probs", columns=None, **options):
    true, pred = kind if isinstance(kind, tuple) else ("probs", kind)
    settings = {
        "row_sums": "check",
        "sum_tolerance": 1e-3,
        "eps": 0.0,
        "temperature": 1.0,
        "label_smoothing": 0.0,
        "class_weight": None,
        "num_threads": 1,
    }
    return SimpleNamespace(
        task=task,
        columns=tuple(columns or oracle.COLUMNS[task]),
        kind_true=true,
        kind_pred=pred,
        **settings | options,
    )


def evaluate(spec, true, pred, labels=None, terms=None):
    out = np.full((len(spec.columns), len(pred)), -7.0)
    with np.errstate(all="raise"):
        found = row_values(spec, true, pred, labels, out, terms=terms)
    assert found is None, found
    return out


def check(task, kind, true, pred, labels=None, what="", weights=None, columns=None, **options):
    """All columns of all rows against exact arithmetic; a string for every miss."""
    columns = tuple(columns or oracle.COLUMNS[task])
    keywords = dict(options)
    terms = weights if weights is not None and weights.ndim == 2 else None
    if weights is not None and weights.ndim == 1:
        keywords["class_weight"] = weights
    got = evaluate(make_spec(task, kind, columns, **keywords), true, pred, labels, terms)
    mixed = isinstance(kind, tuple) and kind[0] != kind[1]
    misses = []
    for i in range(len(pred)):
        want = oracle.row(
            task,
            columns,
            true=None if true is None else true[i],
            pred=pred[i],
            label=None if labels is None else int(labels[i]),
            weights=weights[i] if terms is not None else weights,
            kind=kind,
            **options,
        )
        for name, value in zip(columns, got[:, i], strict=True):
            error = oracle.excess(value, want[name], pred.dtype, mixed and name in RELAXED)
            if not error <= 1.0:
                exact = oracle.mp.nstr(want[name], 17)
                misses.append(f"{what} row {i} {name}: {value!r}, exact {exact}, {error:.3g}x")
    return misses


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", hard.KINDS)
def test_sparse_columns_and_entropy_of_hard_rows(kind, dtype):
    misses = []
    for name, rows in hard.singles(kind, np.dtype(dtype)).items():
        misses += check("sparse", kind, None, rows, hard.labels(rows), name)
        misses += check("entropy", kind, None, rows, None, name)
    assert not misses, "\n".join(misses)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", list(product(hard.KINDS, hard.KINDS)), ids="-".join)
def test_divergences_of_hard_pairs(kind, dtype):
    misses = []
    for name, (true, pred) in hard_pairs.pairs(*kind, np.dtype(dtype)).items():
        misses += check("divergence", kind, true, pred, None, name)
    assert not misses, "\n".join(misses)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", hard.KINDS)
def test_categorical_columns_of_hard_pairs(kind, dtype):
    misses = []
    for name, (true, pred) in hard_pairs.pairs("probs", kind, np.dtype(dtype)).items():
        misses += check("categorical", ("probs", kind), true, pred, None, name)
    assert not misses, "\n".join(misses)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", hard.KINDS)
def test_bernoulli_columns(kind, dtype):
    misses = []
    for name, (true, pred) in hard.bernoullis(kind, np.dtype(dtype)).items():
        misses += check("binary", kind, true, pred, None, name)
    assert not misses, "\n".join(misses)
