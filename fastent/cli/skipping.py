"""``--on-error skip`` without a cluster: file by file, and one that fails leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastent.cli.outputs import named_errors
from fastent.cli.progress import Progress
from fastent.cli.run import RESULT_BYTES, Run
from fastent.io.errors import NoThreadError
from fastent.io.pipeline import Pipeline, blocks_at_once
from fastent.io.shards import Block, Shard, Shards


class SkippingRun(Run):
    """A run that scores each shard by itself, and merges those that came to their end.

    Parameters
    ----------
    fresh : callable
        Makes a scorer without rows.
    others
        As for `Run`.
    """

    def __init__(
        self,
        fresh: Callable[[], Any],
        options: Any,
        shards: Shards,
        scorer: Any,
        numbers: dict[str, Any],
        signals: Any,
    ) -> None:
        super().__init__(options, shards, scorer, {**numbers, "on_error": "skip"}, signals)
        self._fresh = fresh
        self._done: set[int] = set()
        self._failed: dict[int, str] = {}

    def work_through(self) -> None:
        self._resume()
        shards = list(self._shards.items)
        done = sum(shards[k].rows for k in self._done)
        self._progress = Progress(self._shards.rows, self._shards.bytes, done, self._options.quiet)
        self._signals.patient = True
        try:
            for number, shard in enumerate(shards):
                if number not in self._done and number not in self._failed:
                    self._score(number, shard)
                    if self._checkpoint.due() or self._signals.received is not None:
                        self._save()
                        self._signals.check()
        finally:
            self._progress.close()
            self._shards.close()
        self._save()
        for number, why in sorted(self._failed.items()):
            self._shards.leave_out(shards[number], why)

    def _score(self, number: int, shard: Shard) -> None:
        scorer = self._fresh()
        part = self._rows.part(number) if self._rows is not None else None

        def collect(block: Block, results: list[Any]) -> None:
            for values in scorer.collect(block, results):
                if part is not None:
                    part.write(values)
            self._progress.advance(block.end_row)

        most_rows = None
        if scorer.kept:
            room = RESULT_BYTES // blocks_at_once(self._threads)
            most_rows = max(1, room // (8 * scorer.kept))
        blocks = Shards([shard]).blocks(shard.first_row, self._threads, most_rows)
        try:
            pipeline = Pipeline(scorer.work, collect, self._threads)
            if not pipeline.run(blocks, lambda: self._signals.received is not None):
                self._abandon(number, part)  # scored again by the command that goes on
                return
            if part is not None:
                part.close()
        except NoThreadError:
            self._abandon(number, part)
            raise
        except (ValueError, TypeError, MemoryError) as error:
            self._abandon(number, part)
            self._failed[number] = " ".join(str(error).split()) or type(error).__name__
            return
        except BaseException as error:  # of what is written, and no fault of the shard
            self._abandon(number, part)
            if isinstance(error, OSError):
                with named_errors(self._options.rows):
                    raise
            raise
        finally:
            shard.close()
        self._scorer.merge(scorer.state())  # type: ignore[attr-defined]
        self._done.add(number)

    def _abandon(self, number: int, part: Any) -> None:
        if self._rows is not None and part is not None:
            part.abandon()
            self._rows.drop_part(number)

    def _place(self) -> dict[str, Any]:
        return {"done": sorted(self._done), "failed": sorted(self._failed.items())}

    def _go_to(self, state: dict[str, Any]) -> None:
        self._done = set(state["done"])
        self._failed = dict(state["failed"])
