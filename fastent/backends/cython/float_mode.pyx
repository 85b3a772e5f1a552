"""The default floating point mode for what Python computes: NumPy, Numba and floats."""

from functools import wraps

import numpy as np

from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode


def in_default_mode(function):
    """The function, computed to nearest, with subnormals and without traps, whatever the host set, and
    without NumPy's warnings: inf and nan are values here."""
    quiet = np.errstate(all="ignore")(function)

    @wraps(function)
    def call(*args, **keywords):
        cdef FloatMode was = enter_default_mode()
        try:
            return quiet(*args, **keywords)
        finally:
            restore_mode(was)
    return call


def use_default_mode():
    """For good: in a thread of our own, which began with the mode of the thread that started it."""
    enter_default_mode()
