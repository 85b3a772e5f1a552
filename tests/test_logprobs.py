"""Task logprob: log-probabilities that are already there, from arrays and from columns of files."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastent as fe
from fastent.cli import main

N = 90
RNG = np.random.default_rng(5)
LOGPROBS = -RNG.random(N) * 9
BYTES = RNG.integers(1, 12, N)
NAMES = np.array(["a", "b", "c"])[np.arange(N) % 3]
METRICS = ["cross_entropy", "perplexity", "bits", "bits_per_byte"]


def accumulator(**options):
    return fe.Accumulator(METRICS, task="logprob", **options)


def numbers(report):
    found = {"": report, **report.groups}
    return {
        (group, name): (part[name].value, part[name].stderr, part[name].cluster_stderr)
        for group, part in found.items()
        for name in METRICS
    }


def test_what_the_metrics_are():
    found = accumulator().update(LOGPROBS, bytes=BYTES, clusters=np.arange(N) // 9).compute()
    mean = math.fsum(-LOGPROBS) / N
    assert found["cross_entropy"].value == mean
    assert found["perplexity"].value == math.exp(mean)
    assert found["bits"].value == mean / math.log(2)
    ratio = -LOGPROBS.sum() / BYTES.sum() / math.log(2)
    bits = found["bits_per_byte"]
    assert bits.value == pytest.approx(ratio, rel=1e-14)
    part = -LOGPROBS / math.log(2) - ratio * BYTES
    expected = math.sqrt((part**2).sum() * N / (N - 1)) / BYTES.sum()
    assert bits.stderr == pytest.approx(expected, rel=1e-12)
    sums = part.reshape(-1, 9).sum(1)
    expected = math.sqrt((sums**2).sum() * 10 / 9) / BYTES.sum()
    assert bits.cluster_stderr == pytest.approx(expected, rel=1e-12)
    assert found["cross_entropy"].quantile(0.5) == pytest.approx(np.median(-LOGPROBS), rel=0.05)


def test_documents_of_lm_eval():
    file = next((Path(__file__).parent / "fixtures/lm_eval/A").glob("samples_mini_rolling*"))
    pairs = [json.loads(line)["bits_per_byte"] for line in file.read_text().splitlines()]
    logprobs, counts = zip(*pairs, strict=True)
    found = accumulator().update(logprobs, bytes=counts).compute()["bits_per_byte"]
    assert round(found.value, 10) == 0.0323946587 and round(found.stderr, 10) == 0.0137546448


def test_any_order_and_cut_gives_the_same_bits():
    weights = RNG.integers(0, 3, N)
    whole = accumulator().update(
        LOGPROBS, bytes=BYTES, sample_weight=weights, groups=NAMES, clusters=np.arange(N) // 4
    )
    order = RNG.permutation(N)
    parts = []
    for some in np.array_split(order, 7):
        parts.append(accumulator().update(
            LOGPROBS[some], bytes=BYTES[some], sample_weight=weights[some], groups=NAMES[some],
            clusters=some // 4,
        ))  # fmt: skip
    merged = fe.merge(parts[::-1])
    assert numbers(merged.compute()) == numbers(whole.compute())
    again = fe.Accumulator.from_state_dict(json.loads(json.dumps(merged.state_dict())))
    assert numbers(again.compute()) == numbers(whole.compute())


def test_float32_and_base():
    single = LOGPROBS.astype(np.float32)
    found = fe.Accumulator(METRICS, task="logprob", base=2).update(single, bytes=BYTES).compute()
    assert found["cross_entropy"].value == pytest.approx(-single.mean() / math.log(2), rel=1e-6)
    plain = accumulator().update(single, bytes=BYTES).compute()
    for name in ("perplexity", "bits", "bits_per_byte"):
        assert found[name].value == pytest.approx(plain[name].value, rel=1e-12)
        assert found[name].stderr == pytest.approx(plain[name].stderr, rel=1e-12)


def test_special_numbers():
    loss = fe.Accumulator("cross_entropy", task="logprob")
    assert loss.update([-np.inf, -1.0]).compute()["cross_entropy"].value == np.inf
    loss.reset().update([np.nan, -1.0])
    assert math.isnan(loss.compute()["cross_entropy"].value)
    loss.reset().update([5e-4, 0.0])  # within what a sum of probabilities may be off
    assert loss.compute()["cross_entropy"].value == -2.5e-4
    with pytest.raises(ValueError, match=r"logprobs: .* got 0\.5 in row 1"):
        loss.update([-1.0, 0.5])
    assert loss.compute()["cross_entropy"].count == 2
    assert loss.update([-1.0, 0.5], sample_weight=[1, 0]).compute()["cross_entropy"].count == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"kind": "logits"}, "kind: expected 'logprobs'"),
        ({"temperature": 2.0}, "temperature: does not apply"),
        ({"row_sums": "rescale"}, "row_sums: expected"),
        ({"eps": 0.1}, "eps: does not apply"),
        ({"axis": 0}, "axis: does not apply"),
        ({"base": 1.0}, "base: expected"),
    ],
)
def test_options_that_do_not_apply(options, why):
    with pytest.raises(ValueError, match=why):
        accumulator(**options)


def test_operands_that_do_not_fit():
    for update, error, why in (
        (lambda acc: acc.update(LOGPROBS), ValueError, "bytes: expected the bytes"),
        (lambda acc: acc.update(LOGPROBS, BYTES), TypeError, "pred: task 'logprob'"),
        (lambda acc: acc.update(LOGPROBS, bytes=-BYTES), ValueError, "bytes: .* in row 0"),
        (lambda acc: acc.update(["a"], bytes=[1]), TypeError, "logprobs: expected numbers"),
        (lambda acc: acc.update(LOGPROBS, bytes=BYTES[1:]), ValueError, r"expected shape \(90,\)"),
    ):
        with pytest.raises(error, match=why):
            update(accumulator())
    with pytest.raises(ValueError, match="bytes: applies to task 'logprob' only"):
        fe.Accumulator("accuracy").update([0], [[1.0]], bytes=[1])
    with pytest.raises(TypeError, match="pred: expected an array"):
        fe.Accumulator("accuracy").update([0])


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"lp": LOGPROBS, "bytes": BYTES, "lang": NAMES, "doc": np.arange(N) // 9})
    frame.to_parquet("log.parquet")
    words = ["score", "log.parquet:lp", "--task", "logprob"]
    more = ["--bytes", "bytes", "--groups", "lang", "--clusters", "doc", "--worst", "2",
            "--rows", "rows.parquet", "--json", "report.json", "--quiet"]  # fmt: skip
    assert main([*words, *more]) == 0
    found = json.loads(Path("report.json").read_text())
    acc = accumulator().update(LOGPROBS, bytes=BYTES, groups=NAMES, clusters=np.arange(N) // 9)
    report = acc.compute()
    for name in METRICS:
        assert found["metrics"][name]["value"] == report[name].value
        assert found["metrics"][name]["cluster_stderr"] == report[name].cluster_stderr
        assert found["groups"]["b"][name]["value"] == report.groups["b"][name].value
    assert [w["row"] for w in found["worst"]] == np.argsort(LOGPROBS)[:2].tolist()
    rows = pd.read_parquet("rows.parquet")
    assert rows.cross_entropy.tolist() == (-LOGPROBS).tolist()
    np.save("table.npy", np.arange(20))
    frame.assign(token=BYTES).to_parquet("log.parquet")
    again = [*words, "--labels", ":token", "--token-bytes", "table.npy", "--json", "report.json"]
    assert main([*again, "--quiet"]) == 0
    found = json.loads(Path("report.json").read_text())["metrics"]
    assert found["bits_per_byte"]["value"] == report["bits_per_byte"].value
    frame.assign(lp=-LOGPROBS).to_parquet("log.parquet")
    capsys.readouterr()
    assert main(words) == 2
    assert "log.parquet:lp: expected log-probabilities" in capsys.readouterr().err
