"""What NumPy can see of an argument without a copy: arrays of other libraries, and bfloat16."""

import sys

import numpy as np


def as_numpy(given, name):
    """A view of `given`, and whether it is bfloat16 under the name of a 16-bit integer.

    Torch's own conversion has no bfloat16 and Arrow's makes an object of each list, so these two
    are opened here; everything else comes by `__array__`, DLPack or the buffer protocol.
    """
    try:
        if isinstance(given, _types_of("torch", "Tensor")):
            given, half = given.detach(), given.dtype == sys.modules["torch"].bfloat16
            if half:
                given = given.view(sys.modules["torch"].int16)
            return given.numpy(), half
        if isinstance(given, _types_of("numpy.ma", "MaskedArray")) and np.any(given.mask):
            raise TypeError("some numbers are masked")
        if isinstance(given, _types_of("pyarrow", "Array", "ChunkedArray")):
            return _rows_of_arrow(given), False
        if hasattr(given, "__dlpack__") and not hasattr(given, "__array__"):
            return np.from_dlpack(given), False
        return np.asarray(given), False
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise TypeError(f"{name}: expected an array, got {type(given).__name__} ({why})") from None


def _types_of(library, *names):
    """Its types; none while nobody has imported it, or while another thread is about to."""
    module = sys.modules.get(library)
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


def _rows_of_arrow(given):
    """Lists of one size are rows; chunks lie apart, so that only one of them is a view."""
    import pyarrow

    if isinstance(given, pyarrow.ChunkedArray):
        given = given.chunk(0) if given.num_chunks == 1 else given.combine_chunks()
    if isinstance(given, pyarrow.FixedShapeTensorArray):
        return given.to_numpy_ndarray()
    if not pyarrow.types.is_fixed_size_list(given.type):
        return np.asarray(given)
    if given.null_count:
        raise TypeError("some rows are null")
    return np.asarray(given.flatten()).reshape(len(given), given.type.list_size)
