"""Where pieces, blocks, batches and row groups begin does not show: 7 rows each, all options.

Truth is mpmath for a row, and plain sums over the rows for what is made of them.
"""

import json
import math
import re
from pathlib import Path

import mpmath
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

import fastent as fe
from fastent import accumulator
from fastent.cli import checkpoint, long_lists, main, rows, run, sums
from fastent.io import csv, parquet, shards, table

ROWS, CLASSES = 101, 4
CUTS = [(0, 45), (45, 101)]  # of the two files
RNG = np.random.default_rng(12)
P, Q = RNG.normal(0, 2, (2, ROWS, CLASSES))
LABELS = RNG.integers(0, CLASSES, ROWS)
IGNORED = np.isin(np.arange(ROWS), [0, 6, 7, 13, 44, 45, 60, 61, 62, 100])
NANS = np.isin(np.arange(ROWS), [1, 8, 50, 99])
WEIGHTS = RNG.random(ROWS) * (RNG.random(ROWS) < 0.8)
GROUPS = np.array(["b", "a", "ü"])[RNG.integers(0, 3, ROWS)]
CLUSTERS = RNG.integers(0, 20, ROWS)
BYTES = RNG.integers(0, 9, ROWS)
GIVEN = {"label": np.where(IGNORED, -100, LABELS), "w": WEIGHTS, "g": GROUPS, "c": CLUSTERS,
         "b": BYTES}  # fmt: skip
OPTIONS = ["--weights", "--groups", "--clusters", "--bytes"]
FORMATS = ["npy", "npz", "parquet", "arrow", "csv"]
blocks = pytest.mark.parametrize(("piece", "pieces"), [(7, 1), (19, 1), (19, 3)])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(monkeypatch, piece, pieces):
    """Everything that is cut is cut into small parts; 7 rows of 19 end nowhere where 7 do."""
    for where, name, size in (
        (shards, "PIECE_ROWS", piece), (shards, "PIECES", pieces), (sums, "CACHED_ROWS", 7),
        (rows, "GROUP_ROWS", 7), (accumulator, "BLOCK_ROWS", 7), (table, "BATCH_BYTES", 7 * 40),
        (parquet, "TURNED_ROWS", 7), (csv, "BLOCK_BYTES", 400), (long_lists, "ITEMS", 2),
        (checkpoint, "FIRST_SECONDS", 0), (checkpoint, "LONGEST_SECONDS", 0),
        (run, "RESULT_BYTES", 1),
    ):  # fmt: skip
        assert hasattr(where, name)
        monkeypatch.setattr(where, name, size)


def write(suffix, predictions, stem="x", **more):
    """Two files of predictions, and the options that name what goes with them."""
    given = GIVEN | more
    words = [f"{stem}-*.{suffix}"]
    for number, (start, stop) in enumerate(CUTS):
        part = {name: values[start:stop] for name, values in given.items()}
        name = f"{stem}-{number}.{suffix}"
        if suffix == "npy":
            np.save(name, predictions[start:stop])
            for column, values in part.items():
                np.save(f"{column}-{number}.npy", values)
        elif suffix == "npz":
            np.savez(name, logits=predictions[start:stop], **part)
        else:
            columns = {f"p{k}": predictions[start:stop, k] for k in range(CLASSES)}
            made = pyarrow.table(columns | {n: pyarrow.array(v) for n, v in part.items()})
            if suffix == "parquet":
                pyarrow.parquet.write_table(made, name, row_group_size=7)
            elif suffix == "arrow":
                pyarrow.feather.write_feather(made, name, chunksize=7, compression="uncompressed")
            else:
                pyarrow.csv.write_csv(made, name)
    places = dict(zip(OPTIONS, "wgcb", strict=True)) | {"--labels": "label"}
    for option, column in places.items():
        words += [option, f"{column}-*.npy" if suffix == "npy" else f":{column}"]
    return words


def done(*words):
    assert main([*words, "--json", "report.json", "--quiet"]) == 0
    return json.loads(Path("report.json").read_text())


def softmax(row):
    e = [mpmath.exp(x) for x in row.tolist()]
    return [x / mpmath.fsum(e) for x in e]


def slow(task_rows, labels):
    """Row values of the metrics: each from exact probabilities."""
    found = {name: [] for name in ("cross_entropy", "accuracy", "brier", "entropy", "confidence")}
    with mpmath.workprec(160):
        for row, label in zip(task_rows, labels, strict=True):
            p = softmax(row)
            found["cross_entropy"].append(float(-mpmath.log(p[label])))
            found["accuracy"].append(float(np.argmax(row) == label))
            found["brier"].append(
                float(mpmath.fsum((q - (k == label)) ** 2 for k, q in enumerate(p)))
            )
            found["entropy"].append(float(-mpmath.fsum(q * mpmath.log(q) for q in p)))
            found["confidence"].append(float(max(p)))
    return {name: np.array(values) for name, values in found.items()}


def summed(v, w, clusters=None):
    """Mean, standard error, cluster-robust error and count, of rows with weight."""
    v, w = v[w > 0], w[w > 0]
    total = math.fsum(w)
    mean = math.fsum(w * v) / total
    n = len(v)
    error = math.sqrt(math.fsum((w * (v - mean)) ** 2)) / total * math.sqrt(n / (n - 1))
    if clusters is None:
        return mean, error, n, total
    parts = [math.fsum((w * (v - mean))[clusters == c]) for c in np.unique(clusters)]
    G = len(parts)
    robust = math.sqrt(math.fsum(x * x for x in parts)) / total * math.sqrt(G / (G - 1))
    return mean, error, n, total, robust


def assert_entry(entry, expected):
    assert entry["value"] == pytest.approx(expected[0], rel=1e-12)
    assert entry["stderr"] == pytest.approx(expected[1], rel=1e-11)
    assert entry["count"] == expected[2]
    assert entry["weight"] == pytest.approx(expected[3], rel=1e-14)
    if len(expected) > 4:
        assert entry["cluster_stderr"] == pytest.approx(expected[4], rel=1e-11)
    else:
        assert "cluster_stderr" not in entry


def calibration(confidence, correct, w, bins):
    places = np.maximum(np.ceil(confidence * bins).astype(int), 1)
    gaps = [abs(math.fsum((w * (correct - confidence))[places == b])) for b in range(1, bins + 1)]
    return math.fsum(gaps) / math.fsum(w)


NAMES = ["cross_entropy", "accuracy", "brier", "entropy", "confidence", "ece"]
VALUES = slow(P, LABELS)
COUNTED = np.where(IGNORED | NANS, 0.0, WEIGHTS)


@blocks
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("small")
def test_score_with_everything_at_once(suffix, threads):
    logits = P.copy()
    logits[NANS, 1] = np.nan
    words = write(suffix, logits)
    found = done("score", *words, "--kind", "logits", "--ignore-index", "-100", "--nan-policy",
                 "omit", "--metrics", ",".join(NAMES), "--worst", "200", "--rows", "r.parquet",
                 "--bins", "5", "--checkpoint", "progress",
                 "--num-threads", str(threads))  # fmt: skip
    assert (found["rows"], found["nan_rows"], found["ignored_rows"]) == (
        ROWS, NANS.sum(), IGNORED.sum(),
    )  # fmt: skip
    kept = COUNTED > 0
    assert 0 < kept.sum() < (~IGNORED & ~NANS).sum()  # some weigh nothing
    for name in NAMES[:-1]:
        assert_entry(found["metrics"][name], summed(VALUES[name], COUNTED, CLUSTERS[kept]))
        for group in ("a", "b", "ü"):
            w = np.where(GROUPS == group, COUNTED, 0.0)
            assert_entry(found["groups"][group][name], summed(VALUES[name], w))
    expected = calibration(VALUES["confidence"], VALUES["accuracy"], COUNTED, 5)
    assert found["metrics"]["ece"]["value"] == pytest.approx(expected, rel=1e-12)

    for part, w, clusters in (
        [(found["metrics"], COUNTED, CLUSTERS[kept])]
        + [(found["groups"][g], np.where(GROUPS == g, COUNTED, 0), None) for g in ("a", "b", "ü")]
    ):  # fmt: skip
        loss = summed(VALUES["cross_entropy"], w, clusters)
        size = math.fsum(w * BYTES)
        scale = loss[3] / size / math.log(2)
        robust = [] if clusters is None else [loss[4] * scale]
        assert_entry(
            part["bits_per_byte"], [loss[0] * scale, loss[1] * scale, loss[2], size, *robust]
        )

    order = sorted(np.flatnonzero(kept), key=lambda k: (-VALUES["cross_entropy"][k], k))
    places = [(0, k) if k < 45 else (1, k - 45) for k in order]
    assert [(row["file"].split(":")[0], row["row"]) for row in found["worst"]] == [
        (f"x-{number}.{suffix}", k) for number, k in places
    ]
    assert [row["cross_entropy"] for row in found["worst"]] == pytest.approx(
        VALUES["cross_entropy"][order].tolist(), rel=1e-13
    )

    written = pyarrow.parquet.read_table("r.parquet")
    assert written.num_rows == ROWS and written.column_names == ["file", "row", *NAMES[:-1]]
    for name in NAMES[:-1]:
        got = written[name].to_pylist()
        assert [x is None for x in got] == IGNORED.tolist()
        weightless = (WEIGHTS == 0) & ~IGNORED
        for k in np.flatnonzero(~IGNORED):
            if NANS[k]:
                assert math.isnan(got[k])
            else:
                assert got[k] == pytest.approx(VALUES[name][k], rel=1e-13)
        assert weightless.any()


@pytest.mark.parametrize("piece, pieces", [(7, 1), (19, 3)])
@pytest.mark.parametrize("task", ["binary", "categorical"])
@pytest.mark.usefixtures("small")
def test_the_other_tasks(task):
    metrics = ["cross_entropy", "accuracy", "brier"]
    targets = RNG.random(ROWS) if task == "binary" else RNG.dirichlet(np.ones(CLASSES), ROWS)
    predictions = P[:, 0] if task == "binary" else P
    for number, (start, stop) in enumerate(CUTS):
        np.save(f"x-{number}.npy", predictions[start:stop])
        np.save(f"t-{number}.npy", targets[start:stop])
        for name in "wgc":
            np.save(f"{name}-{number}.npy", GIVEN[name][start:stop])
    found = done("score", "x-*.npy", "--labels", "t-*.npy", "--kind", "logits", "--task", task,
                 "--weights", "w-*.npy", "--groups", "g-*.npy", "--clusters", "c-*.npy",
                 "--metrics", ",".join(metrics))  # fmt: skip
    losses = []
    with mpmath.workprec(160):
        for x, t in zip(predictions.tolist(), targets.tolist(), strict=True):
            p = softmax(np.array([x, 0.0] if task == "binary" else x))
            t = [t, 1 - mpmath.mpf(t)] if task == "binary" else [v / mpmath.fsum(t) for v in t]
            losses.append(float(-mpmath.fsum(a * mpmath.log(b) for a, b in zip(t, p, strict=True))))
    expected = summed(np.array(losses), WEIGHTS, CLUSTERS[WEIGHTS > 0])
    assert_entry(found["metrics"]["cross_entropy"], expected)
    for group in ("a", "b", "ü"):
        w = np.where(GROUPS == group, WEIGHTS, 0.0)
        assert_entry(found["groups"][group]["cross_entropy"], summed(np.array(losses), w))


@blocks
@pytest.mark.parametrize("suffix", ["npy", "parquet"])
@pytest.mark.parametrize("weighs", [True, False])
@pytest.mark.usefixtures("small")
def test_compare_with_everything_at_once(suffix, weighs):
    q = Q.copy()
    q[NANS, 2] = np.nan
    words = write(suffix, P)
    write(suffix, q, "y")
    del words[words.index("--bytes") : words.index("--bytes") + 2]
    weights = WEIGHTS if weighs else np.ones(ROWS)
    if not weighs:
        del words[words.index("--weights") : words.index("--weights") + 2]
    found = done("compare", words[0], f"y-*.{suffix}", *words[1:], "--kind", "logits",
                 "--ignore-index", "-100", "--nan-policy", "omit")  # fmt: skip
    assert (found["nan_rows"], found["ignored_rows"]) == (
        (NANS & (weights > 0) & ~IGNORED).sum(), IGNORED.sum(),
    )  # fmt: skip
    w = np.where(IGNORED | NANS, 0.0, weights)
    first, second = VALUES["cross_entropy"], slow(Q, LABELS)["cross_entropy"]
    kl = []
    with mpmath.workprec(160):
        for a, b in zip(P, Q, strict=True):
            a, b = softmax(a), softmax(b)
            kl.append(float(mpmath.fsum(x * mpmath.log(x / y) for x, y in zip(a, b, strict=True))))
    expected = {
        "cross_entropy_p": first, "cross_entropy_q": second,
        "cross_entropy_difference": second - first, "kl_divergence": np.array(kl),
    }  # fmt: skip
    for name, values in expected.items():
        assert_entry(found["metrics"][name], summed(values, w, CLUSTERS[w > 0]))
        for group in ("a", "b", "ü"):
            here = np.where(GROUPS == group, w, 0.0)
            assert_entry(found["groups"][group][name], summed(values, here))
    ratio, entry = found["metrics"]["perplexity_ratio"], summed(second - first, w, CLUSTERS[w > 0])
    assert ratio["value"] == pytest.approx(math.exp(entry[0]), rel=1e-12)
    assert ratio["cluster_stderr"] == pytest.approx(math.exp(entry[0]) * entry[4], rel=1e-11)


@pytest.mark.parametrize("rows_at_once", [7, 19, ROWS])
def test_long_updates_keep_all_that_goes_with_their_rows(rows_at_once, monkeypatch):
    monkeypatch.setattr(accumulator, "BLOCK_ROWS", 7)
    acc = fe.Accumulator([*NAMES, "label_entropy"], kind="logits", ignore_index=-100, bins=5)
    for start in range(0, ROWS, rows_at_once):
        part = slice(start, start + rows_at_once)
        acc.update(GIVEN["label"][part], P[part], sample_weight=WEIGHTS[part],
                   groups=GROUPS[part], clusters=CLUSTERS[part])  # fmt: skip
    report = acc.compute()
    w = np.where(IGNORED, 0.0, WEIGHTS)
    for name in NAMES[:-1]:
        mean, error, count, weight, robust = summed(VALUES[name], w, CLUSTERS[w > 0])
        got = report[name]
        assert got.value == pytest.approx(mean, rel=1e-12)
        assert got.stderr == pytest.approx(error, rel=1e-11)
        assert got.cluster_stderr == pytest.approx(robust, rel=1e-11)
        assert (got.count, got.weight) == (count, pytest.approx(weight, rel=1e-14))
        for group in ("a", "b", "ü"):
            mean, error, count, _ = summed(VALUES[name], np.where(GROUPS == group, w, 0.0))
            got = report.groups[group][name]
            assert (got.value, got.stderr, got.count) == (
                pytest.approx(mean, rel=1e-12), pytest.approx(error, rel=1e-11), count,
            )  # fmt: skip
    expected = calibration(VALUES["confidence"], VALUES["accuracy"], w, 5)
    assert report["ece"].value == pytest.approx(expected, rel=1e-12)
    shares = np.array([math.fsum(w[LABELS == c]) for c in range(CLASSES)]) / math.fsum(w)
    assert report["label_entropy"].value == pytest.approx(-np.sum(shares * np.log(shares)))


BAD = [
    ("label", 9), ("w", -1.0), ("w", np.nan), ("b", np.inf), ("b", -3.0), ("b", np.nan),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("piece, pieces", [(7, 1), (19, 3)])
@pytest.mark.parametrize("suffix", ["npy", "parquet", "csv"])
@pytest.mark.parametrize("row", [0, 6, 7, 20, 33, 44, 45, 58, 100])
@pytest.mark.usefixtures("small")
def test_messages_count_rows_within_their_file(suffix, row, capsys):
    """Whatever is wrong, and wherever the piece begins that it is found in."""
    number, place = (0, row) if row < 45 else (1, row - 45)
    for column, bad in BAD:
        values = GIVEN[column].astype(type(bad))
        values[row] = bad
        if column == "label":
            values = values.astype(int)
        words = write(suffix, P, **{column: values})
        assert main(["score", *words, "--kind", "logits", "--ignore-index", "-100",
                     "--num-threads", "2"]) == 2  # fmt: skip
        line = capsys.readouterr().err
        file = f"{column}-{number}.npy" if suffix == "npy" else f"x-{number}.{suffix}"
        assert line.startswith(f"fastent: {file}") and line.count("\n") == 1
        assert re.search(rf"\brow {place}\b", line)
        assert column != "b" or suffix == "csv" or "expected a byte count" in line
    words = write(suffix, np.where((np.arange(ROWS) == row)[:, None], np.nan, P),
                  label=LABELS, w=np.ones(ROWS))  # fmt: skip
    assert main(["score", *words, "--kind", "logits"]) == 2
    assert f"x-{number}.{suffix}" in (line := capsys.readouterr().err)
    assert f"row {place} gives NaN" in line
    probs = np.full((ROWS, CLASSES), 0.25)
    probs[row] = 0.3
    words = write(suffix, probs, label=LABELS, w=np.ones(ROWS))
    assert main(["score", *words, "--kind", "probs"]) == 2
    assert f"in row {place};" in capsys.readouterr().err


@pytest.mark.parametrize("piece, pieces", [(7, 1), (19, 3)])
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("row", [0, 6, 7, 20, 33, 44])
@pytest.mark.parametrize("column", ["label", "w"])
@pytest.mark.usefixtures("small")
def test_nulls_are_named_by_their_row_in_the_file(suffix, row, column, capsys):
    values = GIVEN[column].astype(object)
    values[row] = None
    words = write(suffix, P, **{column: values})
    assert main(["score", *words, "--kind", "logits", "--ignore-index", "-100"]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"fastent: x-0.{suffix}:{column}: row {row} is null")
