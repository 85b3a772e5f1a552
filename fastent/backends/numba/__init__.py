"""Row values compiled by Numba at first use: the same formulas as the other backends."""

from fastent._extras import missing

try:
    import numba as _numba  # noqa: F401
except ModuleNotFoundError as _error:
    raise missing(_error, "numba", "the numba backend") from None

from .columns import narrow_values, row_values

__all__ = ["narrow_values", "row_values"]
