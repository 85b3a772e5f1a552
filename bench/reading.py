"""Reading of each format beside what its library takes to hand over the same columns.

The library hands over batches of its own; ours are the same numbers as rows of one array, as
scoring takes them. Both on one thread, in turns; processor times, least of some runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet

from fastent.io import Reference, open_source
from fastent.io.source import Buffer

PIECE = 1 << 16
HEAD = ["format", "library ms", "here ms", "times as long"]


def by_columns(rows: int, classes: int) -> pa.Table:
    x = np.random.default_rng(1).standard_normal((rows, classes))
    return pa.table({f"p{k}": np.ascontiguousarray(x[:, k]) for k in range(classes)})


def by_lists(rows: int, classes: int) -> pa.Table:
    x = np.random.default_rng(1).standard_normal(rows * classes)
    return pa.table({"logits": pa.FixedSizeListArray.from_arrays(pa.array(x), classes)})


def parquet(path: str, columns: list[str]) -> None:
    file = pyarrow.parquet.ParquetFile(path)
    for _ in file.iter_batches(PIECE, columns=columns, use_threads=False):
        pass


def arrow(path: str, columns: list[str]) -> None:
    with pa.memory_map(path) as mapped:
        options = pa.ipc.IpcReadOptions(use_threads=False)
        reader = pa.ipc.open_file(mapped, options=options)
        for k in range(reader.num_record_batches):
            for column in reader.get_batch(k).columns:
                values = column.flatten() if hasattr(column, "flatten") else column
                np.asarray(values).sum()  # mapped: handed over is what was looked at


def csv(path: str, columns: list[str]) -> None:
    options = pyarrow.csv.ReadOptions(use_threads=False)
    for _ in pyarrow.csv.open_csv(path, read_options=options):
        pass


def json_lines(path: str, columns: list[str]) -> None:
    pyarrow.json.read_json(path, read_options=pyarrow.json.ReadOptions(use_threads=False))


def write_json(table: pa.Table, path: str) -> None:
    table.to_pandas().to_json(path, orient="records", lines=True)


bare, lz4 = (partial(pyarrow.feather.write_feather, compression=c) for c in ("uncompressed", "lz4"))
FORMATS: dict[str, tuple[str, Callable[[int, int], pa.Table], Callable[..., Any], Any]] = {
    "parquet, columns": ("x.parquet", by_columns, pyarrow.parquet.write_table, parquet),
    "parquet, lists": ("x.parquet", by_lists, pyarrow.parquet.write_table, parquet),
    "arrow, columns": ("x.arrow", by_columns, bare, arrow),
    "arrow, lists": ("x.arrow", by_lists, bare, arrow),
    "arrow, lz4": ("x.arrow", by_lists, lz4, arrow),
    "csv": ("x.csv", by_columns, pyarrow.csv.write_csv, csv),
    "jsonl": ("x.jsonl", by_columns, write_json, json_lines),
}


def here(path: str) -> None:
    """All rows, as scoring reads them; the rows of text are counted first, which it needs too."""
    source = open_source(Reference(path), "predictions")
    with source:
        buffer = Buffer()
        for start in range(0, source.rows, PIECE):
            rows = source.read(start, min(source.rows, start + PIECE), buffer)
            if source.path.endswith(".arrow"):
                rows.sum()


def spent(call: Callable[[], object]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


def lines(rows: int, classes: int, repeats: int) -> list[list[str]]:
    return [line(name, rows, classes, repeats) for name in FORMATS]


def line(name: str, rows: int, classes: int, repeats: int) -> list[str]:
    file, make, write, library = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / file)
        table = make(rows if file.endswith(("parquet", "arrow")) else rows // 2, classes)
        write(table, path)
        times = [
            (spent(lambda: library(path, table.column_names)), spent(lambda: here(path)))
            for _ in range(repeats + 1)
        ][1:]
    theirs, ours = np.min(times, axis=0)
    return [name, f"{1e3 * theirs:.1f}", f"{1e3 * ours:.1f}", f"{ours / theirs:.2f}"]


class Peak:
    """The most anonymous memory of this process while it is in use, in MB."""

    def __enter__(self) -> Peak:
        self.megabytes, self._done = 0.0, False
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done:
            status = Path("/proc/self/status").read_text()
            anonymous = re.search(r"RssAnon:\s+(\d+)", status)
            self.megabytes = max(self.megabytes, int(anonymous[1]) / 1024 if anonymous else 0)
            time.sleep(0.002)

    def __exit__(self, *error: object) -> None:
        self._done = True
        self._watcher.join()


# The path is ours, in our order: a folder of sources must not come before what is installed.
PEAKS = """
import ast, sys
sys.path[:] = ast.literal_eval(sys.argv.pop(1))
from bench.reading import Peak
from fastent.cli import main
with Peak() as peak:
    code = main(sys.argv[1:])
print(peak.megabytes)
sys.exit(code)
"""


def wide_text(path: Path, columns: int) -> int:
    """Two lines of logits of 0, and names; the number of rows."""
    with open(path, "w") as stream:
        stream.write(",".join(f"p{k}" for k in range(columns)) + "\n")
        stream.writelines((",".join(["0.0"] * columns) + "\n") * 2)
    return 2


def tall_table(path: Path, columns: int, groups: int, rows: int) -> int:
    """Logits of 0 in row groups of some rows."""
    zeros = np.zeros(rows, np.float32)
    table = pa.table({f"p{k}": zeros for k in range(columns)})
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(groups):
            writer.write_table(table)
    return groups * rows


def peaks(scale: float) -> list[list[str]]:
    """The most anonymous memory of ``fastent score`` on tables of so many parts, times a scale."""
    found = []
    few, many, wide, rows = (max(1, int(n * scale)) for n in (400, 20_000, 10**6, 10**6))
    for name, file, write in (
        (f"1000 columns, {few:,} row groups", "x.parquet", lambda p: tall_table(p, 1000, few, 8)),
        (f"16 columns, {many:,} row groups", "x.parquet", lambda p: tall_table(p, 16, many, 2)),
        (f"{wide:,} columns of text", "x.csv", lambda p: wide_text(p, wide)),
        (f"{many:,} groups", "x.npy", None),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path, labels = Path(folder) / file, Path(folder) / "labels.npy"
            words = ["score", str(path), "--labels", str(labels), "--kind", "logits", "--quiet"]
            if write is None:
                count = rows
                np.save(path, np.zeros((count, 3), np.float32))
                np.save(Path(folder) / "groups.npy", np.arange(count) % many)
                words += ["--groups", str(Path(folder) / "groups.npy")]
            else:
                count = write(path)
            np.save(labels, np.zeros(count, np.int64))
            run = subprocess.run(
                [sys.executable, "-P", "-c", PEAKS, repr(sys.path), *words],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
        found.append([name, f"{float(run.stdout.split()[-1]):.0f}"])
    return found
