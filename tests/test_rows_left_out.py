"""Rows that are ignored or NaN are counted over all files, blocks and steps."""

import json

import numpy as np
import pytest

from fastent.cli import main, sums
from fastent.io import shards

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_counts_of_rows_left_out(tmp_path, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)
    sizes = (sums, "CACHED_ROWS", 4), (shards, "PIECE_ROWS", 9), (shards, "PIECES", 3)
    for where, name, size in sizes:
        monkeypatch.setattr(where, name, size)
    ignored = nans = 0
    for k in range(3):
        logits, labels = RNG.normal(size=(20, 3)), RNG.integers(0, 3, 20)
        labels[[0, 7, 19]] = -100
        logits[[2, 9, 17], 1] = np.nan
        ignored, nans = ignored + 3, nans + 3
        np.save(f"x{k}.npy", logits)
        np.save(f"y{k}.npy", labels)
    words = (
        "score x*.npy --labels y*.npy --kind logits --ignore-index -100 --nan-policy omit --quiet"
    )
    options = [
        "--metrics",
        "cross_entropy",
        "--json",
        "found.json",
        "--num-threads",
        threads,
        "--quiet",
    ]
    assert main([*words.split(), *options]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["ignored_rows"], found["nan_rows"]) == (ignored, nans)
    assert found["metrics"]["cross_entropy"]["count"] == 60 - ignored - nans
