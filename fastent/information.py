"""What counts say: entropies, mutual and conditional information, the stability index.

Counts are any non-negative numbers; they are normalised, and nothing is smoothed that is not asked
for.
"""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from fastent import functions
from fastent._errors import (
    as_keepdims,
    as_number,
    as_reduction,
    as_text,
    check_numbers,
    one_of,
    place_of_axis,
    shown,
)
from fastent._estimators import chao_shen, jackknife, miller_madow
from fastent._keywords import (
    Array,
    Each,
    Kind,
    OrderKeywords,
    PlainOrderKeywords,
    Reduced,
    Reduction,
    RowSums,
    explained,
)
from fastent._orders import by_rows, normalised, renyi, tsallis
from fastent._reductions import delivered, exact_sum, log_of_base, reduced
from fastent._settings import chosen_threads
from fastent._shapes import broadcast_shape
from fastent._weights import as_floats, place, row_weights
from fastent.backends.cython.derivatives.loop import as_array
from fastent.backends.cython.elementwise import ufuncs
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.cython.kernels.mutual_information import mutual_rows
from fastent.backends.sharing import share
from fastent.divergences import jeffreys_divergence

Method = Literal["plugin", "miller_madow", "chao_shen", "jackknife"]
METHODS = ("plugin", "miller_madow", "chao_shen", "jackknife")
SHARED = 1 << 15  # cells from which another thread pays


@explained
@in_default_mode
def entropy_of_counts(
    counts: ArrayLike,
    method: Method = "plugin",
    *,
    base: float | None = None,
    axis: int = -1,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Any:
    """Entropy of the distribution that counts were drawn from.

    Parameters
    ----------
    counts : array_like, shape (..., C)
        How often each class was seen; whole numbers, but for "plugin".
    method : {"plugin", "miller_madow", "chao_shen", "jackknife"}
        The plug-in value −Σ n/N log n/N, which is too small on average; with Miller and Madow's
        (K − 1)/2N for the K classes seen; Chao and Shen's estimator, which makes up for classes not
        seen by the share of those seen once; Zahl's jackknife.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Right to 1e-13. A NaN makes its row NaN.

    Raises
    ------
    ValueError, TypeError
        Negative or infinite counts, none at all, fractions where whole numbers are needed.

    References
    ----------
    .. [1] Chao and Shen, "Nonparametric estimation of Shannon's index of diversity when there are
       unseen species in sample", Environmental and Ecological Statistics 10 (2003).
    .. [2] Zahl, "Jackknifing an index of diversity", Ecology 58 (1977).

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.entropy_of_counts([4, 2, 1, 1], base=2))
    1.75
    >>> float(fe.entropy_of_counts([4, 2, 1, 1], "miller_madow").round(12))
    1.40050756598
    """
    method = one_of(method, "method", METHODS)
    unit = log_of_base(base)
    given = _counts(counts, "counts")
    if given.ndim == 0:
        raise ValueError("counts: expected at least one axis, got a scalar")
    at = place_of_axis(axis, given.ndim, "counts")
    _check_totals(np.max(given, axis=at, initial=0.0), "counts", "row")
    if method != "plugin":
        check_numbers(given == np.floor(given), given, "counts", f"whole numbers for {method!r}")
    threads = chosen_threads(num_threads)
    if method == "chao_shen":
        found = by_rows(chao_shen, given, at, threads)
    elif method == "jackknife":
        found = by_rows(jackknife, given, at, threads)
    else:
        found = functions.entropy(given, row_sums="rescale", axis=at, num_threads=num_threads)
        if method == "miller_madow":
            found = found + by_rows(miller_madow, given, at, threads)
    return delivered(np.asarray(found) / unit, out)


@overload
def renyi_entropy(
    p: ArrayLike, alpha: float, *, reduction: Each = "none", **keywords: Unpack[OrderKeywords]
) -> Array: ...


@overload
def renyi_entropy(
    p: ArrayLike, alpha: float, *, reduction: Reduced, **keywords: Unpack[OrderKeywords]
) -> float: ...


@overload
def renyi_entropy(
    p: ArrayLike, alpha: float, *, reduction: Reduction, **keywords: Unpack[OrderKeywords]
) -> Array | float: ...


@explained
@in_default_mode
def renyi_entropy(
    p: ArrayLike,
    alpha: float,
    *,
    reduction: Reduction = "none",
    base: float | None = None,
    **keywords: Unpack[PlainOrderKeywords],
) -> Any:
    """Rényi entropy log(Σ p^α)/(1 − α) of order α ≥ 0, of each row.

    α = 0 gives the logarithm of the number of classes with p > 0, 1 the entropy, infinity
    −log of the largest probability.

    Parameters
    ----------
    p : array_like, shape (..., C)
        The distribution.
    alpha : float
        The order.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Never negative, and right to 1e-14 where nearly certain, too.

    Raises
    ------
    ValueError, TypeError
        An order below 0; else as `entropy`.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.renyi_entropy([0.5, 0.25, 0.25], 2, base=2).round(12))
    1.415037499279
    >>> float(fe.renyi_entropy([0.5, 0.25, 0.25], float("inf"), base=2))
    1.0
    """
    return _of_order(renyi, p, alpha, log_of_base(base), reduction, infinite=True, **keywords)


@overload
def tsallis_entropy(
    p: ArrayLike, alpha: float, *, reduction: Each = "none", **keywords: Unpack[PlainOrderKeywords]
) -> Array: ...


@overload
def tsallis_entropy(
    p: ArrayLike, alpha: float, *, reduction: Reduced, **keywords: Unpack[PlainOrderKeywords]
) -> float: ...


@overload
def tsallis_entropy(
    p: ArrayLike, alpha: float, *, reduction: Reduction, **keywords: Unpack[PlainOrderKeywords]
) -> Array | float: ...


@explained
@in_default_mode
def tsallis_entropy(
    p: ArrayLike,
    alpha: float,
    *,
    reduction: Reduction = "none",
    **keywords: Unpack[PlainOrderKeywords],
) -> Any:
    """Tsallis entropy (1 − Σ p^α)/(α − 1) of order α ≥ 0, of each row; the entropy at α = 1.

    Parameters
    ----------
    p : array_like, shape (..., C)
        The distribution.
    alpha : float
        The order; 2 gives the Gini impurity.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Never negative, and right to 1e-14 where nearly certain, too.

    Raises
    ------
    ValueError, TypeError
        An order below 0 or infinite; else as `entropy`.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.tsallis_entropy([0.5, 0.25, 0.25], 2))
    0.625
    """
    return _of_order(tsallis, p, alpha, 1.0, reduction, infinite=False, **keywords)


def _of_order(
    formula: Any,
    p: Any,
    alpha: float,
    unit: float,
    reduction: Reduction,
    *,
    infinite: bool,
    kind: Kind = "probs",
    row_sums: RowSums = "check",
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    axis: int | None = -1,
    keepdims: bool = False,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Any:
    if keepdims is not False:
        keepdims = as_keepdims(keepdims, as_reduction(reduction))
    order = as_number(alpha, "alpha")
    if not order >= 0 or (order == np.inf and not infinite):
        expected = "a number" if infinite else "a finite number"
        raise ValueError(f"alpha: expected {expected} of at least 0, got {shown(alpha)}")
    array, disguised = as_array(p, "p")
    if disguised:
        array = as_floats(p, "p")
    kept = None
    if keepdims:
        kept = tuple(
            1 if axis in (None, i, i - array.ndim) else n for i, n in enumerate(array.shape)
        )
    if axis is None and array.ndim:
        p = array = array.reshape(-1)
    at = place_of_axis(-1 if axis is None else axis, array.ndim, "p")
    lead = array.shape[:at] + array.shape[at + 1 :]
    weight = row_weights(sample_weight, lead)
    values = functions.entropy(  # also checks the rows
        p,
        kind=kind,
        row_sums=row_sums,
        temperature=temperature,
        sample_weight=None if weight is None else (weight != 0).astype(np.float64),
        axis=at,
        num_threads=num_threads,
    )
    if order != 1:
        kind, as_is, heat = as_text(kind), as_text(row_sums) == "as_is", float(temperature)

        def of_rows(x: np.ndarray) -> np.ndarray:
            found: np.ndarray = formula(normalised(x, kind, as_is, heat), order, as_is)
            return found

        values = by_rows(of_rows, array, at, chosen_threads(num_threads))
    return reduced(np.asarray(values) / unit, weight, reduction, out, kept)


@explained
@in_default_mode
def mutual_information(
    table: ArrayLike,
    y: ArrayLike | None = None,
    *,
    axis: tuple[int, int] = (-2, -1),
    base: float | None = None,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Any:
    """Mutual information Σ p(x,y) log(p(x,y) / p(x)p(y)) of two variables, from their joint counts
    or from labels.

    Parameters
    ----------
    table : array_like
        Contingency tables: counts, or probabilities of any positive sum. With `y`, the labels of
        one variable: numbers or text.
    y : array_like, optional
        The labels of the other variable, as many.
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
    >>> float(fe.mutual_information(["a", "b", "a", "b"], [1, 0, 1, 0], base=2))
    1.0
    """
    if y is not None:
        if axis != (-2, -1):
            raise ValueError(f"axis: applies to tables, not to labels, got {axis!r}")
        unit = log_of_base(base)
        chosen_threads(num_threads)
        return delivered(np.float64(_of_labels(table, y) / unit), out)
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
        Counts of the same bins, or shares, in the two populations; leading shapes broadcast.
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
    both = []
    for given, name in ((expected, "expected"), (actual, "actual")):
        counts = _counts(given, name)
        if counts.ndim == 0:
            raise ValueError(f"{name}: expected at least one axis, got a scalar")
        counts = np.moveaxis(counts, place_of_axis(axis, counts.ndim, name), -1)
        if not added:
            _check_totals(np.max(counts, axis=-1, initial=0.0), name)
        both.append(counts)
    shapes = [counts.shape for counts in both]
    try:
        lead = broadcast_shape(shape[:-1] for shape in shapes)
    except ValueError:
        lead = None
    if lead is None or shapes[0][-1] != shapes[1][-1]:
        raise ValueError(
            f"actual: expected shape {shapes[0]}, or one that broadcasts, got {shapes[1]}"
        )
    return jeffreys_divergence(
        *(np.broadcast_to(counts + added, (*lead, shapes[0][-1])) for counts in both),
        row_sums="rescale",
        base=base,
        out=out,
        num_threads=num_threads,
    )


def _counts(given: Any, name: str) -> np.ndarray:
    counts = as_floats(given, name)
    check_numbers((counts >= 0) & (counts < np.inf), counts, name, "finite counts of at least 0")
    return counts


def _of_labels(x: Any, y: Any) -> float:
    """Mutual information of two vectors, by a table if it is not much larger than they are."""
    codes: list[np.ndarray] = []
    sizes: list[int] = []
    for given, name in ((x, "table"), (y, "y")):
        labels = np.asarray(given)
        if labels.ndim != 1:
            raise ValueError(f"{name}: expected one label a row, got shape {labels.shape}")
        if codes and len(labels) != len(codes[0]):
            raise ValueError(f"y: expected {len(codes[0])} labels, got {len(labels)}")
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            raise ValueError(f"{name}: expected labels, got nan in row {np.isnan(labels).argmax()}")
        try:
            known, code = np.unique(labels, return_inverse=True)
        except TypeError:
            raise TypeError(f"{name}: expected labels of one type, numbers or text") from None
        codes.append(code)
        sizes.append(len(known))
    if not len(codes[0]):
        raise ValueError("table: expected some labels, got none")
    rows, cells = len(codes[0]), sizes[0] * sizes[1]
    flat = codes[0] * sizes[1] + codes[1]
    if cells <= max(1 << 22, 4 * rows):
        return float(mutual_information(np.bincount(flat, minlength=cells).reshape(sizes)))
    pairs, counts = np.unique(flat, return_counts=True)
    margins = [np.bincount(code, minlength=size) for code, size in zip(codes, sizes, strict=True)]
    products = (margins[0][pairs // sizes[1]] * margins[1][pairs % sizes[1]]).astype(np.uint64)
    apart = (rows * rows - int(products.sum())) / rows  # what is expected where nothing was seen
    terms = ufuncs.kl_div(counts.astype(np.float64), products / rows)
    return (exact_sum(terms) + apart) / rows


def _check_totals(totals: np.ndarray, name: str, unit: str = "table") -> None:
    empty = np.atleast_1d(totals == 0)
    if empty.any():
        first = place(int(empty.argmax()), empty.shape)
        where = f" in {unit} {first}" if np.ndim(totals) else ""
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
    # in C order, as NumPy sums by the order in memory
    return np.ldexp(tables, -size, order="C"), (first, second)
