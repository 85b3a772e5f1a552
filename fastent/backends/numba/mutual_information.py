"""Mutual information of contingency tables, from what each cell differs from independence."""

import math

import numpy as np

from .careful_pair import divergence
from .constants import kernel
from .double_double import two_product, two_sum

LIFT = 2.0**400  # keeps products of small margins in the normal range, exactly


@kernel
def twofold_add(high, low, x):
    high, lost = two_sum(high, x)
    return high, low + lost


@kernel
def mutual_rows(first, last, tables, out):
    """Σ x log(x/y) / N² with x = N·n and y = R·C of each cell, so that Σ x = Σ y.

    y − x is taken from products and margins of twice the precision: of nearly independent tables
    nothing else is left.
    """
    rows, columns = tables.shape[1:]
    down, up = np.empty((rows, 2)), np.empty((columns, 2))
    for t in range(first, last):
        table = tables[t]
        down[:], up[:] = 0.0, 0.0
        whole, rest = 0.0, 0.0
        for i in range(rows):
            for j in range(columns):
                n = table[i, j]
                down[i, 0], down[i, 1] = twofold_add(down[i, 0], down[i, 1], n)
                up[j, 0], up[j, 1] = twofold_add(up[j, 0], up[j, 1], n)
                whole, rest = twofold_add(whole, rest, n)
        total, lost = 0.0, 0.0
        for i in range(rows):
            row, row_low = down[i, 0] * LIFT, down[i, 1] * LIFT
            for j in range(columns):
                x, x_low = two_product(whole * LIFT, table[i, j])
                x_low += rest * LIFT * table[i, j]
                y, y_low = two_product(row, up[j, 0])
                y_low += row * up[j, 1] + row_low * up[j, 0]
                d = (y - x) + (y_low - x_low)
                total, lost = twofold_add(total, lost, divergence(x, y, d))
        out[t] = (total + lost) / LIFT / whole / whole if whole == whole else math.nan
