"""NumPy files: .npy, and the arrays of an .npz, stored or compressed."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from fastent.io.errors import InputError, first_line
from fastent.io.npz_columns import CompressedColumns
from fastent.io.parts import choose_array
from fastent.io.raw import RawRows
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Buffer, Source, as_bytes, check_length

MOST_HEADER = 1 << 16  # bytes; NumPy itself reads 10,000
LOCAL_HEADER = struct.Struct("<4s22sHH")  # of a zip member: signature, fields, two name lengths


def bfloat16(name: str) -> np.dtype:
    """The dtype of bfloat16 numbers, which NumPy itself does not have."""
    try:
        import ml_dtypes
    except ImportError:
        raise InputError(f"{name}: bfloat16 needs the package ml_dtypes (extra 'cli')") from None
    return np.dtype(ml_dtypes.bfloat16)


def read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, Fortran order, dtype and data offset from the head of a .npy stream."""
    try:
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
    except InputError:
        raise
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise InputError(f"{name}: not a .npy array: {first_line(error)}") from None
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


def axis_of(shape: tuple[int, ...], role: str, how: Reading) -> int:
    """The class axis of an array of predictions or targets; other arrays have none."""
    if role not in ("predictions", "targets") or len(shape) < 2:
        return -1
    if not -len(shape) <= how.axis < len(shape):
        raise InputError(f"--axis {how.axis}: expected one of the {len(shape)} axes of the array")
    return how.axis


def open_npy(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    if reference.part is not None:
        raise InputError(f"{reference.name}: a .npy file has one array, expected no ':part'")
    with open(reference.path, "rb") as stream:
        shape, by_column, dtype, offset = read_header(stream, reference.path)
    axis = axis_of(shape, role, how)
    return RawRows(reference.path, reference.path, offset, shape, dtype, by_column, axis=axis)


def open_npz(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    path = reference.path
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            shapes: dict[str, Any] = {}
            unfit: dict[str, InputError] = {}  # and no concern of who asks for another array
            for key, info in members.items():
                try:
                    with archive.open(info) as stream:
                        shapes[key] = read_header(stream, f"{path}:{key}")
                except InputError as error:
                    unfit[key] = error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"{path}: not a readable .npz file: {first_line(error)}") from None
    if reference.part in unfit or (unfit and not shapes):
        raise unfit[reference.part or next(iter(unfit))]
    key = choose_array(path, {k: len(v[0]) for k, v in shapes.items()}, reference.part, role, how)
    shape, by_column, dtype, offset = shapes[key]
    info = members[key]
    name = f"{path}:{key}"
    check_length(name, info.file_size, offset + math.prod(shape) * dtype.itemsize)
    axis = axis_of(shape, role, how)
    if info.compress_type == zipfile.ZIP_STORED:
        if info.compress_size != info.file_size:  # what is beyond belongs to another member
            raise InputError(f"{name}: corrupted: {info.compress_size} bytes of {info.file_size}")
        begin = _data_offset(path, info) + offset
        return RawRows(path, name, begin, shape, dtype, by_column, axis=axis)
    if len(shape) > 1 and (by_column or axis % len(shape) != len(shape) - 1):
        parts = (info.filename, offset, shape, dtype, by_column)
        return CompressedColumns(path, name, *parts, axis=axis)
    return CompressedRows(path, name, info.filename, offset, shape, dtype)


def _data_offset(path: str, info: zipfile.ZipInfo) -> int:
    """Where a stored member begins: its local header repeats the name, with its own extra."""
    with open(path, "rb") as stream:
        stream.seek(info.header_offset)
        _, _, name_length, extra_length = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
    return int(info.header_offset + LOCAL_HEADER.size + name_length + extra_length)


class CompressedRows(Source):
    """Rows of a compressed .npz member, inflated as they are read."""

    sequential = True

    def __init__(
        self,
        path: str,
        name: str,
        member: str,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
    ) -> None:
        classes = shape[-1] if len(shape) > 1 else None
        rows = math.prod(shape[:-1]) if len(shape) > 1 else shape[0]
        super().__init__(path, name, rows, classes, dtype.newbyteorder("="))
        self._shape = shape
        self._stored = dtype
        self._member = member
        self._offset = offset
        self._archive: zipfile.ZipFile | None = None
        self._stream: IO[bytes] | None = None
        self._at = 0

    def flattened(self) -> Source:
        count = self.rows * (1 if self.classes is None else self.classes)
        return CompressedRows(
            self.path, self.name, self._member, self._offset, (count,), self._stored
        )

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        rows = buffer.array(self.shape(stop - start), self._stored)
        view = as_bytes(rows)
        try:
            stream = self._seek(start)
            done = 0
            while done < len(view):
                got = stream.readinto(view[done:])  # type: ignore[attr-defined]
                if not got:
                    raise EOFError("the member ends early")
                done += got
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise InputError(
                f"{self.name}: corrupted or truncated in rows {start} to {stop - 1}: "
                f"{first_line(error)}"
            ) from None
        self._at = stop
        if self._stored != self.dtype:
            rows = rows.byteswap(inplace=True).view(self.dtype)
        return rows

    def _seek(self, row: int) -> IO[bytes]:
        if self._stream is None or row < self._at:
            self.close()
            self._archive = zipfile.ZipFile(self.path)
            self._stream = self._archive.open(self._member)
            self._skip(self._stream, self._offset)
        self._skip(self._stream, (row - self._at) * self.row_bytes)
        self._at = row
        return self._stream

    @staticmethod
    def _skip(stream: IO[bytes], count: int) -> None:
        while count > 0:
            piece = stream.read(min(count, 1 << 20))
            if not piece:
                raise EOFError("the member ends early")
            count -= len(piece)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._archive is not None:
            self._archive.close()
        self._stream = self._archive = None
        self._at = 0
