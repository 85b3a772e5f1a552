"""Predictions as libraries of models write them, and files that are read as --format says."""

import ctypes
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

import fastent as fe
from fastent.cli import main

RNG = np.random.default_rng(15)
ROWS, CLASSES = 200, 3
LABELS = RNG.integers(0, CLASSES, ROWS)
FEATURES = RNG.normal(size=(ROWS, 4)) + LABELS[:, None]
PROBS = RNG.dirichlet(np.ones(CLASSES), ROWS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", LABELS)


def loss(*words):
    command = ["score", *words, "--kind", "probs", "--quiet", "--json", "report.json"]
    assert main(command) == 0
    found = json.loads(Path("report.json").read_text())
    assert found["rows"] == ROWS
    return found["metrics"]["cross_entropy"]["value"]


def expected(probs):
    return pytest.approx(fe.sparse_cross_entropy(LABELS, probs, reduction="mean"), rel=1e-12)


def test_lightgbm_predicts_into_a_file():
    """By the function behind its command line, which has no separator but tabs, and no names."""
    lightgbm = pytest.importorskip("lightgbm")
    options = {"objective": "multiclass", "num_class": CLASSES, "verbosity": -1, "num_threads": 1,
               "min_data_in_leaf": 5}  # fmt: skip
    booster = lightgbm.train(options, lightgbm.Dataset(FEATURES, LABELS), 5)
    np.savetxt("features.tsv", np.column_stack([LABELS, FEATURES]), delimiter="\t")
    written = lightgbm.basic._LIB.LGBM_BoosterPredictForFile(
        booster._handle, b"features.tsv", ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0),
        ctypes.c_int(-1), b"", b"LightGBM_predict_result.txt",
    )  # fmt: skip
    assert written == 0
    probs = booster.predict(FEATURES)
    assert loss("LightGBM_predict_result.txt", "--labels", "y.npy") == pytest.approx(
        fe.sparse_cross_entropy(LABELS, probs, reduction="mean"), rel=1e-5
    )


def test_catboost_columns():
    """Predictions in the columns of CatBoost's files, under its names, by its own model."""
    catboost = pytest.importorskip("catboost")
    names = np.array(["cat", "dog", "eel"])
    model = catboost.CatBoostClassifier(
        iterations=5, verbose=False, allow_writing_files=False, thread_count=1
    ).fit(FEATURES, names[LABELS])
    probs = model.predict_proba(FEATURES)
    head = [f"Probability:Class={name}" for name in model.classes_]
    frame = pd.DataFrame(probs, columns=head)
    frame.insert(0, "SampleId", np.arange(ROWS))
    frame["Label"] = names[LABELS]
    frame.to_csv("eval.tsv", sep="\t", index=False)
    assert list(model.classes_) == sorted(names)
    assert loss("eval.tsv", "--labels", "eval.tsv:Label") == expected(probs)


@pytest.mark.parametrize("suffix", ["npy", "csv", "tsv", "parquet", "feather", "jsonl"])
def test_a_file_is_read_as_format_says(suffix, capsys):
    """Whatever its name: what has no suffix, or that of another format."""
    frame = pd.DataFrame(PROBS, columns=[f"p{k}" for k in range(CLASSES)])
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    {
        "npy": lambda: np.save("x.npy", PROBS),
        "csv": lambda: frame.to_csv("x.csv", index=False),
        "tsv": lambda: frame.to_csv("x.tsv", index=False, sep="\t"),
        "parquet": lambda: pyarrow.parquet.write_table(table, "x.parquet"),
        "feather": lambda: pyarrow.feather.write_feather(table, "x.feather"),
        "jsonl": lambda: frame.to_json(
            "x.jsonl", orient="records", lines=True, double_precision=15
        ),
    }[suffix]()
    shutil.copy(f"x.{suffix}", "part-0000")
    shutil.copy(f"x.{suffix}", "x.data")
    labels = pyarrow.table({"label": LABELS})
    {
        "npy": lambda: np.save("label.npy", LABELS),
        "parquet": lambda: pyarrow.parquet.write_table(labels, "label.parquet"),
        "feather": lambda: pyarrow.feather.write_feather(labels, "label.feather"),
        "jsonl": lambda: labels.to_pandas().to_json("label.jsonl", orient="records", lines=True),
    }.get(suffix, lambda: labels.to_pandas().to_csv(f"label.{suffix}", index=False))()
    shutil.copy(f"label.{suffix}", "truth")
    for name in ("part-0000", "x.data"):
        assert loss(name, "--labels", "truth", "--format", suffix) == expected(PROBS)
        assert main(["score", name, "--labels", "y.npy", "--kind", "probs", "--quiet"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert loss("part-0000", "--labels", "truth", "--format", f".{suffix.upper()}") == expected(
        PROBS
    )


def test_formats_that_there_are_not(capsys):
    np.save("x.npy", PROBS)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "probs", "--quiet", "--format"]
    assert main([*words, "xls"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "--format" in line and "parquet" in line and "'xls'" in line
    assert main([*words, "parquet"]) == 2
    assert "x.npy" in capsys.readouterr().err
