"""Eight threads at once: all public functions, shared accumulators and reports, first calls in a
new process, forks meanwhile. The bits and the errors of one thread alone; and warnings' filters and
NumPy's settings are as before.

For interpreters without a GIL above all; with one, threads take turns every 50 microseconds.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import random
import select
import signal
import subprocess
import sys
import sysconfig
import threading
import warnings

import calls
import numpy as np
import watched
from calls import CALLS, bits, by_keyword, chance, elsewhere, outcome, pick, plain, put, room_for

import fastent as fe
from fastent import _settings

THREADS = 8
PATIENCE = 120  # seconds, of machines that have other things to do
ALONE = {"sklearn"}  # it changes the warnings' filters itself
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# Without a GIL, CPython 3.13 hands a child dictionaries that threads had locked, without us too.
FORKS = hasattr(os, "fork") and not FREE
HERE = os.path.dirname(os.path.abspath(__file__))
FRESH = f"""
import sys
sys.path.insert(0, {HERE!r})
import threads
threads.first(*sys.argv[1:])
"""


def at_once(*works):
    """Run each in a thread, all from one moment on; what the first that fails raises is raised."""
    ready, failed = threading.Barrier(len(works)), []

    def run(work):
        try:
            ready.wait(PATIENCE)
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def unlike(rng, work, *arguments):
    """So many copies of a work as there are threads, each with random numbers of its own."""
    seeds = rng.integers(2**63, size=THREADS)
    return [lambda seed=seed: work(np.random.default_rng(seed), *arguments) for seed in seeds]


# --- functions


def some_calls(rng, count):
    """Calls and what each gives, alone."""
    made = []
    for _ in range(count):
        make, out = CALLS[pick(rng, sorted(CALLS.keys() - ALONE))]
        function, operands, arrays, options = make(rng)
        function = by_keyword(function)
        wanted = outcome(function, [plain(a) for a in operands],
                         {k: plain(a) for k, a in arrays.items()} | options)  # fmt: skip
        made.append((function, operands, arrays, options, out, wanted))
    return made


def call(rng, function, operands, arrays, options, out, wanted):
    """On the arrays that all threads share, or on others; with threads of its own and an output."""
    more = dict(options)
    if out == "threads" and chance(rng, 0.5):
        more["num_threads"] = int(rng.integers(1, 5))
    if chance(rng, 0.5):
        operands = [elsewhere(rng, a) for a in operands]
        arrays = {k: elsewhere(rng, a) for k, a in arrays.items()}
    room = None
    if out and isinstance(wanted, np.ndarray) and wanted.ndim and chance(rng, 0.4):
        room = more["out"] = room_for(rng, wanted)
        if not (room.dtype.isnative and room.flags.aligned):
            room = more["out"] = np.empty_like(wanted)
    found = outcome(function, operands, arrays | more)
    assert room is None or found is room
    want = wanted if room is None else wanted.astype(room.dtype)
    assert bits(found) == bits(want), (function, options, wanted, found)


def functions(rng):
    made = some_calls(rng, 12)

    def work(rng, made):
        for _ in range(3):
            for k in rng.permutation(len(made)) if chance(rng, 0.5) else range(len(made)):
                call(rng, *made[k])

    def settings():
        for _ in range(200):
            fe.set_num_threads(random.choice([None, 1, 2, 5]))
        fe.set_num_threads(None)
        fe.show_config()

    at_once(*unlike(rng, work, made), settings)


# --- accumulators


def text(report):
    """All that a report says."""
    rows = [r for r in report.values() if r.min is not None]
    return report.to_json(), repr([(r.min, r.max, r.quantile(0.3)) for r in rows])


def accepted(rng):
    """An empty accumulator, and pieces of an update that is not refused."""
    while True:
        metrics, options, operands, arrays = calls.stream(rng)
        try:
            empty = fe.Accumulator(metrics, **options)
            put(empty.copy(), operands, arrays)
        except calls.ERRORS:
            continue
        n = len(operands[-1])
        cuts = np.sort(rng.integers(0, n + 1, 5 * THREADS - 1)).tolist()
        parts = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
        return empty, [
            ([a[part] for a in operands], {k: a[part] for k, a in arrays.items()}) for part in parts
        ], (operands, arrays)  # fmt: skip


def accumulators(rng):
    """One that all update and merge into, one that all read, and one that comes and goes."""
    empty, pieces, all_rows = accepted(rng)
    whole = put(empty.copy(), *all_rows)
    report = whole.compute()
    want, shown = calls.told(whole), text(report)
    shared, idle, coming = empty.copy(), put(empty.copy(), *all_rows), empty.copy()
    wanted = {k: v for k, v in whole.state_dict().items() if k in ("state", "width", "lists")}

    def read(rng):
        way = int(rng.integers(7))
        if way == 0:
            assert text(report) == shown
        elif way == 1:
            assert text(idle.compute()) == shown
        elif way == 2:
            assert calls.told(empty.copy().merge(idle)) == want
        elif way == 3:
            assert calls.told(pickle.loads(pickle.dumps(idle))) == want
            assert text(pickle.loads(pickle.dumps(report))) == shown
        elif way == 4:
            now = shared.compute()
            first = text(now)
            assert text(now) == first, "a report has changed"
        elif way == 5:
            assert 0 <= shared.copy().compute().rows <= report.rows
        else:
            fe.Accumulator.from_state_dict(json.loads(calls.told(shared)))

    def go(rng, mine):
        part = empty.copy()
        for piece in mine:
            if chance(rng, 0.5):
                put(shared, *piece)
            elif chance(rng, 0.5):
                put(part, *piece)
            else:
                shared.merge(put(empty.copy(), *piece))
            read(rng)
            coming.merge(idle)
            if chance(rng, 0.3):
                text(coming.reset().compute())
        shared.merge(part)

    works = [lambda seed=seed, mine=pieces[k::THREADS]: go(np.random.default_rng(seed), mine)
             for k, seed in enumerate(rng.integers(2**63, size=THREADS))]  # fmt: skip
    at_once(*works)
    found = shared.state_dict()
    assert {k: v for k, v in found.items() if k in wanted} == wanted
    assert calls.told(idle) == want and text(report) == shown
    assert coming.compute().rows % max(report.rows, 1) == 0, coming.compute().rows


# --- processes


def forks(rng):
    """Children of a process whose threads are at work."""
    made = some_calls(rng, 6)
    empty, _, all_rows = accepted(rng)
    whole = put(empty.copy(), *all_rows)
    want, shared, stop = calls.told(whole), empty.copy(), threading.Event()

    def work(rng, made):
        while not stop.is_set():
            call(rng, *pick(rng, made))
            put(shared, *all_rows)
            text(shared.compute())

    def fork():
        try:
            for _ in range(4):
                child(lambda: look(np.random.default_rng(seed)))
        finally:
            stop.set()

    def look(rng):
        for one in made:
            call(rng, *one)
        assert calls.told(put(empty.copy(), *all_rows)) == want
        assert shared.compute().rows % max(whole.compute().rows, 1) == 0
        put(shared, *all_rows)

    seed = int(rng.integers(2**63))
    at_once(*unlike(rng, work, made)[1:], fork)


def child(work):
    """Whether work is done in a fork, in time."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b"well"
        faulthandler.dump_traceback_later(0.8 * PATIENCE)  # says where it hangs
        try:
            work()
        except BaseException as error:
            said = repr(error).encode()[:4000]
        os.write(writing, said)
        os._exit(0)
    os.close(writing)
    try:
        ready = select.select([reading], [], [], PATIENCE)[0]
        said = os.read(reading, 4096) if ready else b"hangs"
    finally:
        os.close(reading)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    assert said == b"well", (said.decode(), status)


def fresh(rng):
    """Imports and first calls by all threads of a new process at once."""
    seed = str(rng.integers(2**63))
    done = subprocess.run(
        [sys.executable, "-P", "-c", FRESH, seed, ",".join(sorted({*calls.BACKENDS}))],
        capture_output=True, text=True, timeout=PATIENCE, check=False)  # fmt: skip
    assert done.returncode == 0 and not done.stderr, (seed, done.returncode, done.stderr[-3000:])


def first(seed, backends):
    """The first calls of a process: each thread makes the same ones, and finds what they give."""
    prepare()
    calls.BACKENDS[:] = backends.split(",")
    seed, found = int(seed), []

    def go():
        rng = np.random.default_rng(seed)
        made = [bits(one[-1]) for one in some_calls(rng, 6)]
        empty, _, all_rows = accepted(rng)
        acc = put(empty, *all_rows)
        found.append((made, calls.told(acc), text(acc.compute())))

    at_once(*[go] * THREADS)
    go()
    assert all(one == found[-1] for one in found), found


# --- all


def settings():
    return list(warnings.filters), np.geterr(), _settings.levels.active, os.environ.copy()


def prepare():
    """Warnings are errors, but for the one about forks of a process with threads."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    sys.setswitchinterval(5e-5)


def case(rng):
    prepare()
    before = settings()
    if chance(rng, 0.1):
        return fresh(rng)
    with _settings.use_simd(pick(rng, _settings.simd_levels())):
        if chance(rng, 0.1) and FORKS:
            forks(rng)
        else:
            pick(rng, [functions, accumulators])(rng)
    assert settings() == before


def main():
    if FREE:
        if sys._is_gil_enabled():
            sys.exit("threads.py: a module has brought the GIL back; PYTHON_GIL=0 keeps it away")
        if "--worker" not in sys.argv:
            print("threads.py: without a GIL", flush=True)
    if "--no-numba" in sys.argv:
        calls.BACKENDS.remove("numba")
    return watched.main(case, __doc__, patience=2 * PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
