"""Calls of all public functions, and updates, while one allocation of the compiled modules fails.

It is a MemoryError, or the same bits as ever; and a state is as it was before.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import watched
from calls import BACKENDS, CALLS, bits, chance, elsewhere, outcome, pick, plain

import fastent as fe
from fastent import _settings

SOURCE = Path(__file__).parent.parent / "failing_allocations.c"
LIBRARY = ctypes.CDLL(None)


def failing(number, call):
    """What a call gives while the allocation with that number fails; None for a MemoryError."""
    LIBRARY.fail_allocation(ctypes.c_long(number))
    try:
        return call()
    except MemoryError as error:
        assert "\n" not in str(error)
        return None
    finally:
        LIBRARY.fail_allocation(ctypes.c_long(-1))


def case_of_call(rng):
    make, threads = CALLS[pick(rng, list(CALLS))]
    with _settings.use_simd(pick(rng, _settings.simd_levels())):
        function, operands, arrays, options = make(rng)
        if threads == "threads":
            options["num_threads"] = int(rng.integers(1, 3))
        args = [elsewhere(rng, a, swapped=False) for a in operands]
        want = bits(outcome(function, [plain(a) for a in args], arrays | options))
        for _ in range(3):
            number = int(pick(rng, [0, 0, 1, 2, 3, 5, 8]))
            found = failing(number, lambda: outcome(function, args, arrays | options))
            assert found is None or bits(found) == want, (function.__name__, number, options)


def case_of_update(rng):
    n = int(pick(rng, [1, 40, 700]))
    p = rng.dirichlet(np.ones(5), n)
    labels, ids = rng.integers(0, 5, n), rng.integers(0, pick(rng, [2, 50, 1200]), n)
    acc = fe.Accumulator(["cross_entropy", "ece", "skill", "brier"], backend=pick(rng, BACKENDS))
    other = acc.copy()

    def more(a):
        keywords = {"sample_weight": rng.random(n)} if chance(rng, 0.4) else {}
        for name in ("groups", "clusters"):
            if chance(rng, 0.4):
                keywords[name] = ids if chance(rng, 0.5) else ids.astype(str)
        return a.update, (labels, p), keywords

    for a in (acc, other):
        for _ in range(int(rng.integers(0, 3))):
            update, args, keywords = more(a)
            update(*args, **keywords)
    update, args, keywords = more(acc)
    if chance(rng, 0.4):
        update, args, keywords = acc.merge, (other,), {}
    before = json.dumps(acc.state_dict())
    if failing(int(pick(rng, [0, 1, 2, 3, 5, 9, 20])), lambda: update(*args, **keywords)) is None:
        assert json.dumps(acc.state_dict()) == before, "a failed update has changed the state"
        acc.compute()
        update(*args, **keywords)
    acc.compute()


def case(rng):
    if chance(rng, 0.6):
        case_of_call(rng)
    else:
        case_of_update(rng)


def main():
    if "LD_PRELOAD" not in os.environ:
        made = tempfile.mkdtemp(prefix="fastent-fuzz-") + "/failing_allocations.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl"], check=True)
        os.environ["LD_PRELOAD"] = made
        os.environ["COMPILED_MODULES"] = str(Path(fe.__file__).parent)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    BACKENDS[:] = ["cython", "numpy"]
    return watched.main(case, __doc__)


if __name__ == "__main__":
    sys.exit(main())
