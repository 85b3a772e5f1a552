"""A temporary file for what must be turned round before it can be read by the row."""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager

from fastent.io.errors import telling


class Temporary:
    """A file without a name, of which nothing is left when it is closed."""

    def __init__(self) -> None:
        self.size = 0
        with self._telling():
            self._file = tempfile.TemporaryFile(prefix="fastent-", buffering=0)

    @property
    def fd(self) -> int:
        return self._file.fileno()

    def put(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at a byte offset."""
        done = 0
        with self._telling():
            while done < len(data):
                done += os.pwrite(self.fd, data[done:], offset + done)
        self.size = max(self.size, offset + done)

    @staticmethod
    def _telling() -> AbstractContextManager[None]:
        """Say that it is this file that fails, and not the one that is read."""
        where = f"a temporary file in {tempfile.gettempdir()} (TMPDIR names another directory)"
        return telling(where, OSError)

    def close(self) -> None:
        self._file.close()
