"""The one exception of the readers: input that cannot be used, told in one line."""

from __future__ import annotations


class InputError(ValueError):
    """Unusable input; the message is one line that names the file and, for values, the row."""


def first_line(error: BaseException) -> str:
    """What a library says, without the rest of what it says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
