"""Spark: the page's functions give the numbers of one machine, and its files are read."""

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("pyspark") is None or shutil.which("java") is None, reason="no pyspark or Java"
    ),
]
PAGE = (Path(__file__).parent.parent / "docs/dataframes.md").read_text(encoding="utf-8")
SESSION = """
from pyspark.sql import SparkSession
spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
         .config("spark.sql.shuffle.partitions", "1").getOrCreate())
"""
OUTPUTS = """
from pathlib import Path
Path("found.json").write_text(json.dumps({
    "values": [row.kl for row in values.collect()],
    "mean": report["kl_divergence"].value,
    "groups": {name: part["kl_divergence"].value for name, part in report.groups.items()},
}))
import numpy as np
from pyspark.ml.linalg import Vectors
rng = np.random.default_rng(5)
probs, labels = rng.dirichlet(np.ones(3), 40), rng.integers(0, 3, 40)
table = spark.createDataFrame(
    [(*map(float, p), int(y), p.tolist(), Vectors.dense(p)) for p, y in zip(probs, labels)],
    ["p0", "p1", "p2", "label", "probs", "vector"],
).repartition(3)
table.drop("probs", "vector").write.parquet("columns")
table.select("probs", "label").write.parquet("lists")
table.drop("probs", "vector").write.option("header", True).csv("csv")
table.select("vector", "label").write.parquet("vectors")
np.savez("expected.npz", probs=probs, labels=labels)
spark.stop()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What Spark computed, and what it wrote."""
    folder = tmp_path_factory.mktemp("spark")
    rows = re.search(r">>> (rows = \{.*?\n\.\.\. \})", PAGE, re.DOTALL)[1].replace("\n... ", "\n")
    code = re.search(r"## Spark.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]
    path = folder / "run.py"
    path.write_text(rows + SESSION + code + OUTPUTS, encoding="utf-8")
    source = f"import sys; sys.path[:0] = {sys.path!r}; exec(open('run.py').read())"
    ended = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, capture_output=True, text=True, timeout=550,
        env={**__import__("os").environ, "PYSPARK_PYTHON": sys.executable,
             "PYTHONPATH": ":".join(filter(None, sys.path))},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


def test_the_page(folder):
    found = json.loads((folder / "found.json").read_text())
    p = [[0.5, 0.5], [0.1, 0.9], [0.25, 0.75]]
    q = [[0.25, 0.75], [0.2, 0.8], [0.25, 0.75]]
    acc = fe.Accumulator("kl_divergence", task="divergence").update(p, q, groups=["de", "en", "de"])
    report = acc.compute()
    assert found["values"] == fe.kl_divergence(p, q).tolist()
    assert found["mean"] == report["kl_divergence"].value
    assert found["groups"] == {g: report.groups[g]["kl_divergence"].value for g in ("de", "en")}


@pytest.mark.parametrize("name", ["columns", "lists", "csv"])
def test_its_files_are_scored(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    expected = np.load("expected.npz")
    words = ["score", name, "--kind", "probs", "--labels", f"{name}:label", "--quiet"]
    assert main([*words, "--json", "report.json"]) == 0
    report = json.loads(Path("report.json").read_text())
    truth = fe.sparse_cross_entropy(expected["labels"], expected["probs"], reduction="mean")
    assert report["rows"] == 40
    assert report["metrics"]["cross_entropy"]["value"] == pytest.approx(truth, rel=1e-14)


def test_its_vectors_are_refused_by_name(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = ["score", "vectors:vector", "--kind", "probs", "--labels", "vectors:label", "--quiet"]
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "vector_to_array" in line
