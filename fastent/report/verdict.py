"""What a comparison says, in a sentence with its interval."""

from __future__ import annotations

import math
from typing import Any

from fastent.report.document import to_float
from fastent.report.numbers import interval, with_error
from fastent.report.table import unit_of

Metrics = dict[str, Any]


def verdict(metrics: Metrics, base: float | None = None) -> str | None:
    """Which of P and Q has the lower loss, or without labels how far Q is from P.

    Parameters
    ----------
    metrics : dict
        Of the document of `fastent compare`; errors by cluster count where there are such.
    base : float, optional
        Of the logarithm.

    Returns
    -------
    str or None
        None where a number is missing or not finite.
    """
    if "cross_entropy_difference" in metrics:
        return _of_losses(metrics["cross_entropy_difference"], unit_of("cross_entropy", base))
    if "kl_divergence" in metrics:
        return _of_divergence(metrics, unit_of("kl_divergence", base))
    return None


def _of_losses(entry: Metrics, unit: str) -> str | None:
    value, error, ends, by_cluster = _estimate(entry)
    if not math.isfinite(value):
        return None
    word = "higher" if value >= 0 else "lower"
    if ends is not None and value < 0:
        ends = [-ends[1], -ends[0]]
    if ends is None:
        head = "Too few rows to tell P from Q"
    elif ends[0] > 0:
        head = f"Q is {'worse' if value > 0 else 'better'} than P"
    else:
        head = "No difference between P and Q is seen"
    size = with_error(abs(value), error)
    return f"{head}: Q's cross-entropy is {word} by {size} {unit} a row{_within(ends, by_cluster)}."


def _of_divergence(metrics: Metrics, unit: str) -> str | None:
    value, error, ends, by_cluster = _estimate(metrics["kl_divergence"])
    if not math.isfinite(value):
        return None
    same = ""
    if "top1_agreement" in metrics:
        share = to_float(metrics["top1_agreement"]["value"])
        if share is not None and math.isfinite(share):
            same = f"; their largest classes agree in {100 * share:.4g} % of the rows"
    size = with_error(value, error)
    return f"KL(P ‖ Q) is {size} {unit} a row{_within(ends, by_cluster)}{same}."


def _estimate(entry: Metrics) -> tuple[float, float | None, list[float] | None, bool]:
    by_cluster = entry.get("cluster_interval") is not None
    prefix = "cluster_" if by_cluster else ""
    ends = entry.get(f"{prefix}interval")
    value = to_float(entry["value"])
    return (
        math.nan if value is None else value,
        to_float(entry.get(f"{prefix}stderr")),
        None if ends is None else [float(end) for end in ends],
        by_cluster,
    )


def _within(ends: list[float] | None, by_cluster: bool) -> str:
    if ends is None:
        return ""
    low, high = interval(*ends)
    return f", 95 % interval {low} to {high}{' by cluster' if by_cluster else ''}"
