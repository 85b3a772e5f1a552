"""The registry of metrics: one record each, found by name.

A metric is a statistic of *columns*, the row values that backends compute. Adding one means a
record here and, if it needs a new column, a formula in each backend.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from fastent._custom import RowDivergence, as_divergence
from fastent._errors import as_text, shown
from fastent.divergences import named

TASKS = ("sparse", "categorical", "binary", "divergence", "logprob", "topk")


@dataclass(frozen=True)
class Metric:
    """What a metric is made of.

    Attributes
    ----------
    name : str
    tasks : tuple of str
        Tasks that have it.
    column : str
        The row value it is the weighted mean of, or is derived from.
    statistic : str
        How sums become the value: a method of `fastent.results.Part`.
    description : str
    entropic : bool
        Whether its row values are logarithms, and so follow `base` and class weights.
    threshold : int
        k > 0: the row value is 1 where the column (a rank, from 0) is below k, else 0.
    divergence : RowDivergence, optional
        What computes the column, if no backend does; `parameters` go with it.
    """

    name: str
    tasks: tuple[str, ...]
    column: str
    statistic: str
    description: str
    entropic: bool = False
    threshold: int = 0
    divergence: RowDivergence | None = None
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def ready(self) -> bool:
        """Whether its name is enough to find it."""
        return self.divergence is None or self.divergence.ready

    def same_as(self, other: Metric) -> bool:
        if self.divergence is None or other.divergence is None:
            return self.divergence is other.divergence
        return self.parameters == other.parameters and self.divergence.same_as(other.divergence)

    @property
    def range(self) -> str:
        """Where its values lie."""
        return RANGES.get(self.name, RANGES.get(self.statistic, "[0, ∞)"))

    @property
    def unit(self) -> str:
        if self.statistic in UNITS:
            return UNITS[self.statistic]
        return "nats, or --base" if self.entropic else ""

    @property
    def by_row(self) -> bool:
        """Whether it has row values, and so a standard error, extremes and quantiles."""
        return self.statistic in ("mean", "perplexity", "bits", "root")

    @property
    def by_class(self) -> bool:
        """Whether it has a value for each class."""
        return self.statistic in ("precision", "recall", "f1", "jaccard", "ece_classwise")

    @property
    def needs_pairs(self) -> bool:
        """Whether it is made of a confusion table."""
        return self.statistic in ("confusion", "precision", "recall", "f1", "jaccard")

    @property
    def needs_labels(self) -> bool:
        return self.statistic in ("label_entropy", "skill")

    @property
    def needs_bins(self) -> bool:
        return self.statistic in ("ece", "mce", "ece_equal_mass", "ece_classwise")

    @property
    def needs_clusters(self) -> bool:
        return self.statistic == "sequence_mean"


def _mean(name: str, tasks: str, description: str, entropic: bool = False) -> Metric:
    return Metric(name, tuple(tasks.split()), name, "mean", description, entropic)


UNITS = {"bits": "bits", "perplexity": "classes", "bits_per_byte": "bits a byte"}
RANGES = {
    "perplexity": "[1, ∞)",
    "brier": "[0, 2], binary [0, 1]",
    "js_divergence": "[0, ln 2]",
    "skill": "(−∞, 1]",
    "head": "(−∞, ∞)",
    **dict.fromkeys(("entropy", "target_entropy", "label_entropy", "entropy_p", "entropy_q",
                     "entropy_low", "entropy_high"), "[0, ln C]"),
    "confidence": "[1/C, 1]",
    **dict.fromkeys(("accuracy", "top{k}_accuracy", "ece", "ece_equal_mass", "ece_classwise", "mce",
                     "total_variation", "hellinger",
                     "precision", "recall", "f1", "iou", "dice",
                     "tversky", "top1_agreement", "top5_overlap", "top10_overlap",
                     "top1_in_top5", "tail_p", "tail_q", "overlap"), "[0, 1]"),
}  # fmt: skip

CLASSED = ("sparse", "categorical", "binary")


def _by_class(name: str, statistic: str, ratio: str) -> Metric:
    return Metric(name, CLASSED[:2], "", statistic, f"mean over the classes of their {ratio}")


def _of_one(name: str, ratio: str) -> Metric:
    return Metric(name, ("binary",), "", name, f"{ratio}, of class 1", parameters=(("class", 1),))


def _overlap(name: str, description: str, alpha: float, beta: float) -> Metric:
    weights = (("alpha", alpha), ("beta", beta))
    return Metric(name, ("binary",), "", "tversky", description, parameters=weights)


RECORDS = (
    _mean(
        "cross_entropy",
        "sparse categorical binary divergence logprob",
        "mean of −Σ p log q",
        entropic=True,
    ),
    Metric(
        "sequence_cross_entropy",
        ("sparse", "categorical", "binary", "logprob"),
        "cross_entropy",
        "sequence_mean",
        "mean over the clusters of their mean cross-entropies: each counts alike, however long",
        entropic=True,
    ),
    Metric(
        "perplexity",
        ("sparse", "categorical", "logprob"),
        "cross_entropy",
        "perplexity",
        "exponential of the mean cross-entropy",
        entropic=True,
    ),
    Metric(
        "bits",
        ("sparse", "categorical", "binary", "logprob"),
        "cross_entropy",
        "bits",
        "mean cross-entropy in bits, whatever the base",
        entropic=True,
    ),
    Metric(
        "bits_per_byte",
        ("logprob",),
        "cross_entropy",
        "bits_per_byte",
        "sum of the cross-entropies in bits over that of the bytes behind the rows",
        entropic=True,
    ),
    _mean(
        "accuracy",
        "sparse categorical binary",
        "share of rows whose first maximum is the label (binary: p ≥ ½ as t ≥ ½)",
    ),
    Metric(
        "top{k}_accuracy",
        ("sparse",),
        "rank",
        "mean",
        "share of rows whose label is among the k largest classes",
    ),
    _mean("brier", "sparse categorical binary", "mean of Σ (q − y)² (binary: (p − t)²)"),
    _mean("entropy", "sparse categorical binary", "mean entropy of the predictions", entropic=True),
    _mean("target_entropy", "categorical", "mean entropy of the targets", entropic=True),
    _mean("confidence", "sparse", "mean of the largest probability"),
    _mean("margin", "sparse", "mean of the largest probability less the second largest"),
    Metric(
        "ece",
        ("sparse", "binary"),
        "confidence",
        "ece",
        "expected calibration error: mean gap of confidence and frequency in equal-width bins "
        "(lo, hi]",
    ),
    Metric(
        "ece_equal_mass",
        ("sparse", "binary"),
        "confidence",
        "ece_equal_mass",
        "the same over bins of equal weight, runs of cells of the confidence histogram",
    ),
    Metric(
        "ece_classwise",
        ("sparse",),
        "confidence",
        "ece_classwise",
        "mean over the classes of the same of their probabilities in all rows",
    ),
    Metric("mce", ("sparse", "binary"), "confidence", "mce", "largest calibration error of a bin"),
    Metric(
        "label_entropy",
        ("sparse", "binary"),
        "",
        "label_entropy",
        "entropy of the label frequencies seen: the cost of predicting the base rates",
        entropic=True,
    ),
    Metric(
        "skill",
        ("sparse", "binary"),
        "cross_entropy",
        "skill",
        "1 − cross_entropy / label_entropy, McFadden's R²: 0 is as good as the label frequencies",
    ),
    Metric(
        "confusion",
        CLASSED,
        "",
        "confusion",
        "table of weights by label (rows) and first maximum (binary: t ≥ ½ and p ≥ ½)",
    ),
    _by_class("precision", "precision", "hits over predictions"),
    _by_class("recall", "recall", "hits over labels"),
    _by_class("f1", "f1", "twice the hits over labels and predictions"),
    _by_class("iou", "jaccard", "hits over rows that have it as label or prediction"),
    _by_class("dice", "f1", "f1, by the name that it has for images"),
    _of_one("precision", "hits over predictions"),
    _of_one("recall", "hits over labels"),
    _of_one("f1", "twice the hits over labels and predictions"),
    _overlap("dice", "2I / (Σp + Σt), I = Σ p·t of the probabilities as they are", 0.5, 0.5),
    _overlap("iou", "I / (Σp + Σt − I), I = Σ p·t of the probabilities as they are", 1.0, 1.0),
    _overlap(
        "tversky({alpha},{beta})", "I / (I + alpha·(Σp − I) + beta·(Σt − I)), I = Σ p·t", 1, 1
    ),
    _mean("kl_divergence", "categorical divergence", "mean of Σ p log(p/q)", entropic=True),
    _mean("reverse_kl", "divergence", "mean of Σ q log(q/p)", entropic=True),
    _mean("js_divergence", "divergence", "mean Jensen-Shannon divergence", entropic=True),
    _mean("entropy_p", "divergence", "mean entropy of the first operand", entropic=True),
    _mean("entropy_q", "divergence", "mean entropy of the second operand", entropic=True),
    _mean("total_variation", "divergence", "mean of half the sum of absolute differences"),
    _mean("hellinger", "divergence", "mean Hellinger distance"),
    _mean("top1_agreement", "divergence", "share of rows with the same first maximum"),
    _mean("top5_overlap", "divergence", "mean share of the five largest classes that are in both"),
    _mean("top10_overlap", "divergence", "mean share of the ten largest classes that are in both"),
    _mean(
        "top1_in_top5",
        "divergence",
        "share of rows whose first maximum is among the five largest of the other",
    ),
    _mean("head", "topk", "mean of Σ p log(p/q) over the list: no divergence", entropic=True),
    _mean("tail_p", "topk", "mean of what the first operand has outside the list"),
    _mean("tail_q", "topk", "mean of what the second operand has outside the list"),
    _mean("bucket", "topk", "mean KL of the listed classes and one of all others", entropic=True),
    _mean("low", "topk", "mean of the least KL that the list allows", entropic=True),
    _mean("high", "topk", "mean of the greatest KL that the list allows", entropic=True),
    _mean("ce_low", "topk", "mean of the least cross-entropy that the list allows", entropic=True),
    _mean("ce_high", "topk", "mean of the greatest cross-entropy", entropic=True),
    _mean("entropy_low", "topk", "mean of the least entropy of the first operand", entropic=True),
    _mean("entropy_high", "topk", "mean of its greatest entropy", entropic=True),
    _mean(
        "overlap", "topk", "mean share of the listed classes that are as many largest of the other"
    ),
)

METRICS = {record.name: record for record in reversed(RECORDS)}
_OF_TASK = {(record.name, task): record for record in RECORDS for task in record.tasks}

_TOP = re.compile(r"top([1-9]\d{0,8})_accuracy")
_TVERSKY = re.compile(r"tversky\(\s*(?:alpha\s*=)?([^,=]*),\s*(?:beta\s*=)?([^,=]*)\)")


def names(task: str) -> list[str]:
    """Names of the metrics of a task, in the order of the registry."""
    return [record.name for record in RECORDS if task in record.tasks]


def listed(text: str) -> list[str]:
    """The names in a list like ``cross_entropy,tversky(0.3,0.7)``."""
    return [name.strip() for name in re.split(r",(?![^()]*\))", text)]


def find(metric: Any, task: str) -> Metric:
    """The metric of that name, or that a divergence is.

    ``top5_accuracy`` and the like are made on demand, and so are ``tversky(0.3,0.7)`` and
    ready-made divergences by their names, ``renyi_divergence(alpha=2.0)``.
    """
    task = as_text(task)
    if type(task) is not str or task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {shown(task)}")
    if isinstance(metric, Metric):
        return metric
    if not isinstance(metric, str):
        return _of_divergence(metric, task)
    metric = as_text(metric)
    record = _OF_TASK.get((metric, task))
    top = _TOP.fullmatch(metric)
    if top and task == "sparse":
        record = replace(METRICS["top{k}_accuracy"], name=metric, threshold=int(top[1]))
    if (weights := _TVERSKY.fullmatch(metric)) and task == "binary":
        record = _tversky(metric, *weights.groups())
    if record is None and (ready := named(metric)) is not None:
        return _of_divergence(ready, task)
    if record is None or "{" in metric:
        raise ValueError(
            f"metrics: no {shown(metric)} in task {shown(task)}; it has {', '.join(names(task))}"
        )
    return record


def _tversky(metric: str, *weights: str) -> Metric:
    """By its weights of what is predicted wrongly and of what is missed, in one spelling."""
    try:
        alpha, beta = map(float, weights)
    except ValueError:
        alpha = beta = -1.0
    if not (0 <= alpha < math.inf and 0 <= beta < math.inf):
        raise ValueError(
            f"metrics: expected tversky(alpha,beta) of two numbers from 0 on, got {shown(metric)}"
        )
    name = ",".join(repr(x + 0.0).removesuffix(".0") for x in (alpha, beta))
    record = METRICS["tversky({alpha},{beta})"]
    return replace(record, name=f"tversky({name})", parameters=(("alpha", alpha), ("beta", beta)))


def _of_divergence(metric: Any, task: str) -> Metric:
    found = as_divergence(metric)
    if found is None:
        raise TypeError(f"metrics: expected names or divergences, got {type(metric).__name__}")
    divergence, parameters, name = found
    if task != "divergence":
        raise ValueError(
            f"metrics: {name} is a divergence and needs task 'divergence', not {shown(task)}"
        )
    if name in METRICS:
        if divergence.ready:  # the same, from the backends
            return METRICS[name]
        raise ValueError(f"metrics: {name!r} is the name of a built-in metric: rename the function")
    return Metric(
        name,
        ("divergence",),
        name,
        "mean",
        f"mean of {name}",
        divergence.nats,
        divergence=divergence,
        parameters=tuple(parameters.items()),
    )
