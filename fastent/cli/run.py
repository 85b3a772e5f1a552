"""The run itself, the same for every command: blocks, checkpoints, progress, row values."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import fastent
from fastent import _settings
from fastent.cli.arguments import UsageError
from fastent.cli.checkpoint import Checkpoint
from fastent.cli.outputs import check_writable, is_direct, named_errors, write_whole
from fastent.cli.progress import Progress
from fastent.cli.rows import RowsFile
from fastent.cli.signals import Signals
from fastent.io.pipeline import Pipeline, blocks_at_once
from fastent.io.shards import Block, Piece, Shards
from fastent.report import document, table

ROWS_SUFFIXES = (".parquet", ".pq", "")
RESULT_BYTES = 16 << 20  # of rows that wait for their turn


class Scorer(Protocol):
    """What a command does with a block, and how it goes on from where it was."""

    rows_columns: tuple[tuple[str, str], ...]  # names and types
    kept: int  # numbers of each row that a piece's result holds

    def work(self, piece: Piece) -> Any:
        """Add a piece; called from several threads."""

    def collect(self, block: Block, results: list[Any]) -> list[Any]:
        """Take the results of a block's pieces, in order; gives the row values to write, as Arrow
        batches."""

    def state(self, lazily: bool = False) -> Any:
        """What `restore` takes; ``lazily``, long lists are iterators over what it is now."""

    def restore(self, state: Any) -> None: ...


class Run:
    """One run of a command over its shards.

    Nothing is left behind unless it is finished or a checkpoint names it.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        shards: Shards,
        scorer: Scorer,
        numbers: dict[str, Any],
        signals: Signals,
    ) -> None:
        self._options = options
        self._shards = shards
        self._scorer = scorer
        self._signals = signals
        self._threads = options.num_threads or fastent.get_num_threads()
        self._row = 0
        self._kept_parts: tuple[str, ...] = ()
        _check_targets(options, shards)
        if options.checkpoint and (is_direct(options.checkpoint) or options.checkpoint == "-"):
            raise UsageError(f"--checkpoint {options.checkpoint}: expected an ordinary file")
        if options.checkpoint and options.rows and is_direct(options.rows):
            raise UsageError(f"--rows {options.rows}: expected an ordinary file with --checkpoint")
        self._checkpoint = Checkpoint(
            options.checkpoint,
            {
                "version": fastent.__version__,
                "engine": engine_name(),
                "settings": {**numbers, "rows": options.rows, "worst": options.worst},
                "inputs": shards.identity(),
            },
        )
        self._rows = RowsFile(options.rows, scorer.rows_columns) if options.rows else None

    def work_through(self) -> None:
        """Score all rows, from the checkpoint on if there is one."""
        self._resume()
        progress = Progress(self._shards.rows, self._shards.bytes, self._row, self._options.quiet)
        spare = 0 if self._shards.in_place() else 1
        pipeline = Pipeline(self._scorer.work, self._collect, self._threads, spare)
        self._progress = progress
        self._signals.patient = True
        try:
            while not pipeline.run(self._blocks(), self._pause):
                self._save()
                self._signals.check()
        finally:
            progress.close()
            self._shards.close()
        if self._options.checkpoint:
            self._save()

    def _blocks(self) -> Iterator[Block]:
        most_rows = None
        if self._scorer.kept:
            room = RESULT_BYTES // blocks_at_once(self._threads)
            most_rows = max(1, room // (8 * self._scorer.kept))
        return self._shards.blocks(self._row, self._threads, most_rows)

    def go_through(self, make: Callable[[int], Any]) -> Any:
        """A further pass over all rows with a scorer made for so many threads; gives the scorer."""
        threads = self._threads
        scorer = make(threads)
        spare = 0 if self._shards.in_place() else 1
        pipeline = Pipeline(scorer.work, scorer.collect, threads, spare)
        try:
            pipeline.run(
                self._shards.blocks(0, threads), lambda: self._signals.received is not None
            )
            self._signals.check()
        finally:
            self._shards.close()
        return scorer

    def finish(self) -> None:
        """Put the row values in place."""
        if self._rows is not None:
            self._rows.finish(keep_parts=bool(self._options.checkpoint))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Remove what is not wanted any more: the checkpoint of a finished run, loose parts."""
        if error is None:
            self._checkpoint.remove()
            self._kept_parts = ()
        if self._rows is not None:
            self._rows.discard(self._kept_parts if self._checkpoint.exists() else ())
        self._checkpoint.unlock()

    def _pause(self) -> bool:
        return self._signals.received is not None or self._checkpoint.due()

    def _collect(self, block: Block, results: list[Any]) -> None:
        for values in self._scorer.collect(block, results):
            if self._rows is not None:
                self._rows.write(values)
        self._row = block.end_row
        if block.last:
            block.shard.close()
        self._progress.advance(self._row)

    def _resume(self) -> None:
        state = self._checkpoint.load()
        if state is None:
            parts = []
        else:
            with self._checkpoint.believed():
                self._scorer.restore(state["scorer"])
                self._go_to(state)
                parts = [str(part) for part in state["parts"]]
        self._kept_parts = tuple(parts)
        if self._rows is not None:
            self._rows.resume(parts)

    def _save(self) -> None:
        if not self._options.checkpoint:
            return
        parts = self._rows.cut() if self._rows is not None else []
        scorer = self._scorer.state(lazily=True)
        # Those of the checkpoint before are among them: what is named stays if saving fails.
        self._kept_parts = tuple(parts)
        self._checkpoint.save({**self._place(), "parts": parts, "scorer": scorer})

    def _place(self) -> dict[str, Any]:
        """How far the run has come, for a checkpoint."""
        return {"row": self._row}

    def _go_to(self, state: dict[str, Any]) -> None:
        self._row = state["row"]
        if type(self._row) is not int or not 0 <= self._row <= self._shards.rows:
            raise ValueError(f"row {self._row!r} of {self._shards.rows}")


def _check_targets(options: argparse.Namespace, shards: Shards) -> None:
    """Refuse, before the work, what could not be written after it or would overwrite something."""
    inputs = {
        os.path.realpath(source.path) for shard in shards.items for source in shard.sources.values()
    }
    taken: dict[str, str] = {}
    for option in ("json", "html", "rows", "checkpoint"):
        path = getattr(options, option)
        if path is None:
            continue
        check_writable(path)
        place = path if path == "-" else os.path.realpath(path)
        if place in inputs:
            raise UsageError(f"--{option} {path}: would overwrite an input")
        if place in taken and (path == "-" or not is_direct(path)):
            raise UsageError(f"--{option} {path}: --{taken[place]} writes it too")
        if option == "rows" and not is_direct(path):
            suffix = os.path.splitext(path)[1]
            if suffix.lower() not in ROWS_SUFFIXES:
                raise UsageError(f"--rows {path}: it is Parquet, expected .parquet, got {suffix}")
        taken[place] = option


def write_outputs(
    options: argparse.Namespace, found: dict[str, Any], page: Callable[[], bytes]
) -> None:
    """The JSON document and the page."""
    if options.json:
        write_whole(options.json, document.render(found))
    if options.html:
        write_whole(options.html, [page()])


def show(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """The table, unless something else takes standard output."""
    if sys.stdout is None or options.quiet or "-" in (options.json, options.html, options.rows):
        return
    with named_errors("standard output"):
        table.show(found)
        sys.stdout.flush()


def engine_name() -> str:
    """Backend and SIMD level: their last bits differ, so runs do not go on across them."""
    return f"{_settings.chosen_backend(None)} {_settings.levels.active}"
