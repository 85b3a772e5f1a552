"""A temporary file for what must be turned round before it can be read by the row."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from fastent.io.errors import InputError


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
    @contextlib.contextmanager
    def _telling() -> Iterator[None]:
        """Say that it is this file that fails, and not the one that is read."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"a temporary file in {tempfile.gettempdir()}: {error.strerror} (TMPDIR names "
                "another directory)"
            ) from None

    def close(self) -> None:
        self._file.close()
