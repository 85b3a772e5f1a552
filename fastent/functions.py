"""The public row functions.

All of them take NumPy arrays, what can be viewed as one without a copy, and columns of dataframes,
of float64, float32, float16 or bfloat16, and return float64. Values are right to 1e-14 relative for
float64 and 1e-6 for narrower inputs, on every row; 0·log 0 is 0, and p > 0 against q = 0 is
infinity. Bad input raises a one-line ValueError or TypeError that names the argument and the first
bad row.

Leading axes broadcast as NumPy's do, without a copy: ``P`` of shape (n, C) against one row of shape
(C,), or ``P[:, None]`` against ``Q[None]``. The numbers of classes must be equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Unpack, overload

from numpy import ndarray
from numpy.typing import ArrayLike

from fastent import _unequal as unequal
from fastent._classes import as_codes
from fastent._keywords import (
    Array,
    Backend,
    BinaryKeywords,
    CategoricalKeywords,
    DivergenceKeywords,
    Each,
    EntropyKeywords,
    Kind,
    Kinds,
    Reduced,
    Reduction,
    RowSums,
    SparseKeywords,
    explained,
)
from fastent.backends.cython.engine import evaluate


@overload
def sparse_cross_entropy(
    labels: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Each = "none",
    **keywords: Unpack[SparseKeywords],
) -> Array: ...


@overload
def sparse_cross_entropy(
    labels: ArrayLike, pred: ArrayLike, *, reduction: Reduced, **keywords: Unpack[SparseKeywords]
) -> float: ...


@overload
def sparse_cross_entropy(
    labels: ArrayLike, pred: ArrayLike, *, reduction: Reduction, **keywords: Unpack[SparseKeywords]
) -> Array | float: ...


@explained
def sparse_cross_entropy(
    labels: ArrayLike,
    pred: ArrayLike,
    *,
    kind: Kind = "probs",
    row_sums: RowSums = "check",
    eps: float = 0.0,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | str | None = None,
    classes: Sequence[Any] | None = None,
    lengths: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    axis: int | None = -1,
    keepdims: bool = False,
    out: Array | None = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Array | float:
    """Cross-entropy of class labels: −log q[label] of each row.

    Parameters
    ----------
    labels : array_like of whole numbers, shape (...)
        The class of each row, in [0, C).
    pred : array_like, shape (..., C)
        Predicted probabilities, log-probabilities or logits.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Nats, unless `base` says otherwise.

    Raises
    ------
    ValueError, TypeError
        Labels out of range, negative probabilities, rows that do not sum to 1, wrong shapes.

    Notes
    -----
    From logits, log(Σ e^x) − x[label] with the maximum kept out of the sum [1]_.

    References
    ----------
    .. [1] Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax
       functions", IMA Journal of Numerical Analysis 41 (2021).

    Examples
    --------
    >>> import fastent as fe
    >>> fe.sparse_cross_entropy([0, 1], [[0.5, 0.5], [0.25, 0.75]], base=2).round(6).tolist()
    [1.0, 0.415037]
    >>> float(fe.sparse_cross_entropy(0, [40.0, 0.0, 0.0], kind="logits"))
    8.496708510583178e-18
    >>> fe.sparse_cross_entropy(["dog"], [[0.5, 0.5]], classes=["cat", "dog"], base=2).tolist()
    [1.0]
    """
    if lengths is not None or type(pred) is not ndarray or pred.dtype.char == "O":
        rows: Any = unequal.list_rows(pred, lengths, axis)
        pred = rows
        if lengths is not None or unequal.several(rows):
            unequal.refuse_by_class(class_weight=class_weight, classes=classes)
            if keepdims is not False:
                raise ValueError("keepdims: does not apply to rows of unequal length")
            return unequal.cross_entropy(
                labels,
                rows,
                sample_weight,
                reduction,
                out,
                kind=kind,
                row_sums=row_sums,
                eps=eps,
                temperature=temperature,
                label_smoothing=label_smoothing,
                ignore_index=ignore_index,
                base=base,
                num_threads=num_threads,
                backend=backend,
            )
    if classes is not None:
        labels, ignore_index = as_codes(labels, pred, classes, ignore_index, axis)
    return evaluate(
        "sparse",
        ("cross_entropy",),
        labels,
        pred,
        reduction,
        out,
        kind,  # by position: see evaluate
        row_sums,
        eps=eps,
        temperature=temperature,
        label_smoothing=label_smoothing,
        class_weight=class_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        base=base,
        axis=axis,
        keepdims=keepdims,
        num_threads=num_threads,
        backend=backend,
    )


@overload
def categorical_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Each = "none",
    **keywords: Unpack[CategoricalKeywords],
) -> Array: ...


@overload
def categorical_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Reduced,
    **keywords: Unpack[CategoricalKeywords],
) -> float: ...


@overload
def categorical_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Reduction,
    **keywords: Unpack[CategoricalKeywords],
) -> Array | float: ...


@explained
def categorical_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    kind: Kinds = "probs",
    row_sums: RowSums = "check",
    eps: float = 0.0,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    axis: int | None = -1,
    keepdims: bool = False,
    out: Array | None = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Array | float:
    """Cross-entropy of two distributions: H(p, q) = −Σ p log q of each row.

    Parameters
    ----------
    target : array_like, shape (..., C)
        The true distribution p: probabilities, unless `kind` is a pair.
    pred : array_like, shape (..., C)
        The predicted distribution q.
    kind : {"probs", "logprobs", "logits"} or a pair of them
        One name speaks of `pred`; a pair of both operands.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Nats, unless `base` says otherwise.

    Raises
    ------
    ValueError, TypeError
        Negative probabilities, rows that do not sum to 1, shapes that differ.

    Notes
    -----
    Cover and Thomas, *Elements of Information Theory*, section 2.3: H(p, q) = H(p) + KL(p ‖ q).

    Examples
    --------
    >>> import fastent as fe
    >>> p, q = [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]
    >>> float(fe.categorical_cross_entropy(p, q, base=2))
    1.75
    """
    return evaluate(
        "categorical",
        ("cross_entropy",),
        target,
        pred,
        reduction,
        out,
        kind=kind,
        row_sums=row_sums,
        eps=eps,
        temperature=temperature,
        label_smoothing=label_smoothing,
        class_weight=class_weight,
        sample_weight=sample_weight,
        base=base,
        axis=axis,
        keepdims=keepdims,
        num_threads=num_threads,
        backend=backend,
    )


@overload
def binary_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    reduction: Each = "none",
    **keywords: Unpack[BinaryKeywords],
) -> Array: ...


@overload
def binary_cross_entropy(
    target: ArrayLike, pred: ArrayLike, *, reduction: Reduced, **keywords: Unpack[BinaryKeywords]
) -> float: ...


@overload
def binary_cross_entropy(
    target: ArrayLike, pred: ArrayLike, *, reduction: Reduction, **keywords: Unpack[BinaryKeywords]
) -> Array | float: ...


@explained
def binary_cross_entropy(
    target: ArrayLike,
    pred: ArrayLike,
    *,
    kind: Kind = "probs",
    eps: float = 0.0,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    out: Array | None = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Array | float:
    """Binary cross-entropy: −t log q − (1−t) log(1−q) of each element.

    Parameters
    ----------
    target : array_like, any shape
        Targets t in [0, 1], hard or soft.
    pred : array_like, any shape that broadcasts against it
        Probabilities q, their logarithms, or logits log(q/(1−q)).

    Returns
    -------
    ndarray of float64, the shape of the operands, or a scalar
        Nats, unless `base` says otherwise.

    Raises
    ------
    ValueError, TypeError
        Numbers outside [0, 1], shapes that differ.

    Notes
    -----
    From logits x, ``log1p(e^−|x|) + |x|·w`` with w = 1 − t for x >= 0 and t for x < 0.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.binary_cross_entropy([1, 0], [0.5, 0.25], base=2).round(6).tolist()
    [1.0, 0.415037]
    """
    return evaluate(
        "binary",
        ("cross_entropy",),
        target,
        pred,
        reduction,
        out,
        kind=kind,
        eps=eps,
        temperature=temperature,
        label_smoothing=label_smoothing,
        sample_weight=sample_weight,
        base=base,
        num_threads=num_threads,
        backend=backend,
    )


class PairFunction(Protocol):
    """What type checkers see of KL and JS."""

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        reduction: Each = "none",
        **keywords: Unpack[DivergenceKeywords],
    ) -> Array: ...

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        reduction: Reduced,
        **keywords: Unpack[DivergenceKeywords],
    ) -> float: ...

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        reduction: Reduction,
        **keywords: Unpack[DivergenceKeywords],
    ) -> Array | float: ...


def _of_pairs(function: Any) -> PairFunction:
    return function  # type: ignore[no-any-return]


@_of_pairs
@explained
def kl_divergence(
    p: ArrayLike,
    q: ArrayLike,
    *,
    kind: Kinds = "probs",
    row_sums: RowSums = "check",
    eps: float = 0.0,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    axis: int | None = -1,
    keepdims: bool = False,
    out: Array | None = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Array | float:
    """Kullback-Leibler divergence KL(p ‖ q) = Σ p log(p/q) of each row.

    Parameters
    ----------
    p : array_like, shape (..., C)
        The true distribution.
    q : array_like, shape (..., C)
        The predicted distribution.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Nats, unless `base` says otherwise; never negative (but see row_sums="as_is" and eps).

    Raises
    ------
    ValueError, TypeError
        Negative probabilities, rows that do not sum to 1, shapes that differ.

    Notes
    -----
    Cover and Thomas, *Elements of Information Theory*, section 2.3. Summed as terms
    p log(p/q) − p + q, none of which is negative, so that nearly equal rows lose no digits.

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.kl_divergence([0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3])), 7)
    0.0852996
    >>> float(fe.kl_divergence([1.0, 0.0], [0.0, 1.0]))
    inf
    """
    return evaluate(
        "divergence",
        ("kl_divergence",),
        p,
        q,
        reduction,
        out,
        kind=kind,
        row_sums=row_sums,
        eps=eps,
        temperature=temperature,
        sample_weight=sample_weight,
        base=base,
        axis=axis,
        keepdims=keepdims,
        num_threads=num_threads,
        backend=backend,
    )


@_of_pairs
@explained
def js_divergence(
    p: ArrayLike,
    q: ArrayLike,
    *,
    kind: Kinds = "probs",
    row_sums: RowSums = "check",
    eps: float = 0.0,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    axis: int | None = -1,
    keepdims: bool = False,
    out: Array | None = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Array | float:
    """Jensen-Shannon divergence ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2, of each row.

    The divergence, between 0 and ln 2; SciPy's ``jensenshannon`` is its square root.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Nats, unless `base` says otherwise.

    Raises
    ------
    ValueError, TypeError
        Negative probabilities, rows that do not sum to 1, shapes that differ.

    Notes
    -----
    Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information
    Theory 37 (1991).

    Examples
    --------
    >>> import fastent as fe
    >>> round(float(fe.js_divergence([1.0, 0.0], [0.0, 1.0], base=2)), 14)
    1.0
    """
    return evaluate(
        "divergence",
        ("js_divergence",),
        p,
        q,
        reduction,
        out,
        kind=kind,
        row_sums=row_sums,
        eps=eps,
        temperature=temperature,
        sample_weight=sample_weight,
        base=base,
        axis=axis,
        keepdims=keepdims,
        num_threads=num_threads,
        backend=backend,
    )


@overload
def entropy(
    p: ArrayLike, *, reduction: Each = "none", **keywords: Unpack[EntropyKeywords]
) -> Array: ...


@overload
def entropy(p: ArrayLike, *, reduction: Reduced, **keywords: Unpack[EntropyKeywords]) -> float: ...


@overload
def entropy(
    p: ArrayLike, *, reduction: Reduction, **keywords: Unpack[EntropyKeywords]
) -> Array | float: ...


@explained
def entropy(
    p: ArrayLike,
    *,
    kind: Kind = "probs",
    row_sums: RowSums = "check",
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    axis: int | None = -1,
    keepdims: bool = False,
    out: Array | None = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Array | float:
    """Entropy H(p) = −Σ p log p of each row.

    Parameters
    ----------
    p : array_like, shape (..., C)
        The distribution.

    Returns
    -------
    ndarray of float64, shape (...), or a scalar
        Nats, unless `base` says otherwise.

    Raises
    ------
    ValueError, TypeError
        Negative probabilities, rows that do not sum to 1.

    Notes
    -----
    Cover and Thomas, *Elements of Information Theory*, section 2.1.

    Examples
    --------
    >>> import fastent as fe
    >>> float(fe.entropy([0.5, 0.25, 0.125, 0.125], base=2))
    1.75
    """
    return evaluate(
        "entropy",
        ("entropy",),
        None,
        p,
        reduction,
        out,
        kind=kind,
        row_sums=row_sums,
        temperature=temperature,
        sample_weight=sample_weight,
        base=base,
        axis=axis,
        keepdims=keepdims,
        num_threads=num_threads,
        backend=backend,
    )
