"""Mean of a function, an accumulator, Dask and the command: one division, whatever the options."""

import json

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main

RNG = np.random.default_rng(5)
N, C = 23, 4
PRED = RNG.dirichlet(np.ones(C), N)
TARGET = RNG.dirichlet(np.ones(C), N)
COUNTS = RNG.integers(1, 9, (N, C)).astype(float)
LABELS = RNG.integers(0, C, N)
ROW_WEIGHTS = RNG.integers(0, 4, N) / 4
TERM_WEIGHTS = RNG.integers(0, 4, (N, C)) / 4
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 0.25])
CASES = {
    "plain": ("sparse", LABELS, PRED, {}),
    "as_is": ("sparse", LABELS, COUNTS / 10, {"row_sums": "as_is"}),
    "class weights": ("sparse", LABELS, PRED, {"class_weight": CLASS_WEIGHTS}),
    "term weights": ("sparse", LABELS, PRED, {"sample_weight": TERM_WEIGHTS}),
    "ignored": ("sparse", LABELS, PRED, {"ignore_index": 2, "sample_weight": ROW_WEIGHTS}),
    "smoothed": (
        "sparse",
        LABELS,
        PRED,
        {"label_smoothing": 0.25, "class_weight": CLASS_WEIGHTS, "sample_weight": ROW_WEIGHTS},
    ),
    "targets": ("categorical", TARGET, PRED, {"sample_weight": ROW_WEIGHTS}),
    "counts as they are": ("categorical", COUNTS, PRED, {"row_sums": "as_is"}),
    "weighted counts": (
        "categorical",
        COUNTS,
        PRED,
        {"row_sums": "as_is", "sample_weight": ROW_WEIGHTS, "class_weight": CLASS_WEIGHTS},
    ),
    "weighted terms of counts": (
        "categorical",
        COUNTS,
        PRED,
        {"row_sums": "as_is", "sample_weight": TERM_WEIGHTS},
    ),
    "rescaled": ("categorical", COUNTS, PRED, {"row_sums": "rescale"}),
}


def by_function(task, true, pred, options):
    return getattr(fe, f"{task}_cross_entropy")(true, pred, reduction="mean", **options)


def by_hand(task, true, pred, options):
    """Σ w·v / Σ W, of plain sums."""
    q = pred if options.get("row_sums") == "as_is" else pred / pred.sum(1, keepdims=True)
    t = np.eye(C)[true] if task == "sparse" else true
    if task == "categorical" and options.get("row_sums") != "as_is":
        t = t / t.sum(1, keepdims=True)
    smoothing = options.get("label_smoothing", 0.0)
    t = (1 - smoothing) * t + smoothing / C
    terms = t * options.get("class_weight", np.ones(C))
    weight = options.get("sample_weight", np.ones(N))
    terms = terms * (weight[:, None] if weight.ndim == 1 else weight)
    if "ignore_index" in options:
        terms = terms * (true != options["ignore_index"])[:, None]
    return -(terms * np.log(q)).sum() / terms.sum()


@pytest.mark.parametrize("backend", ["cython", "numba", "numpy"])
@pytest.mark.parametrize("name", CASES)
def test_function_and_accumulator(name, backend):
    task, true, pred, options = CASES[name]
    options = {**options, "backend": backend}
    mean = by_function(task, true, pred, options)
    np.testing.assert_allclose(mean, by_hand(*CASES[name]), rtol=1e-13)
    weight = options.pop("sample_weight", None)
    acc = fe.Accumulator("cross_entropy", task=task, **options)
    for part in (slice(0, 9), slice(9, N)):
        acc.update(true[part], pred[part], None if weight is None else weight[part])
    assert acc.compute()["cross_entropy"].value == mean


@pytest.mark.parametrize("name", CASES)
def test_dask(name):
    da = pytest.importorskip("dask.array")
    import fastent.dask

    task, true, pred, options = CASES[name]
    mean = by_function(task, true, pred, options)
    function = getattr(fastent.dask, f"{task}_cross_entropy")
    pred = da.from_array(pred, chunks=(7, C))
    assert function(true, pred, reduction="mean", **options).compute(scheduler="sync") == mean
    weight = options.get("sample_weight")
    options = {key: value for key, value in options.items() if key != "sample_weight"}
    report = fastent.dask.accumulate(
        "cross_entropy", true, pred, task=task, sample_weight=weight, **options
    ).compute(scheduler="sync")
    assert report["cross_entropy"].value == mean


@pytest.mark.parametrize(
    "name", ["plain", "as_is", "ignored", "targets", "counts as they are", "rescaled"]
)
def test_command(name, tmp_path, monkeypatch):
    task, true, pred, options = CASES[name]
    monkeypatch.chdir(tmp_path)
    np.save("true.npy", true)
    np.save("pred.npy", pred)
    words = ["score", "pred.npy", "--labels", "true.npy", "--kind", "probs", "--task", task]
    words += ["--metrics", "cross_entropy", "--json", "found.json", "--quiet"]
    if "sample_weight" in options:
        np.save("weights.npy", options["sample_weight"])
        words += ["--weights", "weights.npy"]
    for key in ("row_sums", "ignore_index"):
        if key in options:
            words += [f"--{key.replace('_', '-')}", str(options[key])]
    assert main(words) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["metrics"]["cross_entropy"]["value"] == by_function(task, true, pred, options)
