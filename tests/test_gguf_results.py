"""Files of llama-results (GGUF): read as they are meant, or refused in one line."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main
from fastent.io import InputError, Reference, open_source

TOKENS, CLASSES = 19, 37
RNG = np.random.default_rng(4)
P, Q = RNG.normal(size=(2, TOKENS, CLASSES)).astype(np.float32)
TEXT = RNG.integers(0, CLASSES, TOKENS).astype(np.int32)


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def gguf(logits, tokens=TEXT, version=3, alignment=None, declared=None, kinds=(26, 0), names=None):
    """A file as the program writes it, with metadata of every type before."""
    entries = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("some") + struct.pack("<II", 9, 8) + struct.pack("<Q", 2) + text("a") + text("ß"),
        text("more") + struct.pack("<IIQ3h", 9, 3, 3, 1, -2, 3),
        *(text(f"n{k}") + struct.pack(f"<I{f}", k, 1) for k, f in NUMBERS.items()),
    ]
    if alignment:
        entries.append(text("general.alignment") + struct.pack("<II", 4, alignment))
    alignment = alignment or 32
    declared = declared or logits.shape  # the wrong way round, as the program has it
    first = -(-4 * len(tokens) // alignment) * alignment
    names = names or ("tokens", "logits")
    head = struct.pack("<4sIQQ", b"GGUF", version, 2, len(entries)) + b"".join(entries)
    head += text(names[0]) + struct.pack("<IQIQ", 1, len(tokens), kinds[0], 0)
    head += text(names[1]) + struct.pack("<IQQIQ", 2, *declared, kinds[1], first)
    head += bytes(-len(head) % alignment)
    return head + tokens.tobytes().ljust(first, b"\0") + np.ascontiguousarray(logits).tobytes()


NUMBERS = {0: "B", 1: "b", 2: "H", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def report(*words):
    assert main([*words, "--kind", "logits", "--quiet", "--json", "r.json"]) == 0
    return json.loads(Path("r.json").read_text())


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [None, 8, 64])
@pytest.mark.parametrize("turned", [False, True], ids=["as written", "declared right"])
def test_rows_are_tokens(version, alignment, turned):
    for name, logits in (("p", P), ("q", Q)):
        declared = logits.shape[::-1] if turned else logits.shape
        Path(f"{name}.gguf").write_bytes(gguf(logits, TEXT, version, alignment, declared))
    found = report("compare", "p.gguf", "q.gguf")
    kl = fe.kl_divergence(P, Q, kind="logits")
    assert found["metrics"]["kl_divergence"]["value"] == pytest.approx(kl.mean(), rel=1e-14)
    found = report("score", "p.gguf", "--labels", ":token", "--ignore-index", "-100")
    loss = fe.sparse_cross_entropy(TEXT[1:], P[:-1], kind="logits")
    assert found["metrics"]["cross_entropy"]["value"] == pytest.approx(loss.mean(), rel=1e-14)
    assert found["ignored_rows"] == 1


def test_as_many_classes_as_tokens():
    square = P[:, :TOKENS]
    Path("p.gguf").write_bytes(gguf(square, TEXT % TOKENS))
    loss = fe.entropy(square, kind="logits").mean()
    found = report("score", "p.gguf", "--metrics", "entropy", "--labels", ":token",
                   "--ignore-index", "-100")  # fmt: skip
    assert found["metrics"]["entropy"]["value"] == pytest.approx(
        fe.entropy(square[:-1], kind="logits").mean(), rel=1e-14
    )
    assert loss > 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gguf(P, version=1), "version 1 of GGUF"),
        (gguf(P, names=("output.weight", "token_embd.weight")), "llama-results; a model has no"),
        (gguf(P, kinds=(26, 1)), "x.gguf:logits: type 1 of GGUF, expected float32"),
        (gguf(P, kinds=(0, 0)), "x.gguf:tokens: type 0 of GGUF, expected int32"),
        (gguf(P, declared=(20, CLASSES)), "expected 19, the number of its tokens"),
        (gguf(P, declared=(TOKENS, CLASSES + 1)), "truncated file"),
        (gguf(P, declared=(TOKENS, 2**62)), "truncated file"),
        (gguf(P)[:-1], "truncated file"),
        (gguf(P, alignment=24), "alignment 24"),
        (b"NOPE" + gguf(P)[4:], "begins with b'NOPE'"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 1), "tensors in its head"),
    ],
)
def test_refusals(data, why, capsys):
    Path("x.gguf").write_bytes(data)
    assert main(["score", "x.gguf", "--labels", ":token", "--kind", "logits"]) == 2
    told = capsys.readouterr().err
    assert why in told and "x.gguf" in told and told.count("\n") == 1, told


def test_tokens_are_no_labels(capsys):
    Path("x.gguf").write_bytes(gguf(P))
    assert main(["score", "x.gguf", "--labels", ":tokens", "--kind", "logits"]) == 2
    assert "token, which comes after each row" in capsys.readouterr().err


@pytest.mark.slow
def test_a_head_cut_or_changed_anywhere_is_refused_or_read():
    """What was changed is refused, or says something else that the file has."""
    data = gguf(P)
    for size in range(len(data) - 4 * P.size):
        Path("x.gguf").write_bytes(data[:size])
        with pytest.raises(InputError, match=r"^x.gguf: ") as refused:
            open_source(Reference("x.gguf"), "predictions")
        assert "\n" not in str(refused.value)
    for place in range(len(data) - 4 * P.size):
        for byte in (0, 0x7F, 0xFF):
            Path("x.gguf").write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
            try:
                source = open_source(Reference("x.gguf"), "predictions")
            except InputError as error:
                assert "\n" not in str(error)
            else:
                assert source.rows * source.row_bytes <= len(data)
