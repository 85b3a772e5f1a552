"""More than 2³² numbers in one call, on a path of each kind: the rows beyond are those beyond."""

import json
import os

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main

CLASSES = 1000
ROWS = 2**32 // CLASSES + 3
# Rows whose first number has the index 2³¹ or 2³², or comes just before; and the last.
NEAR = [0, 1, 2**31 // CLASSES, 2**31 // CLASSES + 1, ROWS - 4, ROWS - 3, ROWS - 2, ROWS - 1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "sysconf")
        or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < 8e9,
        reason="needs 8 GB of memory, though hardly any of it is touched",
    ),
]


def untouched(dtype):
    """Zeros that no one has written to take no memory; a few rows differ."""
    x = np.zeros((ROWS, CLASSES), dtype)
    for k, row in enumerate(NEAR):
        x[row, k] = k + 1
    return x


def judged(found, x):
    want = fe.entropy(np.ascontiguousarray(x[NEAR]).astype(np.float32), kind="logits")
    assert len(set(want.tolist())) == len(NEAR)
    np.testing.assert_array_equal(found[NEAR], want)
    rest = np.delete(found, NEAR)
    assert (rest == rest[0]).all()
    assert abs(rest[0] - np.log(CLASSES)) < 1e-5


def test_contiguous():
    x = untouched(np.float16)
    judged(fe.entropy(x, kind="logits"), x)


def test_strided():
    # every row begins one number after the one before it: all of them lie in a few megabytes
    line = np.zeros(ROWS + CLASSES, np.float16)
    line[-CLASSES:] = np.linspace(0, 5, CLASSES)
    x = np.lib.stride_tricks.sliding_window_view(line, CLASSES)[:ROWS]
    assert x.size > 2**32
    found = fe.entropy(x, kind="logits")
    tail = np.ascontiguousarray(x[-2000:]).astype(np.float32)
    np.testing.assert_array_equal(found[-2000:], fe.entropy(tail, kind="logits"))
    assert (found[:-2000] == found[0]).all()


def test_mapped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.lib.format.open_memmap("x.npy", "w+", np.uint8, (ROWS, CLASSES))
    labels = np.zeros(ROWS, np.int16)
    x[ROWS - 1, 7] = 9
    labels[ROWS - 2] = 5
    x[ROWS - 2, 6] = 3
    x.flush()
    del x
    np.save("y.npy", labels)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--metrics",
             "cross_entropy", "--worst", "2", "--json", "j.json", "--quiet"]  # fmt: skip
    assert main(words) == 0
    with open("x.npy", "rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open("j.json") as stream:
        told = json.load(stream)
    last = [np.zeros(CLASSES), np.zeros(CLASSES)]
    last[0][7], last[1][6] = 9, 3
    losses = fe.sparse_cross_entropy([0, 5], last, kind="logits")
    assert told["rows"] == told["metrics"]["cross_entropy"]["count"] == ROWS
    assert [row["row"] for row in told["worst"]] == [ROWS - 1, ROWS - 2], told["worst"]
    np.testing.assert_allclose([row["cross_entropy"] for row in told["worst"]], losses, rtol=1e-6)
