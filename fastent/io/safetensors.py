"""safetensors files, bfloat16 included."""

from __future__ import annotations

import json
import math
import struct

import numpy as np

from fastent.io.errors import InputError, require, telling
from fastent.io.npy import bfloat16
from fastent.io.parts import choose_array
from fastent.io.raw import RawRows, axis_of
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Source, check_length

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip


def open_safetensors(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    """One tensor; the library checks the header against the file, the rows are read by us.

    The library maps the file into memory, and a mapped file that shrinks kills the process.
    """
    path = reference.path
    library = require("safetensors", f"{path}: .safetensors")
    unreadable = telling(f"{path}: not a readable .safetensors file", library.SafetensorError)
    with unreadable, library.safe_open(path, framework="numpy") as tensors:
        axes = {key: len(tensors.get_slice(key).get_shape()) for key in tensors.keys()}
    key = choose_array(path, axes, reference.part, role, how)
    with open(path, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        entry = json.loads(stream.read(length))[key]
    name = f"{path}:{key}"
    if entry["dtype"] == "BF16":
        dtype = bfloat16(name)
    elif entry["dtype"] in DTYPES:
        dtype = np.dtype(DTYPES[entry["dtype"]])
    else:
        raise InputError(f"{name}: dtype {entry['dtype']}, expected a float or an integer type")
    shape = tuple(entry["shape"])
    start, stop = entry["data_offsets"]
    check_length(name, stop - start, math.prod(shape) * dtype.itemsize)
    axis = axis_of(name, shape, role, how)
    return RawRows(path, name, 8 + length + start, shape, dtype, axis=axis)
