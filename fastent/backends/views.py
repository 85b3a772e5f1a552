"""What NumPy can see of an argument, without a copy where it lies in one piece."""

import sys

import numpy as np

from fastent.backends.table_columns import ListRows, opened, types_of


def as_numpy(given, name):
    """A view of `given`, and whether it is bfloat16 under the name of a 16-bit integer.

    Torch's own conversion has no bfloat16 and columns of lists are no arrays to NumPy, so these are
    opened here; everything else comes by `__array__`, DLPack or the buffer protocol.
    """
    if type(given) is int or type(given) is float:
        return np.asarray(given), False
    given = once(given, name)
    if isinstance(given, ListRows):
        return given.as_array(name), False
    try:
        if isinstance(given, types_of("torch", "Tensor")):
            given, half = given.detach(), given.dtype == sys.modules["torch"].bfloat16
            if half:
                given = given.view(sys.modules["torch"].int16)
            return given.numpy(), half
        if isinstance(given, types_of("numpy.ma", "MaskedArray")) and np.any(given.mask):
            raise TypeError("some numbers are masked")
        if hasattr(given, "__dlpack__") and not hasattr(given, "__array__"):
            return np.from_dlpack(given), False
        return np.asarray(given), False
    except ERRORS as error:
        raise _no_array(given, name, error) from None


def once(given, name):
    """A column of a dataframe as an array, or as `ListRows` if it holds lists; other things as they
    are. What can be read once only may be given again after this."""
    if isinstance(given, ListRows):
        return given
    try:
        return opened(given, name)
    except (*ERRORS, NotImplementedError) as error:
        if str(error).startswith(f"{name}: ") or isinstance(error, ImportError):
            raise
        raise _no_array(given, name, error) from None


ERRORS = (TypeError, ValueError, BufferError, RuntimeError)


def _no_array(given, name, error):
    why = " ".join(str(error).split())
    return TypeError(f"{name}: expected an array, got {type(given).__name__} ({why})")
