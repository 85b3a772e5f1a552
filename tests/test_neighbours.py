"""A row's value is made from the row alone: the same bits by itself, and wherever it stands among
rows of any other sort."""

import cases
import hard_inputs as hard
import numpy as np
import pytest
from test_random_rows import random_logits

FUNCTIONS = [name for name in cases.FUNCTIONS if name != "binary_cross_entropy"]
CLASSES = [1, 2, 3, 5, 10, 16, 17, 31, 32, 33, 65, 600]
ROWS = 75


@np.errstate(all="ignore")
def rows_of_all_sorts(classes, dtype):
    """Two operands of logits: near and far pairs, ties, near certainty, what is no number."""
    r = np.random.default_rng(classes)
    a = np.stack([random_logits(r, classes) for _ in range(ROWS)])
    b = np.stack([random_logits(r, classes) for _ in range(ROWS)])
    b[::4] = a[::4] * (1 + 10.0 ** r.uniform(-9, -1, size=(len(a[::4]), 1)))
    b[1::8] = a[1::8] + r.choice([0, 0.5, 1.7])
    # what floats can just hold beside the maximum, and what they cannot
    for x in (a, b):
        x[2::3] = 0
        x[2::3, 1:] = -r.uniform(*r.choice([(55, 66), (80, 95)]), size=(len(x[2::3]), 1))
    a[3], b[3], a[10] = 0, 0, np.nan
    b[20, -1] = np.nan
    a[30, 0] = b[40, -1] = np.inf
    a[50] = -np.inf
    return hard.cast(a, dtype), hard.cast(b, dtype)


@np.errstate(all="ignore")
def as_probs(x):
    return (np.nan_to_num(hard.softmax(x)) + hard.tiniest(x.dtype)).astype(x.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["logits", "probs"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_neighbours_do_not_show(function, kind, dtype, compiled):
    options = {"row_sums": "rescale"} if kind == "probs" or function.startswith("cat") else {}
    for classes in CLASSES:
        a, b = rows_of_all_sorts(classes, dtype)
        if kind == "probs":
            a, b = as_probs(a), as_probs(b)
        order = np.random.default_rng(classes).permutation(ROWS)
        true = {"entropy": None, "sparse_cross_entropy": order % classes}.get(function, a)
        if function == "categorical_cross_entropy":
            true = as_probs(a)

        def values(rows, true=true, b=b):
            args = (b[rows],) if true is None else (true[rows], b[rows])
            return cases.call(function, args, kind, **options)

        together = values(np.arange(ROWS))
        alone = [values(np.arange(i, i + 1))[0] for i in range(ROWS)]
        np.testing.assert_array_equal(together, alone, f"{classes} classes")
        np.testing.assert_array_equal(values(order), together[order], f"{classes} classes")
