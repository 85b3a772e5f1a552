"""``python -m bench.accuracy``: relative errors of fastent and its rivals against mpmath.

Per function, kind and dtype the median and the worst relative error over the same rows, apart
for ordinary inputs and for hard ones (``bench/inputs.py``).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mpmath import mp

from bench import inputs, ours
from bench.exact import relative_error, row_value
from bench.operands import Operands
from bench.rivals import RIVALS, Rival, chosen
from bench.table import MISSING, error, markdown_table
from bench.workloads import BACKENDS

DTYPES = ("float64", "float32", "float16", "bfloat16")
# Enough for KL of 1e-30, that is for differences of 1e-30 between terms near 1.
DIGITS = 100
SETS: dict[str, Callable[[str, str, str], Iterator[Operands]]] = {
    "ordinary": inputs.ordinary,
    "hard": inputs.hard,
}


def exact_values(function: str, x: Operands) -> list:
    with mp.workdps(DIGITS):
        return [row_value(function, x.kind, *x.row(i)) for i in range(x.rows)]


def errors(values: np.ndarray, exact: list, dtype: str) -> list[float]:
    with mp.workdps(DIGITS):
        return [relative_error(float(v), e, dtype) for v, e in zip(values, exact, strict=True)]


def rival_values(rival: Rival, function: str, x: Operands) -> np.ndarray | None:
    """One value per row; None for what the rival has no function for or refuses."""
    try:
        call = rival.prepare(function, x)
        if call is None:
            return None
        values = rival.array(call())
        if values.ndim:
            return values
        # It only gives means, so it gets one row at a time.
        calls = [rival.prepare(function, x.part(slice(i, i + 1))) for i in range(x.rows)]
        return np.array([float(rival.array(call())) for call in calls if call])
    except ValueError:
        return None


def measure(
    function: str,
    kind: str,
    dtype: str,
    which: str,
    fastent: Any,
    rivals: list,
    backend: str | None,
) -> dict[str, Any]:
    """Errors of every tool on one set of inputs."""
    found: dict[str, list[float]] = {}
    rows = 0
    for x in SETS[which](function, kind, dtype):
        exact = exact_values(function, x)
        rows += x.rows
        results = {"fastent": ours.prepare(fastent, function, x, backend=backend)()}
        for rival in rivals:
            results[rival.name] = rival_values(rival, function, x)
        for name, values in results.items():
            if values is not None:
                found.setdefault(name, []).extend(errors(np.asarray(values), exact, dtype))
    return {
        "function": function,
        "kind": kind,
        "dtype": dtype,
        "inputs": which,
        "rows": rows,
        "tools": {
            name: {"median": statistics.median(e), "worst": max(e)} for name, e in found.items()
        },
    }


def markdown(lines: list[dict[str, Any]]) -> str:
    """A cell is the median and the worst relative error."""
    measured = set().union(*(line["tools"] for line in lines))
    names = [n for n in ("fastent", *(r.name for r in RIVALS)) if n in measured]
    rows = []
    for line in lines:
        cells = [f"{line['function']}, {line['kind']}, {line['dtype']}, {line['inputs']}"]
        for name in names:
            tool = line["tools"].get(name)
            cells.append(f"{error(tool['median'])} / {error(tool['worst'])}" if tool else MISSING)
        rows.append(cells)
    note = (
        "Median / worst relative error against exact arithmetic on the same rows, understood as "
        "normalised; wrong: nan, or an infinity where the value is finite or the other way round."
    )
    return markdown_table(["function, kind, dtype, inputs", *names], rows) + f"\n\n{note}\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    add = parser.add_argument
    add("--backend", choices=BACKENDS, help="default: the configured one")
    add("--simd", help="level to force, as FASTENT_SIMD does: v2, v3 or v4")
    add("--only", metavar="PATTERN", help="regular expression of 'function, kind, dtype, inputs'")
    add("--rivals", metavar="NAMES", help="comma-separated, or none; default: all installed")
    add("--compiled", action="store_true", help="torch.compile too, some seconds for each shape")
    add("--json", type=Path, metavar="FILE")
    add("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.simd:
        os.environ["FASTENT_SIMD"] = options.simd
    fastent = importlib.import_module("fastent")
    rivals = [r for r in chosen(options.rivals) if options.compiled or r.name != "torch.compile"]
    lines = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for function, kind in inputs.FUNCTIONS:
            for dtype in DTYPES:
                for which in SETS:
                    name = f"{function}, {kind}, {dtype}, {which}"
                    if options.only and not re.search(options.only, name):
                        continue
                    print(f"… {name}", file=sys.stderr, flush=True)
                    lines.append(
                        measure(function, kind, dtype, which, fastent, rivals, options.backend)
                    )
    text = markdown(lines) if lines else ""
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
