"""Compiled kernels on disk, so that a second process does not compile what a first one has.

A file holds one kernel for one signature, and its name says all that its code depends on: the
sources of this folder, the numbers of the columns, Python, NumPy, Numba, LLVM and their settings,
the processor and FASTENT_SIMD. There is no index, nothing is changed in place and files appear
whole, so that processes need not know of each other; a file that is not what was written, or that
another user may have written, is as good as none. Where nothing can be written nothing is kept.

Files are in the folder ``fastent`` of NUMBA_CACHE_DIR if that is set, else in ``fastent/numba`` of
the user's folder for caches. It may be deleted at any time, and is never cleared but by its owner.
"""

import hashlib
import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import numba
import numpy as np

from fastent.backends.cython.columns import COLUMNS

SEAL = hashlib.sha256().digest_size

# Read now, when what is compiled is loaded: the files may be others later.
SOURCES = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]


def folder():
    """Where all builds are."""
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR) / "fastent"
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "fastent" / "numba"


def digest(*parts):
    found = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else repr(part).encode()
        found.update(b"%d:" % len(part) + part)
    return found.hexdigest()[:32]


@cache
def _build(*target):
    """The name of the folder of kernels for a target."""
    settings = [
        (name, value)
        for name, value in sorted(vars(numba.config).items())
        if name.isupper() and isinstance(value, bool | int | float | str | None)
        and "THREAD" not in name and "CACHE" not in name
    ]  # fmt: skip
    versions = (sys.version, numba.__version__, np.__version__, os.environ.get("FASTENT_SIMD"))
    return digest(*SOURCES, COLUMNS, settings, versions, target)


def place_of(name, *target):
    return folder() / _build(*target) / name


def read(place):
    """What was written there, or None."""
    try:
        with open(place, "rb") as file:
            if hasattr(os, "geteuid") and os.fstat(file.fileno()).st_uid not in (0, os.geteuid()):
                return None
            data = file.read()
    except (OSError, RuntimeError):  # no such file, or no home
        return None
    seal, data = data[:SEAL], data[SEAL:]
    return data if hashlib.sha256(data).digest() == seal else None


def write(place, data):
    """Put it there, if that is possible."""
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=place.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
            os.replace(made, place)
        except BaseException:
            with suppress(OSError):
                os.unlink(made)
            raise
    except (OSError, RuntimeError):
        pass
