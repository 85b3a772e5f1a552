"""``python -m bench.kernels``: what the kernels cost where memory does not count.

Nanoseconds of processor time an element (a pair for two operands), on one thread and inputs that
stay in the second-level cache, per function, number of classes and SIMD level. Next to the shares
of `python -m bench` it tells what bounds a line: memory, or arithmetic.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import fastent as fe
from bench.table import markdown_table

NUMBERS = 65_536  # of one operand: 256 KiB of float32
CLASSES = (2, 10, 32, 100, 1000)


def best(call: Callable[[], object], repeats: int) -> float:
    """Least processor time of a call; the machine's other work does not count."""
    call()
    least = float("inf")
    for _ in range(repeats):
        start = time.thread_time()
        call()
        least = min(least, time.thread_time() - start)
    return least


def calls(classes: int, dtype: type) -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(classes)
    rows = NUMBERS // classes
    a, b = rng.normal(0, 2, (2, rows, classes)).astype(dtype)
    p, q = (np.exp(x - x.max(axis=1, keepdims=True)) for x in (a, b))
    p /= p.sum(axis=1, keepdims=True)
    q /= q.sum(axis=1, keepdims=True)
    labels = rng.integers(0, classes, rows)
    common = {"out": np.empty(rows), "num_threads": 1}
    return {
        "KL, probs": lambda: fe.kl_divergence(p, q, **common),
        "JS, probs": lambda: fe.js_divergence(p, q, **common),
        "entropy, probs": lambda: fe.entropy(p, **common),
        "sparse CE, probs": lambda: fe.sparse_cross_entropy(labels, p, **common),
        "categorical CE, probs": lambda: fe.categorical_cross_entropy(p, q, **common),
        "sparse CE, logits": lambda: fe.sparse_cross_entropy(labels, a, kind="logits", **common),
        "entropy, logits": lambda: fe.entropy(a, kind="logits", **common),
        "KL, logits": lambda: fe.kl_divergence(a, b, kind="logits", **common),
        "JS, logits": lambda: fe.js_divergence(a, b, kind="logits", **common),
    }


def table(level: str, dtype: type, repeats: int) -> str:
    lines: dict[str, list[str]] = {}
    with fe._settings.use_simd(level):
        for classes in CLASSES:
            for name, call in calls(classes, dtype).items():
                cost = best(call, repeats) / (NUMBERS // classes * classes) * 1e9
                lines.setdefault(name, []).append(f"{cost:.2f}")
    head = [f"{np.dtype(dtype).name}, {level}", *(f"{c} classes" for c in CLASSES)]
    return markdown_table(head, [[name, *cells] for name, cells in lines.items()])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--simd", choices=fe._settings.simd_levels(), action="append")
    options = parser.parse_args()
    for level in options.simd or fe._settings.simd_levels():
        for dtype in (np.float32, np.float64):
            print(table(level, dtype, options.repeats), end="\n\n")


if __name__ == "__main__":
    main()
