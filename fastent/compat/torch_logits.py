"""Losses of logits that torch lacks, differentiable in every operand that holds logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import fastent as fe
from fastent._errors import shown
from fastent.compat.autograd import HALVES, loss, scaled


def kl_divergence(
    p: Tensor,
    q: Tensor,
    *,
    kind: str | tuple[str, str] = "logits",
    temperature: float = 1.0,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
    axis: int = -1,
) -> Tensor:
    """KL(p ‖ q) along an axis.

    Parameters
    ----------
    p, q : Tensor
        The two distributions; leading axes broadcast.
    kind : {"probs", "logprobs", "logits"} or a pair of them
        What the operands hold; gradients flow to those that hold logits.
    temperature : float
        Logits are divided by it.
    sample_weight : Tensor, optional
        Weights of the rows, broadcast.
    reduction : {"none", "mean", "sum"}
        The mean divides by the sum of the weights.
    axis : int
        The classes.

    Returns
    -------
    Tensor of float64
        Nats.

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import kl_divergence
    >>> q = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    >>> kl_divergence(torch.tensor([[0.75, 0.25]]), q, kind=("probs", "logits")).backward()
    >>> q.grad.tolist()
    [[-0.25, 0.25]]
    """
    given = {"temperature": temperature, "sample_weight": sample_weight}
    return _pair("kl_divergence", (p, q), kind, reduction, axis, given)


def js_divergence(
    p: Tensor,
    q: Tensor,
    *,
    kind: str | tuple[str, str] = "logits",
    temperature: float = 1.0,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
    axis: int = -1,
) -> Tensor:
    """Jensen-Shannon divergence along an axis.

    Parameters
    ----------
    p, q, kind, temperature, sample_weight, reduction, axis
        As in `kl_divergence`.

    Returns
    -------
    Tensor of float64
        Nats.

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import js_divergence
    >>> js_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).item()
    0.0
    """
    given = {"temperature": temperature, "sample_weight": sample_weight}
    return _pair("js_divergence", (p, q), kind, reduction, axis, given)


def entropy(
    input: Tensor,
    *,
    temperature: float = 1.0,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
    axis: int = -1,
) -> Tensor:
    """Entropy of the softmax of logits along an axis.

    Parameters
    ----------
    input : Tensor
        Logits.
    temperature, sample_weight, reduction, axis
        As in `kl_divergence`.

    Returns
    -------
    Tensor of float64
        Nats.

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import entropy
    >>> round(entropy(torch.zeros(1, 4)).item(), 12)
    1.38629436112
    """
    given = {"temperature": temperature, "sample_weight": sample_weight}
    return _loss("entropy", (), (input,), reduction, axis, given)


def focal_cross_entropy(
    target: Tensor,
    input: Tensor,
    *,
    gamma: float = 2.0,
    temperature: float = 1.0,
    class_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    axis: int = -1,
) -> Tensor:
    """Focal cross-entropy of labels or probabilities, −(1 − q)^γ·log q, along an axis.

    Parameters
    ----------
    target : Tensor
        Labels, or probabilities of the shape of `input`.
    input : Tensor
        Logits, to which gradients flow.
    gamma : float
        The focusing exponent, at least 0.
    class_weight : Tensor of shape (C,), optional
        Weights of the classes, of labels only.
    ignore_index : int, optional
        Rows of this label are left out.
    temperature, sample_weight, reduction, axis
        As in `kl_divergence`.

    Returns
    -------
    Tensor of float64
        Nats.

    Examples
    --------
    >>> import torch
    >>> from fastent.compat.torch import focal_cross_entropy
    >>> round(focal_cross_entropy(torch.tensor([0]), torch.zeros(1, 2)).item(), 12)
    0.17328679514
    """
    given = {
        "gamma": gamma, "temperature": temperature, "class_weight": class_weight,
        "sample_weight": sample_weight, "ignore_index": ignore_index,
    }  # fmt: skip
    if target.requires_grad:
        raise ValueError("target: expected a tensor without gradient; detach it")
    return _loss("focal_cross_entropy", (target,), (input,), reduction, axis, given)


def _pair(
    name: str, operands: tuple[Tensor, Tensor], kind: Any, reduction: str, axis: int,
    given: dict[str, Any],
) -> Tensor:  # fmt: skip
    kinds = (kind, kind) if isinstance(kind, str) else tuple(kind)
    for x, which, what in zip(operands, "pq", kinds, strict=False):
        if x.requires_grad and what != "logits":
            raise ValueError(
                f"{which}: requires a gradient, which flows to logits only, got kind {shown(what)}"
            )
    return _loss(name, (), operands, reduction, axis, given, kind)


def _loss(
    name: str, before: tuple[Tensor, ...], operands: tuple[Tensor, ...], reduction: str, axis: int,
    given: dict[str, Any], kind: Any = "logits",
) -> Tensor:  # fmt: skip
    """fastent's function of that name, and its gradient in each of the operands, which come after
    those `before`. Where each row has a factor of its own, an operand is broadcast to all rows
    before, and its derivatives are summed over them after."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    for key, x in given.items():  # fastent has no gradient for them
        if isinstance(x, Tensor) and x.requires_grad:
            raise ValueError(f"{key}: expected a tensor without gradient; detach it")
    function, derivative = getattr(fe, name), getattr(fe, f"{name}_gradient")
    given = {"axis": axis, **given}

    def value(*operands: Tensor) -> Tensor:
        found = function(*before, *operands, kind=kind, reduction=reduction, **given)
        return torch.as_tensor(found, dtype=torch.float64)

    def slopes_of(i: int) -> Callable[..., Tensor]:
        wrt = {"wrt": "pq"[i], "kind": kind} if len(operands) == 2 else {}

        def gradient(operands: list[Tensor], reduction: str) -> Tensor:
            found = derivative(*before, *operands, reduction=reduction, **wrt, **given)
            return torch.from_numpy(found)

        def slopes(upstream: Tensor, *operands: Any) -> Tensor:
            wide = [x.float() if x.dtype in HALVES else x for x in operands]
            if reduction != "none":
                return scaled(gradient(wide, reduction), upstream)
            rows = wide[i].movedim(axis, -1)
            wide[i] = rows.expand(*upstream.shape, rows.shape[-1]).movedim(-1, axis)
            found = gradient(wide, "sum").movedim(axis, -1)
            return scaled(found, upstream[..., None]).sum_to_size(rows.shape).movedim(-1, axis)

        return slopes

    return loss(value, None, *operands, slopes=tuple(map(slopes_of, range(len(operands)))))
