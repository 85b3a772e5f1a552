"""No call says anything, whatever NumPy is told to warn of: what computes in NumPy is decorated."""

import numpy as np
import pytest

import fastent as fe
from fastent.compat import scipy

HUGE = np.array([[1e300, -1e300, np.inf], [5e-324, 1e-308, 0.0], [np.nan, -np.inf, 700.0]])
MASSES = np.abs(HUGE)
WEIGHTS = np.array([1e308, 1e-308, np.inf])
TERMS = np.tile(WEIGHTS, (3, 1))
LABELS, T, Q = [0, 1, 2], np.array([0.5, 1e-300, 0.25]), np.array([1.0, 5e-324, 0.0])
with np.errstate(all="ignore"):
    NARROW = HUGE.astype(np.float32)
GRAM = np.full((2, 2), 1e200) + np.eye(2) * 1e210

CALLS = {
    "focal": lambda: fe.focal_cross_entropy(
        LABELS, HUGE, kind="logits", sample_weight=TERMS, class_weight=WEIGHTS
    ),
    "binary focal": lambda: fe.binary_focal_cross_entropy(T, Q, sample_weight=WEIGHTS, alpha=0.3),
    "gradient": lambda: fe.cross_entropy_gradient(LABELS, HUGE, sample_weight=WEIGHTS),
    "gaussian": lambda: fe.gaussian_kl_divergence([1e308, 0], GRAM, [-1e308, 0], GRAM,
                                                  kind="covariance"),
    "gaussian entropy": lambda: fe.gaussian_entropy(WEIGHTS),
    "stability": lambda: fe.population_stability_index([1e308, 1e308], [5e-324, 1e-320]),
    "mutual information": lambda: fe.mutual_information([[1e308, 1e308], [5e-324, 0]]),
    "conditional entropy": lambda: fe.conditional_entropy([[1e308, 1e308], [5e-324, 0]]),
    "total variation": lambda: fe.total_variation(MASSES[:1] / 1e300, MASSES[:1], row_sums="as_is"),
    "renyi": lambda: fe.renyi_divergence(HUGE[1:2], HUGE[1:2], 300, row_sums="rescale"),
    "log_softmax": lambda: scipy.log_softmax(NARROW, axis=1),
    "logsumexp": lambda: scipy.logsumexp(HUGE, axis=1, b=-TERMS),
    "entropy": lambda: scipy.entropy(MASSES, axis=1),
    "jensenshannon": lambda: scipy.jensenshannon(MASSES, MASSES[::-1], axis=1),
    "update": lambda: fe.Accumulator(["kl_divergence", "hellinger"], task="divergence",
                                     kind="logits").update(HUGE, HUGE[::-1], sample_weight=WEIGHTS)
    .compute(),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_said(name):
    with np.errstate(all="warn"):
        CALLS[name]()
        assert set(np.geterr().values()) == {"warn"}  # and the caller's settings are as they were
