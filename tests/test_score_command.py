"""`fastent score` gives what the accumulator gives, in the documented JSON, for any cut."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main

ROWS, CLASSES = 400, 6
RNG = np.random.default_rng(2)
LOGITS = RNG.normal(0, 2, (ROWS, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)
WEIGHTS = RNG.random(ROWS)
LANGUAGES = np.array(["de", "en", "fr"])[LABELS % 3]
PROBS = np.exp(LOGITS.astype(float)) / np.exp(LOGITS.astype(float)).sum(1, keepdims=True)
SPARSE = ["cross_entropy", "perplexity", "bits", "accuracy", "top5_accuracy", "brier", "ece",
          "entropy", "skill"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", LOGITS)
    np.save("y.npy", LABELS)
    np.save("w.npy", WEIGHTS)
    np.save("g.npy", LANGUAGES)


def score(*words):
    """The JSON document of a run."""
    assert main(["score", *map(str, words), "--json", "report.json", "--quiet"]) == 0
    return json.loads(Path("report.json").read_text())


def accumulated(metrics, labels, predictions, sample_weight=None, groups=None, **settings):
    settings = {"task": "sparse", "kind": "logits", **settings}
    accumulator = fe.Accumulator(metrics, **settings)
    return accumulator.update(
        labels, predictions, sample_weight=sample_weight, groups=groups
    ).compute()


def assert_same(found, report, metrics):
    assert list(found) == metrics
    for name in metrics:
        expected = report[name]
        assert found[name]["count"] == expected.count
        assert [found[name][key] for key in ("value", "stderr", "weight")] == [
            expected.value, expected.stderr, expected.weight,
        ]  # fmt: skip


@pytest.mark.parametrize("classes", [5, 6])
def test_the_five_largest_of_five_are_no_news(classes):
    np.save("few.npy", LOGITS[:, :classes])
    np.save("few-labels.npy", LABELS % classes)
    found = score("few.npy", "--labels", "few-labels.npy", "--kind", "logits")["metrics"]
    assert ("top5_accuracy" in found) == (classes > 5)


def test_the_document():
    found = score("x.npy", "--labels", "y.npy", "--kind", "logits")
    assert_same(found["metrics"], accumulated(SPARSE, LABELS, LOGITS), SPARSE)
    assert found["rows"] == ROWS
    assert found["groups"] == {}
    assert found["version"] == fe.__version__
    assert found["inputs"] == [
        {"predictions": "x.npy", "labels": "y.npy", "rows": ROWS, "classes": CLASSES,
         "dtype": "float32"}
    ]  # fmt: skip
    assert found["settings"]["kind"] == "logits"


def test_groups_and_weights():
    words = ["x.npy", "--labels", "y.npy", "--kind", "logits", "--weights", "w.npy"]
    found = score(*words, "--groups", "g.npy")
    report = accumulated(SPARSE, LABELS, LOGITS, sample_weight=WEIGHTS, groups=LANGUAGES)
    assert_same(found["metrics"], report, SPARSE)
    assert sorted(found["groups"]) == ["de", "en", "fr"]
    for name, group in found["groups"].items():
        assert_same(group, report.groups[name], list(group))


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--temperature", "2.5"], {"temperature": 2.5}),
        (["--bins", "4"], {"bins": 4}),
        (["--ignore-index", "3"], {"ignore_index": 3}),
    ],
)
def test_flags_that_change_numbers(words, settings):
    found = score("x.npy", "--labels", "y.npy", "--kind", "logits", *words)
    assert_same(found["metrics"], accumulated(SPARSE, LABELS, LOGITS, **settings), SPARSE)
    ((key, value),) = settings.items()
    assert found["settings"][key] == value


def test_row_sums():
    np.save("p.npy", PROBS * 3)
    words = ["p.npy", "--labels", "y.npy", "--kind", "probs", "--metrics", "cross_entropy,brier"]
    report = accumulated(
        ["cross_entropy", "brier"], LABELS, PROBS * 3, kind="probs", row_sums="rescale"
    )
    found = score(*words, "--row-sums", "rescale")
    assert_same(found["metrics"], report, ["cross_entropy", "brier"])


def test_categorical_and_binary_tasks():
    np.save("t.npy", PROBS)
    found = score("x.npy", "--labels", "t.npy", "--kind", "logits", "--task", "categorical")
    names = list(found["metrics"])
    assert "kl_divergence" in names and "target_entropy" in names
    report = accumulated(names, PROBS, LOGITS, task="categorical")
    assert_same(found["metrics"], report, names)
    np.save("b.npy", LOGITS[:, 0])
    np.save("bt.npy", LABELS % 2)
    found = score("b.npy", "--labels", "bt.npy", "--kind", "logits", "--task", "binary")
    names = list(found["metrics"])
    report = accumulated(names, LABELS % 2, LOGITS[:, 0], task="binary")
    assert_same(found["metrics"], report, names)


def test_the_cut_into_files_does_not_matter():
    whole = score("x.npy", "--labels", "y.npy", "--kind", "logits")
    for number, part in enumerate(np.array_split(np.arange(ROWS), 11)):
        np.save(f"part-{number}.npy", LOGITS[part])
        np.save(f"labels-{number}.npy", LABELS[part])
    cut = score("part-*.npy", "--labels", "labels-*.npy", "--kind", "logits")
    assert cut["metrics"] == whole["metrics"]
    assert [entry["predictions"] for entry in cut["inputs"]] == [
        f"part-{number}.npy" for number in range(11)
    ]


def test_leading_axes_are_rows():
    np.save("x3.npy", LOGITS.reshape(8, 50, CLASSES))
    np.save("y2.npy", LABELS.reshape(8, 50))
    found = score("x3.npy", "--labels", "y2.npy", "--kind", "logits")
    assert found["metrics"] == score("x.npy", "--labels", "y.npy", "--kind", "logits")["metrics"]


def test_labels_inside_the_file_of_predictions():
    np.savez("all.npz", logits=LOGITS, labels=LABELS, lang=LANGUAGES, w=WEIGHTS)
    found = score("all.npz", "--kind", "logits", "--groups", "lang", "--weights", ":w")
    words = ["x.npy", "--labels", "y.npy", "--kind", "logits", "--weights", "w.npy"]
    expected = score(*words, "--groups", "g.npy")
    for key in ("metrics", "groups", "rows"):
        assert found[key] == expected[key]


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv"])
def test_tables_hold_everything(suffix):
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.parquet

    columns = {f"class_{k}": LOGITS[:, k].astype(float) for k in range(CLASSES)}
    columns |= {"label": LABELS, "lang": LANGUAGES, "w": WEIGHTS}
    write = {
        ".parquet": pyarrow.parquet.write_table,
        ".feather": pyarrow.feather.write_feather,
        ".csv": pyarrow.csv.write_csv,
    }[suffix]
    Path("tables").mkdir()
    for number, part in enumerate(np.array_split(np.arange(ROWS), 3)):
        write(pyarrow.table({k: v[part] for k, v in columns.items()}), f"tables/{number}{suffix}")
    found = score("tables", "--kind", "logits", "--groups", "lang", "--weights", "w")
    report = accumulated(
        SPARSE, LABELS, LOGITS.astype(float), sample_weight=WEIGHTS, groups=LANGUAGES
    )
    assert_same(found["metrics"], report, SPARSE)
    for name, group in found["groups"].items():
        assert_same(group, report.groups[name], list(group))


def test_label_frequencies_alone():
    found = score("x.npy", "--labels", "y.npy", "--kind", "logits", "--metrics", "label_entropy")
    rates = np.bincount(LABELS) / ROWS
    expected = -np.sum(rates * np.log(rates))
    assert found["metrics"]["label_entropy"]["value"] == pytest.approx(expected, rel=1e-12)


def test_no_rows():
    np.save("x0.npy", LOGITS[:0])
    np.save("y0.npy", LABELS[:0])
    found = score("x0.npy", "--labels", "y0.npy", "--kind", "logits")
    assert found["rows"] == 0
    assert found["metrics"]["cross_entropy"] == {
        "value": "nan", "stderr": None, "count": 0, "weight": 0.0
    }  # fmt: skip


def test_inf_and_nan_are_strings():
    np.save("p.npy", np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.save("t.npy", np.array([0, 0]))
    found = score("p.npy", "--labels", "t.npy", "--kind", "probs")["metrics"]["cross_entropy"]
    assert found["value"] == "inf" and found["stderr"] == "nan"


@pytest.mark.parametrize("policy", ["omit", "propagate"])
def test_nan_policy(policy):
    logits = LOGITS.copy()
    logits[[3, 77], 1] = np.nan
    logits[5, 0] = -np.inf
    np.save("nan.npy", logits)
    found = score("nan.npy", "--labels", "y.npy", "--kind", "logits", "--nan-policy", policy)
    assert found["nan_rows"] == 2
    if policy == "omit":
        keep = np.ones(ROWS)
        keep[[3, 77]] = 0
        logits[np.isnan(logits)] = 0
        report = accumulated(SPARSE, LABELS, logits, sample_weight=keep)
        assert_same(found["metrics"], report, SPARSE)
    else:
        assert found["metrics"]["cross_entropy"]["value"] == "nan"


def test_threads_and_runs_give_the_same_bytes():
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--quiet"]
    for threads in (1, 3):
        name = f"threads-{threads}.json"
        assert main([*words, "--num-threads", str(threads), "--json", name]) == 0
    assert Path("threads-1.json").read_bytes() == Path("threads-3.json").read_bytes()


def test_the_table_and_json_to_standard_output(capsys):
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits"]
    assert main(words) == 0
    table = capsys.readouterr()
    assert "cross_entropy" in table.out and "400 rows" in table.out
    assert table.err == ""
    assert main([*words, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == ROWS


@pytest.mark.parametrize("coding", ["ascii", "utf-8"])
def test_names_that_a_terminal_cannot_show(coding, monkeypatch):
    np.save("g.npy", np.array(["日本", "\x1b[2J", "two\nlines"])[LABELS % 3])
    stream = io.TextIOWrapper(io.BytesIO(), coding)
    monkeypatch.setattr(sys, "stdout", stream)
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--groups", "g.npy"]
    assert main(words) == 0
    stream.flush()
    shown = stream.buffer.getvalue().decode(coding)
    assert ("日本" if coding == "utf-8" else r"\u65e5\u672c") in shown
    assert r"\x1b[2J" in shown and "\x1b[2J" not in shown and r"two\nlines" in shown


def test_bits_per_byte():
    counts = RNG.integers(1, 9, ROWS)
    np.save("bytes.npy", counts)
    found = score("x.npy", "--labels", "y.npy", "--kind", "logits", "--bytes", "bytes.npy")
    metrics = found["metrics"]
    nats = metrics["cross_entropy"]["value"] * ROWS
    expected = nats / math.log(2) / counts.sum()
    assert metrics["bits_per_byte"]["value"] == pytest.approx(expected, rel=1e-15)
    assert metrics["bits_per_byte"]["weight"] == counts.sum()


def test_worst_rows():
    np.save("x2.npy", LOGITS[::-1])
    np.save("y2.npy", LABELS[::-1])
    words = ["x.npy", "x2.npy", "--labels", "y.npy", "y2.npy", "--kind", "logits"]
    found = score(*words, "--worst", "3")["worst"]
    losses = fe.sparse_cross_entropy(LABELS, LOGITS, kind="logits")
    first, second = np.argsort(-losses)[:2]
    assert [(row["file"], row["row"]) for row in found] == [
        ("x.npy", first), ("x2.npy", ROWS - 1 - first), ("x.npy", second),
    ]  # fmt: skip
    assert found[0]["cross_entropy"] == losses[first]


def test_clusters():
    np.save("c.npy", np.arange(ROWS) // 20)
    found = score("x.npy", "--labels", "y.npy", "--kind", "logits", "--clusters", "c.npy")
    acc = fe.Accumulator(SPARSE, task="sparse", kind="logits")
    report = acc.update(LABELS, LOGITS, clusters=np.arange(ROWS) // 20).compute()
    for name in ("cross_entropy", "accuracy"):
        assert found["metrics"][name]["cluster_stderr"] == report[name].cluster_stderr


def test_row_values(tmp_path):
    import pyarrow.parquet

    names = "cross_entropy,accuracy,top2_accuracy,bits,perplexity,ece"
    score("x.npy", "--labels", "y.npy", "--kind", "logits", "--metrics", names,
          "--rows", "rows.parquet")  # fmt: skip
    found = pyarrow.parquet.read_table("rows.parquet")
    assert found.column_names == ["file", "row", "cross_entropy", "accuracy", "top2_accuracy",
                                  "bits", "perplexity"]  # fmt: skip
    losses = fe.sparse_cross_entropy(LABELS, LOGITS, kind="logits")
    np.testing.assert_array_equal(found["cross_entropy"], losses)
    np.testing.assert_array_equal(found["bits"], losses / math.log(2))
    np.testing.assert_array_equal(found["perplexity"], np.exp(losses))
    np.testing.assert_array_equal(found["accuracy"], LOGITS.argmax(1) == LABELS)
    ranks = (LOGITS > LOGITS[np.arange(ROWS), LABELS][:, None]).sum(1)
    np.testing.assert_array_equal(found["top2_accuracy"], ranks < 2)


def test_info_and_version(capsys):
    assert main(["info"]) == 0
    assert fe.__version__ in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastent {fe.__version__}\n"


def test_python_dash_m_without_words_names_the_commands():
    run = subprocess.run([sys.executable, "-m", "fastent"], capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""
    for command in ("demo", "score", "compare", "metrics", "info"):
        assert run.stdout.count(f"\n  fastent {command} ") == 1
