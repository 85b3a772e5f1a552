"""What all kernels share: codes for columns, kinds, rules and faults, and the compiler.

A kernel takes rows and writes a value for each; where a row is odd in any way it writes AGAIN into
`faults` instead, and the plain loops of `careful` and `divergence` do that row once more.
"""

from numba import njit

from fastent.backends.cython.columns import COLUMNS as TABLE

kernel = njit(nogil=True, error_model="numpy")

# The numbers of the compiled backend's table: one a quantity.
COLUMNS = {c.name: c.slot for task in ("sparse", "binary") for c in TABLE[task]}
CROSS_ENTROPY = COLUMNS["cross_entropy"]
ACCURACY = COLUMNS["accuracy"]
RANK = COLUMNS["rank"]
BRIER = COLUMNS["brier"]
ENTROPY = COLUMNS["entropy"]
CONFIDENCE = COLUMNS["confidence"]
TARGET_WEIGHT = COLUMNS["target_weight"]
PROBABILITY = COLUMNS["probability"]

KINDS = {"probs": 0, "logprobs": 1, "logits": 2}
PROBS, LOGPROBS, LOGITS = range(3)

RULES = {"check": 0, "rescale": 1, "as_is": 2}
CHECK, RESCALE, SKIP = range(3)

# A fault is one small code per row; the number in the message is found again for the first one.
TRUE_NEGATIVE, PRED_NEGATIVE, TRUE_SUM, PRED_SUM, TRUE_RANGE, PRED_RANGE = range(1, 7)
AGAIN = -1  # no fault yet: the row is to be done once more
DOUBTFUL = -2  # a row beside which a negative number was seen: it may have one itself
NOTED, NOTED_DOUBT = -3, -4  # a row that its kernel looks at again, the second one in doubt too
FAULTS = {
    TRUE_NEGATIVE: ("negative", "true"),
    PRED_NEGATIVE: ("negative", "pred"),
    TRUE_SUM: ("row_sum", "true"),
    PRED_SUM: ("row_sum", "pred"),
    TRUE_RANGE: ("range", "true"),
    PRED_RANGE: ("range", "pred"),
}
