"""Two lists of largest classes: what both say of KL(p ‖ q), and bounds of the rest.

A holds p, B holds q. On A∩B both are known; on A∖B q has at most its cap and on B∖A p has at most
its own, and of other classes nothing is known but the caps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastent.backends.numpy.topk_divergence import BadListError, Teacher, excess


class Bad(NamedTuple):
    """What is wrong with which side of a row."""

    side: int
    code: int
    number: float
    more: float


def row(p_side: Any, q_side: Any, cap: float, classes: int | None) -> Any:
    """The values of a row in the order of `fastent._topk.COLUMNS`, or what is bad with it."""
    sides = []
    width = math.inf if classes is None else classes
    with np.errstate(all="ignore"):
        for number, (ids, logprobs, within, tolerance) in enumerate((p_side, q_side)):
            try:
                sides.append(Teacher(ids, logprobs, within, cap, tolerance, width))
            except BadListError as error:
                return Bad(number, *error.args)
        p, q = sides
        if p.nan or q.nan:
            return np.full(11, np.nan)
        return _values(p, q)


def _values(p: Any, q: Any) -> tuple[float, ...]:
    _, in_p, in_q = np.intersect1d(p.ids, q.ids, assume_unique=True, return_indices=True)
    only_p = np.delete(p.p, in_p)
    only_q, log_only_q = np.delete(q.p, in_q), np.delete(q.log_p, in_q)
    shared = math.fsum(excess(p.p[in_p], q.log_p[in_q])) if len(in_p) else 0.0
    tail_p = math.fsum([p.tail, *only_p])
    tail_q = math.fsum([q.tail, *only_q])
    bucket = shared + _excess(tail_p, tail_q)
    low = shared + _least(p, q, only_p, only_q, log_only_q)
    low = max(low, bucket)
    inside = not only_p.any() and p.tail == 0
    high = low if inside else math.inf
    ce = -math.fsum(x * a for x, a in zip(p.p[in_p], q.log_p[in_q], strict=True) if x > 0)
    least_ce = ce + _least_cross_entropy(p, q, only_p, log_only_q)
    overlap = len(in_p) / len(p.ids) if len(p.ids) else 1.0
    return (
        shared + (tail_q - tail_p), tail_p, tail_q, bucket, low, high,
        least_ce, least_ce if inside else math.inf, *p.entropies(), overlap,
    )  # fmt: skip


def _excess(x: float, q: float) -> float:
    return float(excess(x, np.log(q)))


def _least(p: Any, q: Any, only_p: np.ndarray, only_q: np.ndarray, log_q: np.ndarray) -> float:
    """The least that the classes outside A∩B add: y = min(c_q, p/μ) on A∖B, x = min(c_p, λq) on
    B∖A, and what is left of both on the other classes.

    Something is left where λ = μ, in this ratio; nothing where λ <= μ fill both by themselves.
    """

    def of_p(ratio: float) -> float:
        return p.tail - math.fsum(np.minimum(p.cap, ratio * only_q))

    def of_q(ratio: float) -> float:
        return q.tail - math.fsum(np.minimum(q.cap, only_p / ratio))

    most = _root(lambda ratio: -of_p(ratio))  # with a higher λ, p's tail is not enough
    least = _root(of_q)  # with a lower μ, q's is not
    if most > least:
        ratio = _root(lambda ratio: ratio * of_q(ratio) - of_p(ratio), least, most)
        least = most = ratio
    x = np.minimum(p.cap, most * only_q) if most < math.inf else np.full(len(only_q), p.cap)
    y = np.minimum(q.cap, only_p / least) if least else np.full(len(only_p), q.cap)
    left_p, left_q = (max(0.0, math.fsum([s.tail, *-z])) for s, z in ((p, x), (q, y)))
    added = math.fsum(excess(only_p, np.log(y))) + math.fsum(excess(x, log_q))
    if max(left_p, left_q) < 1e-15:  # what rounding leaves of nothing
        return added + max(0.0, left_q - left_p)
    return added + _excess(left_p, left_q)


def _root(rising: Any, least: float = 0.0, most: float = math.inf) -> float:
    """Where a function of a ratio becomes positive, between the two; one of them if it does not."""
    low = math.log(least) if least > 0 else -740.0
    high = math.log(most) if most < math.inf else 709.0
    if rising(math.exp(high)) < 0:
        return most
    if rising(math.exp(low)) >= 0:
        return least
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if rising(math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return math.exp(high)


def _least_cross_entropy(p: Any, q: Any, only_p: np.ndarray, log_q: np.ndarray) -> float:
    """The least that the classes outside A∩B add to −Σ p ln q.

    For a fixed q it is linear in p's tail, so that the least is where as many classes as possible
    have c: a of B∖A, the likeliest first, and the others in no list. For these and A∖B, q's tail is
    shared in the ratio of p, c_q at most.
    """
    falling = -np.sort(-log_q)
    best = math.inf
    if p.tail == 0:
        return _shared_tail(only_p, np.zeros(0), q)
    for known in range(min(p.whole, len(falling)) + 1):
        for next_known in (False, True):
            if next_known and (known == len(falling) or not p.left):
                continue
            value = -p.cap * float(falling[:known].sum())
            others = [(p.cap, p.whole - known)]
            if p.left:
                if next_known:
                    value -= p.left * float(falling[known])
                else:
                    others.append((p.left, 1))
            best = min(best, value + _shared_tail(only_p, np.array(others), q))
    return best


def _shared_tail(only_p: np.ndarray, others: np.ndarray, q: Any) -> float:
    """The least −Σ w ln y over y <= c_q, Σy = τ_q, for weights of single classes and (weight,
    count) of equal ones."""
    weights = np.concatenate([only_p, others[:, 0] if len(others) else []])
    counts = np.concatenate([np.ones(len(only_p)), others[:, 1] if len(others) else []])
    keep = (weights > 0) & (counts > 0)
    weights, counts = weights[keep], counts[keep]
    if not len(weights):
        return 0.0
    if q.tail == 0:
        return math.inf
    order = np.argsort(-weights)
    weights, counts = weights[order], counts[order]
    left, capped = q.tail, 0
    if counts.sum() * q.cap <= q.tail:
        return -float((weights * counts).sum()) * math.log(q.cap)
    while True:  # the likeliest have c_q, the others share what is left in their ratio
        share = left / float((weights[capped:] * counts[capped:]).sum())
        if weights[capped] * share <= q.cap:
            break
        left -= counts[capped] * q.cap
        capped += 1
    value = -float((weights[:capped] * counts[:capped]).sum()) * math.log(q.cap)
    y = weights[capped:] * share
    return value - float((weights[capped:] * counts[capped:] * np.log(y)).sum())
