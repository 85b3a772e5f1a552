"""The public row functions.

All of them take NumPy arrays, or what can be viewed as one without a copy, of float64, float32,
float16 or bfloat16, and return float64. Values are right to 1e-14 relative for float64 and 1e-6 for
narrower inputs, on every row; 0·log 0 is 0, and p > 0 against q = 0 is infinity. Bad input raises a
one-line ValueError or TypeError that names the argument and the first bad row.

Keywords that several functions share
-------------------------------------
kind : {"probs", "logprobs", "logits"}
    What the predicted operand holds.
row_sums : {"check", "rescale", "as_is"}
    "check" demands rows of probabilities and log-probabilities that sum to 1 within 1e-3 (2e-2 for
    16-bit inputs), "rescale" takes any positive sum; both give the value of the normalised rows.
    "as_is" takes the numbers as they are.
eps : float
    0 is exact. Otherwise predicted probabilities are clipped to [eps, 1 − eps], eps < ½, and not
    normalised again.
temperature : float
    Logits are divided by it.
label_smoothing : float
    The target becomes (1 − ε)·t + ε/C.
class_weight : array_like of shape (C,)
    Term c of the sum over classes is weighted by w_c.
sample_weight : array_like
    The leading shape weighs rows. For sparse and categorical cross-entropy the full shape (…, C)
    weighs terms.
reduction : {"none", "sum", "mean"}
    Weighted values of the leading shape (a scalar for one row), their correctly rounded sum, or
    sum / Σ W where W is the row's weight times the weighted sum of its target; nan if ΣW is 0.
base : float
    Base of the logarithm; nats if None.
axis : int
    The class axis.
out : ndarray of float64
    Where the result goes.
num_threads : int
    Threads to use; see `get_num_threads`.
backend : {"cython", "numba", "numpy"}
    See `set_backend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike

from fastent._classes import as_codes
from fastent.backends.cython.engine import evaluate

Kind = Literal["probs", "logprobs", "logits"]
Kinds = Kind | tuple[Kind, Kind]
RowSums = Literal["check", "rescale", "as_is"]
Reduction = Literal["none", "sum", "mean"]
Backend = Literal["cython", "numba", "numpy"]


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
    reduction: Reduction = "none",
    base: float | None = None,
    axis: int = -1,
    out: Any = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Any:
    """Cross-entropy of class labels: −log q[label] of each row.

    Parameters
    ----------
    labels : array_like of whole numbers, shape (...)
        The class of each row, in [0, C).
    pred : array_like, shape (..., C)
        Predicted probabilities, log-probabilities or logits.
    ignore_index : int, optional
        Rows with this label get value 0 and weight 0.
    classes : sequence of str or of numbers, optional
        Different names in the order of the columns; labels are then such names, compared as text
        or by value, and `ignore_index` is a name too.
    kind, row_sums, eps, temperature, label_smoothing, class_weight, sample_weight, reduction, \
base, axis, out, num_threads, backend
        See :mod:`fastent.functions`.

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
    if classes is not None:
        labels, ignore_index = as_codes(labels, pred, classes, ignore_index, axis)
    return evaluate(
        "sparse",
        ("cross_entropy",),
        labels,
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
        ignore_index=ignore_index,
        base=base,
        axis=axis,
        num_threads=num_threads,
        backend=backend,
    )


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
    axis: int = -1,
    out: Any = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Any:
    """Cross-entropy of two distributions: H(p, q) = −Σ p log q of each row.

    Parameters
    ----------
    target : array_like, shape (..., C)
        The true distribution p: probabilities, unless `kind` is a pair.
    pred : array_like, shape (..., C)
        The predicted distribution q.
    kind : str or pair of str
        One name speaks of `pred`; a pair of both operands.
    row_sums, eps, temperature, label_smoothing, class_weight, sample_weight, reduction, base, \
axis, out, num_threads, backend
        See :mod:`fastent.functions`.

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
        num_threads=num_threads,
        backend=backend,
    )


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
    out: Any = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Any:
    """Binary cross-entropy: −t log q − (1−t) log(1−q) of each element.

    Parameters
    ----------
    target : array_like, any shape
        Targets t in [0, 1], hard or soft.
    pred : array_like, the shape of `target`
        Probabilities q, their logarithms, or logits log(q/(1−q)).
    kind, eps, temperature, label_smoothing, sample_weight, reduction, base, out, num_threads, \
backend
        See :mod:`fastent.functions`; every element is a row, and smoothing is towards ½.

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
    From logits x, log1p(e^−|x|) + |x|·w with w = 1 − t for x >= 0 and t for x < 0.

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
    axis: int = -1,
    out: Any = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Any:
    """Kullback-Leibler divergence KL(p ‖ q) = Σ p log(p/q) of each row.

    Parameters
    ----------
    p : array_like, shape (..., C)
        The true distribution.
    q : array_like, shape (..., C)
        The predicted distribution.
    kind : str or pair of str
        One name for both operands, or a pair in the order of the arguments.
    row_sums, eps, temperature, sample_weight, reduction, base, axis, out, num_threads, backend
        See :mod:`fastent.functions`; `eps` clips q.

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
        num_threads=num_threads,
        backend=backend,
    )


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
    axis: int = -1,
    out: Any = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Any:
    """Jensen-Shannon divergence ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2, of each row.

    The divergence, between 0 and ln 2; SciPy's ``jensenshannon`` is its square root.

    Parameters
    ----------
    p, q : array_like, shape (..., C)
        The two distributions.
    kind : str or pair of str
        One name for both operands, or a pair in the order of the arguments.
    row_sums, eps, temperature, sample_weight, reduction, base, axis, out, num_threads, backend
        See :mod:`fastent.functions`; `eps` clips q.

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
        num_threads=num_threads,
        backend=backend,
    )


def entropy(
    p: ArrayLike,
    *,
    kind: Kind = "probs",
    row_sums: RowSums = "check",
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "none",
    base: float | None = None,
    axis: int = -1,
    out: Any = None,
    num_threads: int | None = None,
    backend: Backend | None = None,
) -> Any:
    """Entropy H(p) = −Σ p log p of each row.

    Parameters
    ----------
    p : array_like, shape (..., C)
        The distribution.
    kind, row_sums, temperature, sample_weight, reduction, base, axis, out, num_threads, backend
        See :mod:`fastent.functions`.

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
        num_threads=num_threads,
        backend=backend,
    )
