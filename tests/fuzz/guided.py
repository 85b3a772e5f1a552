"""The same guided by coverage, for long runs: ``guided.py .parquet --seconds 3600``, or ``state``.

libFuzzer, by way of the package `atheris` (pip install atheris), changes whole files or states so
that they reach code of this package that none before has reached. It ends at the first find, whose
file is named at the end and tried again by ``guided.py .parquet FILE``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
import zlib

import atheris
import numpy as np

with atheris.instrument_imports(include=["fastent"]):
    import files
    import states

SEEDS = 20  # whole files to begin with


def try_file(suffix, data):
    path = os.path.join(files.FOLDER, f"guided{suffix}")
    with open(path, "wb") as stream:
        stream.write(data)
    found = files.read(path, "predictions", np.random.default_rng(zlib.crc32(data)))
    if found is not None:
        files.held_against(files.FORMATS[suffix][1], path, found)


def try_state(data):
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return
    states.check_state(tree)


def begin(kind, folder):
    """Whole ones in a folder."""
    if kind == "state":
        for number, tree in enumerate(states.STATES):
            with open(os.path.join(folder, f"{number}.json"), "w", encoding="utf-8") as stream:
                json.dump(tree, stream)
        return
    for number in range(SEEDS):
        rng = np.random.default_rng(number)
        files.FORMATS[kind][0](rng, files.numbers(rng), os.path.join(folder, f"{number}{kind}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*files.FORMATS, "state"])
    parser.add_argument("file", nargs="?", help="only this one")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("error")
    kind = options.kind
    one = try_state if kind == "state" else lambda data: try_file(kind, data)
    if options.file:
        with open(options.file, "rb") as stream:
            one(stream.read())
        return
    corpus = tempfile.mkdtemp(prefix="fastent-fuzz-")
    begin(kind, corpus)
    words = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-max_len=20000"]
    words += ["-rss_limit_mb=4096", "-timeout=60", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *words, corpus], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
