"""Row values compiled by Numba at first use: the same formulas as the other backends."""

import numpy.ma  # noqa: F401  (Numba asks for it when it sees its first array)

from fastent._extras import missing
from fastent._fork import hold

try:
    import numba  # noqa: F401
except ModuleNotFoundError as _error:
    raise missing(_error, "numba", "the numba backend") from None

from .columns import narrow_values, row_values
from .vectors import compiler_lock

hold(compiler_lock)

__all__ = ["narrow_values", "row_values"]
