"""What holds an array is as long as the array's header says, in every format that has both."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest

from fastent.io import open_source
from fastent.io.errors import InputError
from fastent.io.references import Reference

NUMBERS = np.arange(120.0).reshape(40, 3)
OTHER = np.full(1000, 1e300)


def npy(array, shape, order="C"):
    """The bytes of a .npy file whose header says another shape."""
    stream = io.BytesIO()
    description = {
        "descr": "<f8", "fortran_order": order == "F", "shape": shape,
    }  # fmt: skip
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue() + array.tobytes(order)


def opened(path, part):
    source = open_source(Reference(str(path), part), "predictions")
    try:
        source.open()
        from fastent.io.source import Buffer

        return [source.read(0, source.rows, Buffer())]
    finally:
        source.close()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("rows", [41, 300, 1 << 40])
def test_npz(tmp_path, order, packed, rows):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("logits.npy", npy(NUMBERS, (rows, 3), order))
        archive.writestr("others.npy", npy(OTHER, (1000,)))
    with pytest.raises(InputError, match=r"a.npz:logits: truncated"):
        opened(path, "logits")
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("logits.npy", npy(NUMBERS, (40, 3), order))
    np.testing.assert_array_equal(opened(path, "logits")[0], NUMBERS)


def test_npz_whose_directory_lies(tmp_path):
    """A stored member is as long as it is stored, whatever the directory says of it."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", npy(NUMBERS, (300, 3)))
        archive.writestr("others.npy", npy(OTHER, (1000,)))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 128 + 300 * 24)  # the size of the contents
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a.npz:logits: corrupted"):
        opened(path, "logits")


def test_npz_with_a_long_header(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        head = b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 27)
        archive.writestr("logits.npy", head + b" " * (1 << 27))
    with pytest.raises(InputError, match="a header of 134217728 bytes"):
        opened(path, None)


@pytest.mark.parametrize("rows", [39, 41, 300])
def test_safetensors(tmp_path, rows):
    path = tmp_path / "a.safetensors"
    entry = {"dtype": "F64", "shape": [rows, 3], "data_offsets": [0, 960]}
    rest = {"dtype": "F64", "shape": [1000], "data_offsets": [960, 8960]}
    header = json.dumps({"logits": entry, "others": rest}).encode()
    data = struct.pack("<Q", len(header)) + header + NUMBERS.tobytes() + OTHER.tobytes()
    path.write_bytes(data)
    with pytest.raises(InputError):
        opened(path, "logits")


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, order):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(NUMBERS, (41, 3), order))
    with pytest.raises(InputError, match=r"a.npy: truncated"):
        opened(path, None)
