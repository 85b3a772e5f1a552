"""One line of the table: a workload, fastent and the rivals in turns."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import ours
from bench.exact import Truth
from bench.limit import ReadLimit
from bench.measure import Contender, take_turns
from bench.operands import Operands, build
from bench.rivals import Rival
from bench.workloads import Workload


def measure_line(
    workload: Workload,
    fastent: Any,
    rivals: Sequence[Rival],
    limit: ReadLimit,
    *,
    backend: str | None = None,
    also: Sequence[str] = (),
    budget: float = 2.0,
    repeats: int = 15,
    exact_elements: int = 260_000,
) -> dict[str, Any]:
    """Times of every tool that can do the workload, and the error of its result.

    ``also`` names further backends of fastent, measured as if they were rivals.
    """
    x = build(workload)
    truth = Truth(workload.function, x, exact_elements)
    contenders = []
    # Rivals warn of what they do to hard inputs; that is not what is measured here.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name, chosen in (("fastent", backend), *((f"fastent {b}", b) for b in also)):
            call = ours.prepare(fastent, workload.function, x, backend=chosen)
            contender = Contender(name, call, chosen == "numba", x.rows)
            contender.error = truth.error(np.asarray(contender.start()), x.rows)
            contenders.append(contender)
        for rival in rivals:
            contender = _rival(rival, workload, x)
            if contender:
                contender.error = truth.error(rival.array(contender.start()), contender.rows)
                contenders.append(contender)
        here = [limit.again()]
        take_turns(contenders, budget, repeats, between=lambda: here.append(limit.again()))
    line = _record(workload, contenders, max(here))
    del contenders, x, truth, call
    gc.collect()
    return line


def _rival(rival: Rival, workload: Workload, x: Operands) -> Contender | None:
    operands = x
    if rival.rows_at_most and x.rows > rival.rows_at_most:
        operands = x.part(slice(rival.rows_at_most))
    call = rival.prepare(workload.function, operands)
    return Contender(rival.name, call, rival.compiles, operands.rows) if call else None


def _record(workload: Workload, contenders: list[Contender], limit: float) -> dict[str, Any]:
    tools = {}
    for c in contenders:
        share_of_rows = c.rows / workload.rows
        tools[c.name] = {
            "seconds": c.best,
            "first_seconds": c.first,
            "runs": c.runs,
            "rows": c.rows,
            "gigabytes_per_second": workload.input_bytes * share_of_rows / c.best / 1e9,
            "elements_per_second": workload.elements * share_of_rows / c.best,
            "error": c.error,
        }
    return {
        "workload": workload.name,
        "group": workload.group,
        "input_bytes": workload.input_bytes,
        "read_limit_here": limit,
        "tools": tools,
    }
