"""Backend, threads and SIMD level: what is asked for, and what a bug report needs.

Environment variables are read once, at import: FASTENT_BACKEND, FASTENT_SIMD, FASTENT_NUM_THREADS
and OMP_NUM_THREADS. Nothing falls back silently: what is forced and missing raises.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

import fastent.backends.cython.levels as levels
from fastent import _processors
from fastent._errors import as_text, shown
from fastent._fork import bring, go_first
from fastent._version import version

if TYPE_CHECKING:
    from fastent._keywords import Backend

BACKENDS = ("cython", "numba", "numpy")


def _available(backend: str) -> bool:
    return backend != "numba" or importlib.util.find_spec("numba") is not None


def _checked_backend(backend: Any, origin: str) -> str:
    found = as_text(backend)
    if type(found) is not str or found not in BACKENDS:
        raise ValueError(f"{origin}: expected one of {', '.join(BACKENDS)}, got {shown(backend)}")
    backend = found
    if not _available(backend):
        raise ImportError(f"{origin}: the {backend} backend needs the package {backend}")
    return backend


def _checked_threads(threads: Any, origin: str) -> int:
    try:
        count = None if isinstance(threads, bool) else threads.__index__()
    except (AttributeError, TypeError):
        count = None
    if count is None or count < 1:
        error = TypeError if count is None else ValueError
        raise error(f"{origin}: expected a whole number of at least 1, got {shown(threads)}")
    return min(count, 1024)


def _omp_threads() -> int | None:
    """OMP_NUM_THREADS may be a list for nested levels; the first counts. It is not ours: what is no
    number is as good as not set, and shown by `show_config`."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if not (first.isascii() and first.isdigit() and first.strip("0")):
        return None
    return int(first) if len(first) < 4 else 1024


def _environment_threads() -> int | None:
    own = os.environ.get("FASTENT_NUM_THREADS")
    if not own:
        return _omp_threads()
    with suppress(ValueError):
        return _checked_threads(int(own), "FASTENT_NUM_THREADS")
    raise ValueError(f"FASTENT_NUM_THREADS: expected a whole number of at least 1, got {own!r}")


_backend = _checked_backend(os.environ.get("FASTENT_BACKEND") or "cython", "FASTENT_BACKEND")
_threads = _environment_threads()
_simd = os.environ.get("FASTENT_SIMD") or levels.LEVELS[0]
if _simd not in levels.LEVELS:
    raise ValueError(
        f"FASTENT_SIMD: expected one of {', '.join(levels.LEVELS)} on this machine, got {_simd!r}"
    )
levels.use(_simd)


def set_backend(backend: Backend | None) -> None:
    """Choose the backend of calls that name none.

    Parameters
    ----------
    backend : {"cython", "numba", "numpy"} or None
        None restores the default.

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If it is not installed.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.set_backend("numpy")
    >>> round(float(fe.entropy([0.5, 0.5], base=2)), 12)
    1.0
    >>> fe.set_backend(None)
    """
    global _backend
    _backend = _checked_backend("cython" if backend is None else backend, "backend")


def set_num_threads(num_threads: int | None) -> None:
    """Choose the number of threads of calls that name none.

    Parameters
    ----------
    num_threads : int or None
        None restores the default.

    Raises
    ------
    TypeError, ValueError
        If it is not a whole number of at least 1.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.set_num_threads(2)
    >>> fe.get_num_threads()
    2
    >>> fe.set_num_threads(None)
    """
    global _threads
    if num_threads is None:
        _threads = _environment_threads()
    else:
        _threads = _checked_threads(num_threads, "num_threads")


def get_num_threads() -> int:
    """The number of threads of calls that name none.

    What was set, else FASTENT_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs that this process
    may use: its affinity, and no more than the quota of its control group, rounded up.

    Returns
    -------
    int

    Examples
    --------
    >>> import fastent as fe
    >>> fe.get_num_threads() >= 1
    True
    """
    if _threads is not None:
        return _threads
    return _processors.usable()


def chosen_backend(backend: str | None) -> str:
    """The backend of a call."""
    return _backend if backend is None else _checked_backend(backend, "backend")


def chosen_threads(num_threads: int | None) -> int:
    """The number of threads of a call."""
    if num_threads is None:
        return get_num_threads()
    return _checked_threads(num_threads, "num_threads")


def backend_module(backend: str) -> ModuleType:
    """The package that holds a backend's `row_values`; imports Numba only when it is asked for."""
    if backend == "numba":
        go_first()
    return bring(f"fastent.backends.{backend}")


def simd_levels() -> tuple[str, ...]:
    """The SIMD levels that this machine can run, the best one first."""
    return levels.LEVELS


@contextmanager
def use_simd(level: str) -> Iterator[None]:
    """Run the compiled kernels at another SIMD level; for tests and benchmarks.

    The level is one for the whole process: other threads see it too.
    """
    before = levels.active
    levels.use(level)
    try:
        yield
    finally:
        levels.use(before)


def _installed(name: str) -> str | None:
    try:
        from importlib.metadata import version as version_of

        return version_of(name)
    except ImportError:
        return None


def _ignored() -> list[str]:
    """A line for each variable that is set and says nothing."""
    given = os.environ.get("OMP_NUM_THREADS")
    if given and os.environ.get("FASTENT_NUM_THREADS") is None and _omp_threads() is None:
        return [f"OMP_NUM_THREADS: expected a whole number of at least 1, got {given!r}"]
    return []


def show_config() -> dict[str, Any]:
    """Version, backend, SIMD level, threads and libraries, as a dictionary.

    Returns
    -------
    dict

    Examples
    --------
    >>> import fastent as fe
    >>> fe.show_config()["backends"]
    ['cython', 'numba', 'numpy']
    """
    import platform  # here, as it takes 2 ms

    libraries = ("numpy", "numba", "ml_dtypes", "pyarrow", "safetensors", "dask", "torch", "jax")
    return {
        "version": version,
        "backend": _backend,
        "backends": [b for b in BACKENDS if _available(b)],
        "simd": levels.active,
        "simd_levels": list(levels.LEVELS),
        "num_threads": get_num_threads(),
        "ignored": _ignored(),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "libraries": {name: found for name in libraries if (found := _installed(name))},
    }
