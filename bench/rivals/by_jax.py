"""JAX by jit, on arrays that share NumPy's memory; 16-bit input is widened inside the kernel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, xlog1py, xlogy

from bench.operands import Operands

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")


def to_numpy(result) -> np.ndarray:
    return np.asarray(result)


def _wide(x):
    return x.astype(jnp.float32) if x.dtype.itemsize == 2 else x


def _log_softmax(x, axis):
    # XLA fuses this better than jax.nn.log_softmax.
    return x - jax.nn.logsumexp(x, axis, keepdims=True)


def _kl_probs(p, q, axis):
    return jnp.sum(p * jnp.log(p / q), axis)


def _kl_logits(a, b, axis):
    log_p, log_q = _log_softmax(a, axis), _log_softmax(b, axis)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis)


def _js_probs(p, q, axis):
    m = (p + q) / 2
    return jnp.sum(p * jnp.log(p / m) + q * jnp.log(q / m), axis) / 2


def _entropy_probs(p, axis):
    return jnp.sum(entr(p), axis)


def _entropy_logits(x, axis):
    log_p = _log_softmax(x, axis)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis)


def _sparse_probs(labels, q, axis):
    return -jnp.log(jnp.take_along_axis(q, labels[:, None], axis)[:, 0])


def _sparse_logits(labels, x, axis):
    own = jnp.take_along_axis(x, labels[:, None], axis)[:, 0]
    return jax.nn.logsumexp(x, axis) - own


def _categorical_probs(target, q, axis):
    return -jnp.sum(target * jnp.log(q), axis)


def _categorical_logits(target, x, axis):
    return -jnp.sum(target * _log_softmax(x, axis), axis)


def _binary_probs(target, q, axis):
    return -xlogy(target, q) - xlog1py(1 - target, -q)


def _binary_logits(target, x, axis):
    return jnp.maximum(x, 0) - x * target + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _formula(function):
    def formula(x: Operands):
        arrays = [jax.device_put(a, may_alias=True) for a in (x.true, x.pred) if a is not None]

        @jax.jit
        def run(*operands):
            values = function(*map(_wide, operands), x.axis)
            return values.mean() if x.reduction == "mean" else values

        return lambda: run(*arrays).block_until_ready()

    return formula


FORMULAS = {
    ("kl_divergence", "probs"): _formula(_kl_probs),
    ("kl_divergence", "logits"): _formula(_kl_logits),
    ("js_divergence", "probs"): _formula(_js_probs),
    ("entropy", "probs"): _formula(_entropy_probs),
    ("entropy", "logits"): _formula(_entropy_logits),
    ("sparse_cross_entropy", "probs"): _formula(_sparse_probs),
    ("sparse_cross_entropy", "logits"): _formula(_sparse_logits),
    ("categorical_cross_entropy", "probs"): _formula(_categorical_probs),
    ("categorical_cross_entropy", "logits"): _formula(_categorical_logits),
    ("binary_cross_entropy", "probs"): _formula(_binary_probs),
    ("binary_cross_entropy", "logits"): _formula(_binary_logits),
}
