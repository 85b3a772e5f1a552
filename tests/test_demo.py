"""`fastent demo`: what it writes, what it says, and that the numbers are exact."""

import hashlib
import json
import re
import runpy
from importlib import resources
from pathlib import Path

import mpmath
import numpy as np
import pytest

from fastent.cli import main

SCRIPT = Path(__file__).parent.parent / "scripts" / "make_demo_data.py"
FILES = ("digits-logits.npy", "digits-labels.npy")


@pytest.fixture
def demo(tmp_path, monkeypatch, capsys):
    """Output of the demo, run in an empty directory."""
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    return capsys.readouterr().out


def shown(table, metric):
    """Value and standard error in the row of a metric."""
    (line,) = (line for line in table.splitlines() if line.split()[:1] == [metric])
    return [float(word) for word in re.findall(r"-?\d[\d.e+-]*", line.partition(" ")[2])]


def exact_losses(logits, labels):
    with mpmath.workdps(30):
        return [
            mpmath.log(sum(mpmath.exp(mpmath.mpf(float(x))) for x in row))
            - mpmath.mpf(float(row[label]))
            for row, label in zip(logits, labels, strict=True)
        ]


def test_it_writes_the_shipped_files(demo):
    for name in FILES:
        shipped = resources.files("fastent").joinpath("data", name).read_bytes()
        assert Path("fastent-demo", name).read_bytes() == shipped


def test_it_prints_the_command_it_runs(demo, capsys):
    (line,) = (line for line in demo.splitlines() if line.startswith("fastent score"))
    assert main(line.split()[1:]) == 0
    assert demo.endswith(capsys.readouterr().out)


def test_the_table(demo):
    assert shown(demo, "perplexity")[0] == pytest.approx(
        np.exp(shown(demo, "cross_entropy")[0]), rel=1e-2
    )
    for metric in ("bits", "accuracy", "top5_accuracy", "brier", "ece", "entropy", "skill"):
        assert np.isfinite(shown(demo, metric)[0])
    assert "1,797 rows" in demo


def test_the_values_are_exact(demo, capsys):
    logits, labels = (np.load(Path("fastent-demo", name)) for name in FILES)
    assert main(["score", f"fastent-demo/{FILES[0]}", "--labels", f"fastent-demo/{FILES[1]}",
                 "--kind", "logits", "--json", "demo.json"]) == 0  # fmt: skip
    found = json.loads(Path("demo.json").read_text())
    losses = exact_losses(logits, labels)
    n = len(losses)
    mean = mpmath.fsum(losses) / n
    spread = mpmath.sqrt(mpmath.fsum((x - mean) ** 2 for x in losses) / (n - 1) / n)
    assert found["rows"] == found["metrics"]["cross_entropy"]["count"] == n == 1797
    assert found["metrics"]["cross_entropy"]["value"] == pytest.approx(float(mean), rel=1e-6)
    assert found["metrics"]["cross_entropy"]["stderr"] == pytest.approx(float(spread), rel=1e-6)
    assert found["metrics"]["accuracy"]["value"] == (logits.argmax(1) == labels).mean()
    rates = np.bincount(labels) / n
    skill = 1 - float(mean) / -np.sum(rates * np.log(rates))
    assert found["metrics"]["skill"]["value"] == pytest.approx(skill, rel=1e-6)


@pytest.mark.slow
def test_the_script_makes_the_shipped_files(tmp_path):
    runpy.run_path(str(SCRIPT))["main"](tmp_path)
    for name in FILES:
        shipped = resources.files("fastent").joinpath("data", name).read_bytes()
        made = (tmp_path / name).read_bytes()
        assert hashlib.sha256(made).hexdigest() == hashlib.sha256(shipped).hexdigest()
