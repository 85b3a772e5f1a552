"""scikit-learn: metrics.log_loss, which only returns the mean."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import log_loss

FORMULAS = {
    ("sparse_cross_entropy", "probs"): lambda x: (
        lambda: log_loss(x.true, x.pred, labels=np.arange(x.pred.shape[1]))
    ),
    ("binary_cross_entropy", "probs"): lambda x: lambda: log_loss(x.true, x.pred, labels=[0, 1]),
}
