"""One class per task: a block of rows with a method for every column the task knows."""

import numpy as np

from . import checks
from .binary_cross_entropy import Bernoulli
from .divergence import Pair, distribution
from .lazy import lazy


class Block:
    """Float64 rows of both operands and the settings; `distribution`s are built when asked for."""

    def __init__(self, spec, true, pred, labels, terms):
        self.spec, self.true, self.pred, self.labels = spec, true, pred, labels
        weights = spec.class_weight if terms is None else terms
        self.weights = None if weights is None else np.broadcast_to(weights, pred.shape)

    @lazy
    def q(self):
        return distribution(self.pred, self.spec.kind_pred, self.spec)

    @lazy
    def p(self):
        return distribution(self.true, self.spec.kind_true, self.spec)

    @lazy
    def nan_rows(self):
        nan = np.isnan(self.pred).any(axis=-1)
        return nan if self.true is None else nan | np.isnan(self.true).any(axis=-1)

    @lazy
    def undefined(self):
        """Rows without a distribution: NaN somewhere, or nothing but -inf logits."""
        empty = np.zeros(len(self.pred), bool)
        for x, kind in ((self.true, self.spec.kind_true), (self.pred, self.spec.kind_pred)):
            if x is not None and kind == "logits":
                empty |= x.max(axis=1) == -np.inf
        return self.nan_rows | empty

    def first_bad(self):
        """(row, code, number, operand) of the first bad row, or None."""
        found = []
        operands = (("true", self.true, self.spec.kind_true),
                    ("pred", self.pred, self.spec.kind_pred))  # fmt: skip
        for name, x, kind in operands:
            bad = None if x is None else self._bad_row(x, kind)
            if bad is not None:
                found.append((*bad, name))
        return min(found, key=lambda f: f[0], default=None)

    def _bad_row(self, x, kind):
        return checks.first_bad_row(x, kind, self.spec, self.nan_rows)

    def column(self, name):
        value = self._formula(name)()
        return value if name == "target_weight" else np.where(self.undefined, np.nan, value)

    def _formula(self, name):
        return getattr(self, name)

    def entropy(self):
        return self.q.entropy()

    def predicted(self):
        return self.pred.argmax(axis=1).astype(np.float64)

    def labelled(self):
        return self.true.argmax(axis=1).astype(np.float64)

    def clip(self, losses):
        """-log q for q clipped to [eps, 1 - eps]."""
        eps = self.spec.eps
        return np.clip(losses, -np.log1p(-eps), -np.log(eps)) if eps else losses

    def smoothed(self, hard, uniform):
        """(1-ε)·hard + ε/C·Σ uniform, both weighted already."""
        smoothing, classes = self.spec.label_smoothing, self.pred.shape[1]
        if not smoothing:
            return hard
        spread = ((smoothing / classes) * uniform()).sum(axis=1)
        return spread if smoothing == 1 else (1 - smoothing) * hard + spread

    def weighted(self, values):
        """values times class or term weights; weight 0 makes 0 of anything."""
        if self.weights is None:
            return values
        return np.where(self.weights == 0, 0.0, self.weights * values)


class SparseBlock(Block):
    """Labels against predictions."""

    @property
    def lookup(self):
        """Taken as they are, hard labels read one number a row."""
        spec = self.spec
        return spec.row_sums == "as_is" and spec.kind_pred != "logits" and not spec.label_smoothing

    def first_bad(self):
        if self.lookup and set(self.spec.columns) <= {"cross_entropy", "target_weight"}:
            hit = np.take_along_axis(self.pred, self.labels[:, None], 1)
            bad = checks.first_bad_row(hit, self.spec.kind_pred, self.spec, np.isnan(hit[:, 0]))
            return bad and (*bad, "pred")
        return super().first_bad()

    def column(self, name):
        if name == "cross_entropy" and self.lookup:
            return self.cross_entropy()
        return super().column(name)

    def _label_weight(self):
        if self.weights is None:
            return 1.0
        return np.take_along_axis(self.weights, self.labels[:, None], 1)[:, 0]

    def cross_entropy(self):
        weight = self._label_weight()
        loss = self.clip(self.q.losses_at(self.labels))
        hard = np.where(weight == 0, 0.0, weight * loss)
        return self.smoothed(hard, lambda: self.weighted(self.clip(self.q.losses())))

    def target_weight(self):
        if self.weights is None:
            return np.ones(len(self.pred))
        return self.smoothed(self._label_weight(), lambda: self.weights)

    def accuracy(self):
        return (self.pred.argmax(axis=1) == self.labels).astype(np.float64)

    def rank(self):
        """Classes above the label plus equal ones before it."""
        label = self.labels[:, None]
        hit = np.take_along_axis(self.pred, label, 1)
        earlier = np.arange(self.pred.shape[1]) < label
        ahead = (self.pred > hit) | ((self.pred == hit) & earlier)
        return ahead.sum(axis=1).astype(np.float64)

    def brier(self):
        return self.q.brier(self.labels)

    def margin(self):
        """p₁ − p₂ of the two largest: p₁·(1 − p₂/p₁), so that near ones keep their digits."""
        spec = self.spec
        none = np.full((len(self.pred), 1), 0.0 if spec.kind_pred == "probs" else -np.inf)
        second, top = np.sort(np.hstack([none, self.pred]), axis=1)[:, -2:].T
        if spec.kind_pred == "probs":
            share = (top - second) / top
        else:
            share = -np.expm1((second - top) / spec.temperature)
        return np.where(second == top, 0.0, self.q.confidence() * share)

    def confidence(self):
        return self.q.confidence()


class PairBlock(Block):
    """What needs both rows as distributions; other columns are those of a `Pair`."""

    @lazy
    def pair(self):
        return Pair(self.p, self.q, self.spec.eps)

    def _formula(self, name):
        return getattr(self, name, None) or getattr(self.pair, name)

    def cross_entropy(self):
        losses = self.clip(self.q.losses())
        hard = self.weighted(self.p.weigh(losses)).sum(axis=1) / self.p.total[:, 0]
        return self.smoothed(hard, lambda: self.weighted(losses))

    def target_entropy(self):
        return self.p.entropy()

    def top1_agreement(self):
        return (self.true.argmax(axis=1) == self.pred.argmax(axis=1)).astype(np.float64)


class CategoricalBlock(PairBlock):
    """Soft targets against predictions."""

    def target_weight(self):
        if self.weights is None and self.p.normalised:
            return np.ones(len(self.pred))
        hard = self.weighted(self.p.mass).sum(axis=1) / self.p.total[:, 0]
        return self.smoothed(hard, lambda: self.weighted(np.ones(self.pred.shape)))

    accuracy = PairBlock.top1_agreement


class DivergenceBlock(PairBlock):
    """Two distributions, neither of them the truth."""

    entropy_p = PairBlock.target_entropy
    entropy_q = Block.entropy

    @lazy
    def largest(self):
        """The ten largest classes of both rows, the earlier one of equals first."""
        return [np.argsort(-x, axis=1, kind="stable")[:, :10] for x in (self.true, self.pred)]

    def _overlap(self, k):
        p, q = (places[:, :k] for places in self.largest)
        return (p[:, :, None] == q[:, None, :]).sum(axis=(1, 2)) / p.shape[1]

    def top5_overlap(self):
        return self._overlap(5)

    def top10_overlap(self):
        return self._overlap(10)

    def top1_in_top5(self):
        p, q = self.largest
        return (q[:, :5] == p[:, :1]).any(axis=1).astype(np.float64)


class BinaryBlock(Block):
    """Elementwise: every number is the probability of its own event."""

    @lazy
    def q(self):
        return Bernoulli(self.pred, self.spec.kind_pred, self.spec.temperature)

    @lazy
    def undefined(self):
        return np.isnan(self.pred) | np.isnan(self.true)

    def _bad_row(self, x, kind):
        return checks.first_out_of_range(x, kind, self.undefined)

    def cross_entropy(self):
        return self.q.cross_entropy(self.true, self.spec.eps, self.spec.label_smoothing)

    def accuracy(self):
        return (self.q.positive == (self.true >= 0.5)).astype(np.float64)

    def brier(self):
        return self.q.brier(self.true)

    def probability(self):
        return self.q.yes


TASKS = {
    "sparse": SparseBlock,
    "categorical": CategoricalBlock,
    "binary": BinaryBlock,
    "divergence": DivergenceBlock,
    "entropy": Block,
}
