"""One element as an exact Bernoulli distribution."""

import math

from exact_distribution import BadRowError, clipped, exp, surprise, times
from mpmath import inf, mp, mpf, nan


def binary(t, x, kind, temperature, eps, smoothing):
    """Bernoulli columns of one element; `x` is a probability, its logarithm or a logit."""
    if t < 0 or t > 1:
        raise BadRowError("range", t)
    if kind == "probs" and (x < 0 or x > 1):
        raise BadRowError("range", x)
    if math.isnan(t) or math.isnan(x):
        return dict.fromkeys(("cross_entropy", "accuracy", "brier", "entropy", "probability"), nan)
    v = mpf(x) / mpf(temperature)
    if kind == "probs":
        p, yes, no = v, surprise(v), -mp.log1p(-v) if x < 1 else inf
        complement = 1 - v
    elif kind == "logprobs":
        p, complement = exp(v), -mp.expm1(v) if v > -inf else mpf(1)
        yes, no = -v, surprise(complement) if abs(p) > 0.5 else -mp.log1p(-p)
    else:
        small = exp(-abs(v))
        soft = mp.log1p(small)
        near, far = soft, abs(v) + soft
        yes, no = (near, far) if v >= 0 else (far, near)
        major, minor = 1 / (1 + small), small / (1 + small)
        p, complement = (major, minor) if v >= 0 else (minor, major)
    entropy = times(p, yes) + times(complement, no)
    target = mpf(t)
    smooth = (1 - mpf(smoothing)) * target + mpf(smoothing) / 2
    yes, no = clipped([yes, no], eps)
    return {
        "cross_entropy": times(smooth, yes) + times(1 - smooth, no),
        "accuracy": mpf((x >= 0 if kind == "logits" else p >= mpf(0.5)) == (t >= 0.5)),
        "brier": (p - target) ** 2,
        "entropy": entropy,
        "probability": p,
    }
