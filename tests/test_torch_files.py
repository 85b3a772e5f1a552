"""Files of torch.save score as the arrays in them do, read where the numbers lie."""

import json
from pathlib import Path

import numpy as np
import pytest

from fastent.cli import main

torch = pytest.importorskip("torch")
ROWS, CLASSES = 30, 4
RNG = np.random.default_rng(4)
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", LOGITS)
    np.save("y.npy", LABELS)


def metrics(*words):
    command = ["score", *words, "--kind", "logits", "--quiet", "--json", "report.json"]
    assert main(command) == 0
    return json.loads(Path("report.json").read_text())["metrics"]


def tensors():
    logits = torch.from_numpy(LOGITS.copy())
    big = torch.cat([torch.zeros(3, CLASSES), logits])
    return {
        "plain": logits,
        "slice": big[3:],
        "columns": logits.T.contiguous().T,
        "strided": torch.stack([logits, logits], 2)[:, :, 1],
    }


@pytest.mark.parametrize("name", ["plain", "slice", "columns", "strided"])
@pytest.mark.parametrize("old", [False, True])
def test_tensors(name, old):
    expected = metrics("x.npy", "--labels", "y.npy")
    options = {"_use_new_zipfile_serialization": not old}
    torch.save(tensors()[name], "x.pt", **options)
    torch.save(torch.from_numpy(LABELS), "y.pth", **options)
    assert metrics("x.pt", "--labels", "y.pth") == expected
    torch.save({"logits": tensors()[name], "labels": torch.from_numpy(LABELS)}, "all.pt", **options)
    assert metrics("all.pt") == expected
    assert metrics("all.pt:logits", "--labels", ":labels") == expected


def test_class_axis():
    expected = metrics("x.npy", "--labels", "y.npy")
    turned = torch.from_numpy(LOGITS.T.copy())
    for tensor in (turned, torch.stack([turned, turned], 2)[:, :, 1]):
        torch.save(tensor, "x.pt")
        assert metrics("x.pt", "--labels", "y.npy", "--axis", "0") == expected


def test_bfloat16():
    half = torch.from_numpy(LOGITS.copy()).to(torch.bfloat16)
    torch.save(half, "half.pt")
    np.save("half.npy", half.float().numpy())
    found, expected = (metrics(p, "--labels", "y.npy") for p in ("half.pt", "half.npy"))
    assert found["accuracy"] == expected["accuracy"]
    value = expected["cross_entropy"]["value"]
    assert found["cross_entropy"]["value"] == pytest.approx(value, rel=1e-6)


class Own:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_no_code_of_a_file_runs(capsys):
    torch.save({"logits": torch.from_numpy(LOGITS), "model": Own()}, "x.pt")
    assert main(["score", "x.pt", "--labels", "y.npy", "--kind", "logits"]) == 2
    assert "x.pt: holds more than tensors, which would run code" in capsys.readouterr().err
    assert not Path("ran").exists()


def test_what_is_no_tensor(capsys):
    torch.save({"model": Own()}, "x.pt")
    torch.save([1, 2], "list.pt")
    Path("text.pt").write_text("no tensor")
    for name in ("x.pt", "list.pt", "text.pt"):
        assert main(["score", name, "--labels", "y.npy", "--kind", "logits"]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"fastent: {name}: ") and line.count("\n") == 1
