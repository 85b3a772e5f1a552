"""`fastent paired`: logs of two runs joined by document, with the errors of what they differ by."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fastent.cli import main

LOGS = Path(__file__).parent / "fixtures" / "lm_eval"
RNG = np.random.default_rng(3)
N = 60
A = pd.DataFrame({
    "page": [f"p{k}" for k in range(N)], "ll": -RNG.random(N) * 50, "bytes": RNG.integers(5, 90, N),
    "site": [f"s{k // 7}" for k in range(N)], "right": RNG.integers(0, 2, N),
})  # fmt: skip
B = A.assign(ll=A.ll + RNG.normal(0, 2, N), right=RNG.integers(0, 2, N))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    A.to_parquet("a.parquet")
    B.sample(frac=1, random_state=1).to_parquet("b.parquet")
    B.to_csv("b.csv", index=False)


def report(*words):
    assert main(["paired", *map(str, words), "--json", "report.json", "--quiet"]) == 0
    return json.loads(Path("report.json").read_text())


def test_logs_of_lm_eval():
    document = report(LOGS / "A", LOGS / "B")
    assert document["inputs"] == [{"a": str(LOGS / "A"), "b": str(LOGS / "B")}]
    found = document["tasks"]
    assert list(found) == ["mini_mc", "mini_rolling"]
    bits = found["mini_rolling"]["bits_per_byte"]
    assert round(bits["a"]["value"], 10) == 0.0323946587
    assert round(bits["a"]["stderr"], 10) == 0.0137546448
    assert round(bits["difference"]["value"], 10) == -0.0021251674
    assert round(bits["difference"]["stderr"], 10) == 0.0107218824
    words = found["mini_rolling"]["word_perplexity"]
    log = math.log(words["b"]["value"] / words["a"]["value"])
    assert words["difference"]["value"] == pytest.approx(log, rel=1e-12)
    assert words["ratio"]["value"] == pytest.approx(math.exp(log), rel=1e-12)
    assert found["mini_mc"]["acc"]["mcnemar"] == {"lost": 1, "gained": 1, "p_value": 1.0}
    assert found["mini_mc"]["acc_norm"]["difference"]["value"] == -0.5


def test_ratios_of_columns_joined_by_id():
    words = ["--value", "ll", "--denominator", "bytes", "--id", "page", "--clusters", "site"]
    found = report("a.parquet", "b.parquet", *words)["tasks"][""]["ll"]
    assert found == report("a.parquet", "b.csv", *words)["tasks"][""]["ll"]
    total = A.bytes.sum()
    ours, theirs = A.ll.sum() / total, B.ll.sum() / total
    assert found["a"]["value"] == pytest.approx(ours, rel=1e-14)
    part = (B.ll - A.ll) - (theirs - ours) * A.bytes
    difference = found["difference"]
    assert difference["value"] == pytest.approx(theirs - ours, rel=1e-12)
    error = math.sqrt((part**2).sum() * N / (N - 1)) / total
    assert difference["stderr"] == pytest.approx(error, rel=1e-12)
    t = (theirs - ours) / error
    assert difference["p_value"] == pytest.approx(2 * stats.t.sf(abs(t), N - 1), rel=1e-9)
    sums = part.groupby(A.site).sum()
    count = len(sums)
    clustered = math.sqrt((sums**2).sum() * count / (count - 1)) / total
    assert difference["cluster_stderr"] == pytest.approx(clustered, rel=1e-12)
    half = stats.t.ppf(0.975, count - 1) * clustered
    expected = [theirs - ours - half, theirs - ours + half]
    assert difference["cluster_interval"] == pytest.approx(expected, rel=1e-9)
    assert found["clusters"] == count


def test_means_and_mcnemar(capsys):
    words = ["a.parquet", "b.parquet", "--value", "right", "--id", "page"]
    found = report(*words)["tasks"][""]["right"]
    test = stats.ttest_rel(B.right, A.right)
    assert found["difference"]["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
    assert found["difference"]["interval"] == pytest.approx([*test.confidence_interval()], rel=1e-9)
    lost, gained = int((A.right > B.right).sum()), int((A.right < B.right).sum())
    assert found["mcnemar"]["p_value"] == pytest.approx(
        stats.binomtest(lost, lost + gained).pvalue, rel=1e-9
    )
    assert main(["paired", *words]) == 0
    assert f"only A right {lost}, only B {gained}" in capsys.readouterr().out


def test_documents_of_one_run_only(capsys):
    B[3:].to_csv("b.csv", index=False)
    words = ["a.parquet", "b.csv", "--value", "ll", "--id", "page"]
    assert main(["paired", *words]) == 2
    told = capsys.readouterr().err
    assert "b.csv: 3 documents of a.parquet are not there, the first p0" in told
    document = report(*words, "--unmatched", "list")
    assert [x["document"] for x in document["unmatched"]] == ["p0", "p1", "p2"]
    assert document["tasks"][""]["ll"]["documents"] == N - 3


def lines(name, records):
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_clusters_are_fields(capsys):
    records = [{"doc_id": k, "doc": {"page": k // 2}, "metrics": ["f1"], "f1": k / 9}
               for k in range(8)]  # fmt: skip
    lines("samples_x_a.jsonl", records)
    lines("samples_x_b.jsonl", [{**r, "f1": r["f1"] ** 2} for r in records[::-1]])
    words = ["samples_x_a.jsonl", "samples_x_b.jsonl"]
    (found,) = report(*words, "--clusters", "doc.page")["tasks"].values()
    assert found["f1"]["clusters"] == 4 and found["f1"]["documents"] == 8
    change = np.array([(k / 9) ** 2 - k / 9 for k in range(8)])
    sums = (change - change.mean()).reshape(4, 2).sum(1)
    error = math.sqrt((sums**2).sum() * 4 / 3) / 8
    assert found["f1"]["difference"]["cluster_stderr"] == pytest.approx(error, rel=1e-12)
    assert main(["paired", *words, "--clusters", "doc.site"]) == 2
    assert "line 1: no field 'doc.site'" in capsys.readouterr().err


def test_bad_logs(capsys):
    good = {"doc_id": 1, "metrics": ["acc"], "acc": 1.0}
    lines("good.jsonl", [good])
    lines("twice.jsonl", [good, good])
    lines("none.jsonl", [])
    Path("broken.jsonl").write_text('{"doc_id": 1\n')
    Path("empty").mkdir()
    np.save("wide.npy", np.ones((3, 2)))
    for words, why in (
        (["good.jsonl", "twice.jsonl"], "twice.jsonl: line 2: document 1 is there twice"),
        (["good.jsonl", "none.jsonl"], "none.jsonl: no documents"),
        (["good.jsonl", "broken.jsonl"], "broken.jsonl: line 1 is no document"),
        (["empty", "empty"], "empty: no samples_TASK_*.jsonl"),
        (["wide.npy", "wide.npy"], "wide.npy: rows of 2 numbers, expected one each"),
        (["good.jsonl", "missing.jsonl"], "missing.jsonl: No such file"),
        (["good.jsonl", "good.jsonl", "--metrics", "f1"], "no metric 'f1', expected of: acc"),
        (["a.parquet", "b.parquet", "--value", "none"], "no column 'none'"),
        (["a.parquet", "b.parquet", "--value", "site"], "expected numbers"),
        (["a.parquet", "b.parquet", "--value", "ll", "--id", "site"], "has the id 's0' of another"),
        ([LOGS / "A", LOGS / "B" / "samples_mini_mc_2026-11-29T11-02-09.032477.jsonl"],
         "no samples of the task 'mini_rolling'"),
    ):  # fmt: skip
        assert main(["paired", *map(str, words)]) == 2, words
        told = capsys.readouterr().err
        assert why in told and told.count("\n") == 1, told
