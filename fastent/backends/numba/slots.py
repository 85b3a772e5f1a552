"""The numbers of columns: ``slots.BRIER`` is that of "brier" in the compiled backend's table."""

from fastent.backends.cython.columns import COLUMNS

_SLOTS = {c.name: c.slot for task in ("divergence", "binary", "sparse") for c in COLUMNS[task]}
globals().update({name.upper(): slot for name, slot in _SLOTS.items()})


def __getattr__(name: str) -> int:
    raise AttributeError(f"no column {name}")
