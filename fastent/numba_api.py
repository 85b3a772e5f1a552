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

from fastent.backends.numba import codes, slots
from fastent.backends.numba.careful import single_rows
from fastent.backends.numba.careful_pair import pair_rows
from fastent.backends.numba.functions import reduction_unit
from fastent.backends.numba.logits_cross_entropy import LOSS as LOSS_ALONE, ROWS as LOGIT_ROWS
from fastent.backends.numba.loops import APART, SPARE, lane_max
from fastent.backends.numba.probs_cross_entropy import ENTROPY, ROWS as PROB_ROWS
from fastent.backends.numba.probs_divergence import ROWS as PAIR_ROWS, limits
from fastent.backends.numba.rows import NONE
from fastent.backends.numba.vectors import is_single, kernel

__all__ = ["entropy", "kl_divergence", "logsumexp", "sparse_cross_entropy"]

UNIT = reduction_unit(1.0)
TOLERANCE = 1e-3
SUMS = (1.0 - TOLERANCE, 1.0 + TOLERANCE)
NO_LABELS = np.empty(0, np.int64)
LOSS, HEAT = np.array([slots.CROSS_ENTROPY]), np.array([slots.ENTROPY])
OF_PROBS = (
    np.full(2, codes.PROBS),
    codes.CHECK,
    TOLERANCE,
    np.ones(2),
)  # the rows as `careful` wants them
OF_LOGITS = (np.full(2, codes.LOGITS), codes.CHECK, TOLERANCE, np.ones(2))
SINGLE_LIMITS, DOUBLE_LIMITS = limits(*SUMS, True), limits(*SUMS, False)
row_loss, row_divergence = LOGIT_ROWS[False, LOSS_ALONE], PAIR_ROWS[slots.KL_DIVERGENCE, False]
row_entropy = PROB_ROWS[False, ENTROPY]


@kernel
def room_of(row):
    """Scratch memory for the kernels of a row."""
    return np.empty(1, row.dtype), np.empty((SPARE + 4) * APART)


@kernel
def sparse_cross_entropy(label, logits):
    """Cross-entropy of a class label and a row of logits, in nats.

    Parameters
    ----------
    label : int
    logits : one-dimensional array of float32 or float64

    Returns
    -------
    float
        NaN for a label out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastent.numba_api import sparse_cross_entropy
    >>> f"{sparse_cross_entropy(0, np.array([40.0, 0, 0])):.12e}"
    '8.496708510583e-18'
    """
    row = np.ascontiguousarray(logits)
    if not 0 <= label < row.size:
        return math.nan
    t, s = room_of(row)
    labels, out, faults = np.array([np.int64(label)]), np.empty((1, 1)), np.zeros(1, np.int8)
    least = max(8e-28, 4e-30 * row.size) if is_single(row) and row.size > 1 else -1.0
    limits = (-math.inf, math.inf, least, 0.0, 0.0)
    row_loss(NONE, row, row.size, labels, UNIT, limits, t, s, out[0], (), faults)
    if faults[0] < 0:
        faults[0] = codes.AGAIN
        single_rows(row, row.size, labels, LOSS, OF_LOGITS, out, faults)
    return out[0, 0]


@kernel
def logsumexp(x):
    """log(Σ e^x) of a row; −inf if it is empty.

    Parameters
    ----------
    x : one-dimensional array of float32 or float64

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from fastent.numba_api import logsumexp
    >>> round(logsumexp(np.array([1000.0, 1000.0])), 9)
    1000.693147181
    """
    if x.size == 0:
        return -math.inf
    row = np.ascontiguousarray(x)
    top = lane_max(row, 0, row.size)
    if not abs(top) < math.inf:
        return top
    place = 0
    while row[place] != top:
        place += 1
    return top + sparse_cross_entropy(place, row)


@kernel
def entropy(p):
    """Entropy of a row of probabilities, in nats.

    Parameters
    ----------
    p : one-dimensional array of float32 or float64

    Returns
    -------
    float
        NaN for a row that is not a distribution.

    Examples
    --------
    >>> import numpy as np
    >>> from fastent.numba_api import entropy
    >>> round(entropy(np.array([0.5, 0.5])), 9)
    0.693147181
    """
    row = np.ascontiguousarray(p)
    if row.size == 0:
        return math.nan
    t, s = room_of(row)
    out, faults = np.empty((1, 1)), np.zeros(1, np.int8)
    row_entropy(row, row.size, NO_LABELS, SUMS, t, s, out[0], (), faults)
    if faults[0] < 0:
        faults[0] = codes.AGAIN
        single_rows(row, row.size, NO_LABELS, HEAT, OF_PROBS, out, faults)
    return math.nan if faults[0] else out[0, 0]


@kernel
def kl_divergence(p, q):
    """KL(p ‖ q) of two rows of probabilities of one dtype, in nats.

    Parameters
    ----------
    p, q : one-dimensional arrays of float32 or float64, of one length

    Returns
    -------
    float
        NaN for rows that are not distributions.

    Examples
    --------
    >>> import numpy as np
    >>> from fastent.numba_api import kl_divergence
    >>> round(kl_divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5])), 9)
    0.693147181
    """
    a, b = np.ascontiguousarray(p), np.ascontiguousarray(q)
    if a.size == 0 or a.size != b.size:
        return math.nan
    t, s = room_of(a)
    out, faults = np.zeros(1), np.zeros(1, np.int8)
    bounds = SINGLE_LIMITS if is_single(a) else DOUBLE_LIMITS
    row_divergence(a, b, a.size, bounds, t, s, out, faults)
    if faults[0] < 0:  # nearly equal rows, or bad ones: sorted out in pairs of float64
        faults[0] = codes.AGAIN
        pair_rows(a, b, a.size, slots.KL_DIVERGENCE, OF_PROBS, 0.0, out, faults)
    return math.nan if faults[0] else out[0]
