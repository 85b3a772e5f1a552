"""Refuses subinterpreters at import, before a compiled module is loaded.

The threads, kernels and buffers of the compiled modules are the process's. Cython ties a module to
the interpreter that loads it first, so one refused by a compiled module would be lost to the main
interpreter as well.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def _interpreters() -> ModuleType | None:
    for name in ("_interpreters", "_xxsubinterpreters"):  # from Python 3.13 on, before
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    return None  # built without: there is only the main one


_found = _interpreters()
if _found is not None and _found.get_current() != _found.get_main():
    raise ImportError("fastent: only the main interpreter of a process can import it")
