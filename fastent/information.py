"""What counts say: mutual information, conditional entropy, the population stability index.

Counts are any non-negative numbers; they are normalised, and nothing is smoothed that is not asked
for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastent import functions
from fastent._errors import as_number, place_of_axis, shown
from fastent._keywords import Array, explained
from fastent._reductions import delivered, log_of_base
from fastent._settings import chosen_threads
from fastent._weights import as_floats, place
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.cython.kernels.mutual_information import mutual_rows
from fastent.backends.sharing import share
from fastent.divergences import jeffreys_divergence

SHARED = 1 << 15  # cells from which another thread pays


@explained
@in_default_mode
def mutual_information(
    table: ArrayLike,
    *,
    axis: tuple[int, int] = (-2, -1),
    base: float | None = None,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Any:
    """Mutual information Σ p(x,y) log(p(x,y) / p(x)p(y)) of two variables, from their joint counts.

    Parameters
    ----------
    table : array_like
        Contingency tables: counts, or probabilities of any positive sum.
    axis : pair of int
        The axes of the two variables; the others are a batch.

    Returns
    -------
    ndarray of float64 of the other axes, or a scalar
        Never negative; right to 1e-14, nearly independent tables too. A NaN makes its table NaN.

    Raises
    ------
    ValueError, TypeError
        Negative or infinite counts, a table without any, axes that are not two.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.mutual_information([[10, 0], [0, 10]], base=2))
    1.0
    >>> float(fe.mutual_information([[30, 60], [10, 20]]))
    0.0
    """
    tables, _ = _as_tables(table, axis)
    unit = log_of_base(base)
    lead = tables.shape[:-2]
    tables = np.ascontiguousarray(tables).reshape(-1, *tables.shape[-2:])
    found = np.empty(len(tables))
    if len(tables):
        threads = max(1, min(chosen_threads(num_threads), tables.size // SHARED))
        step = -(-len(tables) // threads)
        share(lambda i, j: mutual_rows(i, j, tables, found), 0, len(tables), step, threads)
    return delivered(found.reshape(lead) / unit, out)


@explained
@in_default_mode
def conditional_entropy(
    table: ArrayLike,
    *,
    axis: tuple[int, int] = (-2, -1),
    base: float | None = None,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Any:
    """Entropy H(Y | X) = −Σ p(x,y) log p(y|x) of one variable given another, from joint counts.

    Parameters
    ----------
    table : array_like
        Contingency tables: counts, or probabilities of any positive sum.
    axis : pair of int
        The axes of X, which is given, and of Y; the others are a batch.

    Returns
    -------
    ndarray of float64 of the other axes, or a scalar
        Right to 1e-14. A NaN makes its table NaN.

    Raises
    ------
    ValueError, TypeError
        As in `mutual_information`.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.conditional_entropy([[10, 10], [0, 20]], base=2).round(12))
    0.5
    >>> float(fe.conditional_entropy([[10, 10], [0, 20]], axis=(1, 0), base=2).round(6))
    0.688722
    """
    tables, _ = _as_tables(table, axis)
    unit = log_of_base(base)
    masses = tables.sum(axis=-1)
    shares = masses / masses.sum(axis=-1, keepdims=True)
    lost = np.isnan(shares)
    values = functions.entropy(
        tables,
        row_sums="rescale",
        sample_weight=np.where(lost, 0.0, shares),
        num_threads=num_threads,
    )
    return delivered(np.where(lost, np.nan, values).sum(axis=-1) / unit, out)


@explained
@in_default_mode
def population_stability_index(
    expected: ArrayLike,
    actual: ArrayLike,
    *,
    smoothing: float = 0.0,
    base: float | None = None,
    axis: int = -1,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Any:
    """Population stability index Σ (a − e) log(a/e) of binned counts: their Jeffreys divergence.

    Parameters
    ----------
    expected, actual : array_like, shape (..., B)
        Counts of the same bins, or shares, in the two populations.
    smoothing : float
        Added to every count of both. By default nothing is: a bin that only one population has then
        makes the index infinite.
    base : float, optional
        Base of the logarithm; nats by default, as the usual limits 0.1 and 0.25 assume.
    axis : int
        The axis of the bins.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Never negative.

    Raises
    ------
    ValueError, TypeError
        Negative counts or smoothing, no counts at all, shapes that differ.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.population_stability_index([50, 50], [75, 25]).round(6))
    0.274653
    >>> float(fe.population_stability_index([50, 50, 0], [70, 20, 10]))
    inf
    >>> float(fe.population_stability_index([50, 50, 0], [70, 20, 10], smoothing=0.5).round(6))
    0.632162
    """
    added = as_number(smoothing, "smoothing")
    if not 0 <= added < np.inf:
        raise ValueError(
            f"smoothing: expected a finite number of at least 0, got {shown(smoothing)}"
        )
    log_of_base(base)
    counts = [_counts(x, name) for x, name in ((expected, "expected"), (actual, "actual"))]
    if counts[0].shape != counts[1].shape:
        raise ValueError(f"actual: expected shape {counts[0].shape}, got {counts[1].shape}")
    for x, name in zip(counts, ("expected", "actual"), strict=True):
        if x.ndim == 0:
            raise ValueError(f"{name}: expected at least one axis, got a scalar")
        if not added:
            _check_totals(x.sum(axis=place_of_axis(axis, x.ndim, name)), name)
    return jeffreys_divergence(
        counts[0] + added,
        counts[1] + added,
        row_sums="rescale",
        base=base,
        axis=axis,
        out=out,
        num_threads=num_threads,
    )


def _counts(given: Any, name: str) -> np.ndarray:
    counts = as_floats(given, name)
    wrong = (counts < 0) | np.isinf(counts)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}: expected finite counts of at least 0, got {float(counts[at])!r} at {at}"
        )
    return counts


def _check_totals(totals: np.ndarray, name: str) -> None:
    empty = np.atleast_1d(totals == 0)
    if empty.any():
        first = place(int(empty.argmax()), empty.shape)
        where = f" in table {first}" if np.ndim(totals) else ""
        raise ValueError(f"{name}: expected some counts, got none{where}")


def _as_tables(given: Any, axis: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Tables with the two variables last, scaled by powers of two to sums from ½ to 1."""
    try:
        first, second = axis
    except (TypeError, ValueError):
        raise TypeError(f"axis: expected two axes, got {shown(axis)}") from None
    counts = _counts(given, "table")
    if counts.ndim < 2:
        raise ValueError(f"table: expected at least two axes, got shape {counts.shape}")
    try:
        tables = np.moveaxis(counts, (first, second), (-2, -1))
    except ValueError:
        raise ValueError(f"axis: expected two axes of {counts.ndim}, got {shown(axis)}") from None
    largest = np.max(tables, axis=(-2, -1), initial=0.0, keepdims=True)
    _check_totals(largest[..., 0, 0], "table")
    size = np.frexp(np.where(np.isnan(largest), 1.0, largest))[1]
    size = size + int(tables.shape[-2] * tables.shape[-1]).bit_length()
    return np.ldexp(tables, -size), (first, second)
