"""Progress on disk: what a run has done so far, so that the same command goes on from there."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from fastent.cli import long_lists
from fastent.cli.outputs import partial_name, remove_quietly, write_whole
from fastent.io import InputError
from fastent.io.errors import first_line, telling

FORMAT = 2
FIRST_SECONDS = 1.0  # little is lost if a short run is killed
LONGEST_SECONDS = 20.0
# Saving may take this share of the time.
SHARE = 0.05


class Checkpoint:
    """The file given with ``--checkpoint``; without one everything here does nothing.

    Parameters
    ----------
    path : str or None
        Where it is kept.
    identity : dict
        What must be the same for a run to go on, by the name that a refusal calls it.
    """

    def __init__(self, path: str | None, identity: dict[str, Any]) -> None:
        self.path = path
        self._identity = json.loads(json.dumps(identity))
        self._lock_fd = -1
        self._pause = FIRST_SECONDS
        self._due = time.monotonic() + FIRST_SECONDS

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, None when there is none; refuses that of other work."""
        if self.path is None:
            return None
        self._lock()
        self._clear()
        try:
            kept = long_lists.read(self.path)
            state: dict[str, Any] = kept["state"]
            identity: dict[str, Any] = dict(kept["identity"])
            intact = kept["format"] == FORMAT
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError, RecursionError):
            intact = False
        if not intact:
            raise InputError(f"{self.path}: not a checkpoint of this version of fastent")
        for name, now in self._identity.items():
            before = identity.get(name)
            if before != now:
                raise InputError(
                    f"{self.path}: a checkpoint of other {name}{_difference(before, now)}; "
                    "remove it to start over"
                )
        return state

    @contextlib.contextmanager
    def believed(self) -> Iterator[None]:
        """What goes wrong inside, as the state is taken up, is the fault of the file."""
        try:
            yield
        except Exception as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"{self.path}: a damaged checkpoint ({why})") from None

    def _lock(self) -> None:
        """Let no other run write the checkpoint; the system unlocks that of one that dies."""
        assert self.path is not None
        folder, name = os.path.split(os.path.realpath(self.path))
        self._lock_path = os.path.join(folder, f".{name}.lock")
        with telling(f"{self.path}: cannot be locked", OSError):
            self._lock_fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = os.stat(self._lock_path).st_ino == os.fstat(self._lock_fd).st_ino
        except BlockingIOError:
            current = False
        except OSError:  # a filesystem without locks, or a file that has just been removed
            current = os.path.exists(self._lock_path)
        if not current:
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise InputError(f"{self.path}: another run is writing this checkpoint")

    def _clear(self) -> None:
        """Remove what a run that was killed had begun to write: nobody else writes here now."""
        assert self.path is not None
        with contextlib.suppress(OSError):
            name = glob.escape(partial_name(self.path, word="\0"))
            for begun in glob.glob(name.replace("\0", "*")):
                remove_quietly(begun)

    def unlock(self) -> None:
        if self._lock_fd >= 0:
            remove_quietly(self._lock_path)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def exists(self) -> bool:
        return self.path is not None and os.path.exists(self.path)

    def due(self) -> bool:
        return self.path is not None and time.monotonic() >= self._due

    def save(self, state: dict[str, Any]) -> None:
        if self.path is None:
            return
        began = time.monotonic()
        kept = {"format": FORMAT, "identity": self._identity, "state": state}
        write_whole(self.path, long_lists.written(kept), durable=True)
        now = time.monotonic()
        self._pause = min(LONGEST_SECONDS, max(2 * self._pause, (now - began) / SHARE))
        self._due = now + self._pause

    def remove(self) -> None:
        if self.path is not None:
            remove_quietly(self.path)


def _difference(before: Any, now: Any) -> str:
    """Which of several things differs, when that can be said in a few words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                return f" ({key}: {before.get(key)} then, {now[key]} now)"
    if isinstance(before, str) and isinstance(now, str):
        return f" ({before} then, {now} now)"
    if isinstance(before, list) and isinstance(now, list):
        for old, new in zip(before, now, strict=False):
            if old != new:
                return f" ({new[1]} is not as it was)"
    return ""
