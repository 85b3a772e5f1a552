"""Means and ratios of two runs over the same documents, their difference, and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from fastent import _inference as inference


@dataclass
class Estimate:
    """A number with its errors: of independent documents, and of clusters of them."""

    value: float
    stderr: float | None
    cluster_stderr: float | None = None
    count: int = 0
    clusters: int | None = None

    def interval(self, clustered: bool = False) -> list[float] | None:
        error, degrees = self._of(clustered)
        return inference.interval(self.value, error, degrees)

    def p_value(self, clustered: bool = False) -> float | None:
        error, degrees = self._of(clustered)
        return inference.p_value(self.value, error, degrees)

    def _of(self, clustered: bool) -> tuple[float | None, int]:
        if clustered:
            return self.cluster_stderr, (self.clusters or 0) - 1
        return self.stderr, self.count - 1


def ratio(values: Sequence[float], denominators: Sequence[float]) -> tuple[float, list[float]]:
    """Σ values / Σ denominators, and what each document adds to its error."""
    total = math.fsum(denominators)
    if not total > 0:
        return math.nan, [math.nan] * len(values)
    found = math.fsum(values) / total
    return found, [(a - found * b) / total for a, b in zip(values, denominators, strict=True)]


def estimate(value: float, parts: Sequence[float], clusters: Sequence[Hashable] | None) -> Estimate:
    """From what each document adds: √(n/(n−1) Σ part²), and the same of the clusters' sums."""
    found = Estimate(value, _root(parts), None, len(parts))
    if clusters is not None:
        groups: dict[Hashable, list[float]] = {}
        for part, name in zip(parts, clusters, strict=True):
            groups.setdefault(name, []).append(part)
        found.cluster_stderr = _root([math.fsum(group) for group in groups.values()])
        found.clusters = len(groups)
    return found


def _root(parts: Sequence[float]) -> float | None:
    n = len(parts)
    if n < 2:
        return None
    return math.sqrt(math.fsum(part * part for part in parts) * n / (n - 1))


def paired(
    a: tuple[Sequence[float], Sequence[float]],
    b: tuple[Sequence[float], Sequence[float]],
    clusters: Sequence[Hashable] | None = None,
) -> tuple[Estimate, Estimate, Estimate]:
    """The ratios of two runs, each (values, denominators) document by document, and b less a."""
    (first, parts_a), (second, parts_b) = ratio(*a), ratio(*b)
    differ = [y - x for x, y in zip(parts_a, parts_b, strict=True)]
    return (
        estimate(first, parts_a, clusters),
        estimate(second, parts_b, clusters),
        estimate(second - first, differ, clusters),
    )
