"""Confidence intervals of shares."""

from __future__ import annotations

from typing import Any

import numpy as np

Z = 1.959963984540054  # of 95 %


def interval(share: np.ndarray, rows: np.ndarray) -> tuple[Any, Any]:
    """Wilson's 95 % interval of a share of so many rows."""
    middle = (share + Z * Z / (2 * rows)) / (1 + Z * Z / rows)
    half = Z / (1 + Z * Z / rows) * np.sqrt(share * (1 - share) / rows + (Z / (2 * rows)) ** 2)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
