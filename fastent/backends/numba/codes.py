"""Codes for kinds, rules and faults.

A kernel takes rows and writes a value for each; where a row is odd in any way it writes AGAIN into
`faults` instead, and the plain loops of `careful` and `careful_pair` do that row once more.
"""

KINDS = {"probs": 0, "logprobs": 1, "logits": 2}
PROBS, LOGPROBS, LOGITS = range(3)

RULES = {"check": 0, "rescale": 1, "as_is": 2}
CHECK, RESCALE, SKIP = range(3)

# A fault is one small code per row; the number in the message is found again for the first one.
TRUE_NEGATIVE, PRED_NEGATIVE, TRUE_SUM, PRED_SUM, TRUE_RANGE, PRED_RANGE = range(1, 7)
AGAIN = -1  # no fault yet: the row is to be done once more
NOTED = -2  # a row that its kernel looks at again
FAULTS = {
    TRUE_NEGATIVE: ("negative", "true"),
    PRED_NEGATIVE: ("negative", "pred"),
    TRUE_SUM: ("row_sum", "true"),
    PRED_SUM: ("row_sum", "pred"),
    TRUE_RANGE: ("range", "true"),
    PRED_RANGE: ("range", "pred"),
}
