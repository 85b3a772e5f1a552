"""Progress on a terminal or in a notebook: rows a second, GB/s and the time left."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from fastent.report.notebook import NotebookBar, in_notebook


class Progress:
    """A line on stderr while the run goes on, or a bar in a notebook; elsewhere nothing."""

    def __init__(self, rows: int, total_bytes: int, done: int, quiet: bool) -> None:
        self._rows = rows
        self._row_bytes = total_bytes / max(1, rows)
        self._first = self._done = done
        self._began = self._shown = time.monotonic()
        self._bar: Any = None
        self._cell: Any = None
        if not quiet and in_notebook():
            self._cell = NotebookBar()
            return
        if quiet or sys.stderr is None or not sys.stderr.isatty():
            return
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress as Bar, TextColumn, TimeRemainingColumn
        except ImportError:
            return
        self._bar = Bar(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("rows", total=rows, completed=done, rate="")
        self._bar.start()

    def advance(self, done: int) -> None:
        self._done = done
        shown = self._bar is not None or self._cell is not None
        if shown and time.monotonic() - self._shown > 0.1:
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        rate = (self._done - self._first) / max(1e-9, self._shown - self._began)
        text = f"{rate:,.0f} rows/s  {rate * self._row_bytes / 1e9:.2f} GB/s"
        if self._cell is not None:
            left = (self._rows - self._done) / rate if rate else math.inf
            more = f"  {left:,.0f} s left" if 0 < left < math.inf else ""
            self._cell.show(self._done / max(1, self._rows), text + more)
            return
        self._bar.update(self._task, completed=self._done, rate=text)

    def close(self) -> None:
        if self._cell is not None:
            self._show()
            self._cell = None
        if self._bar is not None:
            self._show()
            self._bar.stop()
            self._bar = None
