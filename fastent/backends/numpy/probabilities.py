"""Rows of probabilities, normalised or taken as they are.

At most one class of a row can hold more than three quarters of the sum S. Its -log(q/S) is
log1p(R/M), with M its own mass and R the sum of the others, so that log S and log M never meet.
"""

import numpy as np

from .functions import log_ratio
from .lazy import lazy
from .logits import masked_product

ORDINARY = 64  # binary exponents within which a row is used as it stands


def in_range(x):
    """Rows scaled by powers of two so that their maxima, hence sums, are far from overflow."""
    exponent = np.frexp(x.max(axis=1, keepdims=True))[1]
    exponent = np.where(np.abs(exponent) <= ORDINARY, 0, exponent)
    return np.ldexp(x, -exponent) if exponent.any() else x


class ProbabilityRows:
    """x / sum(x); the unnormalised `mass` sums to `total` in each row."""

    normalised = True

    def __init__(self, x):
        self.mass = in_range(x)
        self.total = self.mass.sum(axis=1, keepdims=True)

    @property
    def fine(self):
        """The mass as pairs of doubles: it is exact already."""
        return self.mass, None

    @property
    def log_mass(self):
        return np.log(self.mass)

    @property
    def root_mass(self):
        return np.sqrt(self.mass)

    @lazy
    def probability(self):
        return self.mass / self.total

    def losses(self):
        """-log q of every class."""
        is_big = self.mass > 0.75 * self.total
        rest = np.where(is_big, 0.0, self.mass).sum(axis=1, keepdims=True)
        return np.where(is_big, np.log1p(rest / self.mass), -log_ratio(self.mass, self.total))

    def losses_at(self, labels):
        others = self.mass.copy()
        hit = np.take_along_axis(self.mass, labels[:, None], 1)
        np.put_along_axis(others, labels[:, None], 0.0, 1)
        rest = others.sum(axis=1, keepdims=True)
        is_big = hit > 0.75 * self.total
        return np.where(is_big, np.log1p(rest / hit), -log_ratio(hit, self.total))[:, 0]

    def weigh(self, values):
        """mass · values; a class of probability 0 adds 0 whatever its value."""
        return masked_product(self.mass, values)

    def entropy(self):
        return (self.weigh(self.losses())).sum(axis=1) / self.total[:, 0]

    def confidence(self):
        return (self.mass.max(axis=1, keepdims=True) / self.total)[:, 0]

    def brier(self, labels):
        others = self.probability.copy()
        np.put_along_axis(others, labels[:, None], 0.0, 1)
        miss = others.sum(axis=1)
        return miss * miss + (others * others).sum(axis=1)


class RawRows:
    """Probabilities or log-probabilities taken as they are, whatever they sum to."""

    normalised = False

    def __init__(self, x, kind):
        self.x, self.logs = x, kind == "logprobs"
        self.mass = self.probability = np.exp(x) if self.logs else x
        self.total = np.ones((len(x), 1))

    def _log(self, x):
        return x if self.logs else np.log(x)

    @property
    def log_probability(self):
        return self._log(self.x)

    def losses(self):
        return -self.log_probability

    def losses_at(self, labels):
        return -self._log(np.take_along_axis(self.x, labels[:, None], 1)[:, 0])

    def weigh(self, values):
        return masked_product(self.mass, values)

    def entropy(self):
        return self.weigh(self.losses()).sum(axis=1)

    def confidence(self):
        return self.mass.max(axis=1)

    def brier(self, labels):
        miss = self.mass.copy()
        hit = np.take_along_axis(self.x, labels[:, None], 1)
        np.put_along_axis(miss, labels[:, None], np.expm1(hit) if self.logs else 1 - hit, 1)
        return (miss * miss).sum(axis=1)
