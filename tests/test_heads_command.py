"""`--head` in score and compare: hidden states of files, whose logits are nowhere stored."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastent as fe
from fastent.cli import checkpoint, main
from fastent.io import Reading, Reference, open_source, shards
from fastent.io.heads import HeadRows
from fastent.io.reading import Head
from fastent.io.source import Buffer

ROWS, CLASSES, WIDTH = 90, 40, 12
RNG = np.random.default_rng(4)
HIDDEN = RNG.normal(size=(ROWS, WIDTH)).astype(np.float32)
HEAD = RNG.normal(size=(CLASSES, WIDTH)).astype(np.float32)
OTHER = (HEAD + 0.1 * RNG.normal(size=HEAD.shape)).astype(np.float32)
NORM = RNG.exponential(size=WIDTH).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("h.npy", HIDDEN)
    np.save("y.npy", LABELS)
    save_file({"lm_head.weight": HEAD, "norm": NORM, "other": OTHER}, "model.safetensors")
    layers = np.stack([HIDDEN + 1, HIDDEN - 1, HIDDEN], axis=1)
    save_file({"hidden_states": layers, "token_ids": LABELS}, "request.safetensors")


def run(*words):
    assert main([*words, "--json", "report.json", "--quiet"]) == 0
    return json.loads(Path("report.json").read_text())


LM = "model.safetensors:lm_head.weight"


def test_score_has_every_metric_of_the_products():
    document = run("score", "h.npy", "--labels", "y.npy", "--head", LM)
    logits = HIDDEN @ HEAD.T
    acc = fe.Accumulator(list(document["metrics"]), kind="logits").update(LABELS, logits)
    report = acc.compute()
    for name, entry in document["metrics"].items():
        assert np.isclose(entry["value"], report[name].value, rtol=1e-5), name
    loss = fe.linear_cross_entropy(LABELS, HIDDEN, HEAD, reduction="mean")
    assert np.isclose(document["metrics"]["cross_entropy"]["value"], loss, rtol=1e-6)
    assert document["inputs"][0]["classes"] == CLASSES


def test_norms_caps_and_scales():
    words = ["--norm", "model.safetensors:norm,1e-3", "--softcap", "5", "--scale", "0.5"]
    document = run("score", "h.npy", "--labels", "y.npy", "--head", LM, *words)
    loss = fe.linear_cross_entropy(
        LABELS, HIDDEN, HEAD, norm=(NORM, 1e-3), softcap=5.0, scale=0.5, reduction="mean"
    )
    assert np.isclose(document["metrics"]["cross_entropy"]["value"], loss, rtol=1e-6)


@pytest.mark.parametrize("name", ["request.safetensors", "request.npz", "packed.npz"])
def test_the_last_layer_of_hidden_states_counts(name):
    layers = np.stack([HIDDEN + 1, HIDDEN - 1, HIDDEN], axis=1)
    np.savez("request.npz", hidden_states=layers)
    np.savez_compressed("packed.npz", hidden_states=layers)
    document = run("score", name, "--labels", "y.npy", "--head", LM)
    loss = fe.linear_cross_entropy(LABELS, HIDDEN, HEAD, reduction="mean")
    assert document["rows"] == ROWS
    assert np.isclose(document["metrics"]["cross_entropy"]["value"], loss, rtol=1e-6)


def test_compare_with_own_and_shared_heads():
    np.save("g.npy", HIDDEN + np.float32(0.05))
    np.save("q.npy", (HIDDEN + np.float32(0.05)) @ OTHER.T)
    words = ["--head-p", LM, "--head-q", "model.safetensors:other"]
    own = run("compare", "h.npy", "g.npy", *words, "--labels", "y.npy")
    wanted = fe.linear_kl_divergence(HIDDEN, HEAD, HIDDEN + 0.05, OTHER, reduction="mean")
    assert np.isclose(own["metrics"]["kl_divergence"]["value"], wanted, rtol=1e-4)
    dense = run("compare", "h.npy", "q.npy", "--head-p", LM, "--kind", "logits")
    assert np.isclose(dense["metrics"]["kl_divergence"]["value"], wanted, rtol=1e-4)
    shared = run("compare", "h.npy", "g.npy", "--head", LM)
    wanted = fe.linear_kl_divergence(HIDDEN, HEAD, HIDDEN + 0.05, HEAD, reduction="mean")
    assert np.isclose(shared["metrics"]["kl_divergence"]["value"], wanted, rtol=1e-4)


def test_lists_against_hidden_states():
    z = HIDDEN @ OTHER.T
    log_p = z - np.logaddexp.reduce(z.astype(float), axis=1)[:, None]
    ids = np.argsort(-z, axis=1)[:, :6]
    np.savez("t.npz", ids=ids, logprobs=np.take_along_axis(log_p, ids, 1))
    document = run("compare", "t.npz", "h.npy", "--head-q", LM)
    rows = fe.topk_divergence(ids, np.take_along_axis(log_p, ids, 1), HIDDEN @ HEAD.T)
    assert np.isclose(document["metrics"]["low"]["value"], rows.low.mean(), rtol=1e-4)


def test_rows_can_be_sent_and_read_from_anywhere():
    hidden = open_source(Reference("h.npy"), "predictions", Reading())
    source = HeadRows(hidden, Head(Reference("model.safetensors", "lm_head.weight")))
    again = pickle.loads(pickle.dumps(source))
    source.open()
    found = again.read(20, 50, Buffer())
    np.testing.assert_allclose(found, HIDDEN[20:50] @ HEAD.T, rtol=1e-4, atol=1e-5)
    assert (source.read(20, 50, Buffer()) == found).all()


HEADED = {
    "score": ["score", "h.npy", "--labels", "y.npy", "--head", LM],
    "compare": ["compare", "h.npy", "h.npy", "--head-p", LM, "--head-q", "model.safetensors:other"],
    "lists": ["compare", "t.npz", "h.npy", "--head-q", LM],
}


def bad_row(row):
    """Hidden states with a NaN, and lists of the model's largest classes."""
    hidden = HIDDEN.copy()
    hidden[row, 3] = np.nan
    np.save("h.npy", hidden)
    log_p = (HIDDEN @ HEAD.T).astype(float)
    log_p -= np.logaddexp.reduce(log_p, axis=1)[:, None]
    ids = np.argsort(-log_p, axis=1)[:, :6]
    np.savez("t.npz", ids=ids, logprobs=np.take_along_axis(log_p, ids, 1))


def values(document):
    return {name: entry["value"] for name, entry in document["metrics"].items()}


@pytest.mark.parametrize("command", HEADED)
def test_nan_policies_pieces_threads_and_checkpoints(command, capsys, monkeypatch):
    bad_row(40)
    words = HEADED[command]
    assert main([*words, "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"fastent: h.npy x {LM}: row 40 gives NaN") and told.count("\n") == 1
    assert "nan" in values(run(*words, "--nan-policy", "propagate")).values()
    omitted = run(*words, "--nan-policy", "omit")
    assert omitted["nan_rows"] == 1
    assert {entry["count"] for entry in omitted["metrics"].values()} == {ROWS - 1}
    monkeypatch.setattr(shards, "PIECE_ROWS", 7)
    monkeypatch.setattr(checkpoint, "FIRST_SECONDS", 0)
    monkeypatch.setattr(checkpoint, "LONGEST_SECONDS", 0)
    more = ["--nan-policy", "omit", "--num-threads", "3", "--checkpoint", "progress"]
    found = run(*words, *more)
    # products of other blocks may differ in their last bits
    assert values(found) == pytest.approx(values(omitted), rel=1e-5, abs=1e-7)
    assert found["nan_rows"] == 1 and not Path("progress").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--head", "model.safetensors:norm"], "model.safetensors:norm: lines of one numbers"),
        (["--head", LM, "--kind", "probs"], "--kind probs: a head makes logits"),
        (["--norm", "y.npy", "--kind", "logits"], "--norm: needs --head"),
        (["--head", LM, "--norm", "model.safetensors:norm,x"], "expected FILE or FILE,EPS"),
        (["--head", LM, "--norm", "y.npy"], "y.npy: 90 numbers, expected 12"),
        (["--head", LM, "--softcap", "-1"], "--softcap: expected a number above 0"),
        (["--head", "nothing.npy"], "nothing.npy: no such file"),
    ],
)
def test_refused(words, message, capsys):
    assert main(["score", "h.npy", "--labels", "y.npy", *words]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
