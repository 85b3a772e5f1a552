"""Blocks through threads: some read while others compute, results come back in order."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from fastent.io.errors import NoThreadError
from fastent.io.shards import Block, Piece
from fastent.io.source import Buffer

WAITING = 4  # blocks a worker whose results wait for their turn


def blocks_at_once(threads: int) -> int:
    """How many blocks have results at one time."""
    return WAITING * (threads + 1)


class Pipeline:
    """Workers that take blocks in order, read them into their own buffers and compute.

    A worker reads its block and computes it while the bytes are still in its cache: ``work(piece)``
    gives a result, at most ``threads`` at once. ``collect(block, results)`` is called in the order
    of blocks, in the calling thread. ``spare`` more workers read while all those compute; where
    nothing is read into buffers one more is in the way: a tenth of the time.
    """

    def __init__(
        self,
        work: Callable[[Piece], Any],
        collect: Callable[[Block, list[Any]], None],
        threads: int,
        spare: int = 1,
    ) -> None:
        self._work = work
        self._threads = threads
        self._collect = collect
        self._workers = threads + spare
        self._computing = threading.Semaphore(threads)
        self._order = threading.Lock()

    def run(self, blocks: Iterator[Block], stop: Callable[[], bool]) -> bool:
        """Work through blocks until there are none or ``stop()``; True when all are done.

        On return every block that was taken has been collected, so the caller's state is that
        of a prefix of the rows. The first error, in the order of blocks, is raised.
        """
        self._numbered = enumerate(blocks)
        self._stopping = False
        self._exhausted = False
        self._results: queue.SimpleQueue[tuple[int, Block | None, Any]] = queue.SimpleQueue()
        self._room = threading.Semaphore(blocks_at_once(self._threads))
        started: list[threading.Thread] = []
        try:
            for number in range(self._workers):
                worker = threading.Thread(
                    target=self._worker, name=f"fastent-{number}", daemon=True
                )
                worker.start()
                started.append(worker)
        except RuntimeError as error:  # no more threads: those there are will do
            if not started:
                raise NoThreadError(f"no thread could be started: {error}") from None
        try:
            self._gather(stop, started)
        finally:
            self._stopping = True
            for _ in started:
                self._room.release()
            for worker in started:
                worker.join()
        return self._exhausted

    def _gather(self, stop: Callable[[], bool], workers: list[threading.Thread]) -> None:
        running = len(workers)
        failure: BaseException | None = None
        waiting: dict[int, tuple[Block, Any]] = {}
        turn = 0
        while running:
            self._stopping = self._stopping or stop()
            try:
                # Wakes often enough to notice the time and signals while a read is slow.
                number, block, result = self._results.get(timeout=0.2)
            except queue.Empty:
                if self._results.empty() and not any(worker.is_alive() for worker in workers):
                    raise RuntimeError("the threads that computed have ended") from None
                continue
            if block is None:
                running -= 1
                failure = failure or result
                continue
            waiting[number] = (block, result)
            while turn in waiting:
                block, result = waiting.pop(turn)
                if isinstance(result, BaseException):
                    raise result
                self._collect(block, result)
                turn += 1
                self._room.release()
        if failure is not None:
            raise failure

    def _worker(self) -> None:
        failure = None
        try:
            buffers: dict[str, Buffer] = defaultdict(Buffer)
            while self._step(buffers):
                pass
        except BaseException as error:  # of what hands out the blocks
            self._stopping = True
            failure = error
        self._results.put((-1, None, failure))

    def _step(self, buffers: dict[str, Buffer]) -> bool:
        self._room.acquire()
        with self._order:
            if self._stopping:
                return False
            number, block = next(self._numbered, (-1, None))
            if block is None:
                self._exhausted = True
                return False
            try:
                read = block.open(buffers)
            except BaseException as error:
                self._stopping = True
                self._results.put((number, block, error))
                return True
        result: Any = []
        try:
            for piece in block.pieces(buffers, read):
                with self._computing:
                    result.append(piece.give(self._work))
        except BaseException as error:
            self._stopping = True
            result = error
        self._results.put((number, block, result))
        return True
