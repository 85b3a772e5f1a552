"""Rows that are log-probabilities already: one number a row, ln q of what happened."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastent._errors import shown
from fastent._shapes import weighs_terms
from fastent.backends.views import as_numpy

DEFAULTS = {
    "eps": 0.0, "temperature": 1.0, "label_smoothing": 0.0, "class_weight": None,
    "ignore_index": None, "axis": -1,
}  # fmt: skip
TOLERANCE, NARROW = 1e-3, 2e-2  # by which a probability may be above 1, as a row's sum may


def check_options(options: dict[str, Any]) -> None:
    """Refuse what does not apply to the task."""
    for name, default in DEFAULTS.items():
        value = options.get(name, default)
        if value is not default and value != default:
            raise ValueError(f"{name}: does not apply to task 'logprob', got {shown(value)}")
    if options.get("kind", "probs") not in ("probs", "logprobs"):
        raise ValueError(f"kind: expected 'logprobs' in task 'logprob', got {options['kind']!r}")
    if options.get("row_sums", "check") not in ("check", "as_is"):
        raise ValueError(
            f"row_sums: expected 'check' or 'as_is' in task 'logprob', got {options['row_sums']!r}"
        )
    base = options.get("base")
    if base is not None and not (0 < base < math.inf and base != 1):
        raise ValueError(f"base: expected a finite number above 0 other than 1, got {shown(base)}")


def numbers_of(given: Any, name: str) -> tuple[np.ndarray, bool]:
    """As float64, and whether they were 16-bit."""
    array, brain = as_numpy(given, name)
    if brain:
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if array.dtype.name == "bfloat16":
        return array.astype(np.float64), True
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    return array.astype(np.float64), brain or array.dtype == np.float16


class LogprobCall:
    """The row values of a batch, as a settled call of the engine has them.

    Parameters
    ----------
    columns : tuple of str
        Out of cross_entropy, bytes and loss_less_bytes.
    logprobs : array
        Of any shape: every number is a row.
    counts : array or None
        Bytes behind each row.
    sample_weight : array or None
    row_sums : {"check", "as_is"}
    base : float or None
    """

    names = ("bytes", "logprobs")
    classes = 0
    num_threads = 1

    def __init__(
        self,
        columns: tuple[str, ...],
        logprobs: Any,
        counts: Any = None,
        sample_weight: Any = None,
        row_sums: str = "check",
        base: float | None = None,
    ) -> None:
        numbers, narrow = numbers_of(logprobs, "logprobs")
        self.columns = columns
        self.lead = numbers.shape
        self.rows = numbers.size
        self._logprobs = numbers.reshape(-1)
        self._most = math.log1p(NARROW if narrow else TOLERANCE)
        self._most = math.inf if row_sums == "as_is" else self._most
        self._unit = 1.0 if base is None else math.log(base)
        self._bytes = None
        if "bytes" in columns and counts is None:
            raise ValueError("bytes: expected the bytes behind each row, got None")
        if counts is not None:
            self._bytes = self._sided(counts, "bytes")
            self._check(self._bytes, "bytes", "a count of 0 or more", True)
        self._weights = None
        self.weighted = sample_weight is not None
        if sample_weight is not None:
            self._weights = self._sided(sample_weight, "sample_weight")
            self._check(self._weights, "sample_weight", "a number of at least 0", False)

    def _sided(self, given: Any, name: str) -> np.ndarray:
        array, _ = numbers_of(given, name)
        if array.shape != self.lead:
            weighs_terms(array.shape, self.lead, None)
            array = np.broadcast_to(array, self.lead)
        return array.reshape(-1)

    def _check(self, numbers: np.ndarray, name: str, expected: str, finite: bool) -> None:
        bad = ~(numbers >= 0) | (np.isinf(numbers) & finite)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{name}: expected {expected}, got {float(numbers[row])!r} in row "
                f"{self._index(row)}"
            )

    def _index(self, row: int) -> Any:
        if len(self.lead) == 1:
            return row
        return tuple(int(i) for i in np.unravel_index(row, self.lead))

    def values(self, start: int, stop: int) -> np.ndarray:
        """Row values of rows [start, stop): float64, one line a column."""
        logprobs = self._logprobs[start:stop]
        bad = logprobs > self._most
        if self._weights is not None:
            bad &= self._weights[start:stop] > 0
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                "logprobs: expected log-probabilities, 0 or less, got "
                f"{float(logprobs[row])!r} in row {self._index(start + row)}"
            )
        found = np.empty((len(self.columns), stop - start))
        with np.errstate(over="ignore"):
            loss = (0.0 - logprobs) / self._unit
        for name, line in zip(self.columns, found, strict=True):
            if name == "cross_entropy":
                line[:] = loss
            else:
                assert self._bytes is not None
                count = self._bytes[start:stop]
                line[:] = count if name == "bytes" else loss - count
        return found

    def weights(self, start: int, stop: int) -> np.ndarray | None:
        return None if self._weights is None else self._weights[start:stop]
