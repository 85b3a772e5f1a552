"""The report as one JSON document: full floats, and nothing that differs between two runs."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

JSON: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False}
compact = json.JSONEncoder(**JSON).encode


def number(value: float | None) -> float | str | None:
    """A float as JSON can hold it: inf and nan have no number there."""
    if value is None or math.isfinite(value):
        return value
    return repr(float(value))


def entry(metric: Any, clustered: bool = False) -> dict[str, Any]:
    """One metric of an accumulator's report."""
    found = {
        "value": numbers(metric.value),
        "stderr": number(metric.stderr),
        "count": metric.count,
        "weight": number(metric.weight),
    }
    if clustered:
        found["cluster_stderr"] = number(metric.cluster_stderr)
    for name in ("classes", "per_class", "per_class_stderr"):
        if getattr(metric, name, None) is not None:  # what is no Result has none
            found[name] = numbers(getattr(metric, name))
    return found


def numbers(found: Any) -> Any:
    """The same of an array, and names as they are."""
    if hasattr(found, "tolist"):
        found = found.tolist()
    if isinstance(found, list | tuple):
        return [numbers(x) for x in found]
    return number(found) if isinstance(found, float) else found


def columns(table: Mapping[str, Any] | None) -> dict[str, list[float | str | None]] | None:
    """A table as lists of numbers by column."""
    if table is None:
        return None
    return {name: [number(float(x)) for x in column] for name, column in table.items()}


def histogram(found: Any) -> dict[str, Any]:
    """The bars of a metric's row values, and the weight that none shows."""
    return {**(columns(found.columns()) or {}), "zero": found.zero, "infinite": found.infinite}


def to_float(value: float | str | None) -> float | None:
    """The way back from ``number``."""
    return None if value is None else float(value)


class Groups(Mapping[str, dict[str, Any]]):
    """Entries by group, worked out one at a time: all of 100,000 groups would not fit.

    Parameters
    ----------
    parts : mapping
        The groups of a report.
    describe : callable
        From a group's name and part to its entries.
    """

    def __init__(
        self, parts: Mapping[int | str, Any], describe: Callable[[int | str, Any], dict[str, Any]]
    ) -> None:
        self._parts = parts
        self._describe = describe
        self._names = {str(name): name for name in parts}

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._describe(self._names[name], self._parts[self._names[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def highest_losses(self, count: int) -> list[tuple[str, Any]]:
        """The groups of highest finite cross-entropy and what is known of it, the highest first."""
        losses = [(self._parts[name]["cross_entropy"].value, text)
                  for text, name in self._names.items()]  # fmt: skip
        finite = [(-loss, text) for loss, text in losses if math.isfinite(loss)]
        return [
            (text, self._parts[self._names[text]]["cross_entropy"])
            for _, text in heapq.nsmallest(count, finite)
        ]

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The groups of most rows and their numbers, the largest first."""
        rows = []
        for text, name in self._names.items():
            part = self._parts[name]
            rows.append((text, part.state.rows(0, part.group)))
        return heapq.nlargest(count, rows, key=lambda pair: pair[1])


def render(document: dict[str, Any]) -> Iterator[bytes]:
    """The document as text, in pieces."""
    separator = "{"
    for key, value in document.items():
        yield f'{separator}\n  "{key}": '.encode()
        separator = ","
        if isinstance(value, Groups):
            yield from _render_groups(value)
        else:
            yield _text(json.dumps(value, indent=2, **JSON).replace("\n", "\n  "))
    yield b"\n}\n"


def _render_groups(groups: Groups) -> Iterator[bytes]:
    """A line for each group: with an indent it is Python that writes JSON, six times slower."""
    separator = "{"
    for name, entries in groups.items():
        yield _text(f"{separator}\n    {compact(name)}: {compact(entries)}")
        separator = ","
    yield b"\n  }" if len(groups) else b"{}"


def _text(text: str) -> bytes:
    """A file name that is not UTF-8 has halves of surrogate pairs: JSON writes them \\udcff."""
    return text.encode(errors="backslashreplace")
