"""Operands cut alike: every block has whole rows, and knows where in the whole they are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArrayBlockIdDep, ArraySliceDep

from fastent._errors import place_of_axis, row_of, with_row
from fastent._shapes import (
    Shape,
    common_lead,
    full_shape,
    lead_of_elements,
    lead_of_labels,
    weighs_terms,
)
from fastent.backends.views import as_numpy

SPLIT = 8  # states that one task merges


def as_dask_array(data: Any, name: str) -> da.Array:
    """A Dask array of what was given; of a dataframe, with a block for each partition."""
    if isinstance(data, da.Array):
        return data
    if hasattr(data, "to_dask_array"):
        # Strings of pandas become Python's, which Dask would warn about.
        numbers = data.ndim > 1 or isinstance(data.dtype, np.dtype)
        return (data if numbers else data.astype(object)).to_dask_array()
    array, disguised = as_numpy(data, name)
    if disguised:  # a bfloat16 tensor, as what NumPy can say
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return da.from_array(array, chunks=array.shape)


def is_column(data: Any) -> bool:
    """Whether it is a column whose elements are lists."""
    return as_dask_array(data, "pred").dtype == object


@dataclass
class Blocks:
    """Arrays in step, by name; ``letters`` are Dask's names of axes, ``lead`` those of rows."""

    arrays: dict[str, da.Array]
    letters: dict[str, tuple[int, ...]]
    lead: tuple[int, ...]
    every: tuple[int, ...]
    chunks: tuple[tuple[int, ...], ...]

    def map(self, work: Callable[..., Any], states: bool, **options: Any) -> da.Array:
        """``work(arrays by name, **options)`` on each block of rows: row values, or states."""
        parts: list[Any] = []
        for name, array in self.arrays.items():
            parts += [array, self.letters[name]]
        where: list[Any] = [None, None]
        if self.lead:
            known = not any(math.isnan(size) for sizes in self.chunks for size in sizes)
            where = [(ArraySliceDep if known else ArrayBlockIdDep)(self.chunks), self.lead]
        # States keep a class axis that means nothing: without one less axis Dask fuses the leaf
        # with what makes its block, and for row values it would copy the block.
        axes = self.every if states else self.lead
        return da.blockwise(
            _on_block, axes, *where, *parts, work=work, names=tuple(self.arrays),
            options=options, align_arrays=False, dtype=np.float64,
            meta=np.empty((0,) * len(axes)),
            concatenate=True if states else None,
        )  # fmt: skip


def align(
    operands: dict[str, Any],
    axis: int | None,
    task: str,
    sides: dict[str, Any],
    lists: dict[str, Any] | None = None,
) -> Blocks:
    """Cut everything as the last operand is cut, with the class axis in one piece.

    ``axis`` is None where every element is a row; labels of a sparse task have no classes.
    ``lists`` are as sides are, but for a last axis of their own, in one piece too.
    """
    own = {name: as_dask_array(data, name) for name, data in (lists or {}).items()}
    sparse, terms = task == "sparse", task in ("sparse", "categorical")
    arrays = {name: as_dask_array(data, name) for name, data in operands.items()}
    if len(arrays) == 2:
        arrays = _broadcast(arrays, axis, sparse)
    # Where an operand is in memory, the cut is that of the one that is not.
    main = next((n for n in reversed(operands) if n in _lazy(operands)), list(operands)[-1])
    if sparse and main != "pred":
        labels = arrays[main]
        where = place_of_axis(axis, arrays["pred"].ndim, "pred")
        sizes = list(labels.chunks)
        sizes.insert(where, arrays["pred"].chunks[where])
        arrays["pred"] = arrays["pred"].rechunk(tuple(sizes))
        main = "pred"
    pred = arrays[main] = _as_lists_are(arrays[main], main, own, axis, bool(_lazy(operands)))
    lead = letters = tuple(range(pred.ndim))
    if axis is not None:
        where = place_of_axis(axis, pred.ndim, main)
        lead = letters[:where] + letters[where + 1 :]
        if pred.numblocks[where] > 1:
            warnings.warn(
                f"{main}: the class axis is in {pred.numblocks[where]} chunks and is rechunked "
                "to one",
                stacklevel=3,
            )
            pred = arrays[main] = pred.rechunk({where: -1})
    shape = {letter: pred.shape[letter] for letter in letters}
    cut = {letter: pred.chunks[letter] for letter in letters}
    found = {name: letters for name in arrays}
    if sparse:
        found[next(iter(arrays))] = lead
    for name, data in sides.items():
        if data is not None:
            arrays[name] = as_dask_array(data, name)
            have = arrays[name].shape
            full = pred.shape if terms and name == "sample_weight" else None
            by_term = weighs_terms(have, tuple(shape[letter] for letter in lead), full, name)
            # What weighs or names rows broadcasts: its axes are the last ones.
            found[name] = letters if by_term else lead[len(lead) - len(have) :]
    for letter, (name, array) in enumerate(own.items(), len(letters)):
        arrays[name] = array
        last = () if array.dtype == object else (letter,)  # or a column of lists
        rows = array.ndim - len(last)
        found[name] = lead[max(0, len(lead) - rows) :] + last
        if last:
            shape[letter], cut[letter] = array.shape[-1], (array.shape[-1],)
    for name, array in arrays.items():
        expected = tuple(shape[letter] for letter in found[name])
        wanted = tuple(cut[letter] for letter in found[name])
        arrays[name] = _cut(name, array, expected, wanted, name in sides or name in own)
    return Blocks(arrays, found, lead, letters, tuple(cut[letter] for letter in lead))


def _as_lists_are(
    pred: da.Array, name: str, lists: dict[str, da.Array], axis: int | None, lazy: bool
) -> da.Array:
    """With the leading shape of the lists, if that is longer, and cut as they are where `pred`
    itself is in memory."""
    if not lists or axis is None or axis not in (-1, pred.ndim - 1):
        return pred
    one = next(iter(lists.values()))
    there = one.shape if one.dtype == object else one.shape[:-1]
    if any(map(math.isnan, there + pred.shape)):
        return pred
    lead = common_lead(there, pred.shape[:-1])
    if lead is None:
        return pred
    whole = pred.shape[:-1] == lead
    cut = one.chunks[: len(lead)] if there == lead and not (whole and lazy) else pred.chunks[:-1]
    if not whole and len(cut) == len(lead):
        return da.broadcast_to(pred, (*lead, pred.shape[-1]), chunks=(*cut, pred.chunks[-1]))
    return pred.rechunk((*cut, pred.chunks[-1])) if whole and not lazy else pred


def _broadcast(arrays: dict[str, da.Array], axis: int | None, sparse: bool) -> dict[str, da.Array]:
    """Two operands with one leading shape, each axis cut as the one that is long there; as they are
    where they do not fit, which is told later."""
    (true_name, true), (pred_name, pred) = arrays.items()
    has_classes = {true_name: axis is not None and not sparse, pred_name: axis is not None}
    moved = {
        name: da.moveaxis(x, place_of_axis(axis, x.ndim, name), -1) if has_classes[name] else x
        for name, x in arrays.items()
    }
    leads: dict[str, Shape] = {
        name: x.shape[: x.ndim - has_classes[name]] for name, x in moved.items()
    }
    if axis is None:
        lead = lead_of_elements(true.shape, pred.shape)
    elif sparse:
        lead = lead_of_labels(true.shape, leads[pred_name], pred.shape)
    else:
        lead = common_lead(*leads.values())
    sizes = {moved[name].shape[-1] for name in arrays if has_classes[name]}
    if lead is None or len(sizes) > 1:
        return arrays
    whole = {name: (1,) * (len(lead) - len(one)) + one for name, one in leads.items()}
    short = {
        name
        for name, one in whole.items()
        if leads[name] != one
        or any(have == 1 != want for have, want in zip(one, lead, strict=True))
    }
    if not short:
        return arrays
    cuts: list[Any] = [(1,)] * len(lead)
    for name, one in leads.items():
        for k, size in enumerate(one, len(lead) - len(one)):
            if size != 1:
                cuts[k] = moved[name].chunks[k - len(lead) + len(one)]
    found = {}
    for name, x in moved.items():
        classes = x.shape[len(leads[name]) :]
        if name in short:
            cut = (*cuts, *x.chunks[len(leads[name]) :])
            x = da.broadcast_to(x, (*lead, *classes), chunks=cut)
        if has_classes[name] and axis is not None:
            place = full_shape(tuple(range(1, len(lead) + 1)), 0, axis, 0).index(0)
            x = da.moveaxis(x, -1, place)
        found[name] = x
    return found


def _lazy(operands: dict[str, Any]) -> list[str]:
    return [n for n, x in operands.items() if isinstance(x, da.Array) or hasattr(x, "dask")]


def _cut(
    name: str, array: da.Array, shape: tuple[Any, ...], cut: tuple[Any, ...], broadcasts: bool
) -> da.Array:
    """The array in the given chunks; an axis of length 1 stays where it broadcasts."""
    wrong = array.ndim != len(shape) or any(
        have != want and not (broadcasts and have == 1)
        for have, want in zip(array.shape, shape, strict=True)
        if not (math.isnan(have) or math.isnan(want))
    )
    if wrong:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    wanted = {}
    for axis, (have, want) in enumerate(zip(array.chunks, cut, strict=True)):
        if any(map(math.isnan, (*have, *want))):
            # Of partitions only the number is known here; their rows are compared by the task.
            if len(have) != len(want):
                raise ValueError(f"{name}: expected {len(want)} partitions, got {len(have)}")
        elif have != want and array.shape[axis] == shape[axis]:
            wanted[axis] = want
    return array.rechunk(wanted) if wanted else array


def tree(
    leaves: da.Array, merge: Callable[[list[Any]], Any], finish: Callable[[Any], Any]
) -> Delayed:
    """What is left of all blocks after merging them, a few at a time."""
    optimized: tuple[Any, ...] = dask.optimize(leaves)
    best: Any = optimized[0]  # what makes a block is one task with its leaf
    name = f"fastent-{tokenize(best.name, merge, finish)}"
    keys = list(flatten(best.__dask_keys__()))
    tasks: dict[Any, Any] = {}
    level = 0
    while len(keys) > 1:
        level += 1
        parts = [keys[i : i + SPLIT] for i in range(0, len(keys), SPLIT)]
        keys = [(f"{name}-merge", level, i) for i in range(len(parts))]
        tasks |= {key: (merge, part) for key, part in zip(keys, parts, strict=True)}
    tasks[name] = (finish, keys[0])
    return Delayed(name, HighLevelGraph.from_collections(name, tasks, dependencies=[best]))


def _on_block(
    where: Any, *blocks: Any, work: Callable[..., Any], names: tuple[str, ...],
    options: dict[str, Any],
) -> Any:  # fmt: skip
    arrays = dict(zip(names, map(_whole, blocks), strict=True))
    try:
        return work(arrays, **options)
    except (ValueError, TypeError) as error:
        raise _located(error, where) from None


def _whole(block: Any) -> Any:
    """The one chunk along the class axis, which Dask hands over in a list."""
    while isinstance(block, list):
        (block,) = block
    return block


def _located(error: ValueError | TypeError, where: Any) -> ValueError | TypeError:
    """The error with the row counted through the whole array, or with the partition."""
    if not where:
        return error
    if len(where) == 1 and isinstance(where[0], slice):
        row = row_of(error)
        return error if row < 0 else with_row(error, row + where[0].start)
    starts = [w.start if isinstance(w, slice) else w for w in where]
    what = "block that begins at" if isinstance(where[0], slice) else "partition"
    return type(error)(f"{error} (in the {what} {', '.join(map(str, starts))})")
