"""From row values to what a public function returns, for what does not go by the engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastent._errors import as_number, as_reduction, shown
from fastent._outputs import check_out
from fastent.backends.cython.accumulate.exact_sum import ExactTotal


def exact_sum(values: np.ndarray) -> float:
    """The correctly rounded sum of float64 numbers."""
    return ExactTotal().add(np.ascontiguousarray(values, np.float64).reshape(-1)).value


def reduced(
    values: np.ndarray,
    weights: np.ndarray | None,
    reduction: str,
    out: Any,
    kept: tuple[int, ...] | None = None,
) -> Any:
    """Weighted row values, their sum, or sum / Σ weights; a row of weight 0 counts 0.

    `kept` is the shape of row values whose class axis stays.
    """
    reduction = as_reduction(reduction)
    if weights is not None:
        with np.errstate(all="ignore"):  # 0·inf is nan, as in the engine
            values = np.where(weights == 0, 0.0, values * weights)
    if reduction == "none":
        return delivered(values if kept is None else values.reshape(kept), out)
    total = exact_sum(values)
    if reduction == "mean":
        weight = float(values.size) if weights is None else exact_sum(weights)
        total = total / weight if weight else np.nan
    return delivered(np.float64(total), out)


def delivered(values: Any, out: Any) -> Any:
    """The values, in `out` if it is given."""
    if out is None:
        return values[()]
    check_out(out, np.shape(values))[...] = values
    return out


def log_of_base(base: float | None) -> float:
    """What a value in nats is divided by."""
    if base is None:
        return 1.0
    number = as_number(base, "base", "a number above 0 other than 1")
    if not 0 < number < np.inf or number == 1:
        raise ValueError(f"base: expected a finite number above 0 other than 1, got {shown(base)}")
    return float(np.log(number))
