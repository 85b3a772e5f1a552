"""NumKong: row by row on matching rows; its Jensen-Shannon is the distance, so it is squared."""

from __future__ import annotations

import numkong
import numpy as np

FORMULAS = {
    ("kl_divergence", "probs"): lambda x: (
        lambda: np.asarray(numkong.kullbackleibler(x.true, x.pred))
    ),
    ("js_divergence", "probs"): lambda x: (
        lambda: np.square(np.asarray(numkong.jensenshannon(x.true, x.pred)))
    ),
}
