"""The implementations: `cython` (compiled ahead of time), `numba` and `numpy`."""
