"""Names of files, columns and groups on a terminal."""

from __future__ import annotations

from typing import TextIO


def printable(text: str, stream: TextIO) -> str:
    """A text as the terminal can show it, without what would steer it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text.encode(encoding, "backslashreplace").decode(encoding)
