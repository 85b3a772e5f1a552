"""torch, eager and by torch.compile: the same functions, on tensors that share NumPy's memory."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from bench.operands import Operands

torch.set_grad_enabled(False)


def tensor(a: np.ndarray) -> torch.Tensor:
    if a.dtype.name == "bfloat16":
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def to_numpy(result: torch.Tensor) -> np.ndarray:
    return result.double().numpy()


def _kl_probs(p, q, axis, reduction):
    return functional.kl_div(q.log(), p, reduction="none").sum(axis)


def _kl_logits(a, b, axis, reduction):
    log_p, log_q = functional.log_softmax(a, axis), functional.log_softmax(b, axis)
    return functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(axis)


def _js_probs(p, q, axis, reduction):
    log_m = ((p + q) / 2).log()
    from_p = functional.kl_div(log_m, p, reduction="none")
    from_q = functional.kl_div(log_m, q, reduction="none")
    return (from_p + from_q).sum(axis) / 2


def _entropy_probs(p, axis, reduction):
    return torch.special.entr(p).sum(axis)


def _entropy_logits(x, axis, reduction):
    log_p = functional.log_softmax(x, axis)
    return -(log_p.exp() * log_p).sum(axis)


def _sparse_probs(labels, q, axis, reduction):
    return -q.gather(1, labels[:, None]).squeeze(1).log()


def _cross_entropy(target, x, axis, reduction):
    return functional.cross_entropy(x, target, reduction="none")


def _categorical_probs(target, q, axis, reduction):
    return -(target * q.log()).sum(axis)


def _binary_probs(target, q, axis, reduction):
    return functional.binary_cross_entropy(q, target, reduction=reduction)


def _binary_logits(target, x, axis, reduction):
    return functional.binary_cross_entropy_with_logits(x, target, reduction=reduction)


_FUNCTIONS = {
    ("kl_divergence", "probs"): _kl_probs,
    ("kl_divergence", "logits"): _kl_logits,
    ("js_divergence", "probs"): _js_probs,
    ("entropy", "probs"): _entropy_probs,
    ("entropy", "logits"): _entropy_logits,
    ("sparse_cross_entropy", "probs"): _sparse_probs,
    ("sparse_cross_entropy", "logits"): _cross_entropy,
    ("categorical_cross_entropy", "probs"): _categorical_probs,
    ("categorical_cross_entropy", "logits"): _cross_entropy,
    ("binary_cross_entropy", "probs"): _binary_probs,
    ("binary_cross_entropy", "logits"): _binary_logits,
}


def _formula(function, compiled: bool):
    def formula(x: Operands):
        tensors = [tensor(a) for a in (x.true, x.pred) if a is not None]
        run = function
        if compiled:
            # Without the reset it gives up compiling after a few shapes of one function.
            torch.compiler.reset()
            run = torch.compile(function, dynamic=False)
        return lambda: run(*tensors, x.axis, x.reduction)

    return formula


FORMULAS = {key: _formula(function, False) for key, function in _FUNCTIONS.items()}
COMPILED = {key: _formula(function, True) for key, function in _FUNCTIONS.items()}
