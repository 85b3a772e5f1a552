"""The ready-made divergences and the soft focal loss of one pair of rows, exactly."""

import oracle
from exact_distribution import Side
from mpmath import inf, mp, mpf


def power_sum(a, b, alpha):
    """Σ p^α q^(1−α), by surprisals."""
    alpha, terms = mpf(alpha), []
    for s, t in zip(a.surprisal, b.surprisal, strict=True):
        if s == inf and t == inf:
            continue
        if (s == inf and alpha > 0) or (t == inf and alpha < 1):
            continue
        if (s == inf and alpha < 0) or (t == inf and alpha > 1):
            return inf
        terms.append(mp.exp(-(alpha * s if alpha else 0) - ((1 - alpha) * t if alpha != 1 else 0)))
    return mp.fsum(terms)


def kl(a, b):
    return oracle.kl([1] * len(a.p), a.p, a.surprisal, b.surprisal)


def alpha_divergence(a, b, alpha):
    if alpha in (0, 1):
        return kl(a, b) if alpha else kl(b, a)
    return (power_sum(a, b, alpha) - 1) / (mpf(alpha) * (mpf(alpha) - 1))


def tsallis_divergence(a, b, alpha):
    return alpha * alpha_divergence(a, b, alpha)


def renyi_divergence(a, b, alpha):
    if alpha == 1:
        return kl(a, b)
    affinity = power_sum(a, b, alpha)
    return (mp.log(affinity) if affinity else -inf) / (mpf(alpha) - 1)


def chi2_divergence(a, b):
    return power_sum(a, b, 2) - 1


def jeffreys_divergence(a, b):
    return kl(a, b) + kl(b, a)


def total_variation(a, b):
    return oracle.total_variation([1] * len(a.p), a.p, b.p)


def hellinger_distance(a, b):
    return oracle.hellinger([1] * len(a.p), a.p, b.p)


def focal_cross_entropy(target, pred, gamma):
    return mp.fsum(
        t * (-mp.expm1(-s)) ** mpf(gamma) * s
        for t, s in zip(target.p, pred.surprisal, strict=True)
        if t
    )


def value(formula, p, q, kinds, *order, row_sums="check", tolerance=1e-3, temperature=1.0):
    """The exact value of one pair of rows;
    BadRowError of `exact_distribution` where the contract wants an error."""

    def sides():
        for x, kind in zip((p, q), kinds, strict=True):
            x = oracle.floats(x)
            hot = temperature if kind == "logits" else 1.0
            # equal classes are collapsed, as Side wants it
            distinct = list(dict.fromkeys(x))
            counts = [x.count(v) for v in distinct]
            side = Side(kind, distinct, counts, row_sums, hot, tolerance)
            at = [distinct.index(v) for v in x]
            side.p, side.surprisal = ([part[i] for i in at] for part in (side.p, side.surprisal))
            yield side

    if any(v != v for x in (p, q) for v in oracle.floats(x)):
        return mp.nan

    def evaluate():
        a, b = sides()
        if any(v != v for v in (a.p[0], b.p[0])):
            return {"kl_divergence": mp.nan}
        return {"kl_divergence": formula(a, b, *order)}

    # under the name of a column whose small values the oracle does not trust too early
    return oracle.settle(evaluate, ("kl_divergence",))["kl_divergence"]
