"""The table of rivals: which library computes which function, spelled as its users spell it.

Each module of this package imports one library and lists ``FORMULAS``: per (function, kind) a
callable that takes the operands, does what a user does once (wrapping arrays, compiling), and
returns the call to be timed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.operands import Operands

Formulas = Mapping[tuple[str, str], Callable[[Operands], Callable[[], Any]]]


@dataclass(frozen=True)
class Rival:
    """One column of the table."""

    name: str
    module: str  # of this package
    formulas: str  # its name there
    library: str  # distribution whose version is reported
    dtypes: tuple[str, ...] = ("float64", "float32")
    axes: tuple[int, ...] = (-1, 0)
    compiles: bool = False
    # The rest of a longer input is left out, else the line takes minutes.
    rows_at_most: int | None = None

    def _module(self) -> Any:
        return importlib.import_module(f"bench.rivals.{self.module}")

    def version(self) -> str | None:
        """The library's version, None when it is not installed."""
        try:
            return importlib.metadata.version(self.library)
        except importlib.metadata.PackageNotFoundError:
            return None

    def prepare(self, function: str, x: Operands) -> Callable[[], Any] | None:
        """The call to be timed, None where the library has nothing for it or is not installed."""
        if self.version() is None:
            return None
        if x.pred.dtype.name not in self.dtypes or x.axis not in self.axes:
            return None
        formulas: Formulas = getattr(self._module(), self.formulas)
        formula = formulas.get((function, x.kind))
        return formula(x) if formula else None

    def array(self, result: Any) -> np.ndarray:
        """A result as float64."""
        convert = getattr(self._module(), "to_numpy", np.asarray)
        return np.asarray(convert(result), dtype=np.float64)


HALF = ("float16", "bfloat16")
ALL = ("float64", "float32", *HALF)

RIVALS: tuple[Rival, ...] = (
    Rival("scipy", "by_scipy", "FORMULAS", "scipy"),
    Rival("rel_entr", "by_scipy", "REL_ENTR", "scipy"),
    Rival("kl_div", "by_scipy", "KL_DIV", "scipy"),
    Rival("scikit-learn", "by_sklearn", "FORMULAS", "scikit-learn", rows_at_most=1_000_000),
    Rival("numpy", "by_numpy", "FORMULAS", "numpy", dtypes=("float64", "float32", "float16")),
    Rival("numexpr", "by_numexpr", "FORMULAS", "numexpr"),
    Rival("torch", "by_torch", "FORMULAS", "torch", dtypes=ALL),
    Rival("torch.compile", "by_torch", "COMPILED", "torch", dtypes=ALL, compiles=True),
    Rival("jax", "by_jax", "FORMULAS", "jax", dtypes=ALL, compiles=True),
    Rival("simsimd", "by_simsimd", "FORMULAS", "simsimd", axes=(-1,)),
    Rival("numkong", "by_numkong", "FORMULAS", "numkong", axes=(-1,)),
)


def chosen(names: str | None) -> list[Rival]:
    """The rivals of a comma-separated list; all for None, none for "none"."""
    if names is None:
        return list(RIVALS)
    wanted = set(names.split(",")) - {"none"}
    unknown = wanted - {r.name for r in RIVALS}
    if unknown:
        known = ", ".join(r.name for r in RIVALS)
        raise SystemExit(f"unknown rivals: {', '.join(sorted(unknown))}; known: {known}")
    return [r for r in RIVALS if r.name in wanted]
