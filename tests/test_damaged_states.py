"""A damaged state is a ValueError of one line, whatever is damaged."""

import copy
import json

import numpy as np
import pytest

import fastent as fe

RNG = np.random.default_rng(8)


def states():
    p, q = RNG.dirichlet(np.ones(4), (2, 30))
    labels, groups = RNG.integers(0, 4, 30), RNG.integers(0, 3, 30)
    calibrated = fe.Accumulator(["cross_entropy", "ece", "skill", "top2_accuracy"], base=2)
    calibrated.update(labels, p, sample_weight=RNG.random(30), groups=groups)
    plain = fe.Accumulator(
        ["kl_divergence", "hellinger"], task="divergence", kind=("probs", "probs")
    )
    plain.update(p, q, groups=[f"g{g}" for g in groups], clusters=groups)
    return [json.loads(json.dumps(a.state_dict())) for a in (calibrated, plain)]


STATES = states()
WRONG = (None, -1, 10**30, 1.5, float("nan"), "", "x", "0x1p9999", [], [[]], {}, {"a": 1}, True)


def places(data, path=()):
    """The path of every part."""
    yield path
    inner = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, part in inner:
        yield from places(part, (*path, key))


def with_other(data, path, value):
    if not path:
        return value
    found = copy.deepcopy(data)
    at = found
    for key in path[:-1]:
        at = at[key]
    if value is places:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return found


@pytest.mark.parametrize("data", STATES, ids=["calibrated", "plain"])
def test_every_part(data):
    paths = list(places(data))
    assert len(paths) > 300
    refused = 0
    for number, path in enumerate(paths):
        # Every kind of damage to what is near the top, one in turn further down.
        several = WRONG if len(path) < 4 else [WRONG[(number + i) % len(WRONG)] for i in (0, 5)]
        for value in (*several, places):
            damaged = with_other(data, path, value)
            try:
                acc = fe.Accumulator.from_state_dict(damaged)
            except ValueError as error:
                refused += 1
                assert "\n" not in str(error)
            else:
                for part in (report := acc.compute(), *report.groups.values()):
                    assert all(part[name].count >= 0 for name in part)
                acc.merge(acc)
    assert refused > len(paths)


@pytest.mark.parametrize("path", [("rows", 0), ("groups", 0, 0, 0)])
def test_negative_counts(path):
    for data in STATES:
        with pytest.raises(ValueError, match="expected a number of rows, got -3"):
            fe.Accumulator.from_state_dict(with_other(data, ("state", *path), -3))


def test_negative_weights():
    with pytest.raises(ValueError, match="expected a weight"):
        fe.Accumulator.from_state_dict(with_other(STATES[0], ("state", "weights", 0), "-0x1p0"))


def test_what_is_the_callers_fault():
    with pytest.raises(TypeError, match="num_threads"):
        fe.Accumulator.from_state_dict(STATES[0], num_threads="many")


class Lying:
    """A list that is read from a file, and does not hold what it says."""

    def __init__(self, said, items):
        self.said, self.items = said, items

    def __len__(self):
        return self.said

    def __iter__(self):
        return iter(self.items)


@pytest.mark.parametrize("factor", [0, 1, 2, 50])
@pytest.mark.parametrize("part", ["groups", "clusters", "calibration"])
def test_lists_of_another_length_than_they_say(part, factor):
    for data in STATES:
        items = data["state"][part]
        lying = with_other(data, ("state", part), Lying(len(items), items * factor))
        if factor == 1 or not items:
            fe.Accumulator.from_state_dict(lying)
        else:
            with pytest.raises(ValueError, match="parts"):
                fe.Accumulator.from_state_dict(lying)


@pytest.mark.parametrize("part", ["labels", "items"])
@pytest.mark.parametrize("task", ["sparse", "categorical", "binary"])
def test_classes_that_no_row_has(task, part):
    """A table of as many classes as a crafted number says would take all memory."""
    rows, labels = np.full((3, 2), 0.5), np.array([0, 1, 1])
    operands = {"categorical": (rows, rows), "binary": (labels, rows[:, 0])}
    metrics = ["confusion", *(["ece_classwise"] if task == "sparse" else [])]
    acc = fe.Accumulator(metrics, task=task)
    acc.update(*operands.get(task, (labels, rows)), sample_weight=[1, 2, 0.3], groups=labels)
    for number in (4, 6, 100, 2**40, 2**62, 1073741831 + (2**40), 2**63 - 1):
        for place in (0, -1):
            state = json.loads(json.dumps(acc.state_dict()))
            state["state"][part][place][1] = number
            try:
                report = fe.Accumulator.from_state_dict(state).compute()
            except ValueError as error:
                assert "state is damaged" in str(error)
            else:
                assert part == "items"
                for name in metrics:
                    repr((report[name], [one[name] for one in report.groups.values()]))
