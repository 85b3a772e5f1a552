"""Merging is by metric name and changes only what it is asked to; what does not fit is refused."""

import copy
import itertools
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from streams import WEIGHTS, accumulator, add, batch, every_task, metric_names, rng

import fastent as fe
from fastent.backends.cython.accumulate.state import State

N = 200
NAMES = {"groups": rng(2).integers(0, 5, N), "clusters": rng(3).integers(0, 30, N).astype(str)}
HALVES = np.arange(N) < 77, np.arange(N) >= 77


def rows_of(task, keep=slice(None)):
    args, _ = batch(task)
    return [a[:N][keep] for a in args]


def some(task, keep, names=None, **options):
    """An accumulator of some rows with weights, groups and clusters."""
    _, settings = batch(task)
    acc = fe.Accumulator(names or metric_names(task), **settings | {"task": task} | options)
    more = {name: values[keep] for name, values in NAMES.items()}
    weights = WEIGHTS["any"][:N][keep]
    return add(acc, task, rows_of(task, keep), sample_weight=weights, **more)


def by_json(acc):
    return fe.Accumulator.from_state_dict(json.loads(json.dumps(acc.state_dict())))


def test_two_orders_of_two_metrics():
    first = fe.Accumulator(["accuracy", "entropy"]).update([0], [[0.5, 0.5]])
    second = fe.Accumulator(["entropy", "accuracy"]).update([0], [[0.5, 0.5]])
    for report in ((first + second).compute(), (second + first).compute()):
        assert report["accuracy"].value == 1.0
        assert report["entropy"].value == np.log(2)


@every_task
@pytest.mark.parametrize("way", [lambda acc: acc, by_json, copy.deepcopy, fe.Accumulator.copy])
def test_any_order_of_the_names_gives_the_same_state(task, way):
    whole = some(task, slice(None))
    names = metric_names(task)
    for seed in range(4):
        mixed = rng(seed).permutation(names).tolist()
        first, second = way(some(task, HALVES[0])), way(some(task, HALVES[1], mixed))
        before = [json.dumps(acc.state_dict()) for acc in (first, second)]
        for merged in (first + second, second + first, fe.merge([first, second])):
            in_order = some(task, []).merge(merged)  # a state lists its columns in our order
            assert in_order.state_dict() == whole.state_dict()
            for name, result in merged.compute().items():
                assert (result.value, result.stderr, result.cluster_stderr) == (
                    whole.compute()[name].value,
                    whole.compute()[name].stderr,
                    whole.compute()[name].cluster_stderr,
                ) or result.value != result.value
        assert before == [json.dumps(acc.state_dict()) for acc in (first, second)]


PROGRAM = """
import json, numpy as np, fastent as fe, sys
names = {"cross_entropy", "accuracy", "entropy", "brier", "top2_accuracy", "confidence", "ece"}
acc = fe.Accumulator(names).update([0, 1, 2], [[.5, .3, .2], [.1, .2, .7], [.3, .3, .4]])
print(list(names), file=sys.stderr)
print(json.dumps(acc.state_dict()))
"""


def test_sets_of_names_in_processes_with_other_hashes():
    states, orders = [], set()
    for seed in "123":
        run = subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        states.append(json.loads(run.stdout))
        orders.add(run.stderr)
    assert len(orders) > 1
    parts = [fe.Accumulator.from_state_dict(state) for state in states]
    for merged in map(fe.merge, itertools.permutations(parts)):
        for name, result in merged.compute().items():
            assert result.value == pytest.approx(parts[0].compute()[name].value, rel=1e-15)


def test_sum_and_merge_of_many():
    whole = some("sparse", slice(None))
    parts = [some("sparse", np.arange(N) % 5 == k) for k in range(5)]
    before = [part.state_dict() for part in parts]
    for merged in (sum(parts), fe.merge(iter(parts)), fe.merge(parts[:1]).merge(sum(parts[1:]))):
        assert merged.state_dict() == whole.state_dict()
    assert [part.state_dict() for part in parts] == before
    assert fe.merge(parts[:1]) is not parts[0]
    with pytest.raises(ValueError, match="at least one"):
        fe.merge([])
    with pytest.raises(TypeError, match="expected Accumulators, got int"):
        fe.merge([parts[0], 3])
    with pytest.raises(TypeError):
        1 + parts[0]


OTHER = [
    ("metrics", "sparse", {"names": ["accuracy"]}),
    ("task", "binary", {}),
    ("kind", "sparse", {"kind": "logprobs"}),
    ("row_sums", "sparse", {"kind": "probs", "row_sums": "as_is"}),
    ("eps", "sparse", {"eps": 0.1}),
    ("temperature", "sparse", {"temperature": 2.0}),
    ("label_smoothing", "sparse", {"label_smoothing": 0.1}),
    ("class_weight", "sparse", {"class_weight": [1, 2, 1, 1, 1, 1]}),
    ("ignore_index", "sparse", {"ignore_index": 2}),
    ("base", "sparse", {"base": 2}),
    ("axis", "sparse", {"axis": 1}),
    ("bins", "sparse", {"bins": 3}),
]


@pytest.mark.parametrize(("name", "task", "options"), OTHER, ids=[name for name, *_ in OTHER])
def test_what_does_not_fit_is_refused_and_leaves_both(name, task, options):
    names = options.get("names", ["accuracy", "brier"])
    options = {"task": task, "kind": "logits"} | options
    options.pop("names", None)
    first = fe.Accumulator(["accuracy", "brier"], kind="logits")
    first.update(*rows_of("sparse"))
    kind = options.get("kind")
    if name in ("kind", "row_sums"):
        first = fe.Accumulator(["accuracy", "brier"], kind="probs")
    if name == "kind":
        assert kind == "logprobs"
    second = fe.Accumulator(names, **options)
    before = [acc.state_dict() for acc in (first, second)]
    for one, other in ((first, second), (second, first)):
        with pytest.raises(ValueError, match=f"merge: {name} differs"):
            one.merge(other)
        with pytest.raises(ValueError, match="merge: "):
            one + other
        with pytest.raises(ValueError, match="merge: "):
            fe.merge([one, other])
    assert before == [acc.state_dict() for acc in (first, second)]


def test_other_numbers_of_classes_are_refused():
    acc = fe.Accumulator("accuracy")
    acc.update(np.zeros(0, int), np.ones((0, 9)))  # no rows, no classes
    acc.update([0], [[0.5, 0.5]])
    before = acc.state_dict()
    three = fe.Accumulator("accuracy").update([0], [[0.5, 0.25, 0.25]])
    with pytest.raises(ValueError, match="pred: expected 2 classes, got 3 as in the rows before"):
        acc.update([0], [[0.5, 0.25, 0.25]])
    for way in (lambda acc: acc, by_json, pickle.loads):
        other = way(pickle.dumps(three)) if way is pickle.loads else way(three)
        with pytest.raises(ValueError, match="merge: number of classes differs: 2 and 3"):
            acc.merge(other)
        with pytest.raises(ValueError, match="3 and 2"):
            other + acc
    assert acc.state_dict() == before
    empty = fe.Accumulator("accuracy")
    assert (empty + acc).state_dict() == (acc + empty).state_dict() == before
    with pytest.raises(ValueError, match="2 and 3"):
        (empty + acc).merge(three)
    with pytest.raises(ValueError, match="2 and 3"):
        acc.copy().merge(three)
    assert acc.reset().merge(three).compute()["accuracy"].value == 1.0
    long = fe.Accumulator("accuracy").update(np.zeros(70_000, int), np.full((70_000, 2), 0.5))
    with pytest.raises(ValueError, match="2 and 3"):
        long.merge(three)
    for damage in (-1, "2", 2.0, True):
        with pytest.raises(ValueError, match="number of classes"):
            fe.Accumulator.from_state_dict(before | {"width": damage})


def test_copies_share_nothing_and_lose_nothing():
    for task in ("sparse", "binary"):
        acc = some(task, HALVES[0])
        before = acc.state_dict()
        for other in (acc.copy(), copy.copy(acc), copy.deepcopy(acc), acc + some(task, [])):
            assert other.state_dict() == before
            assert other.compute()["ece"].value == acc.compute()["ece"].value
            other.update(*rows_of(task, HALVES[1]))
            assert acc.state_dict() == before != other.state_dict()
            other.reset()
            assert acc.state_dict() == before


def test_states_of_other_columns_are_refused():
    column = ("a", 0, 0, 0, True)
    state = State([column])
    for other in (
        State([("b", 0, 0, 0, True)]), State([column, ("b", 1, 0, 0, True)]), State([column], 4),
        State([column], 0, 0, 0, True), State([("a", 0, 0, 1, True)]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="not of the same metrics"):
            state.merge(other)


def test_merging_with_itself_doubles():
    acc = some("sparse", HALVES[0])
    twice = some("sparse", HALVES[0]).merge(some("sparse", HALVES[0]))
    assert acc.merge(acc).state_dict() == twice.state_dict()
    assert accumulator("sparse").merge(acc).compute()["ece"].value == acc.compute()["ece"].value
