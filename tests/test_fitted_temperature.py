"""`fastent score --fit-temperature` has the bits of `fe.fit_temperature`, however rows are cut."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.cli import main

ROWS, CLASSES = 3000, 4
RNG = np.random.default_rng(21)
LOGITS = (RNG.normal(size=(ROWS, CLASSES)) * 3).astype(np.float32)
LABELS = np.where(RNG.random(ROWS) < 0.6, LOGITS.argmax(1), RNG.integers(0, CLASSES, ROWS))
GROUPS = np.array(["de", "en", "fr"])[RNG.integers(0, 3, ROWS)]
WEIGHTS = RNG.integers(0, 4, ROWS) / 2


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, array in (("x", LOGITS), ("y", LABELS), ("g", GROUPS), ("w", WEIGHTS)):
        np.save(f"{name}.npy", array)
        for k, part in enumerate(np.split(array, [1, 700, 701, 2000])):
            np.save(f"{name}-{k}.npy", part)


def fitted(*words, x="x.npy", y="y.npy", g="g.npy"):
    run = ["score", *x.split(), "--labels", *y.split(), "--kind", "logits", "--fit-temperature"]
    if "--groups" in words:
        words = [
            w for word in words for w in ([word, *g.split()] if word == "--groups" else [word])
        ]
    assert main([*run, *words, "--json", "r.json", "--quiet"]) == 0
    return json.loads(Path("r.json").read_text())


def plain(found):
    return {k: repr(v) if not np.isfinite(v) else v for k, v in found._asdict().items()}


def cut(name):
    return " ".join(f"{name}-{k}.npy" for k in range(5))


def test_the_bits_of_the_function():
    document = fitted("--groups")
    found = document["fitted_temperature"]
    groups = found.pop("groups")
    assert found == plain(fe.fit_temperature(LABELS, LOGITS))
    each = fe.fit_temperature(LABELS, LOGITS, groups=GROUPS)
    assert groups == {name: plain(each[name]) for name in ("de", "en", "fr")}
    assert found["temperature"] > 1 and found["loss"] < found["loss_at_one"]
    # The metrics stay at temperature 1.
    assert document["metrics"]["cross_entropy"]["value"] == found["loss_at_one"]
    assert document["settings"]["temperature"] == 1.0


def test_any_cut_and_any_threads():
    whole = fitted("--groups", "--num-threads", "1")
    for threads in ("1", "3"):
        parts = fitted("--groups", "--num-threads", threads, x=cut("x"), y=cut("y"), g=cut("g"))
        assert parts["fitted_temperature"] == whole["fitted_temperature"]


def test_weights_of_rows_and_classes_and_ignored_rows():
    found = fitted("--weights", "w.npy", "--class-weight", "1,2,0.5,0", "--ignore-index", "1")
    expected = fe.fit_temperature(
        LABELS, LOGITS, sample_weight=WEIGHTS, class_weight=[1, 2, 0.5, 0], ignore_index=1
    )
    assert found["fitted_temperature"] == plain(expected)


def test_no_minimum():
    """Labels that all have the largest logits fit at 0, others of all rows at once at inf."""
    best = LOGITS.argmax(1)
    np.save("y.npy", best)
    found = fitted("--groups")["fitted_temperature"]
    assert (found["temperature"], found["stderr"]) == (0.0, "nan")
    assert all(one["temperature"] == 0.0 for one in found["groups"].values())
    np.save("y.npy", LOGITS.argmin(1))
    found = fitted()["fitted_temperature"]
    assert found == plain(fe.fit_temperature(LOGITS.argmin(1), LOGITS))
    assert found["temperature"] == "inf"


def test_rows_with_nan_that_are_left_out():
    broken = LOGITS.copy()
    broken[[3, 2500], [1, 2]] = np.nan
    np.save("x.npy", broken)
    kept = ~np.isnan(broken).any(1)
    found = fitted("--nan-policy", "omit")["fitted_temperature"]
    assert found == plain(fe.fit_temperature(LABELS[kept], LOGITS[kept]))
    found = fitted("--nan-policy", "propagate")["fitted_temperature"]
    assert set(found.values()) == {"nan"}


def test_files_that_fail_are_left_out_of_it_too():
    np.save("y-3.npy", np.full(1299, 77))
    found = fitted("--on-error", "skip", x=cut("x"), y=cut("y"))["fitted_temperature"]
    kept = np.r_[0:701, 2000:3000]
    assert found == plain(fe.fit_temperature(LABELS[kept], LOGITS[kept]))


@pytest.mark.slow
def test_on_a_cluster():
    pytest.importorskip("distributed")
    found = fitted("--groups", "--dask", "local:2", x=cut("x"), y=cut("y"), g=cut("g"))
    assert found["fitted_temperature"] == fitted("--groups")["fitted_temperature"]


def test_shown_on_the_terminal_and_on_the_page(capsys):
    words = ["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--fit-temperature"]
    assert main([*words, "--groups", "g.npy", "--html", "page.html"]) == 0
    found = fe.fit_temperature(LABELS, LOGITS)
    shown = capsys.readouterr().out
    assert "Fitted temperature" in shown and "at temperature 1" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("all ")]
    assert float(line.split()[1]) == pytest.approx(found.temperature, rel=1e-2)
    assert float(line.split()[-2]) == pytest.approx(found.loss, rel=1e-5)
    page = Path("page.html").read_text()
    assert "Fitted temperature" in page and f'data-value="{found.temperature!r}"' in page


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--kind", "probs"], "needs --task sparse and --kind logits"),
     (["--kind", "logits", "--task", "binary"], "needs --task sparse and --kind logits"),
     (["--kind", "logits", "--temperature", "2"], "expected no --temperature"),
     (["--kind", "logits", "--label-smoothing", "0.1"], "expected no --label-smoothing"),
     (["--kind", "logits", "--base", "2"], "expected no --base"),
     (["--kind", "logits", "--eps", "0.01"], "expected no --eps")],
)  # fmt: skip
def test_what_has_another_loss_is_refused(words, told, capsys):
    assert main(["score", "x.npy", "--labels", "y.npy", "--fit-temperature", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
