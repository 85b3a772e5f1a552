"""Row kernels of divergences given as scalar functions of (p, q).

A row of either kind becomes normalised float64 probabilities in scratch memory; the functions see
nothing else. Classes with p = q = 0 add nothing.
"""

import math

import numpy as np
from numba import njit

from . import columns
from .functions import reduction_unit
from .probabilities import probability_row, total_of
from .rows import scratch


@njit(error_model="numpy")
def unchanged(total, *parameters):
    return total


def row_kernel(term, finish):
    """The kernel over rows of finish(Σ term(p, q, *parameters), *parameters); of the sum itself
    without a `finish`."""
    finish = finish or unchanged

    @njit(nogil=True, error_model="numpy")
    def rows(p, q, classes, labels, kinds, rule, tolerance, units, parameters, s, out,
             faults):  # fmt: skip
        a, b, terms = np.empty(classes), np.empty(classes), np.empty(classes)
        work = s, np.zeros(out.size, np.int8)
        for i in range(out.size):
            out[i] = 0.0
            if labels.size > 0 and labels[i] < 0:
                continue
            of_p = probability_row(p, i, classes, kinds[0], rule, tolerance, units[0], a, 0, work)
            of_q = probability_row(q, i, classes, kinds[1], rule, tolerance, units[1], b, 0, work)
            faults[i] = 2 * of_p - 1 if of_p > 0 else 2 * max(of_q, 0)
            if of_p or of_q:
                out[i] = math.nan
                continue
            for j in range(classes):
                x, y = a[j], b[j]
                terms[j] = 0.0 if x == 0.0 and y == 0.0 else term(x, y, *parameters)
            total = total_of(terms, 0, classes, work)[0]
            out[i] = finish(total, *parameters)

    return rows


class Rows:
    """What the engine asks for row values: a kernel with its parameters and unit."""

    def __init__(self, compiled, numbers, unit):
        self.compiled, self.numbers, self.unit = compiled, numbers, unit

    def row_values(self, spec, true, pred, labels, out, terms=None):
        rows, faults = columns.Rows(spec, (true, pred), labels), np.zeros(len(pred), np.int8)
        self.compiled(
            rows.true, rows.pred, rows.classes, rows.labels, rows.kinds, rows.rule,
            float(spec.sum_tolerance), tuple(reduction_unit(t) for t in rows.temperatures),
            self.numbers, scratch(np.float64)[1], out[0], faults,
        )  # fmt: skip
        out[0] /= self.unit
        return columns.first_fault(spec, true, pred, faults)
