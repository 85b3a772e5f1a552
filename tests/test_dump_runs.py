"""Runs over dumps: however they are cut, killed or spread, the same bytes come out; rows that are
no numbers do what the policy says."""

import itertools
import json
import math
import struct
from pathlib import Path

import dumps
import numpy as np
import pytest

from fastent import llama
from fastent.cli import checkpoint, main, pair_sums, run, sums
from fastent.io import shards

N_CTX, CHUNKS, CLASSES = 12, 9, 2051  # 45 rows longer than a block, of an odd vocabulary
CHUNK_ROWS = N_CTX - 1 - N_CTX // 2
ROWS = CHUNKS * CHUNK_ROWS
RNG = np.random.default_rng(5)
TOKENS = RNG.integers(0, CLASSES, (CHUNKS, N_CTX))
P = (4 * RNG.standard_normal((ROWS, CLASSES))).astype(np.float32)
Q = P + RNG.standard_normal(P.shape).astype(np.float32)
COMPARE = ["compare", "p-*.bin", "q-*.bin"]
SCORE = ["score", "p-*.bin", "--metrics", "cross_entropy,accuracy,top5_accuracy,brier,entropy,ece"]


def write(cuts):
    """Dumps of some chunks each."""
    for k, (start, stop) in enumerate(itertools.pairwise(cuts)):
        for name, numbers in (("p", P), ("q", Q)):
            some = numbers[start * CHUNK_ROWS : stop * CHUNK_ROWS]
            llama.write(f"{name}-{k}.bin", TOKENS[start:stop], [some], N_CTX)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write([0, 4, 5, CHUNKS])


def outputs(words, name="found"):
    """JSON and row values, byte for byte."""
    made = [f"{name}.json", f"{name}.parquet"]
    assert main([*words, "--worst", "6", "--quiet", "--json", made[0], "--rows", made[1]]) == 0
    return [Path(file).read_bytes() for file in made]


@pytest.mark.parametrize("command", [COMPARE, SCORE], ids=lambda words: words[0])
@pytest.mark.parametrize(("piece", "pieces", "threads"), [(1, 1, 1), (2, 3, 2), (7, 2, 3)])
def test_pieces_blocks_and_threads_do_not_show(command, piece, pieces, threads, monkeypatch):
    whole = outputs([*command, "--num-threads", "1"])
    for where, name, size in (
        (shards, "PIECE_ROWS", piece), (shards, "PIECES", pieces), (sums, "CACHED_ROWS", 2),
        (pair_sums, "STEP_BYTES", 1), (run, "RESULT_BYTES", 1),
        (checkpoint, "FIRST_SECONDS", 0), (checkpoint, "LONGEST_SECONDS", 0),
    ):  # fmt: skip
        assert hasattr(where, name)
        monkeypatch.setattr(where, name, size)
    words = ["--num-threads", str(threads), "--checkpoint", "progress"]
    assert outputs([*command, *words]) == whole
    assert not Path("progress").exists()


@pytest.mark.parametrize("command", [COMPARE, SCORE], ids=lambda words: words[0])
def test_how_the_text_is_cut_into_files_does_not_show(command):
    found = []
    for cuts in ([0, CHUNKS], [0, 1, 2, 8, CHUNKS]):
        for path in Path().glob("*.bin"):
            path.unlink()
        write(cuts)
        report = json.loads(outputs(command)[0])
        for row in report["worst"]:  # but for where they are
            for place in ("file", "row", "chunk"):
                del row[place]
        found.append([report[k] for k in ("metrics", "worst", "rows", "clipping")])
    assert found[0] == found[1]


# --- rows that are no numbers ---------------------------------------------------------------------


def put_nan(path, row):
    """What a model that has gone wrong leaves: the scale of a row is NaN."""
    width = 2 * (2 * ((CLASSES + 1) // 2) + 4)
    with open(path, "r+b") as stream:
        _, n_ctx, _, n_chunk = struct.unpack("<8siii", stream.read(20))
        stream.seek(20 + 4 * n_ctx * n_chunk + row * width)
        stream.write(struct.pack("<f", math.nan))


@pytest.mark.parametrize("command", [COMPARE, SCORE], ids=lambda words: words[0])
def test_nan_policies(command, capsys, monkeypatch):
    monkeypatch.setattr(shards, "PIECE_ROWS", 3)
    put_nan("p-2.bin", 8)
    if command is COMPARE:
        put_nan("q-2.bin", 2)
    first = "q-2.bin: row 2" if command is COMPARE else "p-2.bin: row 8"
    assert main([*command, "--json", "r.json"]) == 2
    told = capsys.readouterr().err
    assert first in told and told.count("\n") == 1, told
    assert not Path("r.json").exists()

    omitted, _ = outputs([*command, "--nan-policy", "omit"])
    omitted = json.loads(omitted)
    assert omitted["nan_rows"] == (2 if command is COMPARE else 1)
    kept = np.ones(ROWS, bool)
    kept[[5 * CHUNK_ROWS + k for k in ({2, 8} if command is COMPARE else {8})]] = False
    entry = omitted["metrics"]["cross_entropy_p" if command is COMPARE else "cross_entropy"]
    assert entry["value"] == pytest.approx(losses_of("p")[kept].mean(), rel=1e-6)
    assert entry["count"] == kept.sum()

    spread, _ = outputs([*command, "--nan-policy", "propagate"])
    for name, entry in json.loads(spread)["metrics"].items():
        assert entry["value"] == "nan", name


def losses_of(name):
    """−ln of the labels' probabilities, of rows as they are decoded."""
    rows = np.concatenate([dumps.decoded(f"{name}-{k}.bin") for k in range(3)]).astype(np.float64)
    labels = TOKENS[:, N_CTX // 2 + 1 :].reshape(-1)
    return np.log(np.exp(rows).sum(1)) - rows[np.arange(ROWS), labels]


def test_the_rows_here_are_longer_than_a_block_and_some_are_clipped():
    report = json.loads(outputs(COMPARE)[0])
    assert 0 < report["clipping"]["p"]["rows_clipped"] <= ROWS
    assert dumps.decoded("p-0.bin").shape == (4 * CHUNK_ROWS, CLASSES)
