"""One row as exact probabilities and surprisals, the ground the oracle stands on."""

import math

from mpmath import inf, mp, mpf, nan

SPECK = mp.ldexp(1, -(10**9))


class BadRowError(ValueError):
    """The row breaks the contract: `.code` is "negative", "range" or "row_sum"."""

    def __init__(self, code, number):
        super().__init__(f"{code}: {number}")
        self.code, self.number = code, number


class Side:
    """One distribution at the current precision: probabilities and surprisals (-log p).

    Equal classes are collapsed: `values[i]` occurs `counts[i]` times.
    """

    def __init__(self, kind, values, counts, row_sums, temperature, tolerance):
        if kind == "probs":
            self._from_probs(values, counts, row_sums, tolerance)
        else:
            self._from_logs(kind, values, counts, row_sums, temperature, tolerance)

    def _from_probs(self, values, counts, row_sums, tolerance):
        for x in values:
            if x < 0:
                raise BadRowError("negative", x)
        if any(math.isinf(x) for x in values):
            if row_sums != "as_is":
                raise BadRowError("row_sum", math.inf)
            self.p = [mpf(x) for x in values]
            self.surprisal = [-mp.log(x) if x else inf for x in self.p]
            return
        # exact integers in units of the smallest bit: sums and differences do not round
        pairs = [x.as_integer_ratio() for x in values]
        unit = max(d for _, d in pairs)
        whole = [n * (unit // d) for n, d in pairs]
        total = sum(n * c for n, c in zip(whole, counts, strict=True))
        check_sum(total, unit, row_sums, tolerance)
        if row_sums == "as_is":
            total = unit
        self.p = [mpf(n) / total for n in whole]
        # log1p of the exact rest keeps confident classes exact at any precision
        self.surprisal = [mp.log1p(mpf(total - n) / n) if n else inf for n in whole]

    def _from_logs(self, kind, values, counts, row_sums, temperature, tolerance):
        x = [mpf(v) for v in values]
        top = max(x)
        if kind == "logprobs":
            raw = mp.fsum(c * exp(v) for v, c in zip(x, counts, strict=True))
            check_sum(raw, 1, row_sums, tolerance)
            if row_sums == "as_is":
                self.p, self.surprisal = [exp(v) for v in x], [-v for v in x]
                return
        if top == -inf:
            self.p = self.surprisal = [nan] * len(x)
            return
        if top == inf:
            gaps = [mpf(0) if v == inf else -inf for v in x]
        else:
            scale = mpf(temperature if kind == "logits" else 1)
            gaps = [(v - top) / scale for v in x]
        e = [exp(g) for g in gaps]
        rest = mp.fsum((c - (g == 0)) * v for v, c, g in zip(e, counts, gaps, strict=True))
        # `rest` is everything but one maximum, so log(1 + rest) cannot lose small rows
        ties = sum(g == 0 for g in gaps)
        assert ties == 1, "classes were not collapsed"
        log_total = mp.log1p(rest)
        self.p = [v / (1 + rest) for v in e]
        self.surprisal = [log_total - g for g in gaps]


def check_sum(total, unit, row_sums, tolerance):
    if row_sums == "as_is":
        return
    s = mpf(total) / unit
    bad = not (0 < s < inf) if row_sums == "rescale" else not abs(s - 1) <= mpf(tolerance)
    if bad:
        raise BadRowError("row_sum", float(s))


def exp(x):
    """exp, with everything below 2^-10^9 replaced by one positive number just as negligible."""
    return SPECK if -inf < x < -(10**9) else mp.exp(x)


def times(weight, value):
    """weight · value with 0 · inf = 0."""
    return mpf(0) if weight == 0 else weight * value


def surprise(p):
    return -mp.log(p) if p else inf


def clipped(surprisals, eps):
    """Surprisals of probabilities clipped to [eps, 1 − eps]."""
    if not eps:
        return surprisals
    low, high = -mp.log1p(-mpf(eps)), -mp.log(mpf(eps))
    return [min(max(s, low), high) for s in surprisals]
