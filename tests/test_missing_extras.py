"""Without a package of the `cli` extra, what needs it says so in one line; the rest works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.numpy

import fastent
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
    Path("x.jsonl").write_text('{"logits": [0, 0, 0]}\n' * 4)


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("pyarrow", ["x.parquet"]),
        ("pyarrow", ["x.jsonl"]),
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
    assert lines[0].split() == ["metric", "value", "±", "std.", "error", "unit"]
    assert lines[2].split() == ["cross_entropy", f"{np.log(3):.6g}", "nats"]
    assert lines[-1] == "4 rows"


@pytest.mark.parametrize(
    ("package", "program", "line"),
    [
        ("dask", "import fastent.dask", "fastent.dask needs the package dask (extra 'dask')"),
        ("torch", "import fastent.compat.torch",
         "fastent.compat.torch needs the package torch (pip install torch)"),
        ("sklearn", "import fastent.compat.sklearn",
         "fastent.compat.sklearn needs the package sklearn (pip install scikit-learn)"),
        ("scipy", "import fastent.compat.scipy",
         "fastent.compat.scipy needs the package scipy (pip install scipy)"),
        ("numba", "import fastent.numba_api",
         "the numba backend needs the package numba (pip install numba)"),
    ],
)  # fmt: skip
def test_in_python_the_error_is_one_line(package, program, line):
    hide = f"""
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""
    run = subprocess.run([sys.executable, "-c", hide + program], capture_output=True, text=True)
    assert run.returncode == 1 and "During handling" not in run.stderr
    assert run.stderr.splitlines()[-1] == f"ModuleNotFoundError: {line}"


def test_the_source_of_a_clone_that_is_not_built_says_so(tmp_path):
    source = Path(fastent.__file__).parent
    shutil.copytree(source, tmp_path / "fastent", ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    run = subprocess.run([sys.executable, "-c", "import fastent"], cwd=tmp_path,
                         env={**os.environ, "PYTHONPATH": str(tmp_path)},
                         capture_output=True, text=True)  # fmt: skip
    last = run.stderr.splitlines()[-1]
    assert (
        last.startswith("ImportError: fastent: this is its source") and "pip install -e ." in last
    )
    assert "During handling" not in run.stderr
