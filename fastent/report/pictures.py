"""From the sums of a run to what the plots draw."""

from __future__ import annotations

import numpy as np

from fastent.backends.cython.state import bucket_middle
from fastent.report import plots
from fastent.results import Report, rounded


def loss_distribution(report: Report) -> plots.Distribution:
    """Row losses and the weight at each, from the histogram behind the quantiles."""
    place = report.place(report["cross_entropy"].metric)
    counts = report.state.histogram(place)
    total = sum(counts.values())
    weight = report["cross_entropy"].weight
    pairs = sorted((bucket_middle(bucket), weight * (n / total)) for bucket, n in counts.items())
    pairs = [pair for pair in pairs if pair[0] == pair[0]]
    return plots.Distribution(
        np.array([value for value, _ in pairs]), np.array([share for _, share in pairs])
    )


def bins(report: Report) -> plots.Bins | None:
    """Calibration bins, None where the task has none or a NaN spoilt one."""
    found = report.state.calibration()
    sums = np.array([[rounded(x) for x in triple] for triple in found])
    if not sums.size or not np.isfinite(sums).all():
        return None
    confidence, hits, weight = sums.T
    return plots.Bins(weight, confidence, hits)


def score_plots(report: Report) -> list[plots.Plot]:
    drawn = []
    found = bins(report)
    if found is not None:
        drawn.append(plots.reliability(found))
    drawn.append(plots.losses(loss_distribution(report), "nats"))
    if found is not None:
        drawn.append(plots.confidence(found))
    return drawn
