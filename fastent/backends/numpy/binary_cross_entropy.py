"""One probability per element: the pair (v, 1 - v), whichever way v is given.

`Bernoulli` holds v, 1 - v and both losses, each right to a few ulps: `no` is never 1 - `yes`.
"""

import numpy as np

from . import double_double
from .functions import divide, two_diff, two_product
from .logits import masked_product

LOG_HALF = np.log(0.5)


class Bernoulli:
    """`yes` = v, `no` = 1 - v, `yes_loss` = -log v, `no_loss` = -log(1 - v)."""

    def __init__(self, x, kind, temperature=1.0):
        self.x, self.kind = x, kind
        if kind == "logits":
            self._from_logits(temperature)
        elif kind == "logprobs":
            self.yes, self.no = np.exp(x), -np.expm1(x)
            self.yes_loss = -x
            self.no_loss = -np.where(x > LOG_HALF, np.log(self.no), np.log1p(-self.yes))
            self.positive = x >= LOG_HALF
        else:
            self.yes, self.no = x, 1 - x
            self.yes_loss, self.no_loss = -np.log(x), -np.log1p(-x)
            self.positive = x >= 0.5

    def _from_logits(self, temperature):
        size = np.abs(self.x)
        low = np.zeros_like(size)
        if temperature != 1.0:
            size, low = divide(size, low, temperature)
        self.size, self.low = size, low
        e = np.exp(-size)
        e -= e * low
        near = np.log1p(e)
        far = size + near
        major, minor = 1 / (1 + e), e / (1 + e)
        self.positive = self.x >= 0
        self.yes, self.no = self._sides(major, minor)
        self.yes_loss, self.no_loss = self._sides(near, far)

    def _sides(self, likely, unlikely):
        return np.where(self.positive, likely, unlikely), np.where(self.positive, unlikely, likely)

    def cross_entropy(self, t, eps=0.0, label_smoothing=0.0):
        yes_loss, no_loss = self.yes_loss, self.no_loss
        if eps:
            low, high = -np.log1p(-eps), -np.log(eps)
            yes_loss, no_loss = np.clip(yes_loss, low, high), np.clip(no_loss, low, high)
        s = label_smoothing
        yes, no = (1 - s) * t + s / 2, (1 - s) * (1 - t) + s / 2
        return masked_product(yes, yes_loss) + masked_product(no, no_loss)

    def entropy(self):
        return masked_product(self.yes, self.yes_loss) + masked_product(self.no, self.no_loss)

    def brier(self, t):
        """(v - t)²."""
        gap = self.yes - t
        if self.kind != "probs":
            close = (np.abs(gap) < 0.1) & (t != 0) & (t != 1)
            if close.any():  # v was rounded, and here little else is left
                gap[close] = self._fine_gap(t[close], close)
            # against a certain target the other side is the whole difference
            gap = np.where(t == 1, self.no, gap)
        return gap * gap

    def _fine_gap(self, t, where):
        """v - t with v as a pair of doubles."""
        if self.kind == "logprobs":
            v, low = double_double.exp(self.x[where], 0.0)
            return (v - t) + low
        # on the likely side 1/(1+e) - t, on the other e/(1+e) - t = -(1/(1+e) - (1-t))
        e, low = double_double.exp(-self.size[where], -self.low[where])
        positive = self.positive[where]
        other, other_low = two_diff(1.0, t)
        # 1 - t - t·e, or (1-t)·e - t
        factor = np.where(positive, -t, other)
        product, error = two_product(factor, e)
        base = np.where(positive, other, -t)
        error += factor * low
        error += np.where(positive, other_low, other_low * e)
        return ((base + product) + error) / (1 + e)
