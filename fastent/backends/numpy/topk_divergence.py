"""A teacher known by its k largest classes against rows of logits: the reference, row by row.

The formulas are those of the kernel of the same name, with the tail sorted.
"""

import math

import numpy as np

from fastent._blas import product

RANGE, DUPLICATE, MASS, NOT_TOP, ROW_SUM = range(1, 6)


class BadListError(Exception):
    """(code, number, more) of what is wrong with a row."""


class Teacher:
    """What a list says.

    Attributes
    ----------
    ids, p, log_p : arrays
        In the order of the ids, without padding, normalised.
    tail, cap : float
        τ and c.
    rest : int or float
        How many other classes there are, infinite if that is unknown.
    whole, left : int, float
        n = ⌊τ/c⌋ and r = τ − n·c.
    """

    def __init__(self, ids, logprobs, within, cap, tolerance, classes):
        known = ids >= 0
        ids, a = ids[known], logprobs[known].astype(np.float64)
        within = None if within is None else within[known].astype(bool)
        if classes < math.inf and (ids >= classes).any():
            raise BadListError(RANGE, int(ids[ids >= classes][0]), 0.0)
        order = np.argsort(ids, kind="stable")
        ids, a = ids[order], a[order]
        twice = ids[1:] == ids[:-1]
        if twice.any():
            raise BadListError(DUPLICATE, int(ids[1:][twice][0]), 0.0)
        self.nan = bool(np.isnan(a).any())
        self.ids, self.rest = ids, classes - len(ids)
        if self.nan:
            return
        if (a > 1).any():
            raise BadListError(MASS, math.inf, 0.0)
        p = np.exp(a)
        mass = math.fsum(p)
        tail = math.fsum([1.0, *-p])
        if tail < -tolerance:
            raise BadListError(MASS, mass, 0.0)
        chosen = p if within is None else p[within[order]]
        if cap > 1 or (cap != cap and not len(chosen)):
            cap = max(tail, 0.0)
        elif cap != cap:
            cap = float(chosen.min())
        most = self.rest * cap if cap else 0.0
        norm = 1.0
        if tail < 0:
            tail, norm = 0.0, mass
        elif tail > most:
            if tail > most + tolerance:
                raise BadListError(NOT_TOP, tail, most)
            tail, norm = most, mass + most
        self.p, self.log_p = p / norm, a - math.log(norm)
        self.tail, self.cap = tail / norm, cap / norm
        self.whole, self.left = 0, 0.0
        if self.tail > 0:
            self.whole = int(min(math.floor(self.tail / self.cap), self.rest))
            self.left = self.tail - self.whole * self.cap
            if self.left < 0:
                self.whole, self.left = self.whole - 1, self.left + self.cap
            if self.whole >= self.rest:
                self.left = 0.0
        positive = self.p > 0
        self.entropy = -float(product(self.p[positive], self.log_p[positive]))

    def entropies(self):
        """The least and the greatest entropy."""
        if not self.tail:
            return self.entropy, self.entropy
        low = self.entropy - self.whole * self.cap * math.log(self.cap)
        if self.left:
            low -= self.left * math.log(self.left)
        return low, self.entropy + self.tail * (math.log(self.rest) - math.log(self.tail))


def excess(x, log_q):
    """x ln(x/q) − x + q, none of which is negative."""
    x, log_q = np.broadcast_arrays(np.asarray(x, np.float64), log_q)
    u = log_q - np.log(x)
    near = np.abs(u) < 0.5
    v = np.where(near, u, 0.0)
    series = np.zeros_like(v)
    for n in range(18, 1, -1):
        series = series * v + 1 / math.factorial(n)
    far = np.exp(log_q) - x * (1 + u)
    return np.where(x == 0, np.exp(log_q), np.where(near, x * (v * v * series), far))


def log_sum(falling):
    """ln Σ q of ln q, the largest first."""
    if not len(falling) or falling[0] == -np.inf:
        return -math.inf
    return float(falling[0]) + math.log(math.fsum(np.exp(falling - falling[0])))


def bounds(teacher, head, tail, bucket):
    """The least and the greatest Σ x ln(x/q) − x + q, added to `head`, over tails of the teacher;
    `tail` has ln q, ascending."""
    t = teacher
    if t.tail == 0:
        rest = head + math.fsum(np.exp(tail))
        return rest, rest
    capped, log_cap = 0, math.log(t.cap)
    falling = tail[::-1]
    while True:  # λ rises
        left = t.tail - capped * t.cap
        log_rest = log_sum(falling[capped:])
        if capped >= t.whole and (capped == len(tail) or left <= 0):
            low = head + math.fsum(excess(t.cap, falling[:capped])) + math.exp(log_rest)
            break
        if log_rest == -math.inf:
            low = math.inf
            break
        share = math.log(left) - log_rest
        more = int((falling + share > log_cap).sum())
        if more <= capped or capped == t.whole:  # by rounding: the last one is full
            low = head + math.fsum(excess(t.cap, falling[:capped]))
            low += float(excess(left, log_rest))
            break
        capped = min(more, t.whole)
    used = t.whole + (t.left > 0)
    high = head + math.fsum(excess(t.cap, tail[: t.whole])) + math.fsum(np.exp(tail[used:]))
    if t.left > 0:
        high += float(excess(t.left, tail[t.whole]))
    low = max(low, bucket)
    return low, max(low, high)


def cross_entropies(teacher, ends):
    """What the tail adds to the cross-entropy, c on these ln q and r on the next."""
    t = teacher
    added = math.fsum(-t.cap * ends[: t.whole])
    return added - t.left * ends[t.whole] if t.left else added


def overlap(x, ids):
    """The share of the classes that are among as many largest; the first of equal ones."""
    if not len(ids):
        return 1.0
    largest = np.argsort(-x, kind="stable")[: len(ids)]
    return len(np.intersect1d(largest, ids)) / len(ids)


def one_row(x, teacher, temperature, tolerance):
    """The values of a row in their order."""
    t = teacher
    top = x.max() if len(x) else np.nan
    if t.nan or np.isnan(x).any() or top == -np.inf:
        return np.full(11, np.nan)
    if top == np.inf:
        x = np.where(x == np.inf, 0.0, -np.inf)
        top = 0.0
    gaps = np.where(x == top, 0.0, (x - top) / temperature)
    first = int(np.argmax(x))
    partition = math.log1p(math.fsum(np.delete(np.exp(gaps), first)))
    log_q = gaps - partition
    if tolerance >= 0:
        total = math.exp(top + partition) if top + partition < 1 else math.inf
        if abs(total - 1) > tolerance:
            raise BadListError(ROW_SUM, total, 0.0)
    tail = np.sort(np.delete(log_q, t.ids))
    own = log_q[t.ids]
    log_mass = log_sum(tail[::-1])
    sigma = math.exp(log_mass)
    head = math.fsum(excess(t.p, own)) if len(own) else 0.0
    bucket = head + float(excess(t.tail, log_mass))
    low, high = bounds(t, head, tail, bucket)
    ce = -float(np.sum(t.p[t.p > 0] * own[t.p > 0]))
    return (
        head + (sigma - t.tail), t.tail, sigma, bucket, low, high,
        ce + cross_entropies(t, tail[::-1]), ce + cross_entropies(t, tail),
        *t.entropies(), overlap(x, t.ids),
    )  # fmt: skip


def row_values(
    pred, ids, logprobs, within, skipped, cap, temperature, mass_tolerance, tolerance, out, start
):
    """As the kernel's: values to columns of `out`, and what is wrong with the first bad row."""
    with np.errstate(all="ignore"):
        for r, row in enumerate(pred):
            if skipped is not None and skipped[r]:
                out[:, start + r] = np.nan
                continue
            inside = None if within is None else within[r]
            try:
                teacher = Teacher(ids[r], logprobs[r], inside, cap, mass_tolerance, len(row))
                found = one_row(row.astype(np.float64), teacher, temperature, tolerance)
            except BadListError as error:
                return (r, *error.args)
            out[:, start + r] = found
    return None
