"""What makes a row bad: negative probabilities and sums that are not what was promised."""

import numpy as np


def first_bad_row(x, kind, spec, nan_rows):
    """(row, code, number) of the first bad row of one operand, or None; NaN rows are exempt."""
    if kind == "logits":
        return None
    found = []
    if kind == "probs":
        negative = (x < 0).any(axis=1) & ~nan_rows
        found.append(_first(negative, "negative", lambda i: x[i][x[i] < 0][0]))
    if spec.row_sums != "as_is":
        total = (np.exp(x) if kind == "logprobs" else x).sum(axis=1)
        if spec.row_sums == "check":
            bad = ~(np.abs(total - 1) <= spec.sum_tolerance)
        elif kind == "logprobs":  # exp may overflow where the normalised row is fine
            bad = ~np.isfinite(x.max(axis=1))
        else:
            bad = ~((x.max(axis=1) > 0) & (x.max(axis=1) < np.inf))
        found.append(_first(bad & ~nan_rows, "row_sum", lambda i: total[i]))
    return min(filter(None, found), key=lambda f: f[0], default=None)


def first_out_of_range(x, kind, nan):
    """(element, "range", number) of the first that is no probability of one event, or None."""
    if kind == "logits":
        return None
    bad = (x < 0) | (x > 1) if kind == "probs" else x > 0
    return _first(bad & ~nan, "range", lambda i: x[i])


def _first(bad, code, number):
    if not bad.any():
        return None
    i = int(np.argmax(bad))
    return i, code, float(number(i))
