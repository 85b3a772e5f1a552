"""Two distributions per row: what KL, JS and the distances have in common.

A `Pair` holds both rows on one scale together with what rounding would destroy if it were formed
from them afterwards: their difference and the logarithm of their ratio. With those given, every
divergence is a sum of its textbook terms:

    KL(p, q) = Σ gkl(p, q)        gkl(x, y) = x·log(x/y) - x + y >= 0
    JS(p, q) = ½ Σ [gkl(p, m) + gkl(q, m)],  m = ½(p + q)

which is right because Σ(q - p) = 0 for normalised rows. That sum is *made* 0: the scale of q is
a float and thus slightly wrong, the sum of the differences shows by how much.
"""

import numpy as np

from .functions import NEGLIGIBLE, gkl, log_ratio, two_diff, two_product
from .logits import SoftmaxRows, masked_product
from .probabilities import ProbabilityRows, RawRows

HALF_OCTAVE = 0.7  # |log(q/p)| up to which q - p is formed from the ratio
CENTRED = 2.0**-98  # relative size of what centring leaves of a difference that is 0
ROUNDING = 1e-14  # a difference of two log sums below this is mostly their rounding


class Pair:
    """Rows p and q with `gap` = q - p and `log` = log(q/p); p sums to `total`."""

    def __init__(self, p_rows, q_rows, eps=0.0):
        self.p_rows, self.q_rows, self.eps = p_rows, q_rows, eps
        self.normalised = p_rows.normalised and q_rows.normalised
        self.total = p_rows.total if self.normalised else np.ones_like(p_rows.total)
        if not self.normalised:
            self._as_they_are()
        elif isinstance(p_rows, SoftmaxRows) and isinstance(q_rows, SoftmaxRows):
            self._from_logits()
            self._centre()
        else:
            self._from_masses()
            self._centre()
            # proportional rows are equal: what is left of them is the rounding of the centring
            equal = (np.abs(self.gap) <= CENTRED * self.p).all(axis=1, keepdims=True)
            self.gap = np.where(equal, 0.0, self.gap)

    def _from_logits(self):
        """log(q/p) is a difference of gaps: common offsets of the logits are gone already."""
        a, b = self.p_rows, self.q_rows
        v, low = two_diff(b.gap, a.gap)
        centre = b.log_total - a.log_total
        centre = np.where(np.abs(centre) < ROUNDING, 0.0, centre)
        low += b.low - a.low
        self.scale = a.total / b.total
        self.p, self.q = a.mass, b.mass * self.scale
        both_zero = (a.gap == -np.inf) & (b.gap == -np.inf)
        self._from_log_ratio((v - centre) + low, both_zero)
        # what the differences sum to is the error of the centre, right to all its digits
        error = np.log1p(self.gap.sum(axis=1, keepdims=True) / self.total)
        self._from_log_ratio(((v - centre) - error) + low, both_zero)

    def _from_log_ratio(self, u, both_zero):
        self.log = np.where(both_zero, 0.0, u)
        close = np.abs(self.log) < HALF_OCTAVE
        self.gap = np.where(close, self.p * np.expm1(self.log), self.q - self.p)

    def _from_masses(self):
        """Scale q to the sum of p, exactly: a product rounded twice would end at KL ~ 1e-30."""
        a, b = self.p_rows, self.q_rows
        self.scale = a.total / b.total
        # two probability rows are exact; beside one, the exponentials of logits need more bits
        (p, p_low), (q, q_low) = a.fine, b.fine
        q, low = two_product(q, self.scale)
        if q_low is not None:
            low += q_low * self.scale
        if p_low is not None:
            low -= p_low
        self.p, self.q = p, q
        self.gap = (q - p) + np.where(np.isfinite(low), low, 0.0)
        self.log = log_ratio(q, p)
        tiny = (q < NEGLIGIBLE) | (p < NEGLIGIBLE)
        if tiny.any():  # products and exponentials down there have lost their bits
            log_scale = np.broadcast_to(np.log(self.scale), q.shape)[tiny]
            if p_low is None and q_low is None:
                self.log[tiny] = log_ratio(b.mass[tiny], a.mass[tiny]) + log_scale
            else:
                self.log[tiny] = (b.log_mass[tiny] + log_scale) - a.log_mass[tiny]

    def _as_they_are(self):
        a, b = self.p_rows, self.q_rows
        self.scale = 1.0
        self.p, self.q = a.probability, b.probability
        if not (a.logs or b.logs):
            self.gap, self.log = self.q - self.p, log_ratio(self.q, self.p)
        else:
            log_p, log_q = a.log_probability, b.log_probability
            self._from_log_ratio(log_q - log_p, (log_p == -np.inf) & (log_q == -np.inf))

    def _centre(self):
        """Make the differences sum to 0 in each row, and a class above ¾ do so exactly."""
        self.gap = self.gap - self.p * (self.gap.sum(axis=1, keepdims=True) / self.total)
        is_big = self.p > 0.75 * self.total
        others = np.where(is_big, 0.0, self.gap).sum(axis=1, keepdims=True)
        self.gap = np.where(is_big, -others, self.gap)

    def _sum(self, terms):
        return terms.sum(axis=1) / self.total[:, 0]

    def _clipped(self):
        """q, q - p, log(q/p) with q clipped to [eps, 1 - eps] and not renormalised."""
        low, high = self.eps * self.total, (1 - self.eps) * self.total
        q = np.clip(self.q, low, high)
        same = q == self.q
        is_big = self.q > high
        # only one class can be clipped from above; what p lacks there is its other classes
        rest = np.where(is_big, 0.0, self.p).sum(axis=1, keepdims=True)
        gap = np.where(is_big & self.normalised, rest - low, q - self.p)
        log = log_ratio(q, self.p)
        tiny = self.p < NEGLIGIBLE
        if tiny.any():
            log_p = self.p_rows.log_mass if self.normalised else self.p_rows.log_probability
            log[tiny] = np.log(q[tiny]) - log_p[tiny]
        return q, np.where(same, self.gap, gap), np.where(same, self.log, log), ~same.all(axis=1)

    def kl_divergence(self):
        """Σ p log(p/q)."""
        q, gap, log = self.q, self.gap, self.log
        clipped = False
        if self.eps:
            q, gap, log, clipped = self._clipped()
        if not self.normalised:
            return self._sum(gkl(self.p, q, gap, masked_product(self.p, log)) - gap)
        value = np.maximum(self._sum(gkl(self.p, q, gap, self.p_rows.weigh(log))), 0.0)
        return np.where(clipped, value - self._sum(gap), value)

    def reverse_kl(self):
        """Σ q log(q/p)."""
        if self.normalised:
            g = gkl(self.q, self.p, -self.gap, -self.q_rows.weigh(self.log) * self.scale)
            return np.maximum(self._sum(g), 0.0)
        return self._sum(
            gkl(self.q, self.p, -self.gap, -masked_product(self.q, self.log)) + self.gap
        )

    def js_divergence(self):
        """½ KL(p, m) + ½ KL(q, m) with the mean m of p and q, never formed as m - p."""
        q, gap = self._clipped()[:2] if self.eps else (self.q, self.gap)
        half = gap / 2
        m = self.p / 2 + q / 2
        g = gkl(self.p, m, half, times_log1p(self.p, half))
        g += gkl(q, m, -half, times_log1p(q, -half))
        value = self._sum(g) / 2
        if self.eps or not self.normalised:
            return value
        return np.clip(value, 0.0, np.log(2.0))

    def total_variation(self):
        return self._sum(np.abs(self.gap)) / 2

    def hellinger(self):
        """√(½ Σ (√q - √p)²), the difference of roots from the difference."""
        step = self.gap / (np.sqrt(self.p) + np.sqrt(self.q))
        step = np.where((self.p == 0) & (self.q == 0), 0.0, step)
        tiny = (self.p < NEGLIGIBLE) & (self.q < NEGLIGIBLE)
        if self.normalised and tiny.any():
            # classes below the smallest float64 have roots far above it
            p = self.p_rows.root_mass[tiny]
            q = (self.q_rows.root_mass * np.sqrt(self.scale))[tiny]
            log = self.log[tiny]
            step[tiny] = np.where(np.abs(log) < HALF_OCTAVE, p * np.expm1(log / 2), q - p)
        # relative to the largest, the squares of tiny steps do not underflow
        largest = np.abs(step).max(axis=1, keepdims=True)
        step = np.where(largest == 0, 0.0, step / largest)
        return largest[:, 0] * np.sqrt(self._sum(step * step) / 2)

    def brier(self):
        """Σ (q - p)²."""
        gap = self.gap / self.total
        return (gap * gap).sum(axis=1)


def times_log1p(x, d):
    """x·log1p(d/x), 0 for x = 0."""
    # beyond 1e300 the product is nothing beside d
    ratio = np.minimum(d / x, 1e300)
    return np.where(x == 0, 0.0, x * np.log1p(ratio))


def distribution(x, kind, spec):
    """Rows of the kind, normalised unless taken as they are."""
    if kind == "logits":
        return SoftmaxRows(x, spec.temperature)
    if spec.row_sums == "as_is":
        return RawRows(x, kind)
    return SoftmaxRows(x) if kind == "logprobs" else ProbabilityRows(x)
