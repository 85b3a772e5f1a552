"""The default floating point mode for what Python computes: NumPy, Numba and floats."""

from functools import wraps

import numpy as np

from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode


def in_float_mode(function):
    """The function, computed to nearest, with subnormals and without traps, whatever the host set."""
    @wraps(function)
    def call(*args, **keywords):
        cdef FloatMode was = enter_default_mode()
        try:
            return function(*args, **keywords)
        finally:
            restore_mode(was)
    return call


def quieted(function):
    """The function without NumPy's warnings: inf and nan are values here."""
    return np.errstate(all="ignore")(function)


def in_default_mode(function):
    """Both. (Quieting takes 0.3 µs, which compiled code can do without.)"""
    return in_float_mode(quieted(function))


def use_default_mode():
    """For good: in a thread of our own, which began with the mode of the thread that started it."""
    enter_default_mode()
