"""A scikit-learn scorer that takes the columns of `predict_proba` by the estimator's classes."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from fastent._keywords import AccumulatorKeywords
from fastent.accumulator import Accumulator

GREATER_IS_BETTER = ("accuracy", "skill", "confidence", "margin")


class Scorer:
    """A scorer of several metrics in one pass: what `scoring` of cross-validation takes.

    A class that the estimator was not trained on has probability 0, so that its rows cost infinity
    unless `eps` is given.

    Parameters
    ----------
    metrics : str or sequence of str
        Of the sparse task. One name gives a number, several a dict; what is better when smaller is
        negated and named ``neg_...``, as scikit-learn does.
    **keywords
        Of `fastent.Accumulator`, such as `eps` and `bins`.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from fastent.integrations.sklearn import Scorer
    >>> def even(X):
    ...     return np.full((len(X), 2), 0.5)
    >>> model = SimpleNamespace(classes_=["a", "b"], predict_proba=even)
    >>> Scorer(["brier", "accuracy"])(model, [[0], [1]], ["a", "b"])
    {'neg_brier': -0.5, 'accuracy': 0.5}
    """

    def __init__(self, metrics: Any, **keywords: Unpack[AccumulatorKeywords]) -> None:
        Accumulator(metrics, **keywords)  # refuses now what it would refuse in a fold
        self._metrics, self._keywords = metrics, keywords

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """The scores of an estimator."""
        known = np.asarray(estimator.classes_)
        labels = np.asarray(y).reshape(-1)
        more = np.setdiff1d(labels, known)
        pred = np.asarray(estimator.predict_proba(X))
        if len(more):
            pred = np.hstack([pred, np.zeros((len(pred), len(more)), pred.dtype)])
        names = [*known.tolist(), *more.tolist()]
        options = self._keywords | {"classes": names}
        acc = Accumulator(self._metrics, **options).update(labels, pred, sample_weight)
        report = acc.compute()
        scores = {}
        for name in report:
            better = name in GREATER_IS_BETTER or name.startswith("top")
            value = report[name].value
            scores[name if better else f"neg_{name}"] = value if better else -value
        return next(iter(scores.values())) if isinstance(self._metrics, str) else scores
