"""What small calls and the accumulator cost: microseconds rather than gigabytes a second."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine, ours
from bench.measure import Contender, best_time_per_call, take_turns
from bench.operands import build
from bench.rivals import Rival
from bench.scoring import scoring_beside_reading
from bench.workloads import Workload

Measure = Callable[..., dict]
EIGHT_METRICS = (
    "cross_entropy perplexity accuracy top5_accuracy brier entropy confidence ece".split()
)
IMPORT_RUNS = 9
RIVALS_OF_ONE_ROW = ("scipy", "rel_entr", "numpy", "torch")


def one_row(fastent: Any, rivals: Sequence[Rival], backend: str | None, quick: bool) -> dict:
    """KL of one row of 10 float64 classes, in µs."""
    seconds = 0.02 if quick else 0.5
    x = build(Workload("kl_divergence", "probs", "float64", 1, 10))
    p, q = x.true[0], x.pred[0]
    keywords = {} if backend is None else {"backend": backend}
    tools = {
        "fastent": best_time_per_call(lambda: fastent.kl_divergence(p, q, **keywords), seconds)
    }
    x.true, x.pred, x.out = p, q, None
    for rival in rivals:
        call = rival.prepare("kl_divergence", x) if rival.name in RIVALS_OF_ONE_ROW else None
        if call:
            tools[rival.name] = best_time_per_call(call, seconds)
    return line_of("kl_divergence, one row of 10 float64 classes", tools, 1e6, "µs", 1.5)


def small_update(fastent: Any, rivals: Sequence[Rival], backend: str | None, quick: bool) -> dict:
    """Accumulator.update on 32 rows of 10 float32 logits, in µs."""
    x = build(Workload("sparse_cross_entropy", "logits", "float32", 32, 10))
    metrics = ["cross_entropy", "accuracy"]
    accumulator = fastent.Accumulator(metrics, task="sparse", kind="logits", backend=backend)
    seconds = best_time_per_call(lambda: accumulator.update(x.true, x.pred), 0.02 if quick else 0.5)
    name = "Accumulator.update, cross_entropy and accuracy, 32 × 10 float32 logits"
    return line_of(name, {"fastent": seconds}, 1e6, "µs", 4)


def eight_metrics(rows: int, classes: int, ratio_goal: float, goal: float | None) -> Measure:
    """An accumulator of eight metrics as a multiple of the time of one of cross-entropy."""

    def measure(fastent: Any, rivals: Sequence[Rival], backend: str | None, quick: bool) -> dict:
        workload = Workload("sparse_cross_entropy", "logits", "float32", rows, classes)
        x = build(workload.quick() if quick else workload)

        def update(metrics: list[str]) -> None:
            accumulator = fastent.Accumulator(
                metrics, task="sparse", kind="logits", backend=backend
            )
            accumulator.update(x.true, x.pred)

        contenders = [
            Contender("fastent", lambda: update(EIGHT_METRICS)),
            Contender("cross_entropy", lambda: update(["cross_entropy"])),
        ]
        in_turns(contenders, quick)
        tools = {c.name: c.best / x.rows for c in contenders}
        size = f"{x.rows:,} × {classes:,} float32 logits"
        name = f"Accumulator of 8 metrics over one of cross_entropy, {size}"
        line = line_of(name, tools, 1e9, "ns a row", goal)
        line.update(ratio=contenders[0].best / contenders[1].best, ratio_goal=ratio_goal)
        return line

    return measure


def two_threads(fastent: Any, rivals: Sequence[Rival], backend: str | None, quick: bool) -> dict:
    """Two threads against one."""
    workload = Workload("kl_divergence", "probs", "float32", 500_000, 100)
    x = build(workload.quick() if quick else workload)
    contenders = [
        Contender(name, ours.prepare(fastent, workload.function, x, backend=backend, num_threads=n))
        for name, n in (("fastent", 2), ("one thread", 1))
    ]
    in_turns(contenders, quick)
    tools = {c.name: c.best for c in contenders}
    name = f"kl_divergence on 2 threads against one, {x.rows:,} × 100 float32"
    line = line_of(name, tools, 1e3, "ms", None)
    line.update(ratio=contenders[1].best / contenders[0].best, ratio_at_least=1.9)
    # what one thread draws: near the limit there is nothing left for another one
    line["gigabytes_per_second"] = x.true.nbytes * 2 / contenders[1].best / 1e9
    return line


def import_time(fastent: Any, rivals: Sequence[Rival], backend: str | None, quick: bool) -> dict:
    """What ``import fastent`` adds to ``import numpy``, median over fresh interpreters, in ms."""
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import numpy; "
        "start = time.perf_counter(); import fastent; print(time.perf_counter() - start)"
    )
    root = str(Path(fastent.__file__).parents[1])
    command = [sys.executable, "-c", script, root]
    runs = []
    for _ in range(2 if quick else IMPORT_RUNS):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(float(done.stdout))
    tools = {"fastent": statistics.median(runs)}
    return line_of("import fastent, over import numpy", tools, 1e3, "ms", 40)


def scored_file(name: str, words: tuple[str, ...], ratio_goal: float) -> Measure:
    """The command on a file in the page cache over reading the same bytes."""

    def measure(fastent: Any, rivals: Sequence[Rival], backend: str | None, quick: bool) -> dict:
        threads = machine.cores()
        size, repeats = (2_000_000, 1) if quick else (2_000_000_000, 5)
        (reading, scoring), _, _ = scoring_beside_reading(1000, size, threads, words, repeats)
        tools = {"fastent": scoring, "reading": reading}
        line = line_of(f"{name}, × 1,000 float32 logits in the page cache", tools, 1e3, "ms", None)
        line.update(ratio=scoring / reading, ratio_goal=ratio_goal)
        return line

    return measure


def all_pairs(classes: int, divergence: str) -> Measure:
    """`fe.pairwise` on one thread beside SciPy's cdist and the row kernel on rows in cache."""

    def measure(fastent: Any, rivals: Sequence[Rival], backend: str | None, quick: bool) -> dict:
        rows = 30 if quick else 1000 if classes < 500 else 300
        x = build(Workload(divergence, "probs", "float64", rows, classes))
        p, q, out = x.true, x.pred, np.empty((rows, rows))
        some = max(1, 16384 // classes)
        held = [a[np.arange(some) % rows].copy() for a in (p, q)]
        function, room = getattr(fastent, divergence), np.empty(some)
        repeats = -(-rows * rows // some)

        def by_rows() -> None:
            for _ in range(repeats):
                function(*held, out=room, num_threads=1)

        contenders = [
            Contender(
                "fastent", lambda: fastent.pairwise(divergence, p, q, out=out, num_threads=1)
            ),
            Contender("row kernel", by_rows),
        ]
        if divergence == "js_divergence" and any(r.name == "scipy" for r in rivals):
            from scipy.spatial.distance import cdist

            contenders.append(Contender("scipy cdist", lambda: cdist(p, q, "jensenshannon")))
        in_turns(contenders, quick)
        pairs = rows * rows
        counts = {"fastent": pairs, "row kernel": repeats * some, "scipy cdist": pairs}
        tools = {c.name: c.best / counts[c.name] for c in contenders}
        name = f"pairwise {divergence}, {rows:,} × {rows:,} rows of {classes:,} float64, 1 thread"
        line = line_of(name, tools, 1e9, "ns a pair", None)
        line.update(ratio=tools["row kernel"] / tools["fastent"], ratio_at_least=0.7)
        return line

    return measure


def one_against_many(
    fastent: Any, rivals: Sequence[Rival], backend: str | None, quick: bool
) -> dict:
    """Every row against one, beside the same rows written out in full."""
    workload = Workload("kl_divergence", "probs", "float32", 200_000, 100)
    x = build(workload.quick() if quick else workload)
    p, q, out = x.true, x.pred, np.empty(x.rows)
    written_out = np.broadcast_to(q[0], q.shape).copy()
    options: dict[str, Any] = {"out": out, "num_threads": 1, "backend": backend}
    contenders = [
        Contender("fastent", lambda: fastent.kl_divergence(p, q[0], **options)),
        Contender("written out", lambda: fastent.kl_divergence(p, written_out, **options)),
    ]
    if any(r.name == "scipy" for r in rivals):
        from scipy.stats import entropy

        contenders.append(Contender("scipy", lambda: entropy(p, q[0], axis=-1)))
    in_turns(contenders, quick)
    tools = {c.name: c.best for c in contenders}
    name = f"kl_divergence of {x.rows:,} rows of 100 float32 against one, 1 thread"
    line = line_of(name, tools, 1e3, "ms", None)
    line.update(ratio=tools["written out"] / tools["fastent"], ratio_at_least=0.9)
    return line


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


def in_turns(contenders: list[Contender], quick: bool) -> None:
    for contender in contenders:
        contender.start()
    take_turns(contenders, 0.1 if quick else 3.0, 20)


def line_of(
    name: str, seconds: dict[str, float], scale: float, unit: str, goal: float | None
) -> dict:
    values = {tool: t * scale for tool, t in seconds.items() if np.isfinite(t)}
    return {"call": name, "unit": unit, "tools": values, "goal": goal}
