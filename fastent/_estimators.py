"""Entropy of what counts were drawn from: estimators that mend the bias of the plug-in value.

Each is written as a sum of terms that are not negative, of the counts and what is left beside them,
so that a table with one large count keeps its digits.
"""

from __future__ import annotations

import numpy as np

SERIES = 8  # counts from which 1 − h(n) is summed in powers of 1/n
TERMS = 20


def _beside(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, N − n of each count), the largest one's from the sum of the others."""
    rows, top = np.arange(len(counts)), counts.argmax(-1)
    others = counts.copy()
    others[rows, top] = 0.0
    rest = others.sum(-1)
    total = counts[rows, top] + rest
    beside = total[:, None] - counts
    beside[rows, top] = rest
    return total, beside


def miller_madow(counts: np.ndarray) -> np.ndarray:
    """What is added to the plug-in value: (K − 1)/2N of K classes seen."""
    return (np.sum(counts > 0, -1) - 1.0) / (2.0 * counts.sum(-1))


def chao_shen(counts: np.ndarray) -> np.ndarray:
    """−Σ Cp log Cp / (1 − (1 − Cp)^N) with the coverage C = 1 − singletons/N."""
    total, beside = _beside(counts)
    single = np.sum(counts == 1, -1)
    single = np.where(single == total, total - 1.0, single)[:, None]  # all: none would be covered
    n = total[:, None]
    share = (n - single) / n * (counts / n)
    left = beside / n + single / n * (counts / n)  # 1 − share
    logs = np.where(left < 0.5, np.log1p(-left), np.log(share))
    missed = np.where(left < 0.5, np.log(left), np.log1p(-share))
    seen = -np.expm1(n * missed)
    return np.where(counts == 0, 0.0, -share * logs / seen).sum(-1) + 0.0


def jackknife(counts: np.ndarray) -> np.ndarray:
    """N·H − (N − 1)/N Σ n H without one of them, as Σ n/N·(D(N) − D(n)).

    D(n) = n log n − (n − 1) log(n − 1) = log n + 1 − e(n) with e(n) = Σ n^−k/(k(k + 1)).
    """
    total, beside = _beside(counts)
    n = total[:, None]
    share = counts / n
    logs = np.where(share > 0.5, -np.log1p(-beside / n), -np.log(share))  # log N/n
    gaps = np.zeros_like(counts)  # e(n) − e(N)
    inverse = 1.0 / np.maximum(counts, SERIES)
    for k in range(TERMS, 0, -1):
        gaps += inverse**k * -np.expm1(-k * logs) / (k * (k + 1))
    few = counts < SERIES
    gaps = np.where(few, _excess(counts) - _excess(n), gaps)
    return np.where(counts == 0, 0.0, share * (logs + gaps)).sum(-1)


def _excess(n: np.ndarray) -> np.ndarray:
    """e(n) = 1 + (n − 1) log(1 − 1/n)."""
    return np.where(n <= 1, 1.0, 1.0 + (n - 1.0) * np.log1p(-1.0 / n))
