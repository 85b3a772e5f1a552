"""torch's `cross_entropy`, `nll_loss`, `kl_div`, `binary_cross_entropy` and
`binary_cross_entropy_with_logits` for CPU tensors, with the arguments of `torch.nn.functional`.

Values are what torch would give in float64, and come as float64 tensors; inputs of any float dtype,
bfloat16 and half too, are read in place. Gradients flow to every operand that torch differentiates
and arrive in its dtype: those of the logits from `fastent.cross_entropy_gradient` and
`fastent.binary_cross_entropy_gradient`, others from torch's own backward pass in float64. The loss
can be differentiated once. Bad labels and probabilities raise fastent's ValueError.

`kl_divergence`, `js_divergence`, `entropy` and `focal_cross_entropy` are fastent's own, of logits:
torch has none of their name.

Where the numbers differ from torch's, these are right: a class at −inf that the target gives 0 adds
0, not nan, and +inf logits are certainty.
"""

from __future__ import annotations

from fastent._extras import missing

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _error:
    raise missing(_error, "torch", "fastent.compat.torch") from None

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as peer
from torch import Tensor

import fastent as fe
from fastent.compat.autograd import HALVES, loss, scaled
from fastent.compat.softmax import of_axes
from fastent.compat.torch_logits import (
    entropy,
    focal_cross_entropy,
    js_divergence,
    kl_divergence,
)

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "entropy",
    "focal_cross_entropy",
    "js_divergence",
    "kl_div",
    "kl_divergence",
    "nll_loss",
]


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits with classes or probabilities along axis 1.

    Parameters
    ----------
    input : Tensor
        Logits of shape (N, C, d1, ...) or (C,).
    target : Tensor
        Classes, or probabilities of the shape of `input`.
    weight : Tensor of shape (C,), optional
        Weights of the classes.
    ignore_index : int
        Rows of this class are left out.
    reduction : {"none", "mean", "sum"}
        The mean is over the weights of the classes, as in torch.
    label_smoothing : float
        The target becomes (1 − ε)·t + ε/C.
    size_average, reduce : bool, optional
        Deprecated names of `reduction`, as in torch.

    Returns
    -------
    Tensor of float64

    Raises
    ------
    ValueError
        Labels out of range, negative probabilities or weights, tensors not on the CPU.

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import cross_entropy
    >>> cross_entropy(torch.tensor([[40.0, 0, 0]]).double(), torch.tensor([0])).item()
    8.496708510583178e-18
    """
    reduction = named(reduction, size_average, reduce, ("none", "mean", "sum"))
    axis = 1 if input.ndim > 1 else 0
    soft = target.is_floating_point() and target.shape == input.shape
    if not soft:
        check_labels(target, input, axis)

    def values(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        options: dict[str, Any] = {
            "class_weight": doubles(weight),
            "label_smoothing": label_smoothing,
        }
        if soft:
            rows = fe.categorical_cross_entropy(
                target, logits, kind="logits", axis=axis, row_sums="as_is", **options
            )
            return reduced(rows, reduction, logits.numel() // logits.shape[axis])
        rows = fe.sparse_cross_entropy(
            target, logits, kind="logits", axis=axis, ignore_index=ignore_index, **options
        )
        return reduced(rows, reduction, label_weight(target, weight, ignore_index))

    torchs = partial(
        peer.cross_entropy,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )

    def slopes(upstream: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None) -> Any:
        if soft:
            divisor: Any = logits.numel() // logits.shape[axis]
        else:
            divisor = label_weight(target, weight, ignore_index)
            if divisor == 0:  # every label is ignored: the mean is nan, its derivatives 0
                return torch.zeros_like(logits)
        scale = upstream / divisor if reduction == "mean" else upstream
        if reduction == "none":
            scale = scale.unsqueeze(axis)
        if soft:
            return soft_slopes(scale, logits, target, weight, axis, label_smoothing)
        found = fe.cross_entropy_gradient(
            target,
            logits.movedim(axis, -1),
            class_weight=doubles(weight),
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
        )
        return scaled(torch.from_numpy(found).movedim(-1, axis), scale)

    return loss(values, torchs, input, target, weight, slopes=(slopes,))


def soft_slopes(
    scale: Tensor,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    axis: int,
    smoothing: float,
) -> Tensor:
    """q·Σu − u with u the weighted, smoothed target, whose rows may have any sum.

    The gradient of a row sums to 0, which gives that of the largest class its digits.
    """
    wide = logits.float() if logits.dtype in HALVES else logits
    q = torch.from_numpy(np.ascontiguousarray(of_axes(wide.numpy(), axis, "softmax"))).double()
    u = (1 - smoothing) * target.double() + smoothing / logits.shape[axis]
    if weight is not None:
        u = u * weight.double().reshape(-1, *[1] * (u.ndim - axis - 1))
    found = q * u.sum(axis, keepdim=True) - u
    top = logits.argmax(axis, keepdim=True)
    found.scatter_(axis, top, 0.0)
    found.scatter_(axis, top, -found.sum(axis, keepdim=True))
    return scaled(found, scale)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of each class, along axis 1; rows are not checked.

    Parameters
    ----------
    input : Tensor
        Log-probabilities of shape (N, C, d1, ...) or (C,).
    target : Tensor
        Classes.
    weight, ignore_index, reduction, size_average, reduce
        As in `cross_entropy`.

    Returns
    -------
    Tensor of float64

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import nll_loss
    >>> nll_loss(torch.tensor([[-0.5, -1.0]]), torch.tensor([1])).item()
    1.0
    """
    reduction = named(reduction, size_average, reduce, ("none", "mean", "sum"))
    axis = 1 if input.ndim > 1 else 0
    check_labels(target, input, axis)

    def values(logs: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        rows = fe.sparse_cross_entropy(
            target,
            logs,
            kind="logprobs",
            row_sums="as_is",
            axis=axis,
            ignore_index=ignore_index,
            class_weight=doubles(weight),
        )
        return reduced(rows, reduction, label_weight(target, weight, ignore_index))

    torchs = partial(peer.nll_loss, ignore_index=ignore_index, reduction=reduction)
    return loss(values, torchs, input, target, weight)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Terms p (log p − input) of the divergence of `target` p from e^`input`, or their sum.

    As in torch, "mean" divides by the number of elements, "batchmean" by the size of axis 0. The
    terms one by one are plain torch in float64, as are operands whose last axes are not as long.

    Parameters
    ----------
    input : Tensor
        Log-probabilities.
    target : Tensor
        Probabilities, or their logarithms with `log_target`.
    reduction : {"none", "mean", "batchmean", "sum"}
    log_target : bool
    size_average, reduce
        As in `cross_entropy`.

    Returns
    -------
    Tensor of float64

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import kl_div
    >>> kl_div(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]), reduction="sum").item()
    0.6931471824645996
    """
    reduction = named(reduction, size_average, reduce, ("none", "mean", "batchmean", "sum"))
    kinds: Any = ("logprobs" if log_target else "probs", "logprobs")

    def divisor(shape: torch.Size) -> int:
        if reduction == "batchmean":
            return input.shape[0] if input.ndim else 1
        return shape.numel()

    def values(logs: Tensor, target: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(logs.shape, target.shape)
        whole = all(x.ndim and x.numel() and x.shape[-1] == shape[-1] for x in (logs, target))
        if reduction == "none" or not whole:
            terms = kl_terms(logs.double(), target.double(), log_target)
            return reduced(terms, reduction, divisor(terms.shape))
        rows = fe.kl_divergence(target, logs, kind=kinds, row_sums="as_is")
        return reduced(rows, reduction, divisor(shape))

    def torchs(logs: Tensor, target: Tensor) -> Tensor:
        terms = peer.kl_div(logs, target, reduction="none", log_target=log_target)
        return reduced(terms, reduction, divisor(terms.shape))

    return loss(values, torchs, input, target)


def kl_terms(logs: Tensor, target: Tensor, log_target: bool) -> Tensor:
    p = target.exp() if log_target else target
    terms = p * ((target if log_target else target.log()) - logs)
    return torch.where(p == 0, p, terms)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy of probabilities; as in torch, each logarithm stops at −100.

    Parameters
    ----------
    input : Tensor
        Probabilities.
    target : Tensor
        Targets in [0, 1], of the same shape.
    weight : Tensor, optional
        Weights of the elements, broadcast.
    reduction, size_average, reduce
        As in `cross_entropy`.

    Returns
    -------
    Tensor of float64

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import binary_cross_entropy
    >>> binary_cross_entropy(torch.tensor([0.0]), torch.tensor([1.0])).item()
    100.0
    """
    reduction = named(reduction, size_average, reduce, ("none", "mean", "sum"))

    check_target(target, input)
    check_spread(input, weight)

    def values(q: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        found = torch.as_tensor(fe.binary_cross_entropy(target, q))
        stopped = (q < STOP) | (q == 1)
        if stopped.any():
            wide = q.double()
            ones, zeros = wide.log().clamp(min=-100), torch.log1p(-wide).clamp(min=-100)
            t = target.double()
            found = torch.where(stopped, -t * ones - (1 - t) * zeros, found)
        return reduced(weighted(found, weight), reduction, q.numel())

    torchs = partial(peer.binary_cross_entropy, reduction=reduction)
    return loss(values, torchs, input, target, weight)


STOP = 3.8e-44  # just above e^−100


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of logits; `pos_weight` multiplies the term of the positive class.

    Parameters
    ----------
    input : Tensor
        Logits.
    target : Tensor
        Targets, of the same shape.
    weight : Tensor, optional
        Weights of the elements, broadcast.
    pos_weight : Tensor, optional
        Weights of the positive terms, broadcast.
    reduction, size_average, reduce
        As in `cross_entropy`.

    Returns
    -------
    Tensor of float64

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import binary_cross_entropy_with_logits
    >>> round(binary_cross_entropy_with_logits(torch.zeros(1).double(), torch.ones(1)).item(), 12)
    0.69314718056
    """
    reduction = named(reduction, size_average, reduce, ("none", "mean", "sum"))

    check_target(target, input)
    check_spread(input, weight, pos_weight)

    def values(
        logits: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None
    ) -> Tensor:
        if pos_weight is None and bool(((target >= 0) & (target <= 1)).all()):
            found = torch.as_tensor(fe.binary_cross_entropy(target, logits, kind="logits"))
        else:
            t = target.double()
            positive = t if pos_weight is None else t * pos_weight.double()
            ones, zeros = (
                torch.as_tensor(fe.binary_cross_entropy(hard, logits, kind="logits"))
                for hard in (torch.ones_like(logits), torch.zeros_like(logits))
            )
            found = torch.where(positive == 0, positive, positive * ones)
            found = found + torch.where(t == 1, 0.0, (1 - t) * zeros)
        return reduced(weighted(found, weight), reduction, logits.numel())

    def torchs(
        logits: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None
    ) -> Tensor:
        return peer.binary_cross_entropy_with_logits(
            logits, target, weight, reduction=reduction, pos_weight=pos_weight
        )

    def slopes(
        upstream: Tensor,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        pos_weight: Tensor | None,
    ) -> Tensor:
        scale = upstream / logits.numel() if reduction == "mean" else upstream
        t, wide = target.double(), logits.float() if logits.dtype in HALVES else logits
        up, down = (
            torch.from_numpy(fe.binary_cross_entropy_gradient(hard, wide)).double()
            for hard in (torch.ones_like(wide), torch.zeros_like(wide))
        )
        found = (t if pos_weight is None else t * pos_weight.double()) * up + (1 - t) * down
        return scaled(found, scale if weight is None else scale * weight.double())

    return loss(values, torchs, input, target, weight, pos_weight, slopes=(slopes,))


def named(
    reduction: str, size_average: bool | None, reduce: bool | None, known: tuple[str, ...]
) -> str:
    if size_average is not None or reduce is not None:
        reduction = torch.nn._reduction.legacy_get_string(size_average, reduce)
    if reduction not in known:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def doubles(weight: Tensor | None) -> np.ndarray | None:
    return None if weight is None else weight.detach().double().numpy()


def check_labels(labels: Tensor, input: Tensor, axis: int) -> None:
    """torch broadcasts no labels."""
    lead = input.shape[:axis] + input.shape[axis + 1 :]
    if labels.shape != lead:
        raise ValueError(f"target: expected shape {tuple(lead)}, got {tuple(labels.shape)}")


def check_target(target: Tensor, input: Tensor) -> None:
    """Nor targets of two classes."""
    if target.shape != input.shape:
        raise ValueError(
            f"target: expected the shape of input, {tuple(input.shape)}, got {tuple(target.shape)}"
        )


def check_spread(input: Tensor, *weights: Tensor | None) -> None:
    """torch's RuntimeError for weights that do not broadcast to the shape of the input."""
    for weight in weights:
        if weight is not None:
            weight.expand(input.shape)


def weighted(found: Tensor, weight: Tensor | None) -> Tensor:
    return found if weight is None else found * weight.double()


def label_weight(target: Tensor, weight: Tensor | None, ignore_index: int) -> Any:
    """What torch's mean over labels divides by: the weights of the classes, unsmoothed."""
    counted = target[target != ignore_index]
    return counted.numel() if weight is None else weight.double()[counted].sum()


def reduced(values: Any, reduction: str, divisor: Any) -> Tensor:
    values = torch.as_tensor(values, dtype=torch.float64)
    if reduction == "none":
        return values
    total = values.sum()
    return total if reduction == "sum" else total / divisor
