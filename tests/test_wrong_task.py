"""What belongs to another task is refused in one line that names the task, or the keyword."""

from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main

N, C = 30, 4
P = np.full((N, C), 0.25)
ONE_HOT = np.eye(C)[np.arange(N) % C]
LABELS = np.arange(N) % C
HALF = np.full((N, 1), 0.5)


@pytest.mark.parametrize(
    ("call", "needle"),
    [
        (lambda: fe.sparse_cross_entropy(ONE_HOT, P), "what the categorical task takes"),
        (lambda: fe.sparse_cross_entropy(LABELS % 2, HALF), "what the binary task takes"),
        (lambda: fe.categorical_cross_entropy(LABELS, P), "what the sparse task takes"),
        (lambda: fe.binary_cross_entropy(LABELS % 2, P), "what the sparse task takes"),
        (lambda: fe.binary_cross_entropy(LABELS % 2, HALF), "pred[..., 0] has it"),
        (lambda: fe.sparse_cross_entropy([0, -100], P[:2]), "ignore_index=-100 leaves such"),
        (lambda: fe.sparse_cross_entropy([0, -1], P[:2]), "ignore_index=-1 leaves such"),
    ],
)
def test_functions_and_accumulators_name_the_task(call, needle):
    with pytest.raises(ValueError, match="expected") as error:
        call()
    assert needle in str(error.value) and "\n" not in str(error.value)


def test_an_accumulator_says_the_same():
    with pytest.raises(ValueError, match="what the categorical task takes"):
        fe.Accumulator("accuracy").update(ONE_HOT, P)
    with pytest.raises(ValueError, match="ignore_index=-100 leaves such rows out"):
        fe.Accumulator("accuracy").update(np.full(N, -100), P)


@pytest.mark.parametrize(
    ("predictions", "labels", "task", "needle"),
    [
        (np.full((N, 2), 0.5), LABELS % 2, "binary", "x.npy: 2 numbers a row and one target"),
        (P, ONE_HOT, "sparse", "y.npy: 4 numbers a row, expected one label; one target per class"),
        (HALF, LABELS % 2, "sparse", "is what --task binary takes"),
        (HALF[:, 0], LABELS % 2, "sparse", "is what --task binary takes"),
        (P, LABELS, "categorical", "labels are what --task sparse takes"),
        (P, LABELS - 100, "sparse", "row 0; --ignore-index -100 leaves such rows out"),
    ],
)
def test_the_command_names_the_option(predictions, labels, task, needle, capsys, tmp_path,
                                      monkeypatch):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", predictions)
    np.save("y.npy", labels)
    assert main(["score", "x.npy", "--labels", "y.npy", "--kind", "probs", "--task", task]) == 2
    line = capsys.readouterr().err
    assert needle in line and line.count("\n") == 1 and line.startswith("fastent: ")


def test_what_keras_gives_is_binary(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", HALF)
    for labels in (LABELS % 2, (LABELS % 2)[:, None]):
        np.save("y.npy", labels)
        assert main(["score", "x.npy", "--labels", "y.npy", "--kind", "probs", "--task", "binary",
                     "--quiet", "--json", "a.json"]) == 0  # fmt: skip
        assert '"value": 0.6931471805599453' in Path("a.json").read_text()


@pytest.mark.parametrize("name", ["1²3.npy", "²", "x٣.npy", "9" * 250 + ".npy", "³³³"])
def test_digits_that_are_no_numbers_in_names(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = name if name.endswith(".npy") else f"{name}.npy"
    for place in (path, "2" + path if len(path) < 250 else "2.npy"):
        np.save(place, P)
    np.save("labels", LABELS)
    words = ["score", "[!l]*.npy", "--labels", "labels.npy", "labels.npy", "--kind", "probs"]
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
