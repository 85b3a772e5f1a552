"""Single rows inside functions compiled by Numba: call these from ``@njit`` code.

Rows are one-dimensional arrays of float32 or float64. Values have the accuracy of the functions of
the same name; a row that they would refuse (negative probabilities, a sum off 1 by more than 1e-3,
a label out of range) gives NaN, as an exception could not leave a parallel loop.

>>> import numpy as np
>>> from numba import njit
>>> from fastent.numba_api import entropy, logsumexp
>>> @njit
... def surplus(x, p):
...     return logsumexp(x) - entropy(p)
>>> float(surplus(np.zeros(4), np.full(4, 0.25)))
0.0
"""

import math

import numpy as np

from fastent.backends.numba.divergence import careful_pair_rows
from fastent.backends.numba.elementary import reduction_unit
from fastent.backends.numba.logits import first_maximum, logit_rows
from fastent.backends.numba.pairs import KL
from fastent.backends.numba.plan import (
    AGAIN,
    CHECK,
    CROSS_ENTROPY,
    ENTROPY,
    LOGITS,
    kernel,
)
from fastent.backends.numba.prob_divergence import prob_pair_rows
from fastent.backends.numba.probabilities import prob_rows

__all__ = ["entropy", "kl_divergence", "logsumexp", "sparse_cross_entropy"]

UNIT = reduction_unit(1.0)
TOLERANCE = 1e-3


@kernel
def sparse_cross_entropy(label, logits):
    """Cross-entropy of a class label and a row of logits, in nats."""
    row = np.ascontiguousarray(logits)
    if not 0 <= label < row.size:
        return math.nan
    labels, columns = np.array([np.int64(label)]), np.array([CROSS_ENTROPY])
    out, faults = np.empty((1, 1)), np.zeros(1, np.int8)
    logit_rows(0, 1, row, row.size, labels, columns, LOGITS, CHECK, UNIT, TOLERANCE, out, faults)
    return out[0, 0]


@kernel
def logsumexp(x):
    """log(Σ e^x) of a row; −inf if it is empty."""
    if x.size == 0:
        return -math.inf
    row = np.ascontiguousarray(x)
    top, place = first_maximum(row, 0, row.size)
    for value in row:
        if value != value:
            return math.nan
    if abs(top) == math.inf:
        return top
    return top + sparse_cross_entropy(place, row)


@kernel
def entropy(p):
    """Entropy of a row of probabilities, in nats."""
    row = np.ascontiguousarray(p)
    if row.size == 0:
        return math.nan
    labels, columns = np.zeros(1, np.int64), np.array([ENTROPY])
    out, faults = np.empty((1, 1)), np.zeros(1, np.int8)
    prob_rows(0, 1, row, row.size, labels, columns, CHECK, TOLERANCE, out, faults)
    return math.nan if faults[0] else out[0, 0]


@kernel
def kl_divergence(p, q):
    """KL(p ‖ q) of two rows of probabilities of one dtype, in nats."""
    a, b = np.ascontiguousarray(p), np.ascontiguousarray(q)
    if a.size == 0 or a.size != b.size:
        return math.nan
    labels, out, faults = np.zeros(1, np.int64), np.zeros(1), np.zeros(1, np.int8)
    prob_pair_rows(0, 1, a, b, a.size, labels, KL, CHECK, TOLERANCE, out, faults)
    if faults[0] == AGAIN:  # nearly equal rows, or bad ones: sorted out in pairs of float64
        faults[0] = 0
        careful_pair_rows(
            0, 1, a, b, a.size, labels, KL, np.zeros(2, np.int64), CHECK, TOLERANCE,
            np.ones(2), 0.0, out, faults,
        )  # fmt: skip
    return math.nan if faults[0] else out[0]
