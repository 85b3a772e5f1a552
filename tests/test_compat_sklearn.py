"""scikit-learn's three losses from fastent: scikit-learn's own tests, its errors, exact sums."""

import math
import warnings

import mpmath
import numpy as np
import pytest
import sklearn.metrics
from peer_suite import run_peer_tests

from fastent.compat import sklearn as compat

MODULES = [
    "sklearn.metrics.tests.test_classification",
    "sklearn.metrics.tests.test_common",
    "sklearn.metrics.tests.test_score_objects",
    "sklearn.tests.test_public_functions",
    "sklearn.tests.test_calibration",
    "sklearn.linear_model.tests.test_logistic",
    "sklearn.model_selection.tests.test_validation",
]


@pytest.mark.slow
def test_scikit_learns_own_tests_pass(tmp_path):
    chosen = "log_loss or brier_score_loss"
    failed, passed, output = run_peer_tests("patched_sklearn", MODULES, chosen, tmp_path)
    assert not failed, output
    assert passed > 90


def outcome(function, given, options):
    """The value, or the type and text of the error, and the warnings."""
    with pytest.warns() as caught:
        warnings.warn("one at least", UserWarning, stacklevel=1)
        try:
            value = function(*given, **options)
        except Exception as error:
            value = (type(error), str(error))
    return value, [(w.category, str(w.message)) for w in caught]


RNG = np.random.default_rng(0)
P3 = RNG.dirichlet(np.ones(3), 40)
P1 = RNG.random(40)
Y3 = np.array(["ham", "eggs", "spam"])[RNG.integers(3, size=40)]
Y2 = RNG.integers(2, size=40)
W = RNG.random(40)
CALLS = {
    "names": ((Y3, P3), {}),
    "weights": ((Y3, P3), {"sample_weight": W}),
    "negative weights": ((Y3, P3), {"sample_weight": W - 0.2}),
    "no weight": ((Y3, P3), {"sample_weight": 0 * W}),
    "one column": ((Y2, P1), {}),
    "one column, weights": ((Y2, P1), {"sample_weight": list(W)}),
    "one column of two dimensions": ((Y2, P1[:, None]), {}),
    "names of two classes": ((Y2.astype(str), np.stack([1 - P1, P1], 1)), {}),
    "whole confidence": ((Y2, np.round(P1)), {}),
    "column of labels": ((Y2[:, None], P1), {}),
    "indicators": ((np.eye(3, dtype=int)[RNG.integers(3, size=40)], P3), {}),
    "several indicators": ((RNG.integers(2, size=(40, 3)), P3), {"sample_weight": W}),
    "float32": ((Y3, P3.astype(np.float32)), {}),
    "lists": ((Y3.tolist(), P3.tolist()), {}),
    "labels": ((Y2, P3), {"labels": [0, 1, 2]}),
    "labels in disorder": ((Y3, P3), {"labels": ["spam", "ham", "eggs"]}),
    "labels that lack one": ((Y3, P3), {"labels": ["eggs", "ham"]}),
    "one label": ((Y3, P3), {"labels": ["eggs"]}),
    "one class": ((0 * Y2, P1), {}),
    "classes that do not agree": ((Y3, P3[:, :2]), {}),
    "labels that do not agree": ((Y2, P3), {"labels": [0, 1, 2, 3]}),
    "sums": ((Y3, P3 / 2), {}),
    "above 1": ((Y3, P3 * 3), {}),
    "below 0": ((Y3, P3 - 0.5), {}),
    "nan": ((Y3, P3 + np.nan), {}),
    "lengths": ((Y3[:-1], P3), {}),
    "lengths of weights": ((Y3, P3), {"sample_weight": W[:-1]}),
    "continuous": ((P1, P1), {}),
    "one row": ((Y2[:1], P1[:1]), {"labels": [0, 1]}),
    "empty": (([], []), {}),
    "not a name": ((Y2, P1), {"sample_weight": "no"}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", compat.__all__)
def test_values_warnings_and_errors_are_scikit_learns(name, call):
    given, options = CALLS[call]
    found, said = outcome(getattr(compat, name), given, options)
    wanted, peer_said = outcome(getattr(sklearn.metrics, name), given, options)
    assert said == peer_said
    if isinstance(wanted, tuple):
        assert found == wanted
    else:
        assert type(found) is float
        assert found == pytest.approx(wanted, rel=1e-5 if call == "float32" else 1e-12, nan_ok=True)


@pytest.mark.parametrize("options", [{"scale_by_half": h} for h in (True, False, "auto")])
@pytest.mark.parametrize("pos_label", [None, 0, 1])
def test_brier_options(options, pos_label):
    for given in [(Y2, P1), (Y3, P3)]:
        chosen = options if given[1].ndim == 2 else {**options, "pos_label": pos_label}
        found = compat.brier_score_loss(*given, **chosen)
        assert found == pytest.approx(sklearn.metrics.brier_score_loss(*given, **chosen), rel=1e-13)


def test_the_former_name_of_the_predictions():
    with pytest.warns(FutureWarning, match="renamed to `y_proba`"):
        assert compat.log_loss(Y2, y_pred=P1) == compat.log_loss(Y2, P1)
    with pytest.raises(ValueError, match="Cannot use both"):
        compat.d2_log_loss_score(Y2, P1, y_pred=P1)


def test_small_probabilities_of_one_column_are_not_rounded():
    tiny = np.full(4, 1e-12)
    found = compat.log_loss([0, 0, 0, 1], tiny, normalize=False)
    with mpmath.workdps(40):
        q = mpmath.mpf(1e-12)
        true = -3 * mpmath.log(1 - q) - mpmath.log(q)
    assert abs(found - true) <= 2e-16 * true
    only = compat.log_loss([0, 0, 0, 0], tiny, labels=[0, 1])
    assert only == pytest.approx(-math.log1p(-1e-12), rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_predictions_are_clipped_at_the_eps_of_their_dtype(dtype):
    column, labels = np.array([0, 0.25, 1, 0.5], dtype), [1, 0, 1, 0]
    eps = float(np.finfo(dtype).eps)
    right = -np.log([eps, 0.75, 1 - eps, 0.5]).mean()
    for given in (column, np.column_stack([1 - column, column])):
        assert compat.log_loss(labels, given) == pytest.approx(right, rel=1e-6)
        found = compat.d2_log_loss_score(labels, given)
        wanted = sklearn.metrics.d2_log_loss_score(labels, given)
        assert found == pytest.approx(wanted, rel=2e-3)
