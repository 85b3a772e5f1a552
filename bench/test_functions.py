"""pytest-benchmark suite: every function against every rival, float32 and float64, 100 and 1000
classes.

``python -m pytest bench --benchmark-group-by=group`` runs it; ``-k "kl_divergence and float32"``
picks. Each group is one workload, so that a group's table compares the tools.
"""

from __future__ import annotations

import functools

import pytest

from bench import ours
from bench.operands import Operands, build
from bench.rivals import RIVALS
from bench.workloads import WORKLOADS, Workload

# 20 MB of input: beyond the caches of one core, and a round takes milliseconds.
INPUT_BYTES = 20e6
SUITE = [w.quick(INPUT_BYTES) for w in WORKLOADS if w.group == "functions"]
TOOLS = {"fastent": None, **{r.name: r for r in RIVALS}}


@functools.lru_cache(maxsize=1)
def operands(workload: Workload) -> Operands:
    return build(workload)


# Rivals warn, of logarithms of zero or of their own future.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    "workload", SUITE, ids=lambda w: w.name.replace(" × ", "x").replace(", ", "-").replace(",", "")
)
def test_speed(benchmark, workload: Workload, tool: str) -> None:
    x = operands(workload)
    rival = TOOLS[tool]
    if rival is None:
        fastent = pytest.importorskip("fastent")
        call = ours.prepare(fastent, workload.function, x)
    else:
        call = rival.prepare(workload.function, x)
    if call is None:
        pytest.skip(f"{tool}: not installed, or no {workload.function} from {workload.kind}")
    benchmark.group = workload.name
    benchmark.extra_info["input_bytes"] = workload.input_bytes
    benchmark.pedantic(call, rounds=5, warmup_rounds=1)
