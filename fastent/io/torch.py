"""Files of torch.save, by its loader that runs no code."""

from __future__ import annotations

import contextlib
import pickle
from typing import Any

import numpy as np

from fastent.io.errors import InputError, require, telling
from fastent.io.npy import bfloat16
from fastent.io.parts import choose_array
from fastent.io.raw import RawRows, axis_of
from fastent.io.reading import PLAIN, Reading
from fastent.io.references import Reference
from fastent.io.source import Buffer, Source


class TensorRows(Source):
    """Rows of a tensor that is in memory: one whose numbers do not lie bare in its file."""

    def __init__(self, path: str, name: str, array: np.ndarray, axis: int = -1) -> None:
        classes = None if array.ndim == 1 else array.shape[axis]
        self._given = self._rows = array
        if classes is not None:
            self._rows = np.moveaxis(array, axis, -1).reshape(-1, classes)
        super().__init__(path, name, len(self._rows), classes, array.dtype)

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        return self._rows[start:stop]

    def flattened(self) -> Source:
        return TensorRows(self.path, self.name, self._given.reshape(-1))


def open_torch(reference: Reference, role: str, how: Reading = PLAIN) -> Source:
    """A tensor, or one of a dictionary of tensors, read where its numbers lie in the file."""
    path = reference.path
    torch = require("torch", f"{path}:", ", which is not installed")
    from torch._subclasses.fake_tensor import FakeTensorMode

    tensors = _loaded(path, FakeTensorMode())
    axes = {name: tensor.dim() for name, tensor in tensors.items()}
    key = choose_array(path, axes, reference.part, role, how)
    name = path if key == "" else f"{path}:{key}"
    tensor = tensors[key]
    if tensor.dtype == torch.bfloat16:
        dtype = bfloat16(name)
    else:
        try:
            dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
        except TypeError:
            raise InputError(f"{name}: dtype {tensor.dtype}, expected numbers") from None
    begin = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    turned = tensor.permute(*range(tensor.dim())[::-1])
    by_column = turned.is_contiguous() and not tensor.is_contiguous()
    shape = tuple(tensor.shape)
    axis = axis_of(name, shape, role, how)
    if begin is None or not (tensor.is_contiguous() or by_column) or tensor.is_conj():
        whole = _loaded(path, contextlib.nullcontext())[key].resolve_conj().contiguous()
        bits = whole.view(torch.int16) if tensor.dtype == torch.bfloat16 else whole
        return TensorRows(path, name, bits.numpy().view(dtype), axis)
    offset = begin + tensor.storage_offset() * dtype.itemsize
    return RawRows(path, name, offset, shape, dtype, by_column, axis)


def _loaded(path: str, mode: Any) -> dict[str, Any]:
    """The tensors of a file by name, without their numbers under a mode that has none."""
    import torch

    wrong = (RuntimeError, EOFError, ValueError, KeyError)
    try:
        with telling(f"{path}: not a readable file of torch.save", *wrong), mode:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: holds more than tensors, which would run code when loaded: "
            "save a tensor or a dictionary of tensors"
        ) from None
    if isinstance(found, torch.Tensor):
        return {"": found}
    named = {}
    if isinstance(found, dict):
        named = {str(k): v for k, v in found.items() if isinstance(v, torch.Tensor)}
    if not named:
        raise InputError(f"{path}: holds {type(found).__name__}, expected a tensor or some by name")
    return named
