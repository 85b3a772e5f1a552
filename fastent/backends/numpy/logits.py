"""Rows of logits: softmax probabilities kept as gaps below the row's maximum.

With g = (x - max)/T and s the sum of e^g over everything but one maximum, log q = g - log1p(s).
The maximum stays out of s, so nothing cancels on confident rows. Normalised log-probabilities are
logits too; those taken as they are have a class of their own.
"""

import numpy as np

from . import double_double
from .functions import NEGLIGIBLE, divide, two_diff
from .lazy import lazy


def masked_product(p, v):
    """p·v with 0·inf = 0."""
    return np.where(p == 0, 0.0, p * v)


class SoftmaxRows:
    """softmax(x / temperature); unnormalised `mass` e^g, which sums to `total` in each row."""

    normalised = logs = True

    def __init__(self, x, temperature=1.0):
        top = x.max(axis=1, keepdims=True)
        certain = top == np.inf
        if certain.any():  # infinite logits share the certainty
            x = np.where(certain, np.where(x == np.inf, 0.0, -np.inf), x)
            top = np.where(certain, 0.0, top)
        self.gap, self.low = two_diff(x, top)
        if temperature != 1.0:
            self.gap, self.low = divide(self.gap, self.low, temperature)
        self.mass = np.exp(self.gap)
        self.mass += self.mass * self.low
        is_top = self.gap == 0
        ties = is_top.sum(axis=1, keepdims=True) - 1.0
        self.rest = np.where(is_top, 0.0, self.mass).sum(axis=1, keepdims=True) + ties
        self.total = 1 + self.rest
        self.log_total = np.log1p(self.rest)

    @lazy
    def fine(self):
        """The mass as pairs of doubles."""
        return double_double.exp(self.gap, self.low)

    @property
    def log_mass(self):
        return self.gap

    @property
    def root_mass(self):
        return np.exp(self.gap / 2) * (1 + self.low / 2)

    @lazy
    def probability(self):
        return self.mass / self.total

    @property
    def log_probability(self):
        return self.gap - self.log_total

    def losses(self):
        """-log q of every class."""
        return self.log_total - self.gap

    def losses_at(self, labels):
        return self.log_total[:, 0] - np.take_along_axis(self.gap, labels[:, None], 1)[:, 0]

    def weigh(self, values):
        """mass · values; a class of logit -inf adds 0 whatever its value."""
        product = self.mass * values
        tiny = self.mass < NEGLIGIBLE
        if tiny.any():  # e^g may underflow where e^g · value does not
            gap, v = self.gap[tiny], values[tiny]
            half = np.exp(gap / 2)
            v = np.where(np.isinf(v), v, half * (half * v))
            product[tiny] = np.where(gap == -np.inf, 0.0, v)
        return product

    def entropy(self):
        spread = masked_product(self.mass, -self.gap).sum(axis=1)
        return self.log_total[:, 0] + spread / self.total[:, 0]

    def confidence(self):
        return 1 / self.total[:, 0]

    def brier(self, labels):
        others = self.mass.copy()
        np.put_along_axis(others, labels[:, None], 0.0, 1)
        miss = others.sum(axis=1)
        return (miss * miss + (others * others).sum(axis=1)) / self.total[:, 0] ** 2
