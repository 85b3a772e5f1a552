"""Row values made of those of the engine: products for sums of pairs of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Values = Mapping[str, np.ndarray]

# By name: the row values that it is made of, where "target" is that of a binary task, and how.
DERIVED: dict[str, tuple[tuple[str, ...], Callable[..., np.ndarray]]] = {
    # of a probability and its target: what both have, what one has alone, and what is not shared
    "sure_hits": (("confidence", "accuracy"), lambda confidence, correct: confidence * correct),
    "overlap": (("probability", "target"), lambda p, t: p * t),
    "alone_p": (("probability", "target"), lambda p, t: p * (1.0 - t)),
    "alone_t": (("probability", "target"), lambda p, t: t * (1.0 - p)),
    "apart": (("probability", "target"), lambda p, t: p * (1.0 - t) + t * (1.0 - p)),
}


def derived(names: list[str], known: Values) -> list[np.ndarray]:
    """The row values of these names."""
    found = []
    for name in names:
        sources, make = DERIVED[name]
        found.append(make(*(known[source] for source in sources)))
    return found
