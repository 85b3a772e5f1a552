"""``python -m bench.scoring``: ``fastent score`` beside merely reading the same bytes.

Float32 logits in a file in the page cache. Reading means that as many threads as are scoring take
the next stretch of the file into a buffer of their own, again and again, and look at nothing. The
two run in turns; the best time of each counts. Under other load processor times (of all threads)
say more than the clock. Then reading of each format beside its library (see bench/reading.py), and
peaks of memory on tables of many parts. Below 1000 megabytes these are smaller in proportion.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench import machine, reading
from bench.table import markdown_table
from fastent.cli import main as command

STRETCH = 2 << 20


def write_shard(folder: Path, size: int, classes: int, seed: int = 0) -> tuple[Path, Path]:
    """Logits and labels."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng((classes, seed))
    rows = size // (4 * classes)
    some = (3 * rng.standard_normal((min(rows, 5_000_000 // classes + 1), classes))).astype("<f4")
    logits, labels = folder / "logits.npy", folder / "labels.npy"
    with open(logits, "wb") as stream:
        head = {"descr": "<f4", "fortran_order": False, "shape": (rows, classes)}
        np.lib.format.write_array_header_1_0(stream, head)
        for start in range(0, rows, len(some)):
            some[: rows - start].tofile(stream)
    np.save(labels, rng.integers(0, classes, rows))
    return logits, labels


def read(path: Path, threads: int) -> None:
    """All bytes into reused buffers."""
    size = path.stat().st_size
    fd = os.open(path, os.O_RDONLY)
    stretches = itertools.count(0, STRETCH)
    turn = threading.Lock()

    def work() -> None:
        buffer = memoryview(bytearray(STRETCH))
        while True:
            with turn:
                offset = next(stretches)
            if offset >= size:
                return
            os.preadv(fd, [buffer], offset)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    os.close(fd)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of all processors."""
    clock, spent = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - spent


def scoring_beside_reading(
    classes: int, size: int, threads: int, words: Sequence[str], repeats: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Seconds of reading and of scoring, by the clock and of all processors, and the bytes read.

    `words` are further ones of `fastent score`, or begin with compare: that compares a file with
    another one, and reading is of both.
    """
    with tempfile.TemporaryDirectory() as folder:
        compares = bool(words) and words[0] == "compare"
        logits, labels = write_shard(Path(folder), size // 2 if compares else size, classes)
        files = [logits]
        if compares:
            files.append(write_shard(Path(folder) / "others", size // 2, classes, 1)[0])
            command_words = [*words, *map(str, files)]
        else:
            command_words = ["score", str(logits), "--labels", str(labels), *words]
        command_words += ["--kind", "logits", "--quiet", "--num-threads", str(threads)]

        def read_all() -> None:
            for path in files:
                read(path, threads)

        times = [
            (timed(read_all), timed(lambda: command(command_words))) for _ in range(repeats + 1)
        ][1:]  # the first fills the cache and imports
        bytes_read = sum(path.stat().st_size for path in files)
    best = np.min(times, axis=0)
    return best[:, 0], best[:, 1], bytes_read


def line(classes: int, size: int, threads: int, metrics: str | None, repeats: int) -> list[str]:
    words = ["--metrics", metrics] if metrics else []
    clock, spent, bytes_read = scoring_beside_reading(classes, size, threads, words, repeats)
    cells = [metrics or "the default ones", f"{classes:,}", str(threads)]
    cells += [f"{bytes_read / seconds / 1e9:.1f}" for seconds in clock]
    return cells + [f"{scoring / reading:.2f}" for reading, scoring in (clock, spent)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scoring", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000, 128_256])
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, machine.cores()}))
    parser.add_argument("--metrics", nargs="+", default=[None, "cross_entropy"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    size = options.megabytes * 1_000_000
    head = ["metrics", "classes", "threads", "reading GB/s", "scoring GB/s", "times as long"]
    head += ["processor time"]
    every = itertools.product(options.classes, options.threads, options.metrics)
    lines = [line(c, size, threads, names, options.repeats) for c, threads, names in every]
    print(markdown_table(head, lines))
    print()
    scale = min(1.0, options.megabytes / 1000)
    rows = int(200_000 * scale)
    print(markdown_table(reading.HEAD, reading.lines(rows, 20, options.repeats)))
    print()
    print(markdown_table(["anonymous memory of scoring", "MB"], reading.peaks(scale)))


if __name__ == "__main__":
    main()
