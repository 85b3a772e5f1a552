"""numexpr: the elementwise part on all threads into a temporary made once, sums by NumPy.

Its own reductions run on one thread and are slower than this.
"""

from __future__ import annotations

import numexpr
import numpy as np

from bench.operands import Operands


def _row_sums(expression: str):
    def formula(x: Operands):
        terms = np.empty_like(x.pred)
        values = np.empty(x.rows, x.pred.dtype)
        names = {"q": x.pred} if x.true is None else {"p": x.true, "q": x.pred}

        def call():
            numexpr.evaluate(expression, names, out=terms)
            return np.sum(terms, axis=x.axis, out=values)

        return call

    return formula


def _binary(expression: str):
    def formula(x: Operands):
        losses = np.empty_like(x.pred)

        def call():
            numexpr.evaluate(expression, {"t": x.true, "x": x.pred}, out=losses)
            return losses.mean() if x.reduction == "mean" else losses

        return call

    return formula


def _sparse_logits(x: Operands):
    rows = np.arange(x.rows)
    weights = np.empty_like(x.pred)

    def call():
        m = x.pred.max(axis=-1)
        numexpr.evaluate("exp(x - m)", {"x": x.pred, "m": m[:, None]}, out=weights)
        return np.log(weights.sum(axis=-1)) + m - x.pred[rows, x.true]

    return call


FORMULAS = {
    ("kl_divergence", "probs"): _row_sums("p * log(p / q)"),
    ("js_divergence", "probs"): _row_sums("(p * log(2*p / (p+q)) + q * log(2*q / (p+q))) / 2"),
    ("entropy", "probs"): _row_sums("-q * log(q)"),
    ("categorical_cross_entropy", "probs"): _row_sums("-p * log(q)"),
    ("sparse_cross_entropy", "logits"): _sparse_logits,
    ("binary_cross_entropy", "probs"): _binary("-(t * log(x) + (1-t) * log(1-x))"),
    ("binary_cross_entropy", "logits"): _binary("where(x > 0, x, 0*x) - x*t + log1p(exp(-abs(x)))"),
}
