"""Rényi and Tsallis entropies of rows, as sums of terms that are not negative.

With L = log p and ∂ = α − 1, Tsallis' is Σ p·(1 − e^(∂L))/∂, which loses nothing where p is nearly
certain or α nearly 1, and Rényi's is log1p(−∂·T)/−∂ of it. Long sums of small powers take the
logarithm of Σ p^α instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastent.backends.sharing import share

CELLS = 1 << 15  # of a block of rows, which stays in cache


def by_rows(
    formula: Callable[[np.ndarray], np.ndarray], array: np.ndarray, axis: int, threads: int
) -> np.ndarray:
    """The formula of all rows along that axis, block by block, on some threads."""
    rows = np.moveaxis(array, axis, -1)
    lead, classes = rows.shape[:-1], rows.shape[-1]
    found = np.empty(lead)
    into = found.reshape(-1)
    flat = rows.reshape(-1, classes) if len(lead) < 2 or rows.flags.c_contiguous else None

    def body(first: int, last: int) -> None:
        if flat is None:
            block = rows[np.unravel_index(np.arange(first, last), lead)]
        else:
            block = flat[first:last]
        with np.errstate(all="ignore"):
            into[first:last] = formula(np.ascontiguousarray(block))

    step = max(1, CELLS // max(1, classes))
    share(body, 0, len(into), step, max(1, min(threads, array.size // CELLS)))
    return found


class Rows(NamedTuple):
    """Normalised rows: shares, their logarithms, and their powers of an exponent below 1, which
    keep the digits of shares too small for a number."""

    shares: np.ndarray
    logs: np.ndarray
    power: Callable[[float], np.ndarray]


def normalised(x: np.ndarray, kind: str, as_is: bool, temperature: float) -> Rows:
    """The rows; the largest share's logarithm comes from the sum of the others."""
    x = x.astype(np.float64)
    if as_is and kind == "probs":
        return Rows(x, np.log(x), lambda a: x**a)
    if as_is:
        return Rows(np.exp(x), x, _powers_of(x, 0.0))
    rows, top = np.arange(len(x)), x.argmax(-1)
    largest = x[rows, top][:, None]
    if kind == "probs":
        scale = np.where(np.isinf(x.sum(-1)), 1.0 / x.shape[-1], 1.0)[:, None]
        others = x * scale
        others[rows, top] = 0.0
        rest = others.sum(-1)[:, None]
        total = largest * scale + rest
        shares = x * scale / total
        far = np.log(x) - (np.log(total) - np.log(scale))
        logs = np.where(shares > 1e-290, np.log(shares), far)
        logs[rows, top] = -np.log1p(rest / (largest * scale))[:, 0]
        return Rows(shares, logs, lambda a: x**a * (scale**a / total**a))
    x = np.where(largest == np.inf, np.where(x == np.inf, 0.0, -np.inf), x)
    largest = x[rows, top][:, None]
    gaps = x - largest
    lost = (x - (gaps - (gaps - x))) - (largest + (gaps - x))  # of the difference, by rounding
    lost = np.where(np.isfinite(lost), lost, 0.0) / temperature
    gaps = gaps / temperature
    shares = np.exp(gaps) * (1.0 + lost)
    others = shares.copy()
    others[rows, top] = 0.0
    rest = others.sum(-1)[:, None]
    logs = gaps - np.log1p(rest)
    return Rows(shares / (1.0 + rest), logs, _powers_of(logs, lost))


def _powers_of(logs: np.ndarray, lost: np.ndarray | float) -> Callable[[float], np.ndarray]:
    """By a root, which is a number where the share is not."""
    return lambda a: (np.exp(logs / 16.0) * (1.0 + lost / 16.0)) ** (16.0 * a)


def tsallis(rows: Rows, alpha: float, as_is: bool) -> np.ndarray:
    """Σ p (1 − p^(α−1))/(α − 1)."""
    less = alpha - 1.0
    ratios = less * rows.logs
    terms = rows.shares * -np.expm1(ratios) / less
    if alpha < 1:
        terms = np.where(ratios > 1.0, (rows.power(alpha) - rows.shares) / -less, terms)
    return np.where(rows.logs == -np.inf, 0.0, terms).sum(-1)


def renyi(rows: Rows, alpha: float, as_is: bool) -> np.ndarray:
    """log(Σ p^α)/(1 − α)."""
    logs = rows.logs
    largest = logs.max(-1)
    if alpha == np.inf:
        return 0.0 - largest
    powers = np.where(logs == -np.inf, 0.0, np.exp(alpha * (logs - largest[:, None])))
    far = (alpha * largest + np.log(powers.sum(-1))) / (1.0 - alpha)
    if as_is:
        return np.asarray(far)
    less = (1.0 - alpha) * tsallis(rows, alpha, as_is)
    return np.where(less > -0.5, np.log1p(less) / (1.0 - alpha), far) + 0.0
