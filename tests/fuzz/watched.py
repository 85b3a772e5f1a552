"""Cases by number, in a process that may crash or hang: what every fuzzer here runs on.

A case is all its own: its numbers come from a generator seeded by (seed, number), so what one found
is found again by `--seed S --case N`.
"""

from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable

import numpy as np

MOST_FINDS = 20
Case = Callable[[np.random.Generator], None]


def main(case: Case, about: str, patience: float = 60) -> int:
    """Run cases until the time is over; 1 if any of them raised, died or took too long.

    Parameters
    ----------
    case : callable
        Raises if it finds something.
    about : str
        What is tried, for ``--help``.
    patience : float
        Seconds that a case may take.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--cases", type=int, default=10**9, help="how many at the most")
    parser.add_argument("--seed", type=int, default=1, help="of all cases (default: 1)")
    parser.add_argument("--case", type=int, help="this one only, and in this process")
    parser.add_argument("--no-numba", action="store_true", help="two backends: no compiling")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        warnings.simplefilter("error")
        case(np.random.default_rng((options.seed, options.case)))
        return 0
    if options.worker is not None:
        return _work(case, options.seed, range(options.worker, options.cases))
    return _watch(options.seed, options.seconds, options.cases, patience)


def _work(case: Case, seed: int, numbers: range) -> int:
    warnings.simplefilter("error")
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for number in numbers:
        print("case", number, file=told, flush=True)
        try:
            case(np.random.default_rng((seed, number)))
        except Exception:
            text = traceback.format_exc()
            print("found", repr(text), file=told, flush=True)
    print("done", file=told, flush=True)
    return 0


def _watch(seed: int, seconds: float, cases: int, patience: float) -> int:
    name = os.path.basename(sys.argv[0])
    end = time.monotonic() + seconds
    number, finds, seen = 0, 0, set()
    while time.monotonic() < end and finds < MOST_FINDS and number < cases:
        command = [sys.executable, *sys.argv, "--worker", str(number), "--seed", str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
            why = ""
            lines = _lines(worker.stdout.fileno(), end, patience)
            for line in lines:
                if line == "done":
                    break
                if line.startswith("case"):
                    number = int(line.split()[1])
                elif line.startswith("found"):
                    text = eval(line[6:])
                    key = text.splitlines()[-3:]
                    finds += 1
                    if str(key) not in seen:
                        seen.add(str(key))
                        print(f"{name}: --seed {seed} --case {number}\n{text}", flush=True)
                    if finds >= MOST_FINDS:
                        break
                else:
                    why = line
            worker.kill()
        if why == "late":
            finds += 1
            print(f"{name}: --seed {seed} --case {number} takes over {patience:g} s", flush=True)
        elif why == "ended":
            finds += 1
            print(f"{name}: --seed {seed} --case {number} ends the process: {worker.wait()}")
        number += 1
    print(f"{name}: {number} cases with seed {seed}, {finds} finds", flush=True)
    return 1 if finds else 0


def _lines(fd: int, end: float, patience: float):
    """Lines of a worker; "late" if it says nothing for too long, "ended" if it is no more."""
    rest = b""
    while (now := time.monotonic()) < end:
        # what has begun may end: `end` is when no more begins
        if not select.select([fd], [], [], min(patience, max(0.1, end - now)))[0]:
            if time.monotonic() - now >= patience * 0.99:
                yield "late"
                return
            continue
        if not (data := os.read(fd, 1 << 16)):
            yield "ended"
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode() for line in whole)
