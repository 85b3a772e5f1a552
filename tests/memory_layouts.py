"""One array in many places and shapes of memory; a value must not notice."""

import numpy as np


def layouts(a, folder):
    """The same array in many places: `{name: equal array}`, none of them plain except the first."""
    found = {
        "plain": np.ascontiguousarray(a),
        "fortran": np.asfortranarray(a),
        "offset by one item": _offset(a, a.itemsize),
        "misaligned": _offset(a, 1),
        "strided classes": _strided(a, -1),
        "strided rows": _strided(a, 0),
        "reversed": np.ascontiguousarray(a[tuple([slice(None, None, -1)] * a.ndim)])[
            tuple([slice(None, None, -1)] * a.ndim)
        ],
        "transposed": np.ascontiguousarray(a.T).T,
        "padded rows": _padded(a),
    }
    found["masked nowhere"] = np.ma.array(a)
    locked = a.copy()
    locked.setflags(write=False)
    found["read-only"] = locked
    if a.dtype.kind == "f":  # bfloat16 has no .npy type
        path = folder / f"{len(list(folder.iterdir()))}.bin"
        a.tofile(path)
        found["memory-mapped"] = np.memmap(path, dtype=a.dtype, mode="r", shape=a.shape)
        found["other byte order"] = a.astype(a.dtype.newbyteorder())
    return found


def _offset(a, start):
    raw = np.zeros(a.nbytes + 64, np.uint8)
    lead = -raw.ctypes.data % 64 + start
    view = np.ndarray(a.shape, a.dtype, raw.data, lead)
    view[...] = a
    return view


def _strided(a, axis):
    shape = list(a.shape)
    shape[axis] *= 3
    wide = np.full(shape, 77, a.dtype)
    cut = [slice(None)] * a.ndim
    cut[axis] = slice(1, None, 3)
    wide[tuple(cut)] = a
    return wide[tuple(cut)]


def _padded(a):
    wide = np.full((*a.shape[:-1], a.shape[-1] + 5), 77, a.dtype)
    wide[..., 2:-3] = a
    return wide[..., 2:-3]
