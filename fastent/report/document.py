"""The report as one JSON document: full floats, and nothing that differs between two runs."""

from __future__ import annotations

import json
import math
from typing import Any


def number(value: float | None) -> float | str | None:
    """A float as JSON can hold it: inf and nan have no number there."""
    if value is None or math.isfinite(value):
        return value
    return repr(float(value))


def entry(metric: Any, clustered: bool = False) -> dict[str, Any]:
    """One metric of an accumulator's report."""
    found = {
        "value": number(metric.value),
        "stderr": number(metric.stderr),
        "count": metric.count,
        "weight": number(metric.weight),
    }
    if clustered:
        found["cluster_stderr"] = number(metric.cluster_stderr)
    return found


def to_float(value: float | str | None) -> float | None:
    """The way back from ``number``."""
    return None if value is None else float(value)


def render(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
