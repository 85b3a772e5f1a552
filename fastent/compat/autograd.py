"""Values of fastent in torch's autograd: derivatives once, and an error beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastent.backends.cython.float_mode import in_default_mode

HALVES = (torch.float16, torch.bfloat16)


class Loss(torch.autograd.Function):
    """A value from fastent; derivatives of the first operands by `slopes`, as many as there are,
    of others torch's own in float64."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Callable[..., Tensor],
        torchs: Callable[..., Tensor] | None,
        slopes: tuple[Callable[..., Tensor], ...],
        *operands: Any,
    ) -> Tensor:
        ctx.save_for_backward(*operands)
        ctx.torchs = torchs
        ctx.slopes = slopes
        return values(*operands)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        saved, wanted = ctx.saved_tensors, ctx.needs_input_grad[3:]
        with torch.no_grad():
            found = derivatives(ctx, gradient, saved, list(wanted))
        if torch.is_grad_enabled():  # somebody wants to differentiate again
            found = [f if f is None else Once.apply(f, gradient, *saved) for f in found]
        return None, None, None, *found


class Once(torch.autograd.Function):
    """A gradient that is not silently a constant: its own derivative is an error."""

    @staticmethod
    def forward(ctx: Any, found: Tensor, *sources: Any) -> Tensor:
        return found.view_as(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise RuntimeError("losses of fastent.compat.torch can be differentiated once only")


@in_default_mode
def derivatives(
    ctx: Any, gradient: Tensor, saved: tuple[Tensor | None, ...], wanted: list[bool]
) -> list[Tensor | None]:
    """What flows to each operand, in its dtype; None to those that want nothing."""
    found: list[Tensor | None] = [None] * len(saved)
    for i, slopes in enumerate(ctx.slopes):
        operand = saved[i]
        if wanted[i] and operand is not None and (operand.numel() or ctx.torchs is None):
            found[i] = slopes(gradient, *(None if x is None else x.detach() for x in saved))
            wanted[i] = False
    if any(wanted):
        operands = [
            x.detach().double() if x is not None and x.is_floating_point() else x for x in saved
        ]
        chosen = [
            x.requires_grad_() for x, w in zip(operands, wanted, strict=True) if x is not None and w
        ]
        with torch.enable_grad():
            value = ctx.torchs(*operands)
        others = iter(torch.autograd.grad(value, chosen, gradient))
        found = [next(others) if w else f for f, w in zip(found, wanted, strict=True)]
    return [
        None if f is None or x is None else f.to(x.dtype) for f, x in zip(found, saved, strict=True)
    ]


@in_default_mode
def loss(
    values: Callable[..., Tensor],
    torchs: Callable[..., Tensor] | None,
    *operands: Tensor | None,
    slopes: tuple[Callable[..., Tensor], ...] = (),
) -> Tensor:
    for x in operands:
        if x is not None and x.device.type != "cpu":
            raise ValueError(f"expected tensors on the CPU, got one on {x.device}")
    return Loss.apply(values, torchs, slopes, *operands)


def scaled(gradient: Tensor, scale: Tensor) -> Tensor:
    """Times what comes from above, in place; 16-bit numbers would lose a small factor."""
    if gradient.dtype in HALVES:
        gradient = gradient.float()
    return gradient.mul_(scale)
