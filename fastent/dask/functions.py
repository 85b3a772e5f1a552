"""The row functions on Dask arrays: the same names, keywords and bits, and nothing computed yet."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np

import fastent
from fastent._errors import as_keepdims, as_reduction
from fastent._feed import rows_of
from fastent._keywords import explained
from fastent._shapes import full_shape
from fastent.backends.cython.accumulate.state import State
from fastent.backends.cython.engine import prepare
from fastent.backends.cython.float_mode import in_default_mode
from fastent.dask.blocks import Blocks, align, as_dask_array, tree
from fastent.results import ratio, rounded

WEIGHED = ("sparse", "categorical")  # tasks in which classes and terms have weights


DOCUMENTATION = """`fastent.{name}` on Dask arrays: the same bits, and nothing computed yet.

Parameters
----------
{operands} : dask arrays, or what one can be made of
    Cut alike, or what is in memory like what is not; the classes may be cut too.
num_threads : int, optional
    Threads of each task; 1 by default.

Returns
-------
dask.array.Array
    Row values, or a scalar with ``reduction="sum"`` or ``"mean"``.

Raises
------
ValueError, TypeError
    As `fastent.{name}`: for options now, for numbers when computed.

Examples
--------
>>> import dask.array as da
>>> import fastent.dask
>>> rows = da.from_array([[0.5, 0.5], [1.0, 0.0]], chunks=(1, 2))
>>> found = fastent.dask.{example}
>>> found.compute().round(6).tolist()
{printed}
"""


def _on_dask(
    function: Callable[..., Any], task: str, example: str, printed: str
) -> Callable[..., da.Array]:
    column = "cross_entropy" if "cross_entropy" in function.__name__ else function.__name__
    signature = inspect.signature(function)
    operands = [p.name for p in signature.parameters.values() if p.kind != p.KEYWORD_ONLY]

    @functools.wraps(function)
    def lazy(*args: Any, **keywords: Any) -> da.Array:
        given = signature.bind(*args, **keywords).arguments
        arrays = {name: given.pop(name) for name in operands}
        if given.pop("out", None) is not None:
            raise TypeError("out: does not apply to a lazy result")
        weight = given.pop("sample_weight", None)
        reduction = given.pop("reduction", "none")
        axis = None if task == "binary" else given.get("axis", -1)
        keepdims = as_keepdims(given.pop("keepdims", False), as_reduction(reduction))
        whole = axis is None and task != "binary"
        axes = 0  # of an array that is one row
        if whole:
            rows = {n: as_dask_array(x, n) for n, x in arrays.items()}
            axes = max(x.ndim for x in rows.values())
            if len({x.shape for x in rows.values() if x.ndim}) > 1:
                wanted = " and ".join(f"{x.shape}" for x in rows.values())
                raise ValueError(f"{operands[0]}: expected one shape with axis=None, got {wanted}")
            arrays = {n: x.reshape(-1).rechunk(-1) if x.ndim else x for n, x in rows.items()}
            axis = given["axis"] = -1
        if given.get("num_threads") is None:
            given["num_threads"] = 1
        blocks = align(arrays, axis, task, {"sample_weight": weight})
        _try_options(function, blocks, operands, given, reduction)
        if reduction == "none":
            found = blocks.map(_values, False, function=function, operands=operands, options=given)
            if keepdims:
                found = found.reshape(full_shape(found.shape, 1, None if whole else axis, axes))
            return found
        sums = blocks.map(_sums, True, task=task, column=column, operands=operands, options=given)
        value = tree(sums, _merged, functools.partial(_reduced, reduction=reduction))
        return da.from_delayed(value, (), np.float64)

    lazy.__doc__ = DOCUMENTATION.format(
        name=function.__name__, operands=", ".join(operands), example=example, printed=printed
    )
    lazy.__module__ = __name__
    mine: Any = lazy
    mine.__signature__ = signature.replace(
        parameters=[p for p in signature.parameters.values() if p.name != "out"],
        return_annotation=da.Array,
    )
    return explained(lazy)


def _try_options(
    function: Callable[..., Any],
    blocks: Blocks,
    operands: list[str],
    options: dict[str, Any],
    reduction: str,
) -> None:
    """Let the engine judge options and dtypes now, on no rows."""
    if not blocks.lead:
        return
    empty = []
    for name in operands:
        array = blocks.arrays[name]
        shape = [0 if i in blocks.lead else array.shape[i] for i in blocks.letters[name]]
        empty.append(np.empty(shape, array.dtype))
    function(*empty, reduction=reduction, **options)


def _values(
    arrays: dict[str, Any], function: Callable[..., Any], operands: list[str],
    options: dict[str, Any],
) -> np.ndarray:  # fmt: skip
    weight = arrays.get("sample_weight")
    found = function(*(arrays[name] for name in operands), sample_weight=weight, **options)
    return np.asarray(found)


def _state(task: str) -> State:
    return State([("value", 0, 0, int(task in WEIGHED), True)])


@in_default_mode
def _sums(
    arrays: dict[str, Any], task: str, column: str, operands: list[str], options: dict[str, Any]
) -> tuple[str, Any]:
    """Exact sums of a block, as data that can travel."""
    true, pred = [None, *(arrays[name] for name in operands)][-2:]
    weight: Any = arrays.get("sample_weight")
    call = prepare(task, (column,), true, pred, sample_weight=weight, by_weight=True, **options)
    state = _state(task)
    rows_of(call, 0, call.rows).add_to(state)
    return task, state.to_dict()


def _merged(parts: list[tuple[str, Any]]) -> tuple[str, Any]:
    task = parts[0][0]
    total = _state(task)
    for _, part in parts:
        total.merge(_state(task).load(part))
    return task, total.to_dict()


@in_default_mode
def _reduced(part: tuple[str, Any], reduction: str) -> np.float64:
    task, data = part
    state = _state(task).load(data)
    total = rounded(state.sums(0)[0])
    if reduction == "sum":
        return np.float64(total)
    return np.float64(ratio(total, rounded(state.weight(int(task in WEIGHED))[0])))


sparse_cross_entropy = _on_dask(
    fastent.sparse_cross_entropy, "sparse", "sparse_cross_entropy([0, 0], rows)", "[0.693147, 0.0]"
)
categorical_cross_entropy = _on_dask(
    fastent.categorical_cross_entropy,
    "categorical",
    "categorical_cross_entropy(rows, rows)",
    "[0.693147, 0.0]",
)
binary_cross_entropy = _on_dask(
    fastent.binary_cross_entropy,
    "binary",
    "binary_cross_entropy([1, 1], rows[:, 0])",
    "[0.693147, 0.0]",
)
kl_divergence = _on_dask(
    fastent.kl_divergence, "divergence", "kl_divergence(rows[1:], rows[:1])", "[0.693147]"
)
js_divergence = _on_dask(
    fastent.js_divergence,
    "divergence",
    "js_divergence(rows, rows[::-1], base=2)",
    "[0.311278, 0.311278]",
)
entropy = _on_dask(fastent.entropy, "entropy", 'entropy(rows, reduction="mean")', "0.346574")
