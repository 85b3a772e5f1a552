"""Codes for kinds, rules and faults.

A kernel takes rows and writes a value for each; where a row is odd in any way it writes AGAIN into
`faults` instead, and the plain loops of `careful` and `careful_pair` do that row once more.
"""

from fastent.backends.cython.engine import KINDS

PROBS, LOGPROBS, LOGITS = (KINDS[name] for name in ("probs", "logprobs", "logits"))

RULES = {"check": 0, "rescale": 1, "as_is": 2}
CHECK, RESCALE, SKIP = range(3)

# What may be wrong with a row of an operand; one with a NaN is unknown, one without a class empty.
EMPTY, UNKNOWN, FINE, NEGATIVE, SUM, RANGE = range(-2, 4)

# A fault is a small code per row, 2·what − 1 of the true operand and 2·what of the predicted one;
# the number in the message is found again for the first of them.
FAULTS = {
    2 * what - (which == "true"): (name, which)
    for what, name in ((NEGATIVE, "negative"), (SUM, "row_sum"), (RANGE, "range"))
    for which in ("true", "pred")
}
AGAIN = -1  # no fault yet: the row is to be done once more
NOTED = -2  # a row that its kernel looks at again
