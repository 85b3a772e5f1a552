"""What scikit-learn checks in labels and probabilities before it scores them, in its order."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import (
    _check_pos_label_consistency,
    _check_sample_weight,
    assert_all_finite,
)


def renamed(y_proba: Any, y_pred: Any) -> Any:
    """The predictions, whichever of their two names was used."""
    if isinstance(y_pred, str) and y_pred == "deprecated":
        return y_proba
    if y_proba is not None:
        raise ValueError(
            "Cannot use both `y_pred` and `y_proba`. `y_pred` is deprecated, use `y_proba` instead."
        )
    warnings.warn(
        "`y_pred` was renamed to `y_proba` in version 1.9 and will be removed in 1.11. "
        "Use `y_proba` instead.",
        FutureWarning,
        stacklevel=4,
    )
    return y_pred


def as_floats(y_proba: Any, *more: type) -> np.ndarray:
    return check_array(y_proba, ensure_2d=False, dtype=[np.float64, np.float32, *more])


def check_range(y_proba: np.ndarray, below: str) -> None:
    if y_proba.max() > 1:
        raise ValueError(f"y_prob contains values greater than 1: {y_proba.max()}")
    if y_proba.min() < 0:
        raise ValueError(f"y_prob contains values {below} than 0: {y_proba.min()}")


def check_weights(y_true: Any, y_proba: np.ndarray, sample_weight: Any) -> None:
    check_consistent_length(y_proba, y_true, sample_weight)
    if sample_weight is not None:
        _check_sample_weight(sample_weight, y_proba, force_float_dtype=False)


def checked_classes(y_true: Any, y_proba: np.ndarray, sample_weight: Any, labels: Any) -> tuple:
    """(task, target, predictions, number of classes) after scikit-learn's checks, in its order."""
    check_range(y_proba, "lower")
    check_weights(y_true, y_proba, sample_weight)
    binarizer = LabelBinarizer().fit(y_true if labels is None else labels)
    classes = binarizer.classes_
    if labels is not None:
        check_labels(y_true, labels, classes)
    if len(classes) == 1 and labels is None:
        raise ValueError(
            f"y_true contains only one label ({classes[0]}). Please provide the list of all "
            "expected class labels explicitly through the labels argument."
        )
    if len(classes) == 1:
        raise ValueError(f"The labels array needs to contain at least two labels, got {classes}.")

    if type_of_target(y_true).startswith("multilabel"):
        task, target = "categorical", binarizer.transform(y_true).astype(y_proba.dtype)
    else:
        task, target = "sparse", np.searchsorted(classes, column_or_1d(y_true))
    one_column = y_proba.ndim == 1 or y_proba.shape[1] == 1
    columns = 2 if one_column else y_proba.shape[1]
    if not one_column:
        check_sums(y_proba)
    if len(classes) != columns and labels is None:
        raise ValueError(
            "y_true and y_prob contain different number of classes: "
            f"{len(classes)} vs {columns}. Please provide the true labels explicitly through "
            f"the labels argument. Classes found in y_true: {classes}"
        )
    if len(classes) != columns:
        raise ValueError(
            "The number of classes in labels is different from that in y_prob. Classes found in "
            f"labels: {classes}"
        )
    if one_column and task == "sparse":
        return "binary", target.astype(y_proba.dtype), y_proba.reshape(-1), 2
    if one_column:
        y_proba = np.column_stack([1 - y_proba.reshape(-1), y_proba.reshape(-1)])
    return task, target, y_proba, columns


def check_labels(y_true: Any, labels: Any, classes: np.ndarray) -> None:
    if not np.all(classes == labels):
        warnings.warn(
            f"Labels passed were {labels}. But this function assumes labels are ordered "
            f"lexicographically. Pass the ordered labels={classes.tolist()} and ensure that the "
            "columns of y_prob correspond to this ordering.",
            UserWarning,
            stacklevel=5,
        )
    if not np.all(np.isin(y_true, labels)):
        undeclared = set(y_true) - set(labels)
        raise ValueError(
            f"y_true contains values {undeclared} not belonging to the passed labels {labels}."
        )


def check_sums(y_proba: np.ndarray) -> None:
    tolerance = np.sqrt(np.finfo(y_proba.dtype).eps)
    if not np.isclose(y_proba.sum(axis=1), 1, rtol=tolerance).all():
        warnings.warn(
            "The y_prob values do not sum to one. Make sure to pass probabilities.",
            UserWarning,
            stacklevel=5,
        )


def checked_binary(y_true: Any, y_proba: np.ndarray, sample_weight: Any, pos_label: Any) -> tuple:
    """(0 and 1, probability of 1) of a binary task, after scikit-learn's checks in its order."""
    y_true, y_proba = column_or_1d(y_true), column_or_1d(y_proba)
    assert_all_finite(y_true)
    check_weights(y_true, y_proba, sample_weight)
    found = type_of_target(y_true, input_name="y_true")
    if found != "binary":
        raise ValueError(
            f"The type of the target inferred from y_true is {found} but should be binary "
            "according to the shape of y_prob."
        )
    check_range(y_proba, "less")
    try:
        pos_label = _check_pos_label_consistency(pos_label, y_true)
    except ValueError:
        classes = np.unique(y_true)
        if classes.dtype.kind in "OUS":
            raise
        pos_label = classes[-1]  # numbers: the greater one, as it always was
    return (y_true == pos_label).astype(y_proba.dtype), y_proba
