"""The numbers of columns, one a quantity, as the compiled backend's table has them."""

from fastent.backends.cython.columns import COLUMNS

_SLOTS = {c.name: c.slot for task in ("divergence", "binary", "sparse") for c in COLUMNS[task]}
CROSS_ENTROPY = _SLOTS["cross_entropy"]
TARGET_WEIGHT = _SLOTS["target_weight"]
ACCURACY = _SLOTS["accuracy"]
RANK = _SLOTS["rank"]
BRIER = _SLOTS["brier"]
ENTROPY = _SLOTS["entropy"]
CONFIDENCE = _SLOTS["confidence"]
MARGIN = _SLOTS["margin"]
PROBABILITY = _SLOTS["probability"]
KL = _SLOTS["kl_divergence"]
JS = _SLOTS["js_divergence"]
TOTAL_VARIATION = _SLOTS["total_variation"]
HELLINGER = _SLOTS["hellinger"]
AGREEMENT = _SLOTS["top1_agreement"]
TOP5_OVERLAP = _SLOTS["top5_overlap"]
TOP10_OVERLAP = _SLOTS["top10_overlap"]
PREDICTED = _SLOTS["predicted"]
TOP1_IN_TOP5 = _SLOTS["top1_in_top5"]
