"""The functions and the accumulator on Dask arrays and dataframes (extra ``dask``).

The functions have the names and keywords of those in `fastent` and are lazy; `accumulate` gives the
report of a `fastent.Accumulator`, with the same bits whatever the chunks, the workers and the order
in which they finish. A task uses one thread, the one that Dask gave it.
"""

from fastent._extras import missing

try:
    import dask as _dask  # noqa: F401
except ModuleNotFoundError as _error:
    raise missing(_error, "dask", "fastent.dask") from None

from fastent.dask.accumulate import accumulate
from fastent.dask.functions import (
    binary_cross_entropy,
    categorical_cross_entropy,
    entropy,
    js_divergence,
    kl_divergence,
    sparse_cross_entropy,
)

__all__ = [
    "accumulate",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "entropy",
    "js_divergence",
    "kl_divergence",
    "sparse_cross_entropy",
]
