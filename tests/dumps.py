"""Dumps of llama.cpp: the fixtures, and others that tests write byte by byte."""

import struct
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "fixtures" / "llama"
MODELS = "ABC"


def path(model):
    return str(FOLDER / f"even-{model}.bin")


def logits(model):
    return np.load(FOLDER / f"even-{model}-logits.npy").reshape(-1, 480)


def decoded(file):
    """Log-probabilities of a dump by its layout alone, as float32 numbers."""
    data = Path(file).read_bytes()
    n_ctx, n_vocab, n_chunk = struct.unpack("<iii", data[8:20])
    width = 2 * (2 * ((n_vocab + 1) // 2) + 4)
    rows = np.frombuffer(data[20 + 4 * n_ctx * n_chunk :], np.uint8).reshape(-1, width)
    scale, least = (rows[:, k : k + 4].copy().view("<f4") for k in (0, 4))
    codes = rows[:, 8:].copy().view("<u2")[:, :n_vocab].astype(np.float32)
    product = (scale * codes).astype(np.float32)
    return product + least


def write(file, n_ctx, n_vocab, n_chunk, seed=0, spread=2.0):
    """A random dump by the package's writer; gives the logits."""
    from fastent import llama

    rng = np.random.default_rng(seed)
    rows = n_chunk * (n_ctx - 1 - n_ctx // 2)
    numbers = (spread * rng.normal(size=(rows, n_vocab))).astype(np.float32)
    tokens = np.random.default_rng(1).integers(0, n_vocab, (n_chunk, n_ctx))
    llama.write(file, tokens, [numbers], n_ctx)
    return numbers
