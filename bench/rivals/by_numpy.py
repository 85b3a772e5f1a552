"""NumPy by hand: the one-liners that people write."""

from __future__ import annotations

import numpy as np

from bench.operands import Operands


def _log_softmax(x, axis):
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _total(terms, x: Operands):
    return np.sum(terms, axis=x.axis)


def _kl_logits(x: Operands):
    def call():
        log_p, log_q = _log_softmax(x.true, x.axis), _log_softmax(x.pred, x.axis)
        return _total(np.exp(log_p) * (log_p - log_q), x)

    return call


def _js(x: Operands):
    def call():
        p, q = x.true, x.pred
        m = (p + q) / 2
        return _total(p * np.log(p / m) + q * np.log(q / m), x) / 2

    return call


def _entropy_logits(x: Operands):
    def call():
        log_p = _log_softmax(x.pred, x.axis)
        return -_total(np.exp(log_p) * log_p, x)

    return call


def _sparse_probs(x: Operands):
    rows = np.arange(x.rows)
    return lambda: -np.log(x.pred[rows, x.true])


def _sparse_logits(x: Operands):
    rows = np.arange(x.rows)

    def call():
        m = x.pred.max(axis=-1)
        return np.log(np.exp(x.pred - m[:, None]).sum(axis=-1)) + m - x.pred[rows, x.true]

    return call


def _finish(x: Operands, values):
    return values.mean() if x.reduction == "mean" else values


def _binary_probs(x: Operands):
    return lambda: _finish(x, -(x.true * np.log(x.pred) + (1 - x.true) * np.log(1 - x.pred)))


def _binary_logits(x: Operands):
    return lambda: _finish(
        x, np.maximum(x.pred, 0) - x.pred * x.true + np.log1p(np.exp(-np.abs(x.pred)))
    )


FORMULAS = {
    ("kl_divergence", "probs"): lambda x: lambda: _total(x.true * np.log(x.true / x.pred), x),
    ("kl_divergence", "logits"): _kl_logits,
    ("js_divergence", "probs"): _js,
    ("entropy", "probs"): lambda x: lambda: -_total(x.pred * np.log(x.pred), x),
    ("entropy", "logits"): _entropy_logits,
    ("sparse_cross_entropy", "probs"): _sparse_probs,
    ("sparse_cross_entropy", "logits"): _sparse_logits,
    ("categorical_cross_entropy", "probs"): lambda x: lambda: -_total(x.true * np.log(x.pred), x),
    ("categorical_cross_entropy", "logits"): lambda x: (
        lambda: -_total(x.true * _log_softmax(x.pred, x.axis), x)
    ),
    ("binary_cross_entropy", "probs"): _binary_probs,
    ("binary_cross_entropy", "logits"): _binary_logits,
}
