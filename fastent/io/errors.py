"""The one exception of the readers: input that cannot be used, told in one line."""

from __future__ import annotations


class InputError(ValueError):
    """Unusable input; the message is one line that names the file and, for values, the row."""
