"""Calls of a backend as the engine makes them, beside exact arithmetic."""

from types import SimpleNamespace

import numpy as np
import oracle

RELAXED = ("kl_divergence", "reverse_kl", "js_divergence")  # of operands of two kinds


def make_spec(task, kind="probs", columns=None, **options):
    """What the engine hands to a backend; `kind` is a pair for two distributions."""
    true, pred = kind if isinstance(kind, tuple) else ("probs", kind)
    settings = {
        "row_sums": "check",
        "sum_tolerance": 1e-3,
        "eps": 0.0,
        "temperature": 1.0,
        "label_smoothing": 0.0,
        "class_weight": None,
        "num_threads": 2,
    }
    return SimpleNamespace(
        task=task,
        columns=tuple(columns or oracle.COLUMNS[task]),
        kind_true=true,
        kind_pred=pred,
        **settings | options,
    )


def evaluate(row_values, spec, true, pred, labels=None, terms=None):
    """(columns, rows) of values; floating-point warnings are errors."""
    out = np.full((len(spec.columns), len(pred)), -7.0)
    with np.errstate(all="raise"):
        found = row_values(spec, true, pred, labels, out, terms=terms)
    assert found is None, found
    return out


def beside_exact(
    row_values, task, kind, true, pred, labels=None, weights=None, columns=None, **options
):
    """(row, column, value, exact value, whether it is relaxed) of all columns of all rows."""
    columns = tuple(columns or oracle.COLUMNS[task])
    keywords = dict(options)
    terms = weights if weights is not None and weights.ndim == 2 else None
    if weights is not None and weights.ndim == 1:
        keywords["class_weight"] = weights
    spec = make_spec(task, kind, columns, **keywords)
    got = evaluate(row_values, spec, true, pred, labels, terms)
    mixed = isinstance(kind, tuple) and kind[0] != kind[1]
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
            yield i, name, value, want[name], mixed and name in RELAXED
