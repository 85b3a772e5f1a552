"""The task topk of accumulators: the function's values, whatever the cut, groups, states."""

import json
import pickle

import numpy as np
import pytest

import fastent as fe
import fastent.dask
from fastent import metrics as registry
from fastent._topk import COLUMNS

N, C, K = 300, 40, 6
NAMES = registry.names("topk")


def made(seed=0):
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(N, C)) * 2
    q = (p + rng.normal(size=(N, C))).astype(np.float32)
    a = p - np.logaddexp.reduce(p, axis=1)[:, None]
    ids = np.argsort(-a, axis=1)[:, :K]
    return ids, np.take_along_axis(a, ids, 1), q


IDS, LOGPROBS, Q = made()


def accumulator(**options):
    return fe.Accumulator(NAMES, **{"task": "topk", "kind": "logits"} | options)


def test_metrics_are_the_means_of_the_function():
    assert NAMES == list(COLUMNS)
    weights = np.random.default_rng(1).exponential(size=N)
    weights[::7] = 0
    report = accumulator().update((IDS, LOGPROBS), Q, sample_weight=weights).compute()
    rows = fe.topk_divergence(IDS, LOGPROBS, Q)
    for name, values in zip(COLUMNS, rows, strict=True):
        wanted = np.sum(values * weights) / weights.sum()
        assert np.isclose(report[name].value, wanted, rtol=1e-13), name
        assert report[name].count == np.count_nonzero(weights)
        assert report[name].max == values[weights > 0].max()
    assert report["low"].value <= report["high"].value and report["low"].stderr > 0


def test_any_cut_and_merge_gives_the_same_bits():
    groups = np.arange(N) % 3
    clusters = np.arange(N) // 10
    whole = accumulator().update((IDS, LOGPROBS), Q, groups=groups, clusters=clusters)
    parts = []
    for start, stop in [(200, 300), (0, 1), (1, 200)]:
        s = slice(start, stop)
        one = accumulator(num_threads=1)
        one.update((IDS[s], LOGPROBS[s]), Q[s], groups=groups[s], clusters=clusters[s])
        parts.append(pickle.loads(pickle.dumps(one)))
    merged = fe.merge(parts)
    assert json.dumps(merged.state_dict()) == json.dumps(whole.state_dict())
    again = fe.Accumulator.from_state_dict(json.loads(json.dumps(whole.state_dict())))
    report, other = whole.compute(), again.compute()
    assert report == other
    own = fe.topk_divergence(IDS[1::3], LOGPROBS[1::3], Q[1::3]).low
    assert np.isclose(report.groups[1]["low"].value, own.mean(), rtol=1e-14)
    assert report["low"].cluster_stderr > 0
    rolling = fe.RollingAccumulator(NAMES, window=2, task="topk", kind="logits")
    for s in (slice(0, 50), slice(50, 100), slice(100, 150)):
        rolling.update((IDS[s], LOGPROBS[s]), Q[s])
    wanted = accumulator().update((IDS[50:150], LOGPROBS[50:150]), Q[50:150]).compute()
    assert rolling.compute() == wanted


def test_options_say_what_the_function_is_told():
    logits = np.linspace(0, 1, 12)
    ids, a = np.array([[3, 5, 9]]), np.log([[0.4, 0.3, 0.01]])
    for options, keywords in (({"cap": None}, {"cap": None}), ({"ranks": 2}, {"ranks": 2})):
        acc = accumulator(topk_options=options).update((ids, a), logits)
        wanted = fe.topk_divergence(ids, a, logits, **keywords)
        assert acc.compute()["high"].value == wanted.high[0]
    ranked = accumulator().update((ids, a, [[1, 2, 7]]), logits).compute()
    assert ranked["high"].value == wanted.high[0]
    two = accumulator(topk_options={"classes": 12}).update(
        (ids[:, :2], a[:, :2]), (ids, a, [[1, 2, 7]])
    )
    wanted = fe.topk_divergence(ids[:, :2], a[:, :2], (ids, a, [[1, 2, 7]]), classes=12)
    assert two.compute()["low"].value == wanted.low[0]
    with pytest.raises(ValueError, match="merge: topk_options differs"):
        accumulator().merge(accumulator(topk_options={"cap": None}))
    assert accumulator(topk_options={"cap": np.float32(0.5)}).merge(
        accumulator(topk_options={"cap": 0.5})
    )
    bits = accumulator(base=2).update((IDS, LOGPROBS), Q).compute()
    nats = accumulator().update((IDS, LOGPROBS), Q).compute()
    assert np.isclose(bits["low"].value * np.log(2), nats["low"].value)
    assert bits["tail_p"].value == nats["tail_p"].value


def test_nan_rows_are_nan_alone():
    q = Q.copy()
    q[5, 3] = np.nan
    report = accumulator().update((IDS, LOGPROBS), q, groups=(np.arange(N) == 5) * 1).compute()
    for name in NAMES:
        assert np.isnan(report[name].value)
        assert np.isnan(report.groups[1][name].value) and np.isfinite(report.groups[0][name].value)


def test_refused():
    with pytest.raises(ValueError, match="topk_options: applies to task 'topk' only"):
        fe.Accumulator("cross_entropy", topk_options={"cap": None})
    with pytest.raises(ValueError, match="topk_options: expected cap, ranks, classes, got 'caps'"):
        accumulator(topk_options={"caps": 1})
    with pytest.raises(ValueError, match="topk_options: ranks: expected one number"):
        accumulator(topk_options={"ranks": [1, 2]})
    with pytest.raises(ValueError, match="label_smoothing: does not apply to task 'topk'"):
        accumulator(label_smoothing=0.1)
    with pytest.raises(ValueError, match="temperature: applies to logits only"):
        accumulator(kind="logprobs", temperature=2.0)
    with pytest.raises(TypeError, match="true: expected a pair"):
        fastent.dask.accumulate("low", IDS, Q, task="topk")
    with pytest.raises(TypeError, match="true: expected a pair"):
        accumulator().update(IDS, Q)
    acc = accumulator().update((IDS, LOGPROBS), Q)
    before = json.dumps(acc.state_dict())
    ids = IDS.copy()
    ids[250, 1] = ids[250, 0]
    with pytest.raises(ValueError, match=r"ids: .* twice in row 250"):
        acc.update((ids, LOGPROBS), Q)
    with pytest.raises(ValueError, match="expected 40 classes, got 41"):
        acc.update((IDS, LOGPROBS), np.zeros((N, 41)))
    assert json.dumps(acc.state_dict()) == before
