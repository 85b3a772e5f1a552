"""What an accumulator holds depends on its rows alone: no order, split, merge or copy shows."""

import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from streams import WEIGHTS, C, N, accumulator, add, batch, every_task, metric_names, rng

import fastent as fe
from fastent.backends.cython.accumulate.state import State


@every_task
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("named", [False, True])
def test_any_split_order_and_merge_gives_the_same_state(task, weights, named):
    args, _ = batch(task)
    r = rng(8)
    w = WEIGHTS[weights]
    more = {}
    if named:
        more = {"groups": r.integers(0, 9, N), "clusters": r.integers(0, 30, N).astype(str)}

    def update(acc, rows):
        part = {name: values[rows] for name, values in more.items()}
        part["sample_weight"] = None if w is None else w[rows]
        return add(acc, task, [a[rows] for a in args], **part)

    whole = update(accumulator(task), np.arange(N)).state_dict()
    for _ in range(3):
        pieces = np.split(r.permutation(N), np.sort(r.integers(0, N, 6)))
        parts = [accumulator(task) for _ in range(3)]
        for i, rows in enumerate(pieces):
            update(parts[i % 3], rows)
        merged = parts[1] + parts[2]
        merged.merge(parts[0])
        assert merged.state_dict() == whole


def wild(r, n):
    """Two columns over all of float64, now and then with values that are no numbers."""
    v = np.ldexp(r.uniform(-1, 1, (2, n)), r.integers(-1074, 1000, (2, n)))
    if r.uniform() < 0.3:
        v[:, r.integers(0, n, 3)] = r.choice([np.inf, -np.inf, np.nan, 0.0, -0.0], 3)
    return v


@pytest.mark.parametrize("seed", range(60))
def test_states_of_wild_rows_are_the_same_for_any_split(seed):
    r = rng(seed)
    n = int(r.integers(7, 900))
    values = wild(r, n)
    weights = [
        None,
        r.exponential(size=n) * r.integers(0, 2, n),
        r.integers(0, 2, n) * 1.0,
        10.0 ** r.uniform(-300, 300, n),
    ][seed % 4]
    targets = None if seed % 5 else r.integers(0, 3, n) * 0.5
    groups = None if seed % 2 else r.integers(0, 20, n)
    clusters = None if seed % 3 else r.integers(0, 20, n)
    labels = r.integers(0, 2**31, n)

    def state(rows=()):
        found = State(
            [("a", 0, 0, 0, True), ("b", 1, 0, 1, True), ("c", 0, 3, 0, True)], 5, 0, 1, True
        )
        part = [None if x is None else x[rows] for x in (weights, targets)]
        names = [None if x is None else x[rows] for x in (groups, clusters)]
        if len(rows):
            found.add(np.ascontiguousarray(values[:, rows]), *part, None, labels[rows], *names)
        return found

    a, b, c = (state(rows) for rows in np.array_split(r.permutation(n), 3))
    merged = state().merge(c).copy().merge(state().load(a.to_dict())).merge(b)
    assert merged.to_dict() == state(np.arange(n)).to_dict()


def test_blocks_do_not_show():
    r = rng(9)
    n = 150_000
    labels, logits = r.integers(0, 3, n), r.standard_normal((n, 3))
    groups = r.integers(0, 3, n)
    names = ["cross_entropy", "ece", "skill", "top2_accuracy"]
    once = fe.Accumulator(names, kind="logits").update(labels, logits, groups=groups)
    parts = fe.Accumulator(names, kind="logits")
    for rows in np.array_split(np.arange(n), 7):
        parts.update(labels[rows], logits[rows], groups=groups[rows].tolist())
    assert parts.state_dict() == once.state_dict()


def test_rows_of_weight_zero_and_ones_leave_the_state_of_no_weights():
    (labels, logits), _ = batch("sparse")
    plain = accumulator("sparse").update(labels, logits).state_dict()
    assert (
        accumulator("sparse").update(labels, logits, sample_weight=np.ones(N)).state_dict() == plain
    )
    bad = np.concatenate([np.full((3, C), np.nan), logits])
    acc = accumulator("sparse").update(
        np.concatenate([[0, 1, 2], labels]),
        bad,
        sample_weight=np.concatenate([np.zeros(3), np.ones(N)]),
    )
    assert acc.state_dict() == plain


def test_groups_beyond_a_thousand_keep_row_metrics_only():
    r = rng(2)
    n = 6000
    labels, logits = r.integers(0, C, n), r.standard_normal((n, C))
    groups = r.permutation(n) % 1001
    whole = accumulator("sparse").update(labels, logits, groups=groups)
    few = accumulator("sparse").update(labels, logits, groups=groups % 1000)
    report, detailed = whole.compute(), few.compute()
    assert "ece" in detailed.groups[3] and "ece" not in report.groups[3]
    with pytest.raises(ValueError, match="1000 groups"):
        report.groups[3]["brier"].quantile(0.5)
    for name in metric_names("sparse"):
        assert report[name].value == detailed[name].value
    # the same state, however the groups came to be too many
    halves = [groups < 400, groups >= 400]
    parts = [accumulator("sparse").update(labels[h], logits[h], groups=groups[h]) for h in halves]
    assert parts[1].merge(parts[0]).state_dict() == whole.state_dict()


def test_state_survives_json_and_pickle():
    args, _ = batch("sparse")
    acc = accumulator("sparse", ignore_index=2, class_weight=np.arange(1.0, C + 1), base=2)
    acc.update(
        *args,
        sample_weight=WEIGHTS["any"],
        groups=rng(1).integers(0, 5, N).astype(str),
        clusters=rng(2).integers(0, 5, N),
    )
    saved = json.loads(json.dumps(acc.state_dict(), allow_nan=False))
    assert saved["version"] == 2
    for back in (fe.Accumulator.from_state_dict(saved), pickle.loads(pickle.dumps(acc))):
        assert back.state_dict() == acc.state_dict()
        for name, result in acc.compute().items():
            assert same(result.value, back.compute()[name].value)
        back.update(*args).merge(acc)
        assert back.compute()["brier"].count > acc.compute()["brier"].count
    with pytest.raises(ValueError, match="version"):
        fe.Accumulator.from_state_dict(saved | {"version": 99})
    with pytest.raises(ValueError, match="not the state"):
        fe.Accumulator.from_state_dict({})


def places(data, path=()):
    """Paths to the parts of JSON data, of long lists the first two."""
    if path:
        yield path
    inner = data if isinstance(data, dict) else range(2) if isinstance(data, list) else ()
    for key in list(inner)[: len(data)] if inner else ():
        yield from places(data[key], (*path, key))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [None, [], {}, -1, 2**70, "0x1p5000", "twice"])
def test_a_damaged_state_is_refused_or_harmless(damage):
    """Whatever became of a part, memory outside of the state is not written to."""
    args, _ = batch("sparse")
    acc = accumulator("sparse").update(*args, groups=np.arange(N) % 3, clusters=np.arange(N) % 2)
    saved = json.dumps(acc.state_dict())
    refused = 0
    for *way, last in places(json.loads(saved)["state"]):
        data = json.loads(saved)
        part = data["state"]
        for key in way:
            part = part[key]
        twice = part[last] * 2 if isinstance(part[last], list) else 2**70
        part[last] = twice if damage == "twice" else damage
        try:
            fe.Accumulator.from_state_dict(data).state_dict()
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50
    for part in ("settings", "state"):
        with pytest.raises(ValueError, match="state_dict"):
            fe.Accumulator.from_state_dict(json.loads(saved) | {part: damage})


def test_pairs_of_kinds_survive_too():
    args, _ = batch("divergence")
    options = {"task": "divergence", "kind": ("probs", "logprobs")}
    acc = fe.Accumulator("kl_divergence", **options).update(args[0], np.log(args[1]))
    back = fe.Accumulator.from_state_dict(json.loads(json.dumps(acc.state_dict())))
    assert (back + acc).compute()["kl_divergence"].count == 2 * N


def test_reset_and_reports_stand_apart():
    args, _ = batch("sparse")
    acc = accumulator("sparse")
    empty = acc.state_dict()
    report = acc.update(*args).compute()
    value = report["cross_entropy"].value
    acc.update(*(a[:50] for a in args))
    assert report["brier"].count == N and report["cross_entropy"].value == value
    assert acc.compute()["brier"].count == N + 50
    groups = acc.compute().groups
    acc.update(*args, groups=["a"] * N)
    assert not groups and list(acc.compute().groups) == ["a"]
    assert acc.reset() is acc and acc.state_dict() == empty


def same(a, b):
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("rows", [10, 70000, 140000])
def test_refused_updates_leave_no_trace(rows):
    labels, logits = np.zeros(rows, int), np.zeros((rows, 2))
    acc = fe.Accumulator(["cross_entropy", "ece", "skill"], kind="logits").update([1], [[0, 1.0]])
    before = acc.state_dict()
    wrong = labels.copy()
    wrong[-1] = 2
    weights = np.ones(rows)
    weights[-1] = -1
    for args, more in [
        ((wrong, logits), {}),
        ((wrong, logits), {"groups": np.arange(rows), "clusters": np.arange(rows)}),
        ((labels, logits), {"sample_weight": weights}),
        ((labels, logits), {"groups": ["a"] * (rows - 1)}),
        ((labels, logits), {"clusters": [1.5] * rows}),
        ((labels, logits), {"groups": [None] * rows}),
    ]:
        with pytest.raises((ValueError, TypeError)) as error:
            acc.update(*args, **more)
        assert "\n" not in str(error.value)
        assert acc.state_dict() == before
    assert acc.update(labels, logits).compute()["cross_entropy"].count == rows + 1


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2.0},
        {"base": 2},
        {"bins": 10},
        {"eps": 1e-7},
        {"label_smoothing": 0.1},
        {"class_weight": np.ones(C)},
        {"ignore_index": 0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_only_like_accumulators_merge(options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"merge: {name} differs"):
        accumulator("sparse").merge(accumulator("sparse", **options))


def test_backend_and_threads_may_differ_between_merged_accumulators():
    args, _ = batch("sparse")
    a = accumulator("sparse", num_threads=1).update(*args)
    b = accumulator("sparse", backend="numpy", num_threads=2).update(*args)
    assert (a + b).compute()["accuracy"].count == 2 * N
    assert a.compute()["accuracy"].count == N


MEMORY = """
import os, sys
import numpy as np
from fastent.backends.cython.accumulate.state import State

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

groups, rows = map(int, sys.argv[1:])
r = np.random.default_rng(12)
before = resident()
state = State([(f"column {c}", c, 0, 0, True) for c in range(9)], 15, 1, 2, True)
step = 100_000
for _ in range(0, rows, step):
    state.add(
        2.0 ** r.uniform(-53, 7, (9, step)),
        r.exponential(size=step),
        labels=r.integers(0, 250_000, step),
        groups=r.integers(0, groups, step),
    )
assert not state.detailed
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads the memory from /proc")
@pytest.mark.parametrize("groups, rows", [(1000, 1_500_000), (100_000, 500_000)])
def test_memory_is_at_most_300_mb_and_4_kb_a_group(groups, rows):
    """Values spread over 60 octaves, so that the histograms of groups find ever new buckets; in a
    process of its own, since the heap of this one has a history."""
    words = [sys.executable, "-P", "-c", MEMORY, str(groups), str(rows)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300e6 + 4096 * groups
