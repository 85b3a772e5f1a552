"""What `fastent compare` says for a decision: intervals, p-values, exact quantiles, agreement."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import dumps
import numpy as np
import pytest
from pyarrow import parquet
from scipy import stats

import fastent as fe
from fastent.cli import exact_quantiles as exact, main

ROWS, CLASSES = 700, 12
RNG = np.random.default_rng(21)
P = RNG.normal(0, 2, (ROWS, CLASSES)).astype(np.float32)
Q = (P + RNG.normal(0, 0.5, P.shape)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)
CLUSTERS = np.repeat(np.arange(ROWS // 25), 25)
WEIGHTS = RNG.integers(0, 4, ROWS).astype(np.float64)
WORDS = ["p.npy", "q.npy", "--kind", "logits", "--labels", "y.npy"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, numbers in (("p", P), ("q", Q), ("y", LABELS), ("c", CLUSTERS), ("w", WEIGHTS)):
        np.save(f"{name}.npy", numbers)


def compare(*words, name="report.json"):
    assert main(["compare", *words, "--json", name, "--quiet"]) == 0
    return json.loads(Path(name).read_text())


def losses():
    return [fe.sparse_cross_entropy(LABELS, x, kind="logits") for x in (P, Q)]


def right():
    return [(x.argmax(1) == LABELS).astype(float) for x in (P, Q)]


def brier():
    found = []
    for x in (P, Q):
        probs = np.exp(x.astype(np.float64))
        probs /= probs.sum(1, keepdims=True)
        probs[np.arange(ROWS), LABELS] -= 1
        found.append((probs**2).sum(1))
    return found


@pytest.mark.parametrize(
    ("name", "sides"), [("cross_entropy", losses), ("accuracy", right), ("brier", brier)]
)
def test_paired_differences(name, sides):
    found = compare(*WORDS, "--clusters", "c.npy")["metrics"][f"{name}_difference"]
    first, second = sides()
    difference = second - first
    test = stats.ttest_rel(second, first)
    low, high = test.confidence_interval(0.95)
    assert found["value"] == pytest.approx(difference.mean(), rel=1e-6)
    assert found["p_value"] == pytest.approx(test.pvalue, rel=1e-5)
    assert found["interval"] == pytest.approx([low, high], rel=1e-5)
    count = CLUSTERS[-1] + 1
    sums = np.bincount(CLUSTERS, difference - difference.mean())
    error = math.sqrt((sums**2).sum() * count / (count - 1)) / ROWS
    assert found["cluster_stderr"] == pytest.approx(error, rel=1e-5)
    t = difference.mean() / error
    assert found["cluster_p_value"] == pytest.approx(2 * stats.t.sf(abs(t), count - 1), rel=1e-5)
    half = stats.t.ppf(0.975, count - 1) * error
    expected = [difference.mean() - half, difference.mean() + half]
    assert found["cluster_interval"] == pytest.approx(expected, rel=1e-4)


def test_what_follows_from_the_losses():
    document = compare(*WORDS)
    found = document["metrics"]
    first, second = losses()
    change = np.exp(-second) - np.exp(-first)
    assert found["delta_p"]["value"] == pytest.approx(change.mean(), rel=1e-12)
    assert found["delta_p_rms"]["value"] == pytest.approx(math.sqrt((change**2).mean()), rel=1e-12)
    assert found["loss_correlation"]["value"] == pytest.approx(
        np.corrcoef(first, second)[0, 1], rel=1e-12
    )
    assert found["perplexity_p"]["value"] == pytest.approx(math.exp(first.mean()), rel=1e-12)
    ratio, difference = found["perplexity_ratio"], found["cross_entropy_difference"]
    assert ratio["p_value"] == pytest.approx(difference["p_value"], rel=1e-9)
    expected = [math.exp(end) for end in difference["interval"]]
    assert ratio["interval"] == pytest.approx(expected, rel=1e-12)
    a, b = right()
    lost, gained = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    mcnemar = document["mcnemar"]
    assert (mcnemar["lost"], mcnemar["gained"]) == (lost, gained)
    expected = stats.binomtest(lost, lost + gained).pvalue
    assert mcnemar["p_value"] == pytest.approx(expected, rel=1e-10)


def test_agreement():
    found = compare("p.npy", "q.npy", "--kind", "logits")["metrics"]
    order = [np.argsort(-x, axis=1, kind="stable") for x in (P, Q)]
    for name, k in (("top5_overlap", 5), ("top10_overlap", 10)):
        shared = [len(set(a[:k]) & set(b[:k])) / k for a, b in zip(*order, strict=True)]
        assert found[name]["value"] == pytest.approx(np.mean(shared), rel=1e-14)
    within = [a[0] in b[:5] for a, b in zip(*order, strict=True)]
    assert found["top1_in_top5"]["value"] == np.mean(within)


@pytest.mark.parametrize("weighted", [False, True])
def test_quantiles_are_exact(weighted):
    words = [*WORDS, "--weights", "w.npy"] if weighted else WORDS
    document = compare(*words)
    found = document["metrics"]["kl_divergence"]["quantiles"]
    values = fe.kl_divergence(P, Q, kind="logits")
    assert list(found) == ["min", *exact.LEVELS, "max"]
    for name, level in exact.LEVELS.items():
        if weighted:
            kept = np.repeat(values, WEIGHTS.astype(int))
            assert found[name] == np.quantile(kept, level, method="inverted_cdf")
        else:
            assert found[name] == np.quantile(values, level)
    assert document["quantiles"] == ("exact, weighted" if weighted else "exact, linear")


@pytest.mark.parametrize("weighted", [False, True])
def test_kept_values_come_back_as_they_were(weighted, monkeypatch):
    """Packed where they are few, and through a checkpoint."""
    rng, rows = np.random.default_rng(4), 3000
    values = np.empty((5, rows))
    values[0] = rng.normal(size=rows)
    values[1] = rng.integers(0, 11, rows) / 10
    values[2] = rng.choice([0.0, -0.0, np.nan, np.inf, 5e-324], rows)
    values[3] = 1.0
    values[3, -1] = 0.5  # after those that are looked at first
    values[4] = np.where(np.arange(rows) < 2000, 0.25, values[0])
    weights = rng.integers(0, 3, rows).astype(float) if weighted else None
    if weighted:
        weights[:5] = 1  # which are told of as none
    names = ("a", "b", "c", "d", "e")
    kept = exact.KeptRows(names, {"sum": (np.add, ("a", "b"))})
    monkeypatch.setattr(exact, "TOGETHER", 800)
    for part in (slice(0, 5), slice(5, 1700), slice(1700, 2999), slice(2999, rows)):
        kept.add(values[:, part], None if weights is None else weights[part])
    again = kept.empty()
    again.load(json.loads(json.dumps(list(kept.state(lazily=True)))))
    counted = slice(None) if weights is None else weights > 0
    for found in (kept, again):
        for column, want in zip(names, values[:, counted], strict=True):
            assert found._values(column).tobytes() == want.tobytes(), column
        np.testing.assert_array_equal(found._values("sum"), (values[0] + values[1])[counted])
        assert found.weighted == weighted
    first, second = (kept._parts[k].columns for k in (0, 1))
    assert first[1].dtype == second[1].dtype == first[4].dtype == np.uint8
    assert first[0].dtype == second[4].dtype == np.float64


def test_beyond_a_million_rows_the_histogram_tells(monkeypatch):
    monkeypatch.setattr("fastent.cli.compare.MOST_ROWS", ROWS - 1)
    document = compare(*WORDS)
    found = document["metrics"]["kl_divergence"]["quantiles"]
    assert document["quantiles"].startswith("histogram")
    values = fe.kl_divergence(P, Q, kind="logits")
    assert found["min"] == values.min() and found["max"] == values.max()
    for name, level in exact.LEVELS.items():
        expected = np.sort(values)[math.ceil(Fraction(level) * ROWS) - 1]
        assert found[name] == pytest.approx(expected, rel=0.01)


def test_rows_and_the_worst():
    found = compare(*WORDS, "--rows", "rows.parquet", "--worst", "4", "--keep", "label")
    rows = parquet.read_table("rows.parquet").to_pydict()
    values = fe.kl_divergence(P, Q, kind="logits")
    first, second = losses()
    assert rows["kl_divergence"] == values.tolist()
    assert rows["cross_entropy_difference"] == (second - first).tolist()
    assert rows["label"] == LABELS.tolist() and rows["row"] == list(range(ROWS))
    worst = np.argsort(-values, kind="stable")[:4]
    assert [(w["row"], w["kl_divergence"]) for w in found["worst"]] == [
        (row, values[row]) for row in worst
    ]
    document = compare(*WORDS, "--worst", "2", "--by", "cross_entropy_difference")
    assert document["settings"]["by"] == "cross_entropy_difference"
    by = document["worst"]
    assert [w["row"] for w in by] == np.argsort(-(second - first), kind="stable")[:2].tolist()


def test_metrics_that_are_chosen_are_what_they_are_among_all():
    everything = compare(*WORDS, "--clusters", "c.npy")["metrics"]
    for names in (["kl_divergence"], ["brier_difference", "hellinger"], ["loss_correlation"],
                  ["delta_p_rms", "renyi_divergence(alpha=2.0)", "top5_overlap"]):  # fmt: skip
        found = compare(*WORDS, "--clusters", "c.npy", "--metrics", ",".join(names))["metrics"]
        assert list(found) == names
        for name in names:
            if name in everything:
                assert found[name] == everything[name]


def test_first_rows_of_windows_do_not_count():
    found = compare(*WORDS, "--skip-first", "3", "--window", "10", "--rows", "r.parquet")
    kept = np.arange(ROWS) % 10 >= 3
    assert found["skipped_rows"] == ROWS - kept.sum()
    expected = fe.kl_divergence(P[kept], Q[kept], kind="logits", reduction="mean")
    assert found["metrics"]["kl_divergence"]["value"] == expected
    rows = parquet.read_table("r.parquet")["kl_divergence"].to_pylist()
    assert [row is None for row in rows] == (~kept).tolist()
    found = compare(dumps.path("A"), dumps.path("B"), "--skip-first", "60")
    assert found["metrics"]["kl_divergence"]["count"] == 9  # windows are chunks of 63 rows


def test_bytes():
    table = np.arange(1, CLASSES + 1)
    np.save("t.npy", table)
    np.save("b.npy", table[LABELS])
    found = compare(*WORDS, "--bytes", "b.npy")["metrics"]
    assert found == compare(*WORDS, "--token-bytes", "t.npy")["metrics"]
    first, second = losses()
    count = table[LABELS].sum()
    for side, values in (("p", first), ("q", second), ("difference", second - first)):
        expected = values.sum() / count / math.log(2)
        assert found[f"bits_per_byte_{side}"]["value"] == pytest.approx(expected, rel=1e-12)
    difference, loss = found["bits_per_byte_difference"], found["cross_entropy_difference"]
    assert difference["p_value"] == pytest.approx(loss["p_value"], rel=1e-9)


def shards(name, numbers, cuts):
    Path(name).mkdir()
    for number, part in enumerate(np.split(numbers, cuts)):
        np.save(f"{name}/{number}.npy", part)


@pytest.mark.slow
def test_every_cut_gives_the_same_bits():
    words = ["--kind", "logits", "--clusters", "c", "--weights", "w", "--labels", "y"]
    whole = compare("p.npy", "q.npy", "--kind", "logits", "--clusters", "c.npy", "--weights",
                    "w.npy", "--labels", "y.npy", "--num-threads", "1")  # fmt: skip
    for name, numbers in (("p", P), ("q", Q), ("y", LABELS), ("c", CLUSTERS), ("w", WEIGHTS)):
        shards(name, numbers, [1, 130, 131, 600])
    for more in (["--num-threads", "3"], ["--dask", "local:2"]):
        found = compare("p", "q", *words, *more)
        for key in ("metrics", "mcnemar", "clusters", "quantiles"):
            assert found[key] == whole[key], (more, key)


def test_nan_policies(capsys):
    bad = Q.copy()
    bad[5, 3] = np.nan
    np.save("q.npy", bad)
    assert main(["compare", *WORDS]) == 2
    assert "q.npy: row 5 gives NaN" in capsys.readouterr().err
    found = compare(*WORDS, "--nan-policy", "omit")
    kept = np.arange(ROWS) != 5
    expected = fe.kl_divergence(P[kept], Q[kept], kind="logits", reduction="mean")
    assert found["nan_rows"] == 1 and found["metrics"]["kl_divergence"]["value"] == expected
    assert found["metrics"]["kl_divergence"]["quantiles"]["p10"] == np.quantile(
        fe.kl_divergence(P[kept], Q[kept], kind="logits"), 0.1
    )
    found = compare(*WORDS, "--nan-policy", "propagate")["metrics"]
    assert found["kl_divergence"]["value"] == "nan"
    assert set(found["brier_q"]["quantiles"].values()) == {"nan"}
    assert found["brier_q"]["quantiles"].keys() == found["brier_p"]["quantiles"].keys()


def test_equal_models_differ_by_nothing():
    found = compare("p.npy", "p.npy", "--kind", "logits", "--labels", "y.npy")
    entry = found["metrics"]["cross_entropy_difference"]
    assert entry["value"] == 0 and entry["interval"] == [0, 0] and entry["p_value"] == "nan"
    assert found["metrics"]["loss_correlation"]["value"] == pytest.approx(1, abs=1e-14)
    assert found["mcnemar"] == {"lost": 0, "gained": 0, "p_value": 1.0}


def test_few_clusters_are_told_of(capsys):
    words = ["compare", *WORDS, "--clusters"]
    assert main([*words, "c.npy"]) == 0
    assert "28 clusters\n" in capsys.readouterr().out
    np.save("c.npy", CLUSTERS // 10)
    assert main([*words, "c.npy"]) == 0
    assert "3 clusters, fewer than 20: errors by cluster are rough" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(tmp_path):
    """SIGKILL at some moment after a checkpoint: the same document as without."""
    numbers = np.tile(P, (60, 20))
    np.save("big-p.npy", numbers)
    np.save("big-q.npy", np.tile(Q, (60, 20)))
    np.save("big-y.npy", np.tile(LABELS, 60))
    words = ["big-p.npy", "big-q.npy", "--kind", "logits", "--labels", "big-y.npy", "--worst", "3",
             "--rows", "rows.parquet", "--num-threads", "1"]  # fmt: skip
    whole = compare(*words)
    whole_rows = parquet.read_table("rows.parquet")
    code = (
        "from fastent.cli import checkpoint, main; checkpoint.FIRST_SECONDS = 0.01\n"
        "checkpoint.SHARE = 10; import sys; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "compare", *words, "--checkpoint", "state",
               "--json", "again.json", "--quiet"]  # fmt: skip
    killed = 0
    for _ in range(40):
        process = subprocess.Popen(command)
        while process.poll() is None and not os.path.exists("state"):
            time.sleep(0.005)
        time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        if process.returncode == 0:
            break
        if killed >= 2:
            process = subprocess.run(command, check=True)
            break
    assert json.loads(Path("again.json").read_text()) == whole
    assert parquet.read_table("rows.parquet").equals(whole_rows)
    assert killed


def test_bad_options(capsys):
    for words, why in (
        (["--metrics", "kld"], "no 'kld' in task 'divergence'"),
        (["--metrics", "kl_divergence,delta_p"], "delta_p needs --labels"),
        (["--worst", "-1"], "--worst: expected 0 or more"),
        (["--by", "perplexity_p"], "--by:"),
        (["--by", "delta_p", "--worst", "1"], "--by delta_p needs --labels"),
        (["--skip-first", "2"], "--skip-first needs --window"),
        (["--skip-first", "9", "--window", "9"], "expected less than the window of 9 rows"),
        (["--token-bytes", "y.npy"], "--token-bytes needs labels"),
    ):
        assert main(["compare", "p.npy", "q.npy", "--kind", "logits", *words]) == 2
        told = capsys.readouterr().err
        assert why in told and told.count("\n") == 1, told
