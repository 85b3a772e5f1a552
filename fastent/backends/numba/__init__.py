"""Row values compiled by Numba at first use: the same formulas as the other backends."""

import numpy.ma  # noqa: F401  (Numba asks for it when it sees its first array)

from fastent._extras import missing
from fastent._fork import hold

try:
    from numba.core.compiler_lock import global_compiler_lock as _compiler
except ModuleNotFoundError as _error:
    raise missing(_error, "numba", "the numba backend") from None

from .columns import narrow_values, row_values

hold(_compiler)

__all__ = ["narrow_values", "row_values"]
