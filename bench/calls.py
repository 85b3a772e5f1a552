"""What small calls and the accumulator cost: microseconds rather than gigabytes a second."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine, ours
from bench.measure import Contender, best_time_per_call, take_turns
from bench.operands import Operands, build
from bench.rivals import Rival
from bench.scoring import scoring_beside_reading
from bench.workloads import Workload

EIGHT_METRICS = (
    "cross_entropy perplexity accuracy top5_accuracy brier entropy confidence ece".split()
)
IMPORT_RUNS = 9
RIVALS_OF_ONE_ROW = ("scipy", "rel_entr", "numpy", "torch")
UNITS = {"ms": 1e3, "µs": 1e6, "ns": 1e9}

Call = Callable[[], Any]


@dataclass
class Run:
    """What is measured, beside whom, and how: small inputs if it is to be ``quick``."""

    fastent: Any
    rivals: Sequence[Rival]
    backend: str | None
    quick: bool

    def has(self, rival: str) -> bool:
        return any(one.name == rival for one in self.rivals)

    def operands(self, *workload: Any) -> Operands:
        wanted = Workload(*workload)
        return build(wanted.quick() if self.quick else wanted)

    def one_by_one(self, call: Call) -> float:
        """Seconds of a call of microseconds."""
        return best_time_per_call(call, 0.02 if self.quick else 0.5)

    def in_turns(self, calls: dict[str, Call]) -> dict[str, float]:
        """Seconds of each call."""
        contenders = [Contender(name, call) for name, call in calls.items()]
        for contender in contenders:
            contender.start()
        take_turns(contenders, 0.1 if self.quick else 3.0, 20)
        return {one.name: one.best for one in contenders}


Measure = Callable[[Run], dict[str, Any]]


def line(
    name: str, seconds: dict[str, float], unit: str, goal: float | None = None, **more: float
) -> dict[str, Any]:
    values = {tool: t * UNITS[unit.split()[0]] for tool, t in seconds.items() if np.isfinite(t)}
    return {"call": name, "unit": unit, "tools": values, "goal": goal, **more}


def one_row(run: Run) -> dict[str, Any]:
    """KL of one row of 10 float64 classes."""
    x = build(Workload("kl_divergence", "probs", "float64", 1, 10))
    p, q = x.true[0], x.pred[0]
    keywords = {} if run.backend is None else {"backend": run.backend}
    tools = {"fastent": run.one_by_one(lambda: run.fastent.kl_divergence(p, q, **keywords))}
    x.true, x.pred, x.out = p, q, None
    for rival in run.rivals:
        call = rival.prepare("kl_divergence", x) if rival.name in RIVALS_OF_ONE_ROW else None
        if call:
            tools[rival.name] = run.one_by_one(call)
    return line("kl_divergence, one row of 10 float64 classes", tools, "µs", 1.5)


def small_update(run: Run) -> dict[str, Any]:
    """Accumulator.update on 32 rows of 10 float32 logits."""
    x = build(Workload("sparse_cross_entropy", "logits", "float32", 32, 10))
    accumulator = run.fastent.Accumulator(
        ["cross_entropy", "accuracy"], task="sparse", kind="logits", backend=run.backend
    )
    tools = {"fastent": run.one_by_one(lambda: accumulator.update(x.true, x.pred))}
    name = "Accumulator.update, cross_entropy and accuracy, 32 × 10 float32 logits"
    return line(name, tools, "µs", 4)


def eight_metrics(rows: int, classes: int, ratio_goal: float, goal: float | None) -> Measure:
    """An accumulator of eight metrics as a multiple of the time of one of cross-entropy."""

    def measure(run: Run) -> dict[str, Any]:
        x = run.operands("sparse_cross_entropy", "logits", "float32", rows, classes)

        def update(metrics: list[str]) -> None:
            accumulator = run.fastent.Accumulator(
                metrics, task="sparse", kind="logits", backend=run.backend
            )
            accumulator.update(x.true, x.pred)

        calls = {"fastent": EIGHT_METRICS, "cross_entropy": ["cross_entropy"]}
        seconds = run.in_turns({name: partial(update, metrics) for name, metrics in calls.items()})
        tools = {name: best / x.rows for name, best in seconds.items()}
        size = f"{x.rows:,} × {classes:,} float32 logits"
        name = f"Accumulator of 8 metrics over one of cross_entropy, {size}"
        ratio = tools["fastent"] / tools["cross_entropy"]
        return line(name, tools, "ns a row", goal, ratio=ratio, ratio_goal=ratio_goal)

    return measure


def two_threads(run: Run) -> dict[str, Any]:
    """Two threads against one."""
    x = run.operands("kl_divergence", "probs", "float32", 500_000, 100)
    call = partial(ours.prepare, run.fastent, "kl_divergence", x, backend=run.backend)
    tools = run.in_turns({"fastent": call(num_threads=2), "one thread": call(num_threads=1)})
    name = f"kl_divergence on 2 threads against one, {x.rows:,} × 100 float32"
    ratio = tools["one thread"] / tools["fastent"]
    # what one thread draws: near the limit there is nothing left for another one
    drawn = x.true.nbytes * 2 / tools["one thread"] / 1e9
    return line(name, tools, "ms", ratio=ratio, ratio_at_least=1.9, gigabytes_per_second=drawn)


def import_time(run: Run) -> dict[str, Any]:
    """What ``import fastent`` adds to ``import numpy``, median over fresh interpreters."""
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import numpy; "
        "start = time.perf_counter(); import fastent; print(time.perf_counter() - start)"
    )
    root = str(Path(run.fastent.__file__).parents[1])
    command = [sys.executable, "-c", script, root]
    runs = []
    for _ in range(2 if run.quick else IMPORT_RUNS):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(float(done.stdout))
    return line("import fastent, over import numpy", {"fastent": statistics.median(runs)}, "ms", 40)


def scored_file(name: str, words: tuple[str, ...], ratio_goal: float) -> Measure:
    """The command on a file in the page cache over reading the same bytes."""

    def measure(run: Run) -> dict[str, Any]:
        size, repeats = (2_000_000, 1) if run.quick else (2_000_000_000, 5)
        threads = machine.cores()
        (reading, scoring), _, _ = scoring_beside_reading(1000, size, threads, words, repeats)
        tools = {"fastent": scoring, "reading": reading}
        title = f"{name}, × 1,000 float32 logits in the page cache"
        return line(title, tools, "ms", ratio=scoring / reading, ratio_goal=ratio_goal)

    return measure


def all_pairs(classes: int, divergence: str) -> Measure:
    """`fe.pairwise` on one thread beside SciPy's cdist and the row kernel on rows in cache."""

    def measure(run: Run) -> dict[str, Any]:
        rows = 30 if run.quick else 1000 if classes < 500 else 300
        x = build(Workload(divergence, "probs", "float64", rows, classes))
        p, q, out = x.true, x.pred, np.empty((rows, rows))
        some = max(1, 16384 // classes)
        held = [a[np.arange(some) % rows].copy() for a in (p, q)]
        function, room = getattr(run.fastent, divergence), np.empty(some)
        pairs = rows * rows
        repeats = -(-pairs // some)

        def at_once() -> None:
            run.fastent.pairwise(divergence, p, q, out=out, num_threads=1)

        def by_rows() -> None:
            for _ in range(repeats):
                function(*held, out=room, num_threads=1)

        calls: dict[str, Call] = {"fastent": at_once, "row kernel": by_rows}
        if divergence == "js_divergence" and run.has("scipy"):
            from scipy.spatial.distance import cdist

            calls["scipy cdist"] = lambda: cdist(p, q, "jensenshannon")
        counts = {"row kernel": repeats * some}
        tools = {name: best / counts.get(name, pairs) for name, best in run.in_turns(calls).items()}
        name = f"pairwise {divergence}, {rows:,} × {rows:,} rows of {classes:,} float64, 1 thread"
        ratio = tools["row kernel"] / tools["fastent"]
        return line(name, tools, "ns a pair", ratio=ratio, ratio_at_least=0.7)

    return measure


def one_against_many(run: Run) -> dict[str, Any]:
    """Every row against one, beside the same rows written out in full."""
    x = run.operands("kl_divergence", "probs", "float32", 200_000, 100)
    p, q, kl = x.true, x.pred, run.fastent.kl_divergence
    written_out = np.broadcast_to(q[0], q.shape).copy()
    options: dict[str, Any] = {"out": np.empty(x.rows), "num_threads": 1, "backend": run.backend}
    calls: dict[str, Call] = {
        "fastent": lambda: kl(p, q[0], **options),
        "written out": lambda: kl(p, written_out, **options),
    }
    if run.has("scipy"):
        from scipy.stats import entropy

        calls["scipy"] = lambda: entropy(p, q[0], axis=-1)
    tools = run.in_turns(calls)
    name = f"kl_divergence of {x.rows:,} rows of 100 float32 against one, 1 thread"
    ratio = tools["written out"] / tools["fastent"]
    return line(name, tools, "ms", ratio=ratio, ratio_at_least=0.9)


CALLS: dict[str, Measure] = {
    "one_row": one_row,
    "small_update": small_update,
    "eight_metrics": eight_metrics(100_000, 1000, 1.3, None),
    "eight_metrics_few": eight_metrics(10_000_000, 10, 2, 8),
    "two_threads": two_threads,
    "import_time": import_time,
    "score": scored_file("fastent score, cross_entropy", ("--metrics", "cross_entropy"), 1.2),
    "score_default": scored_file("fastent score, default metrics", (), 1.5),
    "compare": scored_file("fastent compare, default metrics", ("compare",), 2),
    "one_against_many": one_against_many,
    "pairwise_js": all_pairs(50, "js_divergence"),
    "pairwise_js_wide": all_pairs(1000, "js_divergence"),
    "pairwise_kl_wide": all_pairs(1000, "kl_divergence"),
}
