"""SimSIMD: row by row on matching rows; its Jensen-Shannon is the distance, so it is squared."""

from __future__ import annotations

import numpy as np
import simsimd

FORMULAS = {
    ("kl_divergence", "probs"): lambda x: (
        lambda: np.asarray(simsimd.kullbackleibler(x.true, x.pred))
    ),
    ("js_divergence", "probs"): lambda x: (
        lambda: np.square(np.asarray(simsimd.jensenshannon(x.true, x.pred)))
    ),
}
