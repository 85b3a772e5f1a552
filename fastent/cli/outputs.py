"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from fastent.io import InputError


def is_direct(path: str) -> bool:
    """Whether a target is written in place: standard output, a pipe, a device."""
    if path == "-":
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def random_word() -> str:
    """What no one else can have guessed, for the name of a temporary file."""
    return os.urandom(8).hex()


def partial_name(path: str, suffix: str = "partial", word: str | None = None) -> str:
    """A hidden name beside the target, so that the rename stays within one filesystem."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name[:200]}.{word or random_word()}.{suffix}")


def create(partial: str, path: str) -> BinaryIO:
    """A new file that will replace the target: with its mode and owner, if there is one.

    Nothing that somebody has put there is opened or followed.
    """
    try:
        before = os.stat(path)
    except OSError:
        before = None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, 0o666 if before is None else 0o600)
    if before is not None:
        with contextlib.suppress(OSError):
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, before.st_uid, before.st_gid)
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
    return open(descriptor, "wb")


def check_writable(path: str) -> None:
    """Fail before the work, not after it, when a target cannot be written."""
    if path == "-":
        if sys.stdout is None:
            raise InputError("-: standard output is closed")
        return
    if not os.path.basename(path):
        raise InputError(f"{path or repr(path)}: expected the name of a file to write")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise InputError(f"{path}: no directory {folder} to write it in")
    if os.path.isdir(path):
        raise InputError(f"{path}: a directory, expected a file to write")
    writable = os.access(path if is_direct(path) else folder, os.W_OK)
    if os.path.isfile(path):  # replacing it would be possible, but is not what its mode says
        writable = writable and os.access(path, os.W_OK) and bool(os.stat(path).st_mode & 0o222)
    if not writable:
        raise InputError(f"{path}: no permission to write it")


def write_whole(path: str, data: Iterable[bytes], durable: bool = False) -> None:
    """Write all pieces so that the target holds all of them or what it held before."""
    if path == "-":
        with named_errors("standard output"):
            sys.stdout.flush()
            sys.stdout.buffer.writelines(data)
            sys.stdout.buffer.flush()
    elif is_direct(path):
        with named_errors(path), open(path, "wb") as stream:
            stream.writelines(data)
    else:
        partial = partial_name(path)
        with named_errors(path):
            try:
                with create(partial, path) as stream:
                    stream.writelines(data)
                    if durable:
                        stream.flush()
                        os.fsync(stream.fileno())
                os.replace(partial, os.path.realpath(path))
            except BaseException:
                remove_quietly(partial)
                raise
            if durable:
                _sync_folder(os.path.dirname(partial))


def _sync_folder(folder: str) -> None:
    """Make a rename last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_quietly(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


@contextlib.contextmanager
def named_errors(path: str) -> Iterator[None]:
    """Say of what file a write failed: a full disk names none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # Arrow words its errors in its own way; the number is the system's.
        why = os.strerror(error.errno) if error.errno else error
        raise InputError(f"{path}: cannot be written: {why}") from None
