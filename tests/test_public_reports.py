"""`fe.Report` and `fe.Result`: as data, frames, pages, plots; equal, copied, pickled, completed."""

import copy
import gc
import json
import math
import pickle
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats

import fastent as fe
from fastent.cli import main
from fastent.metrics import METRICS as RECORDS
from fastent.report.style import FONTS, LIGHT

RNG = np.random.default_rng(12)
ROWS, CLASSES = 400, 4
LOGITS = RNG.normal(size=(ROWS, CLASSES))
LABELS = RNG.integers(0, CLASSES, ROWS)
GROUPS = np.array(["de", "en", "<b>fr</b>"])[np.arange(ROWS) % 3]
WEIGHTS = RNG.random(ROWS) + 0.5
METRICS = ["cross_entropy", "perplexity", "bits", "accuracy", "brier", "ece", "mce", "skill"]


def accumulator(weights=None, groups=GROUPS, clusters=None, labels=LABELS, logits=LOGITS):
    acc = fe.Accumulator(METRICS, kind="logits", bins=10)
    return acc.update(labels, logits, weights, groups, clusters)


@pytest.fixture(scope="module")
def report():
    return accumulator().compute()


def test_they_are_what_accumulators_give(report):
    assert type(report) is fe.Report and type(report["accuracy"]) is fe.Result
    assert type(report.groups["de"]) is fe.Report and report.groups["de"].groups == {}
    assert report.rows == ROWS and report.groups["de"].rows == np.sum(GROUPS == "de")


def test_the_same_json_as_the_command(report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", LOGITS)
    np.save("y.npy", LABELS)
    np.save("g.npy", GROUPS)
    for more, given in (([], report), (["--clusters", "c.npy"], None)):
        np.save("c.npy", np.arange(ROWS) // 5)
        words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--groups", "g.npy"]
        words += ["--metrics", ",".join(METRICS), "--bins", "10", *more, "--json", "r.json"]
        assert main([*words, "--quiet"]) == 0
        given = given or accumulator(clusters=np.arange(ROWS) // 5).compute()
        written, found = json.loads(Path("r.json").read_text()), json.loads(given.to_json())
        assert found == {key: written[key] for key in ("metrics", "groups", "rows")}
        assert given.to_dict() == found  # no inf or nan here


def test_inf_and_nan():
    report = fe.Accumulator(["cross_entropy", "perplexity"]).update([0], [[0.0, 1.0]]).compute()
    entry = report.to_dict()["metrics"]["perplexity"]
    assert entry == {"value": math.inf, "stderr": None, "count": 1, "weight": 1.0}
    assert json.loads(report.to_json())["metrics"]["perplexity"]["value"] == "inf"


@pytest.mark.parametrize("library", [None, "pandas", "polars"])
def test_frames(report, library):
    frame = report.to_frame(library)
    assert type(frame) is (pl.DataFrame if library == "polars" else pd.DataFrame)
    rows = frame.to_dicts() if library == "polars" else frame.to_dict("records")
    assert list(rows[0]) == ["group", "metric", "value", "stderr", "count", "weight"]
    assert len(rows) == 4 * len(METRICS)
    for row in rows:
        named = isinstance(row["group"], str)
        result = (report.groups[row["group"]] if named else report)[row["metric"]]
        assert row["value"] == result.value and row["count"] == result.count
        missing = row["stderr"] is None or math.isnan(row["stderr"])
        assert missing if result.stderr is None else row["stderr"] == result.stderr
    with pytest.raises(ValueError, match=r"^library: expected 'pandas' or 'polars', got 'r'"):
        report.to_frame("r")
    clustered = accumulator(clusters=np.arange(ROWS) // 5).compute().to_frame("polars")
    assert clustered["cluster_stderr"][0] > 0 and clustered["cluster_stderr"][-1] is None


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_calibration(weights):
    report = accumulator(weights).compute()
    found = report.calibration()
    q = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    sure, right = q.max(1), q.argmax(1) == LABELS
    w = np.ones(ROWS) if weights is None else weights
    place = np.ceil(sure * 10).astype(int) - 1
    total = np.bincount(place, w, 10)
    used = total > 0
    share = np.bincount(place, w * right, 10)[used] / total[used]
    np.testing.assert_allclose(found["lower"], np.arange(10) / 10)
    np.testing.assert_allclose(found["upper"], np.arange(1, 11) / 10)
    np.testing.assert_allclose(found["weight"], total)
    np.testing.assert_allclose(
        found["confidence"][used], np.bincount(place, w * sure, 10)[used] / total[used]
    )
    np.testing.assert_allclose(found["frequency"][used], share)
    for name in ("confidence", "frequency", "low", "high"):
        assert np.isnan(found[name][~used]).all()
    rows = total[used] * w.sum() / (w**2).sum()  # the effective number
    z = scipy.stats.norm.ppf(0.975)
    for end in (found["low"][used], found["high"][used]):
        # Wilson's ends are where the score test is at its limit
        away, spread = np.abs(end - share), np.sqrt(end * (1 - end) / rows)
        inner = (end > 0) & (end < 1)
        assert inner.sum() > 4 and (away[~inner] == 0).all()
        np.testing.assert_allclose(away[inner], z * spread[inner], rtol=1e-6)
    assert len(pl.DataFrame(found)) == len(pd.DataFrame(found)) == 10
    ece = np.nansum(np.abs(found["confidence"] - found["frequency"]) * total) / total.sum()
    assert report["ece"].value == pytest.approx(ece, rel=1e-12)
    part = report.groups["de"].calibration()
    assert part["weight"].sum() == pytest.approx(w[GROUPS == "de"].sum())
    with pytest.raises(ValueError, match=r"^calibration: needs one of ece, mce"):
        fe.Accumulator("accuracy").compute().calibration()


def test_plot_calibration(report):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert report.plot_calibration(axes) is axes
    table = report.calibration()
    used = table["weight"] > 0
    (points,) = axes.containers
    np.testing.assert_array_equal(points[0].get_xdata(), table["confidence"][used])
    np.testing.assert_array_equal(points[0].get_ydata(), table["frequency"][used])
    ends = [segment[:, 1] for segment in points[2][0].get_segments()]
    np.testing.assert_allclose(ends, np.stack([table["low"], table["high"]], 1)[used])
    assert axes.get_xlabel() == "confidence"
    assert points[0].get_color() == LIGHT["first"] and points[0].get_linestyle() == "-"
    binary = fe.Accumulator("ece", task="binary").update([0.0, 1.0], [0.2, 0.7]).compute()
    assert binary.plot_calibration(Figure().subplots()).get_xlabel() == "probability of target 1"


def test_a_figure_of_its_own_looks_like_the_site(report):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    axes = report.plot_calibration()
    assert axes.xaxis.label.get_color() == LIGHT["ink"]
    assert set(axes.xaxis.label.get_fontfamily()) <= {*FONTS, "sans-serif"}
    pyplot.close(axes.figure)


def test_pages(report):
    pytest.importorskip("jinja2")
    page = report.to_html("My <model>")
    assert page.startswith("<!DOCTYPE html>") and "My &lt;model&gt;: 400 rows" in page
    assert "&lt;b&gt;fr&lt;/b&gt;" in page and "<b>fr</b>" not in page
    for words in ("Reliability", "Worst groups", "McFadden", "Settings", "logits"):
        assert words in page
    divergence = fe.Accumulator("kl_divergence", task="divergence")
    assert (
        "kl_divergence of a row"
        in divergence.update([[0.5, 0.5]], [[0.1, 0.9]]).compute().to_html()
    )
    fe.Accumulator("accuracy").compute().to_html()  # of no rows
    tables = report._repr_html_()
    assert tables.startswith("<table>") and "&lt;b&gt;fr&lt;/b&gt;" in tables


def test_equality(report):
    again = accumulator().compute()
    assert report == again and report["ece"] == again["ece"]
    assert report.groups["de"] == again.groups["de"] != again.groups["en"]
    assert report != accumulator(WEIGHTS).compute()
    assert report != accumulator(groups=None).compute()
    assert report["accuracy"] != report["ece"] and report != 1 and report["ece"] != 1
    assert report != report.groups["de"] != report
    nan = [fe.Accumulator("accuracy").compute() for _ in range(2)]
    assert math.isnan(nan[0]["accuracy"].value) and nan[0] == nan[1]
    sums = [accumulator(labels=LABELS[s], logits=LOGITS[s], groups=GROUPS[s])
            for s in (slice(100), slice(100, None))]  # fmt: skip
    assert sum(sums).compute() == report


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_copies(way, weights):
    acc = accumulator(weights, clusters=np.arange(ROWS) // 5)
    report = acc.compute()
    there = way(report)
    part, one, groups = way(report.groups["en"]), way(report["brier"]), way(report.groups)
    acc.update(LABELS, LOGITS)
    assert there == report and type(there) is fe.Report
    assert part == report.groups["en"] and one == report["brier"]
    assert groups["de"] == report.groups["de"]
    assert one.quantile(0.3) == report["brier"].quantile(0.3)
    assert one.cluster_stderr == report["brier"].cluster_stderr > 0
    assert there.to_json() == report.to_json()
    np.testing.assert_array_equal(there.calibration()["low"], report.calibration()["low"])
    own = fe.Accumulator("renyi_divergence(alpha=2.0)", task="divergence")
    found = own.update([[0.5, 0.5]], [[0.1, 0.9]]).compute()
    assert way(found) == found


def test_they_show_what_users_need(report):
    public = {name for name in dir(report) if not name.startswith("_")}
    assert public == {
        "calibration", "get", "groups", "items", "keys", "plot_calibration", "rows", "to_dict",
        "to_frame", "to_html", "to_json", "values",
    }  # fmt: skip
    assert report._ipython_key_completions_() == METRICS
    assert sorted(report.groups._ipython_key_completions_()) == ["<b>fr</b>", "de", "en"]
    assert "accuracy: " in repr(report) and "\n" not in repr(report)
    names = [name for name, _ in report.groups.items()]
    assert all(f"{name!r}: {report.groups[name]!r}" in repr(report.groups) for name in names)
    shown = report._repr_html_()
    assert "<caption>Metrics</caption>" in shown and "None" not in shown
    in_bits = fe.Accumulator(METRICS, kind="logits", base=2).update(LABELS, LOGITS).compute()
    assert "<td>bits</td>" in in_bits._repr_html_() and "<td>nats</td>" in shown
    assert "<td>nats</td>" not in in_bits._repr_html_()


USES = {
    "results": lambda one: [one[name].stderr for name in one],
    "extremes": lambda one: [one[name].max for name in one],
    "equality": lambda one: one == one,
    "data": lambda one: one.to_json(),
    "frame": lambda one: one.to_frame("pandas"),
    "page": lambda one: one.to_html(),
    "text": repr,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("task", ["sparse", "binary"])
def test_what_nobody_holds_is_gone_at_once(task, use):
    """Nothing holds itself: the state of a report may have many megabytes, and few objects."""
    metrics = [m.name.replace("{k}", "2").replace("{alpha},{beta}", "0.5,0.5")
               for m in RECORDS.values() if task in m.tasks]  # fmt: skip
    acc = fe.Accumulator(metrics, task=task)
    labels = np.arange(40) % 2
    pred = np.full((40, 2), 0.5) if task == "sparse" else np.full(40, 0.5)
    acc.update(labels, pred, groups=np.arange(40) % 3, clusters=np.arange(40) // 2)
    gc.collect()
    gc.disable()
    try:
        report = acc.compute()
        USES[use](report)
        for part in report.groups.values():
            USES[use](part)
        gone = [weakref.ref(x) for x in (report, report.groups, part)]
        del report, part
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()
