"""Beside an infinite weight no row has a share: of a mean, a table by class, a quantile, a bin."""

import json
import math

import cases
import numpy as np
import pytest
from streams import add, batch

import fastent as fe
from fastent import metrics as registry

INFINITE = {"one": [np.inf, 1, 1, 2], "two": [1, np.inf, np.inf, 0], "all": [np.inf] * 4}
FINITE = [3, 1, 1, 2]
GROUP_LESS = {"sequence_cross_entropy"}  # clusters are of the whole

infinite = pytest.mark.parametrize("weights", INFINITE.values(), ids=INFINITE)
every_task = pytest.mark.parametrize("task", registry.TASKS)


def reports(task, weights):
    """Of all metrics: of all rows, of the group that all are in, and of a state that was read."""
    more = {"sample_weight": weights, "groups": ["a"] * 4, "clusters": [0, 1, 2, 2]}
    if task == "topk":
        options, ids = {"kind": "logits"}, np.array([[0, 1], [1, 2], [2, 0], [0, 2]])
        logits = np.log([[0.5, 0.3, 0.2], [0.3, 0.4, 0.3], [0.3, 0.1, 0.6], [0.7, 0.2, 0.1]])
        args = (ids, np.log([[0.6, 0.3], [0.5, 0.4], [0.8, 0.1], [0.5, 0.3]])), logits
    else:
        args, options = batch(task, 4)
    if task == "binary":
        args = np.array([0, 1, 0, 1]), args[1]
    names = [n.format(k=3, alpha=0.3, beta=0.7) for n in registry.names(task)]
    acc = add(fe.Accumulator(names, task=task, **options), task, args, **more)
    read = fe.Accumulator.from_state_dict(json.loads(json.dumps(acc.state_dict()))).compute()
    whole = acc.compute()
    assert set(whole) == set(read) == set(names)
    assert set(whole.groups["a"]) == set(names) - GROUP_LESS
    return whole, whole.groups["a"], read


@every_task
@infinite
def test_metrics(task, weights):
    for report in reports(task, weights):
        for name, found in report.items():
            value = np.array(found.value, dtype=float)
            assert np.isnan(value).any() and not (value > 0).any(), (name, found)
            assert found.stderr is None or math.isnan(found.stderr), (name, found)
            assert found.per_class is None or np.isnan(found.per_class).all(), (name, found)
            assert found.weight == math.inf and found.count == sum(w > 0 for w in weights)
            if found.min is not None:
                assert math.isnan(found.quantile(0.5)) and found.min <= found.max
        json.loads(report.to_json())


@every_task
def test_metrics_of_finite_weights(task):
    for report in reports(task, FINITE):
        for name, found in report.items():
            assert np.isfinite(found.value).all(), (name, found)
            assert found.stderr is None or math.isfinite(found.stderr), (name, found)
            assert found.per_class is None or np.isfinite(found.per_class).any(), (name, found)
            assert found.weight == sum(FINITE) and found.count == 4
            if found.min is not None:
                assert found.min <= found.quantile(0.5) <= found.max


@pytest.mark.parametrize("task", ["sparse", "binary"])
@pytest.mark.parametrize("equal_mass", [False, True])
@infinite
def test_bins_of_calibration(task, equal_mass, weights):
    """A bin has shares of its own weight, unless how bins are cut hangs on the whole weight."""
    for report in reports(task, weights):
        table = report.calibration("ece_equal_mass" if equal_mass else "ece")
        shares = np.array([table["confidence"], table["frequency"]])
        lost = ~np.isfinite(table["weight"]) | (table["weight"] == 0) | equal_mass
        assert np.isnan(shares[:, lost]).all() and np.isfinite(shares[:, ~lost]).all()
        assert np.isnan([table["low"], table["high"]]).all()


@pytest.mark.parametrize("function", cases.FUNCTIONS)
@infinite
def test_means_of_functions(function, weights, engine):
    args = cases.ordinary(function, "logits", np.float64, (4, 3))
    if function == "binary_cross_entropy":
        args = [x[:, 0] for x in args]
    mean = {"sample_weight": weights, "reduction": "mean", "backend": engine}
    assert math.isnan(cases.call(function, args, "logits", **mean))
    mean["sample_weight"] = FINITE
    rows = cases.call(function, args, "logits", backend=engine)
    wanted = np.average(rows, weights=FINITE)
    assert math.isclose(cases.call(function, args, "logits", **mean), wanted, rel_tol=1e-14)
