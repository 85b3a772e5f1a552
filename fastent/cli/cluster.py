"""``--dask``: files or row ranges are the tasks, and states come back, not rows."""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import pickle
import queue
import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import fastent
from fastent.cli.arguments import UsageError
from fastent.cli.outputs import is_direct
from fastent.cli.progress import Progress
from fastent.cli.run import Run, engine_name
from fastent.cli.signals import Signals
from fastent.io import Buffer, InputError, Source
from fastent.io.csv import CsvTable
from fastent.io.csv_layout import Layout
from fastent.io.pipeline import Pipeline
from fastent.io.shards import Block, Shard, Shards
from fastent.io.table import Table

TASK_BYTES = 64 << 20
TASK_ROWS = 1 << 18  # where row values travel too
GATHERED = 64  # results fetched at once
GATHERED_ROWS = 4  # the same where they hold row values
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Plan:
    """What every task must know to score like every other."""

    options: argparse.Namespace
    make: Callable[[int], Any]  # a scorer for so many threads

    @property
    def threads(self) -> int:
        """Threads of a task: the one that Dask gave it, unless more are asked for."""
        return self.options.num_threads or 1


@dataclass(frozen=True)
class Job:
    """Rows of a shard that are one task."""

    shard: Shard
    start: int
    stop: int


def jobs_of(shards: Shards, whole: bool, most_rows: int) -> list[Job]:
    """Files, cut into row ranges where they are large and can be read from the middle."""
    jobs = []
    for shard in shards.items:
        sources = shard.sources.values()
        for source in sources:
            anchor(source)
        row_bytes = max(1, sum(source.row_bytes for source in sources))
        if whole or any(source.sequential for source in sources):
            row_bytes = 0
        start = 0
        # Ranges end where blocks do, so that no block is read twice.
        for block in Shards([shard]).blocks(shard.first_row, 1):
            rows = block.stop - start
            full = rows * row_bytes >= TASK_BYTES or rows >= most_rows
            if block.last or (row_bytes and full):
                jobs.append(Job(shard, start, block.stop))
                start = block.stop
    return jobs


def anchor(source: Source) -> None:
    """Make its path mean the same in any directory; messages go on calling it what they did."""
    for part in (source, *vars(source).values()):
        if isinstance(part, list):
            for one in part:
                if isinstance(one, Source):
                    anchor(one)
        elif isinstance(part, Source | Table | Layout):
            part.path = os.path.abspath(part.path)
            if isinstance(part, CsvTable):
                part.layout.path = part.path


def score_rows(packed: bytes, start: int, stop: int, plan: Plan) -> dict[str, Any]:
    """A task: the state of some rows, or why there is none.

    The shard comes packed, so that no two tasks of a worker share an open file.
    """
    shard = pickle.loads(packed)
    blocks = Shards([shard]).blocks(shard.first_row + start, 1)
    wanted = itertools.takewhile(lambda block: block.start < stop, blocks)
    rows: list[Any] = []  # Arrow batches
    try:
        with lent_threads(plan.threads) as threads:
            scorer = plan.make(threads)

            def collect(block: Block, results: list[Any]) -> None:
                rows.extend(scorer.collect(block, results))

            if threads > 1:
                Pipeline(scorer.work, collect, threads).run(wanted, lambda: False)
            else:
                buffers: dict[str, Buffer] = defaultdict(Buffer)
                for block in wanted:
                    pieces = block.pieces(buffers, block.open(buffers))
                    collect(block, [piece.give(scorer.work) for piece in pieces])
        return {"engine": worker_engine(), "state": scorer.state(), "rows": rows}
    except (ValueError, TypeError, OSError, MemoryError) as error:
        return {"engine": worker_engine(), "failure": named(shard, error)}
    finally:
        shard.close()


_lent: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()  # threads of a worker in use
_returned = threading.Condition()


@contextmanager
def lent_threads(wanted: int) -> Iterator[int]:
    """Several threads for a task, while as many of the worker's other tasks wait for theirs.

    Never more than Dask gave the worker, whatever the number of tasks that it runs at once.
    """
    if wanted == 1:
        yield 1
        return
    from distributed import get_worker

    worker = get_worker()
    own = worker.state.nthreads
    threads = min(wanted, own)
    with _returned:
        in_use = _lent.setdefault(worker, [0])
        _returned.wait_for(lambda: in_use[0] + threads <= own)
        in_use[0] += threads
    try:
        yield threads
    finally:
        with _returned:
            in_use[0] -= threads
            _returned.notify_all()


def worker_engine() -> str:
    return f"fastent {fastent.__version__} {engine_name()}"


def named(shard: Shard, error: BaseException) -> str:
    """The error in one line that names the shard."""
    text = " ".join(str(error).split()) or type(error).__name__
    if any(name in text for s in shard.sources.values() for name in (s.name, s.path)):
        return text
    return f"{shard.main.name}: {text}"


class ClusterRun(Run):
    """A run whose rows are scored by the workers of a Dask cluster."""

    def __init__(
        self,
        plan: Plan,
        shards: Shards,
        scorer: Any,
        numbers: dict[str, Any],
        signals: Signals,
    ) -> None:
        options = plan.options
        numbers = {**numbers, "dask": True, "on_error": options.on_error}
        super().__init__(options, shards, scorer, numbers, signals)
        self._plan = plan
        self._merged = scorer
        self._skip = options.on_error == "skip"
        most_rows = TASK_ROWS if options.rows else shards.rows
        self._jobs = jobs_of(shards, self._skip, most_rows)
        self._gathered = GATHERED_ROWS if options.rows else GATHERED
        self._done: set[int] = set()
        self._failed: dict[int, str] = {}

    def work_through(self) -> None:
        self._resume()
        done = sum(self._jobs[n].stop - self._jobs[n].start for n in self._done)
        self._progress = Progress(self._shards.rows, self._shards.bytes, done, self._options.quiet)
        self._row = done
        self._signals.patient = True
        try:
            with connect(self._options.dask, self._plan.threads) as client:
                self._on_cluster(client)
        except CancelledError:
            raise InputError(f"--dask {self._options.dask}: the scheduler was lost") from None
        finally:
            self._progress.close()
        self._save()
        for number, why in self._failed.items():
            self._shards.leave_out(self._jobs[number].shard, why)

    def _on_cluster(self, client: Any) -> None:
        known = self._done | self._failed.keys()
        left = [number for number in range(len(self._jobs)) if number not in known]
        jobs = [self._jobs[number] for number in left]
        futures = client.map(
            score_rows,
            [pickle.dumps(job.shard) for job in jobs],
            [job.start for job in jobs],
            [job.stop for job in jobs],
            plan=self._plan,
            pure=False,
        )
        running = dict(zip(left, futures, strict=True))
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number, future in running.items():
            future.add_done_callback(lambda _, number=number: finished.put(number))
        del futures  # a result that was taken is forgotten by the workers
        while running:
            if self._pause():
                self._save()
                self._signals.check()
            batch = self._finished(finished)
            for number in [n for n in batch if running[n].status == "error"]:
                error = running.pop(number).exception()
                self._fail(number, named(self._jobs[number].shard, error))
            fetched = [n for n in batch if n in running]
            results = client.gather([running.pop(number) for number in fetched])
            for number, result in zip(fetched, results, strict=True):
                self._take(number, result)

    def go_through(self, make: Callable[[int], Any]) -> Any:
        scorer = make(1)
        plan = Plan(self._plan.options, make)
        left_out = [self._jobs[number].shard for number in self._failed]
        jobs = [job for job in self._jobs if job.shard not in left_out]
        try:
            with connect(self._options.dask, self._plan.threads) as client:
                words: list[list[Any]] = [
                    [pickle.dumps(job.shard) for job in jobs],
                    [job.start for job in jobs],
                    [job.stop for job in jobs],
                ]
                futures = client.map(score_rows, *words, plan=plan, pure=False)
                for future in futures:
                    while not future.done():
                        self._signals.check()
                        time.sleep(0.01)
                    result = future.result()
                    if "failure" in result:
                        raise InputError(result["failure"])
                    scorer.merge(result["state"])
        except CancelledError:
            raise InputError(f"--dask {self._options.dask}: the scheduler was lost") from None
        return scorer

    def _finished(self, finished: queue.SimpleQueue[int]) -> list[int]:
        """Some jobs that have ended; none after a moment, so that signals are seen."""
        batch: list[int] = []
        try:
            batch.append(finished.get(timeout=0.2))
            while len(batch) < self._gathered:
                batch.append(finished.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _take(self, number: int, result: dict[str, Any]) -> None:
        if result["engine"] != worker_engine():
            raise InputError(
                f"--dask {self._options.dask}: a worker has {result['engine']}, expected "
                f"{worker_engine()} as here (FASTENT_SIMD and FASTENT_BACKEND choose)"
            )
        if "failure" in result:
            self._fail(number, result["failure"])
            return
        if self._rows is not None:
            self._rows.write_part(number, result["rows"])
        self._merged.merge(result["state"])
        self._done.add(number)
        self._advance(number)

    def _fail(self, number: int, why: str) -> None:
        if not self._skip:
            raise InputError(why)
        self._failed[number] = why
        self._advance(number)

    def _advance(self, number: int) -> None:
        self._row += self._jobs[number].stop - self._jobs[number].start
        self._progress.advance(self._row)

    def _place(self) -> dict[str, Any]:
        return {"done": sorted(self._done), "failed": sorted(self._failed.items())}

    def _go_to(self, state: dict[str, Any]) -> None:
        self._done = set(state["done"])
        self._failed = dict(state["failed"])
        if not (self._done | self._failed.keys()) <= set(range(len(self._jobs))):
            raise ValueError("tasks that there are not")


@contextmanager
def connect(address: str, threads: int = 1) -> Iterator[Any]:
    """A client of the cluster at an address, or of one of N processes that ends with it."""
    try:
        import distributed
    except ImportError:
        raise InputError("--dask needs the package distributed (extra 'dask')") from None
    with ExitStack() as stack:
        where: Any = address
        if address.startswith("local:"):
            with deaf_children():
                where = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=int(address.removeprefix("local:")),
                        threads_per_worker=threads,
                        dashboard_address=":0",
                        silence_logs=logging.CRITICAL,
                    )
                )
        yield stack.enter_context(
            distributed.Client(where, timeout=CONNECT_SECONDS, set_as_default=False)
        )


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started here ignore Ctrl-C, which is for this one to answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def check_options(options: argparse.Namespace) -> None:
    """Refuse what a cluster cannot do."""
    if not re.fullmatch(r"local:[1-9]\d*|(?!local:)([a-z]+://)?[^/]+:\d+", options.dask):
        raise UsageError(f"--dask: expected HOST:PORT or local:N, got {options.dask!r}")
    if options.rows and is_direct(options.rows):
        raise UsageError(f"--rows {options.rows}: expected an ordinary file with --dask")
