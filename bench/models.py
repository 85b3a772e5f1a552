"""Comparing language models: two dumps, logits in memory, and the reader that people write."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import Contender, take_turns

# 620 MB of dumps: what starting up costs hardly shows
CLASSES, N_CTX, CHUNKS = 151_936, 512, 4
BY_HAND_ROWS = 8  # of a block, so that its temporaries fit in memory


def by_hand(path: str, n_ctx: int, n_vocab: int, n_chunk: int) -> Any:
    """Decoded log-probabilities of a dump, some rows at a time, as scripts do it in NumPy."""
    width = 2 * (2 * ((n_vocab + 1) // 2) + 4)
    rows = n_chunk * (n_ctx - 1 - n_ctx // 2)
    data = np.memmap(path, np.uint8, "r", 20 + 4 * n_ctx * n_chunk, (rows, width))
    for start in range(0, rows, BY_HAND_ROWS):
        some = data[start : start + BY_HAND_ROWS]
        scale, least = (np.ascontiguousarray(some[:, k : k + 4]).view("<f4") for k in (0, 4))
        codes = np.ascontiguousarray(some[:, 8:]).view("<u2")[:, :n_vocab]
        yield scale * codes.astype(np.float32) + least


def kl_by_hand(p: str, q: str, *shape: int) -> float:
    """Mean KL as those scripts have it: decode, exp, sum."""
    found = [
        (np.exp(a) * (a - b)).sum(axis=1, dtype=np.float64)
        for a, b in zip(by_hand(p, *shape), by_hand(q, *shape), strict=True)
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

        contenders = [
            Contender(
                "kl_divergence of float32 logits in memory",
                lambda: fastent.kl_divergence(*logits, kind="logits", out=out),
            ),
            Contender(
                "kl_divergence of two dumps' rows",
                lambda: fastent.kl_divergence(a, b, kind="logprobs", out=out),
            ),
            Contender(
                "fastent compare A.bin B.bin --metrics kl_divergence",
                lambda: compare("--metrics", "kl_divergence"),
            ),
            Contender("fastent compare A.bin B.bin, everything", compare),
            Contender("NumPy by hand", lambda: kl_by_hand(p, q, N_CTX, classes, chunks)),
        ]
        for one in contenders:
            one.start()
        take_turns(contenders, budget, 1 if quick else 5)
    first = contenders[0].best
    return [
        {
            "name": one.name,
            "ns_per_pair": one.best / (rows * classes) * 1e9,
            "ratio": one.best / first,
        }
        for one in contenders
    ]


def markdown(lines: list[dict[str, Any]]) -> str:
    """The table of the README."""
    head = ["", "| comparing | ns a pair | of KL in memory |", "| --- | --- | --- |"]
    rows = [f"| {x['name']} | {x['ns_per_pair']:.2f} | {x['ratio']:.2f} |" for x in lines]
    return "\n".join([*head, *rows])
