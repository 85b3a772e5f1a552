"""NumPy files: .npy, and the arrays of an .npz, stored or compressed."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from contextlib import closing
from typing import IO, Any

import numpy as np

from fastent.io.errors import InputError, require, telling
from fastent.io.parts import choose_array
from fastent.io.raw import RawRows, axis_of
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Buffer, Source, as_bytes, check_length
from fastent.io.temporary import Temporary

STEP = 1 << 20
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError)  # what archives raise
MOST_HEADER = 1 << 16  # bytes; NumPy itself reads 10,000
LOCAL_HEADER = struct.Struct("<4s22sHH")  # of a zip member: signature, fields, two name lengths


def bfloat16(name: str) -> np.dtype:
    """The dtype of bfloat16 numbers, which NumPy itself does not have."""
    return np.dtype(require("ml_dtypes", f"{name}: bfloat16").bfloat16)


def read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, Fortran order, dtype and data offset from the head of a .npy stream."""
    with telling(f"{name}: not a .npy array", ValueError, EOFError, SyntaxError, TypeError):
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise InputError(f"{name}: .npy version {version[0]}.{version[1]}, expected 1.0 or 2.0")
        length = stream.read(2 if version == (1, 0) else 4)
        size = int.from_bytes(length, "little")
        if size > MOST_HEADER:  # before it is read
            raise InputError(f"{name}: not a .npy array: a header of {size} bytes")
        head = io.BytesIO(length + stream.read(size))
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(head)
        else:
            header = np.lib.format.read_array_header_2_0(head)
    shape, by_column, dtype = header
    if dtype.hasobject:
        raise InputError(f"{name}: holds Python objects, expected numbers or strings")
    if dtype == np.dtype("V2"):
        dtype = bfloat16(name)  # how np.save stores it: two bytes without a meaning
    elif dtype.names is not None or dtype.kind == "V":
        raise InputError(f"{name}: dtype {dtype}, expected numbers or strings")
    if not shape:
        raise InputError(f"{name}: a single number, expected rows")
    if min(shape) < 0:
        raise InputError(f"{name}: not a .npy array: its shape is {shape}")
    return shape, by_column, dtype, stream.tell()


def open_npy(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    if reference.part is not None:
        raise InputError(f"{reference.name}: a .npy file has one array, expected no ':part'")
    with open(reference.path, "rb") as stream:
        shape, by_column, dtype, offset = read_header(stream, reference.path)
    axis = axis_of(reference.path, shape, role, how)
    return RawRows(reference.path, reference.path, offset, shape, dtype, by_column, axis)


def open_npz(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    path = reference.path
    shapes: dict[str, Any] = {}
    unfit: dict[str, InputError] = {}  # and no concern of who asks for another array
    unreadable = telling(f"{path}: not a readable .npz file", *DAMAGED, RuntimeError)
    with unreadable, zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for key, info in members.items():
            try:
                with archive.open(info) as stream:
                    shapes[key] = read_header(stream, f"{path}:{key}")
            except InputError as error:
                unfit[key] = error
    if reference.part in unfit or (unfit and not shapes):
        raise unfit[reference.part or next(iter(unfit))]
    key = choose_array(path, {k: len(v[0]) for k, v in shapes.items()}, reference.part, role, how)
    shape, by_column, dtype, offset = shapes[key]
    info = members[key]
    name = f"{path}:{key}"
    check_length(name, info.file_size, offset + math.prod(shape) * dtype.itemsize)
    axis = axis_of(name, shape, role, how)
    if info.compress_type != zipfile.ZIP_STORED:
        return CompressedRows(info.filename, path, name, offset, shape, dtype, by_column, axis)
    if info.compress_size != info.file_size:  # what is beyond belongs to another member
        raise InputError(f"{name}: corrupted: {info.compress_size} bytes of {info.file_size}")
    return RawRows(path, name, _data_offset(path, info) + offset, shape, dtype, by_column, axis)


def _data_offset(path: str, info: zipfile.ZipInfo) -> int:
    """Where a stored member begins: its local header repeats the name, with its own extra."""
    with open(path, "rb") as stream:
        stream.seek(info.header_offset)
        _, _, name_length, extra_length = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
    return int(info.header_offset + LOCAL_HEADER.size + name_length + extra_length)


class CompressedRows(RawRows):
    """Rows of a compressed .npz member, inflated as they are read.

    A member can only be read forward. Where no row is whole before the last column is reached, all
    of it goes to a temporary file first.
    """

    sequential = True

    def __init__(self, member: str, *array: Any) -> None:
        super().__init__(*array)
        self._member = member
        self._stream: IO[bytes] | None = None

    def _check_size(self) -> None:
        """The size of the file says nothing."""

    def open(self) -> None:
        if self.scattered and self._fd < 0:
            with telling(f"{self.name}: corrupted or truncated", *DAMAGED):
                self._fd = self._inflated()

    def _inflated(self) -> int:
        """A file of all that the member holds."""
        with closing(Temporary()) as target, self._opened() as stream:
            while piece := stream.read(STEP):
                target.put(target.size, memoryview(piece))
            return os.dup(target.fd)

    def _opened(self) -> IO[bytes]:
        with zipfile.ZipFile(self.path) as archive:
            stream: Any = archive.open(self._member)
        stream.MAX_SEEK_READ = STEP
        return stream  # type: ignore[no-any-return]

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        if self.scattered:
            return super().read(start, stop, buffer)
        rows = buffer.array(self.shape(stop - start), self._stored)
        view = as_bytes(rows)
        where = f"{self.name}: corrupted or truncated in rows {start} to {stop - 1}"
        with telling(where, *DAMAGED):
            if self._stream is None:
                self._stream = self._opened()
            self._stream.seek(self._place(start))
            if self._stream.readinto(view) < len(view):  # type: ignore[attr-defined]
                raise EOFError("the member ends early")
        return self._native(rows)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        super().close()
