"""SciPy: stats.entropy, special.rel_entr, kl_div, entr and logsumexp."""

from __future__ import annotations

import numpy as np
from scipy import special, stats
from scipy.spatial import distance

from bench.operands import Operands


def _finish(x: Operands, values):
    return values.mean() if x.reduction == "mean" else values


def _jensen_shannon(x: Operands):
    # SciPy returns the distance, the square root of the divergence.
    return lambda: distance.jensenshannon(x.true, x.pred, axis=x.axis) ** 2


def _sparse_probs(x: Operands):
    rows = np.arange(x.rows)
    return lambda: special.rel_entr(1.0, x.pred[rows, x.true])


def _sparse_logits(x: Operands):
    rows = np.arange(x.rows)
    return lambda: special.logsumexp(x.pred, axis=-1) - x.pred[rows, x.true]


def _kl_logits(x: Operands):
    def call():
        log_p = special.log_softmax(x.true, axis=x.axis)
        log_q = special.log_softmax(x.pred, axis=x.axis)
        return np.sum(np.exp(log_p) * (log_p - log_q), axis=x.axis)

    return call


def _entropy_logits(x: Operands):
    return lambda: stats.entropy(special.softmax(x.pred, axis=x.axis), axis=x.axis)


FORMULAS = {
    ("kl_divergence", "probs"): lambda x: lambda: stats.entropy(x.true, x.pred, axis=x.axis),
    ("kl_divergence", "logits"): _kl_logits,
    ("js_divergence", "probs"): _jensen_shannon,
    ("entropy", "probs"): lambda x: lambda: stats.entropy(x.pred, axis=x.axis),
    ("entropy", "logits"): _entropy_logits,
    ("sparse_cross_entropy", "probs"): _sparse_probs,
    ("sparse_cross_entropy", "logits"): _sparse_logits,
    ("categorical_cross_entropy", "probs"): lambda x: (
        lambda: -np.sum(special.xlogy(x.true, x.pred), axis=x.axis)
    ),
    ("categorical_cross_entropy", "logits"): lambda x: (
        lambda: -np.sum(x.true * special.log_softmax(x.pred, axis=x.axis), axis=x.axis)
    ),
    ("binary_cross_entropy", "probs"): lambda x: (
        lambda: _finish(x, -special.xlogy(x.true, x.pred) - special.xlog1py(1 - x.true, -x.pred))
    ),
    ("binary_cross_entropy", "logits"): lambda x: (
        lambda: _finish(x, (1 - x.true) * x.pred - special.log_expit(x.pred))
    ),
}

REL_ENTR = {
    ("kl_divergence", "probs"): lambda x: lambda: special.rel_entr(x.true, x.pred).sum(x.axis),
}

KL_DIV = {
    ("kl_divergence", "probs"): lambda x: lambda: special.kl_div(x.true, x.pred).sum(x.axis),
}
