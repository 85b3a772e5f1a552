"""scikit-learn's `log_loss`, `d2_log_loss_score` and `brier_score_loss`, with its arguments, label
handling, warnings and errors.

Losses come from fastent's kernels and are summed exactly; no one-hot array is made for labels.
Where the numbers differ from scikit-learn's, these are right: for one column of probabilities
1 − p is not rounded, and float32 predictions are summed in float64. Predictions are clipped to
[eps, 1 − eps] of their dtype, as scikit-learn documents.
"""

from __future__ import annotations

from fastent._extras import missing

try:
    import sklearn as _sklearn  # noqa: F401
except ModuleNotFoundError as _error:
    raise missing(_error, "sklearn", "fastent.compat.sklearn") from None

import warnings
from numbers import Real
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Hidden, StrOptions, validate_params
from sklearn.utils.validation import _num_samples

from fastent._blas import product
from fastent.backends.cython.engine import evaluate
from fastent.backends.cython.float_mode import in_default_mode
from fastent.compat.sklearn_checks import as_floats, checked_binary, checked_classes, renamed

__all__ = ["brier_score_loss", "d2_log_loss_score", "log_loss"]


@validate_params(
    {
        "y_true": ["array-like"],
        "y_proba": ["array-like", Hidden(None)],
        "normalize": ["boolean"],
        "sample_weight": ["array-like", None],
        "labels": ["array-like", None],
        "y_pred": ["array-like", str],
    },
    prefer_skip_nested_validation=True,
)
@in_default_mode
def log_loss(
    y_true,
    y_proba=None,
    *,
    normalize=True,
    sample_weight=None,
    labels=None,
    y_pred="deprecated",
):
    """Mean or total cross-entropy of labels, as `sklearn.metrics.log_loss`.

    Parameters
    ----------
    y_true : array-like or label indicator matrix
        Ground truth (correct) labels for n_samples samples.

    y_proba : array-like of float, shape = (n_samples, n_classes) or (n_samples,)
        Predicted probabilities; one column is that of the positive class.

    normalize : bool, default=True
        The mean loss per sample, or the sum.

    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights.

    labels : array-like, default=None
        All classes, if `y_true` may lack some.

    y_pred : array-like of float
        The former name of `y_proba`.

    Returns
    -------
    loss : float
        Log loss, in nats.

    Examples
    --------
    >>> from fastent.compat.sklearn import log_loss
    >>> round(log_loss(["spam", "ham", "ham", "spam"],
    ...                [[.1, .9], [.9, .1], [.8, .2], [.35, .65]]), 6)
    0.216162
    """
    y_proba = as_floats(renamed(y_proba, y_pred), np.float16)
    task, target, y_proba, _ = checked_classes(y_true, y_proba, sample_weight, labels)
    return cross_entropy(task, target, y_proba, sample_weight, normalize)


@validate_params(
    {
        "y_true": ["array-like"],
        "y_proba": ["array-like", Hidden(None)],
        "sample_weight": ["array-like", None],
        "labels": ["array-like", None],
        "y_pred": ["array-like", str],
    },
    prefer_skip_nested_validation=True,
)
@in_default_mode
def d2_log_loss_score(
    y_true, y_proba=None, *, sample_weight=None, labels=None, y_pred="deprecated"
):
    """Fraction of the log loss explained, as `sklearn.metrics.d2_log_loss_score`.

    Parameters
    ----------
    y_true : array-like or label indicator matrix
        Ground truth (correct) labels for n_samples samples.

    y_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
        Predicted probabilities; one column is that of the positive class.

    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights.

    labels : array-like, default=None
        All classes, if `y_true` may lack some.

    y_pred : array-like of shape (n_samples, n_classes) or (n_samples,)
        The former name of `y_proba`.

    Returns
    -------
    d2 : float
        1 − loss / loss of predicting the class proportions of `y_true`.

    Examples
    --------
    >>> from fastent.compat.sklearn import d2_log_loss_score
    >>> d2_log_loss_score([0, 1], [0.5, 0.5])
    0.0
    """
    y_proba = renamed(y_proba, y_pred)
    check_consistent_length(y_proba, y_true, sample_weight)
    if _num_samples(y_proba) < 2:
        msg = "D^2 score is not well-defined with less than two samples."
        warnings.warn(msg, UndefinedMetricWarning, stacklevel=2)
        return float("nan")
    y_proba = as_floats(y_proba, np.float16)
    task, target, y_proba, classes = checked_classes(y_true, y_proba, sample_weight, labels)
    weights = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, float)
    if task == "categorical":
        counts = product(weights, target)
    else:
        counts = np.bincount(target.astype(np.intp), weights, minlength=classes)
    if weights.sum() == 0:
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    eps = np.finfo(np.float64).eps
    null = -product(counts, np.log(np.clip(counts / weights.sum(), eps, 1 - eps)))
    loss = cross_entropy(task, target, y_proba, sample_weight, False)
    return float(1 - loss / null)


@validate_params(
    {
        "y_true": ["array-like"],
        "y_proba": ["array-like"],
        "sample_weight": ["array-like", None],
        "pos_label": [Real, str, "boolean", None],
        "labels": ["array-like", None],
        "scale_by_half": ["boolean", StrOptions({"auto"})],
    },
    prefer_skip_nested_validation=True,
)
@in_default_mode
def brier_score_loss(
    y_true,
    y_proba,
    *,
    sample_weight=None,
    pos_label=None,
    labels=None,
    scale_by_half="auto",
):
    """Mean squared difference of probabilities and outcomes, as `sklearn.metrics.brier_score_loss`.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True targets.

    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Predicted probabilities; one column is that of the positive class.

    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights.

    pos_label : int, float, bool or str, default=None
        The positive class, for one column.

    labels : array-like of shape (n_classes,), default=None
        All classes, for several columns.

    scale_by_half : bool or "auto", default="auto"
        Whether to halve the score; "auto" halves it for two classes.

    Returns
    -------
    score : float
        Brier score loss.

    Examples
    --------
    >>> from fastent.compat.sklearn import brier_score_loss
    >>> round(brier_score_loss([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3]), 6)
    0.0375
    """
    y_proba = as_floats(y_proba)
    if y_proba.ndim == 1 or y_proba.shape[1] == 1:
        task, classes = "binary", 2
        target, y_proba = checked_binary(y_true, y_proba, sample_weight, pos_label)
    else:
        task, target, y_proba, classes = checked_classes(y_true, y_proba, sample_weight, labels)
    options = {} if task == "binary" else {"row_sums": "as_is"}
    score = reduced(task, "brier", target, y_proba, sample_weight, True, options)
    halved = classes < 3 if scale_by_half == "auto" else scale_by_half
    if task == "binary":  # (p − t)² is half the sum over the two classes
        return score if halved else 2 * score
    return 0.5 * score if halved else score


def cross_entropy(
    task: str, target: np.ndarray, y_proba: np.ndarray, sample_weight: Any, normalize: bool
) -> float:
    options: dict[str, Any] = {"eps": float(np.finfo(y_proba.dtype).eps)}
    if task != "binary":
        options["row_sums"] = "as_is"
    return reduced(task, "cross_entropy", target, y_proba, sample_weight, normalize, options)


def reduced(
    task: str,
    column: str,
    target: np.ndarray,
    y_proba: np.ndarray,
    sample_weight: Any,
    normalize: bool,
    options: dict,
) -> float:
    """The mean over the weights, or the sum, of a row value; negative weights are legal here."""
    weights = None if sample_weight is None else column_or_1d(sample_weight)
    if normalize and weights is not None and np.sum(weights) == 0:
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    if weights is None or (weights.min() >= 0 and task != "categorical"):
        how = "mean" if normalize and task != "categorical" else "sum"
        total = evaluate(
            task, (column,), target, y_proba, how, None, sample_weight=weights, **options
        )
        return float(total / len(target) if normalize and how == "sum" else total)
    values = evaluate(task, (column,), target, y_proba, "none", None, **options)
    total = product(values, weights.astype(np.float64))
    return float(total / weights.sum() if normalize else total)
