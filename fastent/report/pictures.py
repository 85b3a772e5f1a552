"""From the sums of a run to what the plots draw."""

from __future__ import annotations

import math

import numpy as np

from fastent.report import plots
from fastent.report.calibration import effective
from fastent.report.histogram import row_values
from fastent.report.table import unit_of
from fastent.results import Part, rounded

MARKS = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}


def distribution(
    report: Part, name: str, title: str, axis: str, quantiles: dict[str, float] | None = None
) -> plots.Plot:
    """How the row values of a metric are spread, with lines at quantiles; its own are 1 % off."""
    marks = quantiles or {mark: report[name].quantile(q) for mark, q in MARKS.items()}
    marks = {mark: value for mark, value in marks.items() if math.isfinite(value)}
    unit = unit_of(name, report.layout.base)
    return plots.distribution(name, title, axis, row_values(report, name), marks, unit)


def bins(report: Part) -> plots.Bins | None:
    """Calibration bins, None where the task has none or a NaN spoilt one."""
    sums = np.array([[rounded(x) for x in sums[:3]] for sums in report.state.bin_sums()])
    if not sums.size or not np.isfinite(sums).all():
        return None
    confidence, hits, weight = sums.T
    return plots.Bins(weight, confidence, hits, effective(report))


def score_plots(report: Part, words: plots.Words) -> list[plots.Plot]:
    drawn = [distribution(report, "cross_entropy", "Row losses", "cross-entropy of a row")]
    found = bins(report)
    if found is not None and found.weight.any():
        drawn = [plots.reliability(found, words), *drawn, plots.confidence(found, words)]
    return drawn


def report_plots(report: Part, words: plots.Words) -> list[plots.Plot]:
    """Of a report with any metrics: the losses, or else each metric that has row values."""
    if "cross_entropy" in report:
        return score_plots(report, words)
    return [
        distribution(report, name, f"{name} over the rows", f"{name} of a row")
        for name in report
        if report[name].max is not None and not name.endswith(("accuracy", "agreement"))
    ]
