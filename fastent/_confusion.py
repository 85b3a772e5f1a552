"""Confusion tables: pairs of a row's label and its predicted class, and what follows from them.

A pair is one number, so that a state counts pairs as it counts labels; those of classes below C
have the numbers below C², whatever C is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastent._calibration import CELLS, PRODUCT_UNIT, UNIT, scaled, unscaled
from fastent._exact import divides

MOST_CLASSES = 1000
# The pair of a label and a prediction that is not known, as the row has a NaN: this plus the label.
UNKNOWN = 1 << 33
# Items of a state: pairs for the sums of weights that are not 1, and then for those of their
# squares, which are scaled, with a sum for each power.
SQUARES, PAIR_BITS = 1 << 26, 21

# By statistic: what hits are divided by, as multiples of the weights of label, prediction and hits;
# the hits count as often as all of these together.
RATIOS = {"precision": (0, 1, 0), "recall": (1, 0, 0), "f1": (1, 1, 0), "jaccard": (1, 1, -1)}


# Row values that a pair is made of.
COLUMNS = {
    "sparse": ("accuracy", "predicted"),
    "categorical": ("accuracy", "predicted", "labelled"),
    "binary": ("accuracy",),
}


def pairs_of(known: Mapping[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
    """The pairs of rows, from their values and, if the task has them, labels."""
    if "target" in known:  # the prediction is what the target is where it is accurate, else not
        positive = known["target"] >= 0.5
        accuracy = known["accuracy"]
        predicted = np.where(np.isnan(accuracy), accuracy, (accuracy == 1) == positive)
        return paired(positive.astype(np.int64), predicted)
    predicted = known["predicted"]
    if labels is None:
        labelled = known["labelled"]
        predicted = np.where(np.isnan(labelled), labelled, predicted)
        labels = np.where(np.isnan(labelled), 0, labelled).astype(np.int64)
    return paired(labels, predicted)


def paired(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The numbers of pairs; a prediction of NaN is not known."""
    lost = np.isnan(predicted)
    p = np.where(lost, 0, predicted).astype(np.int64)
    pairs = np.where(labels < p, p * p + labels, labels * labels + labels + p)
    return np.where(lost, UNKNOWN + labels, pairs)


def unpaired(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions, −1 where these are not known."""
    lost = pairs >= UNKNOWN
    known = np.where(lost, 0, pairs)
    root = np.sqrt(known).astype(np.int64)  # exact below 2^52
    rest = known - root * root
    label, predicted = np.minimum(rest, root), np.where(rest < root, root, rest - root)
    return np.where(lost, pairs - UNKNOWN, label), np.where(lost, -1, predicted)


def items_of(
    pairs: np.ndarray, weights: np.ndarray | None, here: slice
) -> tuple[np.ndarray, np.ndarray] | None:
    """What rows of other weights than 1 add to a state's items."""
    if weights is None:
        return None
    pairs = pairs[here]
    k, squares = scaled(weights, weights)
    places = np.stack([pairs, SQUARES + (k << PAIR_BITS) + pairs])
    counted = (weights != 1) & (pairs < UNKNOWN)
    return np.where(counted, places, -1), np.stack([weights, squares])


def squares_of(items: dict[int, int]) -> dict[int, int]:
    """By pair, what the sum of the squares of weights is more than that of the weights."""
    found: dict[int, int] = {}
    for item, total in items.items():
        if item >= CELLS:
            continue
        if item < SQUARES:
            pair, more = item, -(total << PRODUCT_UNIT - UNIT)
        else:
            k, pair = divmod(item - SQUARES, 1 << PAIR_BITS)
            more = unscaled(total, k)
        found[pair] = found.get(pair, 0) + more
    return found


def check_pairs(state: Any, classes: int) -> None:
    """ValueError if a state that was read has pairs of other classes."""
    for group in (None, *range(len(state.groups))):
        pairs = np.array([*state.label_counts(group)], np.int64)
        largest = max(x.max(initial=-1) for x in unpaired(pairs))
        if largest >= classes or (pairs < 0).any():
            raise ValueError(f"expected pairs of {classes} classes, got class {largest}")


class Confusion:
    """A table by label and predicted class.

    Parameters
    ----------
    state : State
        Whose labels are pairs.
    group : int or None
    names : sequence or None
        Of the classes; None for the numbers of those that occur.
    """

    def __init__(self, state: Any, group: int | None, names: Sequence[Any] | None) -> None:
        self.rows: int = state.rows(0, group)
        unit = state.unit_counts(group)
        weights: list[Any]  # integers, or nan
        total: Any
        if unit is not None:
            pairs, place = np.unique(unit[0], return_inverse=True)
            counts = np.zeros(len(pairs), np.int64)
            np.add.at(counts, place, unit[1])
            weights, total = counts.tolist(), int(counts.sum())
            share = counts / total if total else counts.astype(float)
            squares = share / total if total else share
        else:
            found, more = state.label_counts(group), squares_of(state.item_sums(group))
            pairs = np.array(sorted(found), np.int64)  # sums below do not depend on its order
            weights = [found[pair] for pair in pairs.tolist()]
            total = sum(weights)
            if divides(state.weight(0, group)[0]):
                below = total * total << PRODUCT_UNIT - 2 * UNIT
                share = np.array([w / total for w in weights])
                squares = np.array(
                    [((w << PRODUCT_UNIT - UNIT) + more.get(pair, 0)) / below
                     for pair, w in zip(pairs.tolist(), weights, strict=True)]
                )  # fmt: skip
            else:
                total, weights = math.nan, [math.nan] * len(pairs)
                share = squares = np.full(len(pairs), math.nan)
        self._unit = 0 if unit is not None else UNIT
        label, predicted = unpaired(pairs)
        known = predicted >= 0
        self.unknown = label[~known]
        self.names = (
            range(int(np.maximum(label, predicted).max(initial=-1)) + 1) if names is None else names
        )
        classes = self.classes = len(self.names)
        self.label, self.predicted = label[known], predicted[known]
        self.share, self.squares = share[known], squares[known]
        self.total = total
        self.weights = [w for w, is_known in zip(weights, known.tolist(), strict=True) if is_known]
        self.labels, self.predictions, self.hits = ([0] * classes for _ in range(3))
        for t, p, w in zip(self.label.tolist(), self.predicted.tolist(), self.weights, strict=True):
            self.labels[t] += w
            self.predictions[p] += w
            if t == p:
                self.hits[t] += w

    def table(self) -> np.ndarray:
        """Weights by label and predicted class; NaN for labels with a prediction not known."""
        found = np.zeros((self.classes, self.classes))
        found[self.label, self.predicted] = [_rounded(w, self._unit) for w in self.weights]
        found[self.unknown] = math.nan
        found.flags.writeable = False
        return found

    def by_class(self, statistic: str, only: int | None = None) -> Ratios:
        """A ratio of each class, and their mean, or that of `only` one, with errors.

        The errors are those of the delta method: of the mean of what a row changes.
        """
        of_label, of_predicted, of_hits = RATIOS[statistic]
        times = of_label + of_predicted + of_hits
        above = [times * hits for hits in self.hits]
        parts = zip(self.labels, self.predictions, self.hits, strict=True)
        below = [of_label * t + of_predicted * p + of_hits * h for t, p, h in parts]
        defined = np.array([b > 0 for b in below], bool)
        value = _quotients(above, below)
        if len(self.unknown):
            value[self.unknown if statistic == "recall" else slice(None)] = math.nan
        share = _quotients(below, [self.total] * self.classes)
        # what a row of a right prediction does to the ratio of its class, and a wrong one to two
        rest = _quotients([b - a for a, b in zip(above, below, strict=True)], below)
        with np.errstate(divide="ignore", invalid="ignore"):
            right, wrong = times * rest / share, -value / share
        changes = [
            np.where(defined, x, 0.0) for x in (right, of_label * wrong, of_predicted * wrong)
        ]
        right, missed, taken = changes
        hit = self.label == self.predicted
        by_class = np.zeros(self.classes)
        np.add.at(by_class, self.label[hit], (self.squares * right[self.label] ** 2)[hit])
        np.add.at(by_class, self.label[~hit], (self.squares * missed[self.label] ** 2)[~hit])
        np.add.at(by_class, self.predicted[~hit], (self.squares * taken[self.predicted] ** 2)[~hit])
        errors = np.where(np.isnan(value), math.nan, np.sqrt(by_class))
        if only is not None:
            mean, spread = (float(x[only]) if self.classes else math.nan for x in (value, errors))
        else:
            counted = value[defined]
            mean = math.fsum(counted) / len(counted) if len(counted) else math.nan
            change = np.where(hit, right[self.label], missed[self.label] + taken[self.predicted])
            spread = float(np.sqrt((self.squares * change**2).sum())) / max(1, len(counted))
            spread = math.nan if math.isnan(mean) else spread
        if self.rows < 2:
            return Ratios(mean, None, value, None)
        more = math.sqrt(self.rows / (self.rows - 1))
        return Ratios(mean, spread * more, value, errors * more)


class Ratios(NamedTuple):
    """A ratio of all classes; errors are None below two rows."""

    mean: float
    error: float | None
    by_class: np.ndarray
    errors: np.ndarray | None


def _quotients(above: list[int], below: list[int]) -> np.ndarray:
    """Rounded once; NaN for 0/0."""
    pairs = zip(above, below, strict=True)
    return np.array([a / b if b else math.nan for a, b in pairs], np.float64)


def _rounded(weight: int, unit: int) -> float:
    if weight != weight:
        return math.nan
    try:
        return weight / (1 << unit)
    except OverflowError:
        return math.inf
