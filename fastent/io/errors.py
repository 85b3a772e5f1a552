"""The one exception of the readers: input that cannot be used, told in one line."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any


class InputError(ValueError):
    """Unusable input; the message is one line that names the file and, for values, the row."""


class UnclearHeaderError(InputError):
    """A text file whose first line may be a header or a row; the rows of other files may tell."""


class NoThreadError(InputError):
    """The system starts no thread: the fault of no file."""


def first_line(error: BaseException) -> str:
    """What a library says, without the rest of what it says, or the system without a number."""
    lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Say of what file an error is, whatever a library raises over what the file holds."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{name}: {first_line(error)}") from None
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{name}: damaged or not what its name says ({why})") from None


@contextlib.contextmanager
def telling(what: str, *errors: type[BaseException]) -> Iterator[None]:
    """Say in one line what errors of a library mean."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        raise InputError(f"{what}: {first_line(error)}") from None


def require(package: str, what: str, where: str = " (extra 'cli')") -> Any:
    """The package that something needs."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(f"{what} needs the package {package}{where}") from None


def require_pyarrow(path: str) -> Any:
    return require("pyarrow", f"{path}: {path[path.rfind('.') :]}")
