"""`fastent compare`: divergences of two sets of predictions, and with labels the paired losses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main

ROWS, CLASSES = 500, 8
RNG = np.random.default_rng(4)
P = RNG.normal(0, 2, (ROWS, CLASSES)).astype(np.float32)
Q = (P + RNG.normal(0, 0.5, P.shape)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)
NAMES = ["kl_divergence", "reverse_kl", "js_divergence", "total_variation", "top1_agreement",
         "entropy_p", "entropy_q", "top5_overlap", "top10_overlap", "top1_in_top5"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, numbers in (("p", P), ("q", Q)):
        Path(name).mkdir()
        for number, part in enumerate(np.array_split(numbers, 3)):
            np.save(f"{name}/shard-{number}.npy", part)
        np.save(f"{name}.npy", numbers)
    np.save("y.npy", LABELS)


def compare(*words):
    assert main(["compare", *words, "--json", "report.json", "--quiet"]) == 0
    return json.loads(Path("report.json").read_text())


@pytest.mark.parametrize("pair", [("p.npy", "q.npy"), ("p", "q"), ("p/*.npy", "q/shard-*.npy")])
def test_divergences(pair):
    document = compare(*pair, "--kind", "logits")
    assert set(document["inputs"][0]) == {"p", "q", "rows", "classes", "dtype"}
    found = document["metrics"]
    report = fe.Accumulator(NAMES, task="divergence", kind="logits").update(P, Q).compute()
    assert list(found) == NAMES
    for name in NAMES:
        assert found[name]["value"] == report[name].value
        assert found[name]["stderr"] == report[name].stderr


def test_quantiles():
    found = compare("p.npy", "q.npy", "--kind", "logits")["metrics"]["kl_divergence"]["quantiles"]
    values = fe.kl_divergence(P, Q, kind="logits")
    assert found["min"] == values.min() and found["max"] == values.max()
    for name, q in (("p1", 0.01), ("median", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert found[name] == np.quantile(values, q)


def test_with_labels_the_losses_are_paired():
    found = compare("p.npy", "q.npy", "--kind", "logits", "--labels", "y.npy")["metrics"]
    first, second = (fe.sparse_cross_entropy(LABELS, numbers, kind="logits") for numbers in (P, Q))
    difference = second - first
    assert found["cross_entropy_p"]["value"] == pytest.approx(first.mean(), rel=1e-14)
    assert found["cross_entropy_q"]["value"] == pytest.approx(second.mean(), rel=1e-14)
    entry = found["cross_entropy_difference"]
    assert entry["value"] == pytest.approx(math.fsum(difference) / ROWS, rel=1e-15)
    spread = difference.std(ddof=1) / math.sqrt(ROWS)
    assert entry["stderr"] == pytest.approx(spread, rel=1e-12)
    ratio = found["perplexity_ratio"]
    assert ratio["value"] == pytest.approx(math.exp(entry["value"]), rel=1e-15)
    assert ratio["stderr"] == pytest.approx(ratio["value"] * spread, rel=1e-12)


def test_ignored_labels_count_for_nothing():
    labels = np.where(LABELS == 2, -100, LABELS)
    np.save("y.npy", labels)
    found = compare("p.npy", "q.npy", "--kind", "logits", "--labels", "y.npy",
                    "--ignore-index", "-100")  # fmt: skip
    kept = labels >= 0
    assert found["ignored_rows"] == ROWS - kept.sum()
    for name in ("kl_divergence", "cross_entropy_difference"):
        assert found["metrics"][name]["count"] == kept.sum()
    expected = fe.kl_divergence(P[kept], Q[kept], kind="logits", reduction="mean")
    assert found["metrics"]["kl_divergence"]["value"] == expected


def test_two_kinds():
    probs = np.exp(Q.astype(float))
    probs /= probs.sum(1, keepdims=True)
    np.save("q.npy", probs)
    found = compare("p.npy", "q.npy", "--kind", "logits,probs", "--labels", "y.npy")["metrics"]
    expected = fe.kl_divergence(P, probs, kind=("logits", "probs"), reduction="mean")
    assert found["kl_divergence"]["value"] == expected


def test_groups():
    np.save("g.npy", LABELS % 2)
    words = ["p.npy", "q.npy", "--kind", "logits", "--labels", "y.npy", "--groups", "g.npy"]
    found = compare(*words)["groups"]
    assert list(found) == ["0", "1"]
    even = LABELS % 2 == 0
    expected = fe.js_divergence(P[even], Q[even], kind="logits", reduction="mean")
    assert found["0"]["js_divergence"]["value"] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["p", "q.npy"], "1 files, expected 3"),
        (["p.npy", "none"], "none: no such file"),
        (["p.npy", "short.npy"], "short.npy: 499 rows, expected 500 as in p.npy"),
        (["p.npy", "narrow.npy"], "narrow.npy: 7 classes, expected 8 as in p.npy"),
        (["p.npy", "nan.npy"], "nan.npy: row 4 "),
        (["p.npy", "q.npy", "--ignore-index", "1"], "--labels"),
    ],
)
def test_bad_input(words, expected, capsys):
    np.save("short.npy", Q[1:])
    np.save("narrow.npy", Q[:, 1:])
    nan = Q.copy()
    nan[4, 0] = np.nan
    np.save("nan.npy", nan)
    assert main(["compare", *words, "--kind", "logits"]) == 2
    found = capsys.readouterr().err
    assert expected in found and found.count("\n") == 1


def test_the_table(capsys):
    assert main(["compare", "p", "q", "--kind", "logits", "--labels", "y.npy"]) == 2
    assert "labels: 1 files, expected 3" in capsys.readouterr().err
    assert main(["compare", "p.npy", "q.npy", "--kind", "logits", "--labels", "y.npy"]) == 0
    found = capsys.readouterr().out
    for word in ("kl_divergence", "p99.9", "perplexity_ratio", "500 rows"):
        assert word in found


def test_files_that_fail_are_left_out(capsys):
    words = ["p", "q", "--kind", "logits", "--on-error", "skip", "--rows", "-"]
    assert main(["compare", *words]) == 2
    assert "--rows -: expected an ordinary file with --on-error skip" in capsys.readouterr().err
    path = Path("q/shard-1.npy")
    path.write_bytes(path.read_bytes()[:-8])
    assert main(["compare", "p", "q", "--kind", "logits", "--quiet"]) == 2
    assert "q/shard-1.npy: truncated" in capsys.readouterr().err
    found = compare("p", "q", "--kind", "logits", "--on-error", "skip")
    cut = [len(part) for part in np.array_split(P, 3)]
    rows = np.r_[: cut[0], ROWS - cut[2] : ROWS]
    report = fe.Accumulator(NAMES, task="divergence", kind="logits").update(P[rows], Q[rows])
    for name in NAMES:
        assert found["metrics"][name]["value"] == report.compute()[name].value
    (left,) = found["left_out"]
    assert left["file"] == "p/shard-1.npy" and left["error"].startswith("q/shard-1.npy: truncated")
    bad = np.load("q/shard-2.npy")
    bad[-1, 0] = np.nan
    np.save("q/shard-2.npy", bad)
    again = compare("p", "q", "--kind", "logits", "--on-error", "skip")
    assert again["rows"] == cut[0]
    assert [one["file"] for one in again["left_out"]] == ["p/shard-1.npy", "p/shard-2.npy"]
