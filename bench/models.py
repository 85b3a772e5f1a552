"""Comparing language models: two dumps, logits in memory, and the reader that people write."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import Contender, peak_memory, take_turns

# 2.5 GB of dumps: what starting up costs hardly shows
CLASSES, N_CTX, CHUNKS = 151_936, 512, 16
BY_HAND_ROWS = 8  # whose temporaries stay in the cache


def by_hand(at_once: int, path: str, n_ctx: int, n_vocab: int, n_chunk: int) -> Any:
    """Decoded log-probabilities of a dump, some rows at a time, as scripts do it in NumPy."""
    width = 2 * (2 * ((n_vocab + 1) // 2) + 4)
    rows = n_chunk * (n_ctx - 1 - n_ctx // 2)
    data = np.memmap(path, np.uint8, "r", 20 + 4 * n_ctx * n_chunk, (rows, width))
    for start in range(0, rows, at_once):
        some = data[start : start + at_once]
        scale, least = (np.ascontiguousarray(some[:, k : k + 4]).view("<f4") for k in (0, 4))
        codes = np.ascontiguousarray(some[:, 8:]).view("<u2")[:, :n_vocab]
        yield scale * codes.astype(np.float32) + least


def kl_by_hand(at_once: int, p: str, q: str, *shape: int) -> float:
    """Mean KL as those scripts have it: decode, exp, sum."""
    found = [
        (np.exp(a) * (a - b)).sum(axis=1, dtype=np.float64)
        for a, b in zip(by_hand(at_once, p, *shape), by_hand(at_once, q, *shape), strict=True)
    ]
    return float(np.concatenate(found).mean())


def measure(fastent: Any, quick: bool, budget: float) -> list[dict[str, Any]]:
    """Each way of comparing: nanoseconds a pair, and how many times those of KL in memory."""
    from fastent import llama
    from fastent.cli import main

    classes, chunks = (5_000, 1) if quick else (CLASSES, CHUNKS)
    rng = np.random.default_rng(0)
    rows = chunks * (N_CTX - 1 - N_CTX // 2)
    logits = [np.float32(3) * rng.standard_normal((rows, classes), np.float32)]
    logits.append(rng.standard_normal((rows, classes), np.float32))
    logits[1] *= np.float32(0.3)
    logits[1] += logits[0]
    tokens = rng.integers(0, classes, (chunks, N_CTX))
    with tempfile.TemporaryDirectory() as folder:
        p, q = (str(Path(folder) / f"{name}.bin") for name in "pq")
        for path, numbers in zip((p, q), logits, strict=True):
            llama.write(path, tokens, [numbers], N_CTX)
        a, b = llama.open(p).rows, llama.open(q).rows
        out = np.empty(rows)

        def compare(*words: str) -> None:
            assert main(["compare", p, q, "--quiet", "--json", f"{folder}/r.json", *words]) == 0

        kl = fastent.kl_divergence
        calls = {
            "kl_divergence of float32 logits in memory": lambda: kl(
                *logits, kind="logits", out=out
            ),
            "kl_divergence of two dumps' rows": lambda: kl(a, b, kind="logprobs", out=out),
            "fastent compare A.bin B.bin --metrics kl_divergence": lambda: compare(
                "--metrics", "kl_divergence"
            ),
            "fastent compare A.bin B.bin, everything": compare,
            f"NumPy by hand, {BY_HAND_ROWS} rows at once": lambda: kl_by_hand(
                BY_HAND_ROWS, p, q, N_CTX, classes, chunks
            ),
            "NumPy by hand, a chunk at once": lambda: kl_by_hand(
                rows // chunks, p, q, N_CTX, classes, chunks
            ),
        }
        return _lines(calls, rows * classes, quick, budget, processor=True)


TOP, WIDTH, VOCABULARY, STATES = 100, 2048, 128_256, 512


def measure_lists(fastent: Any, quick: bool, budget: float) -> list[dict[str, Any]]:
    """Bounds from lists of the largest classes, beside the cross-entropy of the same logits."""
    classes, rows = (5_000, 16) if quick else (CLASSES, 256)
    rng = np.random.default_rng(0)
    teacher = np.float32(3) * rng.standard_normal((rows, classes), np.float32)
    student = teacher + np.float32(0.3) * rng.standard_normal((rows, classes), np.float32)
    labels = rng.integers(0, classes, rows)
    ids = np.argpartition(-teacher, TOP, axis=1)[:, :TOP]
    total = np.log(np.exp(teacher).sum(axis=1, dtype=np.float64))
    logprobs = np.take_along_axis(teacher, ids, 1) - total[:, None]
    out = np.empty(rows)
    calls = {
        f"cross_entropy of float32 logits of {classes:,} classes": lambda: (
            fastent.sparse_cross_entropy(labels, student, kind="logits", out=out)
        ),
        f"topk_divergence of lists of {TOP} and the same logits": lambda: fastent.topk_divergence(
            ids, logprobs, student
        ),
    }
    return _lines(calls, rows * classes, quick, budget)


def measure_heads(fastent: Any, quick: bool, budget: float) -> list[dict[str, Any]]:
    """Losses and KL from hidden states, beside the plain products and torch's whole logits."""
    classes, width, rows = (4_000, 64, 32) if quick else (VOCABULARY, WIDTH, STATES)
    rng = np.random.default_rng(0)
    heads = [rng.standard_normal((classes, width), np.float32) for _ in range(2)]
    states = [rng.standard_normal((rows, width), np.float32) for _ in range(2)]
    heads[1] *= np.float32(0.01)
    heads[1] += heads[0]
    labels = rng.integers(0, classes, rows)
    block = np.empty((rows, min(8192, classes)), np.float32)

    def products() -> None:
        for start in range(0, classes, block.shape[1]):
            part = heads[0][start : start + block.shape[1]]
            np.matmul(states[0], part.T, out=block[:, : len(part)])

    def two_products() -> None:
        products()
        products()

    (p, q), (hp, hq) = heads, states
    calls = {
        "two plain products, by the block": two_products,
        "linear_kl_divergence": lambda: fastent.linear_kl_divergence(hp, p, hq, q),
        "one plain product, by the block": products,
        "linear_cross_entropy": lambda: fastent.linear_cross_entropy(labels, hp, p),
    }
    try:
        import torch
    except ImportError:
        pass
    else:
        tensors = [torch.from_numpy(x) for x in (hp, p, hq, q)]

        def dense() -> None:
            a, b = (torch.log_softmax(h @ w.T, -1) for h, w in (tensors[:2], tensors[2:]))
            torch.nn.functional.kl_div(b, a, reduction="none", log_target=True).sum(-1)

        calls["torch: products, log_softmax, kl_div"] = dense
    lines = _lines(calls, 2 * rows * classes, quick, budget)
    for line, call in zip(lines, calls.values(), strict=True):
        line["megabytes"] = peak_memory(call) / 1e6
    return lines


def _lines(
    calls: dict[str, Any], pairs: int, quick: bool, budget: float, processor: bool = False
) -> list[dict[str, Any]]:
    contenders = [Contender(name, call) for name, call in calls.items()]
    for one in contenders:
        one.start()
    take_turns(contenders, budget, 1 if quick else 5)
    first = contenders[0]
    return [
        {"name": one.name, "ns_per_pair": one.best / pairs * 1e9, "ratio": one.best / first.best}
        | ({"of_processor": one.processor / first.processor} if processor else {})
        for one in contenders
    ]


# more columns, where they were measured: of what a line has
MORE = {"of its processor time": ("of_processor", ".2f"), "peak MB": ("megabytes", ".0f")}


def markdown(lines: list[dict[str, Any]], of: str = "KL in memory") -> str:
    """The table of the README; processor time, and memory beside the inputs, where they were
    measured."""
    head = [f"| comparing | ns a pair | of {of} |", "| --- | --- | --- |"]
    rows = [f"| {x['name']} | {x['ns_per_pair']:.2f} | {x['ratio']:.2f} |" for x in lines]
    for title, (key, form) in MORE.items():
        if all(key in x for x in lines):
            head = [f"{head[0]} {title} |", f"{head[1]} --- |"]
            rows = [f"{row} {x[key]:{form}} |" for row, x in zip(rows, lines, strict=True)]
    return "\n".join(["", *head, *rows])
