"""Exact row values: mpmath on the exact numbers given, at a precision raised until nothing moves.

`row` gives the columns of one row, `rows` those of many, `assert_close` holds a result against
them within the promised bounds. Nothing of fastent is imported here, and every input is turned
into Python floats first, which is exact for every float dtype, so the dtype plays no part.
"""

import math
from collections import Counter

import numpy as np
from exact_bernoulli import binary
from exact_distribution import Side, clipped, surprise, times
from mpmath import mp, mpf, nan

ENTROPIC = {
    "cross_entropy", "kl_divergence", "reverse_kl", "js_divergence", "entropy", "target_entropy",
    "entropy_p", "entropy_q",
}  # fmt: skip
COLUMNS = {
    "sparse": ("cross_entropy", "accuracy", "rank", "brier", "entropy", "confidence", "margin",
               "predicted"),
    "categorical": (
        "cross_entropy", "kl_divergence", "entropy", "target_entropy", "brier", "accuracy",
        "predicted", "labelled",
    ),
    "binary": ("cross_entropy", "accuracy", "brier", "entropy", "probability"),
    "divergence": (
        "kl_divergence", "reverse_kl", "js_divergence", "cross_entropy", "entropy_p", "entropy_q",
        "total_variation", "hellinger", "top1_agreement", "top5_overlap", "top10_overlap",
        "top1_in_top5",
    ),
    "entropy": ("entropy",),
}  # fmt: skip
CANCELLING = {
    "kl_divergence", "reverse_kl", "js_divergence", "total_variation", "hellinger", "brier",
    "margin",
}  # fmt: skip
STABLE = mpf(10) ** -25  # two precisions must agree to this, relatively
NOTHING = mpf(10) ** -330  # far below every float64: two such values agree


def floats(values):
    """Python floats of an array of any float dtype; exact."""
    return np.asarray(values).astype(np.float64).ravel().tolist()


def dot(counts, a, b):
    return mp.fsum(c * times(x, y) for c, x, y in zip(counts, a, b, strict=True))


def kl(counts, p, surprisal_p, surprisal_q):
    return mp.fsum(
        c * times(x, sq - sp)
        for c, x, sp, sq in zip(counts, p, surprisal_p, surprisal_q, strict=True)
        if x != 0
    )


def js(counts, a, b, eps):
    q = [min(max(x, mpf(eps)), 1 - mpf(eps)) for x in b.p] if eps else b.p
    middle = [surprise((x + y) / 2) for x, y in zip(a.p, q, strict=True)]
    surprisal_q = clipped(b.surprisal, eps)
    return (kl(counts, a.p, a.surprisal, middle) + kl(counts, q, surprisal_q, middle)) / 2


def margin(p, counts):
    (first, n), *rest = sorted(zip(p, counts, strict=True), reverse=True)
    return mpf(0) if n > 1 else first - (rest[0][0] if rest else 0)


def first_maximum(values):
    return values.index(max(values))


def row(task, columns=None, *, true=None, pred=None, label=None, kind="probs", row_sums="check",
        tolerance=1e-3, eps=0.0, temperature=1.0, label_smoothing=0.0, weights=None,
        base=None):  # fmt: skip
    """Columns of one row as a dict of mpf.

    `kind`: one name, or a pair for two distributions. `weights`: per-term weights (C,), that is
    class weights times full-shape sample weights; they enter "cross_entropy" and "target_weight".
    Raises BadRowError where the contract wants an error.
    """
    columns = COLUMNS[task] if columns is None else columns
    if task == "binary":
        args = (float(true), float(pred), kind, temperature, eps, label_smoothing)
        evaluate = lambda: binary(*args)  # noqa: E731
    else:
        evaluate = rowwise(task, columns, true, pred, label, kind, row_sums, tolerance, eps,
                           temperature, label_smoothing, weights)  # fmt: skip
    values = settle(evaluate, columns)
    if base is not None:
        with mp.workprec(256):
            unit = mp.log(mpf(base))
            values = {k: v / unit if k in ENTROPIC else v for k, v in values.items()}
    return values


def settle(evaluate, columns):
    """Double the precision until every column is stable."""
    precision, before = 160, None
    while precision <= 20000:
        with mp.workprec(precision):
            values = evaluate()
            now = {name: mpf(v() if callable(v := values[name]) else v) for name in columns}
        if before is not None and all(
            agree(before[k], v) and (k not in CANCELLING or precision >= 2 * needed(v))
            for k, v in now.items()
        ):
            return now
        before, precision = now, precision * 2
    raise ArithmeticError(f"no stable value for {columns}")


def needed(v):
    """Bits without which a class of the value's own size would be lost beside the large ones."""
    if not mp.isfinite(v):
        return 0
    return 110 - min(0, mp.mag(v)) if abs(v) > NOTHING else 1200


def agree(a, b):
    if not (mp.isfinite(a) and mp.isfinite(b)):
        return a == b or (mp.isnan(a) and mp.isnan(b))
    with mp.workprec(200):
        return abs(a - b) <= STABLE * abs(b) or max(abs(a), abs(b)) < NOTHING


def rowwise(task, columns, true, pred, label, kind, row_sums, tolerance, eps, temperature,
            smoothing, weights):  # fmt: skip
    """A function that gives, at the current precision, a thunk for every column of the row."""
    pred = floats(pred)
    true = None if true is None else floats(true)
    classes = len(pred)
    first, second = kind if isinstance(kind, (tuple, list)) else (kind, kind)
    if task == "categorical" and not isinstance(kind, (tuple, list)):
        first = "probs"
    if any(map(math.isnan, pred)) or (true is not None and any(map(math.isnan, true))):
        return lambda: dict.fromkeys(columns, nan)
    w = [1.0] * classes if weights is None else floats(weights)
    hot = [0.0] * classes
    if task == "sparse":
        hot[label] = 1.0
    groups = Counter(zip(pred, hot if true is None else true, w, strict=True))
    counts = list(groups.values())
    q_values, t_values, w_values = (list(part) for part in zip(*groups, strict=True))
    merged = lambda values: merge(values, counts)  # noqa: E731
    predicted_first = first_maximum(pred)
    identical = same_distribution(task, (first, second), t_values, q_values, row_sums)

    def side(kind_, values, temp):
        distinct, index, totals = merged(values)
        s = Side(kind_, distinct, totals, row_sums, temp, tolerance)
        s.p, s.surprisal = [s.p[i] for i in index], [s.surprisal[i] for i in index]
        return s

    def weighted(t):
        smooth = [(1 - mpf(smoothing)) * x + mpf(smoothing) / classes for x in t]
        return [times(mpf(v), x) for v, x in zip(w_values, smooth, strict=True)]

    def zero_if_identical(value):
        return lambda: mpf(0) if identical else value()

    def evaluate():
        q = side(second, q_values, temperature)
        entropy = lambda: dot(counts, q.p, q.surprisal)  # noqa: E731
        if task == "entropy":
            return {"entropy": entropy}
        if task == "sparse":
            t = [mpf(x) for x in t_values]
            value = pred[label]
            return {
                "cross_entropy": lambda: dot(counts, weighted(t), clipped(q.surprisal, eps)),
                "target_weight": lambda: total(counts, weighted(t)),
                "accuracy": lambda: predicted_first == label,
                "rank": lambda: sum(x > value for x in pred) + pred[:label].count(value),
                "brier": lambda: brier(counts, q.p, t),
                "entropy": entropy,
                "confidence": lambda: max(q.p) if not mp.isnan(q.p[0]) else nan,
                "margin": lambda: margin(q.p, counts) if not mp.isnan(q.p[0]) else nan,
                "predicted": lambda: predicted_first,
            }
        p = side(first, t_values, temperature)
        agreement = lambda: predicted_first == first_maximum(true)  # noqa: E731
        kl_divergence = lambda: kl(counts, p.p, p.surprisal, clipped(q.surprisal, eps))  # noqa: E731
        if not eps:
            kl_divergence = zero_if_identical(kl_divergence)
        if task == "categorical":
            return {
                "cross_entropy": lambda: dot(counts, weighted(p.p), clipped(q.surprisal, eps)),
                "target_weight": lambda: total(counts, weighted(p.p)),
                "kl_divergence": kl_divergence,
                "entropy": entropy,
                "target_entropy": lambda: dot(counts, p.p, p.surprisal),
                "brier": lambda: brier(counts, q.p, p.p),
                "accuracy": agreement,
                "predicted": lambda: predicted_first,
                "labelled": lambda: first_maximum(true),
            }
        js_divergence = lambda: js(counts, p, q, eps)  # noqa: E731
        return {
            "kl_divergence": kl_divergence,
            "reverse_kl": zero_if_identical(lambda: kl(counts, q.p, q.surprisal, p.surprisal)),
            "js_divergence": js_divergence if eps else zero_if_identical(js_divergence),
            "cross_entropy": lambda: dot(counts, p.p, clipped(q.surprisal, eps)),
            "entropy_p": lambda: dot(counts, p.p, p.surprisal),
            "entropy_q": entropy,
            "total_variation": zero_if_identical(lambda: total_variation(counts, p.p, q.p)),
            "hellinger": zero_if_identical(lambda: hellinger(counts, p.p, q.p)),
            "top1_agreement": agreement,
            "top5_overlap": lambda: overlap(true, pred, 5, 5),
            "top10_overlap": lambda: overlap(true, pred, 10, 10),
            "top1_in_top5": lambda: overlap(true, pred, 1, 5),
        }

    return evaluate


def overlap(true, pred, of_true, of_pred):
    """Share of the largest numbers of one row that are among the largest of the other."""
    order = [sorted(range(len(x)), key=lambda i: (-x[i], i)) for x in (true, pred)]
    ours, theirs = order[0][:of_true], set(order[1][:of_pred])
    return mpf(len(theirs.intersection(ours))) / len(ours)


def merge(values, counts):
    """Distinct values, where each old value went, and how often each distinct one occurs."""
    place, index, totals = {}, [], []
    for value, count in zip(values, counts, strict=True):
        if value not in place:
            place[value] = len(totals)
            totals.append(0)
        index.append(place[value])
        totals[place[value]] += count
    return list(place), index, totals


def total(counts, values):
    return mp.fsum(c * x for c, x in zip(counts, values, strict=True))


def total_variation(counts, p, q):
    return total(counts, [abs(x - y) for x, y in zip(p, q, strict=True)]) / 2


def hellinger(counts, p, q):
    roots = [(mp.sqrt(x) - mp.sqrt(y)) ** 2 for x, y in zip(p, q, strict=True)]
    return mp.sqrt(total(counts, roots) / 2)


def brier(counts, q, t):
    return total(counts, [(x - y) ** 2 for x, y in zip(q, t, strict=True)])


def same_distribution(task, kinds, t_values, q_values, row_sums):
    """True when both rows are exactly the same distribution, so divergences are exactly 0."""
    if task not in ("divergence", "categorical") or kinds[0] != kinds[1]:
        return False
    if t_values == q_values:
        return max(t_values) > -math.inf
    if row_sums == "as_is":
        return False
    if any(math.isinf(x) for x in t_values + q_values):
        return False
    exact_t = [x.as_integer_ratio() for x in t_values]
    exact_q = [x.as_integer_ratio() for x in q_values]
    if kinds[0] == "probs":  # t_i q_j == t_j q_i for all i, with one j
        j = max(range(len(t_values)), key=lambda i: t_values[i])
        tj, qj = exact_t[j], exact_q[j]
        return all(
            t[0] * qj[0] * tj[1] * q[1] == tj[0] * q[0] * t[1] * qj[1]
            for t, q in zip(exact_t, exact_q, strict=True)
        )
    gaps = {
        (t[0] * (4**1100 // t[1]) - q[0] * (4**1100 // q[1]))
        for t, q in zip(exact_t, exact_q, strict=True)
    }
    return len(gaps) == 1


def rows(task, column, *, true=None, pred=None, labels=None, weights=None, **options):
    """One column for every row of C-last arrays, as a flat list of mpf (binary: of elements)."""
    pred = np.asarray(pred)
    if task == "binary":
        pairs = zip(floats(true), floats(pred), strict=True)
        return [row(task, (column,), true=t, pred=x, **options)[column] for t, x in pairs]
    classes = pred.shape[-1]
    pred = pred.reshape(-1, classes)
    true = [None] * len(pred) if true is None else np.asarray(true).reshape(-1, classes)
    labels = [None] * len(pred) if labels is None else np.asarray(labels).ravel().tolist()
    if weights is None:
        weights = [None] * len(pred)
    else:
        weights = np.broadcast_to(np.asarray(weights, np.float64), pred.shape)
    out = []
    for t, q, y, w in zip(true, pred, labels, weights, strict=True):
        y = None if y is None else int(y)
        out.append(row(task, (column,), true=t, pred=q, label=y, weights=w, **options)[column])
    return out


def bounds(dtype):
    """(relative bound, magnitude below which it is absolute, sum tolerance) of a dtype."""
    dtype = np.dtype(dtype)
    if dtype == np.float64:
        return 1e-14, 1e-290, 1e-3
    return 1e-6, 1e-30, 1e-3 if dtype == np.float32 else 2e-2


def excess(got, want, dtype, mixed=False):
    """Error of one value over what is allowed: at most 1 when the promise is kept."""
    got, relative, floor = float(got), *bounds(dtype)[:2]
    if mp.isnan(want):
        return 0.0 if math.isnan(got) else math.inf
    if math.isnan(got):
        return math.inf
    with mp.workprec(200):
        if not mp.isfinite(want) or abs(want) > mpf(2) ** 1024:
            return 0.0 if got == want or (math.isinf(got) and got * want > 0) else math.inf
        if math.isinf(got):
            return math.inf
        scale = max(abs(want), mpf(floor))
        if mixed and np.dtype(dtype) == np.float64:
            scale = max(scale, mp.sqrt(abs(want) / 200))
        return float(abs(mpf(got) - want) / (mpf(relative) * scale))


def assert_close(got, want, dtype, mixed=False, what=""):
    """Every value within section "what is right": relative, absolute when tiny."""
    got = np.asarray(got, np.float64).ravel().tolist()
    assert len(got) == len(want), f"{what}: {len(got)} values, expected {len(want)}"
    worst, place = 0.0, None
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        e = excess(g, w, dtype, mixed)
        if not e <= worst:
            worst, place = e, i
    if worst > 1.0:
        raise AssertionError(
            f"{what}: row {place}: got {got[place]!r}, exact {mp.nstr(want[place], 20)}, "
            f"error {worst:.3g} times the bound for {np.dtype(dtype)}"
        )
