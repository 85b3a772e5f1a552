"""Without a package of the `cli` extra, what needs it says so in one line; the rest works."""

import sys

import ml_dtypes
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.numpy

from fastent.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logits = np.zeros((4, 3), np.float32)
    labels = np.array([0, 1, 2, 0])
    np.save("x.npy", logits)
    np.save("y.npy", labels)
    np.save("half.npy", logits.astype(ml_dtypes.bfloat16))
    safetensors.numpy.save_file({"logits": logits}, "x.safetensors")
    pyarrow.parquet.write_table(pyarrow.table({"logits": list(logits)}), "x.parquet")


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("pyarrow", ["x.parquet"]),
        ("pyarrow", ["x.npy", "--rows", "rows.parquet"]),
        ("safetensors", ["x.safetensors"]),
        ("ml_dtypes", ["half.npy"]),
        ("matplotlib", ["x.npy", "--html", "page.html"]),
        ("jinja2", ["x.npy", "--html", "page.html"]),
    ],
)
def test_the_missing_package_is_named(package, words, monkeypatch, capsys, tmp_path):
    before = sorted(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["score", *words, "--labels", "y.npy", "--kind", "logits"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert f"needs the package {package} (extra 'cli')" in found.err
    assert sorted(tmp_path.iterdir()) == before


def test_the_table_without_rich(monkeypatch, capsys):
    for name in ("rich", "rich.console", "rich.table", "rich.text", "rich.box"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["score", "x.npy", "--labels", "y.npy", "--kind", "logits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["metric", "value", "std.", "error"]
    assert lines[1].split() == ["cross_entropy", f"{np.log(3):.8g}", "0"]
    assert lines[-1] == "4 rows"
