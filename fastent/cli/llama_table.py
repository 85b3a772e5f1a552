"""``fastent compare BASE.bin LOGITS --llama``: the table of llama.cpp's perplexity program, digit
for digit.

What it prints is its own arithmetic: floats, a KL that leaves out what the base has below e^-16 and
is of numbers that do not sum to 1, the loss of unclipped logits beside that of a clipped file, and
errors as if tokens were independent. It is here to compare with printed tables, not to decide by.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastent
from fastent.cli.arguments import UsageError
from fastent.cli.errors import located
from fastent.cli.inputs import compare_shards
from fastent.cli.outputs import named_errors
from fastent.cli.run import Run, write_outputs
from fastent.cli.signals import Signals
from fastent.io import InputError
from fastent.io.llama import DumpRows, as_numbers
from fastent.io.llama_codec import row_statistics
from fastent.io.shards import Block, Piece, Shards
from fastent.report.document import number

PLAIN = ("metrics", "rows", "worst", "groups", "weights", "bytes", "token_bytes", "dask", "html",
         "skip_first", "ignore_index", "window")  # fmt: skip
TABLE_ROWS = 100  # below which the program prints no statistics
NLL, BASE, KLD, DELTA, SAME = range(5)
KLD_PLACES = [("99.9%   KLD", 0.999), ("99.0%   KLD", 0.99), ("95.0%   KLD", 0.95),
              ("90.0%   KLD", 0.9), ("Median  KLD", None), ("10.0%   KLD", 0.1),
              (" 5.0%   KLD", 0.05), (" 1.0%   KLD", 0.01), (" 0.1%   KLD", 0.001)]  # fmt: skip
DELTA_PLACES = [("99.9%   Δp", 0.999), ("99.0%   Δp", 0.99), ("95.0%   Δp", 0.95),
                ("90.0%   Δp", 0.9), ("75.0%   Δp", 0.75), ("Median  Δp", None),
                ("25.0%   Δp", 0.25), ("10.0%   Δp", 0.1), (" 5.0%   Δp", 0.05),
                (" 1.0%   Δp", 0.01), (" 0.1%   Δp", 0.001)]  # fmt: skip


class Statistics:
    """The program's numbers of every row, in order."""

    rows_columns: tuple[tuple[str, str], ...] = ()
    kept = 5

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def work(self, piece: Piece) -> np.ndarray:
        base, logits = (piece.arrays[role] for role in ("predictions", "other"))
        labels = piece.arrays["labels"].astype(np.int64)
        try:
            return np.asarray(
                row_statistics(np.ascontiguousarray(logits), as_numbers(base), labels)
            )
        except ValueError as error:
            raise located(error, piece) from None

    def collect(self, block: Block, results: list[np.ndarray]) -> list[Any]:
        self._parts += results
        return []

    @property
    def rows(self) -> np.ndarray:
        return np.hstack(self._parts) if self._parts else np.empty((5, 0))

    def state(self, lazily: bool = False) -> Any:
        items = (column.tolist() for part in list(self._parts) for column in part.T)
        return items if lazily else list(items)

    def restore(self, state: Any) -> None:
        self._parts = [np.array(list(state), np.float64).reshape(-1, 5).T]


def run(options: argparse.Namespace, signals: Signals) -> int:
    for name in PLAIN:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')}: does not go with --llama")
    if options.on_error != "raise" or options.temperature != 1:
        raise UsageError("--llama goes with neither --on-error skip nor --temperature")
    options.kind = options.kind or "logits"
    shards = compare_shards(options)
    for shard in shards.items:
        p, q = shard.main, shard.sources["other"]
        if not isinstance(p, DumpRows):
            raise InputError(f"{p.name}: no dump, expected one as base of --llama")
        if isinstance(q, DumpRows) or q.dtype != np.float32:
            raise InputError(f"{q.name}: {q.dtype_name}, expected float32 logits with --llama")
        if "logits" not in options.kind:
            raise UsageError(f"--kind: expected logits of {q.name} with --llama")
    scorer = Statistics()
    kept = {"kind": options.kind, "llama": True}
    with Run(options, shards, scorer, kept, signals) as work:
        work.work_through()
        lines, named = table(scorer.rows, ends_of_chunks(shards))
        found = {
            "llama": {k: [*map(number, v)] for k, v in named.items()},
            "rows": shards.rows,
            "inputs": shards.describe({"predictions": "p", "other": "q"}),
            "settings": kept,
            "version": fastent.__version__,
        }
        write_outputs(options, found, lambda: b"")
    if sys.stdout is not None and not options.quiet and options.json != "-":
        with named_errors("standard output"):
            sys.stdout.write("\n".join(lines) + "\n")
    return 0


def ends_of_chunks(shards: Shards) -> list[int]:
    """Rows up to the end of each chunk."""
    found: list[int] = []
    for shard in shards.items:
        assert isinstance(shard.main, DumpRows)
        head = shard.main.header
        found += [shard.first_row + (k + 1) * head.chunk_rows for k in range(head.n_chunk)]
    return found


def in_floats(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Products as floats, which the program adds up as doubles."""
    return (x.astype(np.float32) * y.astype(np.float32)).astype(np.float64)


class Sums:
    """Running sums over the rows, added in order as the program does."""

    def __init__(self, rows: np.ndarray) -> None:
        nll, base, kld, delta, same = rows
        square = in_floats(delta, delta)
        terms = [nll, in_floats(nll, nll), base, in_floats(base, base), in_floats(nll, base), kld,
                 kld * kld, delta, square, square * square, same]  # fmt: skip
        self._running = np.cumsum(terms, axis=1)

    def at(self, n: int) -> State:
        return State(n, *self._running[:, n - 1].tolist())


class State:
    """Sums of the first n rows, and what follows from them."""

    def __init__(self, n: int, *sums: float) -> None:
        self.n = n
        (nll, nll2, base, base2, self._both, kld, kld2, delta, delta2, delta4, self._same) = sums
        self.nll, self.base = self._mean(nll, nll2), self._mean(base, base2)
        self.kld, self.delta = self._mean(kld, kld2), self._mean(delta, delta2)
        self.square = self._mean(delta2, delta4)
        self.covariance = 0.0
        if n >= 10:
            self.covariance = (self._both / n - nll / n * (base / n)) / (n - 1)

    def _mean(self, total: float, squares: float) -> tuple[float, float]:
        mean = total / self.n
        spread = squares / self.n - mean * mean
        return mean, math.sqrt(spread / (self.n - 1)) if spread > 0 and self.n > 10 else 0.0

    @property
    def log_ratio(self) -> tuple[float, float]:
        (nll, error), (base, base_error) = self.nll, self.base
        spread = error * error + base_error * base_error - 2.0 * self.covariance
        return nll - base, math.sqrt(spread) if spread >= 0 else -math.nan

    @property
    def rms(self) -> tuple[float, float]:
        root = math.sqrt(self.square[0])
        return root, 0.5 / root * self.square[1] if root else -math.nan

    @property
    def same(self) -> tuple[float, float]:
        share = self._same / self.n
        spread = share * (1 - share) / (self.n - 1) if self.n > 1 else -math.nan
        return share, math.sqrt(spread) if spread >= 0 else spread


def perplexity(nll: tuple[float, float]) -> tuple[float, float]:
    value = math.exp(nll[0])
    return value, value * nll[1]


def shown(value: float, width: int, places: int) -> str:
    """As C prints it."""
    if math.isnan(value):
        text = "-nan" if math.copysign(1, value) < 0 else "nan"
        return text.rjust(width)
    return f"{value:{width}.{places}f}"


def pair(pair: tuple[float, float], width: int, places: int, other: int | None = None) -> str:
    return f"{shown(pair[0], width, places)} ± {shown(pair[1], other or width, places)}"


def percent(pair: tuple[float, float]) -> tuple[float, float]:
    return 100.0 * pair[0], 100.0 * pair[1]


def table(rows: np.ndarray, ends: list[int]) -> tuple[list[str], dict[str, list[float]]]:
    """The lines, and all numbers of the statistics by name."""
    sums = Sums(rows)
    lines = ["", "chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence"
             "              Δp RMS            Same top p"]  # fmt: skip
    for number_of_chunk, end in enumerate(ends, 1):
        if end < 1:
            continue
        s = sums.at(end)
        cells = [f"{number_of_chunk:4d}", pair(perplexity(s.nll), 9, 4), pair(s.log_ratio, 10, 5)]
        cells += [pair(s.kld, 10, 5), f"{pair(percent(s.rms), 6, 3)} %"]
        lines.append("    ".join([*cells, f"{pair(percent(s.same), 6, 3)} %"]))
    lines.append("")
    if not ends or ends[-1] < TABLE_ROWS:
        return lines, {}
    named: dict[str, list[float]] = {}
    lines += statistics(sums.at(ends[-1]), rows, named)
    return lines, named


def statistics(s: State, rows: np.ndarray, named: dict[str, list[float]]) -> Iterator[str]:
    ppl, base = perplexity(s.nll), perplexity(s.base)
    ratio = math.exp(s.log_ratio[0])
    spread = ppl[1] * ppl[1] + base[1] * base[1] - 2.0 * (ppl[0] * base[0] * s.covariance)
    errors = s.nll[1] * s.base[1]
    named["Mean PPL(Q)"], named["Mean PPL(base)"] = [*ppl], [*base]
    named["Cor"] = [100.0 * s.covariance / errors if errors else -math.nan]
    named["ln ratio"] = [*s.log_ratio]
    named["PPL ratio"] = [ratio, ratio * s.log_ratio[1]]
    named["PPL diff"] = [ppl[0] - base[0], math.sqrt(spread) if spread >= 0 else -math.nan]
    yield "====== Perplexity statistics ======"
    for title, key in (
        ("Mean PPL(Q)                   ", "Mean PPL(Q)"),
        ("Mean PPL(base)                ", "Mean PPL(base)"),
        ("Cor(ln(PPL(Q)), ln(PPL(base)))", "Cor"),
        ("Mean ln(PPL(Q)/PPL(base))     ", "ln ratio"),
        ("Mean PPL(Q)/PPL(base)         ", "PPL ratio"),
        ("Mean PPL(Q)-PPL(base)         ", "PPL diff"),
    ):
        if key == "Cor":
            yield f"{title}: {shown(named[key][0], 6, 2)}%"
        else:
            yield f"{title}: {pair((named[key][0], named[key][1]), 10, 6)}"
    values = np.sort(rows[KLD].astype(np.float32))
    named["Mean KLD"] = [*s.kld]
    yield from ("", "====== KL divergence statistics ======", f"Mean    KLD: {pair(s.kld, 10, 6)}")
    for title, value in spread_of(values, "Maximum KLD", KLD_PLACES, "Minimum KLD"):
        named[short(title)] = [value]
        yield f"{title}: {shown(value, 10, 6)}"
    changes = np.sort(rows[DELTA].astype(np.float32))
    named["Mean dp"] = [*percent(s.delta)]
    yield from ("", "====== Token probability statistics ======",
                f"Mean    Δp: {pair(percent(s.delta), 6, 3, 5)} %")  # fmt: skip
    for title, value in spread_of(changes, "Maximum Δp", DELTA_PLACES, "Minimum Δp"):
        named[short(title)] = [100.0 * value]
        yield f"{title}: {shown(100.0 * value, 6, 3)}%"
    named["RMS dp"], named["Same top"] = [*percent(s.rms)], [*percent(s.same)]
    yield f"RMS Δp    : {pair(percent(s.rms), 6, 3, 5)} %"
    yield f"Same top p: {pair(percent(s.same), 6, 3, 5)} %"


def short(title: str) -> str:
    """The name of a number in the JSON document."""
    words = title.replace("Δ", "d").replace("Maximum", "Max").replace("Minimum", "Min").split()
    return " ".join(words)


def spread_of(
    values: np.ndarray, largest: str, places: list[tuple[str, float | None]], least: str
) -> Iterator[tuple[str, float]]:
    """Quantiles of sorted floats, by the program's interpolation in floats."""
    yield largest, float(values[-1])
    last = np.float32(len(values) - 1)
    for title, fraction in places:
        if fraction is None:
            half = len(values) // 2
            middle = values[half]
            if len(values) % 2 == 0:
                middle = np.float32(0.5) * (values[half] + values[half - 1])
            yield title, float(middle)
            continue
        place = np.float32(fraction) * last
        below = int(place)
        part = np.float32(place - np.float32(below))
        above = values[min(below + 1, len(values) - 1)]
        yield title, float((np.float32(1) - part) * values[below] + part * above)
    yield least, float(values[0])
