"""fastent's own call of a workload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.operands import Operands


def prepare(fastent: Any, function: str, x: Operands, **settings: Any) -> Callable[[], Any]:
    """The call to be timed; ``settings`` are further keywords, backend or num_threads."""
    compute = getattr(fastent, function)
    arguments = [a for a in (x.true, x.pred) if a is not None]
    keywords: dict[str, Any] = {"kind": x.kind, **settings}
    if x.axis != -1:
        keywords["axis"] = x.axis
    if x.reduction != "none":
        keywords["reduction"] = x.reduction
    if x.out is not None:
        keywords["out"] = x.out
    return lambda: compute(*arguments, **keywords)
