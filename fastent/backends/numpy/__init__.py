"""The reference backend: plain NumPy in float64, the formulas as they stand in the mathematics.

Rows are taken in chunks so that the temporaries fit in cache. Every sum runs along a contiguous
row of its own length, so a row's value does not depend on the chunk it sits in.
"""

import numpy as np

from .columns import TASKS

CHUNK = 1 << 15  # numbers per operand; some thirty temporaries of this size are alive at once


def row_values(spec, true, pred, labels, out, terms=None):
    """Write the columns of `spec` for a block of rows to `out`, shape (columns, rows).

    Parameters
    ----------
    spec : object
        Task, columns, kinds and options of the call.
    true, pred : ndarray
        C-contiguous float32 or float64 of shape (n, C), or (n,) for binary; `true` is None for
        the sparse and entropy tasks.
    labels : ndarray of int64 or None
        Class of each row for sparse; a negative number skips the row, which gets 0 everywhere.
    out : ndarray of float64
        Written completely unless a bad row is found.
    terms : ndarray of float64, optional
        One weight per row and class, class weights included.

    Returns
    -------
    None or (row, code, number, operand)
        The first bad row: "negative", "range" or "row_sum", with the offending number.
    """
    rows = len(pred)
    step = max(1, CHUNK // max(1, pred[:1].size))
    with np.errstate(all="ignore"):
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            bad = _chunk(spec, part, true, pred, labels, out, terms)
            if bad is not None:
                return bad
    return None


def _chunk(spec, part, true, pred, labels, out, terms):
    rows = np.arange(part.start, part.stop)
    if labels is not None:
        rows = rows[labels[part] >= 0]
    at = part
    if len(rows) < part.stop - part.start:
        out[:, part] = 0.0
        at = rows
    if not len(rows):
        return None

    def take(x):
        return None if x is None else np.ascontiguousarray(x[at], np.float64)

    label = None if labels is None else labels[at]
    block = TASKS[spec.task](spec, take(true), take(pred), label, take(terms))
    bad = block.first_bad()
    if bad is not None:
        return int(rows[bad[0]]), *bad[1:]
    for name, values in zip(spec.columns, out, strict=True):
        values[at] = block.column(name)
    return None
